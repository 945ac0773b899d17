"""The gate: the checks that a retrained model must pass before it becomes the default.

Corrections are few, and some of them are wrong. So a model trained on them must pass three checks; if
it fails one, it stays a candidate:

1. *Frozen set*: MNIST's 10,000 test digits, read like any image of one digit: each 28x28 image, light
   on dark, goes through polarity, ink, segmentation, normalisation and network; the most probable
   class counts, and `not a digit` is an error. Accuracy may fall by at most 0.05 points, and the
   recall of each digit by at most 0.3 points.
2. *Non-digits*: signs, letters and halves of digits, drawn from digits that no model was trained on.
   The share that is refused may fall by at most 1 point. MNIST has no non-digits, so a model that no
   longer refuses them would still score well on it.
3. *Held-out corrections*: the model must read more of them right than before, by more than chance and
   wrong labels can explain; see `verdict.p_value`.

Both models are run on the same images. The first two checks also compare with the shipped model, so
that many small losses cannot add up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from digitry.errors import DataError
from digitry.improve.verdict import Verdict
from digitry.model.artifact import DIGIT_CLASSES, NOT_A_DIGIT_CLASS, Artifact
from digitry.reading.classifier import Classifier
from digitry.reading.reader import single_glyph
from digitry.training.data.dataset import Split

if TYPE_CHECKING:
    from rich.console import Console

MOST_LOST = 0.0005
"""Largest allowed fall of the accuracy on the frozen set."""

MOST_LOST_OF_A_DIGIT = 0.003
"""Largest allowed fall of the recall of a digit on the frozen set."""

MOST_LOST_REFUSALS = 0.01
"""Largest allowed fall of the share of non-digits that are refused."""

Labels = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class GateImages:
    """The images that the gate runs models on.

    Attributes:
        frozen: from `frozen_set`, labels 0 to 9.
        nothing: (k, 28, 28) uint8, ink = 255: glyphs of non-digits.
        held: corrections that no model was trained on, labels 0 to 10; may be empty.
    """

    frozen: Split
    nothing: npt.NDArray[np.uint8]
    held: Split


@dataclass(frozen=True, eq=False)
class GatePredictions:
    """A model's most probable class for each image of `GateImages`, as uint8.

    Attributes:
        frozen, nothing, held: one class per image of the same attribute there.
    """

    frozen: Labels
    nothing: Labels
    held: Labels


@dataclass(frozen=True, kw_only=True)
class GlyphVerdict(Verdict):
    """The result of the gate.

    Attributes:
        frozen_before, frozen_after: accuracy on the frozen set, in [0, 1].
        recalls_before, recalls_after: recall of each digit on the frozen set, in [0, 1].
        refused_before, refused_after: share of non-digits that are refused, in [0, 1].
    """

    frozen_before: float
    frozen_after: float
    recalls_before: tuple[float, ...]
    recalls_after: tuple[float, ...]
    refused_before: float
    refused_after: float

    @property
    def frozen_scores(self) -> dict[str, float]:
        """Return the scores of the candidate on the frozen set and on non-digits."""
        return {"frozen MNIST": self.frozen_after, "not a digit": self.refused_after}

    @property
    def frozen_summary(self) -> str:
        """Return the accuracies on the frozen set."""
        return f"frozen MNIST {_percent(self.frozen_after)}, {_percent(self.frozen_before)} before"


def frozen_set(test: Split, *, console: "Console | None" = None) -> Split:
    """Return MNIST's test set after the reading pipeline, as described at the top of this module.

    Args:
        test: (n, 28, 28) uint8, ink = 255, with its labels.
        console: shows progress.

    Returns:
        The network's input as images, (n, 28, 28) uint8, and the same labels.
    """
    from digitry.progress import Display

    glyphs = np.zeros(test.images.shape, np.uint8)
    with Display(console, len(test)) as display:
        for index, image in enumerate(test.images):
            if display.due():
                display.at(index, f"frozen set, {index:,} of {len(test):,}")
            glyphs[index] = np.rint(255 * single_glyph(image))
    return Split(glyphs, test.labels)


def predict(model: Artifact, gate_images: GateImages, *, threads: int = 2) -> GatePredictions:
    """Return a model's predictions, computed with ONNX Runtime as in reading."""
    classifier = Classifier(model, threads=threads)

    def best(images: npt.NDArray[np.uint8]) -> Labels:
        logits = classifier.logits(images.astype(np.float32) / np.float32(255))
        return np.asarray(logits.argmax(axis=1), np.uint8)

    return GatePredictions(
        best(gate_images.frozen.images), best(gate_images.nothing), best(gate_images.held.images)
    )


