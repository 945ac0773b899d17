"""Builds the Keras 3 model of a recipe.

Only standard layers are used, so the saved files load in plain Keras on any backend.
"""

import os
from collections.abc import Sequence
from itertools import pairwise

# Keras reads this once, at its first import, and keeps the backend. The training step is traced
# through PyTorch. A user's own choice is not changed; if it is another backend, an error follows below.
os.environ.setdefault("KERAS_BACKEND", "torch")

import keras as keras  # the modules that need Keras take it from here
import numpy as np

from digitry.errors import UnavailableError, UsageError
from digitry.training.recipes import Recipe

if keras.backend.backend() != "torch":
    raise UnavailableError(
        f"Keras already uses the backend {keras.backend.backend()!r}; training needs 'torch'",
        remedy="set KERAS_BACKEND=torch before the first import of keras",
    )

SIZE = 28
"""Height and width of a glyph in pixels."""

MAX_PARAMETERS = 16_000_000
"""Most parameters of a model that is built, or loaded from a Keras file."""


def build(recipe: Recipe, classes: int) -> keras.Model:
    """Build the untrained model of a recipe.

    Args:
        recipe: holds the architecture, its widths, its dropout and the seed of its weights.
        classes: outputs; 10 digits, or 11 with `not a digit`.

    Returns:
        A model from (n, 28, 28) float32 in [0, 1], ink = 1, to (n, classes) softmax probabilities.

    Raises:
        UsageError: the recipe shrinks a 28-pixel image to nothing, or has more parameters than a model
            file may have.
    """
    # Before building: one recipe field can ask for hundreds of gigabytes.
    _check_count(_min_parameters(recipe, classes))
    layers = {"dense": _dense, "conv": _conv}[recipe.architecture](recipe)
    # Each layer gets its own seed from the recipe's: the same recipe gives the same weights, and
    # different seeds give unrelated ones.
    seeds = np.random.SeedSequence(recipe.seed).generate_state(len(layers) + 1)
    output = keras.layers.Dense(classes, activation="softmax", name="digits")
    for layer, seed in zip([*layers, output], seeds, strict=True):
        if hasattr(layer, "kernel_initializer"):
            # Keras' own default, Glorot & Bengio 2010, set explicitly because of the seed.
            layer.kernel_initializer = keras.initializers.GlorotUniform(seed=int(seed))
    name = recipe.name.replace("/", "-") or "digits"
    model = keras.Sequential([keras.layers.Input((SIZE, SIZE)), *layers, output], name=name)
    _check_count(model.count_params())
    return model


def _min_parameters(recipe: Recipe, classes: int) -> int:
    """Return a lower bound of the parameters: the weights between hidden layers."""
    if recipe.architecture == "dense":
        widths = (SIZE * SIZE, *recipe.hidden, classes)
        return sum(before * after for before, after in pairwise(widths))
    sides = (*recipe.kernels, *[recipe.kernels[-1]] * len(recipe.hidden))
    channels = pairwise((1, *recipe.hidden))
    return sum(k * k * before * after for k, (before, after) in zip(sides, channels, strict=False))


def _check_count(parameters: int) -> None:
    if parameters > MAX_PARAMETERS:
        raise UsageError(
            f"gives {parameters:,} parameters or more; the limit is {MAX_PARAMETERS:,}",
            where="recipe field hidden",
            remedy="use narrower layers",
        )


def _dense(recipe: Recipe) -> list[keras.Layer]:
    """Return flatten and the hidden ReLU layers."""
    layers: list[keras.Layer] = [keras.layers.Flatten()]
    layers += [keras.layers.Dense(units, activation="relu") for units in recipe.hidden]
    return layers + _dropout(recipe)


def _conv(recipe: Recipe) -> list[keras.Layer]:
    """Return convolutions, each with batch normalisation and ReLU, some with a 2x2 max pool.

    The pool is between convolution and normalisation: the same function of the pixels if the learned
    scale is positive, at a quarter of the work (the order of the fastest published MNIST programs).
    """
    layers: list[keras.Layer] = [keras.layers.Reshape((SIZE, SIZE, 1))]
    pools, side = pools_of(recipe.hidden, recipe.pools), SIZE
    for place, channels in enumerate(recipe.hidden):
        kernel = recipe.kernels[min(place, len(recipe.kernels) - 1)]
        stride = recipe.stride if place == 0 else 1
        layers.append(
            keras.layers.Conv2D(
                channels, kernel, strides=stride, padding=recipe.padding, use_bias=False
            )
        )
        side = side if recipe.padding == "same" else (side - kernel) // stride + 1
        if place + 1 in pools:
            side //= 2
            layers.append(keras.layers.MaxPooling2D(2))
        if side < 1:
            raise UsageError(
                f"{list(recipe.hidden)} shrinks a {SIZE}-pixel image to nothing",
                where="recipe field hidden",
                remedy="let the channels grow at most 4 times, or use fewer or smaller kernels",
            )
        # Keras' momentum of 0.99 needs thousands of steps to converge; these runs are shorter.
        layers.append(keras.layers.BatchNormalization(momentum=0.9))
        layers.append(keras.layers.ReLU())
    if recipe.head == "average":
        layers.append(keras.layers.GlobalAveragePooling2D())
    else:
        layers.append(keras.layers.Flatten())
    return layers + _dropout(recipe)


def pools_of(hidden: Sequence[int], pools: Sequence[int] | None) -> tuple[int, ...]:
    """Return the convolutions, counted from 1, that a pool follows, by the fields of a recipe."""
    if pools is not None:
        return tuple(pools)
    following = (*hidden[1:], 0)
    pairs = enumerate(zip(hidden, following, strict=True), 1)
    return tuple(place for place, (channels, more) in pairs if more > channels)


def _dropout(recipe: Recipe) -> list[keras.Layer]:
    return [keras.layers.Dropout(recipe.dropout)] if recipe.dropout else []
