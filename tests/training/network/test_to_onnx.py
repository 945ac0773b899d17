"""The three files of a model give the same results, or none of them is written."""

import dataclasses
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from digitry.errors import DigitryError, ModelError
from digitry.model import onnx_check
from digitry.model.artifact import Metadata
from digitry.model.load import load_model
from digitry.training.datasets import load_dataset
from digitry.training.loop.train import train
from digitry.training.network import keras_files, to_onnx
from digitry.training.network.build import build, keras
from digitry.training.recipes import RECIPES, Recipe

from ...waiting import PATIENCE_S

LABELS = tuple(str(digit) for digit in range(10))
CONV = Recipe(name="conv", architecture="conv", hidden=(4, 4, 8), dropout=0.2)
MODELS = [*RECIPES.values(), CONV, dataclasses.replace(CONV, name="conv-flat", head="flatten")]

layers = keras.layers


def facts(name: str = "test") -> Metadata:
    return Metadata(name=name, labels=LABELS)


def glyphs(count: int = 64) -> np.ndarray:
    return np.random.default_rng(0).random((count, 28, 28), np.float32)


def shaken(model: keras.Model) -> keras.Model:
    """Return it with a value of its own in every variable, moving statistics included."""
    rng = np.random.default_rng(1)
    for variable in model.weights:
        if "seed" in variable.path:
            continue
        values = variable.value.numpy(force=True) + rng.normal(0, 0.1, variable.shape)
        variable.assign(np.abs(values) if "variance" in variable.path else values)
    return model


def run(content: bytes, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    logits, probabilities = session.run(["logits", "probabilities"], {"glyphs": images})
    return logits, probabilities


def operators(content: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_model_from_string(content).graph.node]


@pytest.mark.parametrize("recipe", MODELS, ids=lambda recipe: recipe.name)
def test_onnx_is_keras(recipe: Recipe) -> None:
    model = shaken(build(recipe, 10))
    content = to_onnx.to_onnx(model)
    for count in (1, 7, 64):
        logits, probabilities = run(content, glyphs(count))
        expected = keras_files.probabilities(model, glyphs(count))
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)
        powers = np.exp(logits - logits.max(-1, keepdims=True))
        np.testing.assert_allclose(powers / powers.sum(-1, keepdims=True), expected, atol=1e-5)
    assert set(operators(content)) <= onnx_check.OPERATORS


def test_normalisation_behind_a_convolution_or_a_product_is_folded_away() -> None:
    assert operators(to_onnx.to_onnx(shaken(build(CONV, 10)))).count("BatchNormalization") == 1
    same = dataclasses.replace(CONV, hidden=(4, 4))
    assert "BatchNormalization" not in operators(to_onnx.to_onnx(shaken(build(same, 10))))
    dense = [layers.Flatten(), layers.Dense(8), layers.BatchNormalization(), layers.ReLU()]
    model = shaken(keras.Sequential([layers.Input((28, 28)), *dense, softmax()]))
    content = to_onnx.to_onnx(model)
    assert operators(content) == ["Flatten", "Gemm", "Relu", "Gemm", "Identity", "Softmax"]
    expected = keras_files.probabilities(model, glyphs())
    np.testing.assert_allclose(run(content, glyphs())[1], expected, atol=1e-5)


def softmax() -> keras.Layer:
    return layers.Dense(10, activation="softmax")


