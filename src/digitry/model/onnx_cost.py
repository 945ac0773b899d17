"""The cost of running an ONNX graph, computed from its shapes without running it.

Shapes are inferred from the input through every operator; a graph whose shapes cannot be inferred is
refused. The rules are those of ONNX's operators (github.com/onnx/onnx, docs/Operators.md), for the
operators that `onnx_check` accepts.
"""

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from digitry.errors import ModelError
from digitry.model.onnx_wire import message, walk, wholes

MAX_OPERATIONS = 500_000_000
"""Multiplications for one digit. The largest recipe needs 31 million, an ensemble of five 155 million."""
MAX_ACTIVATIONS = 1 << 20
"""Elements of one activation tensor, for one digit. The largest recipe needs 43 thousand."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Node:
    """One operator of a graph: its kind, the names of its tensors, its attributes."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Graph:
    """The parts of an ONNX graph that decide its cost.

    Attributes:
        nodes: the operators, in the order in which they run.
        inputs: name -> shape of each input; 1 for a dimension without a fixed size.
        shapes: name -> shape of each weight.
        values: name -> values of the integer weights: shapes, axes, pads.
    """

    nodes: tuple[Node, ...]
    inputs: Mapping[str, Shape]
    shapes: Mapping[str, Shape]
    values: Mapping[str, tuple[int, ...]]


@dataclass
class _Known:
    """The shapes that are known so far."""

    shapes: dict[str, Shape]
    values: Mapping[str, tuple[int, ...]]
    operations: int = field(default=0)

    def of(self, name: str) -> Shape:
        if name not in self.shapes:
            raise ModelError(
                "has an operator whose input shape is not known before it runs",
                remedy="export it again with digitry",
            )
        return self.shapes[name]

    def numbers(self, node: Node, place: int, attribute: str) -> tuple[int, ...] | None:
        """Return integers from an attribute or, in newer opsets, from an input."""
        if len(node.inputs) > place and node.inputs[place]:
            if node.inputs[place] not in self.values:
                raise ModelError(
                    f"computes the sizes of {node.kind} while it runs",
                    remedy="export it again with fixed sizes",
                )
            return self.values[node.inputs[place]]
        found = node.attributes.get(attribute)
        return None if found is None else tuple(found)


def check_cost(graph: bytes) -> Mapping[str, Shape]:
    """Check that a graph does not need too much time or memory for one digit.

    Args:
        graph: the serialised GraphProto.

    Returns:
        The shape of every tensor, by name, for one digit.

    Raises:
        ModelError: it costs too much, or its cost cannot be computed.
    """
    parsed = _parsed(graph)
    known = _Known({**parsed.shapes, **parsed.inputs}, parsed.values)
    for node in parsed.nodes:
        try:
            shapes = _RULES[node.kind](node, known)
        except ModelError:
            raise
        except (IndexError, KeyError, ValueError, TypeError, ZeroDivisionError) as error:
            raise ModelError(
                f"has a {node.kind} whose shapes do not match", remedy="export it again"
            ) from error
        if any(side < 0 for side in shapes) or math.prod(shapes) > MAX_ACTIVATIONS:
            raise ModelError(
                f"needs a tensor of {math.prod(shapes):,} numbers for one digit (in {node.kind})",
                remedy=f"use a network with at most {MAX_ACTIVATIONS:,}",
            )
        known.operations += math.prod(shapes)
        if known.operations > MAX_OPERATIONS:
            raise ModelError(
                f"needs more than {MAX_OPERATIONS:,} operations for one digit",
                remedy="use a smaller network",
            )
        # Other outputs (statistics, indices) have the shape of the first, or are not used.
        known.shapes.update({name: shapes for name in node.outputs if name})
    return known.shapes


# --- shapes ----------------------------------------------------------------------------------------


def _same(node: Node, known: _Known) -> Shape:
    return known.of(node.inputs[0])


def _broadcast(node: Node, known: _Known) -> Shape:
    shapes = [known.of(name) for name in node.inputs]
    length = max(map(len, shapes))
    columns = zip(*((1,) * (length - len(shape)) + shape for shape in shapes), strict=True)
    sides = []
    for column in columns:
        wide = {side for side in column if side != 1}
        if len(wide) > 1:
            raise ValueError("sides differ")
        sides.append(wide.pop() if wide else 1)
    return tuple(sides)


