"""Finds the numbers on a grey page: the place, the slope and the height of the digits of each.

A small network looks at the page at several scales, each half of the one before, and says for each cell
whether it lies in the middle half of the height of a number. Connected cells are a number; if two scales
show the same one, that with the higher score is kept. Rulings, boxes and other writing are not removed
before: the network has learnt to ignore them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from digitry.reading.network import Session

Bytes = npt.NDArray[np.uint8]

CELL = 4
"""Pixels of a scaled page, across and down, for each cell of the network's output."""

MULTIPLE = 32
"""The network takes pages whose sides are multiples of this many pixels."""

TALL = 16.0
"""Pixels. The network gives a height as the logarithm to base 2 of its ratio to this."""

WINDOW = 25
"""Pixels. Dark areas wider than this are background: a shadow, a table. No stroke of a digit is so wide."""

HALF = 0.12
"""Ink that absorbs this share of the paper's light has half of the largest value in the ink map."""

LARGEST = 1536
SMALLEST = 26
"""Pixels of the long side of a page: the largest and the smallest scale that is looked at."""

ENOUGH = 72
"""Pixels of the long side; smaller pictures are enlarged to it."""

ALL = (0.0, 0.0, 1.0, 1.0)
"""The whole of a page: left, top, right and bottom as shares of its sides."""

MARGIN = 16
"""Empty pixels around a page, as around the pictures that the network was trained on."""

LEVEL = 0.5
SURE = 0.6
"""Cells above `LEVEL` are a number if one of them is above `SURE`."""

FAINT = 0.2
"""A number is extended at its ends while cells are above this."""

EASY = (11.0, 34.0)
HARD = (6.0, 56.0)
"""Pixels. Heights of digits that the network knows well, and those outside of which it is not trusted."""

STAIN, LIKELY, AROUND = 90, 0.7, 24
"""Ink darker than `STAIN` in the ink map is looked at once more, on the largest scale, with `AROUND` pixels
of half that scale around it; not if it lies in a number that was found with the score `LIKELY`."""

ALIKE = 1.6
"""Two scales show the same number only if the heights differ by less than this factor."""

SHARED = 0.1
"""Two places on one line are parts of one number if they share this part of a height."""

SAMPLES = 9
"""Points along a place that are looked at, to see how much of it lies in another."""

