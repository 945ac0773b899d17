"""Pages of writing, and where on them numbers stand: what the finder learns from.

A page is composed from numbers, words, rulings, boxes and tables, photographed or scanned, and shown to the
network as the reader shows it one: as the ink map of `digitry.reading.find`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from digitry.reading.find import CELL, ink_map
from digitry.training.writing.numbers import (
    SCAN,
    number,
    scale_for,
    tall_style,
    words,
    writing_in,
)
from digitry.training.writing.photographs import photographed
from digitry.training.writing.real import Real
from digitry.training.writing.sheets import (
    SIDE,
    Box,
    Bytes,
    Piece,
    Sheet,
    around,
    lead,
    other_strokes,
    ruled,
    squared,
)
from digitry.training.writing.strips import Sources
from digitry.training.writing.texts import digits, drawn

SHARES = (0.19, 0.24, 0.17, 0.12, 0.08, 0.04, 0.16)
"""Of pages with one number, scattered numbers, a table, a form, prose, no writing, a crop of a register."""

REGISTER = len(SHARES) - 1


@dataclass(frozen=True, eq=False)
class PageBatch:
    """Pages with what the finder says of them, by cells of `CELL` pixels.

    Attributes:
        ink: (n, 1, 256, 256) uint8, ink maps.
        core: (n, 64, 64) uint8, 1 in the middle half of the height of a number.
        other: (n, 64, 64) uint8, 1 in the middle half of other writing.
        tall: (n, 64, 64) float16, the height of the digits of the number there, pixels; 0 elsewhere.
    """

    ink: Bytes
    core: Bytes
    other: Bytes
    tall: npt.NDArray[np.float16]

    @property
    def labels(self) -> range:
        """The pages, by number."""
        return range(len(self.ink))


@dataclass(frozen=True, kw_only=True)
class PagePools:
    """What is composed: pool `i` holds the same pages wherever and whenever it is composed."""

    seed: int = 0
    pages: int = 128
    batch: int = 32

    def compose(self, sources: Sources, pool: int) -> list[PageBatch]:
        """Return the batches of one pool."""
        rng = np.random.default_rng([self.seed, pool])
        return [
            stacked([page(sources, rng) for _ in range(self.batch)])
            for _ in range(max(1, self.pages // self.batch))
        ]


def page(
    sources: Sources, rng: np.random.Generator
) -> tuple[Bytes, Bytes, Bytes, npt.NDArray[np.float32]]:
    """Return a page: its ink map (256, 256) uint8, and core, other and tall by cells."""
    kind = drawn(SHARES if sources.real and sources.text else SHARES[:REGISTER], rng)
    angle = rng.uniform(-0.27, 0.27) if rng.random() < 0.2 else rng.normal(0, 0.04)
    if kind == REGISTER:
        angle *= 0.2
    turn = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), np.degrees(angle), 1.0)
    if rng.random() < 0.3:
        turn[0, 1] += rng.normal(0, 0.06)
    sheet = Sheet(np.asarray(turn, float))
    tall = float(np.exp(rng.uniform(np.log(8.5), np.log(42))))
    kinds = (_alone, _scattered, _table, _form, _prose, _bare, _register)
    lined = rng.random() if kind != REGISTER else 1.0
    if lined < 0.12:
        ruled(sheet, tall, rng)
    elif lined < 0.2:
        squared(sheet, tall, rng)
    kinds[kind](sheet, sources, tall, rng)
    if rng.random() < 0.12:
        other_strokes(sheet, tall, rng)
    crop = _crop(sheet, tall, kind, rng)
    left, top, right, bottom = crop
    part = slice(top, bottom), slice(left, right)
    grey = photographed(sheet.writing[part], sheet.print[part], rng)
    ink = np.zeros((SIDE, SIDE), np.uint8)
    ink[top:bottom, left:right] = ink_map(grey)
    seen = np.zeros((SIDE, SIDE), np.uint8)
    seen[top:bottom, left:right] = 1
    inside = seen[CELL // 2 :: CELL, CELL // 2 :: CELL]
    return ink, sheet.core * inside, sheet.other * inside, sheet.tall * inside


def stacked(
    pages: Sequence[tuple[Bytes, Bytes, Bytes, npt.NDArray[np.float32]]],
) -> PageBatch:
    """Return pages as one batch."""
    ink, core, other, tall = zip(*pages, strict=True)
    return PageBatch(
        np.stack(ink)[:, None], np.stack(core), np.stack(other), np.stack(tall).astype(np.float16)
    )


def _placed(
    sheet: Sheet,
    piece: Piece,
    scale: float,
    rng: np.random.Generator,
    margin: float,
    tries: int = 4,
) -> Box | None:
    """Write a piece where there is room; return where, or None."""
    across, down = piece.ink.shape[1] * scale, piece.ink.shape[0] * scale
    for _ in range(tries):
        x = rng.uniform(-0.3 * min(across, 60), SIDE - 0.5 * min(across, 120))
        y = rng.uniform(-0.2 * down, SIDE - 0.8 * down)
        box = (x, y, x + across, y + down)
        if sheet.free(box, margin):
            sheet.put(piece, x, y, scale, rng.uniform(0.75, 1.0))
            sheet.taken.append(box)
            return box
    return None


def _alone(sheet: Sheet, sources: Sources, tall: float, rng: np.random.Generator) -> None:
    """Write one number, mostly a digit, near the middle."""
    tall = float(np.exp(rng.uniform(np.log(12), np.log(44))))
    said = digits(1, rng) if rng.random() < 0.5 else None
    piece = number(sources, rng, said)
    scale = scale_for(piece, tall, rng)
    across, down = piece.ink.shape[1] * scale, piece.ink.shape[0] * scale
    x, y = (SIDE - across) / 2 + rng.normal(0, 30), (SIDE - down) / 2 + rng.normal(0, 30)
    sheet.put(piece, x, y, scale, rng.uniform(0.75, 1.0))
    box = (x, y, x + across, y + down)
    sheet.taken.append(box)
    if rng.random() < 0.35:
        around(sheet, piece, box, scale, rng)


def _scattered(sheet: Sheet, sources: Sources, tall: float, rng: np.random.Generator) -> None:
    """Write numbers and words anywhere."""
    count = int(rng.integers(2, 6 + round(300 / tall)))
    wordy = rng.choice((0.0, 0.15, 0.4))
    short = rng.random() < 0.4
    for _ in range(count):
        own = tall * float(np.exp(rng.normal(0, 0.15 if rng.random() < 0.8 else 0.5)))
        own = float(np.clip(own, 8, 46))
        if rng.random() < wordy:
            piece = words(sources, rng)
        else:
            said = digits(int(rng.integers(1, 3)), rng) if short else None
            piece = number(sources, rng, said)
        scale = scale_for(piece, own, rng)
        box = _placed(sheet, piece, scale, rng, margin=rng.uniform(0.3, 1.2) * own)
        if box and piece.numbers and rng.random() < 0.15:
            around(sheet, piece, box, scale, rng)


def _table(sheet: Sheet, sources: Sources, tall: float, rng: np.random.Generator) -> None:
    """Write numbers into the cells of a table, with or without its lines."""
    tall = min(tall, 34.0)
    row = tall * rng.uniform(1.25, 2.3)
    most = int(rng.integers(1, 5))
    column = tall * (0.75 * most + rng.uniform(0.6, 2.5))
    x0, y0 = rng.uniform(-column, 20), rng.uniform(-row, 20)
    thick, dark = lead(tall, rng)
    across, down = ((True, True), (True, False), (False, True), (False, False))[
        drawn((0.6, 0.14, 0.08, 0.18), rng)
    ]
    first_is_words = rng.random() < 0.3
    columns = int(min(int(rng.integers(1, 14)), (SIDE + 60 - x0) // column + 1))
    rows = int(min(int(rng.integers(1, 20)), (SIDE + 40 - y0) // row + 1))
    filled = rng.uniform(0.4, 1.0)
    for i in range(columns):
        for j in range(rows):
            left, top = x0 + i * column, y0 + j * row
            outside = left + column < -20 or left > SIDE + 20 or top + row < -20 or top > SIDE + 20
            if outside or rng.random() > filled:
                continue
            if (first_is_words and (i == 0 or j == 0)) or rng.random() < 0.03:
                piece = words(sources, rng)
            else:
                said = digits(int(rng.integers(1, most + 1)), rng)
                if rng.random() < 0.1:
                    said += "." + digits(1, rng)
                piece = number(sources, rng, said)
            scale = min(scale_for(piece, tall, rng), 0.96 * column / piece.ink.shape[1])
            wide, high = piece.ink.shape[1] * scale, piece.ink.shape[0] * scale
            x = left + rng.uniform(0.02, 0.98) * max(column - wide, 0)
            y = top + (row - high) / 2 + rng.normal(0, 0.12) * (row - high)
            sheet.put(piece, x, y, scale, rng.uniform(0.75, 1.0))
    right, bottom = x0 + columns * column, y0 + rows * row
    if across:
        for j in range(rows + 1):
            y = y0 + j * row
            sheet.line((x0, y), (right, y), thick=thick, dark=dark)
    if down:
        for i in range(columns + 1):
            x = x0 + i * column
            sheet.line((x, y0), (x, bottom), thick=thick, dark=dark)
    sheet.taken.append((x0, y0, right, bottom))


def _form(sheet: Sheet, sources: Sources, tall: float, rng: np.random.Generator) -> None:
    """Write labels in letters, and beside them numbers in boxes, combs and on lines."""
    tall = min(tall, 32.0)
    y = rng.uniform(-10, 20)
    while y < SIDE:
        x = rng.uniform(-40, 40)
        while x < SIDE:
            if rng.random() < 0.6:
                label = words(sources, rng)
                scale = scale_for(label, tall * rng.uniform(0.5, 1.0), rng)
                sheet.put(label, x, y + 0.3 * tall, scale, rng.uniform(0.5, 1.0))
                x += label.ink.shape[1] * scale + tall * rng.uniform(0.4, 1.5)
            if rng.random() < 0.75:
                how = tall_style(rng)
                if rng.random() < 0.45:
                    how = replace(how, spacing="pitch", gap=float(rng.uniform(0.85, 1.5)))
                piece = number(sources, rng, digits(int(rng.integers(1, 9)), rng), how)
                scale = scale_for(piece, tall, rng)
                box = (x, y, x + piece.ink.shape[1] * scale, y + piece.ink.shape[0] * scale)
                sheet.put(piece, x, y, scale, rng.uniform(0.75, 1.0))
                if rng.random() < 0.75:
                    around(sheet, piece, box, scale, rng)
                x = box[2]
            x += tall * rng.uniform(1.0, 4.0)
        y += tall * rng.uniform(1.8, 4)


def _prose(sheet: Sheet, sources: Sources, tall: float, rng: np.random.Generator) -> None:
    """Write lines of words, and few numbers among them."""
    tall = float(np.clip(tall, 8, 30))
    rare = rng.choice((0.0, 0.06, 0.2))
    y = rng.uniform(-10, 10)
    while y < SIDE:
        x = rng.uniform(-60, 10)
        while x < SIDE:
            piece = number(sources, rng) if rng.random() < rare else words(sources, rng)
            scale = scale_for(piece, tall, rng)
            sheet.put(piece, x, y + rng.normal(0, 0.05) * tall, scale, rng.uniform(0.75, 1.0))
            x += piece.ink.shape[1] * scale + tall * rng.uniform(0.4, 1.6)
        y += tall * rng.uniform(1.5, 2.6)


def _bare(sheet: Sheet, sources: Sources, tall: float, rng: np.random.Generator) -> None:
    """Leave the page without writing: doodles and lines alone."""
    for _ in range(rng.integers(0, 4)):
        if not len(sources.doodles):
            break
        doodle = sources.doodles[int(rng.integers(len(sources.doodles)))]
        piece = Piece(doodle, (), ((0, 0, doodle.shape[1], doodle.shape[0]),))
        _placed(sheet, piece, rng.uniform(20, 120) / doodle.shape[0], rng, margin=4)
    if rng.random() < 0.4:
        other_strokes(sheet, tall, rng)


def _register(sheet: Sheet, sources: Sources, tall: float, rng: np.random.Generator) -> None:
    """Show a crop of a scanned register: a number with its borders, or words."""
    for _ in range(20):
        crops = sources.text if rng.random() < 0.25 else sources.real
        real: Real = crops[int(rng.integers(len(crops)))]
        if real.ink.shape[0] == SCAN:
            break
    else:
        return
    box = writing_in(real)
    boxes = () if box is None else (box,)
    said = bool(real.labels)
    piece = Piece(real.ink, boxes if said else (), () if said else boxes)
    scale = float(np.clip(tall, 9, 40)) / max(real.bottom - real.top, 8)
    scale = min(scale, 1.3 * SIDE / SCAN)
    wide, high = real.ink.shape[1] * scale, SCAN * scale
    x = rng.uniform(0, max(SIDE - wide, 1.0))
    y = rng.uniform(0, max(SIDE - high, 1.0))
    sheet.put(piece, x, y, scale, rng.uniform(0.75, 1.0))
    sheet.taken.append((x, y, x + wide, y + high))


def _crop(
    sheet: Sheet, tall: float, kind: int, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Return the part of the page that the picture shows: left, top, right, bottom in pixels.

    Pictures of one number are often cut close around it; larger ones end anywhere.
    """
    chance = rng.random()
    if kind == REGISTER and sheet.taken and chance < 0.8:
        # The crop as it is; its own edges are those of the picture.
        left, top, right, bottom = sheet.taken[0]
        corners = sheet.at([(left, top), (right, top), (left, bottom), (right, bottom)])
        low, high = corners.min(axis=0), corners.max(axis=0)
        left, top = (int(v) for v in np.clip(np.floor(low), 0, SIDE - 12))
        right, bottom = (int(v) for v in np.clip(np.ceil(high), (left + 10, top + 10), SIDE))
        return left, top, right, bottom
    if kind == 0 and sheet.taken and chance < 0.75:
        left, top, right, bottom = sheet.taken[0]
        corners = sheet.at([(left, top), (right, top), (left, bottom), (right, bottom)])
        margins = rng.uniform(-0.02, 0.5 if rng.random() < 0.7 else 2.0, 4) * (bottom - top)
        low, high = corners.min(axis=0) - margins[:2], corners.max(axis=0) + margins[2:]
        left, top = (int(v) for v in np.clip(np.floor(low), 0, SIDE - 12))
        right, bottom = (int(v) for v in np.clip(np.ceil(high), (left + 10, top + 10), SIDE))
        return left, top, right, bottom
    if chance < 0.7:
        return 0, 0, SIDE, SIDE
    left, top = rng.integers(0, SIDE // 3, 2) * (rng.random(2) < 0.6)
    right, bottom = SIDE - rng.integers(0, SIDE // 3, 2) * (rng.random(2) < 0.6)
    return int(left), int(top), int(right), int(bottom)
