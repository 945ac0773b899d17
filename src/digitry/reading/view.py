"""A page under one polarity and one turn, and the lines that were read on it."""

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
"""If the mean confidence of a page's digits is below this, other views of the page are tried."""

FEW = 3
"""A page with at most this many digits may hold others that are found only when it is turned."""

LEAST_TURNED = 36
"""Pixels of the long side. A smaller picture has no room for `FEW` legible digits one above the other."""

TURN_FOR = 1.25, 0.75
"""A page is turned if its `evidence` is then above `TURN_FOR[0]` times the evidence upright, plus
`TURN_FOR[1]`."""

PLAINLY, AS_MUCH = 0.97, 0.9
"""Or if more than `FEW` digits are read with the mean confidence `PLAINLY`, where upright it is below
`CLEAR`, and the evidence is `AS_MUCH` of that upright: of the turned page only some lines are looked at."""

ONE_WAY = "347"
"""Digits that are no digit upside down; one of these must be among them."""

LARGE = 0.3
"""A digit at least this share of the page's shorter side high fills the page."""

SPECK, DIRT = 0.3, 0.2
"""Two ratios of heights. Ink below `SPECK` times a digit's height is not writing beside it; a single digit
below `DIRT` times the largest digit that was found or read with confidence is dirt."""

LEGIBLE = 0.75
"""At least one digit of a line must have this confidence; letters rarely get it."""

LONE = 0.65
"""The only digit of a picture must have this confidence, unless a pattern or the layout `single` promises
one: letters and drawings get it more rarely than digits."""

CLEAR = 0.9
"""Least mean confidence of digits that are read well."""

PART = 0.98
"""A digit alone may be a letter of a word, or the leg of a letter of another line, unless it is surer."""

WHOLE = 0.5
"""A digit at the upper or lower border of a picture that is lower than this part of it is cut off."""

ACROSS = 0.25
"""A 1 from the upper to the lower border of a picture is a digit only if it is at least this part of the
picture's width; else it is a fold or a ruling."""

FOUND, SURE, MUCH = 0.78, 0.95, 2.0
"""A line is a number if the finder's score is at least `FOUND`, or the mean confidence of its digits at
least `SURE`, or the sum of 2 p - 1 over its digits at least `MUCH`."""


Decider = Literal["line", "both", "model"]
"""What decides on a digit: the line network, the glyph model, or both, weighted."""


@dataclass(frozen=True, slots=True)
class Said:
    """One character, as it was read.

    Attributes:
        value: a digit, or a mark.
        p: (11,) probabilities of the ten digits, and of no digit; zeros for a mark.
        confidence: the probability that it is `value`.
        box: in pixels of the working page.
        piece: its ink.
        by: what decided on it.
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
        place: where the finder found it; its score is 0 if the finder did not.
        said: its characters, from left to right.
        words: the first character of each word, and the first after it.
        fits: whether it fits the pattern, if there is one.
        legible: whether its digits are accepted; if not, they are shown as refused.
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
    """A page under one polarity and one turn.

    Attributes:
        gray: (h, w) uint8, dark on light, turned.
        inverted: whether its ink was light.
        turned: quarter turns, counter-clockwise.
        lines: the lines that were read; empty before the page is read.
    """

    gray: npt.NDArray[np.uint8] = field(repr=False)
    inverted: bool
    turned: int = 0
    lines: tuple[ReadLine, ...] = ()

    @property
    def merit(self) -> float:
        """Mean confidence of its characters, weighted by height and the finder's score; -1 without any."""
        scores = [said.confidence for line in self.lines for said in line.said]
        # Large writing counts more: specks also get some reading.
        weights = [
            line.place.height * (line.place.score or 1) for line in self.lines for _ in line.said
        ]
        return float(np.average(scores, weights=weights)) if sum(weights) > 0 else -1.0

    @property
    def evidence(self) -> float:
        """Sum of 2 p - 1 over its characters: a certain one counts 1, one with confidence 0.5 nothing."""
        surely = (max(2 * said.confidence - 1, 0.0) for line in self.lines for said in line.said)
        return float(sum(surely))

    @property
    def doubtful(self) -> bool:
        """Whether the page may lie on its side: little of it is read, or not with confidence."""
        said = [said for line in self.lines for said in line.said]
        if max(self.gray.shape) < LEAST_TURNED:
            return False
        if not said:
            return True
        if len(said) == 1 and said[0].confidence >= CLEAR:
            # One large digit: nothing shows which way up it stands.
            return bool(self.lines[0].place.height < LARGE * min(self.gray.shape))
        return self.merit < CLEAR or len(said) <= FEW


