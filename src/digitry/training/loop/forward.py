"""A Keras model as tensor operations, up to its logits."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from digitry.training.network.build import keras


def logits_of(
    model: keras.Sequential,
    weights: Sequence[torch.Tensor],
    state: Sequence[torch.Tensor],
    glyphs: torch.Tensor,
    *,
    training: bool,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Run a model up to its logits, with given values for its variables.

    The softmax of the last layer is left out: the loss is more precise from logits. The slow layers
    are one PyTorch operation each, with channels last in memory throughout; Keras would use five
    operations for a normalisation, and copy to channels first around a convolution or a pool. Every
    other layer is called as Keras calls it.

    Args:
        model: a sequence of layers that ends with a softmax `Dense`.
        weights: of each of `model.trainable_variables`.
        state: of each of `state_variables(model)`.
        glyphs: (n, 28, 28) float32 in [0, 1], ink = 1.
        training: whether dropout is active and normalisation uses the statistics of the batch.

    Returns:
        (n, classes) float32, and the new `state`.
    """
    variables = [*model.trainable_variables, *state_variables(model)]
    values = {id(v): value for v, value in zip(variables, [*weights, *state], strict=True)}
    updates: dict[int, torch.Tensor] = {}
    x = glyphs
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense) and x.ndim == 2:
            x = torch.addmm(values[id(layer.bias)], x, values[id(layer.kernel)])
            if layer is not model.layers[-1]:
                x = layer.activation(x)
        elif isinstance(layer, keras.layers.BatchNormalization):
            x = _normalise(layer, values, updates, x, training=training)
        elif isinstance(layer, keras.layers.Conv2D) and _is_plain(layer):
            kernel = values[id(layer.kernel)].permute(3, 2, 0, 1)
            bias = values[id(layer.bias)] if layer.use_bias else None
            padding = layer.kernel_size[0] // 2 if layer.padding == "same" else 0
            x = F.conv2d(x.movedim(-1, 1), kernel, bias, layer.strides, padding).movedim(1, -1)
            x = layer.activation(x)
        elif isinstance(layer, keras.layers.MaxPooling2D) and layer.padding == "valid":
            x = F.max_pool2d(x.movedim(-1, 1), layer.pool_size, layer.strides).movedim(1, -1)
        else:
            own = layer.non_trainable_variables
            x, _ = layer.stateless_call(
                [values[id(v)] for v in layer.trainable_variables],
                [values.get(id(v), v.value) for v in own],
                x,
                **({"training": training} if isinstance(layer, keras.layers.Dropout) else {}),
            )
    return x, [updates.get(id(v), values[id(v)]) for v in state_variables(model)]


def _is_plain(layer: Any) -> bool:
    """Return whether PyTorch and Keras pad this convolution equally: odd square kernel, stride 1."""
    (height, width), plain = layer.kernel_size, layer.groups == 1 and layer.dilation_rate == (1, 1)
    same = layer.padding == "valid" or (height % 2 == 1 and layer.strides == (1, 1))
    return bool(height == width and plain and same)


def state_variables(model: keras.Model) -> list[Any]:
    """Return the variables that a step changes without a gradient: the moving statistics."""
    return [
        variable
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
        for variable in (layer.moving_mean, layer.moving_variance)
    ]


def _normalise(
    layer: Any,
    values: dict[int, torch.Tensor],
    updates: dict[int, torch.Tensor],
    x: torch.Tensor,
    *,
    training: bool,
) -> torch.Tensor:
    """Return `x` batch-normalised over the last axis; put the new moving statistics into `updates`."""
    mean, variance = values[id(layer.moving_mean)], values[id(layer.moving_variance)]
    gamma, beta = values[id(layer.gamma)], values[id(layer.beta)]
    x = x.movedim(-1, 1)
    if not training:
        y = torch.batch_norm(
            x, gamma, beta, mean, variance, False, 0.0, layer.epsilon, torch.backends.cudnn.enabled
        )
        return y.movedim(1, -1)
    y, batch_mean, inverse = torch.native_batch_norm(
        x, gamma, beta, None, None, True, 0.0, layer.epsilon
    )
    # Keras averages the biased variance; PyTorch's own update would scale it by n / (n - 1).
    batch_variance = inverse.detach().pow(-2).sub(layer.epsilon).clamp_min(0)
    updates[id(layer.moving_mean)] = mean.lerp(batch_mean.detach(), 1 - layer.momentum)
    updates[id(layer.moving_variance)] = variance.lerp(batch_variance, 1 - layer.momentum)
    return y.movedim(1, -1)
