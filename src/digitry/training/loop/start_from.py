"""Parents: trained models whose weights a new training starts from.

A convolutional network may go deeper than its parent: the convolutions that the parent lacks, and the last
layer, start from nothing.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from digitry.errors import ModelError
from digitry.model.artifact import Artifact
from digitry.model.load import SHIPPED, load_model
from digitry.training.network import convert
from digitry.training.network.build import build, keras, pools_of
from digitry.training.network.keras_files import load_keras
from digitry.training.recipes import Recipe

LAYERS = ("architecture", "hidden", "kernels", "stride", "padding", "pools", "head")
"""The fields of a recipe that define its layers, except dropout, which has no weights."""

SETTINGS = ("activation", "kernel_size", "strides", "padding", "pool_size", "epsilon")
"""The settings of a layer that change what it computes."""


@dataclass(frozen=True, eq=False)
class Parent:
    """A model to start from.

    Attributes:
        place: where a later resume finds it: a shipped model's name or an absolute path.
        sha256: of the file that the weights come from.
        build: returns a model of the recipe with these weights, and new ones where the recipe is deeper; it
            has as many outputs as the model. Needs Keras.
    """

    place: str
    sha256: str
    build: Callable[[], keras.Model]


def parent_of(model: str, recipe: Recipe, *, trust: bool = False) -> Parent:
    """Return the model to start from.

    A run folder or a Keras file holds every weight. A .onnx file has its batch normalisation folded
    into the layer before it, and it stays folded: the same function with fewer layers.

    Args:
        model: a run folder, a .keras, .h5 or .onnx file, or a shipped model's name.
        recipe: of the new training; it must define the same layers as the model, or these convolutions
            and more behind them.
        trust: load a Keras file whose sha256 no run folder records.

    Raises:
        ModelError: it is missing, damaged, a Keras file that is not trusted, or has other layers.
    """
    file = None if model in SHIPPED else convert.keras_file(Path(model))
    if file is None:
        loaded = load_model(model)
        trained = loaded.metadata.recipe
        _check_fields(trained, recipe, loaded.source)
        return Parent(place_of(loaded), loaded.sha256, lambda: _from_file(loaded, recipe))
    loaded_model = load_keras(file, trust=trust)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return Parent(str(file.resolve()), digest, lambda: _from_keras(loaded_model, recipe, file))


def place_of(model: Artifact) -> str:
    """Return the name or path from which a later resume loads a model."""
    has_name = model.version is not None
    return model.reference if has_name else str(Path(model.source).resolve())


def _from_file(model: Artifact, recipe: Recipe) -> keras.Model:
    from digitry.training.network.from_onnx import to_keras

    trained = to_keras(model, dropout=recipe.dropout)
    return _deepened(trained, recipe)


def _from_keras(trained: keras.Model, recipe: Recipe, file: Path) -> keras.Model:
    model = build(_shallower(recipe, len(_convolutions(trained))), trained.output_shape[-1])
    if _layers(trained) != _layers(model):
        raise _other_layers(f"its layers differ from those of recipe {recipe.name}", file)
    model.set_weights(trained.get_weights())
    return _deepened(model, recipe)


def _shallower(recipe: Recipe, count: int) -> Recipe:
    """Return a recipe with the first convolutions of another, as many as a model has; or itself."""
    if recipe.architecture != "conv" or not 0 < count < len(recipe.hidden):
        return recipe
    pools = tuple(place for place in pools_of(recipe.hidden, recipe.pools) if place < count)
    return replace(recipe, hidden=recipe.hidden[:count], pools=pools)


def _convolutions(model: keras.Model) -> list[int]:
    """Return the places of a model's convolutions among its layers."""
    kinds = [type(layer).__name__ for layer in model.layers]
    return [place for place, kind in enumerate(kinds) if kind == "Conv2D"]


def _deepened(model: keras.Model, recipe: Recipe) -> keras.Model:
    """Return a model with the convolutions of its recipe that it lacks, and then a new last layer."""
    count = len(_convolutions(model))
    if recipe.architecture != "conv" or count == len(recipe.hidden):
        return model
    deep = build(recipe, model.output_shape[-1])
    heads = ("Flatten", "GlobalAveragePooling2D")
    head = next(i for i, layer in enumerate(model.layers) if type(layer).__name__ in heads)
    taken = list(model.layers[:head])
    if count in pools_of(recipe.hidden, recipe.pools):
        # Where `build` has it: right behind the convolution.
        taken.insert(_convolutions(model)[-1] + 1, keras.layers.MaxPooling2D(2))
    taken += deep.layers[_convolutions(deep)[count] :]
    # A layer belongs to one model: these are copies.
    copies = [_copied(layer) for layer in taken]
    result = keras.Sequential([keras.layers.Input(model.input_shape[1:]), *copies])
    for layer, copy in zip(taken, copies, strict=True):
        copy.set_weights(layer.get_weights())
    return result


def _copied(layer: keras.Layer) -> keras.Layer:
    settings = layer.get_config()
    if type(layer).__name__ != "Dense":
        # Two models may use the same name for two layers.
        del settings["name"]
    return type(layer).from_config(settings)


def _layers(model: keras.Model) -> list[tuple[Any, ...]]:
    """Return kind, settings and weight shapes of each layer, without layers that only act in training.

    The shapes of the weights are not enough: they do not depend on strides and on where the pools are.
    """
    found = []
    for layer in model.layers:
        config = layer.get_config()
        settings = [config.get(name) for name in SETTINGS]
        kind = type(layer).__name__
        if kind not in ("Dropout", "InputLayer"):
            shapes = [tuple(weight.shape) for weight in layer.weights]
            found.append((kind, settings, shapes))
    return found


def _check_fields(trained: Mapping[str, Any], recipe: Recipe, where: str) -> None:
    if not trained:
        raise ModelError(
            "does not say which recipe it was trained with", where=where,
            remedy="name its run folder or its .keras file",
        )  # fmt: skip
    shallower = _shallower(recipe, len(trained.get("hidden", ())))
    wanted, asked = shallower.to_dict(), recipe.to_dict()
    for name in LAYERS:
        # Older files lack fields that were added later; their value was the default.
        found = trained.get(name, Recipe(name="").to_dict()[name])
        same = found == wanted[name]
        if name == "pools" and recipe.architecture == "conv":
            same = pools_of(shallower.hidden, found) == pools_of(shallower.hidden, wanted[name])
        if not same:
            raise _other_layers(
                f"{name} is {found} in the model, but {asked[name]} in the recipe", where
            )


def _other_layers(what: str, where: Path | str) -> ModelError:
    return ModelError(what, where=where, remedy="use the model's own recipe, with the same --set")
