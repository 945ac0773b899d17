"""Retraining on corrections: what a model learns, what it keeps, and when it passes the gate."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from digitry.errors import DataError, ModelError, UsageError
from digitry.improve import gate as promotion
from digitry.improve import retrain
from digitry.improve.retrain import Corrected
from digitry.model.artifact import Artifact
from digitry.model.load import load_uncalibrated
from digitry.training import datasets, run_folder
from digitry.training.data import dataset
from digitry.training.data.dataset import WITH_CORRECTIONS, Dataset, Split, dataset_of
from digitry.training.recipes import RECIPES
from digitry.training.writing import pen

from .crossed import corrected, glyphs, page

SHIPPED = load_uncalibrated("reader@shipped")


def drawn_digits(count: int, seed: int) -> Split:
    """Return digits of our own hand in the form of MNIST's, 0 to 9 in turn."""
    rng = np.random.default_rng(seed)
    images = np.zeros((count, 28, 28), np.uint8)
    for index, image in enumerate(images):
        symbol = str(index % 10)
        lines = pen.wobble(pen.strokes_of(symbol, 0), rng, 0.5)
        ink = pen.draw(lines, 19, 2.2, rng)[:26, :26]
        top, left = (28 - ink.shape[0]) // 2, (28 - ink.shape[1]) // 2
        image[top : top + ink.shape[0], left : left + ink.shape[1]] = np.rint(255 * ink)
    return Split(images, np.arange(count, dtype=np.uint8) % 10)


@pytest.fixture(scope="module")
def little() -> Dataset:
    """A set like MNIST, drawn by our own code, of a few hundred digits."""
    return dataset_of("mnist", drawn_digits(240, 1), drawn_digits(100, 2), "ours", "drawn")


def rehearse_little(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Compose few glyphs, once, and rehearse few, so that it takes seconds."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    sizes = {
        "REHEARSAL_GLYPHS": 160,
        "VALIDATION_GLYPHS": 120,
        "REHEARSED_NON_DIGITS": 60,
        "REHEARSED_WRITTEN": 40,
        "REHEARSED_DIGITS": 80,
    }
    for name, size in sizes.items():
        monkeypatch.setattr(retrain, name, size)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, composed: Path) -> None:
    rehearse_little(monkeypatch, composed)


# --- what is held out ----------------------------------------------------------------------------------


def test_the_hash_of_an_image_decides_whether_it_is_held_out() -> None:
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (400, 28, 28)).astype(np.uint8)
    labels = rng.integers(0, 11, 400)
    learnt, held = corrected(images, labels).split()
    assert len(learnt) + len(held) == 400
    assert 0.2 < len(held) / 400 < 0.4
    # It does not depend on other corrections, their order, or the label.
    some = rng.permutation(400)[:150]
    fewer, asked = corrected(images[some], (labels[some] + 1) % 11).split()
    before = {image.tobytes() for image in learnt.images}
    assert {image.tobytes() for image in fewer.images} <= before
    assert not {image.tobytes() for image in asked.images} & before


def test_the_same_image_is_never_in_both_parts() -> None:
    image = np.full((1, 28, 28), 7, np.uint8)
    learnt, held = corrected(np.repeat(image, 9, axis=0), np.arange(9)).split()
    assert 0 in (len(learnt), len(held))


# --- the recipe ----------------------------------------------------------------------------------------


def test_a_model_is_retrained_with_its_recipe_at_a_lower_rate() -> None:
    made_by = SHIPPED.metadata.recipe
    recipe = retrain.recipe_for(SHIPPED, {"epochs": "3", "seed": "5"})
    assert recipe.name == "reader"
    # Lower than the recipe's peak rate.
    pace = RECIPES["glyph"].learning_rate
    assert recipe.learning_rate is not None and recipe.learning_rate < pace / 10
    assert list(recipe.hidden) == list(made_by["hidden"])
    assert (recipe.epochs, recipe.seed) == (3, 5)


def test_a_recipe_of_another_version_is_replaced() -> None:
    strange = replace(SHIPPED.metadata, recipe={"name": "reader", "depth": 9})
    recipe = retrain.recipe_for(replace(SHIPPED, metadata=strange), {})
    assert recipe.data == WITH_CORRECTIONS


@pytest.mark.parametrize("field", ["hidden", "data", "validation", "depth"])
def test_fields_fixed_by_the_model_cannot_be_set(field: str) -> None:
    with pytest.raises(UsageError, match="fixed by the model"):
        retrain.recipe_for(SHIPPED, {field: "8"})


