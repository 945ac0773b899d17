"""Checks on the bytes of an ONNX file before ONNX Runtime loads them.

The whole file is parsed: size, structure, one graph, standard operators only, no external data, finite
weights, cost of a run, our metadata, and the sha256 of the graph.
"""

import hashlib
import json
import math
import struct
from typing import Any

import numpy as np

from digitry.errors import ModelError
from digitry.model.foreign_files import ForeignModelError
from digitry.model.onnx_cost import check_cost
from digitry.model.onnx_wire import message, walk, wholes

MAX_BYTES = 64 << 20
MAX_NODES = 2000
MAX_ATTRIBUTE = 4096
"""Windows, strides, pads and axes of an operator; the image itself is 28 pixels wide."""
MAX_SHAPE = 1 << 24
WRONG_COUNT = "declares another number of weights than it contains"

# The operators of digit classifiers. None of them can open a file, loop, or need memory out of
# proportion to its input.
OPERATORS = frozenset(
    {
        "Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "Div", "Flatten", "Gemm",
        "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu",
        "LogSoftmax", "MatMul", "MaxPool", "Mul", "Pad", "ReduceMean", "Relu", "Reshape", "Sigmoid",
        "Softmax", "Squeeze", "Sub", "Sum", "Tanh", "Transpose", "Unsqueeze",
    }
)  # fmt: skip


def checked_facts(content: bytes) -> dict[str, Any]:
    """Check the whole model and return our metadata.

    Raises:
        ModelError: it is damaged, not ours, or contains something that is not allowed.
    """
    if not content:
        raise ModelError("is empty", remedy="copy it again")
    facts = _metadata(content)
    graphs = 0
    for number, value in walk(content):
        if number == 7:
            graphs += 1
            _check_graph(message(value))
        elif number == 8:
            domain = dict(walk(message(value))).get(1, b"")
            if domain not in (b"", b"ai.onnx"):
                raise ModelError(
                    f"uses operators of the domain {domain!r}",
                    remedy="use only standard ONNX operators",
                )
        elif number in (20, 25):
            raise ModelError(
                "contains functions or training code", remedy="export it as a plain graph"
            )
    if graphs != 1:
        raise ModelError(f"has {graphs} graphs", remedy="export it again")
    return facts


def _metadata(content: bytes) -> dict[str, Any]:
    """Return our metadata.

    Raises:
        ForeignModelError: there is none. This is said before anything else that may be wrong with a
            model of another program.
    """
    for number, value in walk(content):
        if number == 14:
            entry = dict(walk(message(value)))
            if entry.get(1) == b"digitry":
                return _json(message(entry.get(2, b"")))
    raise ForeignModelError("is not a digitry model: it has no digitry metadata")


def _check_graph(graph: bytes) -> None:
    nodes = 0
    for number, value in walk(graph):
        if number == 1:
            nodes += 1
            if nodes > MAX_NODES:
                raise ModelError(f"has more than {MAX_NODES} nodes", remedy="use a smaller network")
            _check_node(message(value))
        elif number == 5:
            _check_tensor(message(value))
        elif number == 15:
            raise ModelError("has sparse tensors", remedy="export it with dense tensors")
    check_cost(graph)


def _check_node(node: bytes) -> None:
    for number, value in walk(node):
        if number == 4 and message(value).decode("ascii", "replace") not in OPERATORS:
            raise ModelError(
                f"uses the operator {value!r}, which is not allowed",
                remedy="use only the operators listed in digitry.model.onnx_check",
            )
        if number == 7 and value not in (b"", b"ai.onnx"):
            raise ModelError(
                f"uses an operator of the domain {value!r}",
                remedy="use only standard ONNX operators",
            )
        if number == 5:
            for part, content in walk(message(value)):
                if part in (6, 11, 22, 23):
                    raise ModelError(
                        "has a graph or a sparse tensor inside a node",
                        remedy="export it as a plain graph with dense tensors",
                    )
                if part in (5, 10):
                    _check_tensor(message(content))
                if part in (3, 8) and any(abs(whole) > MAX_ATTRIBUTE for whole in wholes(content)):
                    raise ModelError(
                        f"has an operator attribute larger than {MAX_ATTRIBUTE}",
                        remedy="use smaller windows, strides and pads",
                    )


# ONNX data type -> bytes per number in `raw_data`: float, int32, int64, bool, float16, double. Strings,
# complex and four-bit numbers are not allowed.
_WIDTHS = {1: 4, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8}


def _check_tensor(tensor: bytes) -> None:
    dims: list[int] = []
    kind, raw = 0, None
    floats, doubles = b"", b""
    numbers: list[int] = []
    for number, value in walk(tensor):
        if number == 13 or (number == 14 and value != 0):
            raise ModelError("has weights in another file", remedy="export it as one file")
        if number == 1:
            dims += wholes(value)
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 9:
            raw = message(value)
        elif number == 4:
            floats += message(value)
        elif number in (5, 7, 11):
            numbers += wholes(value)
        elif number == 10:
            doubles += message(value)
        elif number == 6:
            raise ModelError("has strings as weights", remedy="export it with digitry")
    if kind not in _WIDTHS:
        raise ModelError(f"has weights of the ONNX type {kind}", remedy="export it with digitry")
    if any(side < 0 or side > MAX_BYTES for side in dims) or math.prod(dims) > MAX_BYTES:
        raise ModelError("declares more weights than it contains", remedy="export it again")
    held = len(floats) // 4 + len(doubles) // 8 + len(numbers)
    count = held if raw is None else len(raw) // _WIDTHS[kind]
    if count != math.prod(dims) or (raw is not None and len(raw) % _WIDTHS[kind]):
        raise ModelError(WRONG_COUNT, remedy="export it again")
    if kind == 7:
        # Integers are shapes, pads and axes: they decide how much memory an operator needs.
        sizes = numbers if raw is None else list(struct.unpack(f"<{len(raw) // 8}q", raw))
        if len(sizes) > 64 or any(abs(size) > MAX_SHAPE for size in sizes):
            raise ModelError(
                "has an operator with too large a shape", remedy="use a smaller network"
            )
    elif kind in _FLOATS:
        _check_finite(kind, raw, floats + doubles, numbers)


_FLOATS = {1: "<f4", 10: "<f2", 11: "<f8"}
"""ONNX data type of floats -> NumPy's name."""


def _check_finite(kind: int, raw: bytes | None, listed: bytes, halves: list[int]) -> None:
    """Check that all weights are finite, in whichever field the tensor stores them."""
    content = raw if raw is not None else listed
    if kind == 10 and raw is None:
        # float16 values outside raw_data are stored as the bits of integers.
        content = np.array([bits & 0xFFFF for bits in halves], "<u2").tobytes()
    if len(content) % _WIDTHS[kind]:
        raise ModelError(WRONG_COUNT, remedy="export it again")
    if not np.isfinite(np.frombuffer(content, _FLOATS[kind])).all():
        raise ModelError(
            "has weights that are not finite",
            remedy="train it again, with a lower learning rate if the loss was nan",
        )


def _json(text: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise ModelError("has metadata that is not JSON", remedy="export it again with digitry")
    return facts


def graph_sha256(content: bytes) -> str:
    """Return the sha256 of the graph in a model file; "" without a graph."""
    for number, value in walk(content):
        if number == 7:
            return hashlib.sha256(message(value)).hexdigest()
    return ""
