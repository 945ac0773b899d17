"""A page to pieces of ink in reading order: paper evened out, ruling lines taken off, parts joined.

The steps: `lift` divides by the paper's own brightness, so that shadows and gradients go;
`single` takes the one digit of a crop; `lines` finds the digits of a page, and cuts what may be
several touching ones into atoms. Which atoms belong together is for the classifier to say, in `reader`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from digitry.reading.result import Box

FAINTEST = 0.045
"""Ink that takes less than this share of the paper's light is not told from paper."""

# Of the strongest ink nearby; below it lies the blurred rim of a stroke.
RIM = 0.42
MOST_PIECES = 5_000
"""A page with more pieces is texture or noise, not writing."""


@dataclass(frozen=True, slots=True)
class Ink:
    """What is on the paper.

    Attributes:
        strength: (h, w) float32 in [0, 1], the share of the paper's light that is taken away.
        mask: (h, w) uint8, 1 where there is ink.
        faint: (h, w) uint8, 1 where there may be some, pale rulings among it.
        noise: standard deviation of `strength` on bare paper.
    """

    strength: npt.NDArray[np.float32] = field(repr=False)
    mask: npt.NDArray[np.uint8] = field(repr=False)
    faint: npt.NDArray[np.uint8] = field(repr=False)
    noise: float


@dataclass(frozen=True, slots=True)
class Piece:
    """Ink that may be a digit or a part of one.

    Attributes:
        box: where it stands on the working page.
        ink: (box.h, box.w) float32 in [0, 1]: its own ink, nothing of its neighbours.
        cut: whether it runs out of the page.
    """

    box: Box
    ink: npt.NDArray[np.float32] = field(repr=False)
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Cluster:
    """Connected ink: one digit, or several that touch, as atoms from left to right."""

    atoms: tuple[Piece, ...]

    @property
    def box(self) -> Box:
        """The box around all atoms."""
        return around([atom.box for atom in self.atoms])


def around(boxes: Sequence[Box]) -> Box:
    """Give the smallest box that holds them all."""
    box = boxes[0]
    for other in boxes[1:]:
        box = box.union(other)
    return box


def join(pieces: Sequence[Piece]) -> Piece:
    """Lay several pieces together as one."""
    if len(pieces) == 1:
        return pieces[0]
    box = around([piece.box for piece in pieces])
    ink = np.zeros((box.h, box.w), np.float32)
    for piece in pieces:
        y, x = piece.box.y - box.y, piece.box.x - box.x
        part = ink[y : y + piece.box.h, x : x + piece.box.w]
        np.maximum(part, piece.ink, out=part)
    return Piece(box, ink, any(piece.cut for piece in pieces))


def lift(gray: npt.NDArray[np.uint8]) -> Ink:
    """Lift the ink off the paper.

    Args:
        gray: (h, w) uint8, ink darker than the paper.
    """
    height, width = gray.shape
    paper = _paper(gray)
    light = gray.astype(np.float32)
    light /= np.maximum(paper, np.float32(1))
    strength: npt.NDArray[np.float32] = np.float32(1) - light
    np.clip(strength, 0, 1, out=strength)
    if min(height, width) >= 200:
        # A camera's grain is finer than a stroke; in small pictures every pixel counts.
        strength = cv2.GaussianBlur(strength, (0, 0), 0.8)
    middle, noise = _paper_noise(strength)
    floor = max(FAINTEST, middle + 4.5 * noise)
    _clear_surroundings(strength, floor)
    nearby = _strongest_nearby(strength)
    faint = (strength > floor).astype(np.uint8)
    mask = faint & (strength > RIM * nearby).astype(np.uint8)
    return Ink(strength, mask, faint, noise)


