"""Confidences are calibrated by whoever decided, and what is too unsure is refused by its curve."""

import math

import numpy as np
import pytest

from digitry.errors import UsageError
from digitry.model.line_calibration import LineCalibration, Scale
from digitry.model.line_network import load_lines
from digitry.model.load import load_model
from digitry.reading.boxes import Box as BoxOnCut
from digitry.reading.confidence import NEVER, Trust, trust_for
from digitry.reading.find import Place
from digitry.reading.pieces import Piece
from digitry.reading.result import Box
from digitry.reading.view import Decider, ReadLine, Said

METADATA = load_model("reader@shipped").metadata
CURVE = ((0.3, 0.2, 1.0), (0.8, 0.05, 0.9), (0.9, 0.01, 0.5))
MODEST = LineCalibration(
    single=Scale(shift=1.0, risk_coverage=CURVE),
    digit=Scale(shift=2.0, risk_coverage=CURVE[:2]),
    line=Scale(slope=0.5),
)


def digit(value: int, confidence: float, by: Decider = "line", none: float = 0.0) -> Said:
    p = np.full(11, (1 - confidence - none) / 9)
    p[value], p[10] = confidence, none
    piece = Piece(np.zeros((4, 4), np.float32), True, BoxOnCut(0, 4, 0, 4))
    return Said(str(value), p, confidence, Box(0, 0, 4, 4), piece, by)


def line(*said: Said) -> ReadLine:
    return ReadLine(Place((0, 0), (9, 0), 9, 1.0), said, ((0, len(said)),), True)


def test_each_decider_has_its_own_map() -> None:
    odds = {}
    for by in ("line", "both", "model"):
        (said,) = Trust(MODEST).calibrated(line(digit(3, 0.6, by))).said
        odds[by] = math.log(said.confidence / (1 - said.confidence)) - math.log(0.6 / 0.4)
        assert said.p.sum() == pytest.approx(1)
        assert said.p[3] == said.confidence
    assert odds == pytest.approx({"line": 2.0, "both": 1.0, "model": 0.0})


def test_the_best_guess_stays_the_best_however_far_its_confidence_falls() -> None:
    said = digit(3, 0.5)
    said.p[:] = 0
    said.p[[3, 5, 8]] = 0.5, 0.45, 0.05
    low = LineCalibration(digit=Scale(shift=-5.0))
    (found,) = Trust(low).calibrated(line(said)).said
    assert int(found.p.argmax()) == 3
    assert found.p.sum() == pytest.approx(1)
    assert found.confidence < 0.5


def test_what_is_more_probably_no_digit_is_not_made_one() -> None:
    said = digit(3, 0.2, none=0.6)
    assert Trust(MODEST).calibrated(line(said)).said[0] is said


def test_the_confidence_of_a_line_is_mapped_as_a_whole() -> None:
    trust = Trust(MODEST)
    product = 0.9 * 0.8
    known = MODEST.line.probability(product)
    assert trust.whole(line(digit(1, 0.9), digit(2, 0.8))) == pytest.approx(known)
    assert known != pytest.approx(product)
    # What a model decides digit by digit has no map of lines.
    assert trust.whole(line(digit(1, 0.9, "model"), digit(2, 0.8, "model"))) == pytest.approx(
        product
    )
    alone = digit(4, 0.7, "both")
    assert trust.whole(line(alone)) == trust.calibrated(line(alone)).said[0].confidence


def test_a_share_of_errors_is_kept_by_the_curve_of_whoever_decided() -> None:
    trust = trust_for(METADATA, MODEST, 0.05)
    assert (trust.single, trust.digit) == (0.8, 0.8)
    assert trust.refuses(digit(1, 0.79))
    assert not trust.refuses(digit(1, 0.81))
    strict = trust_for(METADATA, MODEST, 0.01)
    assert strict.single == 0.9
    # The curve of digits among others never came so low: none of them is accepted.
    assert strict.digit == NEVER
    assert strict.refuses(digit(1, 1.0))
    assert not trust_for(METADATA, MODEST, None).refuses(digit(1, 0.51))


def test_a_network_without_curves_promises_nothing() -> None:
    with pytest.raises(UsageError, match="the line network has no risk-coverage curve"):
        trust_for(METADATA, LineCalibration(), 0.01)


def test_the_shipped_network_has_a_calibration_of_its_own() -> None:
    own = load_lines("lines@shipped").calibration
    for scale in (own.single, own.digit, own.line):
        assert scale.risk_coverage
        assert scale != Scale(risk_coverage=scale.risk_coverage)
    # Measured on hands that did not fit it.
    for kind in ("single", "digit", "line"):
        assert own.scores[f"{kind} ece after"] < own.scores[f"{kind} ece before"]
    assert own.scores["digit ece after"] < 0.01
    assert trust_for(METADATA, own, 0.01).digit < 1
