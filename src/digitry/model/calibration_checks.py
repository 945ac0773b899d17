"""Checks that the calibrations of the glyph model and of the line network share."""

import math
import re
from collections.abc import Iterable

from digitry.errors import ModelError

MAX_ROWS, MAX_TEXT = 256, 400

Curve = tuple[tuple[float, float, float], ...]
"""Rows (threshold, error, coverage), thresholds rising."""


def check_curve(curve: Curve, remedy: str) -> None:
    """Raise a ModelError if a risk-coverage curve is unsorted, too long, or not of shares."""
    thresholds = [row[0] for row in curve]
    if len(thresholds) > MAX_ROWS or thresholds != sorted(thresholds):
        raise ModelError("has a risk-coverage curve that is unsorted or too long", remedy=remedy)
    if not all(0 <= share <= 1 for row in curve for share in row):
        raise ModelError("has a risk-coverage curve with values outside 0 to 1", remedy=remedy)


def check_digest(name: str, digest: str, remedy: str) -> None:
    """Raise a ModelError if a field is not a SHA-256 hex digest."""
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ModelError(f"{name} is not a SHA-256 hex digest", remedy=remedy)


def check_scores(scores: Iterable[float], remedy: str) -> None:
    """Raise a ModelError if a score is not finite."""
    if not all(math.isfinite(score) for score in scores):
        raise ModelError("has a score that is not finite", remedy=remedy)


def check_texts(texts: Iterable[str], remedy: str) -> None:
    """Raise a ModelError if a text, which will be printed on a terminal, is long or not printable."""
    if any(len(text) > MAX_TEXT or not text.isprintable() for text in texts):
        raise ModelError("has text that is too long or not printable", remedy=remedy)


def printable(text: str) -> str:
    """Return a text as `check_texts` accepts it: `?` for what is not printable, and cut."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:MAX_TEXT]
