"""Calibration of confidences: temperature scaling, reliability diagrams, risk-coverage curves.

Needs only NumPy and is fast, because it runs at the end of every training.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from digitry.errors import DataError
from digitry.model.artifact import DIGIT_CLASSES
from digitry.model.calibration_checks import Curve
from digitry.plain import Plain
from digitry.reading.classifier import softmax

COOLEST, HOTTEST = 0.2, 10.0
"""Bounds of a fitted temperature. If every held-out image is right, the likelihood grows until the
temperature is 0 and every confidence 1, which no small set of images justifies."""

BINS = 15
"""Number of bins of equal width, as in Guo et al. 2017, to be comparable with the literature."""

ROWS = 64
"""Rows of a risk-coverage curve, at most: the curve is part of every model file."""


@dataclass(frozen=True, slots=True)
class Bin(Plain):
    """The images with a confidence in (low, high].

    Attributes:
        low, high: bounds of the confidence, in [0, 1].
        count: number of images.
        confidence: their mean confidence, in [0, 1]; None without images.
        accuracy: the share that is right, in [0, 1]; None without images.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


def fit_temperature(logits: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> float:
    """Return the temperature T that minimises the cross-entropy of softmax(logits / T).

    Guo et al. 2017, "On Calibration of Modern Neural Networks", arxiv.org/abs/1706.04599. The mean
    negative log-likelihood is convex in 1 / T, so Newton's method within a shrinking bracket finds its
    only minimum.

    Args:
        logits: (n, k) float, of images that the model was not trained on.
        labels: (n,) integers below k.

    Returns:
        T, within `COOLEST` to `HOTTEST`; above 1 if the model is overconfident.

    Raises:
        DataError: there are no images.
    """
    if len(logits) == 0:
        raise DataError(
            "no held-out images to fit a temperature on", remedy="set a validation share above 0"
        )
    scores = logits.astype(np.float64)
    truth = scores[np.arange(len(scores)), labels]
    low, high = 1 / HOTTEST, 1 / COOLEST
    inverse = 1.0  # 1 / T
    for _ in range(60):
        shares = softmax(scores, 1 / inverse)
        mean = (shares * scores).sum(axis=1)
        slope = float((mean - truth).mean())
        # The variance of the logits under the model's own probabilities.
        curvature = float((shares * (scores - mean[:, None]) ** 2).sum(axis=1).mean())
        if slope > 0:
            high = inverse
        else:
            low = inverse
        step = inverse - slope / curvature if curvature > 0 else low
        if not low < step < high:
            step = (low + high) / 2
        if abs(step - inverse) < 1e-9:
            break
        inverse = step
    return float(np.clip(1 / inverse, COOLEST, HOTTEST))


def reliability(
    probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], bins: int = BINS
) -> tuple[Bin, ...]:
    """Return the reliability diagram: accuracy by confidence of the best label, in bins.

    Args:
        probabilities: (n, k) float, rows sum to 1.
        labels: (n,) integers below k.
        bins: number of bins of equal width over (0, 1].

    Returns:
        All bins from low to high confidence, including empty ones.
    """
    right = probabilities.argmax(axis=1) == labels
    return binned(probabilities.max(axis=1).astype(np.float64), right, bins)


def binned(
    confidence: npt.NDArray[np.floating], right: npt.NDArray[np.bool_], bins: int = BINS
) -> tuple[Bin, ...]:
    """Return a reliability diagram of any kind of answers.

    Args:
        confidence: (n,) float, in [0, 1].
        right: (n,) bool, whether each answer is right.
        bins: number of bins of equal width over (0, 1].

    Returns:
        The same as `reliability`.
    """
    # A confidence on an edge belongs to the bin below it, as in (low, high].
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    sums = np.bincount(index, confidence, minlength=bins)
    hits = np.bincount(index, right, minlength=bins)
    return tuple(
        Bin(
            low=number / bins,
            high=(number + 1) / bins,
            count=int(count),
            confidence=float(sums[number] / count) if count else None,
            accuracy=float(hits[number] / count) if count else None,
        )
        for number, count in enumerate(counts)
    )


def expected_calibration_error(
    probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], bins: int = BINS
) -> float:
    """Return the mean difference of confidence and accuracy over bins, weighted by their counts.

    Args:
        probabilities: (n, k) float, rows sum to 1.
        labels: (n,) integers below k.
        bins: number of bins of equal width over (0, 1].

    Returns:
        The ECE in [0, 1]; 0 = perfectly calibrated.
    """
    return gap(reliability(probabilities, labels, bins))


def gap(bins: tuple[Bin, ...]) -> float:
    """Return the expected calibration error of the bins of `reliability`, in [0, 1]."""
    total = sum(part.count for part in bins)
    return sum(
        part.count / total * abs(part.accuracy - part.confidence)
        for part in bins
        if part.accuracy is not None and part.confidence is not None
    )


def risk_coverage(
    probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]
) -> Curve:
    """Return error and coverage for thresholds on the confidence.

    An image whose best label is "not a digit" is refused at every threshold: it counts as an image, but
    not as read. An image that is not a digit but is read as one is an error.

    Args:
        probabilities: (n, k) float, calibrated; k is 10, or 11 with "not a digit" last.
        labels: (n,) integers below k.

    Returns:
        Rows (threshold, error, coverage), thresholds rising, at most 64: the share of wrong readings
        among the images with confidence >= threshold, and their share of all images.
    """
    best = probabilities.argmax(axis=1)
    read = best < DIGIT_CLASSES
    confidence = probabilities.max(axis=1).astype(np.float64)[read]
    return curve_of(confidence, (best != labels)[read], len(labels))


def curve_of(
    confidence: npt.NDArray[np.float64], wrong: npt.NDArray[np.bool_], count: int
) -> Curve:
    """Return error and coverage of any kind of answers, for thresholds on their confidence.

    Args:
        confidence: (n,) of the answers, in [0, 1].
        wrong: (n,) which of them are wrong.
        count: of all questions, answered or not.

    Returns:
        The same as `risk_coverage`.
    """
    if len(confidence) == 0:
        return ()
    order = np.argsort(-confidence, kind="stable")
    confidence, wrong = confidence[order], wrong[order]
    kept = np.arange(1, len(confidence) + 1)
    errors = np.cumsum(wrong) / kept
    # A threshold includes all images of equal confidence: only the last of them can be a row.
    ends = np.flatnonzero(np.append(np.diff(confidence) != 0, True))
    rows = [
        (float(confidence[end]), float(errors[end]), float(kept[end] / count))
        for end in _spread(ends, errors, kept)
    ]
    return tuple(reversed(rows))


def _spread(
    ends: npt.NDArray[np.intp], errors: npt.NDArray[np.floating], kept: npt.NDArray[np.integer]
) -> npt.NDArray[np.intp]:
    """Return at most `ROWS` of the row indices, dense where the error is small."""
    if len(ends) <= ROWS:
        return ends
    # Half of the rows at even steps of coverage; half just before the 1st, 2nd, ... error, in growing
    # steps, because users ask for small shares of errors.
    wrong = np.rint(errors[ends] * kept[ends])
    half = ROWS // 2
    by_coverage = np.searchsorted(kept[ends], np.linspace(kept[ends[0]], kept[ends[-1]], half))
    by_errors = np.searchsorted(wrong, np.geomspace(1, max(wrong[-1], 2), half)) - 1
    chosen = np.unique(np.concatenate([by_coverage, by_errors]).clip(0, len(ends) - 1))
    return np.asarray(ends[chosen], np.intp)
