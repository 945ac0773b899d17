"""A model file back to a Keras model that can be trained on.

What `export` writes is a chain of operators, and this walks it again: each operator becomes the layer
that it was, with the weights that the file holds. A normalisation that the exporter folded into the
layer before it stays folded; the function is the same, and that is checked. Nothing is assumed of the
recipe, so any chain will do, whatever its widths.
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

Arrays = list[npt.NDArray[Any]]

MOMENTUM = 0.9
"""Of the moving statistics, as in `architectures`; a model file does not say."""


def revive(artifact: Artifact, *, dropout: float = 0.0) -> keras.Model:
    """Build the Keras model of a model file.

    Args:
        artifact: a checked model file.
        dropout: share of what the last layer is fed with that training drops, in [0, 1); a model
            file knows nothing of it.

    Returns:
        A chain from (n, 28, 28) float32 in [0, 1], ink = 1, to softmax probabilities.

    Raises:
        ModelError: the file holds no chain, or an operator that has no layer here.
    """
    graph = onnx.load_model_from_string(artifact.onnx).graph
    weights = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    layers: list[tuple[keras.Layer, Arrays]] = []
    shape: tuple[int, ...] = (SIZE, SIZE)
    try:
        steps = list(_chain(graph))
        if [kind for kind, *_ in steps[-3:]] != ["Gemm", "Identity", "Softmax"]:
            raise _unknown("a last layer other than Dense with softmax")
        for kind, inputs, attributes in steps[:-2]:
            if kind not in _HOW:
                raise _unknown(f"the operator {kind}")
            held = [weights[name] for name in inputs]
            layer, values = _HOW[kind](held, attributes, shape)
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
        ModelError: a value goes to several operators, or comes from none.
    """
    value = "glyphs"
    for node in graph.node:
        first, *others = node.input
        if first != value or len(node.output) != 1:
            raise _unknown("a graph that is not a chain")
        yield (
            node.op_type,
            others,
            {one.name: helper.get_attribute_value(one) for one in node.attribute},
        )
        value = node.output[0]


def _check_same(model: keras.Model, artifact: Artifact) -> None:
    """Check that the model says what its file says."""
    glyphs = np.random.default_rng(0).random((16, SIZE, SIZE), np.float32)
    # Half of them like ink: mostly paper.
    glyphs[::2] *= glyphs[::2] > 0.8
    expected = softmax(Classifier(artifact).logits(glyphs))
    difference = float(np.abs(keras_files.probabilities(model, glyphs) - expected).max())
    # Written so that NaN fails, too.
    # Ten layers with weights of chance add roundings up to 2e-4; a wrong layer is off by tenths.
    if not difference <= 100 * keras_files.TOLERANCE:
        raise ModelError(
            f"gives probabilities that differ by {difference:.1e} after conversion to Keras",
            where=artifact.source,
            remedy="please report this",
        )


# --- operators to layers, each (weights, attributes, shape of its input) -> layer and its weights ---

Layer = tuple[keras.Layer | None, Arrays]


def _unsqueeze(weights: Arrays, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> Layer:
    if weights[0].tolist() != [1] or len(shape) != 2:
        raise _unknown("an Unsqueeze of another axis")
    return keras.layers.Reshape((*shape, 1)), []


def _reshape(weights: Arrays, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> Layer:
    if len(shape) > 2:
        raise _unknown("a Reshape of images")
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
    def how(weights: Arrays, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> Layer:
        window = tuple(attributes["kernel_shape"])
        layer = getattr(keras.layers, kind)(
            window,
            strides=tuple(attributes.get("strides", (1, 1))),
            padding=_padding(attributes, shape, window, (1, 1)),
        )
        return layer, []

    return how


def _padding(
    attributes: Mapping[str, Any],
    shape: tuple[int, ...],
    window: tuple[int, ...],
    spread: tuple[int, ...],
) -> str:
    """Return Keras' name for paddings in numbers."""
    pads = list(attributes.get("pads", (0, 0, 0, 0)))
    if not any(pads):
        return "valid"
    steps = attributes.get("strides", (1, 1))
    before, after = [], []
    for size, width, step, gap in zip(shape[:2], window, steps, spread, strict=True):
        needed = max((-(-size // step) - 1) * step + (width - 1) * gap + 1 - size, 0)
        before.append(needed // 2)
        after.append(needed - needed // 2)
    if pads != [*before, *after]:
        raise _unknown(f"the padding {pads}")
    return "same"


def _normalise(weights: Arrays, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> Layer:
    epsilon = attributes.get("epsilon", 1e-5)
    return keras.layers.BatchNormalization(momentum=MOMENTUM, epsilon=epsilon), weights


def _transpose(weights: Arrays, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> Layer:
    # Channels are innermost in Keras already.
    if list(attributes["perm"]) != [0, 2, 3, 1]:
        raise _unknown(f"a Transpose by {list(attributes['perm'])}")
    return None, []


def _average(weights: Arrays, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> Layer:
    return keras.layers.GlobalAveragePooling2D(keepdims=True), []


def _largest(weights: Arrays, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> Layer:
    return keras.layers.GlobalMaxPooling2D(keepdims=True), []


def _clip(weights: Arrays, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> Layer:
    low, high = (float(bound.item()) for bound in weights)
    if low != 0:
        raise _unknown(f"a Clip from {low}")
    return keras.layers.ReLU(max_value=high), []


def _gemm(weights: Arrays, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> Layer:
    if any(attributes.get(name, plain) != plain for name, plain in _PLAIN.items()):
        raise _unknown("a Gemm that scales or transposes")
    return keras.layers.Dense(weights[0].shape[1]), weights


_PLAIN = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}


def _plain(make: Callable[[], keras.Layer]) -> Callable[..., Layer]:
    def how(weights: Arrays, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> Layer:
        return make(), []

    return how


_HOW: dict[str, Callable[..., Any]] = {
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Conv": _conv,
    "MaxPool": _pool("MaxPooling2D"),
    "AveragePool": _pool("AveragePooling2D"),
    "GlobalAveragePool": _average,
    "GlobalMaxPool": _largest,
    "BatchNormalization": _normalise,
    "Relu": _plain(keras.layers.ReLU),
    "Clip": _clip,
    "Sigmoid": _plain(lambda: keras.layers.Activation("sigmoid")),
    "Tanh": _plain(lambda: keras.layers.Activation("tanh")),
    "HardSwish": _plain(lambda: keras.layers.Activation("hard_silu")),
    "Transpose": _transpose,
    "Flatten": _plain(keras.layers.Flatten),
    "Gemm": _gemm,
}
"""How each operator is taken back; a wrong layer cannot slip through, since the whole is compared."""


def _unknown(what: str) -> ModelError:
    return ModelError(
        f"holds {what} and cannot be trained further", remedy="train its recipe from scratch"
    )
