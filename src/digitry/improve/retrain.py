"""Trains a model further on corrections, without forgetting what it knew.

The default model is trained at a low learning rate on a mix: the corrections, repeated and augmented,
among many more glyphs of the kinds that it was trained on before (rehearsal; Robins 1995,
"Catastrophic forgetting, rehearsal and pseudorehearsal"). Half of these glyphs are those with the lowest
confidence, because they change class first when a boundary moves. Then the weights are interpolated
between the old and the new model, as close to the old one as the gain allows (Wortsman et al. 2022,
"Robust fine-tuning of zero-shot models", arxiv.org/abs/2109.01903). The step is chosen on glyphs that
no model was trained on, never on the gate's frozen set.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from digitry import files
from digitry.errors import DataError, ModelError, UsageError
from digitry.fingerprint import sha256_of
from digitry.improve import gate
from digitry.improve.gate import GateImages, GlyphVerdict
from digitry.model.artifact import MODEL_FILE, NOT_A_DIGIT, NOT_A_DIGIT_CLASS, Artifact
from digitry.model.load import load_uncalibrated
from digitry.reading import glyph
from digitry.reading.classifier import Classifier, softmax
from digitry.training import recipes
from digitry.training.data.dataset import WITH_CORRECTIONS, Dataset, Split, dataset_of, hold_out
from digitry.training.recipes import SHORT, Recipe
from digitry.training.writing import glyph_set
from digitry.training.writing.sources import of_digits

if TYPE_CHECKING:
    import keras
    from rich.console import Console

    from digitry.training.run_folder import Run

GATE = "gate.json"
"""The file of a run folder that holds the verdict."""

HELD_OUT = 0.3
"""Share of the corrections that is held out for the gate."""

REHEARSAL_GLYPHS, VALIDATION_GLYPHS = 30_000, 12_000
"""Glyphs that are composed of MNIST's digits: for rehearsal, and for validation."""

REHEARSED_NON_DIGITS, REHEARSED_WRITTEN, REHEARSED_DIGITS = 5000, 6000, 8000
"""Largest numbers of glyphs for rehearsal: non-digits, digits as they are written, MNIST's digits."""

CORRECTION_SHARE = 0.05
"""Share of corrections in an epoch; they are repeated to reach it, at most `MAX_REPEATS` times."""

MAX_REPEATS = 25

STEPS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Steps from the old weights (0) to the new ones (1) that are tried."""

MIN_GAIN = 0.95
"""The chosen step must gain this share of the corrections that the best step gains."""

MAX_FORGOTTEN = {"digits": 0.001, "nothing": 0.006}
"""Shares of the validation glyphs, digits and non-digits, that a step may lose."""

CHANGES: Mapping[str, Any] = {
    "summary": "a shipped model, trained further on corrections",
    "learning_rate": 3e-4,
    "schedule": "one-cycle",
    "warmup": 0.1,
    "epochs": 2,
    "batch_size": 128,
    "averaging": 0.99,
    "augment": "light",
    "distil": 0.0,
    "data": WITH_CORRECTIONS,
}
"""Fields that differ from the recipe that the model was trained with."""

TUNABLE = (
    "learning_rate", "schedule", "warmup", "epochs", "batch_size", "averaging", "augment", "dropout",
    "label_smoothing", "optimizer", "seed",
)  # fmt: skip
"""Fields that a user may set; the model that is retrained fixes the others."""


@dataclass(frozen=True, eq=False)
class Corrected:
    """Corrections as arrays.

    Attributes:
        images: (n, 28, 28) uint8, ink = 255.
        labels: (n,) uint8, 0 to 9, or 10 for `not a digit`.
        sha256: of each image, hexadecimal; it decides whether an image is held out.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    sha256: tuple[str, ...]

    def split(self) -> tuple[Split, Split]:
        """Return the corrections to train on, and those that are held out."""
        held = np.array([is_kept_for_gate(digest) for digest in self.sha256], bool)
        both = Split(self.images, self.labels)
        return both.take(np.flatnonzero(~held)), both.take(np.flatnonzero(held))


@dataclass(frozen=True, eq=False)
class Retrained:
    """A retrained model.

    Attributes:
        run: its run folder.
        model: the model file.
        verdict: of the gate; None if the training was interrupted.
        learnt: number of corrections that it was trained on.
        step: from the old weights (0) to the new ones (1) that was chosen, in (0, 1].
    """

    run: "Run"
    model: Artifact
    verdict: GlyphVerdict | None
    learnt: int
    step: float


def is_kept_for_gate(sha256: str) -> bool:
    """Return whether a correction is held out; this depends on the hash of its image only.

    So no version of a model is trained on images that the gate uses for a later one.
    """
    digest = hashlib.sha256(f"held out {sha256}".encode()).digest()
    return int.from_bytes(digest[:8]) < HELD_OUT * 2**64


