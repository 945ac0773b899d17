"""Calibrates the line network to a user's images of strings; the calibration is stored beside the network.

The images go through the whole reading pipeline. With few images, the maps stay close to the network's own,
and the bounds of the curves are wide.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from digitry import __version__
from digitry.errors import DataError, ImageError
from digitry.improve.calibrate import FOLDS, upper_bound
from digitry.model import calibration_file, line_network
from digitry.model.calibration_checks import Curve, printable
from digitry.model.line_calibration import LineCalibration, Scale
from digitry.progress import track
from digitry.reading.boxes import Box as BoxOnCut
from digitry.reading.pieces import Piece
from digitry.reading.reader import Reader
from digitry.reading.recognise import Layout
from digitry.reading.result import Digit, Mark, Reading
from digitry.reading.view import Said
from digitry.training.data import folders
from digitry.training.evaluation.calibration import curve_of
from digitry.training.evaluation.held_lines import plain
from digitry.training.evaluation.line_calibration import (
    KINDS,
    Answers,
    Floats,
    answers,
    calibrated,
    ece,
    maximum,
    rounded,
)
from digitry.training.run_folder import now

if TYPE_CHECKING:
    from rich.console import Console

FEWEST = 50
"""Least number of lines for a calibration, and of answers of one kind for a map of that kind."""

SPREAD = 0.5
"""Prior standard deviation of slope and shift around the network's own."""

NO_INK = Piece(np.zeros((1, 1), np.float32), False, BoxOnCut(0, 1, 0, 1))


@dataclass(frozen=True, kw_only=True)
class CalibratedLines:
    """The result of `calibrate_lines`.

    Attributes:
        calibration: as saved; its scores are those of the kinds that were fitted, before and after, by
            10-fold cross-validation.
        path: of its file.
        network: the name of the network.
        right: how many lines were read right as a whole.
        kept: the kinds that had too few answers, and keep the network's own map.
        failed: the errors of images that could not be opened.
    """

    calibration: LineCalibration
    path: Path
    network: str
    right: int
    kept: tuple[str, ...]
    failed: tuple[ImageError, ...]


def has_strings(folder: Path) -> bool:
    """Return whether the images of a folder are labelled with more than one digit each.

    Raises:
        DataError: it is not a labelled folder.
    """
    return any(len(text) > 1 for _, text in folders.labelled_texts(folder))


def calibrate_lines(
    folder: Path, *, layout: Layout = "auto", console: "Console | None" = None
) -> CalibratedLines:
    """Fit the line network's maps and curves to a user's images, and save them beside the network.

    Args:
        folder: with a labels.csv, or with a folder for each text; one string in each image.
        layout: how the images will be read.
        console: shows progress.

    Raises:
        DataError: the folder has another form, or too few lines were found.
        UnavailableError: there is no folder to save the calibration in.
    """
    listed = folders.labelled_texts(Path(folder))
    network = line_network.load_lines(calibrated=False)
    # A calibration that changes nothing leaves the networks' own probabilities in a reading.
    reader = Reader("reader", layout, lines=replace(network, calibration=LineCalibration()))
    read: list[tuple[list[Said], str]] = []
    failed: list[ImageError] = []
    digest = hashlib.sha256()
    for path, label in track(listed, len(listed), "reading", console):
        try:
            reading, digits = reader.examine_digits(path)
        except ImageError as error:
            failed.append(error)
            continue
        digest.update(hashlib.sha256(path.read_bytes()).digest() + f" {label}\n".encode())
        read.append((characters(reading, digits), plain(label)))
    found = answers(read)
    if len(found["line"].p) < FEWEST:
        raise DataError(
            f"{len(found['line'].p)} lines that were read are too few to calibrate on",
            where=folder,
            remedy=f"label at least {FEWEST} images of strings; 300 can show 1 error in 100",
        )
    scales: dict[str, Scale] = {}
    scores: dict[str, float] = {}
    for kind in KINDS:
        own: Scale = getattr(network.calibration, kind)
        scales[kind], worth = fit_near(found[kind], own)
        scores |= {f"{kind} {name}": value for name, value in worth.items()}
    made = LineCalibration(
        single=scales["single"],
        digit=scales["digit"],
        line=scales["line"],
        model_sha256=network.sha256,
        source=printable(Path(folder).resolve().name),
        lines=len(read),
        data_sha256=digest.hexdigest(),
        scores=scores,
        created=now(),
        digitry=__version__,
    )
    return CalibratedLines(
        calibration=made,
        path=calibration_file.save(line_network.calibration_path(network.reference), made),
        network=network.reference,
        right=sum("".join(one.value for one in said) == text for said, text in read),
        kept=tuple(kind for kind in KINDS if len(found[kind].p) < FEWEST),
        failed=tuple(failed),
    )


def characters(reading: Reading, digits: Sequence[Said]) -> list[Said]:
    """Return the characters of a reading from left to right, line by line, marks among them."""
    marks = [
        Said(mark.text, np.zeros(11), mark.confidence, mark.box, NO_INK) for mark in reading.marks
    ]
    shown: list[tuple[Digit | Mark, Said]] = [
        *zip(reading.digits, digits, strict=True),
        *zip(reading.marks, marks, strict=True),
    ]
    shown.sort(key=lambda pair: (pair[0].line, pair[0].box.x))
    return [said for _, said in shown]


def fit_near(given: Answers, own: Scale) -> tuple[Scale, dict[str, float]]:
    """Return the map of a user's answers, close to the network's own, and its ECE by cross-validation.

    With fewer than `FEWEST` answers it is the network's own map.
    """
    count = len(given.p)
    if count < FEWEST:
        return own, {}
    folds = np.random.default_rng(0).permutation(count) % FOLDS
    crossed = np.empty(count)
    for fold in range(FOLDS):
        here, others = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        slope, shift = maximum(given.take(others), own, SPREAD)
        crossed[here] = calibrated(given.take(here), Scale(slope=slope, shift=shift))
    slope, shift = maximum(given, own, SPREAD)
    fitted = Scale(slope=slope, shift=shift)
    curve = bounded(calibrated(given, fitted), given)
    return Scale(slope=slope, shift=shift, risk_coverage=curve), {
        "ece before": ece(calibrated(given, own), given.right),
        "ece after": ece(crossed, given.right),
    }


def bounded(p: Floats, given: Answers) -> Curve:
    """Return the risk-coverage curve with an upper bound of the error in each row, at 95% confidence."""
    rows = []
    for threshold, error, coverage in curve_of(p, ~given.right, given.asked):
        kept = round(coverage * given.asked)
        rows.append((threshold, upper_bound(round(error * kept), kept), coverage))
    return rounded(tuple(rows))
