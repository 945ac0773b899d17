"""Fits the calibration of a line network to lines that say what is written in them.

Each kind of answer has its own map (see `model.line_calibration`): a digit alone, a digit among others, and
a line as a whole. The maps are fitted to held-out lines; what they are worth is measured on hands that did
not fit them: of two halves, each is judged by the map of the other.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from digitry import files
from digitry.errors import DataError
from digitry.model import line_calibration
from digitry.model.calibration_checks import Curve
from digitry.model.line_calibration import LEAST, LineCalibration, Scale
from digitry.model.load import load_uncalibrated
from digitry.model.versions import SHIPPED_VERSION
from digitry.reading import network
from digitry.reading.classifier import Classifier
from digitry.reading.recognise import Recogniser
from digitry.reading.view import Said
from digitry.training.evaluation.calibration import binned, curve_of, gap
from digitry.training.evaluation.held_lines import HeldLine, agreeing

KINDS = ("single", "digit", "line")

FEWEST = 50
"""Least number of answers of a kind for a map of its own."""

CHUNK = 64
"""Lines that the networks are asked about at once."""

SOURCE = "held-out hands of MNIST, UNIPEN and LECTAUREP"

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers of one kind.

    Attributes:
        p: (n,) float64 in [0, 1], how probable each is, as the networks say it.
        right: (n,) bool.
        asked: how often there was a question; some were answered with "not a digit".
    """

    p: Floats
    right: Bools
    asked: int

    def take(self, index: npt.NDArray[np.intp]) -> "Answers":
        """Return some of them."""
        return Answers(self.p[index], self.right[index], self.asked)


def fit(held: Sequence[HeldLine], networks: Recogniser) -> LineCalibration:
    """Return the calibration of a line network.

    Args:
        held: lines of both halves.
        networks: the network, and the glyph model that speaks with it of single digits.

    Raises:
        DataError: there are too few lines of a kind.
    """
    said: list[tuple[Said, ...]] = []
    for start in range(0, len(held), CHUNK):
        said += networks.read_cuts([line.cut for line in held[start : start + CHUNK]])
    halves = [
        answers(
            [(said[i], line.text) for i, line in enumerate(held) if line.half == half],
        )
        for half in (0, 1)
    ]
    scales: dict[str, Scale] = {}
    scores: dict[str, float] = {}
    for kind in KINDS:
        a, b = (half[kind] for half in halves)
        both = joined([a, b])
        scales[kind] = fitted(both)
        crossed = np.concatenate([calibrated(b, fitted(a)), calibrated(a, fitted(b))])
        right = np.concatenate([b.right, a.right])
        scores[f"{kind} ece before"] = ece(both.p, both.right)
        scores[f"{kind} ece after"] = ece(crossed, right)
    digest = hashlib.sha256()
    for line in held:
        digest.update(line.cut.ink.tobytes() + line.text.encode() + b"\n")
    return LineCalibration(
        single=scales["single"],
        digit=scales["digit"],
        line=scales["line"],
        source=SOURCE,
        lines=len(held),
        data_sha256=digest.hexdigest(),
        scores={name: round(score, 6) for name, score in scores.items()},
    )


def calibrate(path: Path, held: Sequence[HeldLine], *, threads: int = 1) -> LineCalibration:
    """Fit the calibration of a line network, write it into the file, and return it.

    The package's glyph model speaks with it of single digits.

    Args:
        path: the .onnx file.
        held: lines of both halves.
        threads: threads of the networks.

    Raises:
        DataError: there are too few lines of a kind.
        ModelError: the network cannot be run.
        DigitryError: the file cannot be written.
    """
    found = fit(held, beside_shipped(network.Session(path, threads=threads)))
    write(path, found)
    return found


def beside_shipped(lines: network.Session) -> Recogniser:
    """Return a line network beside the package's other networks."""
    model = Classifier(load_uncalibrated(f"reader@{SHIPPED_VERSION}"))
    return Recogniser(network.shipped("finder"), lines, model, weighs=True, pattern=None)


