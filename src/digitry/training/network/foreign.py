"""Brings in ONNX models that other programs wrote: PyTorch, scikit-learn, tf2onnx.

Such a graph has an input of its own shape, sizes that are computed while it runs, operators for labels,
and weights in another file. What a model file holds is less: images to logits, in the operators of
`onnx_check`. Here one becomes the other. Nothing of the foreign graph is run before it is checked.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper, shape_inference

from digitry import files
from digitry.errors import ModelError
from digitry.model.onnx_check import MAX_BYTES, OPERATORS
from digitry.training.network.onnx_graph import OnnxGraph

CLASSES = 10
OLDEST = 7
"""Oldest set of operators whose sums and products broadcast."""
TRIAL = 3
"""Images for which shapes are inferred, where the number of images is free."""

SHAPES: dict[tuple[int, ...], str] = {
    (28, 28): "height, width",
    (1, 28, 28): "channel, height, width",
    (28, 28, 1): "height, width, channel",
    (784,): "pixels in a row",
    (1, 784): "pixels in a row",
    (1, 32, 32): "channel, height, width, with a margin of 2",
}
"""Shapes of one image that are known, with the meaning of the axes."""

_PASS = frozenset({"Cast", "Dropout", "Identity", "ZipMap"})
_LABELS = frozenset({"ArrayFeatureExtractor", "ZipMap"})
"""Operators of scikit-learn that only name the classes."""
_ENDS = {"Softmax": "probabilities", "LogSoftmax": "log-probabilities", "Sigmoid": "sigmoids"}


@dataclass(frozen=True)
class Core:
    """The part of a foreign model that a model file can hold.

    Attributes:
        onnx: from `glyphs` (n, 28, 28), in whatever range the model takes, to `logits` and
            `probabilities`.
        shape: of one image, as the model took it.
        returned: what it returned: `probabilities`, `log-probabilities`, `sigmoids` or `logits`.
    """

    onnx: bytes
    shape: tuple[int, ...]
    returned: str


def core_of(path: Path) -> Core:
    """Return the part of a foreign ONNX file that leads from an image to the logits of ten digits.

    Raises:
        ModelError: it is damaged, not a model of digits, or has a part that a model file cannot hold.
    """
    try:
        return _core(_load(path))
    except ModelError as error:
        raise ModelError(error.what, where=path, remedy=error.remedy) from error


def _load(path: Path) -> onnx.ModelProto:
    """Return a model with all its weights, also those in files beside it."""
    try:
        content = files.read_bytes(path, MAX_BYTES)
        model = onnx.load_model_from_string(content)
        size = len(content)
        for tensor in model.graph.initializer:
            if tensor.data_location == TensorProto.EXTERNAL:
                place = {entry.key: entry.value for entry in tensor.external_data}["location"]
                if Path(place).name != place:
                    raise ModelError("has weights in another folder", remedy="export it again")
                if not (path.parent / place).is_file():
                    raise ModelError(
                        f"has its weights in {place}, which is missing",
                        remedy="copy the model with all its files",
                    )
                size += math.prod(tensor.dims) * 4
        if size > MAX_BYTES:
            raise ModelError(f"is larger than {MAX_BYTES >> 20} MiB", remedy="use a smaller model")
        onnx.load_external_data_for_model(model, str(path.parent))
        onnx.checker.check_model(model)
    except OSError as error:
        raise ModelError(
            f"cannot be read ({error.strerror})", remedy="copy it again, with all its files"
        ) from error
    except (DecodeError, KeyError, ValueError, onnx.checker.ValidationError) as error:
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else ""
        raise ModelError(
            f"is damaged or not an ONNX file ({reason or type(error).__name__})",
            remedy="copy it again",
        ) from error
    return model


def _core(model: onnx.ModelProto) -> Core:
    graph, opset = model.graph, _opset(model)
    weights = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    nodes = list(_standard(graph.node, weights))
    (image, shape), free = _image(graph, weights)
    sizes = _sizes(model, nodes, weights, image.name, (free or TRIAL, *shape))
    makers = {name: node for node in nodes for name in node.output}
    result, returned = _result(graph, makers, sizes)
    built = _Built(weights, free or TRIAL)
    built.image(image.name, shape, opset)
    needed = _needed(result, makers)
    for node in nodes:
        if any(name in needed for name in node.output):
            built.take(node, sizes)
    return Core(built.finish(result, opset), shape, returned)


def _opset(model: onnx.ModelProto) -> int:
    found = [one.version for one in model.opset_import if one.domain in ("", "ai.onnx")]
    if not found or max(found) < OLDEST:
        raise ModelError(
            f"has operators of version {max(found, default=0)}", remedy="export it with opset 17"
        )
    return int(max(found))


def _standard(nodes: Any, weights: dict[str, npt.NDArray[Any]]) -> Iterator[onnx.NodeProto]:
    """Yield the nodes, with constants moved to `weights` and scikit-learn's operators written out."""
    for node in nodes:
        settings = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        if node.op_type == "Constant" and "value" in settings:
            weights[node.output[0]] = numpy_helper.to_array(settings["value"])
        elif node.op_type == "Constant":
            weights[node.output[0]] = np.asarray(next(iter(settings.values())))
        elif node.op_type == "Scaler":
            offset, scale, middle = (
                f"{node.output[0]}_{end}" for end in ("offset", "scale", "sub")
            )
            weights[offset] = np.asarray(settings["offset"], np.float32)
            weights[scale] = np.asarray(settings["scale"], np.float32)
            yield helper.make_node("Sub", [node.input[0], offset], [middle])
            yield helper.make_node("Mul", [middle, scale], list(node.output))
        elif node.op_type == "LinearClassifier":
            yield from _linear(node, settings, weights)
        elif node.op_type == "Normalizer":
            # It divides probabilities by their sum, which does not change a softmax.
            yield helper.make_node("Identity", list(node.input), list(node.output))
        else:
            yield node