def single(ink: Ink) -> Piece | None:
    """Give the one digit of a crop: its main piece and whatever belongs to it, or None without ink."""
    height, width = ink.mask.shape
    mask = _without_frame(ink.mask)
    count, labels, stats, centres = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count < 2 or count > MOST_PIECES:
        return None
    area = stats[1:, cv2.CC_STAT_AREA].astype(np.float64)
    # Of two large pieces the one nearer to the middle is meant: a neighbour's ink comes in at the rim.
    off = np.abs(centres[1:] / (width, height) - 0.5).max(axis=1)
    main = 1 + int(np.argmax(area * (1.15 - off)))
    chosen = [main]
    box = _box(stats[main])
    reach = 0.25 * max(box.h, box.w)
    for label in np.argsort(-area) + 1:
        other = _box(stats[label])
        if label == main or stats[label, cv2.CC_STAT_AREA] < 0.015 * stats[main, cv2.CC_STAT_AREA]:
            continue
        stray = _at_border(other, width, height) and not _overlap(other, box) > 0.5
        if _distance(other, box) <= reach and not stray:
            chosen.append(int(label))
    return _piece(ink, labels, stats, chosen)


def lines(ink: Ink) -> list[list[Cluster]]:
    """Find the digits of a page: lines from top to bottom, clusters from left to right."""
    height, width = ink.mask.shape
    mask = _without_ruling(ink)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count < 2 or count > MOST_PIECES:
        return []
    found = _writing(ink, labels, stats, width, height)
    if not found:
        return []
    typical = _typical_height([_box(stats[label]) for label in found])
    groups = _gathered([(_box(stats[label]), [label]) for label in found], typical)
    groups = [group for group in groups if max(group[0].h, group[0].w) >= 0.3 * typical]
    pieces = _bold([_piece(ink, labels, stats, members) for _, members in groups], typical)
    return [[_cluster(piece, typical) for piece in line] for line in _in_lines(pieces)]


# --- paper and ink ---------------------------------------------------------------------------------


