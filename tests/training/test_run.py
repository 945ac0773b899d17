"""The files of a run folder: training, saving, scoring, resuming, reading."""

import json
import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from digitry.errors import DataError, ModelError, UsageError
from digitry.model.load import load_model
from digitry.training import run, run_folder
from digitry.training.data.dataset import Dataset, Split, hold_out
from digitry.training.evaluation import scores
from digitry.training.network import convert, keras_files
from digitry.training.network.build import keras
from digitry.training.network.summary import summary_of
from digitry.training.recipes import Recipe
from digitry.training.run_folder import OUTPUTS, PLOTS, RECORDS, Run

RECIPE = Recipe(name="trial", hidden=(8,), batch_size=20, epochs=2, validation=0.2, data="squares")


def squares(count: int, seed: int) -> Split:
    """Images of noise in which one bright square tells the digit."""
    random = np.random.default_rng(seed)
    labels = (np.arange(count) % 10).astype(np.uint8)
    images = random.integers(0, 90, (count, 28, 28)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 4)
        image[7 * row : 7 * row + 6, 7 * column : 7 * column + 6] = 255
    return Split(images, labels)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Dataset("squares", squares(200, 1), squares(80, 2), "5" * 64, "free", "drawn here")


@pytest.fixture(scope="module")
def trained(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run.train_run(RECIPE, dataset, tmp_path_factory.mktemp("runs") / "whole")


class CtrlC(keras.callbacks.Callback):
    """Presses Ctrl-C when an epoch ends."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch + 1 == self.epoch:
            os.kill(os.getpid(), signal.SIGINT)


def test_every_file_is_there_and_the_checkpoint_is_gone(trained: Run) -> None:
    found = {path.name for path in trained.folder.iterdir()}
    assert found == {*RECORDS, *OUTPUTS} - {*PLOTS, "report.html"}


def test_metrics_have_their_documented_fields(trained: Run) -> None:
    metrics = json.loads((trained.folder / "metrics.json").read_text())
    assert list(metrics)[:5] == ["recipe", "test", "validation", "fit_seconds", "total_seconds"]
    assert {"loss", "accuracy", "ece"} <= set(metrics["test"])
    assert metrics["interrupted"] is False
    assert 0 < metrics["fit_seconds"] <= metrics["total_seconds"]
    assert metrics["parameters"] == 784 * 8 + 8 + 8 * 10 + 10
    assert metrics["data"]["train_images"] == 200
    assert metrics["data"]["test_images"] == 80
    assert metrics["validation"]["count"] == 40
    assert [layer["kind"] for layer in metrics["layers"]] == [
        "InputLayer",
        "Flatten",
        "Dense",
        "Dense",
    ]
    names = [layer["name"] for layer in metrics["layers"]]
    assert [layer["inputs"] for layer in metrics["layers"]] == [
        [],
        *([name] for name in names[:-1]),
    ]
    assert sum(layer["parameters"] for layer in metrics["layers"]) == metrics["parameters"]


def test_a_run_is_read_back_as_it_was_written(trained: Run) -> None:
    again = run_folder.load_run(trained.folder)
    assert again == trained
    assert again.recipe == RECIPE
    assert [epoch.number for epoch in again.history] == [1, 2]
    lines = (trained.folder / "history.csv").read_text().splitlines()
    assert lines[0] == "epoch,loss,accuracy,val_loss,val_accuracy,learning_rate,seconds"
    assert len(lines) == 3


def test_the_numbers_are_those_of_the_file(trained: Run, dataset: Dataset) -> None:
    found, probabilities = scores.evaluate(trained.folder, dataset.test)
    assert found.confusion == trained.test.confusion
    assert found.loss == pytest.approx(trained.test.loss)
    assert found.calibrated_ece == pytest.approx(trained.test.calibrated_ece)
    said = run_folder.load_predictions(trained)
    assert said.probabilities == pytest.approx(probabilities)
    assert np.array_equal(said.labels, dataset.test.labels)
    assert said.test_sha256 == scores.fingerprint(dataset.test)
    example = trained.metrics["example"]
    assert example["actual"] == dataset.test.labels[0]
    assert example["predicted"] == probabilities[0].argmax()


def test_the_model_file_says_where_it_comes_from(trained: Run) -> None:
    metadata = load_model(trained.folder).metadata
    assert metadata.name == "trial"
    assert Recipe.from_dict(metadata.recipe) == RECIPE
    assert metadata.data == {"squares": "5" * 64}
    assert metadata.scores["squares/test/accuracy"] == trained.test.accuracy
    assert metadata.temperature == trained.test.temperature != 1
    assert metadata.risk_coverage[0][2] == 1.0
    assert metadata.created


def test_calibration_never_sees_the_test_images(trained: Run, dataset: Dataset) -> None:
    held_out = hold_out(dataset.train, 0.2)[1]
    found, _ = scores.evaluate(trained.folder, held_out)
    assert found.count == 40
    assert found.loss == pytest.approx(trained.metrics["validation"]["loss"])


def test_without_validation_nothing_is_calibrated(dataset: Dataset, tmp_path: Path) -> None:
    recipe = replace(RECIPE, validation=0.0, epochs=1)
    one = run.train_run(recipe, dataset, tmp_path / "run")
    assert one.metrics["validation"] is None
    assert one.test.temperature == 1
    assert one.history[0].val_loss is None
    metadata = load_model(tmp_path / "run").metadata
    assert metadata.temperature == 1
    assert metadata.risk_coverage == ()


def test_pictures_for_the_report_are_kept(trained: Run, dataset: Dataset) -> None:
    pictures = run_folder.load_pictures(trained)
    assert np.array_equal(pictures.samples, dataset.train.images[:20])
    assert np.array_equal(pictures.sample_labels, dataset.train.labels[:20])
    assert pictures.label_counts.tolist() == [20] * 10
    assert np.array_equal(pictures.mistakes, dataset.test.images[pictures.mistakes_index])
    assert np.array_equal(pictures.example, dataset.test.images[0])
    said = run_folder.load_predictions(trained).probabilities
    wrong = said.argmax(axis=1) != dataset.test.labels
    assert set(pictures.mistakes_index) <= set(np.flatnonzero(wrong))
    assert len(pictures.mistakes_index) == min(60, wrong.sum())


def test_only_narrows_what_is_written(dataset: Dataset, tmp_path: Path) -> None:
    only = run_folder.select(["loss", "model.h5"])
    assert only == {"loss.png", "model.h5"}
    run.train_run(replace(RECIPE, epochs=1), dataset, tmp_path / "run", only=only)
    found = {path.name for path in (tmp_path / "run").iterdir()}
    assert found == {*RECORDS, "model.h5"}
    assert list(json.loads((tmp_path / "run" / "metrics.json").read_text())["sha256"]) == [
        "model.h5"
    ]


def test_outputs_are_chosen_by_name_or_stem() -> None:
    assert run_folder.select(["model"]) == {"model.keras", "model.h5", "model.onnx"}
    assert run_folder.select(["report", "confusion.png"]) == {"report.html", "confusion.png"}
    assert run_folder.select(["metrics.json"]) == frozenset()  # always written
    with pytest.raises(UsageError, match="no output is called 'lossy'"):
        run_folder.select(["lossy"])


def test_an_interrupted_run_is_saved_and_can_be_resumed(dataset: Dataset, tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=3)
    folder = tmp_path / "run"
    first = run.train_run(recipe, dataset, folder, callbacks=[CtrlC(1)])
    assert first.metrics["interrupted"] is True
    assert len(first.history) == 1
    assert (folder / run_folder.CHECKPOINT).exists()
    assert not run_folder.is_finished(folder)
    assert scores.evaluate(folder, dataset.test)[0].accuracy == first.test.accuracy

    begun = run_folder.load_arguments(folder)
    assert begun.recipe == recipe
    second = run.resume_run(folder, dataset)
    assert second.metrics["interrupted"] is False
    assert len(second.history) == 3
    assert run_folder.is_finished(folder)
    assert not (folder / run_folder.CHECKPOINT).exists()
    unbroken = run.train_run(recipe, dataset, tmp_path / "unbroken")
    assert second.test == unbroken.test


def test_a_run_killed_before_its_checkpoint_starts_again(dataset: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "run"

    class Killed(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            raise RuntimeError("killed")

    recipe = replace(RECIPE, epochs=1)
    with pytest.raises(RuntimeError, match="killed"):
        run.train_run(recipe, dataset, folder, callbacks=[Killed()], data_dir=tmp_path)
    with pytest.raises(DataError, match=r"unfinished run; finish it with: digitry train --resume"):
        run_folder.load_run(folder)
    begun = run_folder.load_arguments(folder)
    assert (begun.data, begun.data_dir) == ("squares", str(tmp_path))
    assert len(run.resume_run(folder, dataset).history) == 1


def test_a_run_goes_on_with_its_own_data(trained: Run, dataset: Dataset, tmp_path: Path) -> None:
    changed = replace(dataset, sha256="6" * 64)
    with pytest.raises(DataError, match="other images"):
        run.resume_run(trained.folder, changed)
    with pytest.raises(DataError, match=r"run\.json"):
        run.resume_run(tmp_path, dataset)


def test_a_folder_that_is_not_empty_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all I have")
    with pytest.raises(UsageError, match="is not empty"):
        run.train_run(RECIPE, dataset, tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        run.train_run(RECIPE, dataset, tmp_path / "thesis.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_folders_are_named_by_recipe_and_time_and_never_taken_twice(tmp_path: Path) -> None:
    first = run_folder.default_folder(RECIPE.name, tmp_path)
    assert re.fullmatch(r"trial-\d{8}-\d{6}", first.name)
    for _ in range(3):
        folder = run_folder.default_folder(RECIPE.name, tmp_path)
        assert not folder.exists()
        folder.mkdir()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"history": 3, "test": {}}'])
def test_damaged_metrics_are_named(trained: Run, tmp_path: Path, content: str) -> None:
    (tmp_path / "recipe.json").write_bytes((trained.folder / "recipe.json").read_bytes())
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(DataError, match=r"metrics\.json"):
        run_folder.load_run(tmp_path)


def test_a_missing_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        run_folder.load_run(tmp_path / "absent")


def test_the_summary_names_every_layer_and_counts_the_model_alone(trained: Run) -> None:
    text = (trained.folder / "summary.txt").read_text()
    for column in ("Layer (type)", "Output Shape", "Param #", "Fed by"):
        assert column in text
    for layer in trained.metrics["layers"]:
        assert re.search(rf"{layer['name']} .*\) +{layer['parameters']:,} ", text)
    # 784 x 8 + 8 + 8 x 10 + 10, and none of the optimizer's.
    assert "\nTotal params: 6,370\n" in text
    assert "\nNon-trainable params: 0\n" in text


def test_the_summary_is_the_same_on_any_terminal(
    trained: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = keras_files.load_keras(trained.folder / "model.keras")
    monkeypatch.setenv("COLUMNS", "40")
    narrow = summary_of(model)
    monkeypatch.setenv("COLUMNS", "200")
    assert summary_of(model) == narrow
    assert "Param #" in narrow


def test_formats_are_converted_with_the_same_answers(
    trained: Run, dataset: Dataset, tmp_path: Path
) -> None:
    said = run_folder.load_predictions(trained).probabilities
    native = convert.convert(str(trained.folder), "keras", tmp_path / "a.keras")
    legacy = convert.convert(str(native), "h5", trust=True)
    graph = convert.convert(str(legacy), "onnx", trust=True)
    assert (native.name, legacy.name, graph.name) == ("a.keras", "a.h5", "a.onnx")
    for model in (native, legacy, graph):
        loaded = convert.load_artifact(str(model), trust=True)
        _, probabilities = scores.evaluate(loaded, dataset.test)
        assert probabilities == pytest.approx(said, abs=1e-5)
    whole = convert.convert(str(trained.folder), "onnx", tmp_path / "b.onnx")
    assert load_model(whole).metadata.temperature == trained.test.temperature


def test_what_cannot_be_converted_is_refused(trained: Run, tmp_path: Path) -> None:
    model = str(trained.folder / "model.onnx")
    with pytest.raises(UsageError, match="cannot be converted back to Keras"):
        convert.convert(model, "keras", tmp_path / "model.keras")
    with pytest.raises(UsageError, match="not a format"):
        convert.convert(model, "pmml")
    with pytest.raises(UsageError, match=r"does not end in \.h5"):
        convert.convert(str(trained.folder), "h5", tmp_path / "model.keras")
    with pytest.raises(ModelError, match="no such model"):
        convert.convert(str(tmp_path / "absent.keras"), "h5")
    other = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2)])
    other.save(tmp_path / "other.keras")
    with pytest.raises(ModelError, match=r"has the input \(None, 4\)"):
        convert.convert(str(tmp_path / "other.keras"), "onnx", trust=True)