def _linear(
    node: onnx.NodeProto, settings: dict[str, Any], weights: dict[str, npt.NDArray[Any]]
) -> Iterator[onnx.NodeProto]:
    """Yield scikit-learn's linear classifier as a product."""
    ends = {b"SOFTMAX": "Softmax", b"LOGISTIC": "Sigmoid", b"NONE": "Identity"}
    end = ends.get(settings.get("post_transform", b"NONE"))
    count = len(settings.get("intercepts", ()))
    if end is None or count == 0:
        raise _cannot(f"a LinearClassifier with {settings.get('post_transform')!r}")
    scores = node.output[1]
    kernel, bias, product = (f"{scores}_{part}" for part in ("kernel", "bias", "product"))
    weights[kernel] = np.asarray(settings["coefficients"], np.float32).reshape(count, -1).T
    weights[bias] = np.asarray(settings["intercepts"], np.float32)
    yield helper.make_node("Gemm", [node.input[0], kernel, bias], [product])
    yield helper.make_node(end, [product], [scores])


def _image(
    graph: onnx.GraphProto, weights: dict[str, npt.NDArray[Any]]
) -> tuple[tuple[onnx.ValueInfoProto, tuple[int, ...]], int | None]:
    """Return the input with the shape of one image, and the fixed number of images if it is fixed."""
    # Older files list their weights among the inputs, too.
    inputs = [one for one in graph.input if one.name not in weights]
    if len(inputs) != 1:
        raise ModelError(f"has {len(inputs)} inputs", remedy="use a model that takes one image")
    sides = [
        side.dim_value if side.HasField("dim_value") else None
        for side in inputs[0].type.tensor_type.shape.dim
    ]
    shape = tuple(side or 0 for side in sides[1:])
    if shape not in SHAPES:
        shown = ", ".join("n" if side is None else str(side) for side in sides)
        raise ModelError(
            f"takes the shape ({shown})",
            remedy="use a model that takes " + ", ".join(f"{('n', *one)}" for one in SHAPES),
        )
    return (inputs[0], shape), sides[0] or None


def _sizes(
    model: onnx.ModelProto,
    nodes: list[onnx.NodeProto],
    weights: dict[str, npt.NDArray[Any]],
    image: str,
    shape: tuple[int, ...],
) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor, as far as it can be inferred, for `shape` as input."""
    held = {name: numpy_helper.from_array(_plain(value), name) for name, value in weights.items()}
    # Sizes are inferred from constants that are nodes, but not from those that are weights.
    constants = [
        helper.make_node("Constant", [], [name], value=held.pop(name))
        for name, value in weights.items()
        if value.dtype.kind == "i"
    ]
    kept = [node for node in nodes if node.domain in ("", "ai.onnx")]
    start = helper.make_tensor_value_info(image, TensorProto.FLOAT, shape)
    trial = helper.make_model(
        helper.make_graph([*constants, *kept], "trial", [start], [], list(held.values())),
        opset_imports=[helper.make_opsetid("", _opset(model))],
    )
    inferred = shape_inference.infer_shapes(trial, data_prop=True).graph
    found = {name: value.shape for name, value in weights.items()} | {image: shape}
    for value in inferred.value_info:
        sides = value.type.tensor_type.shape.dim
        if all(side.HasField("dim_value") for side in sides):
            found[value.name] = tuple(side.dim_value for side in sides)
    return found


def _plain(value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a weight as a model file holds it: floats of 32 bits."""
    return np.ascontiguousarray(value, np.float32) if value.dtype.kind == "f" else value


