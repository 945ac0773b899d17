"""Calibrates a model to a user's labelled images; the calibration is stored beside the model.

The images go through the whole reading pipeline: file, page, ink, glyph, network. So the calibration
fits this camera, these pens and this paper, as far as the images represent them.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from digitry import __version__
from digitry.errors import DataError, ImageError
from digitry.model import calibration_file
from digitry.model.artifact import DIGIT_CLASSES, Artifact
from digitry.model.calibration_checks import Curve, printable
from digitry.model.calibration_file import Calibration
from digitry.model.load import calibration_path, load_uncalibrated
from digitry.progress import track
from digitry.reading.classifier import softmax, threshold_of
from digitry.reading.reader import Reader
from digitry.reading.recognise import Layout
from digitry.training.data import folders
from digitry.training.evaluation.calibration import (
    COOLEST,
    HOTTEST,
    expected_calibration_error,
    risk_coverage,
)
from digitry.training.run_folder import now

if TYPE_CHECKING:
    from rich.console import Console

FEWEST = 50
"""Least number of digits for a calibration. With fewer, the temperature would be mostly noise: with 50
digits, one more error changes the share of errors by two in a hundred."""

SPREAD = 0.5
"""Prior standard deviation of the logarithm of the temperature around the model's own, a factor of 1.65.
Without it, a few dozen digits that are all right would make every confidence 1."""

LIMITS = (0.01, 0.001)
"""Error rates for which the coverage is reported."""

FOLDS = 10
CONFIDENCE_LEVEL = 0.95
"""Of the error bound of a threshold."""

Floats = npt.NDArray[np.floating]
Labels = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Coverage and error at a limit on the error rate.

    Attributes:
        limit: the share of the accepted digits that may be wrong.
        coverage: the share of all images that is accepted, in [0, 1]; None if no threshold keeps
            the limit.
        error: the share of the accepted digits that is wrong, in [0, 1]; None if none is accepted.
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
        accuracy: the share of all images whose most probable digit is right, in [0, 1].
        kept: for each of `LIMITS`.
    """

    nll: float
    ece: float
    accuracy: float
    kept: tuple[Kept, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A calibration to a user's images, and its quality.

    Attributes:
        temperature: fitted to all digits.
        risk_coverage: rows (threshold, error, coverage); the error is an upper bound with 95%
            confidence, so that few digits cannot promise a small error.
        before: quality of the model's own temperature and curve on these images.
        after: quality of the new temperature and curve by 10-fold cross-validation.
    """

    temperature: float
    risk_coverage: Curve
    before: Quality
    after: Quality


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """The result of `calibrate`.

    Attributes:
        calibration: as saved.
        path: of its file.
        model: without the new calibration.
        before, after: quality of the model's own calibration and of the new one on these images.
        unread: number of images with no digit or more than one.
        failed: the errors of images that could not be opened.
    """

    calibration: Calibration
    path: Path
    model: Artifact
    before: Quality
    after: Quality
    unread: int
    failed: tuple[ImageError, ...]


def calibrate(
    folder: Path,
    model: str | Path = "reader",
    *,
    layout: Layout = "single",
    console: "Console | None" = None,
) -> Calibrated:
    """Fit a model's temperature and thresholds to a user's images, and save them beside the model.

    Args:
        folder: with class folders 0 to 9, or with a labels.csv; if it has subfolders `train` and
            `test`, `test` is used.
        model: the name of a shipped model, with or without a version; a .onnx file; or a run folder.
        layout: how the images will be read.
        console: shows progress.

    Raises:
        DataError: the folder has another form, or digits were found in too few images.
        ModelError: the model is missing, damaged, or not from digitry.
        UnavailableError: there is no folder to save the calibration in.
    """
    listed = folders.labelled_pictures(Path(folder))
    loaded = load_uncalibrated(model)
    read = _read(listed, loaded, layout, console)
    images = len(listed) - len(read.failed)
    try:
        fit = fit_source(
            read.logits,
            read.labels,
            images=images,
            temperature=loaded.metadata.temperature,
            curve=loaded.metadata.risk_coverage,
        )
    except DataError as error:
        raise DataError(error.what, where=folder, remedy=error.remedy) from error
    found = Calibration(
        model_sha256=loaded.sha256,
        temperature=fit.temperature,
        risk_coverage=fit.risk_coverage,
        source=printable(Path(folder).resolve().name),
        images=images,
        digits=len(read.labels),
        data_sha256=read.sha256,
        scores={
            f"{name} {when}": value
            for when, quality in (("before", fit.before), ("after", fit.after))
            for name, value in _scores(quality).items()
        },
        created=now(),
        digitry=__version__,
    )
    return Calibrated(
        calibration=found,
        path=calibration_file.save(calibration_path(loaded.reference), found),
        model=loaded,
        before=fit.before,
        after=fit.after,
        unread=images - len(read.labels),
        failed=read.failed,
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class _Read:
    """What a model reads in the labelled images.

    Attributes:
        logits: (n, classes) float64, of the images with one digit, up to a constant for each image.
        labels: (n,) int64.
        failed: the errors of images that could not be opened.
        sha256: of the other images and their labels.
    """

    logits: Floats
    labels: Labels
    failed: tuple[ImageError, ...]
    sha256: str


def _read(
    listed: Sequence[tuple[Path, int]],
    loaded: Artifact,
    layout: Layout,
    console: "Console | None",
) -> _Read:
    reader, temperature = Reader(loaded, layout), loaded.metadata.temperature
    logits, labels, failed = [], [], []
    digest = hashlib.sha256()
    for path, label in track(listed, len(listed), "reading", console):
        try:
            _, glyphs = reader.examine(path)
        except ImageError as error:
            failed.append(error)
            continue
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{content} {label}\n".encode())
        if len(glyphs) == 1:
            # The constant does not change the softmax.
            shares = np.maximum(reader.probabilities(glyphs)[0], 1e-300)
            logits.append(temperature * np.log(shares))
            labels.append(label)
    classes = len(loaded.metadata.labels)
    return _Read(
        logits=np.array(logits, np.float64).reshape(len(labels), classes),
        labels=np.array(labels, np.int64),
        failed=tuple(failed),
        sha256=digest.hexdigest(),
    )


def _scores(quality: Quality) -> dict[str, float]:
    scores = {"nll": quality.nll, "ece": quality.ece, "accuracy": quality.accuracy}
    for kept in quality.kept:
        if kept.coverage is not None:
            scores[f"coverage at {kept.limit:g}"] = kept.coverage
    return scores


def fit_source(
    logits: Floats, labels: Labels, *, images: int, temperature: float, curve: Curve, seed: int = 0
) -> Fit:
    """Return temperature and thresholds fitted to the digits of one source.

    Args:
        logits: (n, k) float, of the images with a digit.
        labels: (n,) integers below 10.
        images: number of all images, including those without a digit.
        temperature: the model's own.
        curve: the model's own risk-coverage curve.
        seed: of the folds.

    Raises:
        DataError: there are fewer than `FEWEST` digits.
    """
    count = len(labels)
    if count < FEWEST:
        raise DataError(
            f"{count} digits are too few to calibrate on",
            remedy=f"label at least {FEWEST}; 300 can show 1 error in 100, 3,000 can show 1 in 1,000",
        )
    own = softmax(logits, temperature)
    thresholds = {limit: np.full(count, _or_never(curve, limit)) for limit in LIMITS}
    before = _quality(own, labels, images, thresholds)

    # Cross-validation: each digit is scored with a calibration fitted to the other folds.
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
    """Return the maximum a posteriori temperature with a prior around `start`.

    The logarithm of the temperature has a normal prior around that of `start` with the standard
    deviation `SPREAD`. With many images the result approaches that of `fit_temperature`.

    Args:
        logits: (n, k) float, of images that the model was not trained on.
        labels: (n,) integers below k.
        start: the temperature expected.

    Returns:
        T, from `COOLEST` to `HOTTEST`.
    """

    def cost(log: float) -> float:
        strain = (log - math.log(start)) / SPREAD
        return len(labels) * _nll(softmax(logits, math.exp(log)), labels) + strain**2 / 2

    return math.exp(_lowest(cost, math.log(COOLEST), math.log(HOTTEST)))


def bounded_curve(probabilities: Floats, labels: Labels, *, images: float) -> Curve:
    """Return the risk-coverage curve with an upper bound of the error in each row.

    Few images cannot prove a small error: 100 right answers show that at most 3% are wrong, not that
    none is. After Geifman and El-Yaniv 2017, "Selective Classification for Deep Neural Networks",
    arxiv.org/abs/1705.08500, with Clopper and Pearson's bound for each row.

    Args:
        probabilities: (n, k) float, calibrated.
        labels: (n,) integers below k.
        images: number of all images, including those without a digit.

    Returns:
        Rows (threshold, error, coverage) as in `risk_coverage`.
    """
    rows = []
    for threshold, error, coverage in risk_coverage(probabilities, labels):
        kept = round(coverage * len(labels))
        bound = upper_bound(round(error * kept), kept)
        rows.append((threshold, bound, kept / max(images, kept)))
    return tuple(rows)


def upper_bound(wrong: int, count: int, level: float = CONFIDENCE_LEVEL) -> float:
    """Return an upper confidence bound of the error rate.

    Clopper and Pearson 1934, one-sided: the rate p at which `wrong` errors or fewer in `count` readings
    have the probability 1 - `level`.

    Args:
        wrong: number of errors, at most `count`.
        count: number of readings.
        level: confidence level, in (0, 1).

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
        if likely(middle) > 1 - level:
            low = middle
        else:
            high = middle
    return high


def _quality(
    probabilities: Floats, labels: Labels, images: int, thresholds: Mapping[float, Floats]
) -> Quality:
    best = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    right = probabilities[:, :DIGIT_CLASSES].argmax(axis=1) == labels
    kept = []
    for limit, least in thresholds.items():
        accepted = (best < DIGIT_CLASSES) & (confidence >= least)
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
    """Return the minimum of a unimodal function, by golden-section search."""
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