def recipe_for(parent: Artifact, settings: Mapping[str, str]) -> Recipe:
    """Return the recipe with which a model is retrained.

    Args:
        parent: the model.
        settings: fields that the user sets, as text.

    Raises:
        UsageError: a field is unknown or fixed by the model, or a value is not valid.
    """
    for field in settings:
        if SHORT.get(field, field) not in TUNABLE:
            raise UsageError(
                f"{field} is fixed by the model that is retrained",
                where="--set",
                remedy=f"set one of: {', '.join(TUNABLE)}",
            )
    name = parent.source.partition("@")[0]
    try:
        made_by = Recipe.from_dict(parent.metadata.recipe)
    except UsageError:
        # The recipe is from another version of digitry, with other fields.
        made_by = recipes.RECIPES["glyph"]
    return replace(made_by, name=name, validation=0.0, patience=None, **CHANGES).override(settings)


def retrain(
    parent: Artifact,
    shipped: Artifact,
    corrected: Corrected,
    mnist: Dataset,
    folder: Path,
    *,
    settings: Mapping[str, str] | None = None,
    device: str = "auto",
    only: frozenset[str] | None = None,
    console: "Console | None" = None,
) -> Retrained:
    """Train a model further on corrections, write its run folder, and run the gate.

    Args:
        parent: the default model, uncalibrated.
        shipped: the model of the package; may be the same.
        corrected: the corrections.
        mnist: glyphs are composed of its training part; its test part is the gate's frozen set.
        folder: the run folder, new or empty; it also gets `gate.json`.
        settings: recipe fields that the user sets, as text.
        device: `auto`, `cpu`, `cuda` or `mps`.
        only: as in `digitry.training.run.train_run`.
        console: shows progress; None = nothing.

    Raises:
        UsageError: a setting is not valid, or the folder is not empty.
        DataError: there is no correction to train on.
        ModelError: the model cannot be trained further.
        DigitryError: the training diverged, or the folder cannot be written.
    """
    from digitry.training import run
    from digitry.training.network.from_onnx import to_keras

    recipe = recipe_for(parent, settings or {})
    if NOT_A_DIGIT not in parent.metadata.labels:
        raise ModelError(
            "has no class `not a digit`",
            where=parent.source,
            remedy="train its recipe from scratch",
        )
    learnt, held = corrected.split()
    if len(learnt) == 0:
        raise DataError(
            f"all {len(corrected.labels)} corrections are held out; none is left to train on",
            remedy="add corrections",
        )
    learnable, validation_digits = _parts(mnist)
    composed = _composed(learnable, REHEARSAL_GLYPHS, console)
    held_back = _composed(validation_digits, VALIDATION_GLYPHS, console)
    frozen = gate.frozen_set(mnist.test, console=console)
    rehearsed = _rehearsed(parent, composed, learnable, recipe.seed)
    # One half for validation; the other for the gate, which must be independent of all choices.
    validation, unseen = (held_back.take(np.arange(at, len(held_back), 2)) for at in (0, 1))
    dataset, recipe = _mixed(learnt, rehearsed, validation, frozen, mnist, recipe)
    steps: list[float] = []
    finished = run.train_run(
        recipe,
        dataset,
        folder,
        device=device,
        only=only,
        console=console,
        initial_model=lambda: to_keras(parent, dropout=recipe.dropout),
        before_save=lambda tuned: steps.append(_interpolate(tuned, parent, learnt, validation)),
    )
    made = load_uncalibrated(folder / MODEL_FILE)
    verdict = None
    if not finished.metrics["interrupted"]:
        nothing = unseen.images[unseen.labels == NOT_A_DIGIT_CLASS]
        verdict = _judged(GateImages(frozen, nothing, held), parent, made, shipped)
        facts = {"parent_sha256": parent.sha256, "learnt": len(learnt), "step": steps[0]}
        files.write_json(folder / GATE, facts | verdict.to_dict())
    return Retrained(finished, made, verdict, len(learnt), steps[0])


def _judged(
    gate_images: GateImages, parent: Artifact, made: Artifact, shipped: Artifact
) -> GlyphVerdict:
    before, after, first = (gate.predict(one, gate_images) for one in (parent, made, shipped))
    return gate.judge(gate_images, before, after, anchors=[first])


def _parts(mnist: Dataset) -> tuple[Split, Split]:
    """Return the digits that our models are trained on, and those that they are validated on.

    Both are from MNIST's training part; the second are its end, on which no model was trained.
    """
    return hold_out(mnist.train, glyph_set.HELD_OUT)


def _composed(digits: Split, count: int, console: "Console | None") -> Split:
    """Return glyphs composed of these digits; they are cached."""
    return glyph_set.compose(
        lambda: of_digits(digits.images, digits.labels),
        count,
        f"{sha256_of(digits.images, digits.labels)[:12]}-{count}",
        console=console,
    )


