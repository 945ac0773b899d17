"""One way to see a page, and what was read on it so: polarity, turn, lines."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from digitry.reading import image
from digitry.reading.classes import MARKS
from digitry.reading.find import Place
from digitry.reading.pieces import Piece
from digitry.reading.result import Box

SURE_POLARITY = 0.5
"""Below this certainty both polarities are tried, and the better reading is taken."""

UPRIGHT = 0.8
"""Where the digits of a page are read with less than this mean confidence, it is tried in other ways."""

FEW = 3
"""Digits. A page with no more may hold others that are seen only when it is turned."""

TURN_FOR = 1.25, 0.75
"""A page is turned if so many times as much, and so much more, is read with confidence."""

LARGE = 0.3
"""A digit of this part of a page's shorter side is what the page shows."""

SPECK, DIRT = 0.3, 0.2
"""What is so much smaller than a digit is no writing beside it; and a single digit is dirt that is so much
smaller than the largest one that was read with confidence."""

LEGIBLE = 0.75
"""Of the digits of a line one must be read with such confidence; letters are hardly ever."""

CLEAR = 0.9
"""The mean confidence of digits that are read well."""

FOUND, SURE, MUCH = 0.78, 0.95, 2.0
"""A line is a number if the finder is so sure of its place, or its digits are read with such a mean
confidence, or so much is: a sure digit counts 1, one in two nothing."""


Decider = Literal["line", "both", "model"]
"""Who decides what a digit is: the line network, the model, or both weighed."""


@dataclass(frozen=True, slots=True)
class Said:
    """One character, and what is known of it.

    Attributes:
        value: what it is taken for: a digit, or a mark.
        p: (11,) how probable each digit is, and that it is none; zeros for a mark.
        confidence: that it is `value`.
        box: on the page, in pixels of the working page.
        piece: its ink.
        by: who decided what it is.
    """

    value: str
    p: npt.NDArray[np.float64]
    confidence: float
    box: Box
    piece: Piece = field(repr=False)
    by: Decider = "line"

    @property
    def is_mark(self) -> bool:
        """Whether it is a mark rather than a digit."""
        return self.value in MARKS


@dataclass(frozen=True, slots=True)
class ReadLine:
    """A place that was read.

    Attributes:
        place: where the finder saw it; its score is 0 where it did not.
        said: its characters, from left to right.
        words: the first character of each word, and the first after it.
        fits: whether it fits the pattern, if there is one.
        legible: whether its digits are believed.
    """

    place: Place
    said: tuple[Said, ...]
    words: tuple[tuple[int, int], ...]
    fits: bool
    legible: bool = True

    @property
    def clarity(self) -> float:
        """The mean confidence of its digits; 0 without any."""
        found = [said.confidence for said in self.said if not said.is_mark]
        return float(np.mean(found)) if found else 0.0


@dataclass(frozen=True, slots=True)
class View:
    """One way to see a page.

    Attributes:
        gray: (h, w) uint8, dark on light, turned.
        inverted: whether its ink was light.
        turned: by how many quarters counter-clockwise it was turned.
        lines: what was read; none before it is.
    """

    gray: npt.NDArray[np.uint8] = field(repr=False)
    inverted: bool
    turned: int = 0
    lines: tuple[ReadLine, ...] = ()

    @property
    def merit(self) -> float:
        """How good this way to see the page is: the mean confidence of its digits, those found for sure."""
        scores = [said.confidence for line in self.lines for said in line.said]
        # Large writing counts more: specks are read as something, too.
        weights = [
            line.place.height * (line.place.score or 1) for line in self.lines for _ in line.said
        ]
        return float(np.average(scores, weights=weights)) if sum(weights) > 0 else -1.0

    @property
    def evidence(self) -> float:
        """How much was read with confidence: a sure character counts 1, one in two nothing."""
        surely = (max(2 * said.confidence - 1, 0.0) for line in self.lines for said in line.said)
        return float(sum(surely))

    @property
    def doubtful(self) -> bool:
        """Whether the page may lie on its side: little of it is read, or not with confidence."""
        said = [said for line in self.lines for said in line.said]
        if not said:
            return False
        if len(said) == 1 and said[0].confidence >= CLEAR:
            # One large digit: nobody knows which way up it stands.
            return bool(self.lines[0].place.height < LARGE * min(self.gray.shape))
        return self.merit < CLEAR or len(said) <= FEW


