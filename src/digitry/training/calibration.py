"""Does a model's confidence mean what it says? Temperature, reliability, and what a threshold buys.

numpy alone: this runs at the end of every training and must cost nothing.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from digitry.errors import DataError
from digitry.reading.classifier import softmax, threshold_of

COOLEST, HOTTEST = 0.2, 10.0
"""Bounds of a fitted temperature. Where every held-out image is right the likelihood only grows as the
temperature falls to 0, which would make each confidence 1: a promise that no small set supports."""

BINS = 15
"""Bins of equal width, as in Guo et al. 2017, so that numbers compare with the literature."""

ROWS = 64
"""Most rows of a risk-coverage curve; it travels in every model file."""

DIGITS = 10

FEWEST = 50
"""Digits that a calibration to one's own source takes at least. Below, the temperature would be that of
chance: with 50 digits, one error more or less changes the share of errors by two in a hundred."""

SPREAD = 0.5
"""How far a source's temperature is expected from the model's own: one standard deviation of its
logarithm, a factor of 1.65. A few dozen digits that are all right must not make every confidence 1."""

LIMITS = (0.01, 0.001)
"""Shares of errors for which a fit says what it costs in coverage."""

FOLDS = 10
SURE = 0.95
"""How surely a threshold of one's own source keeps its share of errors."""


@dataclass(frozen=True, slots=True)
class Bin:
    """The images whose confidence lies in (low, high].

    Attributes:
        low, high: bounds of the confidence, in [0, 1].
        count: images in it.
        confidence: their mean confidence, in [0, 1]; None where there are none.
        accuracy: the share of them that is right, in [0, 1]; None where there are none.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Bin":
        """Rebuild a bin from its JSON form.

        Raises:
            KeyError: `data` has another form.
        """
        return cls(
            *(data[name] for name in ("low", "high", "count", "confidence", "accuracy")),
        )


def fit_temperature(logits: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> float:
    """Find the temperature T for which softmax(logits / T) is most likely to give the labels.

    Guo et al. 2017, "On Calibration of Modern Neural Networks", arxiv.org/abs/1706.04599. The mean
    negative log-likelihood is convex in 1 / T, so Newton's steps, kept within a shrinking bracket,
    find the one minimum.

    Args:
        logits: (n, k) float, of images that the model was not trained on.
        labels: (n,) integers below k.

    Returns:
        T, within `COOLEST` to `HOTTEST`; above 1 where the model is too sure of itself.

    Raises:
        DataError: there are no images.
    """
    if len(logits) == 0:
        raise DataError("no held-out images to fit a temperature on", remedy="hold some out")
    scores = logits.astype(np.float64)
    truth = scores[np.arange(len(scores)), labels]
    low, high = 1 / HOTTEST, 1 / COOLEST
    inverse = 1.0  # 1 / T
    for _ in range(60):
        shares = softmax(scores, 1 / inverse)
        mean = (shares * scores).sum(axis=1)
        slope = float((mean - truth).mean())
        # The variance of the logits under the model's own shares.
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
    """Sort images by the confidence of their best label, and see how many are right in each bin.

    Args:
        probabilities: (n, k) float, rows sum to 1.
        labels: (n,) integers below k.
        bins: of equal width over (0, 1].

    Returns:
        As many bins, from the least to the most confident, the empty ones too.
    """
    right = probabilities.argmax(axis=1) == labels
    return binned(probabilities.max(axis=1).astype(np.float64), right, bins)


def binned(
    confidence: npt.NDArray[np.floating], right: npt.NDArray[np.bool_], bins: int = BINS
) -> tuple[Bin, ...]:
    """Sort answers of any kind by their confidence, and see how many are right in each bin.

    Args:
        confidence: (n,) float, in [0, 1].
        right: (n,) whether each is right.
        bins: of equal width over (0, 1].

    Returns:
        As `reliability`.
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
    """Give the mean distance between confidence and accuracy over bins, weighted by their images.

    Args:
        probabilities: (n, k) float, rows sum to 1.
        labels: (n,) integers below k.
        bins: of equal width over (0, 1].

    Returns:
        The ECE in [0, 1]; 0 = every confidence means what it says.
    """
    return gap(reliability(probabilities, labels, bins))


def gap(bins: tuple[Bin, ...]) -> float:
    """Give the expected calibration error of bins that are already counted, in [0, 1]."""
    total = sum(part.count for part in bins)
    return sum(
        part.count / total * abs(part.accuracy - part.confidence)
        for part in bins
        if part.accuracy is not None and part.confidence is not None
    )