def _windows(node: Node, known: _Known, window: Sequence[int]) -> Shape:
    """Return the output sides of a sliding window over the image."""
    image = known.of(node.inputs[0])[2:]
    if len(window) != len(image):
        raise ValueError("the window and the image differ in rank")
    steps = node.attributes.get("strides") or (1,) * len(image)
    gaps = node.attributes.get("dilations") or (1,) * len(image)
    pads = node.attributes.get("pads") or (0,) * 2 * len(image)
    if min(*steps, *gaps, *window) < 1:
        raise ValueError("a step, gap or window below 1")
    if node.attributes.get("auto_pad", b"NOTSET") in (b"SAME_UPPER", b"SAME_LOWER"):
        return tuple(-(-side // step) for side, step in zip(image, steps, strict=True))
    rounding = -1 if node.attributes.get("ceil_mode") else 1
    sides = []
    for at, side in enumerate(image):
        room = side + pads[at] + pads[at + len(image)] - (window[at] - 1) * gaps[at] - 1
        sides.append(rounding * (rounding * room // steps[at]) + 1)
    return tuple(sides)


def _conv(node: Node, known: _Known) -> Shape:
    batch, channels, *_ = known.of(node.inputs[0])
    filters, depth, *window = known.of(node.inputs[1])
    if depth * node.attributes.get("group", 1) != channels:
        raise ValueError("channels of the filters and the image differ")
    sides = _windows(node, known, window)
    known.operations += batch * filters * math.prod(sides) * depth * math.prod(window)
    return batch, filters, *sides


def _pool(node: Node, known: _Known) -> Shape:
    window = node.attributes["kernel_shape"]
    sides = _windows(node, known, window)
    shape = *known.of(node.inputs[0])[:2], *sides
    known.operations += math.prod(shape) * math.prod(window)
    return shape


def _pool_all(node: Node, known: _Known) -> Shape:
    batch, channels, *sides = known.of(node.inputs[0])
    known.operations += batch * channels * math.prod(sides)
    return batch, channels, *(1 for _ in sides)


def _product(a: Shape, b: Shape, known: _Known) -> Shape:
    if not (len(a) >= 2 and len(b) == 2 and a[-1] == b[0]):
        raise ValueError("shapes of the matrices do not match")
    known.operations += math.prod(a) * b[1]
    return *a[:-1], b[1]


def _gemm(node: Node, known: _Known) -> Shape:
    a, b = known.of(node.inputs[0]), known.of(node.inputs[1])
    a = a[::-1] if node.attributes.get("transA") else a
    return _product(a, b[::-1] if node.attributes.get("transB") else b, known)


def _matmul(node: Node, known: _Known) -> Shape:
    return _product(known.of(node.inputs[0]), known.of(node.inputs[1]), known)


def _flatten(node: Node, known: _Known) -> Shape:
    shape = known.of(node.inputs[0])
    axis = node.attributes.get("axis", 1) % (len(shape) + 1)
    return math.prod(shape[:axis]), math.prod(shape[axis:])


def _reshape(node: Node, known: _Known) -> Shape:
    shape = known.of(node.inputs[0])
    wanted = known.numbers(node, 1, "shape") or ()
    kept = [shape[at] if side == 0 else side for at, side in enumerate(wanted)]
    if kept.count(-1) == 1:
        rest = math.prod(side for side in kept if side != -1)
        kept[kept.index(-1)] = math.prod(shape) // rest
    if math.prod(kept) != math.prod(shape):
        raise ValueError("the number of elements changes")
    return tuple(kept)


def _transpose(node: Node, known: _Known) -> Shape:
    shape = known.of(node.inputs[0])
    order = node.attributes.get("perm") or range(len(shape))[::-1]
    if sorted(order) != list(range(len(shape))):
        raise ValueError("not an order of the axes")
    return tuple(shape[axis] for axis in order)


def _unsqueeze(node: Node, known: _Known) -> Shape:
    axes = known.numbers(node, 1, "axes") or ()
    shape = known.of(node.inputs[0])
    length = len(shape) + len(axes)
    places = {axis % length for axis in axes}
    sides = iter(shape)
    return tuple(1 if at in places else next(sides) for at in range(length))


def _squeeze(node: Node, known: _Known) -> Shape:
    shape = known.of(node.inputs[0])
    axes = known.numbers(node, 1, "axes")
    gone = {at for at, side in enumerate(shape) if side == 1}
    gone = gone if axes is None else {axis % len(shape) for axis in axes}
    return tuple(side for at, side in enumerate(shape) if at not in gone)


def _concat(node: Node, known: _Known) -> Shape:
    shapes = [known.of(name) for name in node.inputs]
    axis = node.attributes["axis"] % len(shapes[0])
    if len({(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}) != 1:
        raise ValueError("sides differ")
    joined = list(shapes[0])
    joined[axis] = sum(shape[axis] for shape in shapes)
    return tuple(joined)


def _pad(node: Node, known: _Known) -> Shape:
    shape = known.of(node.inputs[0])
    pads = known.numbers(node, 1, "pads") or ()
    if len(pads) != 2 * len(shape):
        raise ValueError("pads for other axes")
    return tuple(side + pads[at] + pads[at + len(shape)] for at, side in enumerate(shape))


def _mean(node: Node, known: _Known) -> Shape:
    shape = known.of(node.inputs[0])
    axes = known.numbers(node, 1, "axes")
    gone = {axis % len(shape) for axis in (range(len(shape)) if axes is None else axes)}
    known.operations += math.prod(shape)
    if node.attributes.get("keepdims", 1):
        return tuple(1 if at in gone else side for at, side in enumerate(shape))
    return tuple(side for at, side in enumerate(shape) if at not in gone)


_RULES: dict[str, Callable[[Node, _Known], Shape]] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Sum"), _broadcast),
    **dict.fromkeys(
        (
            "BatchNormalization", "Clip", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu",
            "LogSoftmax", "Relu", "Sigmoid", "Softmax", "Tanh",
        ),
        _same,
    ),
    **dict.fromkeys(("AveragePool", "MaxPool"), _pool),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), _pool_all),
    "Concat": _concat,
    "Conv": _conv,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Pad": _pad,
    "ReduceMean": _mean,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}  # fmt: skip


# --- parsing ---------------------------------------------------------------------------------------


def _parsed(graph: bytes) -> Graph:
    nodes, inputs = [], {}
    shapes: dict[str, Shape] = {}
    values: dict[str, tuple[int, ...]] = {}
    for number, value in walk(graph):
        if number == 1:
            nodes.append(_node(message(value)))
        elif number == 5:
            name, shape, numbers = _tensor(message(value))
            shapes[name] = shape
            if numbers is not None:
                values[name] = numbers
        elif number == 11:
            name, shape = _input(message(value))
            inputs[name] = shape
    # Older files list their weights among the inputs, too.
    inputs = {name: shape for name, shape in inputs.items() if name not in shapes}
    return Graph(tuple(nodes), inputs, shapes, values)


def _node(content: bytes) -> Node:
    kind = ""
    names: tuple[list[str], list[str]] = ([], [])
    attributes: dict[str, Any] = {}
    for number, value in walk(content):
        if number in (1, 2):
            names[number - 1].append(_text(value))
        elif number == 4:
            kind = _text(value)
        elif number == 5:
            name, attribute = _attribute(message(value))
            attributes[name] = attribute
    return Node(kind, tuple(names[0]), tuple(names[1]), attributes)


def _attribute(content: bytes) -> tuple[str, Any]:
    name, found = "", cast(Any, None)
    several: list[int] = []
    for number, value in walk(content):
        if number == 1:
            name = _text(value)
        elif number == 3:
            found = wholes(value)[0]
        elif number == 4:
            found = message(value)
        elif number == 8:
            several += wholes(value)
    return name, several or found


def _tensor(content: bytes) -> tuple[str, Shape, tuple[int, ...] | None]:
    """Return name, shape and, for int64 tensors, the values."""
    name, raw, kind = "", b"", cast(Any, 0)
    shape: list[int] = []
    numbers: list[int] = []
    for number, value in walk(content):
        if number == 1:
            shape += wholes(value)
        elif number == 2:
            kind = value
        elif number == 7:
            numbers += wholes(value)
        elif number == 8:
            name = _text(value)
        elif number == 9:
            raw = message(value)
    if kind == 7 and raw:
        numbers = list(struct.unpack(f"<{len(raw) // 8}q", raw))
    return name, tuple(shape), tuple(numbers) if kind == 7 else None


def _input(content: bytes) -> tuple[str, Shape]:
    """Return name and shape of a ValueInfoProto; a dimension without a size counts as 1."""
    parts = dict(walk(content))
    shape = []
    tensor = dict(walk(message(dict(walk(message(parts.get(2, b"")))).get(1, b""))))
    for number, side in walk(message(tensor.get(2, b""))):
        if number == 1:
            size = dict(walk(message(side))).get(1, 1)
            shape.append(size if isinstance(size, int) else 1)
    return _text(parts.get(1, b"")), tuple(shape)


def _text(value: int | bytes) -> str:
    return message(value).decode("utf-8", "replace")
