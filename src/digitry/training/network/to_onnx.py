"""Exports a Keras model to ONNX, layer by layer.

The graph is as small as the network: normalisation is folded into the weights before it, dropout and
augmentation are left out. The batch size is dynamic, and the logits are an output beside the
probabilities.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from digitry.errors import ModelError
from digitry.training.network.build import keras
from digitry.training.network.onnx_graph import OnnxGraph, same_padding

INPUTS = ((28, 28), (28, 28, 1), (784,))
"""Shapes of one image that a model may take."""

AUGMENTATIONS = frozenset(
    {
        "RandomBrightness", "RandomContrast", "RandomElasticTransform", "RandomErasing", "RandomFlip",
        "RandomGaussianBlur", "RandomInvert", "RandomPerspective", "RandomPosterization",
        "RandomRotation", "RandomSharpness", "RandomShear", "RandomTranslation", "RandomZoom",
    }
)  # fmt: skip
"""Keras' layers that change images in training only, and leave their size as it is."""

Floats = npt.NDArray[np.float32]


def to_onnx(model: keras.Model) -> bytes:
    """Return a Keras model as an ONNX model.

    Args:
        model: sequential, or functional with Add, Multiply and Concatenate, channels last; from
            (n, 28, 28), (n, 28, 28, 1) or (n, 784) to a softmax, a sigmoid or logits.

    Returns:
        A serialised model: input `glyphs` (n, 28, 28) float32, outputs `logits` (n, classes), before
        the softmax or sigmoid, and `probabilities`, the softmax of `logits`; any n.

    Raises:
        ModelError: a layer or one of its settings is not supported.
    """
    graph = _Graph()
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise _unsupported("a model with several inputs or outputs")
    graph.values[id(model.inputs[0])] = _image(graph, tuple(model.inputs[0].shape[1:]))
    _translate_model(graph, model, last=True)
    if len(model.outputs[0].shape) != 2:
        raise _unsupported(f"an output of the shape {tuple(model.outputs[0].shape)}")
    graph.add("Identity", graph.values[id(model.outputs[0])], output="logits")
    graph.add("Softmax", "logits", output="probabilities", axis=-1)
    made = graph.digit_model(int(model.outputs[0].shape[-1]))
    onnx.checker.check_model(made, full_check=True)
    content: bytes = made.SerializeToString()
    return content


def _translate_model(graph: "_Graph", model: keras.Model, *, last: bool) -> None:
    """Add the layers of a model, whose input is in the graph."""
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    for layer in layers:
        for tensor in _inputs(layer):
            graph.uses[id(tensor)] = graph.uses.get(id(tensor), 0) + 1
    for layer in layers:
        ends = last and layer is layers[-1]
        if isinstance(layer, keras.Model):
            _translate_nested(graph, layer, last=ends)
        else:
            _translate(graph, layer, last=ends)


def _translate_nested(graph: "_Graph", model: keras.Model, *, last: bool) -> None:
    """Add a model that is a layer of another."""
    (outside,) = _inputs(model)
    (result,) = _calls(model)[0].output_tensors
    # Its layers may have been called several times; those of a clone were called once.
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    graph.values[id(clone.inputs[0])] = graph.values[id(outside)]
    _translate_model(graph, clone, last=last)
    graph.values[id(result)] = graph.values[id(clone.outputs[0])]
    graph.clones.append(clone)


def _calls(model: keras.Model) -> list[Any]:
    """Return the calls of a model that is a layer of another."""
    # `model.input` is the input of its own layers, not what it is called with.
    found: list[Any] = model._inbound_nodes
    return found


def returned_by(model: keras.Model) -> str:
    """Return what a model returns: `probabilities`, `sigmoids` or `logits`."""
    last = model.layers[-1]
    if isinstance(last, keras.Model):
        return returned_by(last)
    activation = getattr(last, "activation", None)
    if activation is keras.activations.softmax or isinstance(last, keras.layers.Softmax):
        return "probabilities"
    return "sigmoids" if _is_sigmoid(activation) else "logits"