def residual() -> keras.Model:
    start = layers.Input((28, 28))
    x = layers.Reshape((28, 28, 1))(start)
    x = layers.Rescaling(2.0, offset=-1.0)(x)
    x = layers.Conv2D(6, 5, strides=2, padding="same", activation="relu")(x)
    y = layers.Conv2D(6, 3, padding="same", use_bias=False)(x)
    y = layers.BatchNormalization()(y)
    # Used twice, so normalisation must not be folded into it.
    z = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=1)(y)
    z = layers.BatchNormalization(scale=False)(z)
    x = layers.Add()([x, y, z])
    x = layers.Activation("silu")(x)
    x = layers.Concatenate()([x, layers.SpatialDropout2D(0.1)(y)])
    x = layers.AveragePooling2D(3, strides=2)(x)
    x = layers.Conv2D(8, (3, 2), dilation_rate=2, padding="same", groups=4)(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(8, 1, activation="sigmoid")(gate)
    x = layers.Multiply()([x, gate])
    x = layers.MaxPooling2D(2, padding="same")(x)
    both = [layers.GlobalMaxPooling2D()(x), layers.Flatten()(x)]
    x = layers.Dropout(0.2)(layers.Concatenate()(both))
    x = layers.Dense(12, activation="tanh")(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU(max_value=6.0)(x)
    return keras.Model(start, layers.Softmax()(layers.Dense(10)(x)))


def test_a_residual_model_with_every_kind_of_layer_is_exported() -> None:
    model = shaken(residual())
    content = to_onnx.to_onnx(model)
    expected = keras_files.probabilities(model, glyphs())
    np.testing.assert_allclose(run(content, glyphs())[1], expected, atol=1e-5)
    assert set(operators(content)) <= onnx_check.OPERATORS


def stack(*middle: keras.Layer) -> keras.Model:
    return keras.Sequential([layers.Input((28, 28)), *middle, softmax()])


class Odd(layers.Dense):
    """A subclass may do anything."""


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: stack(layers.Flatten(), layers.LayerNormalization()), "LayerNormalization"),
        (lambda: stack(layers.Flatten(), Odd(3)), "layer Odd"),
        (lambda: stack(layers.Flatten(), layers.Dense(3, activation="gelu")), "gelu"),
        (lambda: stack(layers.Dense(3), layers.Flatten()), "input is not .n, features."),
        (
            lambda: stack(layers.Flatten(), layers.Dense(4, activation="softmax")),
            "not the last step",
        ),
        (lambda: stack(layers.Flatten(), layers.ReLU(negative_slope=0.1)), "slope"),
        (
            lambda: keras.Sequential([layers.Input((28, 28, 3)), layers.Flatten(), softmax()]),
            "whose input is",
        ),
        (lambda: stack(layers.Flatten(), layers.Dense(3, dtype="float16")), "float16"),
        (
            lambda: stack(
                layers.Reshape((28, 28, 1)),
                layers.AveragePooling2D(3, padding="same"),
                layers.Flatten(),
            ),
            "differs between Keras' backends",
        ),
    ],
)
def test_unsupported_layers_are_refused(model, reason: str) -> None:
    with pytest.raises(ModelError, match=rf"{reason}.*cannot be exported to ONNX"):
        to_onnx.to_onnx(model())


@pytest.mark.parametrize("recipe", MODELS, ids=lambda recipe: recipe.name)
def test_all_three_files_are_written_and_agree(recipe: Recipe, tmp_path: Path) -> None:
    model = shaken(build(recipe, 10))
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    keras_files.save_formats(model, tmp_path, facts(recipe.name), glyphs())
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model.h5",
        "model.keras",
        "model.onnx",
    ]
    assert load_model(tmp_path).metadata.name == recipe.name
    expected = keras_files.probabilities(model, glyphs())
    for name in ("model.keras", "model.h5"):
        loaded = keras.saving.load_model(tmp_path / name)
        np.testing.assert_allclose(keras_files.probabilities(loaded, glyphs()), expected, atol=1e-5)


