"""A model taught what people corrected, without forgetting the rest.

The model that is read with goes on learning at a low rate from a mix: the corrections, repeated and
augmented, among many times as many glyphs of the kinds that it learnt before (rehearsal; Robins 1995,
"Catastrophic forgetting, rehearsal and pseudorehearsal"). Half of these are the ones that it is least sure
of: they lie where a boundary that moves is felt first. Then the model is drawn back towards what it was,
as far as it keeps what it learnt (interpolated weights; Wortsman et al. 2022, "Robust fine-tuning of
zero-shot models", arxiv.org/abs/2109.01903). How far is decided on glyphs that no model of ours has
learnt from, never on the gate's frozen set.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from digitry import files
from digitry.errors import DataError, ModelError, UsageError
from digitry.improve import gate
from digitry.improve.gate import Exam, Verdict
from digitry.model.artifact import NOT_A_DIGIT, Artifact
from digitry.model.load import load_uncalibrated
from digitry.reading import glyph
from digitry.reading.classifier import Classifier, softmax
from digitry.training import recipes
from digitry.training.data.dataset import Dataset, Split, dataset_of, hold_out
from digitry.training.recipes import SHORT, Recipe
from digitry.training.synthetic import glyphs as synthesis

if TYPE_CHECKING:
    import keras
    from rich.console import Console

    from digitry.training.run_folder import Run

NAME = "mnist+corrections"
"""What the data set of such a run is called."""

GATE = "gate.json"
"""The file of a run folder that holds the verdict."""

HELD_OUT = 0.3
"""Share of the corrections that is never learnt from, only asked about."""

DRAWN, PROVING = 2000, 800
"""MNIST digits that pages are drawn from: to rehearse, and to see what is forgotten."""

NOTHINGS, PAGES, DIGITS = 5000, 6000, 8000
"""Glyphs to rehearse: of what is no digit, of digits on pages, of MNIST's own. Fewer if there are fewer."""

SHARE = 0.05
"""Corrections among the images of an epoch, repeated as often as that takes, but `MOST` times at most."""

MOST = 25

STEPS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Shares of the way from the old weights to the new ones that are tried."""

ENOUGH = 0.95
"""Of the corrections that the best step gains, the share that the chosen one must gain."""

FORGIVEN = {"digits": 0.001, "nothing": 0.006}
"""Shares of the glyphs to prove a model by, digits and what is none, that a step may lose."""

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
    "data": NAME,
}
"""What differs from the recipe that the model was made by."""

TUNABLE = (
    "learning_rate", "schedule", "warmup", "epochs", "batch_size", "averaging", "augment", "dropout",
    "label_smoothing", "optimizer", "seed",
)  # fmt: skip
"""What a user may set; the rest is decided by the model that goes on learning."""


@dataclass(frozen=True, eq=False)
class Corrected:
    """What people said about glyphs.

    Attributes:
        images: (n, 28, 28) uint8, ink = 255.
        labels: (n,) uint8, 0 to 9, or 10 for what is no digit.
        sha256: of each image, hexadecimal: by it an image is learnt from, or held out, for good.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    sha256: tuple[str, ...]

    def split(self) -> tuple[Split, Split]:
        """Return what is learnt from, and what is held out."""
        held = np.array([is_held_out(digest) for digest in self.sha256], bool)
        both = Split(self.images, self.labels)
        return both.take(np.flatnonzero(~held)), both.take(np.flatnonzero(held))


@dataclass(frozen=True, eq=False)
class Retrained:
    """A model that went on learning.

    Attributes:
        run: its run folder.
        model: the model file.
        verdict: of the gate; None where it was interrupted before there was one.
        learnt: corrections that it learnt from.
        step: share of the way to the new weights that it was left at, in (0, 1].
    """

    run: "Run"
    model: Artifact
    verdict: Verdict | None
    learnt: int
    step: float


