"""A run can start from a trained model, with its layers or more, and its files name that model."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from digitry.errors import ModelError
from digitry.model.load import load_model
from digitry.training import run, run_folder
from digitry.training.data.dataset import Dataset, Split
from digitry.training.loop.start_from import parent_of
from digitry.training.network.build import keras
from digitry.training.recipes import Recipe
from digitry.training.run_folder import Run

RECIPE = Recipe(
    name="small", architecture="conv", hidden=(4, 8), head="flatten", dropout=0.2, epochs=3,
    batch_size=20, validation=0.2, learning_rate=0.01, data="bars",
)  # fmt: skip
AGAIN = dataclasses.replace(RECIPE, epochs=2, dropout=0.0, learning_rate=1e-9)
"""Changes next to nothing, so that what is found at the end is what it began with."""


def bars(count: int, seed: int) -> Split:
    """Bars at ten heights: the label is the height."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count).astype(np.uint8)
    images = np.zeros((count, 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 + 2 * label : 5 + 2 * label, 4:24] = 255
    return Split(images, labels)


DATA = Dataset("bars", bars(200, 1), bars(80, 2), "6" * 64, "free", "drawn here")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run.train_run(RECIPE, DATA, tmp_path_factory.mktemp("runs") / "first", device="cpu")


@pytest.mark.parametrize("name", ["", "model.keras", "model.h5", "model.onnx"])
def test_training_starts_from_the_weights_of_the_model(
    first: Run, tmp_path: Path, name: str
) -> None:
    parent = parent_of(str(first.folder / name), AGAIN)
    again = run.train_run(AGAIN, DATA, tmp_path / "again", device="cpu", parent=parent)
    assert first.test.accuracy > 0.5
    assert again.test.accuracy == pytest.approx(first.test.accuracy, abs=0.15)
    anew = run.train_run(AGAIN, DATA, tmp_path / "anew", device="cpu")
    assert anew.test.accuracy < 0.4


@pytest.mark.parametrize("name", ["model.keras", "model.onnx"])
@pytest.mark.parametrize("channels", [(4, 8, 16), (4, 8, 8)], ids=["pooled", "as they are"])
def test_a_network_may_go_deeper_than_its_parent(
    first: Run, name: str, channels: tuple[int, ...]
) -> None:
    """The convolutions of the parent give what they gave; what is behind them is new."""

    def up_to(model: keras.Model, layer: int) -> np.ndarray:
        shown = DATA.test.images[:8] / np.float32(255)
        part = keras.Model(model.inputs[0], model.layers[layer].output)
        return keras.ops.convert_to_numpy(part(shown))

    file = str(first.folder / name)
    deeper = parent_of(file, dataclasses.replace(AGAIN, hidden=channels)).build()
    parent = parent_of(file, AGAIN).build()
    kinds = [[type(layer).__name__ for layer in model.layers] for model in (parent, deeper)]
    wanted = up_to(parent, kinds[0].index("Flatten") - 1)
    if channels[2] > channels[1]:
        # Before the normalisation or behind it and its ReLU: the learned scales are positive here.
        wanted = keras.ops.convert_to_numpy(keras.layers.MaxPooling2D(2)(wanted))
    third = [i for i, kind in enumerate(kinds[1]) if kind == "Conv2D"][2]
    np.testing.assert_allclose(up_to(deeper, third - 1), wanted, atol=1e-5)
    assert deeper.layers[third].kernel.shape[2:] == channels[1:]


@pytest.mark.parametrize("name", ["model.keras", "model.onnx"])
def test_what_went_deeper_is_saved_and_goes_deeper_again(
    first: Run, tmp_path: Path, name: str
) -> None:
    deep = dataclasses.replace(AGAIN, hidden=(4, 8, 16))
    parent = parent_of(str(first.folder / name), deep)
    again = run.train_run(deep, DATA, tmp_path / "again", device="cpu", parent=parent)
    assert load_model(again.folder).metadata.recipe["hidden"] == [4, 8, 16]
    if name == "model.keras":
        kept, trained = (keras.saving.load_model(one.folder / name) for one in (again, first))
        for layer in range(2):
            convolutions = [
                [part for part in model.layers if type(part).__name__ == "Conv2D"][layer].kernel
                for model in (kept, trained)
            ]
            found, wanted = map(keras.ops.convert_to_numpy, convolutions)
            np.testing.assert_allclose(found, wanted, atol=1e-4)
    deeper = dataclasses.replace(deep, hidden=(4, 8, 16, 16))
    assert len(parent_of(str(again.folder / name), deeper).build().layers) > len(deep.hidden)


def test_the_files_name_the_parent_and_a_resumed_run_needs_it(first: Run, tmp_path: Path) -> None:
    class Halt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            if epoch == 1:
                raise RuntimeError("power cut")

    parent = parent_of(str(first.folder), AGAIN)
    whole = run.train_run(AGAIN, DATA, tmp_path / "whole", device="cpu", parent=parent)
    assert load_model(whole.folder).metadata.data["parent"] == parent.sha256
    cut = tmp_path / "cut"
    with pytest.raises(RuntimeError, match="power cut"):
        run.train_run(AGAIN, DATA, cut, device="cpu", parent=parent, callbacks=[Halt()])
    begun = run_folder.load_arguments(cut)
    assert begun.parent == str((first.folder / "model.keras").resolve())
    with pytest.raises(ModelError, match="is not the parent that the run started with"):
        run.resume_run(_with_another_parent(cut, tmp_path / "other"), DATA)
    resumed = run.resume_run(cut, DATA)
    sums = [(one.folder / "model.onnx").read_bytes()[:1000] for one in (whole, resumed)]
    assert sums[0] == sums[1]
    models = [keras.saving.load_model(one.folder / "model.keras") for one in (whole, resumed)]
    for a, b in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def _with_another_parent(cut: Path, folder: Path) -> Path:
    """Copy an interrupted run, with another sha256 of its parent."""
    shutil.copytree(cut, folder)
    facts = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**facts, "parent_sha256": "0" * 64}))
    return folder


