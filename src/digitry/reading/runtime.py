"""ONNX Runtime, as digitry runs every network: on processors, quietly, without telemetry."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnxruntime


def session(content: bytes, *, threads: int = 1) -> "onnxruntime.InferenceSession":
    """Return a session over a checked model.

    Args:
        content: the bytes of the model.
        threads: threads of one call; 1 for single pages and for several workers on one machine.

    Raises:
        Exception: ONNX Runtime raises many private classes without a common base.
    """
    # From 1.29 on ONNX Runtime sends telemetry and writes an identifier into the home folder, unless
    # this is set before the import; its own switch comes too late.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # The arena keeps the largest activations that it ever saw: 50 MB of a process, and hardly faster.
    options.enable_cpu_mem_arena = False
    # Errors are raised as exceptions; hide the runtime's own log on stderr.
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
