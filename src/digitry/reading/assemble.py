"""Make the Reading of a page: rows, words, boxes in pixels of the image, reasons for refusing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

import numpy as np
import numpy.typing as npt

from digitry.reading import glyph, image
from digitry.reading.classes import DIGITS
from digitry.reading.classifier import DEFAULT_THRESHOLD
from digitry.reading.confidence import Trust
from digitry.reading.find import Place
from digitry.reading.order import rows
from digitry.reading.pattern import Pattern
from digitry.reading.result import Box, Digit, Line, Mark, Reading, Word
from digitry.reading.view import ReadLine, Said, View, crosses, numbers

SMALLEST = 8
"""A refused digit that is smaller in both directions, in pixels, is refused as too small."""

TINY = 5
"""A digit that is smaller in both directions, in pixels, is always refused."""

DEFAULT_MARK = 0.5
"""Marks with less confidence are refused."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The settings of a reading.

    Attributes:
        trust: the calibration, and the thresholds for refusing.
        pattern: what each line must look like, or None.
        model: the name of the model.
        single: whether the page is one digit.
    """

    trust: Trust
    pattern: Pattern | None
    model: str
    single: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """The data that a reading was made from.

    Attributes:
        digits: one for each digit.
        lines: for each line its page, (h, w) uint8, dark on light, and its place there, from end to end.
    """

    digits: tuple[Said, ...] = ()
    lines: tuple[tuple[npt.NDArray[np.uint8], Place], ...] = field(default=(), repr=False)

    def __add__(self, other: "Seen") -> "Seen":
        """Return the data of two readings together."""
        return Seen(self.digits + other.digits, self.lines + other.lines)


def reading_of(page: image.Page, view: View, terms: Terms, ms: float) -> tuple[Reading, Seen]:
    """Return the reading of a page, and the data that it was made from.

    Args:
        page: the image.
        view: the best view of it.
        terms: the settings.
        ms: how long it took.
    """
    sheet = _Sheet(view.gray.shape, page, view.turned)
    kept: Sequence[ReadLine] = view.lines
    if not terms.single:
        within = terms.pattern is not None
        kept = numbers(view, DEFAULT_THRESHOLD, within=within)
        if len(kept) == 1 and not within and crosses(kept[0], view.gray.shape):
            kept = [replace(kept[0], legible=False)]
    found: list[Line] = []
    words: list[Word] = []
    digits: list[Digit] = []
    marks: list[Mark] = []
    seen: list[Said] = []
    places: list[Place] = []
    for row in rows([line.place for line in kept]):
        in_row: list[Word] = []
        sure = 1.0
        for raw in (kept[k] for k in row):
            line, whole = terms.trust.calibrated(raw), terms.trust.whole(raw)
            sure *= whole
            characters = [_character(said, line, len(found), sheet, terms) for said in line.said]
            for said, character in zip(line.said, characters, strict=True):
                if isinstance(character, Mark):
                    marks.append(character)
                else:
                    digits.append(character)
                    seen.append(said)
            for first, past in line.words:
                part = characters[first:past]
                product = math.prod(said.confidence for said in line.said[first:past])
                # A word is right at least as often as its line.
                confidence = whole if past - first == len(line.said) else max(product, whole)
                box = around([character.box for character in part])
                text = "".join(character.text for character in part)
                in_row.append(Word(text, round(confidence, 6), box, len(found)))
        if in_row:
            words += in_row
            places.append(_end_to_end([kept[k].place for k in row]))
            text = " ".join(word.text for word in in_row)
            found.append(Line(text, round(sure, 6), around([w.box for w in in_row])))
    reason = next((digit.reason for digit in digits if digit.reason), None)
    if not digits:
        reason = "not a digit" if view.lines else "blank"
    reading = Reading(
        source=page.source,
        text="\n".join(line.text for line in found),
        confidence=round(math.prod(line.confidence for line in found), 6) if digits else 0.0,
        rejected=reason is not None,
        reason=reason,
        width=sheet.width,
        height=sheet.height,
        inverted=view.inverted,
        turned=view.turned * 90,
        lines=tuple(found),
        words=tuple(words),
        digits=tuple(digits),
        marks=tuple(marks),
        model=terms.model,
        ms=round(ms, 3),
    )
    return reading, Seen(tuple(seen), tuple((view.gray, place) for place in places))


def _end_to_end(places: Sequence[Place]) -> Place:
    """Return the places of a row, from left to right, as one."""
    height = max(place.height for place in places)
    return Place(places[0].start, places[-1].end, height, min(place.score for place in places))


def glyphs_of(seen: Sequence[Said]) -> npt.NDArray[np.float32]:
    """Return what a model that takes glyphs sees of each digit, (n, 28, 28) float32 in [0, 1]."""
    return glyph.normalise([said.piece.ink for said in seen])


def _character(
    said: Said, line: ReadLine, number: int, sheet: "_Sheet", terms: Terms
) -> Digit | Mark:
    box = sheet.full_size(said.box)
    if said.is_mark and said.confidence >= DEFAULT_MARK:
        return Mark(said.value, round(said.confidence, 6), box, number)
    values = np.argsort(-said.p[:10], kind="stable")[:3].tolist()
    best = int(said.value) if said.value in DIGITS else values[0]
    if best != values[0]:
        # A pattern has overruled the networks: what the pattern asks for comes first.
        values = [best, *(value for value in values if value != best)][:3]
    reason = _reason(said, line, (best, values[1]), terms)
    if max(box.h, box.w) < TINY:
        reason = "too small"
    elif reason is not None:
        reason = sheet.cause(box) or reason
    elif not line.fits and terms.pattern is not None:
        reason = f"does not fit {terms.pattern.text}"
    return Digit(
        value=best if reason is None else None,
        confidence=round(said.confidence, 6),
        box=box,
        line=number,
        alternatives=tuple((value, round(float(said.p[value]), 6)) for value in values),
        reason=reason,
    )


def _reason(said: Said, line: ReadLine, likeliest: tuple[int, int], terms: Terms) -> str | None:
    """Return why a digit is refused, or None."""
    if said.is_mark:
        return f"ambiguous {said.value}"
    if said.p[10] > said.confidence or (said.piece.beside and not line.legible):
        return "not a digit"
    if terms.trust.refuses(said) or not line.legible:
        return f"ambiguous {likeliest[0]}/{likeliest[1]}"
    return None


def around(boxes: Sequence[Box]) -> Box:
    """Return the smallest box that holds them all."""
    return reduce(Box.union, boxes)


@dataclass(frozen=True, slots=True)
class _Sheet:
    """How the working page lies on the image."""

    shape: tuple[int, ...]
    page: image.Page
    turned: int

    @property
    def width(self) -> int:
        """Of the image as it was turned, pixels."""
        return self.page.height if self.turned % 2 else self.page.width

    @property
    def height(self) -> int:
        """Of the image as it was turned, pixels."""
        return self.page.width if self.turned % 2 else self.page.height

    def full_size(self, box: Box) -> Box:
        """Return a box of the working page in pixels of the image."""
        across, down = self.width / self.shape[1], self.height / self.shape[0]
        x, y = math.floor(box.x * across), math.floor(box.y * down)
        x, y = min(max(x, 0), self.width - 1), min(max(y, 0), self.height - 1)
        right = min(math.ceil(box.right * across), self.width)
        bottom = min(math.ceil(box.bottom * down), self.height)
        return Box(x, y, max(right - x, 1), max(bottom - y, 1))

    def cause(self, box: Box) -> str | None:
        """Return what is wrong with the ink of a refused digit, or None."""
        if max(box.h, box.w) < SMALLEST:
            return "too small"
        edge = box.x <= 0 or box.y <= 0 or box.right >= self.width or box.bottom >= self.height
        return "cut off" if edge else None