def test_a_run_with_only_its_model_file_can_be_a_parent(first: Run, tmp_path: Path) -> None:
    for name in ("recipe.json", "run.json", "model.onnx"):
        (tmp_path / name).write_bytes((first.folder / name).read_bytes())
    assert parent_of(str(tmp_path), AGAIN).place == str((tmp_path / "model.onnx").resolve())


def test_a_model_with_other_layers_is_refused_with_a_reason(first: Run, tmp_path: Path) -> None:
    other = dataclasses.replace(AGAIN, hidden=(4, 16))
    with pytest.raises(ModelError, match=r"hidden is \[4, 8\] in the model, but \[4, 16\] in"):
        parent_of(str(first.folder / "model.onnx"), other)
    parent = parent_of(str(first.folder / "model.keras"), other)
    with pytest.raises(
        ModelError, match=r"model\.keras: its layers differ from those of recipe small; use"
    ):
        parent.build()
    # All weights have the same shapes as the trained ones, but the function differs.
    moved = dataclasses.replace(AGAIN, head="average", pools=(1,))
    elsewhere = run.train_run(
        dataclasses.replace(moved, pools=(2,), epochs=1), DATA, tmp_path / "moved", device="cpu"
    )
    with pytest.raises(ModelError, match="its layers differ from those of recipe small"):
        parent_of(str(elsewhere.folder), moved).build()
    with pytest.raises(ModelError, match="no such model"):
        parent_of(str(tmp_path / "none.onnx"), AGAIN)


def test_the_shipped_reader_can_be_a_parent() -> None:
    from digitry.training.recipes import RECIPES

    parent = parent_of("reader@shipped", RECIPES["glyph"])
    assert parent.place == "reader@shipped"
    assert parent.build().output_shape == (None, 11)
