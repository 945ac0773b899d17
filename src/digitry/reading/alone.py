"""All the ink of a picture as one digit: its main piece and whatever belongs to it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

import cv2
import numpy as np
import numpy.typing as npt

from digitry.reading.find import Place
from digitry.reading.ink import Ink, lift
from digitry.reading.result import Box

MOST_PIECES = 5_000
"""A picture with more pieces is texture or noise, not a digit."""

BESIDE = 0.3
"""A piece with this part of the main piece's ink, and away from it, is other writing."""

SMALL = 0.015
"""Pieces with less than this part of the main piece's ink are dirt."""

SMALL_PICTURE = 128 * 128
"""Pixels. Pictures of several digits are mostly larger."""


@dataclass(frozen=True, slots=True)
class Alone:
    """The one digit of a picture.

    Attributes:
        box: where it stands on the page.
        ink: (box.h, box.w) float32 in [0, 1]: its own ink, nothing of its neighbours.
        cut: whether it runs out of the page.
        beside: whether there is other ink of about its size on the page.
    """

    box: Box
    ink: npt.NDArray[np.float32] = field(repr=False)
    cut: bool = False
    beside: bool = False


def alone(ink: Ink) -> Alone | None:
    """Return the one digit of a picture, or None where there is no ink."""
    height, width = ink.mask.shape
    _, labels, stats, centres = cv2.connectedComponentsWithStats(ink.mask, connectivity=8)
    if not 2 <= len(stats) <= MOST_PIECES:
        return None
    area = stats[1:, cv2.CC_STAT_AREA].astype(np.float64)
    # Of two large pieces the one nearer to the middle is meant: a neighbour's ink comes in at the rim.
    off = np.abs(centres[1:] / (width, height) - 0.5).max(axis=1)
    main = 1 + int(np.argmax(area * (1.15 - off)))
    chosen = [main]
    box = box_of(stats[main])
    reach = 0.25 * max(box.h, box.w)
    for label in np.argsort(-area) + 1:
        other = box_of(stats[label])
        if label == main or area[label - 1] < SMALL * area[main - 1]:
            continue
        stray = at_border(other, width, height) and not _overlap(other, box) > 0.5
        if distance(other, box) <= reach and not stray:
            chosen.append(int(label))
    left = np.delete(area, [label - 1 for label in chosen])
    beside = bool(len(left) and left.max() > BESIDE * area[main - 1])
    return replace(piece(ink, labels, stats, chosen), beside=beside)


def box_of(row: npt.NDArray[np.int32]) -> Box:
    """Return a component's box from its row of statistics."""
    return Box(int(row[0]), int(row[1]), int(row[2]), int(row[3]))


def at_border(box: Box, width: int, height: int) -> bool:
    """Return whether a box touches the border of the page."""
    return box.x <= 0 or box.y <= 0 or box.right >= width or box.bottom >= height


def distance(a: Box, b: Box) -> float:
    """Return the gap between two boxes, in pixels; 0 where they meet."""
    across = max(a.x - b.right, b.x - a.right, 0)
    down = max(a.y - b.bottom, b.y - a.bottom, 0)
    return float(np.hypot(across, down))


def _overlap(a: Box, b: Box) -> float:
    """Return the share of `a` that lies within the box `b`."""
    across = min(a.right, b.right) - max(a.x, b.x)
    down = min(a.bottom, b.bottom) - max(a.y, b.y)
    return max(across, 0) * max(down, 0) / (a.w * a.h)


def piece(
    ink: Ink,
    labels: npt.NDArray[np.int32],
    stats: npt.NDArray[np.int32],
    members: Sequence[int],
) -> Alone:
    """Return components of a page as one piece of ink."""
    box = reduce(Box.union, [box_of(stats[member]) for member in members])
    height, width = ink.mask.shape
    cut = at_border(box, width, height)
    # One pixel more on each side: the soft rim of the strokes is part of how they look.
    x, y = max(box.x - 1, 0), max(box.y - 1, 0)
    box = Box(x, y, min(box.right + 1, width) - x, min(box.bottom + 1, height) - y)
    region = labels[box.y : box.bottom, box.x : box.right]
    chosen = np.zeros(len(stats), np.uint8)
    chosen[list(members)] = 1
    own = cv2.dilate(chosen[region], np.ones((3, 3), np.uint8))
    return Alone(box, ink.strength[box.y : box.bottom, box.x : box.right] * own, cut)


def whole_of(gray: npt.NDArray[np.uint8]) -> tuple[Place, Alone] | None:
    """Return all the ink of a page as the place of one digit; None where there is none."""
    found = alone(lift(gray))
    return None if found is None else (_place_of(found), found)


def _place_of(found: Alone) -> Place:
    box = found.box
    height = max(float(box.h - 2), (box.w - 2) / 1.5, 2.0)
    middle = box.y + box.h / 2
    return Place((box.x + 1, middle), (max(box.right - 1, box.x + 2), middle), height, 0.0)


def may_be_one(gray: npt.NDArray[np.uint8]) -> tuple[Place, Alone] | None:
    """Return all the ink of a small picture as one digit, if it hangs together as one does."""
    if gray.size > SMALL_PICTURE:
        return None
    ink = lift(gray)
    whole = alone(ink)
    if whole is None or whole.cut:
        return None
    outside = int(ink.mask.sum()) - int(
        ink.mask[whole.box.y : whole.box.bottom, whole.box.x : whole.box.right].sum()
    )
    inside = (whole.ink > 0) & (
        ink.mask[whole.box.y : whole.box.bottom, whole.box.x : whole.box.right] > 0
    )
    count, _, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8))
    largest = int(stats[1:, cv2.CC_STAT_AREA].max(initial=0))
    if outside > 0 or count < 2 or largest < 0.9 * int(inside.sum()):
        return None
    if whole.box.w > 1.2 * whole.box.h:
        return None
    return _place_of(whole), whole
