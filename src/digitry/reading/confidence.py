"""Calibrated probabilities of a reading, and the thresholds below which digits are refused.

What decides on a digit: the line network for digits in a line; the line network and the glyph model for a
digit that stands alone; the glyph model by itself if it is sure of a single digit, or is the user's own.
Each of the three has its calibration and its risk-coverage curve.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from digitry.errors import UsageError
from digitry.model.artifact import Metadata
from digitry.model.calibration_checks import Curve
from digitry.model.line_calibration import LineCalibration, Scale
from digitry.reading.classifier import DEFAULT_THRESHOLD, threshold_for, threshold_of
from digitry.reading.view import ReadLine, Said

NEVER = math.inf
"""Threshold if no threshold keeps the share of errors: every answer is refused."""


@dataclass(frozen=True, slots=True)
class Trust:
    """The calibration of a reading, and the thresholds for refusing.

    Attributes:
        calibration: of the line network; the model's probabilities are calibrated already.
        model: threshold for a digit that the glyph model decided on.
        single: threshold for a digit that stands alone, by both networks.
        digit: threshold for a digit in a line, by the line network.
    """

    calibration: LineCalibration
    model: float = DEFAULT_THRESHOLD
    single: float = DEFAULT_THRESHOLD
    digit: float = DEFAULT_THRESHOLD

    def calibrated(self, line: ReadLine) -> ReadLine:
        """Return a line whose characters have calibrated probabilities."""
        return replace(line, said=tuple(self._calibrated(said) for said in line.said))

    def whole(self, line: ReadLine) -> float:
        """Return the probability that a line is right as a whole.

        Args:
            line: as the networks read it.
        """
        if len(line.said) == 1:
            return self._calibrated(line.said[0]).confidence
        product = math.prod(said.confidence for said in line.said)
        return self.calibration.line.probability(product) if by_network(line) else product

    def refuses(self, said: Said) -> bool:
        """Return whether a digit with a calibrated probability is too unsure to be accepted."""
        least = {"model": self.model, "both": self.single, "line": self.digit}
        return said.confidence < least[said.by]

    def _calibrated(self, said: Said) -> Said:
        # If "no digit" is more probable than the digit, the confidence stays as it is.
        if said.is_mark or said.by == "model" or said.p[10] > said.confidence:
            return said
        scale = self.calibration.single if said.by == "both" else self.calibration.digit
        return _scaled(said, scale)


def by_network(line: ReadLine) -> bool:
    """Return whether the line network decided what a line says, not a model digit by digit."""
    return all(said.by != "model" for said in line.said)


def _scaled(said: Said, scale: Scale) -> Said:
    """Return a digit with its calibrated probability; the alternatives share the rest as before."""
    sure = scale.probability(said.confidence)
    rest = float(said.p.sum()) - said.confidence
    if sure == said.confidence or rest <= 0:
        return said
    second = float(np.delete(said.p, int(said.value)).max())
    if said.confidence >= second:
        # The best guess stays the best: of the rest, the second has at most as much.
        sure = max(sure, second / (rest + second))
    p = said.p * ((1 - sure) / rest)
    p[int(said.value)] = sure
    return replace(said, p=p, confidence=sure)


def trust_for(metadata: Metadata, calibration: LineCalibration, max_error: float | None) -> Trust:
    """Return what is accepted if at most a share of it may be wrong.

    Args:
        metadata: of the model.
        calibration: of the line network.
        max_error: the share, in (0, 1); None accepts what is more likely right than wrong.

    Raises:
        UsageError: it is not in (0, 1), or the model's curve does not reach it, or the line network
            has no curves.
    """
    model = threshold_for(metadata, max_error)
    if max_error is None:
        return Trust(calibration)
    kinds = (calibration.single, calibration.digit)
    if not all(kind.risk_coverage for kind in kinds):
        raise UsageError(
            "the line network has no risk-coverage curve to set a threshold by",
            remedy="calibrate it with `digitry calibrate`, or do not set max_error",
        )
    single, digit = (_or_never(kind.risk_coverage, max_error) for kind in kinds)
    return Trust(calibration, model, single, digit)


def _or_never(curve: Curve, max_error: float) -> float:
    threshold = threshold_of(curve, max_error)
    return NEVER if threshold is None else threshold
