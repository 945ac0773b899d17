"""A model file becomes an equal Keras model that can be trained further."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import onnx
from onnx import helper

from digitry.errors import ModelError
from digitry.model import artifact
from digitry.model.artifact import Metadata
from digitry.model.load import load_model
from digitry.training.network import convert, keras_files, to_onnx
from digitry.training.network.build import build, keras
from digitry.training.network.from_onnx import to_keras
from digitry.training.recipes import RECIPES, Recipe

LABELS = tuple(str(digit) for digit in range(10))


def shaken(model: keras.Model, seed: int = 0) -> keras.Model:
    """Return it with weights as training might leave them, moving statistics included."""
    rng = np.random.default_rng(seed)
    model.set_weights(
        [
            (np.abs(weight) + 0.1) * rng.uniform(0.5, 1.5, weight.shape)
            if "variance" in variable.path
            else weight + 0.1 * rng.normal(size=weight.shape)
            for variable, weight in zip(model.weights, model.get_weights(), strict=True)
        ]
    )
    return model


def glyphs(count: int = 20) -> np.ndarray:
    return np.random.default_rng(1).random((count, 28, 28), np.float32)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipes_model_comes_back_from_its_file(name: str) -> None:
    model = shaken(build(RECIPES[name], 10))
    again = to_keras(convert.as_artifact(model, Metadata(name=name, labels=LABELS)))
    assert np.allclose(
        keras_files.probabilities(model, glyphs()),
        keras_files.probabilities(again, glyphs()),
        atol=1e-4,
    )


def test_the_shipped_model_comes_back_and_makes_the_same_file_again() -> None:
    shipped = load_model("reader@shipped")
    model = to_keras(shipped)
    again = convert.as_artifact(model, shipped.metadata)
    assert to_keras(again).count_params() == model.count_params()
    assert np.allclose(
        keras_files.probabilities(to_keras(again), glyphs()),
        keras_files.probabilities(model, glyphs()),
        atol=1e-5,
    )


def test_every_supported_operator_is_converted() -> None:
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((28, 28)),
            layers.Reshape((28, 28, 1)),
            layers.Conv2D(4, 5, strides=2, padding="same", activation="tanh"),
            layers.AveragePooling2D(2),
            layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2),
            layers.ReLU(max_value=6),
            layers.Conv2D(8, 3, padding="valid", dilation_rate=2),
            layers.BatchNormalization(),
            layers.Activation("hard_silu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(12, activation="sigmoid"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    again = to_keras(convert.as_artifact(shaken(model), Metadata(name="odd", labels=LABELS)))
    assert np.allclose(
        keras_files.probabilities(model, glyphs()),
        keras_files.probabilities(again, glyphs()),
        atol=1e-5,
    )


def test_it_can_be_trained_further() -> None:
    from digitry.training.data.dataset import Split
    from digitry.training.loop.train import train

    recipe = Recipe(name="tiny", architecture="conv", hidden=(4, 8), epochs=1, learning_rate=1e-3)
    first = convert.as_artifact(shaken(build(recipe, 10)), Metadata(name="tiny", labels=LABELS))
    rng = np.random.default_rng(2)
    split = Split(
        rng.integers(0, 256, (64, 28, 28)).astype(np.uint8),
        rng.integers(0, 10, 64).astype(np.uint8),
    )
    started = to_keras(first, dropout=0.25)
    before = [np.array(weight) for weight in started.get_weights()]
    trained = train(recipe, split, initial_model=lambda: started)
    moved = [
        float(np.abs(new - old).max())
        for new, old in zip(trained.model.get_weights(), before, strict=True)
    ]
    assert max(moved) > 0
    assert max(moved) < 0.2  # one step of Adam per weight, not a restart
    assert any(isinstance(layer, keras.layers.Dropout) for layer in trained.model.layers)
    # The trained model can be saved like any other.
    convert.as_artifact(trained.model, Metadata(name="tiny", labels=LABELS))


def test_a_graph_that_is_not_a_chain_is_refused_in_one_line(tmp_path: Path) -> None:
    layers = keras.layers
    inputs = layers.Input((28, 28))
    x = layers.Flatten()(inputs)
    branches = layers.Add()([layers.Dense(8)(x), layers.Dense(8)(x)])
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(branches))
    found = convert.as_artifact(model, Metadata(name="branched", labels=LABELS))
    with pytest.raises(ModelError, match="not a chain") as error:
        to_keras(found)
    assert "\n" not in str(error.value) and "train its recipe from scratch" in str(error.value)


def test_unsupported_attributes_are_refused(tmp_path: Path) -> None:
    model = keras.Sequential(
        [keras.layers.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")]
    )
    graph = onnx.load_model_from_string(to_onnx.to_onnx(model))
    (product,) = (node for node in graph.graph.node if node.op_type == "Gemm")
    product.attribute.append(helper.make_attribute("alpha", 0.5))
    found = artifact.save(
        tmp_path / "m.onnx", graph.SerializeToString(), Metadata(name="scaled", labels=LABELS)
    )
    with pytest.raises(ModelError, match="Gemm that scales"):
        to_keras(found)