# --- the training --------------------------------------------------------------------------------------


def test_the_hard_half_has_the_lowest_confidence() -> None:
    rng = np.random.default_rng(4)
    split = drawn_digits(60, 5)
    from digitry.reading.classifier import Classifier, softmax

    sure = softmax(Classifier(SHIPPED).logits(split.images.astype(np.float32) / np.float32(255)))
    chosen = retrain._half_hard(SHIPPED, split, 20, rng)
    assert len(chosen) == 20 and len({image.tobytes() for image in chosen.images}) == 20
    hard = chosen.images[:10]
    right = sure[np.arange(60), split.labels]
    limit = np.sort(right[right >= 0.5])[9]
    places = [next(i for i in range(60) if np.array_equal(split.images[i], one)) for one in hard]
    assert all(0.5 <= right[place] <= limit + 1e-6 for place in places)
    assert retrain._half_hard(SHIPPED, split, 60, rng) is split


@pytest.mark.usefixtures("small")
def test_retraining_gives_a_run_folder_a_model_and_a_verdict(
    little: Dataset, tmp_path: Path
) -> None:
    rng = np.random.default_rng(6)
    images = glyphs([page(rng) for _ in range(60)])
    done = retrain.retrain(
        SHIPPED, SHIPPED, corrected(images, np.zeros(60)), little, tmp_path / "run",
        settings={"epochs": "1"},
    )  # fmt: skip
    assert done.verdict is not None
    assert done.learnt + done.verdict.held == 60
    run = run_folder.load_run(tmp_path / "run")
    assert run.recipe.epochs == 1 and run.metrics["data"]["name"] == WITH_CORRECTIONS
    assert run.metrics["test"]["count"] == 100
    gate = json.loads((tmp_path / "run" / retrain.GATE).read_text())
    assert gate["parent_sha256"] == SHIPPED.sha256
    assert gate["reasons"] == list(done.verdict.reasons)
    assert done.model.metadata.name == "reader"
    assert done.model.sha256 != SHIPPED.sha256
    # The weights have changed, towards the corrections.
    assert 0 < done.step <= 1
    assert done.verdict.held_after >= done.verdict.held_before
    with pytest.raises(UsageError, match="not empty"):
        retrain.retrain(SHIPPED, SHIPPED, corrected(images, np.zeros(60)), little, tmp_path / "run")


@pytest.mark.usefixtures("small")
def test_the_smallest_step_that_keeps_the_gain_is_chosen(
    little: Dataset,
) -> None:
    from digitry.training.network.from_onnx import to_keras
    from digitry.training.network.keras_files import probabilities

    rng = np.random.default_rng(7)
    learnt = Split(glyphs([page(rng) for _ in range(12)]), np.zeros(12, np.uint8))
    model = to_keras(SHIPPED)
    old = [np.array(weight) for weight in model.get_weights()]
    # Weights so far away that nothing is read right.
    model.set_weights([weight + rng.normal(size=weight.shape) for weight in old])
    validation = retrain._composed(little.train.take(np.arange(20)), 100, None)
    step = retrain._interpolate(model, SHIPPED, learnt, validation)
    assert step == min(retrain.STEPS)

    # Without any change, the smallest step is chosen.
    model.set_weights(old)
    assert retrain._interpolate(model, SHIPPED, learnt, validation) == min(retrain.STEPS)
    images = validation.images.astype(np.float32) / 255
    assert np.allclose(probabilities(model, images), probabilities(to_keras(SHIPPED), images))


def test_if_every_step_loses_corrections_the_one_that_loses_least_is_chosen(
    little: Dataset,
) -> None:
    from digitry.training.network.from_onnx import to_keras

    rng = np.random.default_rng(8)
    images, labels = little.train.images[:40], little.train.labels[:40]
    model = to_keras(SHIPPED)
    model.set_weights([w + 3 * rng.normal(size=w.shape) for w in model.get_weights()])
    # These labels are wrong, so no model reads them and nothing can be lost.
    unknown = Split(images, (labels + 1) % 10)
    step = retrain._interpolate(model, SHIPPED, Split(images, labels), unknown)
    assert step in retrain.STEPS


