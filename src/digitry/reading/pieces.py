"""Cuts the ink of a line into its characters, for a model that classifies glyphs."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import numpy.typing as npt

from digitry.reading.boxes import Box
from digitry.reading.decode import Line, Strip
from digitry.reading.lines import CUT, HEIGHT, Cut

LEVEL = 0.3
"""Pixels with at least this share of a line's darkest ink count as ink."""

OWN = 0.6
"""A piece of ink belongs to one character alone if this share of it is in that character's box."""

FREE = 0.92
"""A character is free if this share of the ink in its box is its own and of its own ink is in its box."""

NEAR = 0.5
"""Ink is beside a character if the gap is smaller than this part of the character's height."""

LIKE = 0.4, 1.5
"""Ink of so many heights of a character may be its neighbour in a word."""

MUCH = 0.04
"""Ink of a smaller area, in squares of a character's height, is a speck."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The ink of one character.

    Attributes:
        ink: (h, w) float32 in [0, 1], ink = 1; without its neighbours.
        free: whether it touches no other ink: neither a neighbour nor a ruling.
        box: its place on the cut of its line.
        beside: whether ink of about its size, which is not read, stands close beside it on the line.
    """

    ink: npt.NDArray[np.float32] = field(repr=False)
    free: bool
    box: Box
    beside: bool = False


def pieces(cut: Cut, line: Line, strip: Strip) -> list[Piece]:
    """Return the ink of each character of a line.

    Args:
        cut: the line as it was cut out of its page.
        line: its characters, with boxes on `strip`.
        strip: the strip of the cut that the boxes are on.
    """
    return in_boxes(cut, [on_cut(c.box, cut, strip.height) for c in line.characters])


def in_boxes(cut: Cut, boxes: Sequence[Box]) -> list[Piece]:
    """Return the ink of each character of a line, by their boxes on its cut."""
    ink = cut.ink.astype(np.float32) / np.float32(255)
    mask = (ink > LEVEL).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    found = [_piece(ink, labels, areas, box) for box in boxes]
    if len(boxes) == 1:
        unread = np.ones(len(stats), bool)
        unread[labels[boxes[0].top : boxes[0].bottom, boxes[0].start : boxes[0].end]] = False
        beside = _is_beside(boxes[0], stats[unread], ink.shape[0])
        found = [replace(found[0], beside=beside)]
    return found


def _is_beside(box: Box, stats: npt.NDArray[np.int32], rows: int) -> bool:
    """Return whether one of some pieces of ink stands beside a character as its neighbour in a word would.

    Args:
        box: of the character.
        stats: of each piece.
        rows: of the cut; what leaves it above or below is a border, or of another line.
    """
    x, y, width, height, area = stats.T.astype(np.float64)
    tall = box.bottom - box.top
    gap = np.maximum(box.start - (x + width), x - box.end)
    # A frame or a circle around a character is no neighbour.
    near = (gap > -0.5 * (box.end - box.start)) & (gap < NEAR * tall)
    level = np.minimum(y + height, box.bottom) - np.maximum(y, box.top) > 0.5 * height
    whole = (y > 0) & (y + height < rows)
    alike = (height > LIKE[0] * tall) & (height < LIKE[1] * tall) & (area > MUCH * tall**2)
    return bool((level & whole & alike & near).any())


def on_cut(box: Box, cut: Cut, tall: float) -> Box:
    """Return a box on a strip as a box on the cut that the strip was made from."""
    scale = CUT / 2 / tall
    rows, columns = cut.ink.shape
    shift = tall - HEIGHT / 2
    left, right = int(box.start * scale), int(np.ceil(box.end * scale))
    top, bottom = int((box.top + shift) * scale), int(np.ceil((box.bottom + shift) * scale))
    left, top = min(max(left, 0), columns - 1), min(max(top, 0), rows - 1)
    return Box(left, max(min(right, columns), left + 1), top, max(min(bottom, rows), top + 1))


def _piece(
    ink: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int32],
    areas: npt.NDArray[np.int32],
    box: Box,
) -> Piece:
    # The faint ink around the mask belongs to it: the box grows by a pixel.
    top, bottom = max(box.top - 1, 0), min(box.bottom + 1, ink.shape[0])
    left, right = max(box.start - 1, 0), min(box.end + 1, ink.shape[1])
    inside = labels[top:bottom, left:right]
    part = ink[top:bottom, left:right]
    counts = np.bincount(inside.ravel(), minlength=len(areas))
    present = np.flatnonzero(counts)
    present = present[present > 0]
    own = {int(k) for k in present if counts[k] >= OWN * areas[k]}
    shared = {int(k) for k in present if k not in own}
    total = int(counts[present].sum())
    alone = sum(int(counts[k]) for k in own)
    # Ink that is only partly in the box is a neighbour's, unless there is no other.
    taken = own if alone >= 0.5 * total else own | {k for k in shared if counts[k] >= 0.15 * total}
    if not taken:
        return Piece(np.ascontiguousarray(part), False, box)
    near = cv2.dilate(np.isin(inside, list(taken)).astype(np.uint8), np.ones((3, 3), np.uint8))
    others = np.isin(inside, list(set(present.tolist()) - taken))
    shown = np.where((near > 0) & ~others, part, np.float32(0))
    whole = int(areas[list(own)].sum()) if own else 0
    return Piece(shown, total > 0 and alone >= FREE * max(total, whole), box)
