"""What a Keras model may be made of: the allowed layers, their settings, and what they would cost.

The second half of `keras_check`: the configuration of a model, as plain JSON, is
walked here before Keras builds anything of it.
"""

import math
import re
from collections.abc import Mapping, Sequence, Set
from typing import Any

from digitry.errors import ModelError

MAX_PARAMETERS = 16_000_000
MAX_VALUES = 16_000_000
"""Numbers in the output of one layer, for one image."""
MAX_LAYERS = 500

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}")

_WRAPPER = {"module", "class_name", "config", "registered_name", "build_config", "shared_object_id"}
_NODES = {"name", "inbound_nodes"}
_COMMON = {"name", "trainable", "dtype", "data_format", "batch_input_shape", "activity_regularizer"}

# What each layer may be told, beyond `_COMMON`.
_KERNEL = {
    "activation", "use_bias", "kernel_initializer", "bias_initializer", "kernel_regularizer",
    "bias_regularizer", "kernel_constraint", "bias_constraint", "quantization_config",
}  # fmt: skip
_WINDOW = {"strides", "padding"}
LAYERS: dict[str, set[str]] = {
    "InputLayer": {"batch_shape", "sparse", "ragged", "optional"},
    "Dense": {"units", "lora_rank", "lora_alpha"} | _KERNEL,
    "Conv2D": {"filters", "kernel_size", "dilation_rate", "groups"} | _WINDOW | _KERNEL,
    "DepthwiseConv2D": {
        "depth_multiplier", "kernel_size", "dilation_rate", "groups", "filters",
        "depthwise_initializer", "depthwise_regularizer", "depthwise_constraint",
    } | _WINDOW | _KERNEL,
    "BatchNormalization": {
        "axis", "momentum", "epsilon", "center", "scale", "beta_initializer", "gamma_initializer",
        "moving_mean_initializer", "moving_variance_initializer", "beta_regularizer",
        "gamma_regularizer", "beta_constraint", "gamma_constraint", "synchronized", "renorm",
        "renorm_clipping", "renorm_momentum",
    },
    "MaxPooling2D": {"pool_size"} | _WINDOW,
    "AveragePooling2D": {"pool_size"} | _WINDOW,
    "GlobalAveragePooling2D": {"keepdims"},
    "GlobalMaxPooling2D": {"keepdims"},
    "Flatten": set(),
    "Reshape": {"target_shape"},
    "ReLU": {"max_value", "negative_slope", "threshold"},
    "Softmax": {"axis"},
    "Activation": {"activation"},
    "Dropout": {"rate", "seed", "noise_shape"},
    "SpatialDropout2D": {"rate", "seed", "noise_shape"},
    "GaussianNoise": {"stddev", "seed"},
    "GaussianDropout": {"rate", "seed"},
    "Rescaling": {"scale", "offset"},
    "Add": set(),
    "Multiply": set(),
    "Concatenate": {"axis"},
}  # fmt: skip
ACTIVATIONS: set[str | None] = {
    None, "linear", "relu", "relu6", "sigmoid", "softmax", "tanh", "leaky_relu", "hard_sigmoid",
    "hard_swish", "hard_silu", "log_softmax",
}  # fmt: skip
# Values that are objects, too: plain ones, that only fill new weights before the saved ones come.
_VALUES: dict[str, set[str]] = {
    "DTypePolicy": {"name"},
    "Zeros": set(),
    "Ones": set(),
    "Constant": {"value"},
    "GlorotUniform": {"seed", "input_axes", "output_axes"},
    "GlorotNormal": {"seed", "input_axes", "output_axes"},
    "HeUniform": {"seed", "input_axes", "output_axes"},
    "HeNormal": {"seed", "input_axes", "output_axes"},
    "LecunUniform": {"seed", "input_axes", "output_axes"},
    "LecunNormal": {"seed", "input_axes", "output_axes"},
    "RandomNormal": {"mean", "stddev", "seed"},
    "RandomUniform": {"minval", "maxval", "seed"},
    "TruncatedNormal": {"mean", "stddev", "seed"},
    "L1": {"l1"},
    "L2": {"l2"},
    "L1L2": {"l1", "l2"},
}
_MODULES: set[str | None] = {
    None,
    "keras",
    "keras.layers",
    "keras.initializers",
    "keras.regularizers",
}
_MODEL = {
    "name", "trainable", "dtype", "layers", "build_input_shape", "input_layers", "output_layers"
}  # fmt: skip
_FLOATS: set[str | None] = {
    None,
    "float32",
    "float16",
    "bfloat16",
    "mixed_float16",
    "mixed_bfloat16",
}
_WORDS = {"channels_last", "valid", "same"}

