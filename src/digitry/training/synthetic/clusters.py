"""Ink to what may be digits: ruling taken off, parts joined, and touching digits cut into atoms.

The glyph model must know what is no digit, halves of digits and two that touch among it. So drawn writing
is cut up here in every way that may look like a digit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce

import cv2
import numpy as np
import numpy.typing as npt

from digitry.reading import alone
from digitry.reading.alone import MOST_PIECES, at_border, box_of, distance
from digitry.reading.ink import Ink
from digitry.reading.result import Box
from digitry.training.synthetic.ruling import without_frames, without_ruling

LEANS = (0.0, -0.2, 0.2, -0.4, 0.4)
"""Slopes of the cuts between touching digits, in columns a row: people lean their writing."""

MOST_CUTS = 10
MOST_JOINED = 5
"""Atoms that may make up one digit."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Ink that may be a digit or a part of one.

    Attributes:
        box: where it stands on the working page.
        ink: (box.h, box.w) float32 in [0, 1]: its own ink, nothing of its neighbours.
        whole: of a part of touching digits, all of their ink together.
    """

    box: Box
    ink: npt.NDArray[np.float32] = field(repr=False)
    whole: "Piece | None" = field(default=None, repr=False)

    @property
    def surroundings(self) -> tuple[npt.NDArray[np.float32], int, int] | None:
        """The ink that it was cut out of, and the column and row of its own corner in that."""
        if self.whole is None:
            return None
        return self.whole.ink, self.box.x - self.whole.box.x, self.box.y - self.whole.box.y


@dataclass(frozen=True, slots=True)
class Cluster:
    """Connected ink: one digit, or several that touch.

    Attributes:
        whole: all of it.
        spacing: least distance of two cuts through it, in pixels; 0 where it is too narrow for several.
    """

    whole: Piece
    spacing: float = 0.0

    @property
    def box(self) -> Box:
        """The box around all of it."""
        return self.whole.box


def join(pieces: Sequence[Piece]) -> Piece:
    """Lay several parts of the same touching digits together as one."""
    if len(pieces) == 1:
        return pieces[0]
    box = reduce(Box.union, [piece.box for piece in pieces])
    ink = np.zeros((box.h, box.w), np.float32)
    for piece in pieces:
        y, x = piece.box.y - box.y, piece.box.x - box.x
        part = ink[y : y + piece.box.h, x : x + piece.box.w]
        np.maximum(part, piece.ink, out=part)
    return Piece(box, ink, pieces[0].whole)


def runs(atoms: int) -> list[tuple[int, int]]:
    """Return every (start, stop) of atoms in a row that may be one digit; all of them together, too."""
    pairs = [
        (start, stop)
        for start in range(atoms)
        for stop in range(start + 1, min(atoms, start + MOST_JOINED) + 1)
    ]
    return pairs if atoms <= MOST_JOINED else [*pairs, (0, atoms)]


def candidates(cluster: Cluster) -> dict[tuple[int, int], Piece]:
    """Return everything in a cluster that may be one digit, by its run of atoms, in the order of `runs`."""
    parts = atoms(cluster)
    return {
        (start, stop): cluster.whole if stop - start == len(parts) else join(parts[start:stop])
        for start, stop in runs(len(parts))
    }


def atoms(cluster: Cluster) -> tuple[Piece, ...]:
    """Cut what may be several digits that touch, from left to right, where a cut meets least ink."""
    piece, box = cluster.whole, cluster.whole.box
    cuts = _cuts(piece.ink, cluster.spacing) if cluster.spacing > 0 else []
    if not cuts:
        return (piece,)
    rows, columns = np.ogrid[0 : box.h, 0 : box.w]
    part = np.zeros((box.h, box.w), np.uint8)
    for column, slope in cuts:
        part += columns > column + slope * (rows - box.h / 2)
    found = []
    for index in range(len(cuts) + 1):
        ink = np.where(part == index, piece.ink, np.float32(0))
        down, across = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
        if len(down) == 0:
            continue
        y, x = int(down[0]), int(across[0])
        place = Box(box.x + x, box.y + y, int(across[-1]) + 1 - x, int(down[-1]) + 1 - y)
        own = ink[y : y + place.h, x : x + place.w].copy()
        found.append(Piece(place, own, piece))
    return tuple(found)


def lines(ink: Ink) -> list[list[Cluster]]:
    """Return the digits of a page: lines from top to bottom, clusters from left to right."""
    height, width = ink.mask.shape
    _, labels, stats, _ = cv2.connectedComponentsWithStats(ink.mask, connectivity=8)
    mask = without_ruling(without_frames(ink.mask, labels, stats), ink.faint, ink.strength)
    if mask is not ink.mask:
        _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if not 2 <= len(stats) <= MOST_PIECES:
        return []
    found = _writing(ink, labels, stats, width, height)
    if not found:
        return []
    typical = _typical_height(stats[found])
    groups = _gathered([(box_of(stats[label]), [label]) for label in found], typical)
    groups = [group for group in groups if max(group[0].h, group[0].w) >= 0.3 * typical]
    whole = [alone.piece(ink, labels, stats, members) for _, members in groups]
    pieces = _bold([Piece(one.box, one.ink) for one in whole], typical)
    return [[_cluster(piece, typical) for piece in line] for line in _in_lines(pieces)]


# --- components ------------------------------------------------------------------------------------


def _along_border(box: Box, width: int, height: int) -> bool:
    """Return whether a box is a strip that lies along the border, as the edge of a sheet does."""
    upright = box.h >= 3 * box.w and box.h >= 0.05 * height and (box.x <= 0 or box.right >= width)
    lying = box.w >= 3 * box.h and box.w >= 0.05 * width and (box.y <= 0 or box.bottom >= height)
    return upright or lying


def _writing(
    ink: Ink,
    labels: npt.NDArray[np.int32],
    stats: npt.NDArray[np.int32],
    width: int,
    height: int,
) -> list[int]:
    """Return the components that may be writing: not specks, not the table beside the paper."""
    found = []
    smallest = max(3, 0.006 * max(height, width))
    for label in range(1, len(stats)):
        box, area = box_of(stats[label]), int(stats[label, cv2.CC_STAT_AREA])
        if max(box.w, box.h) < smallest or area < 4:
            continue
        solid = area > 0.6 * box.w * box.h and min(box.w, box.h) > 0.08 * min(width, height)
        if at_border(box, width, height) and (solid or _along_border(box, width, height)):
            continue
        found.append(label)
    return found


def _typical_height(stats: npt.NDArray[np.int32]) -> float:
    """Return the height of a digit here: the median, where a piece counts by its ink."""
    heights = np.maximum(stats[:, cv2.CC_STAT_HEIGHT], 0.5 * stats[:, cv2.CC_STAT_WIDTH])
    return _median(heights.astype(np.float64), stats[:, cv2.CC_STAT_AREA].astype(np.float64))


def _high(values: npt.NDArray[np.float32]) -> float:
    """Return what four fifths of the values do not exceed."""
    place = int(0.8 * (values.size - 1))
    return float(np.partition(values, place)[place])


def _median(values: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> float:
    """Return the weighted median."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order[int(np.searchsorted(reached, 0.5 * reached[-1]))]])