def _image(graph: "_Graph", shape: tuple[Any, ...]) -> str:
    """Return the image in the shape that the model takes, with channels first."""
    if shape == (28, 28):
        return "glyphs"
    if shape == (28, 28, 1):
        return graph.add("Unsqueeze", "glyphs", graph.weight(np.array([1]), np.int64))
    if shape == (784,):
        return graph.add("Flatten", "glyphs", axis=1)
    raise _unsupported(f"a model whose input is {('n', *shape)}")


class _Graph(OnnxGraph):
    """The graph of a Keras model."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[int, str] = {}
        """Names in the graph by the id of Keras' symbolic tensor."""
        self.uses: dict[int, int] = {}
        self.clones: list[keras.Model] = []
        """Kept, because an id is unique only as long as its tensor exists."""
        self.linear: dict[str, tuple[str, str]] = {}
        """Outputs of a convolution or product without activation -> names of its kernel and bias."""


def _translate(graph: _Graph, layer: Any, *, last: bool) -> None:
    """Add one layer to the graph."""
    inputs = [graph.values[id(tensor)] for tensor in _inputs(layer)]
    translate = next(
        (function for kind, function in _TRANSLATORS.items() if type(layer) is kind), None
    )
    if type(layer) in _augmentations():
        graph.values[id(layer.output)] = inputs[0]
        return
    if translate is None:
        raise _unsupported(f"the layer {type(layer).__name__}")
    if layer.compute_dtype != "float32":
        raise _unsupported(f"{layer.name}, which computes in {layer.compute_dtype},")
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise _unsupported(f"{layer.name}, which has channels first,")
    value = translate(graph, layer, *inputs)
    activation = getattr(layer, "activation", None)
    softmax = activation is keras.activations.softmax or isinstance(layer, keras.layers.Softmax)
    if softmax and not last:
        raise _unsupported("a softmax that is not the last step")
    # The softmax is added behind the logits. A sigmoid has the same order of the digits as its input.
    if not softmax and activation is not None and not (last and _is_sigmoid(activation)):
        value = _activate(graph, activation, value)
    graph.values[id(layer.output)] = value


def _is_sigmoid(activation: Any) -> bool:
    """Return whether an activation is a sigmoid, which gives each class a probability of its own."""
    return activation is keras.activations.sigmoid


def _inputs(layer: Any) -> list[Any]:
    """Return the symbolic inputs of a layer, which must be used exactly once."""
    if isinstance(layer, keras.Model):
        calls = _calls(layer)
        if len(calls) != 1 or len(calls[0].input_tensors) != 1 or len(layer.inputs) != 1:
            raise _unsupported(f"{layer.name}, which is used more than once or has several inputs,")
        return list(calls[0].input_tensors)
    try:
        found = layer.input
    except (AttributeError, ValueError) as error:
        raise _unsupported(f"{layer.name}, which is used more than once,") from error
    return list(found) if isinstance(found, list | tuple) else [found]


def _activate(graph: _Graph, activation: Any, value: str) -> str:
    known = keras.activations
    if activation is known.linear:
        return value
    if activation is known.relu6:
        bounds = [graph.weight(np.array(bound)) for bound in (0.0, 6.0)]
        return graph.add("Clip", value, *bounds)
    if activation is known.silu:
        return graph.add("Mul", value, graph.add("Sigmoid", value))
    if activation is known.leaky_relu:
        return graph.add("LeakyRelu", value, alpha=0.2)
    if activation is known.hard_silu:
        return graph.add("HardSwish", value)
    plain = {known.relu: "Relu", known.sigmoid: "Sigmoid", known.tanh: "Tanh"}
    if activation not in plain:
        raise _unsupported(f"the activation {getattr(activation, '__name__', activation)}")
    return graph.add(plain[activation], value)


def _array(variable: Any) -> Floats:
    values: Floats = variable.value.numpy(force=True).astype(np.float32)
    return values


def _bias(layer: Any, count: int) -> Floats:
    return _array(layer.bias) if layer.use_bias else np.zeros(count, np.float32)


def _dense(graph: _Graph, layer: Any, x: str) -> str:
    if len(layer.input.shape) != 2:
        raise _unsupported(f"{layer.name}, whose input is not (n, features),")
    kernel = graph.weight(_array(layer.kernel))
    bias = graph.weight(_bias(layer, layer.units))
    value = graph.add("Gemm", x, kernel, bias)
    return _foldable(graph, layer, value, kernel, bias)


