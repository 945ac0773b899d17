"""Finds the box of each character on a strip, from the columns where the network saw it and from the ink.

The network saw a character in a column or two near its middle. A connected piece of ink in which it saw
one character belongs to that character; a piece in which it saw several is cut between them, where there
is the least ink. Rulings and borders belong to no character.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

Ink = npt.NDArray[np.float32]
Mask = npt.NDArray[np.uint8]

LEVEL = 0.35
"""Pixels with at least this share of the strip's darkest ink count as ink."""

NOISE = 0.1
"""Fainter pixels are not ink."""

RULING = 1.5
"""Horizontal ink of this length, in heights of the writing, is a ruling, not a stroke of a digit."""

CLAIM = 0.4
"""A piece is a character if it has this share of the ink in the columns where that was seen."""

ASIDE = 4.0
"""Rows of ink that a cut costs for the square of its distance from the middle between two characters, as a
share of the width between them."""

REACH = 0.3
"""Largest distance of a loose piece from where a character was seen, in heights of the writing."""

SPECK = 4
"""Pixels. Smaller loose pieces belong to no character."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle on a strip, in its pixels.

    Attributes:
        start, end: the first column and the first after it.
        top, bottom: the first row and the first below it.
    """

    start: int
    end: int
    top: int
    bottom: int

    def __or__(self, other: "Box") -> "Box":
        """Return the smallest box that holds both."""
        return Box(
            min(self.start, other.start),
            max(self.end, other.end),
            min(self.top, other.top),
            max(self.bottom, other.bottom),
        )


def boxes(ink: Ink, seen: npt.NDArray[np.float64], height: float) -> list[Box]:
    """Return the box of each character.

    Args:
        ink: (h, W) float32 in [0, 1], ink = 1; W at least 1 if there is a character.
        seen: (n, 2), the first and the last column in which the network saw each, in pixels, from
            left to right.
        height: of a digit, in pixels.
    """
    if not len(seen):
        return []
    mask = _writing(ink, height)
    cuts = _cuts(mask, seen)
    found = _owned(mask, seen, cuts, height)
    return [
        _guess(ink, seen[i], cuts[i], height) if box is None else box for i, box in enumerate(found)
    ]


def _writing(ink: Ink, height: float) -> Mask:
    """Return 1 where there is ink other than rulings and borders, (h, W)."""
    most = ink.size - 1 - ink.size // 100
    level = max(LEVEL * float(np.partition(ink, most, axis=None)[most]), NOISE)
    mask = (ink > level).astype(np.uint8)
    # A border runs from the top of the strip to its bottom; a digit does so only if it fills the strip.
    across, down = round(RULING * height), ink.shape[0] - 2
    for size in ((across, 1), (1, down))[: 2 if down > 1.1 * height else 1]:
        lines = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones(size[::-1], np.uint8))
        mask &= 1 - lines
    return mask


def _cuts(mask: Mask, seen: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return the columns between the cuts on both sides of each character."""
    profile = mask.sum(axis=0, dtype=np.int64).tolist()
    borders = [0]
    for (_, left), (right, _) in pairwise(seen.tolist()):
        low = min(math.floor(left) + 1, len(profile) - 1)
        high = max(min(math.ceil(right), len(profile)), low + 1)
        middle, length = (low + high - 1) / 2, high - low
        cost = {x: profile[x] + ASIDE * ((x - middle) / length) ** 2 for x in range(low, high)}
        borders.append(min(cost, key=cost.__getitem__))
    return list(pairwise([*borders, len(profile)]))


def _owned(
    mask: Mask, seen: npt.NDArray[np.float64], cuts: list[tuple[int, int]], height: float
) -> list[Box | None]:
    """Return the box of the ink of each character; None for one without ink."""
    count, parts, stats, middles = cv2.connectedComponentsWithStats(mask, connectivity=8)
    starts = [start for start, _ in cuts[1:]]
    found: list[Box | None] = [None] * len(seen)

    def add(i: int, box: Box) -> None:
        known = found[i]
        found[i] = box if known is None else known | box

    claims = _claims(parts, seen, count)
    pieces = zip(stats[1:].tolist(), middles[1:, 0].tolist(), claims.tolist(), strict=True)
    for index, ((x, y, w, h, area), middle, claimed) in enumerate(pieces, 1):
        owners = [i for i, is_owner in enumerate(claimed) if is_owner]
        whole = Box(x, x + w, y, y + h)
        if len(owners) == 1:
            add(owners[0], whole)
        elif owners:
            for i in owners:
                rows, columns = np.nonzero(parts[:, cuts[i][0] : cuts[i][1]] == index)
                if len(rows):
                    left = cuts[i][0] + int(columns.min())
                    right = cuts[i][0] + int(columns.max()) + 1
                    add(i, Box(left, right, int(rows.min()), int(rows.max()) + 1))
        elif area >= SPECK:
            # A loose piece belongs to the character whose columns contain its middle, if that is near.
            i = int(np.searchsorted(starts, middle, side="right"))
            if x <= seen[i, 1] + REACH * height and x + w >= seen[i, 0] - REACH * height:
                add(i, whole)
    return found


def _claims(
    parts: npt.NDArray[np.int32], seen: npt.NDArray[np.float64], count: int
) -> npt.NDArray[np.bool_]:
    """Return which pieces of ink contain which of the characters that the network saw: (pieces, n)."""
    held = np.zeros((count, len(seen)), np.int64)
    for i, (left, right) in enumerate(seen.tolist()):
        columns = parts[:, max(math.floor(left) - 1, 0) : max(math.ceil(right) + 2, 0)]
        held[:, i] = np.bincount(columns.ravel(), minlength=count)
    held = held[1:]
    claimed: npt.NDArray[np.bool_] = (held > 0) & (held >= CLAIM * held.sum(axis=0))
    return claimed


def _guess(ink: Ink, seen: npt.NDArray[np.float64], cuts: tuple[int, int], height: float) -> Box:
    """Return a box of the size of a digit, for a character that is too faint to be found on the paper."""
    middle, half = (float(seen[0]) + float(seen[1]) + 1) / 2, 0.3 * height
    start = max(cuts[0], min(math.floor(seen[0]), round(middle - half)), 0)
    end = min(cuts[1], max(math.ceil(seen[1]) + 1, round(middle + half)))
    start = min(start, ink.shape[1] - 1)
    top = max(round((ink.shape[0] - height) / 2), 0)
    bottom = min(max(round((ink.shape[0] + height) / 2), top + 1), ink.shape[0])
    return Box(start, max(end, start + 1), top, bottom)
