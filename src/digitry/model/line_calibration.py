"""The calibration of the line network: from what it says to how probable that is right.

A shipped network holds its own in its metadata, as a glyph model does; a user's own lies in a file
beside the network, which says which bytes it was fitted to.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from digitry.errors import ModelError
from digitry.model.onnx_wire import message, walk
from digitry.plain import Plain

KEY = "digitry_calibration"
"""The entry of an ONNX file's metadata that holds its calibration."""

LEAST = 1e-4
"""A probability is taken as no nearer to 0 or 1: beyond, the network's own is not to be believed."""

MAX_ROWS, MAX_TEXT = 256, 400
REMEDY = "run `digitry calibrate` again, or remove it with `digitry models uncalibrate lines`"

Curve = tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Scale(Plain):
    """What makes probabilities of one kind of answer, and what share of them is wrong.

    The logarithm of the odds is multiplied and shifted (Platt 1999, "Probabilistic outputs for support
    vector machines"): a temperature alone cannot mend a network that is too modest.

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
        thresholds = [row[0] for row in self.risk_coverage]
        if len(thresholds) > MAX_ROWS or thresholds != sorted(thresholds):
            raise ModelError(
                "has a risk-coverage curve that is unsorted or too long", remedy=REMEDY
            )
        if not all(0 <= share <= 1 for row in self.risk_coverage for share in row):
            raise ModelError("has a risk-coverage curve with values outside 0 to 1", remedy=REMEDY)

    def probability(self, p: float) -> float:
        """Return the calibrated probability of one that a network gave, both in [0, 1]."""
        if self.slope == 1 and self.shift == 0:
            return p
        kept = min(max(p, LEAST), 1 - LEAST)
        log_odds = self.slope * math.log(kept / (1 - kept)) + self.shift
        return 1 / (1 + math.exp(-min(max(log_odds, -700.0), 700.0)))


@dataclass(frozen=True, kw_only=True)
class LineCalibration(Plain):
    """The calibration of a line network to one source of lines.

    Attributes:
        single: of a digit alone, of which the line network and the glyph model speak together.
        digit: of a digit among others.
        line: of a whole line of several characters; it maps the product of theirs.
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
            if not re.fullmatch(r"([0-9a-f]{64})?", getattr(self, name)):
                raise ModelError(f"{name} is not a SHA-256 hex digest", remedy=REMEDY)
        if self.lines < 0 or not all(math.isfinite(score) for score in self.scores.values()):
            raise ModelError("has a number that cannot be", remedy=REMEDY)
        for text in (self.source, self.created, self.digitry, *self.scores):
            # These texts are printed on a terminal: no control characters.
            if len(text) > MAX_TEXT or not text.isprintable():
                raise ModelError("has text that is too long or not printable", remedy=REMEDY)


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
