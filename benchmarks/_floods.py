"""Pictures of so much connected ink that reading them digit by digit would not end; drawn anew each time.

Each is a small file whose ink hangs together over the whole page, or comes in thousands of pieces:
what a table, a sketch or a stranger can send. None holds writing.
"""

import io
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

Gray = npt.NDArray[np.uint8]

PAPER, INK = 235, 30


def _paper(width: int, height: int) -> Gray:
    return np.full((height, width), PAPER, np.uint8)


def diagonal_grid() -> Gray:
    """Lines at 45 degrees both ways."""
    page = _paper(2000, 1500)
    for start in range(-1500, 3500, 60):
        cv2.line(page, (start, 0), (start + 1500, 1500), INK, 3)
        cv2.line(page, (start, 1500), (start + 1500, 0), INK, 3)
    return page


def maze() -> Gray:
    """A wall or a gap at each place of a lattice, by chance."""
    page, cell = _paper(1800, 1800), 20
    chance = np.random.default_rng(0)
    for y in range(0, 1800, cell):
        for x in range(0, 1800, cell):
            end = (x + cell, y) if chance.integers(2) else (x, y + cell)
            cv2.line(page, (x, y), end, INK, 3)
    return page


def circles() -> Gray:
    """600 circles, most of which touch others."""
    page = _paper(2000, 1500)
    chance = np.random.default_rng(1)
    for _ in range(600):
        x, y, radius = (int(chance.integers(low, high)) for low, high in CIRCLES)
        cv2.circle(page, (x, y), radius, INK, 2)
    return page


CIRCLES = ((0, 2000), (0, 1500), (10, 90))


def strokes() -> Gray:
    """400 straight strokes at any angle."""
    page = _paper(2000, 1500)
    chance = np.random.default_rng(2)
    for _ in range(400):
        begin, end = (tuple(map(int, chance.integers(0, (2000, 1500)))) for _ in range(2))
        cv2.line(page, begin, end, INK, 2)
    return page


def comb() -> Gray:
    """800 teeth on one bar, slanted: one piece of ink as wide as the page."""
    page = _paper(2400, 1300)
    cv2.line(page, (20, 640), (2380, 700), INK, 4)
    for x in range(20, 2380, 3 * 6):
        cv2.line(page, (x, 100), (x + 60, 1200), INK, 3)
    return page


def large_grid() -> Gray:
    """A slanted grid of twelve megapixels."""
    page = _paper(4000, 3000)
    for start in range(-3000, 7000, 90):
        cv2.line(page, (start, 0), (start + 600, 3000), INK, 4)
        cv2.line(page, (0, start), (4000, start + 700), INK, 4)
    return page


def upright_grid() -> Gray:
    """A table of many rows and columns, with a dot in each cell."""
    page = _paper(2000, 1500)
    page[::25] = page[:, ::25] = page[1::25] = page[:, 1::25] = INK
    page[12::25, 12::25] = INK
    return page


def rings() -> Gray:
    """Frames within frames: each holds all the smaller ones."""
    page = _paper(1800, 1800)
    for rim in range(5, 890, 6):
        cv2.rectangle(page, (rim, rim), (1799 - rim, 1799 - rim), INK, 2)
    return page


def dashes() -> Gray:
    """Ninety thousand dashes in rows."""
    page = _paper(2000, 1500)
    page[::5] = INK
    page[:, ::8] = PAPER
    return page


def long_dashes() -> Gray:
    """Rows of dashes across the whole page, close to each other."""
    page = _paper(2000, 1500)
    page[::4] = INK
    page[:, ::64] = PAPER
    return page


def frames() -> Gray:
    """2,401 cells side by side, each of them a frame around a mark of its own."""
    page = _paper(1800, 1800)
    for y in range(4, 1760, 36):
        for x in range(4, 1760, 36):
            cv2.rectangle(page, (x, y), (x + 32, y + 32), INK, 1)
            cv2.line(page, (x + 10, y + 10), (x + 20, y + 22), INK, 2)
    return page


def hatching() -> Gray:
    """Short strokes beside each other in rows, each of them perhaps a digit."""
    page = _paper(2000, 1500)
    for y in range(10, 1480, 30):
        for x in range(10, 1980, 20):
            cv2.line(page, (x, y + 20), (x + 9, y), INK, 2)
    return page


def zigzags() -> Gray:
    """A hundred lines that zigzag across the page: long pieces of ink."""
    page = _paper(2000, 1500)
    for y in range(5, 1480, 15):
        ends = [(x, y + 10 * (x // 12 % 2)) for x in range(5, 1995, 12)]
        cv2.polylines(page, [np.array(ends, np.int32)], False, INK, 2)
    return page


FLOODS: dict[str, Callable[[], Gray]] = {
    "diagonal grid": diagonal_grid,
    "maze": maze,
    "600 circles": circles,
    "400 strokes": strokes,
    "joined comb": comb,
    "grid of 12 megapixels": large_grid,
    "upright grid": upright_grid,
    "frames within frames": rings,
    "dashes": dashes,
    "long dashes": long_dashes,
    "2,401 cells": frames,
    "hatching": hatching,
    "zigzags": zigzags,
}


def flood(name: str) -> bytes:
    """Return one of them as the bytes of a PNG."""
    stream = io.BytesIO()
    Image.fromarray(FLOODS[name]()).save(stream, "PNG")
    return stream.getvalue()
