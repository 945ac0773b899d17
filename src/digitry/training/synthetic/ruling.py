"""Ink to ink without ruling: the lines of the paper, of tables and of the cells of forms."""

import cv2
import numpy as np
import numpy.typing as npt

from digitry.reading.alone import MOST_PIECES

PEN = 1.6
"""What is so many times as dark as the core of the ruling line that it lies on is a pen's stroke."""


def without_ruling(
    mask: npt.NDArray[np.uint8],
    faint: npt.NDArray[np.uint8],
    strength: npt.NDArray[np.float32],
) -> npt.NDArray[np.uint8]:
    """Take off ruling lines and the lines of tables, leaving the strokes that cross them.

    A pixel belongs to a ruling line where the ink is thin across and the thin pixels run on and on
    along; lines may slope or bend. Where a stroke crosses, the ink is thick, and stays. Lines are
    sought in the faint ink: near a dark pen a pale line is below the threshold, and would seem broken.

    Args:
        mask: (h, w) uint8, 1 where there is ink.
        faint: (h, w) uint8, 1 where there may be some.
        strength: (h, w) float32 in [0, 1], how dark it is. The top of a 7 that runs along a pale line
            is darker than the line, and stays.

    Returns:
        `mask` itself where nothing goes.
    """
    if _may_be_ruled(faint):
        mask = _without_long_thin(mask, faint, strength)
    turned = cv2.transpose(faint).astype(np.uint8)
    if _may_be_ruled(turned):
        before = cv2.transpose(mask).astype(np.uint8)
        after = _without_long_thin(before, turned, strength.T)
        mask = mask if after is before else cv2.transpose(after).astype(np.uint8)
    return mask


def _may_be_ruled(faint: npt.NDArray[np.uint8]) -> bool:
    """Look for lying ruling lines in a quarter of the pixels: most pages have none."""
    height, width = faint.shape
    if width < 64:
        return False
    if height * width > 1 << 18:
        even = faint[: height & ~1, : width & ~1]
        faint = even[0::2, 0::2] | even[1::2, 0::2] | even[0::2, 1::2] | even[1::2, 1::2]
    return _chains(faint)[1] > 0


def _without_long_thin(
    mask: npt.NDArray[np.uint8],
    faint: npt.NDArray[np.uint8],
    strength: npt.NDArray[np.float32],
) -> npt.NDArray[np.uint8]:
    ruled, reached = _chains(faint)
    if reached == 0:
        return mask
    ruled -= _pen_strokes(ruled, strength)
    cleaned: npt.NDArray[np.uint8] = cv2.subtract(mask, ruled)
    # What the line was a little thicker than thin leaves crumbs.
    touching = cv2.dilate(ruled, np.ones((3, 3), np.uint8))
    _, pieces, sizes, _ = cv2.connectedComponentsWithStats(cleaned, connectivity=8)
    near = np.unique(pieces[(touching > 0) & (cleaned > 0)])
    thickest = _thickest(mask)
    crumb = np.zeros(len(sizes), bool)
    crumb[near] = sizes[near, cv2.CC_STAT_HEIGHT] <= 2 * thickest
    crumb[0] = False
    cleaned[crumb[pieces]] = 0
    rest = [
        max(float(sizes[piece, cv2.CC_STAT_HEIGHT]), 0.5 * float(sizes[piece, cv2.CC_STAT_WIDTH]))
        for piece in range(1, min(len(sizes), MOST_PIECES))
        if not crumb[piece] and max(sizes[piece, 2], sizes[piece, 3]) >= 8
    ]
    # A lone 1 is long and thin, too. A ruling line is so beside the writing on it, or it is none.
    if not rest or reached < 2.2 * float(np.percentile(rest, 75)):
        return mask
    return cleaned


def _pen_strokes(
    ruled: npt.NDArray[np.uint8], strength: npt.NDArray[np.float32]
) -> npt.NDArray[np.uint8]:
    """Find what lies on a ruling line and is darker, in bits as short as strokes: (h, w) uint8, 0 or 1."""
    level = PEN * float(np.percentile(strength[ruled > 0], 75))
    dark = ruled & (strength > level).view(np.uint8)
    _, bits, stats, _ = cv2.connectedComponentsWithStats(dark, connectivity=8)
    # A line that is dark for a long way is another line, such as the edge of the sheet.
    short = (stats[:, cv2.CC_STAT_WIDTH] <= 0.12 * ruled.shape[1]).astype(np.uint8)
    short[0] = 0
    strokes: npt.NDArray[np.uint8] = short[bits]
    return strokes


def _thickest(mask: npt.NDArray[np.uint8]) -> int:
    """Return how thick a ruling line may be, in pixels."""
    return max(5, round(0.01 * float(max(mask.shape))))