WIDENED = 0.12
"""The network marks numbers as wider than they are, by this share of their height on either side."""


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a number.

    Attributes:
        start, end: (x, y) of the ends of the line through the middle of its digits, in pixels of the page.
        height: of its digits, pixels.
        score: how sure the network is, in [0, 1].
    """

    start: tuple[float, float]
    end: tuple[float, float]
    height: float
    score: float

    @property
    def length(self) -> float:
        """From end to end, pixels."""
        return math.dist(self.start, self.end)

    @property
    def slope(self) -> float:
        """The angle of its line in radians, clockwise on the page."""
        return math.atan2(self.end[1] - self.start[1], self.end[0] - self.start[0])

    @property
    def middle(self) -> tuple[float, float]:
        """The point between its ends."""
        return (self.start[0] + self.end[0]) / 2, (self.start[1] + self.end[1]) / 2


def ink_map(gray: Bytes) -> Bytes:
    """Return how much of the paper's light the ink absorbs, on a scale that favours faint ink.

    Args:
        gray: (h, w) uint8, ink darker than the paper, digits 8 to 42 pixels high.

    Returns:
        (h, w) uint8, 0 = paper.
    """
    margin = WINDOW
    padded = cv2.copyMakeBorder(gray, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    ground = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, np.ones((WINDOW, WINDOW), np.uint8))
    ground = cv2.blur(ground, (7, 7))[margin:-margin, margin:-margin]
    light = cv2.divide(gray, np.maximum(ground, 1), dtype=cv2.CV_32F)
    strength = np.maximum(np.float32(1) - np.asarray(light, np.float32), 0)
    ink = strength / (strength + np.float32(HALF)) * np.float32(255 * (1 + HALF))
    return np.asarray(np.clip(ink, 0, 255), np.uint8)


def find(gray: Bytes, finder: Session, largest: int = LARGEST) -> list[Place]:
    """Return the places of the numbers on a page, in no order.

    Args:
        gray: (h, w) uint8, ink darker than the paper.
        finder: the network.
        largest: pixels of the long side at the largest scale; smaller writing is found at larger ones.
    """
    (full, factor), *smaller = pyramid(gray, largest)
    found: list[Place] = []
    half: Bytes | None = None
    for small, by in smaller:
        ink = ink_map(small)
        half = ink if half is None else half
        found += [_scaled(place, 1 / by[0], 1 / by[1]) for place in _seen(ink, finder)]
    # The largest scale costs three times as much as all others together.
    window = ALL if half is None else _window(half, distinct(found), smaller[0][1])
    if window is not None:
        height, width = full.shape
        x, y = math.floor(window[0] * width), math.floor(window[1] * height)
        part = full[y : math.ceil(window[3] * height), x : math.ceil(window[2] * width)]
        more = [_moved(place, x, y) for place in _seen(ink_map(part), finder)]
        found += [_scaled(place, 1 / factor[0], 1 / factor[1]) for place in more]
    return distinct(found)


def _scaled(place: Place, across: float, down: float) -> Place:
    (x0, y0), (x1, y1) = place.start, place.end
    start, end = (x0 * across, y0 * down), (x1 * across, y1 * down)
    return Place(start, end, place.height * down, place.score)


def _moved(place: Place, x: float, y: float) -> Place:
    start, end = ((at[0] + x, at[1] + y) for at in (place.start, place.end))
    return Place(start, end, place.height, place.score)


def _window(
    ink: Bytes, found: Sequence[Place], factor: tuple[float, float]
) -> tuple[float, float, float, float] | None:
    """Return the part of a page with ink outside of the numbers that are found already.

    Args:
        ink: of the page at the second largest scale.
        found: the numbers of this and all smaller scales, in pixels of the page.
        factor: of this scale, across and down.

    Returns:
        Left, top, right and bottom as shares of the page; None if there is no such ink.
    """
    left = (ink > STAIN).astype(np.uint8)
    for place in found:
        one = _scaled(place, *factor)
        # Smaller digits are better seen at the next scale.
        if one.height >= EASY[0] and one.score >= LIKELY:
            cv2.fillConvexPoly(left, np.rint(_around(one)).astype(np.int32), 0)
    _, _, stats, _ = cv2.connectedComponentsWithStats(left, connectivity=8)
    boxes = stats[1:][stats[1:, cv2.CC_STAT_HEIGHT] >= HARD[0] / 2]
    if not len(boxes):
        return None
    low = boxes[:, :2].min(axis=0) - AROUND
    high = (boxes[:, :2] + boxes[:, 2:4]).max(axis=0) + AROUND
    size = ink.shape[::-1]
    shares = (*np.maximum(low / size, 0), *np.minimum(high / size, 1))
    x0, y0, x1, y1 = (float(share) for share in shares)
    return x0, y0, x1, y1


def _around(place: Place) -> npt.NDArray[np.float64]:
    """Return the corners of a number with room around it, (4, 2)."""
    direction = np.array([math.cos(place.slope), math.sin(place.slope)])
    # Not so far along the line that the next digit, not found, would count as found.
    along, across = direction * 0.3 * place.height, direction[::-1] * (-0.8, 0.8) * place.height
    start, end = np.array(place.start) - along, np.array(place.end) + along
    return np.array([start - across, end - across, end + across, start + across])


def pyramid(gray: Bytes, largest: int = LARGEST) -> list[tuple[Bytes, tuple[float, float]]]:
    """Return a page at each scale, the largest first, with its scale across and down."""
    height, width = gray.shape
    long = max(height, width)
    factor = min(1.0, largest / long) if long >= ENOUGH else ENOUGH / long
    pages: list[tuple[Bytes, tuple[float, float]]] = []
    current = gray
    while long * factor >= SMALLEST or not pages:
        size = (max(4, round(width * factor)), max(4, round(height * factor)))
        how = cv2.INTER_AREA if factor <= 1 else cv2.INTER_CUBIC
        if size != (current.shape[1], current.shape[0]):
            current = np.asarray(cv2.resize(current, size, interpolation=how), np.uint8)
        pages.append((current, (size[0] / width, size[1] / height)))
        factor /= 2
    return pages


def _seen(ink: Bytes, finder: Session) -> list[Place]:
    """Return the numbers found on the ink map of one scale, in its pixels."""
    return _places(_cells(ink, finder))


def _cells(ink: Bytes, finder: Session) -> npt.NDArray[np.float32]:
    """Return the network's output for one scale: (3, h, w), with `MARGIN` around the page."""
    height, width = ink.shape
    down, across = (-(-(side + 2 * MARGIN) // MULTIPLE) * MULTIPLE for side in (height, width))
    padded = np.zeros((1, 1, down, across), np.float32)
    np.divide(
        ink, 255, out=padded[0, 0, MARGIN : MARGIN + height, MARGIN : MARGIN + width],
        casting="unsafe",
    )  # fmt: skip
    cells: npt.NDArray[np.float32] = finder.run(padded)[0]
    return cells


def _places(cells: npt.NDArray[np.float32]) -> list[Place]:
    """Return the numbers found at one scale, in its pixels."""
    sure = 1 / (1 + np.exp(-cells[0]))
    mask = (sure > LEVEL).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    found = []
    for index in range(1, count):
        x, y, w, h = stats[index, :4].tolist()
        inside = labels[y : y + h, x : x + w] == index
        p = sure[y : y + h, x : x + w][inside]
        if float(p.max()) < SURE:
            continue
        tall = float(np.median(cells[2, y : y + h, x : x + w][inside]))
        height = TALL * 2 ** float(np.clip(tall, -3, 3))
        if not HARD[0] <= height <= HARD[1]:
            continue
        rows, columns = np.nonzero(inside)
        start, end = _reaching(sure, *_line(columns + x, rows + y, p, height / CELL), height / CELL)
        score = float(p.mean()) * _ease(height)
        found.append(Place(_point(start), _point(end), height, score))
    return found


def _point(cell: tuple[float, float]) -> tuple[float, float]:
    return (cell[0] + 0.5) * CELL - MARGIN, (cell[1] + 0.5) * CELL - MARGIN


def _line(
    x: npt.NDArray[np.intp],
    y: npt.NDArray[np.intp],
    weight: npt.NDArray[np.float32],
    height: float,
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the ends of the line through cells; short numbers are level."""
    middle_x, middle_y = float(np.average(x, weights=weight)), float(np.average(y, weights=weight))
    low, high = float(x.min()) - 0.5, float(x.max()) + 0.5
    slope = 0.0
    if high - low > 1.5 * height:
        off = x - middle_x
        slope = float((weight * off * (y - middle_y)).sum() / (weight * off * off).sum())
    # The marked cells are wider than the number, except where the page ends.
    less = min(WIDENED * height, 0.4 * (high - low))
    low, high = low + less, high - less
    return (low, middle_y + slope * (low - middle_x)), (high, middle_y + slope * (high - middle_x))


def _reaching(
    sure: npt.NDArray[np.float32],
    start: tuple[float, float],
    end: tuple[float, float],
    height: float,
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return a line extended at its ends over cells above `FAINT`, and shortened by `WIDENED`."""
    slope = (end[1] - start[1]) / max(end[0] - start[0], 1.0)
    less = WIDENED * height
    ends = []
    for (x, y), step in ((start, -1), (end, 1)):
        at = x + step * less
        while True:
            column, row = round(at + step), round(y + slope * (at + step - x))
            inside = 0 <= column < sure.shape[1] and 0 <= row < sure.shape[0]
            if not inside or sure[row, column] < FAINT:
                break
            at += step
        at -= step * less
        at = min(at, x) if step < 0 else max(at, x)
        ends.append((at, y + slope * (at - x)))
    return ends[0], ends[1]


def _ease(height: float) -> float:
    """Return how far the network is trusted for digits of this height, in [0, 1]."""
    low, high = EASY
    if height < low:
        return max(0.0, 1 - 0.5 * math.log2(low / height))
    if height > high:
        return max(0.0, 1 - 0.5 * math.log2(height / high))
    return 1.0


def distinct(places: Sequence[Place]) -> list[Place]:
    """Return the places without duplicates: one mostly within a surer one is joined to it or dropped."""
    kept: list[Place] = []
    bounds = np.zeros((len(places), 4))
    for place in sorted(places, key=_worth, reverse=True):
        # A page may have a thousand places; only a few of them lie near.
        near = np.flatnonzero(_overlapping(_bounds(place), bounds[: len(kept)])).tolist()
        same = [index for index in near if _is_same(place, kept[index])]
        if not same:
            index = len(kept)
            kept.append(place)
        else:
            index = same[0]
            longer = _extended(kept[index], place) if len(same) == 1 else None
            if longer is None:
                continue
            kept[index] = longer
        bounds[index] = _bounds(kept[index])
    # Places that were made longer may meet others now.
    return kept if len(kept) == len(places) else distinct(kept)


def _worth(place: Place) -> float:
    # The whole of a number comes before its parts.
    return place.score + 0.06 * min(3.0, math.log2(1 + place.length / place.height))


def _extended(place: Place, other: Place) -> Place | None:
    """Return a place extended to the ends of another on the same line; None if that is on another line."""
    if not 1 / ALIKE < other.height / place.height < ALIKE or other.score < SURE:
        return None
    cos, sin = math.cos(place.slope), math.sin(place.slope)
    reach = [0.0, place.length]
    for x, y in (other.start, other.end):
        x, y = x - place.start[0], y - place.start[1]
        if abs(y * cos - x * sin) > 0.35 * place.height:
            return None
        reach.append(x * cos + y * sin)
    start, end = (
        (place.start[0] + at * cos, place.start[1] + at * sin) for at in (min(reach), max(reach))
    )
    return Place(start, end, place.height, place.score)


def _bounds(place: Place) -> tuple[float, float, float, float]:
    """Return the left, top, right and bottom of a place, with more around it than `_is_same` looks at."""
    (x0, y0), (x1, y1), around = place.start, place.end, 0.6 * place.height
    return min(x0, x1) - around, min(y0, y1) - around, max(x0, x1) + around, max(y0, y1) + around


def _overlapping(
    box: tuple[float, float, float, float], boxes: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    left, top, right, bottom = box
    found: npt.NDArray[np.bool_] = (
        (boxes[:, 0] < right) & (boxes[:, 2] > left) & (boxes[:, 1] < bottom) & (boxes[:, 3] > top)
    )
    return found


def _is_same(place: Place, known: Place) -> bool:
    """Return whether two places are of one number: one lies mostly in the other, or they share a digit."""
    return _inside(place, known) > 0.3 or _inside(known, place) > 0.5 or _is_meeting(place, known)


def _inside(place: Place, other: Place) -> float:
    """Return the share of a place that lies in another."""
    cos, sin, length = math.cos(other.slope), math.sin(other.slope), other.length
    reach, half = 0.3 * other.height, 0.5 * other.height
    x, y = place.start[0] - other.start[0], place.start[1] - other.start[1]
    across, down = place.end[0] - place.start[0], place.end[1] - place.start[1]
    count = 0
    for k in range(SAMPLES):
        px, py = x + k / (SAMPLES - 1) * across, y + k / (SAMPLES - 1) * down
        along, aside = px * cos + py * sin, py * cos - px * sin
        count += -reach <= along <= length + reach and abs(aside) < half
    return count / SAMPLES


def _is_meeting(place: Place, known: Place) -> bool:
    """Return whether one of two places begins before the other ends, on the same line.

    They are parts of one number; kept apart, both would hold the digit that they share.
    """
    cos, sin = math.cos(known.slope), math.sin(known.slope)
    ends = [(x - known.start[0], y - known.start[1]) for x, y in (place.start, place.end)]
    first, last = (x * cos + y * sin for x, y in ends)
    aside = max(abs(y * cos - x * sin) for x, y in ends)
    shared = min(last, known.length) - max(first, 0.0)
    low, high = min(place.height, known.height), max(place.height, known.height)
    return shared > SHARED * low and aside < 0.35 * low and high < ALIKE * low