def _rehearsed(parent: Artifact, composed: Split, digits: Split, seed: int) -> Split:
    """Return the glyphs for rehearsal."""
    normal = glyph.normalise([image / np.float32(255) for image in digits.images])
    own = Split(np.rint(255 * normal).astype(np.uint8), digits.labels)
    nothing = composed.labels == NOT_A_DIGIT_CLASS
    rng = np.random.default_rng(seed)
    parts = [
        _half_hard(parent, composed.take(np.flatnonzero(nothing)), REHEARSED_NON_DIGITS, rng),
        _half_hard(parent, composed.take(np.flatnonzero(~nothing)), REHEARSED_WRITTEN, rng),
        _half_hard(parent, own, REHEARSED_DIGITS, rng),
    ]
    return Split.joined(parts)


def _half_hard(parent: Artifact, split: Split, count: int, rng: np.random.Generator) -> Split:
    """Return `count` glyphs: half at random, half those read right with the lowest confidence."""
    if len(split) <= count:
        return split
    logits = Classifier(parent, threads=2).logits(split.images.astype(np.float32) / np.float32(255))
    sure = softmax(logits)[np.arange(len(split)), split.labels]
    # Glyphs that the model reads wrong do not count as hard: often their label or drawing is bad.
    hard = np.argsort(np.where(sure >= 0.5, sure, np.inf), kind="stable")[: count // 2]
    rest = rng.permutation(np.setdiff1d(np.arange(len(split)), hard))[: count - len(hard)]
    return split.take(np.concatenate([hard, rest]))


def _mixed(
    learnt: Split,
    rehearsed: Split,
    validation: Split,
    frozen: Split,
    mnist: Dataset,
    recipe: Recipe,
) -> tuple[Dataset, Recipe]:
    """Return the data set, whose end fits temperature and curve, and the recipe that holds it out."""
    times = int(np.clip(round(CORRECTION_SHARE * len(rehearsed) / len(learnt)), 1, MAX_REPEATS))
    train = Split.joined([*[learnt] * times, rehearsed, validation])
    source = (
        f"{len(learnt)} corrections {times} times, among {len(rehearsed)} glyphs made from "
        f"{mnist.name} ({mnist.sha256[:12]}); test: its test part as it is read"
    )
    dataset = dataset_of(WITH_CORRECTIONS, train, frozen, mnist.licence, source)
    return dataset, replace(recipe, validation=len(validation) / len(train))


def _interpolate(model: "keras.Model", parent: Artifact, learnt: Split, validation: Split) -> float:
    """Interpolate a model's weights between its parent and itself, in place.

    Returns:
        The chosen step, in (0, 1].
    """
    from digitry.training.network.from_onnx import to_keras
    from digitry.training.network.keras_files import probabilities

    new = [np.array(weight) for weight in model.get_weights()]
    old = [np.array(weight) for weight in to_keras(parent).get_weights()]
    kinds = {
        "digits": validation.take(np.flatnonzero(validation.labels != NOT_A_DIGIT_CLASS)),
        "nothing": validation.take(np.flatnonzero(validation.labels == NOT_A_DIGIT_CLASS)),
    }

    def right(split: Split) -> int:
        inputs = split.images.astype(np.float32) / np.float32(255)
        return int((probabilities(model, inputs).argmax(axis=1) == split.labels).sum())

    def at(step: float) -> tuple[int, dict[str, int]]:
        """Set the weights; return how many corrections, and glyphs of each kind, are read right."""
        model.set_weights([a + step * (b - a) for a, b in zip(old, new, strict=True)])
        return right(learnt), {kind: right(split) for kind, split in kinds.items()}

    start, known = at(0.0)
    gained: dict[float, int] = {}
    excess: dict[float, float] = {}
    for step in STEPS:
        now, knows = at(step)
        gained[step] = now - start
        # Largest share of a kind that is lost beyond `MAX_FORGOTTEN`; 0 if none is.
        excess[step] = max(
            max(known[kind] - knows[kind] - MAX_FORGOTTEN[kind] * len(split), 0)
            / max(len(split), 1)
            for kind, split in kinds.items()
        )
    chosen = smallest_step(gained, excess)
    at(chosen)
    return chosen


def smallest_step(gained: Mapping[float, int], excess: Mapping[float, float]) -> float:
    """Return the smallest step that gains nearly as much as the best, of those that forget least.

    Args:
        gained: step -> how many corrections more than before are read right.
        excess: step -> how much more than is allowed is forgotten; 0 if no more is.
    """
    sound = [step for step in gained if excess[step] == min(excess.values())]
    best = max(gained[step] for step in sound)
    # If the best gain is negative, MIN_GAIN * best would be more than any step reaches.
    wanted = min(best, MIN_GAIN * best)
    return min(step for step in sound if gained[step] >= wanted)