Shape = tuple[int, ...]


def check_model(config: Mapping[str, Any]) -> None:
    """Check the configuration of a whole model.

    Raises:
        ModelError: it names what is not allowed, or would cost too much.
    """
    _keys(config, _WRAPPER, "the model")
    kind = config.get("class_name")
    if not _among(kind, {"Sequential", "Functional"}):
        raise refused(f"is a {_shown(kind)}", "only Sequential and Functional models are read")
    if not _among(config.get("module"), {*_MODULES, "keras.models", "keras.src.models.functional"}):
        raise refused(f"names the module {_shown(config.get('module'))}", "save it with Keras 3")
    _registered(config, str(kind))
    inner = config.get("config")
    if not isinstance(inner, dict):
        raise refused("has a model without settings", "save it again")
    _keys(inner, _MODEL, "the model")
    _check_name(inner.get("name"))
    _check_value("dtype", inner.get("dtype"))
    layers = inner.get("layers")
    if not isinstance(layers, list) or not 1 <= len(layers) <= MAX_LAYERS:
        raise refused("has no layers, or too many", "no digit model has")
    given = _propagated(layers, chained=kind == "Sequential")
    for outer in (inner.get("build_input_shape"), _build_shape(config)):
        if outer is not None and _shape(outer) != given:
            raise refused("is built for another shape than its input", "save it again")
    for key in ("input_layers", "output_layers"):
        _check_plain(inner.get(key))


def _propagated(layers: Sequence[Any], *, chained: bool) -> Shape:
    """Reckon the shapes and the weights of all layers; give the shape of the input."""
    shapes: dict[str, Shape] = {}
    first: Shape | None = None
    last: str | None = None
    total = 0
    for layer in layers:
        if not isinstance(layer, dict):
            raise refused("has a layer that is none", "save it again")
        _keys(layer, _WRAPPER | _NODES, "a layer")
        kind, settings = layer.get("class_name"), layer.get("config")
        if not isinstance(kind, str) or kind not in LAYERS or not isinstance(settings, dict):
            raise refused(f"has the layer {_shown(kind)}", "no digit model needs it")
        if not _among(layer.get("module"), _MODULES):
            raise refused(f"names the module {_shown(layer.get('module'))}", "use Keras' own")
        _registered(layer, kind)
        _keys(settings, LAYERS[kind] | _COMMON, f"a {kind}")
        for key, value in settings.items():
            _check_value(key, value)
        name = _check_name(settings.get("name"))
        if name in shapes:
            raise refused(f"has two layers called {name}", "save it again")
        if kind == "InputLayer" or "batch_input_shape" in settings:
            made = _shape(settings.get("batch_shape", settings.get("batch_input_shape")))
            first = first or made
        if kind == "InputLayer":
            inputs = [made]
        elif chained:
            if last is None and "batch_input_shape" not in settings:
                raise refused("does not say what its input is", "give it an Input layer")
            inputs = [shapes[last] if last is not None else made]
        else:
            inputs = [_known(shapes, source) for source in _sources(layer.get("inbound_nodes"))]
        shapes[name], weights = _reckoned(kind, settings, inputs)
        total += weights
        if total > MAX_PARAMETERS or math.prod(shapes[name]) > MAX_VALUES:
            raise refused("needs more memory than any digit model", "train a smaller one")
        built = _build_shape(layer)
        if built is not None and len(inputs) == 1 and _shape(built) != inputs[0]:
            raise refused(f"builds {name} for another shape than it gets", "save it again")
        if built is not None and len(inputs) > 1:
            _check_plain(built)
        last = name
    if first is None:
        raise refused("does not say what its input is", "give it an Input layer")
    return first


def _build_shape(wrapper: Mapping[str, Any]) -> Any:
    built = wrapper.get("build_config")
    if built is None:
        return None
    if not isinstance(built, dict) or set(built) != {"input_shape"}:
        raise refused("has odd orders for building", "save it again")
    return built["input_shape"]