def _conv(graph: _Graph, layer: Any, x: str) -> str:
    kernel = _array(layer.kernel)
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        # (height, width, channels, multiplier) -> (channels * multiplier, 1, height, width)
        groups, kernel = kernel.shape[2], kernel.transpose(2, 3, 0, 1)
        kernel = kernel.reshape(-1, 1, *kernel.shape[2:])
    else:
        groups, kernel = layer.groups, kernel.transpose(3, 2, 0, 1)
    weight, bias = graph.weight(kernel), graph.weight(_bias(layer, len(kernel)))
    value = graph.add(
        "Conv",
        x,
        weight,
        bias,
        kernel_shape=layer.kernel_size,
        strides=layer.strides,
        dilations=layer.dilation_rate,
        group=groups,
        pads=_pads(layer, layer.kernel_size, layer.dilation_rate),
    )
    return _foldable(graph, layer, value, weight, bias)


def _foldable(graph: _Graph, layer: Any, value: str, kernel: str, bias: str) -> str:
    """Record that a normalisation directly after this value can be folded into its weights."""
    if layer.activation is keras.activations.linear and graph.uses.get(id(layer.output)) == 1:
        graph.linear[value] = (kernel, bias)
    return value


def _pads(layer: Any, window: tuple[int, int], dilation: tuple[int, int] = (1, 1)) -> list[int]:
    """Return the padding in pixels; with `same` an odd pixel goes to the end, as in TensorFlow."""
    if layer.padding not in ("valid", "same"):
        raise _unsupported(f"the padding {layer.padding!r}")
    if layer.padding == "valid":
        return [0, 0, 0, 0]
    return same_padding(layer.input.shape[1:3], window, layer.strides, dilation)


def _normalise(graph: _Graph, layer: Any, x: str) -> str:
    rank = len(layer.input.shape)
    if layer.axis not in (-1, rank - 1):
        raise _unsupported(f"{layer.name}, which normalises another axis than channels,")
    mean, variance = _array(layer.moving_mean), _array(layer.moving_variance)
    scale = _array(layer.gamma) if layer.scale else np.ones_like(mean)
    shift = _array(layer.beta) if layer.center else np.zeros_like(mean)
    if x not in graph.linear:
        weights = [graph.weight(values) for values in (scale, shift, mean, variance)]
        return graph.add("BatchNormalization", x, *weights, epsilon=layer.epsilon)
    kernel, bias = graph.linear[x]
    factor = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + layer.epsilon)
    old = graph.weights[kernel]
    # Outputs are the first axis of a convolution's kernel, the last axis of a product's.
    spread = factor.reshape(-1, 1, 1, 1) if old.ndim == 4 else factor
    graph.weights[kernel] = (old * spread).astype(np.float32)
    graph.weights[bias] = ((graph.weights[bias] - mean) * factor + shift).astype(np.float32)
    return x


def _reshape(graph: _Graph, layer: Any, x: str) -> str:
    before, after = tuple(layer.input.shape[1:]), tuple(layer.output.shape[1:])
    if after == (*before, 1) and len(after) == 3:
        return graph.add("Unsqueeze", x, graph.weight(np.array([1]), np.int64))
    if len(before) == 1 and len(after) == 3 and after[-1] == 1:
        # One channel: the same order of numbers with the channel first.
        return graph.add("Reshape", x, graph.weight(np.array([0, 1, *after[:2]]), np.int64))
    if len(before) == 3 and before[-1] == 1 and len(after) == 1:
        return graph.add("Flatten", x, axis=1)
    if len(before) == 3 or len(after) == 3:
        raise _unsupported(f"{layer.name}, from {before} to {after},")
    # In ONNX, 0 keeps the size of the batch axis.
    return graph.add("Reshape", x, graph.weight(np.array([0, *after]), np.int64))