def answers(lines: Sequence[tuple[Sequence[Said], str]]) -> dict[str, Answers]:
    """Return what was answered, by kind.

    Args:
        lines: the characters that were read, with the networks' own probabilities, and the digits and
            marks that are written.
    """
    found: dict[str, list[tuple[float, bool]]] = {kind: [] for kind in KINDS}
    asked = dict.fromkeys(KINDS, 0)
    for said, meant in lines:
        right = agreeing([one.value for one in said], meant)
        sure = [one.is_mark or one.p[10] <= one.confidence for one in said]
        if len(said) > 1:
            asked["line"] += 1
            if all(sure):
                p = float(np.prod([one.confidence for one in said]))
                found["line"].append((p, all(right) and len(said) == len(meant)))
        for one, is_right, is_sure in zip(said, right, sure, strict=True):
            kind = {"both": "single", "line": "digit"}.get(one.by)
            if one.is_mark or kind is None:
                continue
            asked[kind] += 1
            if is_sure:
                found[kind].append((one.confidence, is_right))
    return {
        kind: Answers(
            np.array([p for p, _ in pairs], np.float64),
            np.array([is_right for _, is_right in pairs], bool),
            asked[kind],
        )
        for kind, pairs in found.items()
    }


def joined(parts: Sequence[Answers]) -> Answers:
    """Return answers of several sources as one."""
    return Answers(
        np.concatenate([part.p for part in parts]),
        np.concatenate([part.right for part in parts]),
        sum(part.asked for part in parts),
    )


def fitted(given: Answers, start: Scale | None = None, spread: float = 10.0) -> Scale:
    """Return the map and the risk-coverage curve of answers of one kind.

    Args:
        given: at least `FEWEST`.
        start: what is expected; None = that nothing changes.
        spread: the standard deviation of slope and shift around it.

    Raises:
        DataError: there are too few answers.
    """
    if len(given.p) < FEWEST:
        raise DataError(
            f"{len(given.p)} answers are too few to calibrate on", remedy=f"give {FEWEST} or more"
        )
    slope, shift = maximum(given, start or Scale(), spread)
    found = Scale(slope=slope, shift=shift)
    curve = curve_of(calibrated(given, found), ~given.right, given.asked)
    return Scale(slope=slope, shift=shift, risk_coverage=rounded(curve))


def maximum(given: Answers, start: Scale, spread: float) -> tuple[float, float]:
    """Return slope and shift that are the most probable, by Newton's method."""
    x = np.stack([odds(given.p), np.ones(len(given.p))], axis=1)
    centre = np.array([start.slope, start.shift])
    at = centre.copy()
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ at))
        slope = x.T @ (given.right - p) - (at - centre) / spread**2
        curvature = (x * (p * (1 - p))[:, None]).T @ x + np.eye(2) / spread**2
        step = np.linalg.solve(curvature, slope)
        # Newton's full step may leap where nearly all answers are right.
        at = at + step * min(1.0, 1.0 / max(float(np.abs(step).max()), 1e-12))
        if float(np.abs(step).max()) < 1e-10:
            break
    return float(round(max(at[0], 0.01), 6)), float(round(at[1], 6))


def odds(p: Floats) -> Floats:
    """Return the logarithm of the odds of probabilities, those near 0 and 1 bounded."""
    kept = np.clip(p, LEAST, 1 - LEAST)
    return np.asarray(np.log(kept / (1 - kept)), np.float64)


def calibrated(given: Answers, scale: Scale) -> Floats:
    """Return the calibrated probabilities of answers."""
    return np.array([scale.probability(float(p)) for p in given.p], np.float64)


def ece(p: Floats, right: Bools) -> float:
    """Return the expected calibration error, in [0, 1]."""
    return gap(binned(p, right))


def rounded(curve: Curve) -> Curve:
    """Return a curve with few digits; its thresholds are rounded up, so that none accepts more."""
    return tuple(
        (min(float(np.ceil(threshold * 1e6) / 1e6), 1.0), round(error, 6), round(coverage, 6))
        for threshold, error, coverage in curve
    )


def write(path: Path, calibration: LineCalibration) -> None:
    """Write a calibration into the metadata of a line network, in place of the one there.

    Raises:
        DigitryError: the file cannot be written.
    """
    import onnx

    model = onnx.load(str(path))
    known: Mapping[str, str] = {entry.key: entry.value for entry in model.metadata_props}
    facts = json.dumps(calibration.to_dict(), allow_nan=False)
    onnx.helper.set_model_props(model, {**known, line_calibration.KEY: facts})
    files.write_bytes(path, model.SerializeToString())