def risk_coverage(
    probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]
) -> tuple[tuple[float, float, float], ...]:
    """Say, for thresholds on the confidence, how many readings remain and how many of them are wrong.

    An image whose best label is not a digit is refused at every threshold: it never counts as read,
    and always as one of all. An image of no digit that is read as one is an error.

    Args:
        probabilities: (n, k) float, calibrated; k is 10, or 11 with "not a digit" last.
        labels: (n,) integers below k.

    Returns:
        Rows (threshold, error, coverage), thresholds rising, at most 64: of the images with
        confidence >= threshold, the share that is wrong; and the share of all that they are.
    """
    best = probabilities.argmax(axis=1)
    read = best < DIGITS
    confidence = probabilities.max(axis=1).astype(np.float64)[read]
    wrong = (best != labels)[read]
    if len(confidence) == 0:
        return ()
    order = np.argsort(-confidence, kind="stable")
    confidence, wrong = confidence[order], wrong[order]
    kept = np.arange(1, len(confidence) + 1)
    errors = np.cumsum(wrong) / kept
    # A threshold takes all images of equal confidence or none: only the last of each can be a row.
    ends = np.flatnonzero(np.append(np.diff(confidence) != 0, True))
    rows = [
        (float(confidence[end]), float(errors[end]), float(kept[end] / len(labels)))
        for end in _spread(ends, errors, kept)
    ]
    return tuple(reversed(rows))


def _spread(
    ends: npt.NDArray[np.intp], errors: npt.NDArray[np.floating], kept: npt.NDArray[np.integer]
) -> npt.NDArray[np.intp]:
    """Thin rows where the curve says least: errors all lie among the least confident images."""
    if len(ends) <= ROWS:
        return ends
    # Half of the rows at even steps of coverage; half just before the 1st, 2nd, ... error, in growing
    # steps, since small shares of errors are what one asks for.
    wrong = np.rint(errors[ends] * kept[ends])
    half = ROWS // 2
    by_coverage = np.searchsorted(kept[ends], np.linspace(kept[ends[0]], kept[ends[-1]], half))
    by_errors = np.searchsorted(wrong, np.geomspace(1, max(wrong[-1], 2), half)) - 1
    chosen = np.unique(np.concatenate([by_coverage, by_errors]).clip(0, len(ends) - 1))
    return np.asarray(ends[chosen], np.intp)


# --- to one's own source ---------------------------------------------------------------------------