def reads_turned(other: View, upright: View) -> bool:
    """Return whether a page reads so much better when it is turned that it lies on its side."""
    count = sum(said.confidence >= CLEAR for line in other.lines for said in line.said)
    if count < FEW or other.merit < max(CLEAR, upright.merit):
        return False
    return bool(other.evidence > TURN_FOR[0] * upright.evidence + TURN_FOR[1])


def views_of(page: image.Page) -> list[View]:
    """Return a page under both polarities where it is not plain which one holds."""
    inverted, certainty = image.light_on_dark(page.gray)
    sides = [inverted] if certainty >= SURE_POLARITY else [inverted, not inverted]
    return [View(255 - page.gray if side else page.gray, side) for side in sides]


def turned(view: View, quarters: int) -> View:
    """Return a page turned by quarters counter-clockwise, unread."""
    gray = np.ascontiguousarray(np.rot90(view.gray, quarters))
    return View(gray, view.inverted, quarters)


def opposite(view: View) -> View:
    """Return a page under the other polarity, unread."""
    return View(255 - view.gray, not view.inverted, view.turned)


def best(views: Sequence[View]) -> View:
    """Return the view that reads the best."""
    return max(views, key=lambda view: view.merit)


def may_be_alone(view: View) -> bool:
    """Return whether a page may hold just one digit, which the finder did not see as a whole."""
    return view.merit < UPRIGHT or sum(len(line.said) for line in view.lines) <= 1


def besides(view: View, box: Box) -> bool:
    """Return whether writing of about its size stands beside a box, by what the finder saw."""
    return any(
        line.place.score >= FOUND
        and line.place.height > SPECK * box.h
        and (
            line.place.length > 1.5 * box.w
            or not box.x < line.place.middle[0] < box.right
            or not box.y < line.place.middle[1] < box.bottom
        )
        for line in view.lines
    )


def numbers(found: Sequence[ReadLine], threshold: float) -> list[ReadLine]:
    """Return the lines that are numbers; where none is, the one that is the nearest to it."""
    kept = [line for line in found if _is_number(line, threshold, alone=len(found) == 1)]
    if kept or not found:
        sure = [line.place.height for line in kept if line.clarity >= CLEAR]
        small = DIRT * max(sure, default=0.0)
        kept = [line for line in kept if line.place.height > small or len(line.said) > 1]
        # What stands right beside a number belongs to it, however hard it is to read.
        return [
            line
            for line in found
            if line in kept or any(_continues(line.place, other.place) for other in kept)
        ]
    said = [line for line in found if line.said]
    if not said:
        return []
    # It is shown, so that people see what was looked at; but nothing of it is believed.
    nearest = max(said, key=lambda line: line.place.score)
    return [nearest if len(nearest.said) == 1 else replace(nearest, legible=False)]


def _continues(place: Place, other: Place) -> bool:
    """Return whether a place stands close beside another one, as digits of one number do."""
    height = min(place.height, other.height)
    gap = max(place.start[0], other.start[0]) - min(place.end[0], other.end[0])
    level = abs(place.middle[1] - other.middle[1]) < 0.5 * height
    return bool(
        level and -0.3 * height < gap < height and max(place.height, other.height) < 1.6 * height
    )


def _is_number(line: ReadLine, threshold: float, *, alone: bool) -> bool:
    digits = [said for said in line.said if not said.is_mark]
    read = [said for said in digits if said.confidence >= threshold and said.p[10] < 0.5]
    least = 0.0 if alone and len(digits) == 1 else LEGIBLE
    if not read or max(said.confidence for said in read) < least:
        return False
    # What the finder is not sure of, such as the grain of wood, must be read with more confidence.
    much = sum(2 * said.confidence - 1 for said in read) >= MUCH
    return line.place.score >= FOUND or line.place.score == 0 or line.clarity >= SURE or much
