"""Corrections of digits and of lines, and counts of them."""

from dataclasses import asdict, dataclass, field
from typing import Any

from digitry.errors import UsageError
from digitry.model.artifact import GLYPH_VERSION, LABELS, NOT_A_DIGIT
from digitry.plain import Plain
from digitry.reading.classes import DIGITS, MARKS

LONGEST_AUTHOR = 200

LONGEST_TEXT = 120
"""Characters of a line, at most; the reader reads no more either."""


@dataclass(frozen=True, kw_only=True)
class Correction:
    """The label that a person gave one digit, and what the reader had read.

    Attributes:
        label: the correct label: "0" to "9", or `NOT_A_DIGIT`.
        glyph: PNG of the 28x28 glyph, ink light on dark.
        crop: PNG of the digit's place on the page.
        read_value: the value that was read, 0 to 9; None if it was refused.
        best_guess: the value with the highest probability, refused or not.
        confidence: probability of the best guess, in [0, 1].
        reason: why the digit was refused, or None.
        model: name of the model that read it.
        glyph_version: version of the normalisation that made the glyph.
        author: free text, may be empty.
        id: set by the store.
        created: time in ISO 8601, UTC; set by the store.
        undone: time in ISO 8601, UTC; None while the correction is current; set by the store.
        sha256: hash of the glyph's pixels; set by the store.
    """

    label: str
    glyph: bytes = field(repr=False)
    crop: bytes = field(repr=False)
    read_value: int | None
    best_guess: int
    confidence: float
    reason: str | None
    model: str
    glyph_version: int = GLYPH_VERSION
    author: str = ""
    id: str = ""
    created: str = ""
    undone: str | None = None
    sha256: str = ""

    def __post_init__(self) -> None:
        if self.label not in LABELS:
            raise UsageError(
                f"{self.label!r} is not a label", remedy=f"use 0 to 9, or {NOT_A_DIGIT!r}"
            )
        _check_author(self.author)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without the pictures."""
        return {key: value for key, value in asdict(self).items() if key not in ("glyph", "crop")}


@dataclass(frozen=True, kw_only=True)
class LineCorrection:
    """The text that a person gave one line, and what the reader had read.

    Attributes:
        text: the correct text: digits, marks and spaces.
        strip: PNG of the line as the network saw it, 64 rows, cut out level, ink light on dark.
        read_text: the text that was read.
        confidence: of the line, in [0, 1].
        box: x, y, w, h of the line on the page.
        model: name of the line network that read it.
        author: free text, may be empty.
        id, created, undone, sha256: as those of `Correction`; set by the store.
    """

    text: str
    strip: bytes = field(repr=False)
    read_text: str
    confidence: float
    box: tuple[int, int, int, int]
    model: str
    author: str = ""
    id: str = ""
    created: str = ""
    undone: str | None = None
    sha256: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", checked_text(self.text))
        _check_author(self.author)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without the picture."""
        return {key: value for key, value in asdict(self).items() if key != "strip"}


def _check_author(author: str) -> None:
    if len(author) > LONGEST_AUTHOR:
        raise UsageError(f"an author may have at most {LONGEST_AUTHOR} characters")


def checked_text(text: str) -> str:
    """Return the right text of a line, with single spaces.

    Raises:
        UsageError: it is not digits, marks and spaces, or holds no digit, or is too long.
    """
    text = " ".join(part for part in text.split(" ") if part)
    wrong = sorted({c for c in text if c not in DIGITS + MARKS + " "})
    if wrong:
        raise UsageError(
            f"the text has {wrong[0]!r}",
            remedy=f"write digits, spaces and the marks {' '.join(MARKS)}",
        )
    if not any(c in DIGITS for c in text):
        raise UsageError("the text has no digit", remedy="write the digits of the line")
    if len(text) > LONGEST_TEXT:
        raise UsageError(
            f"the text has {len(text)} characters", remedy=f"write at most {LONGEST_TEXT}"
        )
    return text


@dataclass(frozen=True)
class Stats(Plain):
    """Counts of corrections.

    Attributes:
        count: current corrections.
        undone: undone corrections.
        labels: label -> number of current corrections.
        confusions: (best guess, label, number) where the two differ; the most frequent first.
        agreeing: current corrections that confirm the best guess.
        lines: current corrections of whole lines.
    """

    count: int
    undone: int
    labels: dict[str, int]
    confusions: tuple[tuple[int, str, int], ...]
    agreeing: int
    lines: int = 0