def test_invalid_corrections_and_models_are_refused_in_one_line(
    little: Dataset, tmp_path: Path
) -> None:
    none = Corrected(np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.uint8), ())
    with pytest.raises(DataError, match="none is left to train on"):
        retrain.retrain(SHIPPED, SHIPPED, none, little, tmp_path / "run")
    facts = replace(SHIPPED.metadata, labels=SHIPPED.metadata.labels[:10])
    ten = Artifact(SHIPPED.onnx, facts, SHIPPED.sha256, "ten")
    one = corrected(np.zeros((1, 28, 28), np.uint8), np.zeros(1))
    with pytest.raises(ModelError, match="no class `not a digit`"):
        retrain.retrain(ten, ten, one, little, tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- wrong labels --------------------------------------------------------------------------------------


def with_wrong_labels(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make one label in ten a wrong one: another digit, or no digit."""
    spoiled = labels.copy()
    places = rng.permutation(len(labels))[: len(labels) // 10]
    spoiled[places] = (labels[places] + rng.integers(1, 11, len(places))) % 11
    return spoiled


def poisoned(seed: int, mnist: Dataset) -> tuple[Corrected, Split]:
    """500 corrections, one in ten wrong, and as many right ones to judge by.

    Those of an even seed are digits as MNIST has them, of which there is nothing to learn; those of an
    odd one are half digits, half noughts that the reader does not know.
    """
    rng = np.random.default_rng(seed)
    # From images that no model was trained on.
    part = dataset.hold_out(mnist.train, 1 / 12)[1]
    chosen = rng.permutation(len(part))[:1000]
    seen = promotion.frozen_set(part.take(chosen))
    images, labels = seen.images.copy(), seen.labels.copy()
    if seed % 2:
        images[::2] = glyphs([page(rng, "crossed") for _ in range(500)])
        labels[::2] = 0
    said = with_wrong_labels(labels[:500], rng)
    return corrected(images[:500], said), Split(images[500:], labels[500:])


def share_right(model: Artifact, split: Split) -> float:
    gate_images = promotion.GateImages(split, split.images[:0], split.take(np.arange(0)))
    return float((promotion.predict(model, gate_images).frozen == split.labels).mean())


def no_worse_is_promoted(seed: int, mnist: Dataset, folder: Path) -> tuple[bool, str]:
    """Teach the wrong labels, too; what is let through must be no worse on labels that are right."""
    given, clean = poisoned(seed, mnist)
    done = retrain.retrain(
        SHIPPED, SHIPPED, given, mnist, folder, settings={"seed": str(seed)},
        only=frozenset({"summary.txt"}),
    )  # fmt: skip
    assert done.verdict is not None
    right = [share_right(model, clean) for model in (SHIPPED, done.model)]
    line = (
        f"seed {seed}: {'promoted' if done.verdict.passed else 'kept back'}, right labels "
        f"{right[0]:.4f} -> {right[1]:.4f}, step {done.step}: {done.verdict.summary}"
    )
    if done.verdict.passed:
        assert right[1] >= right[0], line
        fell = done.verdict.frozen_before - done.verdict.frozen_after
        assert fell <= promotion.MOST_LOST + 1e-9, line
    return done.verdict.passed, line


@pytest.mark.usefixtures("small")
def test_of_wrong_labels_no_worse_model_is_promoted(little: Dataset, tmp_path: Path) -> None:
    """The same as below in small: 200 digits that are read right, one label in ten wrong."""
    rng = np.random.default_rng(8)
    digits = drawn_digits(200, 9)
    given = corrected(promotion.frozen_set(digits).images, with_wrong_labels(digits.labels, rng))
    done = retrain.retrain(
        SHIPPED, SHIPPED, given, little, tmp_path / "run", settings={"epochs": "1"},
        only=frozenset({"summary.txt"}),
    )  # fmt: skip
    assert done.verdict is not None and not done.verdict.passed
    assert "held-out corrections" in done.verdict.summary


@pytest.mark.slow
@pytest.mark.data
def test_of_500_corrections_with_50_wrong_ones_no_worse_model_is_promoted_over_10_seeds(
    mnist_dir: Path, tmp_path: Path
) -> None:
    mnist = datasets.load_dataset("mnist", data_dir=mnist_dir)
    outcomes = [no_worse_is_promoted(seed, mnist, tmp_path / str(seed)) for seed in range(10)]
    print("\n".join(line for _, line in outcomes))
    # If there is nothing to learn, no model may pass.
    assert not any(passed for passed, _ in outcomes[::2])