def _gathered(groups: list[tuple[Box, list[int]]], typical: float) -> list[tuple[Box, list[int]]]:
    """Join the parts of one digit: the hat of a 5, the strokes of a 4, a broken line."""
    groups = sorted(groups, key=lambda group: group[0].x)
    merged = True
    while merged:
        merged = False
        result: list[tuple[Box, list[int]]] = []
        for box, members in groups:
            for index in range(len(result) - 1, max(-1, len(result) - 8), -1):
                other, theirs = result[index]
                if _belong(box, other, typical):
                    result[index] = (box.union(other), theirs + members)
                    merged = True
                    break
            else:
                result.append((box, members))
        groups = sorted(result, key=lambda group: group[0].x)
    return groups


def _belong(a: Box, b: Box, typical: float) -> bool:
    together = a.union(b)
    if together.h > 1.7 * typical:
        return False
    across = min(a.right, b.right) - max(a.x, b.x)
    down = max(a.y - b.bottom, b.y - a.bottom)
    narrow = min(a.w, b.w)
    small = a if a.h < b.h else b
    if across >= 0.5 * narrow and down <= 0.25 * typical:
        # One above the other. Two whole digits so placed belong to two lines.
        return not (small.h > 0.7 * typical)
    # A short stroke close beside: the bar of a 5 that floats to the right.
    return small.h < 0.45 * typical and distance(a, b) <= 0.12 * typical and small.w < 0.8 * typical