def _chains(faint: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], float]:
    """Find lying lines: thin dashes in a row that fill most of a long way.

    Returns:
        (h, w) uint8, 1 where such a line is, and how long the longest unbroken one is in pixels; 0
        where there is none.
    """
    width = faint.shape[1]
    thickest = _thickest(faint)
    thick = cv2.morphologyEx(faint, cv2.MORPH_OPEN, np.ones((thickest + 1, 1), np.uint8))
    thin = cv2.subtract(faint, thick)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(thin, connectivity=8)
    wide, high = stats[1:, cv2.CC_STAT_WIDTH], stats[1:, cv2.CC_STAT_HEIGHT]
    dashes = 1 + np.flatnonzero(
        (wide >= 3 * thickest) & (high <= np.maximum(0.15 * wide, 1.6 * thickest))
    )
    nothing = np.zeros((0, 0), np.uint8)
    if stats[dashes, cv2.CC_STAT_WIDTH].sum() < 0.18 * width:
        # Too little for the shortest line that counts.
        return nothing, 0.0
    # Digits interrupt a line. What is left of it still lies in a row, and fills most of its length.
    chosen = np.zeros(len(stats), np.uint8)
    chosen[dashes] = 1
    dashed = chosen[labels]
    reach = round(0.25 * width) | 1
    bridged = cv2.morphologyEx(dashed, cv2.MORPH_CLOSE, np.ones((5, reach), np.uint8))
    _, _, lengths, _ = cv2.connectedComponentsWithStats(bridged, connectivity=8)
    x, y = stats[dashes, cv2.CC_STAT_LEFT], stats[dashes, cv2.CC_STAT_TOP]
    ruled = np.zeros(len(stats), np.uint8)
    reached = 0.0
    for left, top, length, height, _ in lengths[1:]:
        if length < 0.3 * width:
            continue
        links = dashes[(x >= left) & (x < left + length) & (y >= top) & (y < top + height)]
        if len(links) == 0:
            continue
        wide_links = stats[links, cv2.CC_STAT_WIDTH]
        total = int(wide_links.sum())
        if total >= 0.6 * length:
            ruled[links] = 1
            # A chain without gaps counts as a whole; the bars of 7s in a row do not make one.
            reached = max(
                reached, float(wide_links.max()), 0.5 * length if total > 0.85 * length else 0
            )
    if not ruled.any():
        return nothing, 0.0
    return ruled[labels] & thin, reached


def without_frames(
    mask: npt.NDArray[np.uint8], labels: npt.NDArray[np.int32], stats: npt.NDArray[np.int32]
) -> npt.NDArray[np.uint8]:
    """Take off the cells of forms and tables: straight lines longer than the writing that they hold.

    What frames something is connected ink, mostly empty, with other ink inside that is smaller.
    Only its long straight strokes go, so that a digit which touches its cell is left.

    Args:
        mask: (h, w) uint8, 1 where there is ink.
        labels, stats: its connected components, as OpenCV gives them.

    Returns:
        `mask` itself where nothing goes.
    """
    if not 3 <= len(stats) <= MOST_PIECES:
        return mask
    x, y, w, h, area = (stats[1:, column].astype(np.int64) for column in range(5))
    cleaned = mask
    for label in np.flatnonzero((area < 0.35 * w * h) & (np.minimum(w, h) >= 12)):
        inside = (
            (x > x[label])
            & (y > y[label])
            & (x + w < x[label] + w[label])
            & (y + h < y[label] + h[label])
            & (h >= 0.25 * h[label])
        )
        if not inside.any():
            continue
        tallest = int(np.maximum(h, w)[inside].max())
        reach = max(8, round(1.15 * tallest))
        part = slice(y[label], y[label] + h[label]), slice(x[label], x[label] + w[label])
        own = (labels[part] == label + 1).astype(np.uint8)
        lying = cv2.morphologyEx(own, cv2.MORPH_OPEN, np.ones((1, reach), np.uint8))
        upright = cv2.morphologyEx(own, cv2.MORPH_OPEN, np.ones((reach, 1), np.uint8))
        straight = cv2.dilate(lying | upright, np.ones((3, 3), np.uint8)) & own
        if straight.sum() < 0.5 * own.sum():
            continue
        rest = own - straight
        _, bits, sizes, _ = cv2.connectedComponentsWithStats(rest, connectivity=8)
        crumbs = np.flatnonzero(np.maximum(sizes[:, 2], sizes[:, 3]) < 0.4 * tallest)
        crumb = np.zeros(len(sizes), bool)
        crumb[crumbs] = True
        rest[crumb[bits]] = 0
        cleaned = cleaned.copy() if cleaned is mask else cleaned
        cleaned[part][own > 0] = rest[own > 0]
    return cleaned