def judge(
    gate_images: GateImages,
    before: GatePredictions,
    after: GatePredictions,
    *,
    anchors: Sequence[GatePredictions] = (),
) -> GlyphVerdict:
    """Decide whether a candidate may become the default.

    Args:
        gate_images: the images.
        before: predictions of the default.
        after: predictions of the candidate.
        anchors: predictions of other models, such as the shipped one; the candidate must not fall
            behind them on the frozen set and on non-digits either.

    Raises:
        DataError: the frozen set lacks a digit, or the predictions are for other images.
    """
    everyone = (before, after, *anchors)
    support = _support(gate_images, everyone)
    hits = _hits(gate_images, everyone)
    refused = np.array([int((given.nothing == NOT_A_DIGIT_CLASS).sum()) for given in everyone])
    non_digits = len(gate_images.nothing)
    labels = gate_images.held.labels
    recalls = [tuple(float(share) for share in row / support) for row in hits[:2]]
    return GlyphVerdict.of(
        before.held == labels,
        after.held == labels,
        _forgotten(hits, support, refused, non_digits),
        frozen_before=float(hits[0].sum() / support.sum()),
        frozen_after=float(hits[1].sum() / support.sum()),
        recalls_before=recalls[0],
        recalls_after=recalls[1],
        refused_before=int(refused[0]) / max(non_digits, 1),
        refused_after=int(refused[1]) / max(non_digits, 1),
    )


def _support(gate_images: GateImages, everyone: Sequence[GatePredictions]) -> Counts:
    """Return the number of frozen images of each digit, after checking that all predictions fit.

    Raises:
        DataError: the frozen set lacks a digit, or the predictions are for other images.
    """
    truth = gate_images.frozen.labels
    wanted = (len(truth), len(gate_images.nothing), len(gate_images.held))
    for given in everyone:
        if (len(given.frozen), len(given.nothing), len(given.held)) != wanted:
            raise DataError(
                "the predictions do not match the gate's images", remedy="run each model again"
            )
    support = np.bincount(truth, minlength=DIGIT_CLASSES)[:DIGIT_CLASSES]
    if not support.all():
        raise DataError(
            f"the frozen set has no {int(support.argmin())}", remedy="use MNIST's whole test set"
        )
    return support


def _hits(gate_images: GateImages, everyone: Sequence[GatePredictions]) -> Counts:
    """Return how many frozen images of each digit each model reads right, (models, 10)."""
    truth = gate_images.frozen.labels
    return np.array([
        np.bincount(truth[given.frozen == truth], minlength=DIGIT_CLASSES)[:DIGIT_CLASSES]
        for given in everyone
    ])  # fmt: skip


def _forgotten(hits: Counts, support: Counts, refused: Counts, count: int) -> list[str]:
    """Return what the candidate does worse than one of the other models, one line each.

    Args:
        hits: (models, 10) right answers on the frozen set; the candidate is the second.
        support: (10,) images of each digit in it.
        refused: (models,) non-digits that each model refuses.
        count: number of non-digits.
    """
    rivals, reasons = np.delete(hits, 1, axis=0), []
    lost = int(rivals.sum(axis=1).max() - hits[1].sum())
    if lost > MOST_LOST * support.sum():
        reasons.append(
            f"accuracy on frozen MNIST fell by {_points(lost / support.sum())} "
            f"(limit {_points(MOST_LOST)})"
        )
    falls = (rivals.max(axis=0) - hits[1]) / support
    worst = int(falls.argmax())
    if falls[worst] > MOST_LOST_OF_A_DIGIT:
        reasons.append(
            f"recall of {worst} on frozen MNIST fell by {_points(falls[worst])} "
            f"(limit {_points(MOST_LOST_OF_A_DIGIT)})"
        )
    fewer = int(np.delete(refused, 1).max() - refused[1])
    if fewer > MOST_LOST_REFUSALS * count:
        reasons.append(
            f"the share of non-digits refused fell by {_points(fewer / count)} "
            f"(limit {_points(MOST_LOST_REFUSALS)})"
        )
    return reasons


def _points(difference: float) -> str:
    return f"{100 * difference:.2f} points"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"
