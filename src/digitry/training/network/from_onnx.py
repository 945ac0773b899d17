"""Turns a model file back into a Keras model that can be trained further.

`to_onnx` writes a chain of operators; here each operator becomes a layer again, with the weights
of the file. A normalisation that the exporter folded into the layer before it stays folded; the
function is the same, which is checked. The recipe is not needed: any chain of these operators works.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from digitry.errors import ModelError
from digitry.model.artifact import Artifact
from digitry.reading.classifier import Classifier, softmax
from digitry.training.network import keras_files
from digitry.training.network.build import SIZE, keras
from digitry.training.network.onnx_graph import same_padding

Arrays = list[npt.NDArray[Any]]

MOMENTUM = 0.9
"""Of the moving statistics, as in `build`; a model file does not store it."""


def to_keras(artifact: Artifact, *, dropout: float = 0.0) -> keras.Model:
    """Return the Keras model of a model file.

    Args:
        artifact: a checked model file.
        dropout: rate of a dropout layer before the last layer, in [0, 1); a model file does not
            store it.

    Returns:
        A sequential model from (n, 28, 28) float32 in [0, 1], ink = 1, to softmax probabilities.

    Raises:
        ModelError: the graph is not a chain, or has an operator that is not supported.
    """
    graph = onnx.load_model_from_string(artifact.onnx).graph
    weights = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    layers: list[tuple[keras.Layer, Arrays]] = []
    shape: tuple[int, ...] = (SIZE, SIZE)
    try:
        steps = list(_chain(graph))
        if [kind for kind, *_ in steps[-3:]] != ["Gemm", "Identity", "Softmax"]:
            raise _unsupported("a last layer other than Dense with softmax")
        for kind, inputs, attributes in steps[:-2]:
            if kind not in _CONVERTERS:
                raise _unsupported(f"the operator {kind}")
            held = [weights[name] for name in inputs]
            layer, values = _CONVERTERS[kind](held, attributes, shape)
            if layer is not None:
                layers.append((layer, values))
                shape = layer.compute_output_shape((None, *shape))[1:]
        layers[-1][0].activation = keras.activations.softmax
        if dropout:
            layers.insert(-1, (keras.layers.Dropout(dropout), []))
        model = keras.Sequential([keras.layers.Input((SIZE, SIZE)), *(one for one, _ in layers)])
        for layer, values in layers:
            layer.set_weights(values)
    except ModelError as error:
        raise ModelError(error.what, where=artifact.source, remedy=error.remedy) from error
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelError(
            f"is not a chain of layers that can be trained further ({type(error).__name__})",
            where=artifact.source,
            remedy="train its recipe from scratch",
        ) from error
    _check_same(model, artifact)
    return model


def _chain(graph: Any) -> Iterator[tuple[str, list[str], dict[str, Any]]]:
    """Yield (operator, names of its weights, its attributes) along the chain.

    Raises:
        ModelError: the graph branches.
    """
    value = "glyphs"
    for node in graph.node:
        first, *others = node.input
        if first != value or len(node.output) != 1:
            raise _unsupported("a graph that is not a chain")
        yield (
            node.op_type,
            others,
            {one.name: helper.get_attribute_value(one) for one in node.attribute},
        )
        value = node.output[0]


def _check_same(model: keras.Model, artifact: Artifact) -> None:
    """Check that the model gives the same probabilities as its file."""
    glyphs = np.random.default_rng(0).random((16, SIZE, SIZE), np.float32)
    # Half of them mostly empty, as images of digits are.
    glyphs[::2] *= glyphs[::2] > 0.8
    expected = softmax(Classifier(artifact).logits(glyphs))
    difference = float(np.abs(keras_files.probabilities(model, glyphs) - expected).max())
    # `not <=` also catches NaN. Rounding in ten layers with random weights adds up to 2e-4; a wrong
    # layer differs by tenths.
    if not difference <= 100 * keras_files.TOLERANCE:
        raise ModelError(
            f"gives probabilities that differ by {difference:.1e} after conversion to Keras",
            where=artifact.source,
            remedy="please report this",
        )


# --- operators to layers: (weights, attributes, shape of the input) -> (layer, its weights) ---------

Layer = tuple[keras.Layer | None, Arrays]


def _unsqueeze(weights: Arrays, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> Layer:
    if weights[0].tolist() != [1] or len(shape) != 2:
        raise _unsupported("an Unsqueeze of another axis")
    return keras.layers.Reshape((*shape, 1)), []


def _reshape(weights: Arrays, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> Layer:
    if len(shape) > 2:
        raise _unsupported("a Reshape of images")
    return keras.layers.Reshape(tuple(weights[0].tolist()[1:])), []


def _conv(weights: Arrays, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> Layer:
    kernel, bias = weights
    window, spread = kernel.shape[2:], tuple(attributes.get("dilations", (1, 1)))
    layer = keras.layers.Conv2D(
        len(kernel),
        window,
        strides=tuple(attributes.get("strides", (1, 1))),
        dilation_rate=spread,
        groups=attributes.get("group", 1),
        padding=_padding(attributes, shape, window, spread),
    )
    return layer, [kernel.transpose(2, 3, 1, 0), bias]


def _pool(kind: str) -> Callable[..., Layer]:
    def convert(weights: Arrays, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> Layer:
        window = tuple(attributes["kernel_shape"])
        layer = getattr(keras.layers, kind)(
            window,
            strides=tuple(attributes.get("strides", (1, 1))),
            padding=_padding(attributes, shape, window, (1, 1)),
        )
        return layer, []

    return convert


def _padding(
    attributes: Mapping[str, Any],
    shape: tuple[int, ...],
    window: tuple[int, ...],
    spread: tuple[int, ...],
) -> str:
    """Return Keras' name, `valid` or `same`, for ONNX's numbers of padding pixels."""
    pads = list(attributes.get("pads", (0, 0, 0, 0)))
    if not any(pads):
        return "valid"
    steps = attributes.get("strides", (1, 1))
    if pads != same_padding(shape[:2], window, steps, spread):
        raise _unsupported(f"the padding {pads}")
    return "same"


def _normalise(weights: Arrays, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> Layer:
    epsilon = attributes.get("epsilon", 1e-5)
    return keras.layers.BatchNormalization(momentum=MOMENTUM, epsilon=epsilon), weights


def _transpose(weights: Arrays, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> Layer:
    # In Keras the channels are innermost already.
    if list(attributes["perm"]) != [0, 2, 3, 1]:
        raise _unsupported(f"a Transpose by {list(attributes['perm'])}")
    return None, []


def _average(weights: Arrays, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> Layer:
    return keras.layers.GlobalAveragePooling2D(keepdims=True), []


def _largest(weights: Arrays, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> Layer:
    return keras.layers.GlobalMaxPooling2D(keepdims=True), []


def _clip(weights: Arrays, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> Layer:
    low, high = (float(bound.item()) for bound in weights)
    if low != 0:
        raise _unsupported(f"a Clip from {low}")
    return keras.layers.ReLU(max_value=high), []


def _gemm(weights: Arrays, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> Layer:
    if any(attributes.get(name, default) != default for name, default in _GEMM_DEFAULTS.items()):
        raise _unsupported("a Gemm that scales or transposes")
    return keras.layers.Dense(weights[0].shape[1]), weights


_GEMM_DEFAULTS = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}


def _without_weights(make: Callable[[], keras.Layer]) -> Callable[..., Layer]:
    def convert(weights: Arrays, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> Layer:
        return make(), []

    return convert


_CONVERTERS: dict[str, Callable[..., Any]] = {
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Conv": _conv,
    "MaxPool": _pool("MaxPooling2D"),
    "AveragePool": _pool("AveragePooling2D"),
    "GlobalAveragePool": _average,
    "GlobalMaxPool": _largest,
    "BatchNormalization": _normalise,
    "Relu": _without_weights(keras.layers.ReLU),
    "Clip": _clip,
    "Sigmoid": _without_weights(lambda: keras.layers.Activation("sigmoid")),
    "Tanh": _without_weights(lambda: keras.layers.Activation("tanh")),
    "HardSwish": _without_weights(lambda: keras.layers.Activation("hard_silu")),
    "Transpose": _transpose,
    "Flatten": _without_weights(keras.layers.Flatten),
    "Gemm": _gemm,
}
"""Operator -> function that returns its layer. `_check_same` compares the whole model afterwards."""


def _unsupported(what: str) -> ModelError:
    return ModelError(
        f"holds {what} and cannot be trained further", remedy="train its recipe from scratch"
    )