@pytest.mark.parametrize("broken", ["keras", "h5", "onnx"])
def test_files_that_disagree_leave_the_old_ones(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keras_files.save_formats(build(RECIPES["dense-128"], 10), tmp_path, facts(), glyphs(8))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    real = keras.saving.load_model

    def load_model(path: Path, **options: object) -> keras.Model:
        model = real(path, **options)
        return shaken(model) if path.suffix == f".{broken}" else model

    monkeypatch.setattr(keras.saving, "load_model", load_model)
    if broken == "onnx":
        other = to_onnx.to_onnx(shaken(build(CONV, 10)))
        monkeypatch.setattr(keras_files, "to_onnx", lambda model: other)
    with pytest.raises(ModelError, match=rf"model\.{broken}: gives probabilities that differ"):
        keras_files.save_formats(build(CONV, 10), tmp_path, facts(), glyphs(8))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_nan_counts_as_a_difference(tmp_path: Path) -> None:
    a = np.array([[0.5, 0.5]], np.float32)
    with pytest.raises(ModelError, match="differ by nan"):
        keras_files._agree(a, a * np.float32(np.nan), tmp_path / "model.h5")


def test_a_model_with_nan_weights_is_not_saved(tmp_path: Path) -> None:
    model = build(RECIPES["dense-128"], 10)
    model.layers[1].kernel.assign(np.full((784, 128), np.nan))
    with pytest.raises(ModelError, match="weights that are not finite"):
        keras_files.save_formats(model, tmp_path, facts(), glyphs(4))
    assert not list(tmp_path.iterdir())


def test_labels_within_the_tolerance_must_be_the_same(tmp_path: Path) -> None:
    a = np.array([[0.500001, 0.499999]], np.float32)
    with pytest.raises(ModelError, match="different labels"):
        keras_files._agree(a, a[:, ::-1], tmp_path / "model.h5")


def test_a_folder_that_cannot_be_made_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DigitryError, match="cannot be written"):
        model = build(RECIPES["dense-128"], 10)
        keras_files.save_formats(model, tmp_path / "file" / "run", facts(), glyphs(4))


def test_only_the_warning_about_h5_is_suppressed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("absl")
    monkey = logger.propagate
    logger.propagate = True
    try:
        with caplog.at_level(logging.WARNING):
            keras_files.save_formats(build(RECIPES["dense-128"], 10), tmp_path, facts(), glyphs(4))
            assert not caplog.records
            logger.warning("something else")
            build(RECIPES["dense-128"], 10).save(tmp_path / "other.h5")
    finally:
        logger.propagate = monkey
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0] == "something else"
    assert "HDF5" in messages[1]


def test_the_keras_files_load_in_plain_keras_on_another_backend_which_does_not_train(
    tmp_path: Path,
) -> None:
    pytest.importorskip("jax")
    models = {"dense": RECIPES["dense-128-64"], "conv": CONV}
    for name, recipe in models.items():
        model = shaken(build(recipe, 10))
        model.compile(optimizer="rmsprop", loss="categorical_crossentropy", metrics=["accuracy"])
        keras_files.save_formats(model, tmp_path / name, facts(), glyphs())
        np.save(tmp_path / f"{name}.npy", keras_files.probabilities(model, glyphs()))
    np.save(tmp_path / "glyphs.npy", glyphs())
    script = """
        import sys
        # Keras' own wrappers for it are of no use here, and take seconds to import.
        sys.modules["sklearn"] = None
        import keras, numpy as np
        assert keras.backend.backend() == "jax"
        for name in ("dense", "conv"):
            expected = np.load(f"{sys.argv[1]}/{name}.npy")
            for ending in ("keras", "h5"):
                model = keras.saving.load_model(f"{sys.argv[1]}/{name}/model.{ending}")
                found = model.predict(np.load(f"{sys.argv[1]}/glyphs.npy"), verbose=0)
                print(bool(np.abs(found - expected).max() < 1e-5))
        import digitry.training.network.build
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        # XLA would take longer to compile than the models to run.
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
        },
    )
    assert done.stdout.split() == ["True"] * 4, done.stderr
    assert "UnavailableError: Keras already uses the backend 'jax'" in done.stderr


def test_exporting_leaves_the_model_as_it_was() -> None:
    model = shaken(build(CONV, 10))
    before = [variable.value.detach().clone() for variable in model.weights]
    to_onnx.to_onnx(model)
    assert all(torch.equal(a, b.value) for a, b in zip(before, model.weights, strict=True))


@pytest.mark.data
def test_on_all_of_mnists_test_images_the_formats_agree(tmp_path: Path, mnist_dir: Path) -> None:
    data = load_dataset("mnist", data_dir=mnist_dir, offline=True)
    trained = train(dataclasses.replace(RECIPES["dense-128"], epochs=1), data.train, device="cpu")
    images = data.test.images / np.float32(255)
    keras_files.save_formats(trained.model, tmp_path, facts(), images)
    right = keras_files.probabilities(trained.model, images).argmax(-1) == data.test.labels
    assert right.mean() > 0.93
