"""The calibration of the line network: from its probabilities to calibrated ones.

A shipped network has one in its metadata, as a glyph model does. A user's calibration is in a file beside
the network, with the sha256 of the network that it was fitted to.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from digitry.errors import ModelError
from digitry.model.calibration_checks import (
    Curve,
    check_curve,
    check_digest,
    check_scores,
    check_texts,
)
from digitry.model.onnx_wire import message, walk
from digitry.plain import Plain

KEY = "digitry_calibration"
"""The entry of an ONNX file's metadata that holds its calibration."""

LEAST = 1e-4
"""Probabilities are clipped to [LEAST, 1 - LEAST]: a network's own are not reliable beyond that."""

REMEDY = "run `digitry calibrate` again, or remove it with `digitry models uncalibrate lines`"


@dataclass(frozen=True, kw_only=True)
class Scale(Plain):
    """The map to calibrated probabilities for one kind of answer, and its risk-coverage curve.

    The logarithm of the odds is multiplied and shifted (Platt 1999, "Probabilistic outputs for support
    vector machines"): a temperature alone cannot correct a bias.

    Attributes:
        slope: greater than 0; 1 changes nothing.
        shift: 0 changes nothing.
        risk_coverage: rows (threshold, error, coverage), thresholds rising: the share of wrong answers
            among those with a probability >= threshold, and their share of all.
    """

    slope: float = 1.0
    shift: float = 0.0
    risk_coverage: Curve = ()

    def __post_init__(self) -> None:
        if not (0.01 <= self.slope <= 100 and -20 <= self.shift <= 20):
            raise ModelError(f"has the scale {self.slope}, {self.shift}", remedy=REMEDY)
        check_curve(self.risk_coverage, REMEDY)

    def probability(self, p: float) -> float:
        """Return the calibrated probability for a network's probability, both in [0, 1]."""
        if self.slope == 1 and self.shift == 0:
            return p
        kept = min(max(p, LEAST), 1 - LEAST)
        log_odds = self.slope * math.log(kept / (1 - kept)) + self.shift
        return 1 / (1 + math.exp(-min(max(log_odds, -700.0), 700.0)))


@dataclass(frozen=True, kw_only=True)
class LineCalibration(Plain):
    """The calibration of a line network to one source of lines.

    Attributes:
        single: for a digit that stands alone; the line network and the glyph model decide on it together.
        digit: for a digit in a line.
        line: for a line of several characters; it maps the product of their probabilities.
        model_sha256: of the file that it was fitted to; "" within that file itself.
        source: name of the lines.
        lines: number of lines.
        data_sha256: of the lines and what they say.
        scores: name -> number, before and after; measured on lines that did not fit it.
        created: ISO 8601 UTC; "" within the file of a network.
        digitry: the version that wrote it.
    """

    single: Scale = field(default_factory=Scale)
    digit: Scale = field(default_factory=Scale)
    line: Scale = field(default_factory=Scale)
    model_sha256: str = ""
    source: str = ""
    lines: int = 0
    data_sha256: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    created: str = ""
    digitry: str = ""

    def __post_init__(self) -> None:
        for name in ("model_sha256", "data_sha256"):
            if getattr(self, name):
                check_digest(name, getattr(self, name), REMEDY)
        if self.lines < 0:
            raise ModelError(f"counts {self.lines} lines", remedy=REMEDY)
        check_scores(self.scores.values(), REMEDY)
        check_texts((self.source, self.created, self.digitry, *self.scores), REMEDY)


def of_network(content: bytes) -> LineCalibration | None:
    """Return the calibration in the metadata of a line network; None where there is none.

    Raises:
        ModelError: it is damaged.
    """
    for number, value in walk(content):
        if number == 14:
            entry = dict(walk(message(value)))
            if entry.get(1) == KEY.encode():
                try:
                    facts: Any = json.loads(message(entry.get(2, b"")))
                    return LineCalibration.from_dict(facts)
                except (ValueError, RecursionError) as error:
                    raise ModelError(
                        f"has a damaged calibration ({error})", remedy="install digitry again"
                    ) from error
    return None
