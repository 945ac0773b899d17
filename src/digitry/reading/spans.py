"""Which columns of a strip each character takes: where the network saw it, and where its ink is.

The network tells in which columns it saw a character, a column or two in its middle. Ink that hangs
together and holds the middle of one character is that character's; ink that holds several is cut
between them, where there is the least of it.
"""

from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

Ink = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Span = tuple[int, int]
"""The first column of a character and the first after it, in pixels of the strip."""

LINE = 1.5
"""Ink that runs level for so many heights of the writing is a ruling, not a digit's stroke."""

REACH = 0.3
"""How far from where it was seen, in heights of the writing, ink of its own may begin."""

CLAIM = 0.4
"""A piece with this part of the ink in the columns where a character was seen is that character."""

LEVEL = 0.35
"""Ink is what has this part of the strip's darkest ink."""


def spans(ink: Ink, seen: npt.NDArray[np.float64], height: float) -> list[Span]:
    """Return the columns of each character.

    Args:
        ink: (h, W) float32 in [0, 1], ink = 1.
        seen: (n, 2), the first and last column in which the network saw each, in pixels, from left
            to right.
        height: of the writing, in pixels.
    """
    count, width = len(seen), ink.shape[1]
    if not count:
        return []
    mask = _writing(ink, height)
    cuts = _cuts(mask, seen)
    owned = _owned(mask, seen, cuts, height)
    found = []
    for (first, last), (left, right), columns in zip(seen, cuts, owned, strict=True):
        if columns is None:
            # Too faint to be told from the paper: about as wide as digits are.
            middle, half = (first + last + 1) / 2, 0.3 * height
            columns = (
                max(left, min(int(first), round(middle - half))),
                min(right, max(int(last) + 1, round(middle + half))),
            )
        start = min(max(columns[0], 0), width - 1)
        found.append((start, min(max(columns[1], start + 1), width)))
    return found


def _writing(ink: Ink, height: float) -> Mask:
    """Return where there is ink that is no ruling, border or noise."""
    dark = float(np.percentile(ink, 99.0)) if ink.size else 0.0
    mask = (ink > max(LEVEL * dark, 0.1)).astype(np.uint8)
    for size in ((round(LINE * height), 1), (1, ink.shape[0] - 2)):
        lines = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones(size[::-1], np.uint8))
        mask &= 1 - lines
    return mask.astype(bool)


def _cuts(mask: Mask, seen: npt.NDArray[np.float64]) -> list[Span]:
    """Return the columns between the cuts on both sides of each character."""
    profile = mask.sum(axis=0).astype(np.float64)
    borders = [0]
    for (_, left), (right, _) in pairwise(seen):
        low, high = int(np.floor(left)) + 1, max(int(np.ceil(right)), int(np.floor(left)) + 2)
        columns = np.arange(low, high)
        between = profile[low:high]
        if not len(between):
            borders.append(low)
            continue
        away = np.abs(columns - (low + high - 1) / 2) / max(len(between), 1)
        cost = between + 4.0 * away**2
        borders.append(int(columns[np.argmin(cost)]))
    borders.append(mask.shape[1])
    return [(borders[i], borders[i + 1]) for i in range(len(seen))]


def _owned(
    mask: Mask, seen: npt.NDArray[np.float64], cuts: list[Span], height: float
) -> list[Span | None]:
    """Return the first and the past-the-last column of the ink of each character."""
    count, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    width = mask.shape[1]
    where = parts * width + np.arange(width)
    inked = np.bincount(where.ravel(), minlength=count * width).reshape(count, width)[1:]
    claims = _claims(inked, seen)
    lefts = [cut[0] for cut in cuts[1:]]
    reach = REACH * height
    found: list[list[Span]] = [[] for _ in cuts]
    for part, claimed in zip(inked, claims, strict=True):
        columns = np.flatnonzero(part)
        whole = int(columns[0]), int(columns[-1]) + 1
        owners = np.flatnonzero(claimed)
        if len(owners) == 1:
            found[owners[0]].append(whole)
        for i in owners if len(owners) > 1 else ():
            held = columns[(columns >= cuts[i][0]) & (columns < cuts[i][1])]
            if len(held):
                found[i].append((int(held[0]), int(held[-1]) + 1))
        if not len(owners):
            # A loose piece is part of the character in whose columns most of it lies, if it is near.
            middle = float((part * np.arange(width)).sum() / part.sum())
            i = int(np.searchsorted(lefts, middle, side="right"))
            if whole[0] <= seen[i, 1] + reach and whole[1] >= seen[i, 0] - reach:
                found[i].append(whole)
    return [
        (min(s for s, _ in spans), max(e for _, e in spans)) if spans else None for spans in found
    ]


def _claims(inked: npt.NDArray[np.intp], seen: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which pieces of ink are what the network saw: (pieces, n)."""
    before = np.concatenate([np.zeros((len(inked), 1)), np.cumsum(inked, axis=1)], axis=1)
    width = inked.shape[1]
    first = np.clip(np.floor(seen[:, 0]).astype(int) - 1, 0, width)
    past = np.clip(np.ceil(seen[:, 1]).astype(int) + 2, 0, width)
    held = before[:, past] - before[:, first]
    return (held > 0) & (held >= CLAIM * held.sum(axis=0))