def _paper(gray: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Estimate the brightness of the paper under every pixel.

    A morphological closing removes all that is dark and narrower than its window, and leaves the edges
    of what is wider, such as shadows, where they are. Strokes are narrow, so a small picture is enough.
    """
    height, width = gray.shape
    factor = min(1.0, 256 / max(height, width))
    small = gray
    if factor < 1:
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        small = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    small = cv2.medianBlur(small, 3) if min(small.shape) >= 48 else small
    share = 0.6 if max(height, width) <= 64 else 0.3
    window = max(3, round(share * min(small.shape))) | 1
    margin = window
    # Beyond the border the paper goes on; without that, ink that touches it would count as paper.
    padded = cv2.copyMakeBorder(small, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, np.ones((window, window), np.uint8))
    closed = cv2.GaussianBlur(closed, (0, 0), 1.0)
    closed = closed[margin:-margin, margin:-margin]
    if factor < 1:
        closed = cv2.resize(closed, (width, height), interpolation=cv2.INTER_LINEAR)
    result: npt.NDArray[np.float32] = closed.astype(np.float32)
    return result


def _paper_noise(strength: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Give the middle and the spread of bare paper, robustly: a third of a picture is paper."""
    sample = strength[:: max(1, strength.shape[0] // 400), :: max(1, strength.shape[1] // 400)]
    below = sample[sample <= max(3 * float(np.percentile(sample, 33)), 0.12)]
    middle = float(np.median(below))
    return middle, 1.4826 * float(np.median(np.abs(below - middle)))


def _clear_surroundings(strength: npt.NDArray[np.float32], floor: float) -> None:
    """Wipe out the table beside the paper: dark, and lying along the border of the picture."""
    height, width = strength.shape
    if min(height, width) < 100:
        return
    dark = (strength > max(floor, 0.12)).astype(np.uint8)
    rims = (dark[0], dark[-1], dark[:, 0], dark[:, -1])
    if max(int(rim.sum()) for rim in rims) < 0.1 * min(height, width):
        return
    _, labels, stats, _ = cv2.connectedComponentsWithStats(dark, connectivity=8)
    for rim in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        counts = np.bincount(rim[rim > 0]) if rim.any() else np.zeros(0, int)
        for label in np.flatnonzero(counts >= 0.1 * min(height, width)):
            long = max(stats[label, cv2.CC_STAT_WIDTH], stats[label, cv2.CC_STAT_HEIGHT])
            if counts[label] >= 0.6 * long:
                strength[labels == label] = 0


def _strongest_nearby(strength: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    height, width = strength.shape
    factor = min(1.0, 200 / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    # Averaging twice its size first: a single bright pixel of noise is not ink.
    small = cv2.resize(strength, size, interpolation=cv2.INTER_AREA)
    window = max(3, round(0.12 * max(small.shape))) | 1
    nearby = cv2.dilate(small, np.ones((window, window), np.uint8))
    result: npt.NDArray[np.float32] = cv2.resize(
        nearby, (width, height), interpolation=cv2.INTER_LINEAR
    )
    return result


def _without_frame(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Take off the frame of a form's cell: thin lines along the whole border, with ink inside."""
    height, width = mask.shape
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    for label in range(1, min(count, 64)):
        box = _box(stats[label])
        frames = box.w >= 0.9 * width and box.h >= 0.9 * height
        thin = stats[label, cv2.CC_STAT_AREA] < 0.3 * box.w * box.h
        if not (frames and thin):
            continue
        inside = mask[height // 5 : height - height // 5, width // 5 : width - width // 5]
        own = labels[height // 5 : height - height // 5, width // 5 : width - width // 5] == label
        if not own.any() and inside.any():
            without: npt.NDArray[np.uint8] = np.where(labels == label, np.uint8(0), mask)
            return without
    return mask


def _without_ruling(ink: Ink) -> npt.NDArray[np.uint8]:
    """Take off ruling lines and the lines of tables, leaving the strokes that cross them.

    A pixel belongs to a ruling line where the ink is thin across and the thin pixels run on and on
    along; lines may slope or bend. Where a stroke crosses, the ink is thick, and stays. Lines are
    sought in the faint ink: near a dark pen a pale line is below the threshold, and would seem broken.
    """
    mask = _without_long_thin(ink.mask, ink.faint)
    turned = _without_long_thin(np.ascontiguousarray(mask.T), np.ascontiguousarray(ink.faint.T))
    result: npt.NDArray[np.uint8] = np.ascontiguousarray(turned.T)
    return result


def _without_long_thin(
    mask: npt.NDArray[np.uint8], faint: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    height, width = mask.shape
    if width < 64:
        return mask
    thickest = max(5, round(0.01 * max(height, width)))
    thick = cv2.morphologyEx(faint, cv2.MORPH_OPEN, np.ones((thickest + 1, 1), np.uint8))
    thin = cv2.subtract(faint, thick)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(thin, connectivity=8)
    wide, high = stats[1:, cv2.CC_STAT_WIDTH], stats[1:, cv2.CC_STAT_HEIGHT]
    dashes = 1 + np.flatnonzero(
        (wide >= 3 * thickest) & (high <= np.maximum(0.15 * wide, 1.6 * thickest))
    )
    if len(dashes) == 0:
        return mask
    # Digits interrupt a line. What is left of it still lies in a row, and fills most of its length.
    dashed = np.isin(labels, dashes).astype(np.uint8)
    reach = round(0.25 * width) | 1
    bridged = cv2.morphologyEx(dashed, cv2.MORPH_CLOSE, np.ones((5, reach), np.uint8))
    _, chains, lengths, _ = cv2.connectedComponentsWithStats(bridged, connectivity=8)
    long = []
    longest_dash = 0
    for chain in range(1, len(lengths)):
        length = int(lengths[chain, cv2.CC_STAT_WIDTH])
        links = [dash for dash in dashes if _in_box(stats[dash], lengths[chain])]
        total = sum(int(stats[dash, cv2.CC_STAT_WIDTH]) for dash in links)
        if length >= 0.3 * width and total >= 0.6 * length:
            long += links
            longest_dash = max(longest_dash, *(int(stats[dash, 2]) for dash in links))
    if not long:
        return mask
    ruled = np.isin(labels, long).astype(np.uint8) & thin
    cleaned: npt.NDArray[np.uint8] = cv2.subtract(mask, ruled)
    # What the line was a little thicker than thin leaves crumbs.
    touching = cv2.dilate(ruled, np.ones((3, 3), np.uint8))
    _, pieces, sizes, _ = cv2.connectedComponentsWithStats(cleaned, connectivity=8)
    near = np.unique(pieces[(touching > 0) & (cleaned > 0)])
    crumbs = [piece for piece in near if piece and sizes[piece, cv2.CC_STAT_HEIGHT] <= 2 * thickest]
    cleaned[np.isin(pieces, crumbs)] = 0
    rest = [
        _box(sizes[piece])
        for piece in range(1, min(len(sizes), MOST_PIECES))
        if piece not in crumbs and max(sizes[piece, 2], sizes[piece, 3]) >= 8
    ]
    # A lone 1 is long and thin, too. A ruling line is so beside the writing on it, or it is none.
    if not rest or longest_dash < 2.2 * _typical_height(rest):
        return mask
    return cleaned


# --- components ------------------------------------------------------------------------------------


def _box(row: npt.NDArray[np.int32]) -> Box:
    return Box(int(row[0]), int(row[1]), int(row[2]), int(row[3]))


def _in_box(row: npt.NDArray[np.int32], outer: npt.NDArray[np.int32]) -> bool:
    inside, box = _box(row), _box(outer)
    return box.x <= inside.x and inside.right <= box.right and box.y <= inside.y < box.bottom


def _at_border(box: Box, width: int, height: int) -> bool:
    return box.x <= 0 or box.y <= 0 or box.right >= width or box.bottom >= height


def _along_border(box: Box, width: int, height: int) -> bool:
    """Tell whether a box is a strip that lies along the border, as the edge of a sheet does."""
    upright = box.h >= 3 * box.w and box.h >= 0.1 * height and (box.x <= 0 or box.right >= width)
    lying = box.w >= 3 * box.h and box.w >= 0.1 * width and (box.y <= 0 or box.bottom >= height)
    return upright or lying


def _distance(a: Box, b: Box) -> float:
    """Give the gap between two boxes, in pixels; 0 where they meet."""
    across = max(a.x - b.right, b.x - a.right, 0)
    down = max(a.y - b.bottom, b.y - a.bottom, 0)
    return float(np.hypot(across, down))


def _overlap(a: Box, b: Box) -> float:
    """Give the share of `a` that lies within the box `b`."""
    across = min(a.right, b.right) - max(a.x, b.x)
    down = min(a.bottom, b.bottom) - max(a.y, b.y)
    return max(across, 0) * max(down, 0) / (a.w * a.h)


def _piece(
    ink: Ink,
    labels: npt.NDArray[np.int32],
    stats: npt.NDArray[np.int32],
    members: Sequence[int],
) -> Piece:
    box = around([_box(stats[member]) for member in members])
    height, width = ink.mask.shape
    cut = _at_border(box, width, height)
    # One pixel more on each side: the soft rim of the strokes is part of how they look.
    x, y = max(box.x - 1, 0), max(box.y - 1, 0)
    box = Box(x, y, min(box.right + 1, width) - x, min(box.bottom + 1, height) - y)
    region = labels[box.y : box.bottom, box.x : box.right]
    own = np.isin(region, members).astype(np.uint8)
    own = cv2.dilate(own, np.ones((3, 3), np.uint8))
    return Piece(box, ink.strength[box.y : box.bottom, box.x : box.right] * own, cut)


def _writing(
    ink: Ink,
    labels: npt.NDArray[np.int32],
    stats: npt.NDArray[np.int32],
    width: int,
    height: int,
) -> list[int]:
    """Give the components that may be writing: not specks, not the table beside the paper."""
    found = []
    smallest = max(3, 0.006 * max(height, width))
    for label in range(1, len(stats)):
        box, area = _box(stats[label]), int(stats[label, cv2.CC_STAT_AREA])
        if max(box.w, box.h) < smallest or area < 4:
            continue
        solid = area > 0.6 * box.w * box.h and min(box.w, box.h) > 0.08 * min(width, height)
        if _at_border(box, width, height) and (solid or _along_border(box, width, height)):
            continue
        found.append(label)
    return found


def _typical_height(boxes: Sequence[Box]) -> float:
    """Give the height of a digit here: the median, where a tall piece counts more than a speck."""
    heights = np.sort([float(max(box.h, 0.5 * box.w)) for box in boxes])
    weights = np.cumsum(heights)
    return float(heights[int(np.searchsorted(weights, 0.5 * weights[-1]))])


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
    return (
        small.h < 0.45 * typical and _distance(a, b) <= 0.12 * typical and small.w < 0.8 * typical
    )


def _bold(pieces: list[Piece], typical: float) -> list[Piece]:
    """Leave out specks: small beside the digits here, and much paler than their ink."""
    if not pieces:
        return []
    heights = np.array([float(max(piece.box.h, piece.box.w)) for piece in pieces])
    levels = np.array([float(np.percentile(piece.ink[piece.ink > 0], 80)) for piece in pieces])
    order = np.argsort(levels)
    weight = np.cumsum(heights[order])
    level = float(levels[order[int(np.searchsorted(weight, 0.5 * weight[-1]))]])
    small, pale = heights < 0.6 * typical, levels < 0.45 * level
    return [piece for piece, drop in zip(pieces, small & pale, strict=True) if not drop]


def _in_lines(pieces: list[Piece]) -> list[list[Piece]]:
    """Sort into lines: left to right, each piece goes to the line whose end it continues."""
    result: list[list[Piece]] = []
    for piece in sorted(pieces, key=lambda piece: piece.box.x):
        box = piece.box
        best, best_share = None, 0.35
        for line in result:
            tail = line[-3:]
            top = sum(other.box.y for other in tail) / len(tail)
            bottom = sum(other.box.bottom for other in tail) / len(tail)
            share = (min(box.bottom, bottom) - max(box.y, top)) / min(box.h, max(bottom - top, 1))
            if share > best_share:
                best, best_share = line, share
        if best is None:
            result.append([piece])
        else:
            best.append(piece)
    return sorted(result, key=lambda line: float(np.mean([p.box.y + p.box.h / 2 for p in line])))


def _cluster(piece: Piece, typical: float) -> Cluster:
    """Cut what may be several digits that touch into atoms, at the thinnest columns."""
    box = piece.box
    if box.w < 0.85 * max(box.h, 0.7 * typical) or box.w < 12:
        return Cluster((piece,))
    ink = piece.ink > 0.5 * float(piece.ink.max(initial=0.0)) * 0.6
    profile = ink.sum(axis=0).astype(np.float32)
    profile = cv2.blur(profile[None], (max(1, box.w // 40) | 1, 1))[0]
    spacing = 0.22 * min(box.h, 1.3 * typical)
    cuts: list[int] = []
    for column in np.argsort(profile, kind="stable"):
        if len(cuts) >= 12 or profile[column] > 0.45 * profile.max():
            break
        far_from_ends = spacing <= column <= box.w - spacing
        if far_from_ends and all(abs(column - other) >= spacing for other in cuts):
            cuts.append(int(column))
    if not cuts:
        return Cluster((piece,))
    edges = [0, *sorted(cuts), box.w]
    atoms = []
    for left, right in pairwise(edges):
        part = piece.ink[:, left:right]
        rows = np.flatnonzero((part > 0).any(axis=1))
        if len(rows) == 0:
            continue
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        atoms.append(
            Piece(
                Box(box.x + left, box.y + top, right - left, bottom - top),
                part[top:bottom],
                piece.cut,
            )
        )
    return Cluster(tuple(atoms))
