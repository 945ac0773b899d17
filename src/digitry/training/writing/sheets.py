"""A page while it is written and printed on: what stands where, and how it lies."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from digitry.reading.find import CELL
from digitry.training.writing.hands import Ink
from digitry.training.writing.texts import drawn

SIDE = 256
"""Height and width of a training page, pixels."""

SHIFT = 4
UNIT = 1 << SHIFT

Bytes = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Writing cut to its ink, and where in it numbers and other writing stand, in its pixels."""

    ink: Ink
    numbers: tuple[Box, ...]
    others: tuple[Box, ...]
    walls: tuple[float, ...] = ()
    """Columns between its characters, where a comb or boxes have their walls."""


@dataclass(eq=False)
class Sheet:
    """A page while it is written. Everything is placed on level paper, which is then turned."""

    turn: npt.NDArray[np.float64]
    """(2, 3): level paper -> page."""
    writing: Bytes = field(default_factory=lambda: np.zeros((SIDE, SIDE), np.uint8))
    print: Bytes = field(default_factory=lambda: np.zeros((SIDE, SIDE), np.uint8))
    core: Bytes = field(default_factory=lambda: np.zeros((SIDE // CELL, SIDE // CELL), np.uint8))
    other: Bytes = field(default_factory=lambda: np.zeros((SIDE // CELL, SIDE // CELL), np.uint8))
    tall: npt.NDArray[np.float32] = field(
        default_factory=lambda: np.zeros((SIDE // CELL, SIDE // CELL), np.float32)
    )
    taken: list[Box] = field(default_factory=list)

    def at(self, points: Sequence[tuple[float, float]]) -> npt.NDArray[np.float64]:
        """Return points of the level paper on the page, (n, 2)."""
        return np.asarray(points, float) @ self.turn[:, :2].T + self.turn[:, 2]

    def put(self, piece: Piece, x: float, y: float, scale: float, dark: float) -> None:
        """Write a piece with its left upper corner at a place of the level paper."""
        ink = piece.ink
        if scale < 0.75:
            size = (max(1, round(ink.shape[1] * scale)), max(1, round(ink.shape[0] * scale)))
            ink = cv2.resize(ink, size, interpolation=cv2.INTER_AREA)
        across, down = piece.ink.shape[1] * scale, piece.ink.shape[0] * scale
        inner = np.array([[across / ink.shape[1], 0, x], [0, down / ink.shape[0], y], [0, 0, 1.0]])
        matrix = self.turn @ inner
        shown = cv2.warpAffine(ink, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
        np.maximum(self.writing, cv2.convertScaleAbs(shown, alpha=dark), out=self.writing)
        for box in piece.numbers:
            self.mark(self.core, _scaled(box, x, y, scale), 1, wider=0.12)
            height = (box[3] - box[1]) * scale
            self.mark(self.tall, _scaled(box, x, y, scale), height, wider=0.12)
        for box in piece.others:
            self.mark(self.other, _scaled(box, x, y, scale), 1)

    def mark(
        self, where: npt.NDArray[np.generic], box: Box, value: float, wider: float = 0.0
    ) -> None:
        """Mark the cells of the middle half of the height of a box."""
        left, top, right, bottom = box
        tall = bottom - top
        top, bottom = top + tall / 4, bottom - tall / 4
        left, right = left - wider * tall, right + wider * tall
        corners = self.at([(left, top), (right, top), (right, bottom), (left, bottom)])
        # The centre of a cell is a whole number there.
        cells = np.round((corners / CELL - 0.5) * UNIT).astype(np.int32).reshape(-1, 1, 2)
        cv2.fillPoly(where, [cells], float(value), cv2.LINE_8, SHIFT)

    def line(self, *points: tuple[float, float], thick: float = 1.0, dark: float = 0.5) -> None:
        """Draw a printed line through points of the level paper."""
        path = np.round(self.at(points) * UNIT).astype(np.int32).reshape(-1, 1, 2)
        layer = self.print if thick <= 1.2 else self.writing
        colour = int(255 * dark * min(1.0, thick))
        cv2.polylines(layer, [path], False, colour, max(1, round(thick)), cv2.LINE_AA, SHIFT)

    def free(self, box: Box, margin: float) -> bool:
        """Return whether nothing stands in a place yet."""
        left, top, right, bottom = box
        return all(
            right + margin < x0
            or x1 + margin < left
            or bottom + margin / 2 < y0
            or y1 + margin / 2 < top
            for x0, y0, x1, y1 in self.taken
        )


def _scaled(box: Box, x: float, y: float, scale: float) -> Box:
    left, top, right, bottom = box
    return x + left * scale, y + top * scale, x + right * scale, y + bottom * scale


def lead(tall: float, rng: np.random.Generator) -> tuple[float, float]:
    """Return how thick and how dark a printed line is."""
    thick = float(rng.choice((0.5, 0.8, 1.0, 1.5, 2.0, 3.0), p=(0.15, 0.2, 0.3, 0.15, 0.15, 0.05)))
    return min(thick, 0.12 * tall), float(rng.uniform(0.25, 1.0))


def around(sheet: Sheet, piece: Piece, box: Box, scale: float, rng: np.random.Generator) -> None:
    """Draw what a number is written into: a line, a box, a comb, boxes for each digit."""
    left, top, right, bottom = box
    tall = bottom - top
    thick, dark = lead(tall, rng)
    gap = rng.uniform(0.06, 0.4) * tall
    kind = drawn((0.3, 0.35, 0.15, 0.2), rng)
    low = bottom + (rng.uniform(-0.1, 0.15) * tall if kind in (0, 2) else gap)
    out = rng.uniform(0.1, 1.0) * tall
    if kind == 0:
        sheet.line((left - out, low), (right + out, low), thick=thick, dark=dark)
        return
    if kind == 1 or not piece.walls:
        high, x0, x1 = top - gap, left - out, right + out
        path = [(x0, high), (x1, high), (x1, low), (x0, low), (x0, high)]
        sheet.line(*path, thick=thick, dark=dark)
        return
    edge = rng.uniform(0.1, 0.3) * tall
    walls = [left - edge, *(left + wall * scale for wall in piece.walls), right + edge]
    high = top - gap if kind == 3 else low - rng.uniform(0.25, 0.6) * tall
    for x in walls:
        sheet.line((x, high), (x, low), thick=thick, dark=dark)
    for y in (high, low) if kind == 3 else (low,):
        sheet.line((walls[0], y), (walls[-1], y), thick=thick, dark=dark)


def ruled(sheet: Sheet, tall: float, rng: np.random.Generator) -> None:
    """Print the lines of ruled paper."""
    thick, dark = lead(tall, rng)
    pitch = tall * rng.uniform(1.0, 2.5)
    for y in np.arange(-60 + rng.uniform(0, pitch), SIDE + 60, pitch):
        sheet.line((-80, float(y)), (SIDE + 80, float(y)), thick=min(thick, 1.5), dark=dark)
    if rng.random() < 0.3:
        x = float(rng.uniform(0, SIDE))
        sheet.line((x, -80), (x, SIDE + 80), thick=thick, dark=dark)


def squared(sheet: Sheet, tall: float, rng: np.random.Generator) -> None:
    """Print squared paper."""
    _, dark = lead(tall, rng)
    pitch = max(4.0, tall * rng.uniform(0.35, 1.4))
    for at in np.arange(-60 + rng.uniform(0, pitch), SIDE + 60, pitch):
        sheet.line((-80, float(at)), (SIDE + 80, float(at)), thick=1, dark=0.8 * dark)
        sheet.line((float(at), -80), (float(at), SIDE + 80), thick=1, dark=0.8 * dark)


def other_strokes(sheet: Sheet, tall: float, rng: np.random.Generator) -> None:
    """Draw rings, long strokes, waves and scribbles."""
    for _ in range(rng.integers(1, 4)):
        dark = float(rng.uniform(0.2, 0.9))
        kind = int(rng.integers(4))
        x, y = rng.uniform(0, SIDE, 2)
        if kind == 0:
            t = np.linspace(0, 2 * np.pi, 40)
            a, b = rng.uniform(15, 90, 2)
            path = np.stack([x + a * np.cos(t), y + b * np.sin(t)], 1)
        elif kind == 1:
            path = np.array([(x, y), rng.uniform(-40, SIDE + 40, 2)])
        elif kind == 2:
            xs = np.arange(-20, SIDE + 20, 3.0)
            period, swing = rng.uniform(10, 60), rng.uniform(2, 10)
            path = np.stack([xs, y + swing * np.sin(xs * 2 * np.pi / period)], 1)
        else:
            path = np.array([(x, y)]) + np.cumsum(rng.normal(0, 0.5 * tall, (12, 2)), axis=0)
        sheet.line(*map(tuple, path.tolist()), thick=float(rng.uniform(0.6, 3)), dark=dark)
