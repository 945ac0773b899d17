"""What the bytes of an ONNX file must be before ONNX Runtime sees them.

A small reader of the protobuf wire format walks the whole file: size, structure, one graph, standard
operators only, no external data, our metadata, and the sha256 of the graph.
"""

import hashlib
import json
import math
import struct
from collections.abc import Iterator
from typing import Any

from digitry.errors import ModelError

MAX_BYTES = 64 << 20
MAX_NODES = 2000
MAX_ATTRIBUTE = 4096
"""Windows, strides, pads and axes of an operator; the picture itself has 28 pixels a side."""
MAX_SHAPE = 1 << 24

# What digit classifiers are made of. An operator outside this list has no business in a model of ours;
# none of these can open a file, loop, or ask for memory out of proportion to its input.
OPERATORS = frozenset(
    {
        "Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "Div", "Flatten", "Gemm",
        "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu",
        "LogSoftmax", "MatMul", "MaxPool", "Mul", "Pad", "ReduceMean", "Relu", "Reshape", "Sigmoid",
        "Softmax", "Squeeze", "Sub", "Sum", "Tanh", "Transpose", "Unsqueeze",
    }
)  # fmt: skip


# --- the protobuf wire format, as far as a gate needs it -------------------------------------------
# Source: protobuf.dev/programming-guides/encoding and the field numbers of onnx.proto (IR version 13).


def checked_facts(content: bytes) -> dict[str, Any]:
    """Walk the whole model, refuse what does not belong, and give our metadata."""
    if not content:
        raise ModelError("is empty", remedy="copy it again")
    facts: dict[str, Any] | None = None
    graphs = 0
    for number, value in _walk(content):
        if number == 7:
            graphs += 1
            _check_graph(_message(value))
        elif number == 8:
            domain = dict(_walk(_message(value))).get(1, b"")
            if domain not in (b"", b"ai.onnx"):
                raise ModelError(
                    f"uses operators from {domain!r}", remedy="only standard ones are run"
                )
        elif number == 14:
            entry = dict(_walk(_message(value)))
            if entry.get(1) == b"digitry":
                facts = _json(_message(entry.get(2, b"")))
        elif number in (20, 25):
            raise ModelError("holds functions or training code", remedy="only a plain graph is run")
    if facts is None or graphs != 1:
        raise ModelError(
            "is not a digitry model (no metadata of ours in it)",
            remedy="use a model.onnx that `digitry train` or `digitry export` wrote",
        )
    return facts


def _check_graph(graph: bytes) -> None:
    nodes = 0
    for number, value in _walk(graph):
        if number == 1:
            nodes += 1
            if nodes > MAX_NODES:
                raise ModelError(f"has more than {MAX_NODES} nodes", remedy="no digit model has")
            _check_node(_message(value))
        elif number == 5:
            _check_tensor(_message(value))
        elif number == 15:
            raise ModelError("holds sparse tensors", remedy="only plain ones are accepted")


def _check_node(node: bytes) -> None:
    for number, value in _walk(node):
        if number == 4 and _message(value).decode("ascii", "replace") not in OPERATORS:
            raise ModelError(f"uses the operator {value!r}", remedy="no digit model needs it")
        if number == 7 and value not in (b"", b"ai.onnx"):
            raise ModelError(
                f"uses an operator from {value!r}", remedy="only standard ones are run"
            )
        if number == 5:
            for part, content in _walk(_message(value)):
                if part in (6, 11, 22, 23):
                    raise ModelError(
                        "holds a graph or a sparse tensor within a node",
                        remedy="only plain ones run",
                    )
                if part in (5, 10):
                    _check_tensor(_message(content))
                if part in (3, 8) and any(abs(whole) > MAX_ATTRIBUTE for whole in _wholes(content)):
                    raise ModelError(
                        "sets an operator to an absurd size", remedy="no digit model needs it"
                    )


# Bytes of one number in `raw_data`, by ONNX's number of the type: float, int32, int64, bool, float16,
# double. Strings, complex and four-bit numbers have no business here.
_WIDTHS = {1: 4, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8}


def _check_tensor(tensor: bytes) -> None:
    dims: list[int] = []
    kind, raw, floats, wholes, doubles = 0, None, 0, 0, 0
    sizes: list[int] = []
    for number, value in _walk(tensor):
        if number == 13 or (number == 14 and value != 0):
            raise ModelError("keeps weights in another file", remedy="export it as one file")
        if number == 1:
            dims += _wholes(value)
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 9:
            raw = _message(value)
        elif number == 4:
            floats += len(_message(value)) // 4
        elif number in (5, 7, 11):
            held = _wholes(value)
            wholes += len(held)
            sizes += held if number == 7 else []
        elif number == 10:
            doubles += len(_message(value)) // 8
        elif number == 6:
            raise ModelError("holds strings for weights", remedy="weights are numbers")
    if kind not in _WIDTHS:
        raise ModelError(f"holds weights of the type {kind}", remedy="export it with digitry")
    if any(side < 0 or side > MAX_BYTES for side in dims) or math.prod(dims) > MAX_BYTES:
        raise ModelError("claims more weights than it holds", remedy="export it again")
    held_count = len(raw) // _WIDTHS[kind] if raw is not None else floats + wholes + doubles
    if held_count != math.prod(dims) or (raw is not None and len(raw) % _WIDTHS[kind]):
        raise ModelError("claims other weights than it holds", remedy="export it again")
    if kind == 7:
        if raw is not None:
            sizes += struct.unpack(f"<{len(raw) // 8}q", raw)
        # Whole numbers are shapes, pads and axes: they say how much memory an operator asks for.
        if len(sizes) > 64 or any(abs(size) > MAX_SHAPE for size in sizes):
            raise ModelError("sets an operator to an absurd size", remedy="no digit model needs it")


def _wholes(value: int | bytes) -> list[int]:
    """Give the signed numbers of a field, alone or packed."""
    if isinstance(value, int):
        return [value - (1 << 64) if value >= 1 << 63 else value]
    found, position = [], 0
    while position < len(value):
        whole, position = _varint(value, position)
        found.append(whole - (1 << 64) if whole >= 1 << 63 else whole)
    return found


def _walk(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Give (field number, value) of one protobuf message: an int, or the bytes of a part."""
    position, end = 0, len(content)
    while position < end:
        key, position = _varint(content, position)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, position = _varint(content, position)
            yield number, value
            continue
        if kind == 2:
            length, position = _varint(content, position)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise _broken()
        if position + length > end:
            raise _broken()
        yield number, content[position : position + length]
        position += length


def _varint(content: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(content):
            raise _broken()
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise _broken()


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise _broken()
    return value


def _json(text: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise ModelError("has metadata that is not JSON", remedy="export it again with digitry")
    return facts


def graph_sha256(content: bytes) -> str:
    """Return the sha256 of the graph in a model file; empty without one."""
    for number, value in _walk(content):
        if number == 7:
            return hashlib.sha256(_message(value)).hexdigest()
    return ""


def _broken() -> ModelError:
    return ModelError("is cut or is not an ONNX file", remedy="copy it again")