def _flatten(graph: _Graph, layer: Any, x: str) -> str:
    shape = layer.input.shape
    if len(shape) == 4 and shape[1] * shape[2] > 1 and shape[3] > 1:
        # Keras flattens with the channels innermost.
        x = graph.add("Transpose", x, perm=[0, 2, 3, 1])
    return graph.add("Flatten", x, axis=1)


def _pool(graph: _Graph, layer: Any, x: str) -> str:
    kind = "MaxPool" if isinstance(layer, keras.layers.MaxPooling2D) else "AveragePool"
    if kind == "AveragePool" and layer.padding == "same":
        raise _unsupported(f"{layer.name}, whose `same` padding differs between Keras' backends,")
    return graph.add(
        kind,
        x,
        kernel_shape=layer.pool_size,
        strides=layer.strides,
        pads=_pads(layer, layer.pool_size),
    )


def _pool_all(graph: _Graph, layer: Any, x: str) -> str:
    average = isinstance(layer, keras.layers.GlobalAveragePooling2D)
    x = graph.add("GlobalAveragePool" if average else "GlobalMaxPool", x)
    return x if layer.keepdims else graph.add("Flatten", x, axis=1)


def _relu(graph: _Graph, layer: Any, x: str) -> str:
    if layer.threshold or layer.negative_slope:
        raise _unsupported(f"{layer.name}, a ReLU with a threshold or a slope,")
    if layer.max_value is None:
        return graph.add("Relu", x)
    bounds = [graph.weight(np.array(bound)) for bound in (0.0, layer.max_value)]
    return graph.add("Clip", x, *bounds)


def _rescale(graph: _Graph, layer: Any, x: str) -> str:
    if np.ndim(layer.scale) or np.ndim(layer.offset):
        raise _unsupported(f"{layer.name}, which scales each channel separately,")
    scaled = graph.add("Mul", x, graph.weight(np.asarray(layer.scale)))
    return graph.add("Add", scaled, graph.weight(np.asarray(layer.offset)))


def _concatenate(graph: _Graph, layer: Any, *inputs: str) -> str:
    if layer.axis not in (-1, len(layer.output.shape) - 1):
        raise _unsupported(f"{layer.name}, which joins another axis than channels,")
    return graph.add("Concat", *inputs, axis=1)


def _combine(kind: str) -> Callable[..., str]:
    def translate(graph: _Graph, layer: Any, first: str, *others: str) -> str:
        for other in others:
            first = graph.add(kind, first, other)
        return first

    return translate


def _same(graph: _Graph, layer: Any, x: str) -> str:
    """Translate a layer that acts only in training, or is only an activation."""
    return x


_TRANSLATORS: dict[Any, Callable[..., str]] = {
    keras.layers.Dense: _dense,
    keras.layers.Conv2D: _conv,
    keras.layers.DepthwiseConv2D: _conv,
    keras.layers.BatchNormalization: _normalise,
    keras.layers.Reshape: _reshape,
    keras.layers.Flatten: _flatten,
    keras.layers.MaxPooling2D: _pool,
    keras.layers.AveragePooling2D: _pool,
    keras.layers.GlobalAveragePooling2D: _pool_all,
    keras.layers.GlobalMaxPooling2D: _pool_all,
    keras.layers.ReLU: _relu,
    keras.layers.Rescaling: _rescale,
    keras.layers.Concatenate: _concatenate,
    keras.layers.Add: _combine("Add"),
    keras.layers.Multiply: _combine("Mul"),
    keras.layers.Activation: _same,
    keras.layers.Softmax: _same,
    keras.layers.Dropout: _same,
    keras.layers.SpatialDropout2D: _same,
    keras.layers.GaussianNoise: _same,
    keras.layers.GaussianDropout: _same,
}
"""Layer class -> function that translates it. Subclasses are refused: they may compute anything."""


def _augmentations() -> list[Any]:
    """Return the classes in `AUGMENTATIONS` that this version of Keras has."""
    found = (getattr(keras.layers, name, None) for name in sorted(AUGMENTATIONS))
    return [kind for kind in found if kind is not None]


def _unsupported(what: str) -> ModelError:
    return ModelError(
        f"{what} cannot be exported to ONNX",
        remedy="use layers that digitry.training.network.to_onnx supports",
    )
