"""Figures that are no writing: silhouettes, outlines with something in them, zigzags, mirrored strokes.

People photograph and draw more than digits. None of these is a plain ring or hook, and who shows them
leaves out what is as narrow as a stroke: those are digits to everybody.
"""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from digitry.training.writing.texts import drawn

Floats = npt.NDArray[np.float32]

SIDE = 160
"""Figures are drawn this large, and made smaller."""


def figure(height: float, rng: np.random.Generator) -> Floats:
    """Return a figure as crisp ink, (h, w) float32 in [0, 1], about as high as asked for."""
    made = _KINDS[drawn(_SHARES, rng)](rng)
    angle = rng.normal(0, 8) if rng.random() < 0.8 else rng.uniform(0, 360)
    turn = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), angle, 0.7)
    ink = np.asarray(cv2.warpAffine(made, turn, (SIDE, SIDE)), np.float32)
    rows, columns = (np.flatnonzero(ink.max(axis=axis) > 0.3) for axis in (1, 0))
    if len(rows) < 2 or len(columns) < 2:
        return figure(height, rng)
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = height / ink.shape[0]
    size = (max(3, round(ink.shape[1] * scale)), max(3, round(height)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = np.asarray(cv2.resize(ink, size, interpolation=how), np.float32)
    return np.clip(resized, 0, 1)


def _empty() -> Floats:
    return np.zeros((SIDE, SIDE), np.float32)


def _points(places: npt.NDArray[np.floating]) -> list[npt.NDArray[np.int32]]:
    return [np.rint(places * SIDE).astype(np.int32)]


def _pen(rng: np.random.Generator) -> int:
    return int(np.exp(rng.uniform(np.log(4), np.log(18))))


def _body(rng: np.random.Generator) -> Floats:
    """Return a silhouette that is the same on its left and right: a leaf, a lamp, a fork, a drop."""
    count = int(rng.integers(3, 8))
    heights = np.sort(rng.uniform(0.06, 0.94, count))
    heights[0], heights[-1] = 0.06, 0.94
    widths = rng.choice((0.03, 0.1, 0.2, 0.3, 0.42), count) * rng.uniform(0.7, 1.1, count)
    fine = np.linspace(heights[0], heights[-1], 40)
    smooth = rng.random() < 0.5
    if smooth:
        half = np.interp(fine, heights, widths)
        half = np.convolve(np.pad(half, 3, mode="edge"), np.ones(7) / 7, mode="valid")
    else:
        half = widths[np.searchsorted(heights, fine, side="right").clip(1, count) - 1]
    half *= 0.5 + 0.5 * rng.random()
    rim = np.concatenate((np.stack((0.5 - half, fine), 1), np.stack((0.5 + half, fine), 1)[::-1]))
    ink = _empty()
    if rng.random() < 0.7:
        cv2.fillPoly(ink, _points(rim), 1.0, cv2.LINE_AA)
    else:
        cv2.polylines(ink, _points(rim), True, 1.0, _pen(rng), cv2.LINE_AA)
        y = float(rng.uniform(0.3, 0.7))
        cv2.polylines(ink, _points(np.array([(0.2, y), (0.8, y)])), False, 1.0, _pen(rng))
    return ink


def _blocks(rng: np.random.Generator) -> Floats:
    """Return a few filled rectangles, discs and polygons that overlap; some are cut out again."""
    ink = _empty()
    for index in range(int(rng.integers(1, 7))):
        colour = 0.0 if index and rng.random() < 0.25 else 1.0
        x, y = rng.uniform(0.25, 0.75, 2)
        w, h = rng.uniform(0.08, 0.32, 2)
        kind = int(rng.integers(3))
        if kind == 0:
            corners = np.array([(x - w, y - h), (x + w, y - h), (x + w, y + h), (x - w, y + h)])
            cv2.fillPoly(ink, _points(corners), colour, cv2.LINE_AA)
        elif kind == 1:
            middle, axes = (round(x * SIDE), round(y * SIDE)), (round(w * SIDE), round(h * SIDE))
            cv2.ellipse(ink, middle, axes, 0, 0, 360, colour, -1, cv2.LINE_AA)
        else:
            turns = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
            rim = np.stack((np.cos(turns), np.sin(turns)), 1) * rng.uniform(0.1, 0.45)
            cv2.fillPoly(ink, _points(rim + np.array((x, y))), colour, cv2.LINE_AA)
    return ink


def _steps(rng: np.random.Generator) -> Floats:
    """Return stairs, filled or as a line."""
    count = int(rng.integers(3, 9))
    x, y = (np.linspace(low, high, count + 1) for low, high in ((0.08, 0.92), (0.9, 0.1)))
    line = [(x[0], y[0])]
    for step in range(count):
        line += [(x[step], y[step + 1]), (x[step + 1], y[step + 1])]
    rim = np.array(line)
    if rng.random() < 0.5:
        rim[:, 0] = 1 - rim[:, 0]
    ink = _empty()
    if rng.random() < 0.6:
        rim = np.concatenate((rim, [(rim[-1, 0], 0.92), (rim[0, 0], 0.92)]))
        cv2.fillPoly(ink, _points(rim), 1.0, cv2.LINE_AA)
    else:
        cv2.polylines(ink, _points(rim), False, 1.0, _pen(rng), cv2.LINE_AA)
    return ink


def _framed(rng: np.random.Generator) -> Floats:
    """Return a closed outline with strokes and dots in it: a clock, a window, a face."""
    ink = _empty()
    pen = _pen(rng)
    corners = int(rng.choice((3, 4, 5, 6, 60)))
    turns = np.arange(corners) * 2 * np.pi / corners + rng.uniform(0, 2 * np.pi)
    size = rng.uniform(0.25, 0.45, 2)
    rim = 0.5 + np.stack((np.cos(turns), np.sin(turns)), 1) * size
    cv2.polylines(ink, _points(rim), True, 1.0, pen, cv2.LINE_AA)
    for _ in range(int(rng.integers(2, 6))):
        inner = 0.5 + rng.uniform(-0.75, 0.75, (2, 2)) * size / np.sqrt(2)
        kind = int(rng.integers(3))
        if kind == 0:
            cv2.circle(ink, _points(inner)[0][0].tolist(), max(2, pen), 1.0, -1, cv2.LINE_AA)
        elif kind == 1:
            inner[0] = (0.5, 0.5)
            cv2.polylines(ink, _points(inner), False, 1.0, max(2, pen * 2 // 3), cv2.LINE_AA)
        else:
            # A spoke goes to the rim.
            ends = np.array([(0.5, 0.5), rim[int(rng.integers(corners))]])
            cv2.polylines(ink, _points(ends), False, 1.0, max(2, pen * 2 // 3), cv2.LINE_AA)
    return ink


def _repeated(rng: np.random.Generator) -> Floats:
    """Return a zigzag, a wave, loops in a row or a spiral, with more turns than a digit has."""
    turns = int(rng.integers(3, 8))
    fine = np.linspace(0, 1, 40 * turns)
    phase = 2 * np.pi * turns * fine
    kind = int(rng.integers(4))
    if kind == 0:
        across = np.abs((fine * turns) % 1 * 2 - 1)
    elif kind == 1:
        across = 0.5 + 0.5 * np.sin(phase)
    else:
        across = 0.5 + 0.5 * np.cos(phase)
    along = fine + (0.6 / turns * np.sin(phase) if kind == 2 else 0)
    if kind == 3:
        radius = 0.05 + 0.95 * fine
        across, along = 0.5 + 0.5 * radius * np.cos(phase), 0.5 + 0.5 * radius * np.sin(phase)
    line = np.stack((across * rng.uniform(0.25, 1.0), along), 1)
    if rng.random() < 0.5:
        line = line[:, ::-1]
    low, high = line.min(axis=0), line.max(axis=0)
    line = 0.5 + (line - (low + high) / 2) / max((high - low).max(), 1e-6) * 0.84
    ink = _empty()
    cv2.polylines(ink, _points(line), False, 1.0, min(_pen(rng), 70 // turns), cv2.LINE_AA)
    return ink


def _mirrored(rng: np.random.Generator) -> Floats:
    """Return an upright stroke and others that are the same on its left and right: a tree, an anchor."""
    ink = _empty()
    pen = _pen(rng)
    ends = np.array([(0.5, rng.uniform(0.05, 0.3)), (0.5, rng.uniform(0.7, 0.95))])
    cv2.polylines(ink, _points(ends), False, 1.0, pen, cv2.LINE_AA)
    for _ in range(int(rng.integers(1, 4))):
        start = np.array((0.0, rng.uniform(0.05, 0.95)))
        end = np.array((rng.uniform(0.2, 0.45), rng.uniform(0.05, 0.95)))
        bend = (start + end) / 2 + rng.normal(0, 0.12, 2)
        fine = np.linspace(0, 1, 20)[:, None]
        arc = (1 - fine) ** 2 * start + 2 * fine * (1 - fine) * bend + fine**2 * end
        for side in (-1, 1):
            half = np.stack((0.5 + side * arc[:, 0], arc[:, 1]), 1)
            cv2.polylines(ink, _points(half), False, 1.0, pen, cv2.LINE_AA)
    if rng.random() < 0.25:
        cv2.circle(ink, _points(ends)[0][0].tolist(), round(SIDE * 0.1), 1.0, pen, cv2.LINE_AA)
    return ink


_KINDS: tuple[Callable[[np.random.Generator], Floats], ...] = (
    _body, _blocks, _steps, _framed, _repeated, _mirrored,
)  # fmt: skip
_SHARES = (0.23, 0.22, 0.07, 0.18, 0.15, 0.15)
