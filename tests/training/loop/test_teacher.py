"""A student learns a teacher's probabilities beside the labels, and its files name the teacher."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from digitry.errors import ModelError, UsageError
from digitry.model import artifact
from digitry.model.artifact import NOT_A_DIGIT, Artifact, Metadata
from digitry.model.load import load_model
from digitry.reading.classifier import Classifier, softmax
from digitry.training import run, run_folder
from digitry.training.data.dataset import Dataset, Split
from digitry.training.loop import teacher as distillation
from digitry.training.loop.train import train
from digitry.training.network import keras_files, to_onnx
from digitry.training.network.build import build, keras
from digitry.training.recipes import Recipe

LABELS = (*(str(digit) for digit in range(10)), NOT_A_DIGIT)
TINY = Recipe(name="tiny", hidden=(16,), batch_size=32, epochs=3, learning_rate=0.01)
STUDENT = dataclasses.replace(TINY, distil=0.25)


def digits(count: int, seed: int = 0) -> Split:
    """Images of noise in which one bright square tells the digit."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 10, count).astype(np.uint8)
    images = random.integers(0, 90, (count, 28, 28)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 4)
        image[7 * row : 7 * row + 6, 7 * column : 7 * column + 6] = 255
    return Split(images, labels)


def weights(model: keras.Model) -> list[np.ndarray]:
    return [variable.value.numpy(force=True).copy() for variable in model.weights]


def make(path: Path, classes: int = 10, seed: int = 0, temperature: float = 1.0) -> Artifact:
    model = build(Recipe(name="teacher", hidden=(8,), seed=seed), classes)
    facts = Metadata(name="teacher", labels=LABELS[:classes], temperature=temperature)
    artifact.save(path, to_onnx.to_onnx(model), facts)
    return load_model(path)


def test_targets_are_labels_mixed_with_the_teachers_calibrated_probabilities(
    tmp_path: Path,
) -> None:
    teacher, split = make(tmp_path / "teacher.onnx", temperature=2.0), digits(30)
    said = Classifier(teacher).probabilities(split.images / np.float32(255))
    found = distillation.targets(teacher, split, 0.25)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 0.75 * np.eye(10)[split.labels] + 0.25 * said, atol=1e-6)


def test_a_teacher_with_non_digits_is_limited_to_the_digits(
    tmp_path: Path,
) -> None:
    teacher, split = make(tmp_path / "teacher.onnx", classes=11), digits(30)
    logits = Classifier(teacher).logits(split.images / np.float32(255))
    found = distillation.targets(teacher, split, 0.5)
    expected = 0.5 * np.eye(10)[split.labels] + 0.5 * softmax(logits[:, :10])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)


def test_a_teacher_of_digits_only_leaves_non_digits_their_label(tmp_path: Path) -> None:
    teacher, split = make(tmp_path / "teacher.onnx"), digits(30)
    odd = split.labels == 3
    split = Split(split.images, np.where(odd, 10, split.labels).astype(np.uint8))
    found = distillation.targets(teacher, split, 0.5)
    np.testing.assert_array_equal(found[odd], np.eye(11)[[10] * odd.sum()])
    said = Classifier(teacher).probabilities(split.images / np.float32(255))
    expected = 0.5 * np.eye(10)[split.labels[~odd]] + 0.5 * said[~odd]
    np.testing.assert_allclose(found[~odd, :10], expected, atol=1e-6)
    np.testing.assert_array_equal(found[~odd, 10], 0)


def test_targets_equal_to_the_labels_train_the_same_model() -> None:
    split = digits(200)
    recipe = dataclasses.replace(TINY, validation=0.1, label_smoothing=0.1, epochs=2)
    plain = train(recipe, split, device="cpu")
    same = np.eye(10, dtype=np.float32)[split.labels]
    taught = train(dataclasses.replace(recipe, distil=0.5), split, device="cpu", targets=same)
    for a, b in zip(weights(taught.model), weights(plain.model), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert taught.history[-1].accuracy == pytest.approx(plain.history[-1].accuracy)


def test_targets_are_trained_on_and_labels_are_scored() -> None:
    split = digits(400)
    next_one = np.eye(10, dtype=np.float32)[(split.labels + 1) % 10]
    recipe = dataclasses.replace(STUDENT, epochs=15, augment="light", hidden=(32,))
    trained = train(recipe, split, device="cpu", targets=next_one)
    said = keras_files.probabilities(trained.model, split.images / np.float32(255)).argmax(-1)
    assert (said == (split.labels + 1) % 10).mean() > 0.9
    assert trained.history[-1].accuracy < 0.1


def test_distil_without_a_teacher_and_a_teacher_without_distil_are_refused() -> None:
    split = digits(40)
    with pytest.raises(UsageError, match=r"recipe tiny: distil is 0.25, but no teacher is given"):
        train(STUDENT, split, device="cpu")
    soft = np.full((40, 10), 0.1, np.float32)
    with pytest.raises(UsageError, match=r"distil is 0, but a teacher is given; name a teacher"):
        train(TINY, split, device="cpu", targets=soft)


# --- in a run ----------------------------------------------------------------------------------------

DATA = Dataset("squares", digits(200, 1), digits(60, 2), "5" * 64, "free", "drawn here")
RECIPE = dataclasses.replace(STUDENT, validation=0.2, dropout=0.1, data="squares")


class Halt(keras.callbacks.Callback):
    """Stops the process, as far as the run can tell, when the first epoch ends."""

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        if epoch == 1:
            raise RuntimeError("power cut")


def test_the_files_name_the_teacher_and_a_resumed_run_needs_it(tmp_path: Path) -> None:
    teacher = make(tmp_path / "teacher.onnx")
    whole = run.train_run(RECIPE, DATA, tmp_path / "whole", device="cpu", teacher=teacher)
    facts = load_model(whole.folder).metadata
    assert facts.data == {"squares": "5" * 64, "teacher": teacher.sha256}
    assert facts.recipe["distil"] == 0.25

    with pytest.raises(RuntimeError, match="power cut"):
        run.train_run(
            RECIPE, DATA, tmp_path / "cut", device="cpu", teacher=teacher, callbacks=[Halt()]
        )
    begun = run_folder.load_arguments(tmp_path / "cut")
    assert begun.teacher == str((tmp_path / "teacher.onnx").resolve())
    make(tmp_path / "teacher.onnx", seed=1)
    with pytest.raises(
        ModelError, match=r"teacher\.onnx: is not the teacher that the run started with"
    ):
        run.resume_run(tmp_path / "cut", DATA)
    (tmp_path / "teacher.onnx").write_bytes(teacher.onnx)
    resumed = run.resume_run(tmp_path / "cut", DATA)
    models = [keras.saving.load_model(one.folder / "model.keras") for one in (whole, resumed)]
    for a, b in zip(weights(models[0]), weights(models[1]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_without_a_teacher_says_so(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, distil=0.0, epochs=1)
    done = run.train_run(recipe, DATA, tmp_path / "plain", device="cpu")
    assert run_folder.load_arguments(done.folder).teacher is None
    assert load_model(done.folder).metadata.data == {"squares": "5" * 64}
