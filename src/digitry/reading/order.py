"""Places to rows in reading order: from top to bottom, and from left to right in each."""

from collections.abc import Sequence

import numpy as np

from digitry.reading.find import Place

SHARED = 0.4
"""Numbers stand in one row if their middles are nearer than this part of the height of the lower one."""

APART = 4.0
"""Where a field is one number, its parts may be so far apart, in heights of a digit."""


def rows(places: Sequence[Place]) -> list[list[int]]:
    """Return the indices of places by row.

    The slope of a page is that of its longer numbers; rows are sought on the page turned level.
    """
    if not places:
        return []
    slope = page_slope(places)
    middles = np.array([place.middle for place in places])
    across = middles[:, 0] * np.cos(slope) + middles[:, 1] * np.sin(slope)
    down = middles[:, 1] * np.cos(slope) - middles[:, 0] * np.sin(slope)
    found: list[list[int]] = []
    for index in np.argsort(down, kind="stable").tolist():
        best, nearest = None, np.inf
        # A row is followed from one number to its neighbour: paper bends.
        for row in found[-8:]:
            beside = min(row, key=lambda k: abs(across[k] - across[index]))
            apart = abs(down[beside] - down[index])
            height = min(places[beside].height, places[index].height)
            if (
                apart < SHARED * height
                and apart < nearest
                and not _overlap(places, across, beside, index)
            ):
                best, nearest = row, apart
        if best is None:
            found.append([index])
        else:
            best.append(index)
    for row in found:
        row.sort(key=lambda k: float(across[k]))
    return sorted(found, key=lambda row: float(np.mean(down[row])))


def _overlap(places: Sequence[Place], across: np.ndarray, one: int, other: int) -> bool:
    # Two numbers above each other are no row, however near their middles are.
    shared = (places[one].length + places[other].length) / 2 - abs(across[one] - across[other])
    return bool(shared > 0.5 * min(places[one].height, places[other].height))


def page_slope(places: Sequence[Place]) -> float:
    """Return by what angle the lines of a page slope, radians clockwise."""
    long = [place for place in places if place.length > 2 * place.height]
    if not long:
        return 0.0
    order = sorted(long, key=lambda place: place.slope)
    weights = np.cumsum([place.length for place in order])
    return order[int(np.searchsorted(weights, weights[-1] / 2))].slope


def joined(places: Sequence[Place]) -> list[Place]:
    """Return the places of one row, those made one that may be parts of one number."""
    made: list[Place] = []
    for place in places:
        if made:
            last = made[-1]
            gap = place.start[0] - last.end[0]
            height = max(last.height, place.height)
            if gap < APART * height and height < 1.6 * min(last.height, place.height):
                score = min(last.score, place.score)
                made[-1] = Place(last.start, place.end, height, score)
                continue
        made.append(place)
    return made
