"""Scores of a model on a test set, with their uncertainty.

The saved model file is measured, run by the classifier that also reads, never the model in memory.
"""

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from digitry.errors import DataError
from digitry.model.artifact import DIGIT_CLASSES, LABELS, Artifact
from digitry.model.load import load_model
from digitry.plain import Plain
from digitry.reading.classifier import Classifier, softmax
from digitry.training.evaluation import calibration
from digitry.training.evaluation.calibration import Bin
from digitry.training.evaluation.disputed import disputed_in

if TYPE_CHECKING:
    from digitry.training.data.dataset import Split

Z95 = 1.959963984540054
"""The 97.5% quantile of the standard normal distribution, for 95% intervals."""


@dataclass(frozen=True, slots=True)
class ClassScore(Plain):
    """Scores of one label.

    Attributes:
        label: the label.
        precision: the share of images read as this label that have it, in [0, 1]; 0 if none were.
        recall: the share of images of this label that were read as it, in [0, 1]; 0 without images.
        f1: the harmonic mean of both, in [0, 1].
        support: number of images of this label.
    """

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, kw_only=True)
class Evaluation(Plain):
    """Scores of a model on one set of labelled images.

    Attributes:
        count: number of images.
        loss: mean cross-entropy of the model's own softmax, in nats.
        accuracy: the share whose best label is right, in [0, 1].
        interval: Wilson's 95% interval (low, high) of the accuracy.
        ece: expected calibration error of the model's own softmax, in [0, 1], 15 bins.
        temperature: the logits are divided by it for calibrated probabilities; 1 = not fitted.
        calibrated_loss, calibrated_ece: loss and ECE at that temperature.
        classes: scores of each label.
        confusion: counts; rows are true labels, columns the labels that the model can answer.
        reliability, calibrated_reliability: bins of confidence, at temperature 1 and calibrated.
        disputed: number of images with a disputed label.
        accuracy_undisputed: the accuracy without those; None if there are none.
        interval_undisputed: its Wilson 95% interval (low, high); None if there are none.
        refused: the share of the digits that is refused as not a digit, in [0, 1].
        accuracy_forced: the share of the digits whose likeliest digit is right, refused or not, to
            compare with models that cannot refuse; None for such models.
    """

    loss: float
    accuracy: float
    interval: tuple[float, float]
    ece: float
    count: int
    disputed: int = 0
    accuracy_undisputed: float | None = None
    interval_undisputed: tuple[float, float] | None = None
    refused: float = 0.0
    accuracy_forced: float | None = None
    temperature: float
    calibrated_loss: float
    calibrated_ece: float
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    reliability: tuple[Bin, ...]
    calibrated_reliability: tuple[Bin, ...] = ()

    def headline(self) -> dict[str, float]:
        """Return by name the scores that a model file keeps; those that it has not are left out."""
        names = (
            "accuracy", "accuracy_undisputed", "accuracy_forced", "loss", "ece", "calibrated_ece",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions of one model for one test set.

    Attributes:
        name: name of the run or the model.
        probabilities: (n, k) float32, rows sum to 1.
        labels: (n,) uint8, the true labels.
        test_sha256: of the test images and labels, by `fingerprint`.
    """

    name: str
    probabilities: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]
    test_sha256: str


@dataclass(frozen=True, kw_only=True)
class Comparison(Plain):
    """Two models on the same test images.

    Attributes:
        a, b: their names.
        both_right, only_a, only_b, both_wrong: counts of images.
        difference: accuracy of b minus that of a, in [-1, 1].
        p_value: of McNemar's exact test, two-sided: the probability, for equally good models, that
            only_a and only_b differ at least as much as here.
    """

    a: str
    b: str
    both_right: int
    only_a: int
    only_b: int
    both_wrong: int
    difference: float
    p_value: float


def score(
    logits: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    *,
    temperature: float = 1.0,
    disputed: Sequence[int] = (),
) -> Evaluation:
    """Return the scores of a model's outputs.

    Args:
        logits: (n, k) float; k is 10, or 11 with "not a digit" last, which is a wrong answer for a digit.
        labels: (n,) integers, the true labels.
        temperature: temperature of the model's calibration.
        disputed: indices of images with disputed labels; the accuracy is also given without them.

    Raises:
        DataError: there are no images, the numbers of labels and images differ, or the model does not
            have one of the labels.
    """
    if len(logits) == 0:
        raise DataError("there are no images to score", remedy="give at least one")
    if len(logits) != len(labels):
        raise DataError(
            f"{len(logits)} images but {len(labels)} labels", remedy="give one label per image"
        )
    if labels.max() >= logits.shape[1]:
        raise DataError(
            f"have {int(labels.max()) + 1} labels, but the model has {logits.shape[1]}",
            where="the test images",
            remedy="use other data, or a model that was trained on these labels",
        )
    hits = logits.argmax(axis=1) == labels
    right = int(hits.sum())
    kept = np.delete(hits, list(disputed)) if disputed else hits
    raw = softmax(logits)
    calibrated = raw if temperature == 1 else softmax(logits, temperature)
    raw_bins = calibration.reliability(raw, labels)
    bins = raw_bins if calibrated is raw else calibration.reliability(calibrated, labels)
    confusion = _confusion(logits.argmax(axis=1), labels, logits.shape[1])
    digits = labels < DIGIT_CLASSES
    refuses = logits.shape[1] > DIGIT_CLASSES and bool(digits.any())
    forced = logits[digits, :DIGIT_CLASSES].argmax(axis=1) == labels[digits]
    return Evaluation(
        count=len(labels),
        loss=_cross_entropy(logits, labels, 1.0),
        accuracy=right / len(labels),
        interval=wilson(right, len(labels)),
        ece=calibration.gap(raw_bins),
        temperature=float(temperature),
        calibrated_loss=_cross_entropy(logits, labels, temperature),
        calibrated_ece=calibration.gap(bins),
        classes=_class_scores(confusion),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        reliability=raw_bins,
        calibrated_reliability=bins,
        disputed=len(disputed),
        accuracy_undisputed=float(kept.mean()) if disputed else None,
        interval_undisputed=wilson(int(kept.sum()), len(kept)) if disputed else None,
        refused=float((logits[digits].argmax(axis=1) >= DIGIT_CLASSES).mean()) if refuses else 0.0,
        accuracy_forced=float(forced.mean()) if refuses else None,
    )


def evaluate(
    model: str | Path | Artifact, split: "Split"
) -> tuple[Evaluation, npt.NDArray[np.float32]]:
    """Return the scores of a model file on labelled images, run by the classifier that also reads.

    Args:
        model: the name of a shipped model, a .onnx file, a run folder, or a loaded artifact.
        split: labelled images, (n, 28, 28) uint8, ink = 255.

    Returns:
        The evaluation, and the model's own softmax (temperature 1), (n, k) float32.

    Raises:
        ModelError: it is not a digitry model.
        DataError: there are no images.
    """
    loaded = model if isinstance(model, Artifact) else load_model(model)
    logits = infer(loaded, split.images)
    evaluation = score(
        logits,
        split.labels,
        temperature=loaded.metadata.temperature,
        disputed=disputed_in(fingerprint(split)),
    )
    return evaluation, softmax(logits).astype(np.float32)


def infer(model: Artifact, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return the logits of a model file for images, computed by `Classifier` on all cores.

    Args:
        model: a loaded artifact.
        images: (n, 28, 28) uint8, ink = 255.

    Returns:
        (n, k) float32.
    """
    classifier = Classifier(model, threads=os.cpu_count() or 1)
    return classifier.logits(images.astype(np.float32) / np.float32(255))


def compare(a: Predictions, b: Predictions) -> Comparison:
    """Return McNemar's exact test of two models on the same test images.

    Only images that exactly one of the models reads right matter; for equally good models each of them
    is equally likely to be a's or b's.

    Args:
        a, b: their predictions for the same test set.

    Raises:
        DataError: they were measured on different test sets.
    """
    from scipy.stats import binomtest

    if a.test_sha256 != b.test_sha256 or not np.array_equal(a.labels, b.labels):
        raise DataError(
            f"{a.name} and {b.name} were measured on different test images",
            remedy="evaluate both on the same data",
        )
    hit_a = a.probabilities.argmax(axis=1) == a.labels
    hit_b = b.probabilities.argmax(axis=1) == b.labels
    only_a, only_b = int((hit_a & ~hit_b).sum()), int((hit_b & ~hit_a).sum())
    discordant = only_a + only_b
    return Comparison(
        a=a.name,
        b=b.name,
        both_right=int((hit_a & hit_b).sum()),
        only_a=only_a,
        only_b=only_b,
        both_wrong=int((~hit_a & ~hit_b).sum()),
        difference=(only_b - only_a) / len(a.labels),
        p_value=float(binomtest(only_a, discordant, 0.5).pvalue) if discordant else 1.0,
    )


def wilson(right: int, count: int) -> tuple[float, float]:
    """Return Wilson's 95% interval of a share (Wilson 1927, JASA 22: 209-212).

    Unlike the normal interval it stays within [0, 1] and is accurate for shares close to 0 or 1.

    Args:
        right: number of right answers.
        count: number of answers, at least 1.
    """
    share, z2 = right / count, Z95**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z95 / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    # At the ends the bound is exactly 0 or 1, but rounding would miss it.
    low = 0.0 if right == 0 else max(0.0, centre - half)
    return low, 1.0 if right == count else min(1.0, centre + half)


def fingerprint(split: "Split") -> str:
    """Return the sha256 of images and labels, which identifies a test set.

    Unlike `digitry.fingerprint` it does not include shapes. It must not change: saved predictions and
    the list of disputed labels contain it.
    """
    digest = hashlib.sha256(split.images.tobytes())
    digest.update(split.labels.tobytes())
    return digest.hexdigest()


def _cross_entropy(
    logits: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], temperature: float
) -> float:
    scaled = logits.astype(np.float64) / temperature
    top = scaled.max(axis=1)
    total = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
    return float((total - scaled[np.arange(len(scaled)), labels]).mean())


def _confusion(
    best: npt.NDArray[np.integer], labels: npt.NDArray[np.integer], width: int
) -> npt.NDArray[np.int64]:
    # Ten rows; an eleventh only if the set contains images that are not digits.
    rows = max(DIGIT_CLASSES, int(labels.max()) + 1)
    cells = np.bincount(labels.astype(np.int64) * width + best, minlength=rows * width)
    return cells.reshape(rows, width)


def _class_scores(confusion: npt.NDArray[np.int64]) -> tuple[ClassScore, ...]:
    scores = []
    for label, row in enumerate(confusion):
        hits = int(row[label]) if label < len(row) else 0
        said, support = int(confusion[:, label].sum()), int(row.sum())
        precision = hits / said if said else 0.0
        recall = hits / support if support else 0.0
        # Equal to 2PR / (P + R), but without a division of 0 by 0.
        f1 = 2 * hits / (said + support) if said + support else 0.0
        scores.append(ClassScore(LABELS[label], precision, recall, f1, support))
    return tuple(scores)