def is_held_out(sha256: str) -> bool:
    """Return whether an image is asked about rather than learnt from: by its hash alone, for ever.

    So no version of a model has learnt from what a later one is judged by.
    """
    digest = hashlib.sha256(f"held out {sha256}".encode()).digest()
    return int.from_bytes(digest[:8]) < HELD_OUT * 2**64


def recipe_for(parent: Artifact, settings: Mapping[str, str]) -> Recipe:
    """Return the recipe by which a model goes on learning.

    Args:
        parent: the model.
        settings: fields that the user sets, as text.

    Raises:
        UsageError: a field is unknown, or decided by the model; or a value does not do.
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
        # Of another digitry, with other fields: what matters of it is in the model itself.
        made_by = recipes.find(name)
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
    """Let a model learn from corrections, save it as any other training, and put it before the gate.

    Args:
        parent: the model that is read with, uncalibrated.
        shipped: the model of the package; may be the same.
        corrected: what people said.
        mnist: of its training part, pages are drawn; its test part is the gate's frozen set.
        folder: the run folder, new or empty; `gate.json` is added to what stands in others.
        settings: recipe fields that the user sets, as text.
        device: `auto`, `cpu`, `cuda` or `mps`.
        only: as for `digitry.training.run.train_run`.
        console: where progress goes.

    Raises:
        UsageError: a setting does not do, or the folder holds something.
        DataError: there is no correction to learn from.
        ModelError: the model cannot be trained on.
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
    pages = _pages(mnist, console)
    frozen = gate.frozen_set(mnist.test, console=console)
    rehearsed = _rehearsed(parent, pages.train, mnist, recipe.seed)
    # One half to decide by, the other for the gate, which must not have been decided by.
    proving, unseen = (pages.test.take(np.arange(at, len(pages.test), 2)) for at in (0, 1))
    dataset, recipe = _mixed(learnt, rehearsed, proving, frozen, mnist, recipe)
    reached: list[float] = []
    finished = run.train_run(
        recipe,
        dataset,
        folder,
        device=device,
        only=only,
        console=console,
        start=lambda: to_keras(parent, dropout=recipe.dropout),
        before_save=lambda tuned: reached.append(_temper(tuned, parent, learnt, proving)),
    )
    made = load_uncalibrated(folder / "model.onnx")
    verdict = None
    if not finished.metrics["interrupted"]:
        exam = Exam(frozen, unseen.images[unseen.labels == synthesis.NOTHING], held)
        answers = [gate.answers(one, exam) for one in (parent, made, shipped)]
        verdict = gate.judge(exam, answers[0], answers[1], anchors=[answers[2]])
        files.write_json(
            folder / GATE,
            {"parent_sha256": parent.sha256, "learnt": len(learnt), "step": reached[0]}
            | verdict.to_dict(),
        )
    return Retrained(finished, made, verdict, len(learnt), reached[0])


def _parts(mnist: Dataset) -> tuple[Split, Split]:
    """Return the digits that our models learn from, and those that they are validated on.

    The former all but the end of MNIST's training part, which none has learnt from; the test part is
    left alone.
    """
    return hold_out(mnist.train, recipes.find("reader").validation)


def _pages(mnist: Dataset, console: "Console | None") -> Dataset:
    """Draw pages of some digits, always the same ones, so that the cache holds them from then on."""
    parts = []
    for part, count in zip(_parts(mnist), (DRAWN, PROVING), strict=True):
        chosen = np.random.default_rng(0).permutation(len(part))[:count]
        parts.append(part.take(np.sort(chosen)))
    drawn_from = dataset_of(mnist.name, parts[0], parts[1], mnist.licence, mnist.source)
    return synthesis.load(drawn_from, console=console)


def _rehearsed(parent: Artifact, pages: Split, mnist: Dataset, seed: int) -> Split:
    """Choose what the model goes on seeing of what it knows."""
    digits = _parts(mnist)[0]
    glyphs = glyph.normalise([image / np.float32(255) for image in digits.images])
    own = Split(np.rint(255 * glyphs).astype(np.uint8), digits.labels)
    nothing = pages.labels == synthesis.NOTHING
    rng = np.random.default_rng(seed)
    parts = [
        _half_hard(parent, pages.take(np.flatnonzero(nothing)), NOTHINGS, rng),
        _half_hard(parent, pages.take(np.flatnonzero(~nothing)), PAGES, rng),
        _half_hard(parent, own, DIGITS, rng),
    ]
    return _joined(parts)


