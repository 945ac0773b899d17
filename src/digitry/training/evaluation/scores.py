"""How good a model is on a test set: one frozen `Evaluation`, with its uncertainty, to JSON and back.

What is measured is the shipped file, run by the code that reads: never the model in memory.
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
from digitry.model.artifact import NOT_A_DIGIT, Artifact
from digitry.model.load import load_model
from digitry.plain import Plain
from digitry.reading.classifier import Classifier, softmax
from digitry.training.evaluation import calibration
from digitry.training.evaluation.calibration import DIGITS, Bin
from digitry.training.evaluation.disputed import disputed_in

if TYPE_CHECKING:
    from digitry.training.data.dataset import Split

Z95 = 1.959963984540054
"""Standard deviations that hold 95% of a normal distribution: its 97.5% quantile."""


@dataclass(frozen=True, slots=True)
class ClassScore(Plain):
    """How well one digit is read.

    Attributes:
        label: the digit.
        precision: of what was read as it, the share that is it, in [0, 1]; 0 if it was never read.
        recall: of what is it, the share that was read as it, in [0, 1]; 0 if there is none.
        f1: the harmonic mean of both, in [0, 1].
        support: images that are it.
    """

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, kw_only=True)
class Evaluation(Plain):
    """How good a model is on one set of labelled images.

    Attributes:
        count: images.
        loss: mean cross-entropy of the model's own softmax, in nats.
        accuracy: the share whose best label is the true one, in [0, 1].
        interval: of the accuracy, (low, high): Wilson's, 95%.
        ece: expected calibration error of the model's own softmax, in [0, 1], 15 bins.
        temperature: what the logits are divided by for calibrated probabilities; 1 = not fitted.
        calibrated_loss, calibrated_ece: the same two at that temperature.
        classes: scores of each digit.
        confusion: counts; rows are true digits, columns the labels that the model can give.
        reliability, calibrated_reliability: bins of confidence, at temperature 1 and as calibrated.
        disputed: how many of the images have labels that are known to be in dispute.
        accuracy_undisputed: the accuracy without those; None where there are none.
        interval_undisputed: of it, (low, high): Wilson's, 95%; None likewise.
        refused: the share of the digits that is called no digit, in [0, 1].
        accuracy_forced: the share of the digits whose likeliest digit is the true one, refused or not:
            what models that cannot refuse are measured by; None for those.
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


@dataclass(frozen=True, eq=False)
class Predictions:
    """What one model said about one test set.

    Attributes:
        name: of the run or the model.
        probabilities: (n, k) float32, rows sum to 1.
        labels: (n,) uint8, the truth.
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
        difference: accuracy of b less that of a, in [-1, 1].
        p_value: of McNemar's exact test, two-sided: how likely a split of the images that one alone
            reads is, at least as uneven as this one, if both models were equally good.
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
    """Score a model's outputs.

    Args:
        logits: (n, k) float; k is 10, or 11 with "not a digit" last, which counts as a wrong answer.
        labels: (n,) integers, the true digits.
        temperature: of the model's calibration.
        disputed: places of images without which the accuracy is given once more; see `disputed`.

    Raises:
        DataError: there are no images, as many labels as images are missing, or a label is none that the
            model can say.
    """
    if len(logits) == 0:
        raise DataError("there are no images to score", remedy="give at least one")
    if len(logits) != len(labels):
        raise DataError(
            f"{len(logits)} images but {len(labels)} labels", remedy="give a label an image"
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
    digits = labels < DIGITS
    refuses = logits.shape[1] > DIGITS and bool(digits.any())
    forced = logits[digits, :DIGITS].argmax(axis=1) == labels[digits]
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
        refused=float((logits[digits].argmax(axis=1) >= DIGITS).mean()) if refuses else 0.0,
        accuracy_forced=float(forced.mean()) if refuses else None,
    )


def evaluate(
    model: str | Path | Artifact, split: "Split"
) -> tuple[Evaluation, npt.NDArray[np.float32]]:
    """Measure a model file on labelled images, by the code that reads.

    Args:
        model: the name of a shipped model, a .onnx file, a run folder, or a loaded artifact.
        split: labelled images, (n, 28, 28) uint8, ink = 255.

    Returns:
        The evaluation, and the model's own softmax (temperature 1), (n, k) float32.

    Raises:
        ModelError: it is not a model of ours.
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
    """Return the logits of a model file for images, as reading would, on all cores.

    Args:
        model: a loaded artifact.
        images: (n, 28, 28) uint8, ink = 255.

    Returns:
        (n, k) float32.
    """
    classifier = Classifier(model, threads=os.cpu_count() or 1)
    return classifier.logits(images.astype(np.float32) / np.float32(255))


def compare(a: Predictions, b: Predictions) -> Comparison:
    """Test whether two models differ on the same test images.

    McNemar's exact test: only the images that one of them alone gets right carry news, and under
    equal models each falls to either side like a fair coin.

    Args:
        a, b: what they said about the same test set.

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

    Unlike the plain one it stays within [0, 1] and holds near the ends, where accuracies live.

    Args:
        right: how many were right.
        count: of how many, at least 1.
    """
    share, z2 = right / count, Z95**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z95 / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    # At the ends the bound is exactly 0 or 1; rounding would leave it a hair beside.
    low = 0.0 if right == 0 else max(0.0, centre - half)
    return low, 1.0 if right == count else min(1.0, centre + half)


def fingerprint(split: "Split") -> str:
    """Return the sha256 of images and labels, by which two runs know that they met the same test.

    Of the bytes alone, unlike `digitry.fingerprint`: predictions are kept with it, and the list of
    disputed labels goes by it.
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
    # Ten rows; an eleventh only where the set itself holds images of no digit.
    rows = max(DIGITS, int(labels.max()) + 1)
    cells = np.bincount(labels.astype(np.int64) * width + best, minlength=rows * width)
    return cells.reshape(rows, width)


def _class_scores(confusion: npt.NDArray[np.int64]) -> tuple[ClassScore, ...]:
    scores = []
    for label, row in enumerate(confusion):
        hits = int(row[label]) if label < len(row) else 0
        said, support = int(confusion[:, label].sum()), int(row.sum())
        precision = hits / said if said else 0.0
        recall = hits / support if support else 0.0
        # 2PR / (P + R) is 2 hits / (said + support): the same, without a division of 0 by 0.
        f1 = 2 * hits / (said + support) if said + support else 0.0
        name = str(label) if label < DIGITS else NOT_A_DIGIT
        scores.append(ClassScore(name, precision, recall, f1, support))
    return tuple(scores)