def reads_turned(other: View, upright: View) -> bool:
    """Return whether a page reads so much better when it is turned that it lies on its side."""
    sure = [said for line in other.lines for said in line.said if said.confidence >= CLEAR]
    if len(sure) < FEW or other.merit < max(CLEAR, upright.merit):
        return False
    if len({said.value for said in sure}) == 1:
        # The letters of a word on its side are often read as one and the same digit, such as 0.
        return False
    if other.evidence > TURN_FOR[0] * upright.evidence + TURN_FOR[1]:
        return True
    plainly = len(sure) > FEW and other.merit >= PLAINLY and upright.merit < CLEAR
    one_way = any(said.value in ONE_WAY for said in sure)
    return plainly and one_way and other.evidence >= AS_MUCH * upright.evidence


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
    """Return whether a page may show one digit that the finder did not find as a whole."""
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


def numbers(view: View, threshold: float, *, within: bool = False) -> list[ReadLine]:
    """Return the lines that are numbers; if there is none, the line that is most like one.

    Args:
        view: a page that was read.
        threshold: the least confidence of a digit.
        within: whether lines were read within a pattern, which may name what stands beside a digit.
    """
    found, rows = view.lines, len(view.gray)
    said = [line for line in found if line.said]
    # A pattern promises that there is something to read.
    lone = threshold if within else LONE if len(said) == 1 else LEGIBLE
    of_text = {id(line) for line in found if not within and _is_of_a_text(line, rows)}
    kept = [
        line for line in found if id(line) not in of_text and _is_number(line, threshold, lone=lone)
    ]
    if kept or not found:
        sure = [
            line.place.height
            for line in kept
            # The finder may be surer than a model of the user's.
            if line.clarity >= CLEAR or line.place.score >= CLEAR
        ]
        small = DIRT * max(sure, default=0.0)
        kept = [line for line in kept if line.place.height > small or len(line.said) > 1]
        # By identity: comparing a thousand lines with each other takes longer than reading some.
        kept_ids = {id(line) for line in kept}
        # Ink close beside a number belongs to it, even if it is hard to read.
        return [
            line
            for line in found
            if id(line) in kept_ids or any(_continues(line.place, other.place) for other in kept)
        ]
    if not said:
        return []
    # Return it so that people see what was tried; its digits are refused.
    nearest = max(said, key=lambda line: line.place.score)
    legible = (
        len(nearest.said) == 1 and nearest.said[0].confidence >= lone and id(nearest) not in of_text
    )
    return [nearest if legible else replace(nearest, legible=False)]


def _continues(place: Place, other: Place) -> bool:
    """Return whether a place stands close beside another one, as digits of one number do."""
    height = min(place.height, other.height)
    gap = max(place.start[0], other.start[0]) - min(place.end[0], other.end[0])
    level = abs(place.middle[1] - other.middle[1]) < 0.5 * height
    return bool(
        level and -0.3 * height < gap < height and max(place.height, other.height) < 1.6 * height
    )


def _is_number(line: ReadLine, threshold: float, *, lone: float) -> bool:
    digits = [said for said in line.said if not said.is_mark]
    read = [said for said in digits if said.confidence >= threshold and said.p[10] < 0.5]
    least = lone if len(digits) == 1 else LEGIBLE
    if not read or max(said.confidence for said in read) < least:
        return False
    # A place that the finder is not sure of, such as the grain of wood, needs more confidence.
    much = sum(2 * said.confidence - 1 for said in read) >= MUCH
    return line.place.score >= FOUND or line.place.score == 0 or line.clarity >= SURE or much


def crosses(line: ReadLine, shape: tuple[int, ...]) -> bool:
    """Return whether a 1 alone is a thin stroke through the whole picture, from top to bottom."""
    if len(line.said) != 1 or line.said[0].value != "1":
        return False
    box, (rows, columns) = line.said[0].box, shape
    return box.y <= 0 and box.bottom >= rows and box.w < ACROSS * columns


def _is_of_a_text(line: ReadLine, rows: int) -> bool:
    """Return whether a digit alone is a part of a word, or of a line that the picture cuts off."""
    if len(line.said) != 1:
        return False
    (said,) = line.said
    at_border = said.box.y <= 1 or said.box.bottom >= rows - 1
    cut = at_border and line.place.height < WHOLE * rows
    return said.confidence < PART and (cut or said.piece.beside)