def _result(
    graph: onnx.GraphProto,
    makers: dict[str, onnx.NodeProto],
    sizes: dict[str, tuple[int, ...]],
) -> tuple[str, str]:
    """Return the name of the logits, and what the model returned."""
    shown = []
    for output in graph.output:
        name = output.name
        while name in makers and makers[name].op_type in _PASS:
            name = makers[name].input[0]
        shape = sizes.get(name, ())
        shown.append(f"{output.name} {('n', *shape[1:])}")
        if len(shape) == 2 and shape[1] == CLASSES and name in makers:
            kind = _ENDS.get(makers[name].op_type)
            return (name, "logits") if kind is None else (makers[name].input[0], kind)
    others = {node.op_type for node in makers.values() if node.domain not in ("", "ai.onnx")}
    if others - _LABELS:
        raise _cannot(f"the operator {min(others - _LABELS)}")
    raise ModelError(
        f"returns {', '.join(shown) or 'nothing'}",
        remedy=f"use a model that returns {CLASSES} numbers for an image, one for each digit",
    )


def _needed(result: str, makers: dict[str, onnx.NodeProto]) -> set[str]:
    """Return the names of all tensors that a result is computed from."""
    needed, todo = set(), [result]
    while todo:
        name = todo.pop()
        if name in needed:
            continue
        needed.add(name)
        node = makers.get(name)
        if node is not None:
            # The shape of a Reshape is known, and is not computed.
            inputs = list(node.input)[: 1 if node.op_type == "Reshape" else None]
            todo.extend(name for name in inputs if name)
    return needed


class _Built(OnnxGraph):
    """The graph of a model file, under construction from a foreign one.

    Args:
        weights: of the foreign graph.
        images: number of images that sizes are known for.
    """

    def __init__(self, weights: dict[str, npt.NDArray[Any]], images: int) -> None:
        super().__init__()
        self.images = images
        self.foreign = weights
        self.names: dict[str, str] = {}
        """Names of the foreign graph -> names in this one."""

    def _of(self, name: str) -> str:
        if name in self.foreign and name not in self.names:
            self.names[name] = self.weight(_plain(self.foreign[name]), None)
        return self.names[name] if name else ""

    def image(self, name: str, shape: tuple[int, ...], opset: int) -> None:
        """Add the image in the shape that the model takes."""
        value = "glyphs"
        if shape == (1, 32, 32):
            pads = [0, 2, 2, 0, 2, 2]
            if opset < 11:
                raise ModelError(
                    f"has operators of version {opset}", remedy="export it with opset 17"
                )
            value = self.add("Pad", value, self.weight(pads, np.int64))
        if shape != (28, 28):
            value = self.add("Reshape", value, self.weight([-1, *shape], np.int64))
        self.names[name] = value

    def take(self, node: onnx.NodeProto, sizes: dict[str, tuple[int, ...]]) -> None:
        """Add a node of the foreign graph."""
        source = node.input[0] if node.input else ""
        if node.op_type in _PASS:
            self.names[node.output[0]] = self._of(source)
            return
        settings = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        if node.op_type not in OPERATORS or settings.get("training_mode"):
            raise _cannot(f"the operator {node.op_type}")
        if node.op_type == "Reshape":
            shape = sizes.get(node.output[0], ())
            if not shape or shape[0] != self.images:
                raise _cannot(
                    "a Reshape whose size depends on the number of images, or mixes images"
                )
            wanted = self.weight([-1, *shape[1:]], np.int64)
            self.names[node.output[0]] = self.add("Reshape", self._of(source), wanted)
            return
        used = [self._of(name) for name in node.input]
        self.names[node.output[0]] = self.add(node.op_type, *used, **settings)

    def finish(self, result: str, opset: int) -> bytes:
        """Add the two outputs, and return the model."""
        if result not in self.names:
            raise ModelError("returns what does not depend on the image", remedy="export it again")
        self.add("Identity", self.names[result], output="logits")
        self.add("Softmax", "logits", output="probabilities", axis=1)
        content: bytes = self.digit_model(CLASSES, opset=opset).SerializeToString()
        return content


def _cannot(what: str) -> ModelError:
    return ModelError(
        f"has {what}, which a model file cannot hold",
        remedy="use a network of the operators in digitry.model.onnx_check",
    )