def _sources(nodes: Any) -> list[str]:
    """Give the names of the layers that one layer of a Functional model takes its input from."""
    found: list[str] = []

    def walk(value: Any, depth: int) -> None:
        if depth > 8:
            raise refused("has connections that are too deep", "save it again")
        if isinstance(value, dict):
            if value.get("class_name") == "__keras_tensor__":
                inner = value.get("config")
                history = inner.get("keras_history") if isinstance(inner, dict) else None
                if set(value) != {"class_name", "config"} or not isinstance(inner, dict):
                    raise refused("has a connection that is none", "save it again")
                if not isinstance(history, list) or not history:
                    raise refused("has a connection that is none", "save it again")
                _keys(inner, {"shape", "dtype", "keras_history"}, "a connection")
                _check_plain(list(inner.values()))
                found.append(str(history[0]))
                return
            _keys(value, {"args", "kwargs", "mask", "training"}, "a connection")
            for item in value.values():
                walk(item, depth + 1)
        elif isinstance(value, list):
            for item in value:
                walk(item, depth + 1)
        elif not (value is None or isinstance(value, (bool, int, float))):
            raise refused("has a connection that is none", "save it again")

    if not isinstance(nodes, list) or len(nodes) != 1:
        raise refused("uses a layer twice or not at all", "only plain graphs are read")
    walk(nodes, 0)
    if not found:
        raise refused("has a layer without input", "save it again")
    return found


def _known(shapes: Mapping[str, Shape], name: str) -> Shape:
    if name not in shapes:
        raise refused("connects layers in a circle, or to none", "save it again")
    return shapes[name]


def _reckoned(kind: str, settings: Mapping[str, Any], inputs: Sequence[Shape]) -> tuple[Shape, int]:
    """Give what comes out of a layer, without the batch, and how many weights it has."""
    shape = inputs[0]
    if kind == "Dense":
        units = _count(settings.get("units"))
        return (*shape[:-1], units), (shape[-1] + 1) * units if shape else _impossible(kind)
    if kind in ("Conv2D", "DepthwiseConv2D"):
        high, wide = _pair(settings.get("kernel_size"))
        depth = _plane(kind, shape)[2]
        if kind == "Conv2D":
            filters, weights = _count(settings.get("filters")), depth
        else:
            filters, weights = depth * _count(settings.get("depth_multiplier", 1)), 1
        weights = high * wide * weights * filters + filters
        across = _pair(settings.get("dilation_rate", 1))
        window = (1 + (high - 1) * across[0], 1 + (wide - 1) * across[1])
        return (*_moved(kind, settings, shape, window), filters), weights
    if kind in ("MaxPooling2D", "AveragePooling2D"):
        window = _pair(settings.get("pool_size", 2))
        return (*_moved(kind, settings, shape, window, window), _plane(kind, shape)[2]), 0
    if kind in ("GlobalAveragePooling2D", "GlobalMaxPooling2D"):
        depth = _plane(kind, shape)[2]
        return ((1, 1, depth) if settings.get("keepdims") else (depth,)), 0
    if kind == "BatchNormalization":
        return shape, 4 * max(shape, default=0)
    if kind == "Flatten":
        return (math.prod(shape),), 0
    if kind == "Reshape":
        return _reshaped(settings.get("target_shape"), math.prod(shape)), 0
    if kind == "Concatenate":
        if settings.get("axis", -1) not in (-1, len(shape)) or len({s[:-1] for s in inputs}) != 1:
            _impossible(kind)
        return (*shape[:-1], sum(other[-1] for other in inputs)), 0
    if len(set(inputs)) != 1:
        _impossible(kind)
    return shape, 0