def _bold(pieces: list[Piece], typical: float) -> list[Piece]:
    """Leave out what is paler than the ink here: the rims of shadows, and small specks sooner."""
    if not pieces:
        return []
    heights = np.array([float(max(piece.box.h, piece.box.w)) for piece in pieces])
    levels = np.array([_high(piece.ink[piece.ink > 0]) for piece in pieces])
    level = _median(levels, np.array([float(piece.ink.sum()) for piece in pieces]))
    # A pencil beside a marker still has half of its strength.
    pale = levels < np.where(heights < 0.6 * typical, 0.45, 0.3) * level
    return [piece for piece, drop in zip(pieces, pale, strict=True) if not drop]


def _in_lines(pieces: list[Piece]) -> list[list[Piece]]:
    """Sort into lines: left to right, each piece goes to the line whose end it continues."""
    result: list[list[Piece]] = []
    # Of each line: mean top and bottom of its last three pieces.
    ends = np.zeros((2, len(pieces)))
    for piece in sorted(pieces, key=lambda piece: piece.box.x):
        y, bottom, h = piece.box.y, piece.box.bottom, piece.box.h
        high, low = ends[:, : len(result)]
        shared = np.minimum(low, bottom) - np.maximum(high, y)
        shares = shared / np.minimum(h, np.maximum(low - high, 1))
        best = int(np.argmax(shares)) if len(shares) else -1
        if best < 0 or shares[best] <= 0.35:
            best = len(result)
            result.append([])
        result[best].append(piece)
        tail = [other.box for other in result[best][-3:]]
        ends[:, best] = (
            sum(box.y for box in tail) / len(tail),
            sum(box.bottom for box in tail) / len(tail),
        )
    return sorted(result, key=lambda line: float(np.mean([p.box.y + p.box.h / 2 for p in line])))


def _cluster(piece: Piece, typical: float) -> Cluster:
    """Return whether a piece is wide enough to be several digits that touch."""
    box = piece.box
    if box.w < 0.6 * max(box.h, 0.7 * typical) or box.w < 8:
        return Cluster(piece)
    return Cluster(piece, spacing=0.16 * min(box.h, 1.3 * typical))


def _cuts(ink: npt.NDArray[np.float32], spacing: float) -> list[tuple[int, float]]:
    """Find straight cuts from top to bottom that meet little ink, upright or leaning.

    Args:
        ink: (h, w) float32 in [0, 1].
        spacing: least distance of two cuts, in pixels.

    Returns:
        (column at half the height, columns a row) of each, from left to right.
    """
    height, width = ink.shape
    strong = (ink > 0.3 * float(ink.max(initial=0.0))).astype(np.float32)
    best = np.full(width, np.inf, np.float32)
    lean = np.zeros(width, np.float32)
    for slope in LEANS:
        # Shearing the ink makes a leaning cut an upright one, whose ink is the sum of a column.
        shear = np.array([[1, -slope, slope * height / 2], [0, 1, 0]], np.float32)
        upright = cv2.warpAffine(strong, shear, (width, height), flags=cv2.INTER_NEAREST)
        profile = upright.sum(axis=0) * (1 + 0.3 * abs(slope))
        better = profile < best
        best[better], lean[better] = profile[better], slope
    # A cut through two strokes is still likely; one along a stroke is not.
    most = 0.5 * height
    cuts: list[tuple[int, float]] = []
    for column in np.argsort(best, kind="stable"):
        if len(cuts) >= MOST_CUTS or best[column] > most:
            break
        inside = spacing <= column <= width - spacing
        if inside and all(abs(int(column) - other) >= spacing for other, _ in cuts):
            cuts.append((int(column), float(lean[column])))
    return sorted(cuts)