Curve = tuple[tuple[float, float, float], ...]
Floats = npt.NDArray[np.floating]
Labels = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a limit on the share of errors leaves.

    Attributes:
        limit: the share of the accepted digits that may be wrong.
        coverage: the share of all images that is accepted, in [0, 1]; None where no threshold keeps
            the limit.
        error: the share of these that is wrong, in [0, 1]; None where none is accepted.
    """

    limit: float
    coverage: float | None
    error: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How well a calibration holds on labelled images.

    Attributes:
        nll: mean negative log-likelihood of the true digit, in nats.
        ece: expected calibration error, in [0, 1].
        accuracy: the share of all images whose best guess is right, in [0, 1].
        kept: for each of `LIMITS`.
    """

    nll: float
    ece: float
    accuracy: float
    kept: tuple[Kept, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A calibration to one's own source, and what it is worth.

    Attributes:
        temperature: fitted to all digits.
        risk_coverage: rows (threshold, error, coverage); the error is an upper bound that holds with
            95% confidence, so that few digits cannot vouch for a small share.
        before: the model's own temperature and curve on these images.
        after: temperature and curve fitted to nine tenths of them and measured on the tenth, in turn.
    """

    temperature: float
    risk_coverage: Curve
    before: Quality
    after: Quality


def fit_source(
    logits: Floats, labels: Labels, *, images: int, temperature: float, curve: Curve, seed: int = 0
) -> Fit:
    """Fit temperature and thresholds to the digits of one source.

    Args:
        logits: (n, k) float, of the images in which a digit was found.
        labels: (n,) integers below 10.
        images: how many there were, with those in which nothing was found.
        temperature: the model's own.
        curve: the model's own.
        seed: of the folds.

    Raises:
        DataError: there are fewer than `FEWEST` digits.
    """
    count = len(labels)
    if count < FEWEST:
        raise DataError(
            f"{count} digits are too few to calibrate to",
            remedy=f"label {FEWEST} at least; 300 can vouch for 1 error in 100, 3,000 for 1 in 1,000",
        )
    own = softmax(logits, temperature)
    thresholds = {limit: np.full(count, _or_never(curve, limit)) for limit in LIMITS}
    before = _quality(own, labels, images, thresholds)

    # Each digit is judged by what the other folds say, so nothing is measured on what it was fitted to.
    folds = np.random.default_rng(seed).permutation(count) % FOLDS
    judged = np.empty_like(own)
    thresholds = {limit: np.empty(count) for limit in LIMITS}
    for fold in range(FOLDS):
        here, others = folds == fold, folds != fold
        fitted = fit_temperature_near(logits[others], labels[others], temperature)
        judged[here] = softmax(logits[here], fitted)
        share = images * int(others.sum()) / count
        known = bounded_curve(softmax(logits[others], fitted), labels[others], images=share)
        for limit in LIMITS:
            thresholds[limit][here] = _or_never(known, limit)
    after = _quality(judged, labels, images, thresholds)

    fitted = fit_temperature_near(logits, labels, temperature)
    known = bounded_curve(softmax(logits, fitted), labels, images=images)
    return Fit(temperature=fitted, risk_coverage=known, before=before, after=after)


def fit_temperature_near(logits: Floats, labels: Labels, start: float) -> float:
    """Find the most probable temperature, where one about `start` was expected before.

    The logarithm of the temperature is expected to lie about that of `start` with a standard deviation
    of `SPREAD`: a maximum a posteriori fit. With many images it is `fit_temperature`.

    Args:
        logits: (n, k) float, of images that the model was not trained on.
        labels: (n,) integers below k.
        start: the temperature expected.

    Returns:
        T, within `COOLEST` to `HOTTEST`.
    """

    def cost(log: float) -> float:
        strain = (log - math.log(start)) / SPREAD
        return len(labels) * _nll(softmax(logits, math.exp(log)), labels) + strain**2 / 2

    return math.exp(_lowest(cost, math.log(COOLEST), math.log(HOTTEST)))


def bounded_curve(probabilities: Floats, labels: Labels, *, images: float) -> Curve:
    """Give the risk-coverage curve with upper bounds in place of the shares that were seen.

    A threshold found on few images must not promise what they cannot show: 100 right answers say that
    at most 3% are wrong, not that none is. After Geifman and El-Yaniv 2017, "Selective Classification
    for Deep Neural Networks", arxiv.org/abs/1705.08500, with Clopper and Pearson's bound for each row.

    Args:
        probabilities: (n, k) float, calibrated.
        labels: (n,) integers below k.
        images: how many there were, with those in which nothing was found.

    Returns:
        Rows (threshold, error, coverage) as of `risk_coverage`.
    """
    rows = []
    for threshold, error, coverage in risk_coverage(probabilities, labels):
        kept = round(coverage * len(labels))
        bound = upper_bound(round(error * kept), kept)
        rows.append((threshold, bound, kept / max(images, kept)))
    return tuple(rows)


def upper_bound(wrong: int, count: int, sure: float = SURE) -> float:
    """Give the share of errors that is not exceeded, for all that so many errors tell.

    Clopper and Pearson 1934, one-sided: the share p for which `wrong` errors or fewer in `count` come
    about with probability 1 - `sure`.

    Args:
        wrong: errors seen, at most `count`.
        count: readings.
        sure: how surely, in (0, 1).

    Returns:
        The bound, in [0, 1].
    """
    if wrong >= count:
        return 1.0
    steps = np.arange(1, wrong + 1)
    ways = np.concatenate([[0.0], np.cumsum(np.log((count - steps + 1) / steps))])
    errors = np.arange(wrong + 1)

    def likely(share: float) -> float:
        logs = ways + errors * math.log(share) + (count - errors) * math.log1p(-share)
        return float(np.exp(logs).sum())

    low, high = wrong / count, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if likely(middle) > 1 - sure:
            low = middle
        else:
            high = middle
    return high


def _quality(
    probabilities: Floats, labels: Labels, images: int, thresholds: Mapping[float, Floats]
) -> Quality:
    best = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    right = probabilities[:, :DIGITS].argmax(axis=1) == labels
    kept = []
    for limit, least in thresholds.items():
        accepted = (best < DIGITS) & (confidence >= least)
        count = int(accepted.sum())
        kept.append(
            Kept(
                limit=limit,
                coverage=count / images if np.isfinite(least).any() else None,
                error=float((~right[accepted]).mean()) if count else None,
            )
        )
    return Quality(
        nll=_nll(probabilities, labels),
        ece=expected_calibration_error(probabilities, labels),
        accuracy=int(right.sum()) / images,
        kept=tuple(kept),
    )


def _or_never(curve: Curve, limit: float) -> float:
    threshold = threshold_of(curve, limit)
    return math.inf if threshold is None else threshold


def _nll(probabilities: Floats, labels: Labels) -> float:
    true = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(true, 1e-300)).mean())


def _lowest(cost: Callable[[float], float], low: float, high: float) -> float:
    """Find where a function with one valley is lowest, by golden sections."""
    ratio = (math.sqrt(5) - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    left, right = cost(a), cost(b)
    while high - low > 1e-5:
        if left < right:
            high, b, right = b, a, left
            a = high - ratio * (high - low)
            left = cost(a)
        else:
            low, a, left = a, b, right
            b = low + ratio * (high - low)
            right = cost(b)
    return (low + high) / 2