def _moved(
    kind: str,
    settings: Mapping[str, Any],
    shape: Shape,
    window: tuple[int, int],
    default: tuple[int, int] = (1, 1),
) -> tuple[int, int]:
    strides = settings.get("strides")
    steps = default if strides is None else _pair(strides)
    same = settings.get("padding", "valid") == "same"
    sides = []
    for side, size, step in zip(_plane(kind, shape)[:2], window, steps, strict=True):
        room = side if same else side - size + 1
        if room < 1:
            _impossible(kind)
        sides.append(-(-room // step))
    return sides[0], sides[1]


def _plane(kind: str, shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3:
        _impossible(kind)
    return shape[0], shape[1], shape[2]


def _reshaped(target: Any, size: int) -> Shape:
    if not isinstance(target, list) or not 1 <= len(target) <= 4:
        raise refused("reshapes to what is no shape", "save it again")
    known = [_count(side) for side in target if side != -1]
    if len(target) - len(known) > 1 or size % math.prod(known):
        _impossible("Reshape")
    free = size // math.prod(known)
    shape = tuple(free if side == -1 else int(side) for side in target)
    return shape if math.prod(shape) == size else _impossible("Reshape")


def _shape(value: Any) -> Shape:
    """Read a shape whose batch is free."""
    if not isinstance(value, list) or not 2 <= len(value) <= 5 or value[0] is not None:
        raise refused(f"has the shape {_shown(value)}", "the batch is free, the rest is known")
    return tuple(_count(side) for side in value[1:])


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1_000_000:
        raise refused(f"has the size {_shown(value)}", "sizes are 1 to 1,000,000")
    return value


def _pair(value: Any) -> tuple[int, int]:
    both = value if isinstance(value, list) else [value, value]
    if len(both) != 2:
        raise refused(f"has the size {_shown(value)}", "give one or two")
    return _count(both[0]), _count(both[1])


def _check_name(name: Any) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name) or ".." in name:
        raise refused(f"has a layer called {_shown(name)}", "name layers in plain letters")
    return name


def _check_value(key: str, value: Any) -> None:
    """Accept plain numbers, the few words that have a meaning, and objects that only fill weights."""
    if isinstance(value, dict):
        kind, settings = value.get("class_name"), value.get("config")
        _keys(value, _WRAPPER - {"build_config"}, key)
        allowed = _VALUES.get(kind) if isinstance(kind, str) else None
        if allowed is None or not isinstance(settings, dict) or "constraint" in key:
            raise refused(f"gives {key} as {_shown(kind)}", "no digit model needs it")
        if not _among(value.get("module"), _MODULES):
            raise refused(f"names the module {_shown(value.get('module'))}", "use Keras' own")
        _registered(value, str(kind))
        _keys(settings, allowed, key)
        for inner, part in settings.items():
            if kind == "DTypePolicy" and not _among(part, _FLOATS):
                raise refused(f"computes in {_shown(part)}", "use float32")
            if kind != "DTypePolicy" and not (
                part is None or isinstance(part, (int, float, bool)) or _is_numbers(part)
            ):
                raise refused(f"gives {inner} as {_shown(part)}", "numbers are expected")
        return
    if key == "name":
        return
    if key == "activation":
        if not _among(value, ACTIVATIONS):
            raise refused(f"has the activation {_shown(value)}", "no digit model needs it")
    elif key == "dtype":
        if not _among(value, _FLOATS):
            raise refused(f"computes in {_shown(value)}", "use float32")
    elif isinstance(value, str):
        initial = key.endswith("initializer") and value in {
            "zeros", "ones", "glorot_uniform", "glorot_normal", "he_uniform", "he_normal"
        }  # fmt: skip
        if value not in _WORDS and not initial:
            raise refused(f"gives {key} as {_shown(value)}", "no digit model needs it")
    elif not (value is None or isinstance(value, (bool, int, float)) or _is_numbers(value)):
        raise refused(f"gives {key} as {_shown(value)}", "numbers are expected")


def _check_plain(value: Any, depth: int = 0) -> None:
    if depth > 6:
        raise refused("has settings that are too deep", "save it again")
    if isinstance(value, list):
        for item in value:
            _check_plain(item, depth + 1)
    elif isinstance(value, str):
        if not NAME.fullmatch(value):
            raise refused(f"has a layer called {_shown(value)}", "name layers in plain letters")
    elif not (value is None or isinstance(value, (bool, int, float))):
        raise refused("has settings that are no plain values", "save it again")


def _among(value: Any, allowed: Set[str | None]) -> bool:
    return (value is None or isinstance(value, str)) and value in allowed


def _is_numbers(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= 16
        and all(item is None or isinstance(item, (bool, int, float)) for item in value)
    )


def _keys(found: Mapping[str, Any], allowed: set[str], where: str) -> None:
    unknown = sorted(set(found) - allowed)
    if unknown:
        raise refused(f"tells {where} its {_shown(unknown[0])}", "no digit model needs it")


def _registered(wrapper: Mapping[str, Any], kind: str) -> None:
    if wrapper.get("registered_name") not in (None, kind):
        raise refused(
            f"names a class of its own ({_shown(wrapper['registered_name'])})", "use Keras' own"
        )


def _impossible(kind: str) -> Any:
    raise refused(f"has a {kind} that does not fit what it gets", "save it again")


def _shown(value: Any) -> str:
    return repr(value)[:60]


def refused(what: str, remedy: str) -> ModelError:
    """Give the error of a model file that is not let through."""
    return ModelError(what, remedy=remedy)