def _half_hard(parent: Artifact, split: Split, count: int, rng: np.random.Generator) -> Split:
    """Take a number of glyphs: half of them those of which a model is least sure, but right."""
    if len(split) <= count:
        return split
    logits = Classifier(parent, threads=2).logits(split.images.astype(np.float32) / np.float32(255))
    sure = softmax(logits)[np.arange(len(split)), split.labels]
    # Where it is wrong, the label or the drawing often is.
    hard = np.argsort(np.where(sure >= 0.5, sure, np.inf), kind="stable")[: count // 2]
    rest = rng.permutation(np.setdiff1d(np.arange(len(split)), hard))[: count - len(hard)]
    return split.take(np.concatenate([hard, rest]))


def _joined(parts: Sequence[Split]) -> Split:
    return Split(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )


def _mixed(
    learnt: Split, rehearsed: Split, proving: Split, frozen: Split, mnist: Dataset, recipe: Recipe
) -> tuple[Dataset, Recipe]:
    """Put together what is learnt from, and at its end what temperature and curve are fitted on."""
    times = int(np.clip(round(SHARE * len(rehearsed) / len(learnt)), 1, MOST))
    train = _joined([*[learnt] * times, rehearsed, proving])
    source = (
        f"{len(learnt)} corrections {times} times, among {len(rehearsed)} glyphs made from "
        f"{mnist.name} ({mnist.sha256[:12]}); test: its test part as it is read"
    )
    dataset = dataset_of(NAME, train, frozen, mnist.licence, source)
    return dataset, replace(recipe, validation=len(proving) / len(train))


def _temper(model: "keras.Model", parent: Artifact, learnt: Split, proving: Split) -> float:
    """Draw a model back towards its parent, as far as it keeps what it learnt; change it in place.

    The least step wins that forgets no more than is forgiven, and gains nearly what the best such step
    gains; where every step forgets more, the one that forgets least.

    Returns:
        The share of the way that it was left at.
    """
    from digitry.training.network.from_onnx import to_keras
    from digitry.training.network.keras_files import probabilities

    new = [np.array(weight) for weight in model.get_weights()]
    old = [np.array(weight) for weight in to_keras(parent).get_weights()]
    kinds = {
        "digits": proving.take(np.flatnonzero(proving.labels != synthesis.NOTHING)),
        "nothing": proving.take(np.flatnonzero(proving.labels == synthesis.NOTHING)),
    }

    def right(split: Split) -> int:
        glyphs = split.images.astype(np.float32) / np.float32(255)
        return int((probabilities(model, glyphs).argmax(axis=1) == split.labels).sum())

    def at(step: float) -> tuple[int, dict[str, int]]:
        """Go there; give how many corrections, and how much of each kind, are read right."""
        model.set_weights([a + step * (b - a) for a, b in zip(old, new, strict=True)])
        return right(learnt), {kind: right(split) for kind, split in kinds.items()}

    start, known = at(0.0)
    gained: dict[float, int] = {}
    excess: dict[float, float] = {}
    for step in STEPS:
        now, knows = at(step)
        gained[step] = now - start
        # 0 where a step forgets no more than is forgiven; else by how much of its kind, at the worst.
        excess[step] = max(
            max(known[kind] - knows[kind] - FORGIVEN[kind] * len(split), 0) / max(len(split), 1)
            for kind, split in kinds.items()
        )
    sound = [step for step in STEPS if excess[step] == min(excess.values())]
    best = max(gained[step] for step in sound)
    # A best that loses is not to be undercut either.
    wanted = min(best, ENOUGH * best)
    chosen = min(step for step in sound if gained[step] >= wanted)
    at(chosen)
    return chosen
