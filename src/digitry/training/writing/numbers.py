"""Numbers and words for a page, with where in their ink the digits stand."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np

from digitry.reading.classes import DIGITS, OTHER
from digitry.training.writing.hands import Hands, Ink
from digitry.training.writing.real import Real, set_in
from digitry.training.writing.sheets import Box, Piece
from digitry.training.writing.strings import Style, style, write
from digitry.training.writing.strips import Sources
from digitry.training.writing.texts import LETTER, WORD, drawn, text

APART = 1.5
"""Numbers are two where a gap is wider than this, in heights of a digit."""

SCAN = 64
"""Rows of the crops of scanned registers."""


def number(
    sources: Sources, rng: np.random.Generator, said: str | None = None, how: Style | None = None
) -> Piece:
    """Return a number by one hand."""
    if said is None and rng.random() < 0.12:
        real = _real_number(sources, rng)
        if real is not None:
            return real
    hands = sources.hands[drawn(sources.shares, rng)]
    said = text(rng) if said is None else said
    return _written(said, hands, sources, how or tall_style(rng), rng)


def tall_style(rng: np.random.Generator) -> Style:
    """Return how a number is written: large, since pages scale it down."""
    return replace(style(rng), height=float(rng.uniform(20, 28)), slope=float(rng.normal(0, 0.01)))


def _written(
    said: str, hands: Hands, sources: Sources, how: Style, rng: np.random.Generator
) -> Piece:
    written = write(said, hands, sources.others, how, rng)
    spans = written.spans
    said = said.replace(" ", "")
    numbers: list[Box] = []
    others: list[Box] = []
    run: list[tuple[int, int, str]] = []
    for char, (left, right) in zip(said, spans, strict=False):
        if char in (LETTER, WORD):
            others.append(rows_of(written.ink, left, right))
            numbers += _run(written.ink, run)
            run = []
            continue
        if run and left - run[-1][1] > APART * how.height:
            numbers += _run(written.ink, run)
            run = []
        run.append((left, right, char))
    numbers += _run(written.ink, run)
    walls = [(a[1] + b[0]) / 2 for a, b in pairwise(spans)]
    return cut(written.ink, numbers, others, walls)


def _run(ink: Ink, run: Sequence[tuple[int, int, str]]) -> list[Box]:
    """Return the box of a run of digits and marks; marks alone are none."""
    rows = [rows_of(ink, left, right) for left, right, char in run if char in DIGITS]
    if not rows:
        return []
    top = float(np.median([row[1] for row in rows]))
    bottom = float(np.median([row[3] for row in rows]))
    return [(run[0][0], top, run[-1][1], max(bottom, top + 4))]


def rows_of(ink: Ink, left: int, right: int) -> Box:
    """Return the box of the ink between two columns."""
    rows = np.flatnonzero((ink[:, left:right] > 60).any(axis=1))
    if not len(rows):
        return left, 8, right, 24
    return left, int(rows[0]), right, int(rows[-1]) + 1


def cut(
    ink: Ink, numbers: Sequence[Box], others: Sequence[Box], walls: Sequence[float] = ()
) -> Piece:
    """Return ink cut to its extent, with the places in it moved along."""
    columns = np.flatnonzero(ink.any(axis=0))
    rows = np.flatnonzero(ink.any(axis=1))
    if not len(columns):
        return Piece(ink[:4, :4], (), ())
    x, y = int(columns[0]), int(rows[0])

    def moved(boxes: Sequence[Box]) -> tuple[Box, ...]:
        return tuple((a - x, b - y, c - x, d - y) for a, b, c, d in boxes)

    cut = np.ascontiguousarray(ink[y : rows[-1] + 1, x : columns[-1] + 1])
    return Piece(cut, moved(numbers), moved(others), tuple(wall - x for wall in walls))


def _real_number(sources: Sources, rng: np.random.Generator) -> Piece | None:
    """Return a real string that was written with a pen on a tablet: its ink is all there is."""
    for _ in range(4 if sources.real else 0):
        real = sources.real[int(rng.integers(len(sources.real)))]
        if real.ink.shape[0] == 64 or not real.labels or OTHER in real.labels:
            continue
        ink = set_in(real, float(rng.uniform(18, 24)))
        columns = np.flatnonzero((ink > 60).any(axis=0))
        if not len(columns):
            continue
        box = rows_of(ink, int(columns[0]), int(columns[-1]) + 1)
        return cut(ink, [box], [])
    return None


def words(sources: Sources, rng: np.random.Generator) -> Piece:
    """Return other writing: a word, letters, or printed letters."""
    kind = drawn((0.45, 0.3, 0.25), rng)
    if kind == 0 and len(sources.text):
        real: Real = sources.text[int(rng.integers(len(sources.text)))]
        ink = set_in(real, float(rng.uniform(14, 24)))[:, :300]
    elif kind == 1:
        said = LETTER * int(rng.integers(1, 9))
        ink = write(said, sources.hands[0], sources.others, tall_style(rng), rng).ink
    else:
        return _printed(rng)
    columns = np.flatnonzero((ink > 60).any(axis=0))
    if not len(columns):
        return _printed(rng)
    return cut(ink, [], [rows_of(ink, int(columns[0]), int(columns[-1]) + 1)])


LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
FACES = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_PLAIN,
)


def _printed(rng: np.random.Generator) -> Piece:
    """Return a word in plain printed letters."""
    word = "".join(LETTERS[i] for i in rng.integers(len(LETTERS), size=rng.integers(2, 10)))
    word = word if rng.random() < 0.5 else word.capitalize()
    face, thick = FACES[int(rng.integers(len(FACES)))], int(rng.integers(1, 4))
    (width, height), below = cv2.getTextSize(word, face, 1.2, thick)
    ink = np.zeros((height + below + 8, width + 8), np.uint8)
    cv2.putText(ink, word, (4, height + 4), face, 1.2, 255, thick, cv2.LINE_AA)
    scale = 24 / ink.shape[0]
    small = cv2.resize(ink, (max(4, round(ink.shape[1] * scale)), 24), interpolation=cv2.INTER_AREA)
    return cut(small, [], [rows_of(small, 0, small.shape[1])])


def digit_height(piece: Piece) -> float:
    """Return how high the digits of a piece are, in its pixels; of other writing, how high it is."""
    heights: list[float] = [box[3] - box[1] for box in piece.numbers or piece.others]
    return max(heights) if heights else float(piece.ink.shape[0])


def scale_for(piece: Piece, tall: float, rng: np.random.Generator) -> float:
    """Return the scale at which the digits of a piece are about `tall` pixels high."""
    scale = tall / max(digit_height(piece), 6.0) * float(np.exp(rng.normal(0, 0.08)))
    return min(scale, 48 / float(piece.ink.shape[0]) * 1.6)


def writing_in(real: Real) -> Box | None:
    """Return where the writing of a crop stands, its borders left aside."""
    mask = (real.ink > 100).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    tall = real.bottom - real.top
    columns = []
    for x, y, w, h, area in stats[1:].tolist():
        border = h > 0.9 * SCAN or (y == 0 and y + h >= SCAN - 1)
        level = min(y + h, real.bottom) - max(y, real.top)
        if not border and area >= 8 and level > 0.4 * tall:
            columns += [x, x + w]
    if not columns:
        return None
    return min(columns), real.top, max(columns), real.bottom
