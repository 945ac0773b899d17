"""Pages of writing, and where on them numbers stand: what the finder learns from.

A page is composed from numbers, words, rulings, boxes and tables, photographed or scanned, and shown to the
network as the reader shows it one: as the ink map of `digitry.reading.find`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from digitry.reading.classes import DIGITS, OTHER
from digitry.reading.find import CELL, ink_map
from digitry.training.writing.hands import Hands, Ink
from digitry.training.writing.photographs import photographed
from digitry.training.writing.strings import Style, style, write
from digitry.training.writing.strips import Real, Sources, set_in
from digitry.training.writing.texts import LETTER, WORD, digits, drawn, text

SIDE = 256
"""Height and width of a training page, pixels."""

APART = 1.5
"""Numbers are two where a gap is wider than this, in heights of a digit."""

SHARES = (0.19, 0.24, 0.17, 0.12, 0.08, 0.04, 0.16)
"""Of pages with one number, scattered numbers, a table, a form, prose, no writing, a crop of a register."""

REGISTER = len(SHARES) - 1

SCAN = 64
"""Rows of the crops of scanned registers."""

SHIFT = 4
UNIT = 1 << SHIFT

Bytes = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


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


@dataclass(frozen=True, eq=False)
class _Piece:
    """Writing cut to its ink, and where in it numbers and other writing stand, in its pixels."""

    ink: Ink
    numbers: tuple[Box, ...]
    others: tuple[Box, ...]
    walls: tuple[float, ...] = ()
    """Columns between its characters, where a comb or boxes have their walls."""


@dataclass(eq=False)
class _Sheet:
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

    def put(self, piece: _Piece, x: float, y: float, scale: float, dark: float) -> None:
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


def page(
    sources: Sources, rng: np.random.Generator
) -> tuple[Bytes, Bytes, Bytes, npt.NDArray[np.float32]]:
    """Return a page: its ink map (256, 256) uint8, and core, other and tall by cells."""
    kind = drawn(SHARES, rng)
    angle = rng.uniform(-0.27, 0.27) if rng.random() < 0.2 else rng.normal(0, 0.04)
    if kind == REGISTER:
        angle *= 0.2
    turn = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), np.degrees(angle), 1.0)
    if rng.random() < 0.3:
        turn[0, 1] += rng.normal(0, 0.06)
    sheet = _Sheet(np.asarray(turn, float))
    tall = float(np.exp(rng.uniform(np.log(8.5), np.log(42))))
    kinds = (_alone, _scattered, _table, _form, _prose, _bare, _register)
    ruled = rng.random() if kinds[kind] is not _register else 1.0
    if ruled < 0.12:
        _ruled(sheet, tall, rng)
    elif ruled < 0.2:
        _squared(sheet, tall, rng)
    kinds[kind](sheet, sources, tall, rng)
    if rng.random() < 0.12:
        _strokes_of_other_things(sheet, tall, rng)
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


# What stands on a page


def _number(
    sources: Sources, rng: np.random.Generator, said: str | None = None, how: Style | None = None
) -> _Piece:
    """Return a number by one hand."""
    if said is None and rng.random() < 0.12:
        real = _real_number(sources, rng)
        if real is not None:
            return real
    hands = sources.hands[drawn(sources.shares, rng)]
    said = text(rng) if said is None else said
    return _written(said, hands, sources, how or _style(rng), rng)


def _style(rng: np.random.Generator) -> Style:
    return replace(style(rng), height=float(rng.uniform(20, 28)), slope=float(rng.normal(0, 0.01)))


def _written(
    said: str, hands: Hands, sources: Sources, how: Style, rng: np.random.Generator
) -> _Piece:
    written = write(said, hands, sources.others, how, rng)
    spans = written.spans
    said = said.replace(" ", "")
    numbers: list[Box] = []
    others: list[Box] = []
    run: list[tuple[int, int, str]] = []
    for char, (left, right) in zip(said, spans, strict=False):
        if char in (LETTER, WORD):
            others.append(_rows(written.ink, left, right))
            numbers += _run(written.ink, run)
            run = []
            continue
        if run and left - run[-1][1] > APART * how.height:
            numbers += _run(written.ink, run)
            run = []
        run.append((left, right, char))
    numbers += _run(written.ink, run)
    walls = [(a[1] + b[0]) / 2 for a, b in pairwise(spans)]
    return _cut(written.ink, numbers, others, walls)


def _run(ink: Ink, run: Sequence[tuple[int, int, str]]) -> list[Box]:
    """Return the box of a run of digits and marks; marks alone are none."""
    rows = [_rows(ink, left, right) for left, right, char in run if char in DIGITS]
    if not rows:
        return []
    top = float(np.median([row[1] for row in rows]))
    bottom = float(np.median([row[3] for row in rows]))
    return [(run[0][0], top, run[-1][1], max(bottom, top + 4))]


def _rows(ink: Ink, left: int, right: int) -> Box:
    rows = np.flatnonzero((ink[:, left:right] > 60).any(axis=1))
    if not len(rows):
        return left, 8, right, 24
    return left, int(rows[0]), right, int(rows[-1]) + 1


def _cut(
    ink: Ink, numbers: Sequence[Box], others: Sequence[Box], walls: Sequence[float] = ()
) -> _Piece:
    columns = np.flatnonzero(ink.any(axis=0))
    rows = np.flatnonzero(ink.any(axis=1))
    if not len(columns):
        return _Piece(ink[:4, :4], (), ())
    x, y = int(columns[0]), int(rows[0])

    def moved(boxes: Sequence[Box]) -> tuple[Box, ...]:
        return tuple((a - x, b - y, c - x, d - y) for a, b, c, d in boxes)

    cut = np.ascontiguousarray(ink[y : rows[-1] + 1, x : columns[-1] + 1])
    return _Piece(cut, moved(numbers), moved(others), tuple(wall - x for wall in walls))


def _real_number(sources: Sources, rng: np.random.Generator) -> _Piece | None:
    """Return a real string that was written with a pen on a tablet: its ink is all there is."""
    for _ in range(4):
        real = sources.real[int(rng.integers(len(sources.real)))]
        if real.ink.shape[0] == 64 or not real.labels or OTHER in real.labels:
            continue
        ink = set_in(real, float(rng.uniform(18, 24)))
        columns = np.flatnonzero((ink > 60).any(axis=0))
        if not len(columns):
            continue
        box = _rows(ink, int(columns[0]), int(columns[-1]) + 1)
        return _cut(ink, [box], [])
    return None


def _words(sources: Sources, rng: np.random.Generator) -> _Piece:
    """Return other writing: a word, letters, or printed letters."""
    kind = drawn((0.45, 0.3, 0.25), rng)
    if kind == 0 and len(sources.text):
        real: Real = sources.text[int(rng.integers(len(sources.text)))]
        ink = set_in(real, float(rng.uniform(14, 24)))[:, :300]
    elif kind == 1:
        said = LETTER * int(rng.integers(1, 9))
        ink = write(said, sources.hands[0], sources.others, _style(rng), rng).ink
    else:
        return _printed(rng)
    columns = np.flatnonzero((ink > 60).any(axis=0))
    if not len(columns):
        return _printed(rng)
    return _cut(ink, [], [_rows(ink, int(columns[0]), int(columns[-1]) + 1)])


LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
FACES = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_PLAIN,
)


def _printed(rng: np.random.Generator) -> _Piece:
    """Return a word in plain printed letters."""
    word = "".join(LETTERS[i] for i in rng.integers(len(LETTERS), size=rng.integers(2, 10)))
    word = word if rng.random() < 0.5 else word.capitalize()
    face, thick = FACES[int(rng.integers(len(FACES)))], int(rng.integers(1, 4))
    (width, height), below = cv2.getTextSize(word, face, 1.2, thick)
    ink = np.zeros((height + below + 8, width + 8), np.uint8)
    cv2.putText(ink, word, (4, height + 4), face, 1.2, 255, thick, cv2.LINE_AA)
    scale = 24 / ink.shape[0]
    small = cv2.resize(ink, (max(4, round(ink.shape[1] * scale)), 24), interpolation=cv2.INTER_AREA)
    return _cut(small, [], [_rows(small, 0, small.shape[1])])


def _height(piece: _Piece) -> float:
    heights: list[float] = [box[3] - box[1] for box in piece.numbers or piece.others]
    return max(heights) if heights else float(piece.ink.shape[0])


def _size(piece: _Piece, tall: float, rng: np.random.Generator) -> float:
    scale = tall / max(_height(piece), 6.0) * float(np.exp(rng.normal(0, 0.08)))
    return min(scale, 48 / float(piece.ink.shape[0]) * 1.6)


def _placed(
    sheet: _Sheet,
    piece: _Piece,
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


def _alone(sheet: _Sheet, sources: Sources, tall: float, rng: np.random.Generator) -> None:
    """Write one number, mostly a digit, near the middle."""
    tall = float(np.exp(rng.uniform(np.log(12), np.log(44))))
    said = digits(1, rng) if rng.random() < 0.5 else None
    piece = _number(sources, rng, said)
    scale = _size(piece, tall, rng)
    across, down = piece.ink.shape[1] * scale, piece.ink.shape[0] * scale
    x, y = (SIDE - across) / 2 + rng.normal(0, 30), (SIDE - down) / 2 + rng.normal(0, 30)
    sheet.put(piece, x, y, scale, rng.uniform(0.75, 1.0))
    box = (x, y, x + across, y + down)
    sheet.taken.append(box)
    if rng.random() < 0.35:
        _around(sheet, piece, box, scale, rng)


def _scattered(sheet: _Sheet, sources: Sources, tall: float, rng: np.random.Generator) -> None:
    """Write numbers and words anywhere."""
    count = int(rng.integers(2, 6 + round(300 / tall)))
    wordy = rng.choice((0.0, 0.15, 0.4))
    short = rng.random() < 0.4
    for _ in range(count):
        own = tall * float(np.exp(rng.normal(0, 0.15 if rng.random() < 0.8 else 0.5)))
        own = float(np.clip(own, 8, 46))
        if rng.random() < wordy:
            piece = _words(sources, rng)
        else:
            said = digits(int(rng.integers(1, 3)), rng) if short else None
            piece = _number(sources, rng, said)
        scale = _size(piece, own, rng)
        box = _placed(sheet, piece, scale, rng, margin=rng.uniform(0.3, 1.2) * own)
        if box and piece.numbers and rng.random() < 0.15:
            _around(sheet, piece, box, scale, rng)


def _table(sheet: _Sheet, sources: Sources, tall: float, rng: np.random.Generator) -> None:
    """Write numbers into the cells of a table, with or without its lines."""
    tall = min(tall, 34.0)
    row = tall * rng.uniform(1.25, 2.3)
    most = int(rng.integers(1, 5))
    column = tall * (0.75 * most + rng.uniform(0.6, 2.5))
    x0, y0 = rng.uniform(-column, 20), rng.uniform(-row, 20)
    thick, dark = _lead(tall, rng)
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
                piece = _words(sources, rng)
            else:
                said = digits(int(rng.integers(1, most + 1)), rng)
                if rng.random() < 0.1:
                    said += "." + digits(1, rng)
                piece = _number(sources, rng, said)
            scale = min(_size(piece, tall, rng), 0.96 * column / piece.ink.shape[1])
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


def _form(sheet: _Sheet, sources: Sources, tall: float, rng: np.random.Generator) -> None:
    """Write labels in letters, and beside them numbers in boxes, combs and on lines."""
    tall = min(tall, 32.0)
    y = rng.uniform(-10, 20)
    while y < SIDE:
        x = rng.uniform(-40, 40)
        while x < SIDE:
            if rng.random() < 0.6:
                label = _words(sources, rng)
                scale = _size(label, tall * rng.uniform(0.5, 1.0), rng)
                sheet.put(label, x, y + 0.3 * tall, scale, rng.uniform(0.5, 1.0))
                x += label.ink.shape[1] * scale + tall * rng.uniform(0.4, 1.5)
            if rng.random() < 0.75:
                how = _style(rng)
                if rng.random() < 0.45:
                    how = replace(how, spacing="pitch", gap=float(rng.uniform(0.85, 1.5)))
                piece = _number(sources, rng, digits(int(rng.integers(1, 9)), rng), how)
                scale = _size(piece, tall, rng)
                box = (x, y, x + piece.ink.shape[1] * scale, y + piece.ink.shape[0] * scale)
                sheet.put(piece, x, y, scale, rng.uniform(0.75, 1.0))
                if rng.random() < 0.75:
                    _around(sheet, piece, box, scale, rng)
                x = box[2]
            x += tall * rng.uniform(1.0, 4.0)
        y += tall * rng.uniform(1.8, 4)


def _prose(sheet: _Sheet, sources: Sources, tall: float, rng: np.random.Generator) -> None:
    """Write lines of words, and few numbers among them."""
    tall = float(np.clip(tall, 8, 30))
    rare = rng.choice((0.0, 0.06, 0.2))
    y = rng.uniform(-10, 10)
    while y < SIDE:
        x = rng.uniform(-60, 10)
        while x < SIDE:
            piece = _number(sources, rng) if rng.random() < rare else _words(sources, rng)
            scale = _size(piece, tall, rng)
            sheet.put(piece, x, y + rng.normal(0, 0.05) * tall, scale, rng.uniform(0.75, 1.0))
            x += piece.ink.shape[1] * scale + tall * rng.uniform(0.4, 1.6)
        y += tall * rng.uniform(1.5, 2.6)


def _bare(sheet: _Sheet, sources: Sources, tall: float, rng: np.random.Generator) -> None:
    """Leave the page without writing: doodles and lines alone."""
    for _ in range(rng.integers(0, 4)):
        if not len(sources.doodles):
            break
        doodle = sources.doodles[int(rng.integers(len(sources.doodles)))]
        piece = _Piece(doodle, (), ((0, 0, doodle.shape[1], doodle.shape[0]),))
        _placed(sheet, piece, rng.uniform(20, 120) / doodle.shape[0], rng, margin=4)
    if rng.random() < 0.4:
        _strokes_of_other_things(sheet, tall, rng)


def _register(sheet: _Sheet, sources: Sources, tall: float, rng: np.random.Generator) -> None:
    """Show a crop of a scanned register: a number with its borders, or words."""
    for _ in range(20):
        crops = sources.text if rng.random() < 0.25 else sources.real
        real: Real = crops[int(rng.integers(len(crops)))]
        if real.ink.shape[0] == SCAN:
            break
    else:
        return
    box = _writing_in(real)
    boxes = () if box is None else (box,)
    said = bool(real.labels)
    piece = _Piece(real.ink, boxes if said else (), () if said else boxes)
    scale = float(np.clip(tall, 9, 40)) / max(real.bottom - real.top, 8)
    scale = min(scale, 1.3 * SIDE / SCAN)
    wide, high = real.ink.shape[1] * scale, SCAN * scale
    x = rng.uniform(0, max(SIDE - wide, 1.0))
    y = rng.uniform(0, max(SIDE - high, 1.0))
    sheet.put(piece, x, y, scale, rng.uniform(0.75, 1.0))
    sheet.taken.append((x, y, x + wide, y + high))


def _writing_in(real: Real) -> Box | None:
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


# What is printed and drawn around it


def _lead(tall: float, rng: np.random.Generator) -> tuple[float, float]:
    """Return how thick and how dark a printed line is."""
    thick = float(rng.choice((0.5, 0.8, 1.0, 1.5, 2.0, 3.0), p=(0.15, 0.2, 0.3, 0.15, 0.15, 0.05)))
    return min(thick, 0.12 * tall), float(rng.uniform(0.25, 1.0))


def _around(sheet: _Sheet, piece: _Piece, box: Box, scale: float, rng: np.random.Generator) -> None:
    """Draw what a number is written into: a line, a box, a comb, boxes for each digit."""
    left, top, right, bottom = box
    tall = bottom - top
    thick, dark = _lead(tall, rng)
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


def _ruled(sheet: _Sheet, tall: float, rng: np.random.Generator) -> None:
    thick, dark = _lead(tall, rng)
    pitch = tall * rng.uniform(1.0, 2.5)
    for y in np.arange(-60 + rng.uniform(0, pitch), SIDE + 60, pitch):
        sheet.line((-80, float(y)), (SIDE + 80, float(y)), thick=min(thick, 1.5), dark=dark)
    if rng.random() < 0.3:
        x = float(rng.uniform(0, SIDE))
        sheet.line((x, -80), (x, SIDE + 80), thick=thick, dark=dark)


def _squared(sheet: _Sheet, tall: float, rng: np.random.Generator) -> None:
    _, dark = _lead(tall, rng)
    pitch = max(4.0, tall * rng.uniform(0.35, 1.4))
    for at in np.arange(-60 + rng.uniform(0, pitch), SIDE + 60, pitch):
        sheet.line((-80, float(at)), (SIDE + 80, float(at)), thick=1, dark=0.8 * dark)
        sheet.line((float(at), -80), (float(at), SIDE + 80), thick=1, dark=0.8 * dark)


def _strokes_of_other_things(sheet: _Sheet, tall: float, rng: np.random.Generator) -> None:
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


def _crop(
    sheet: _Sheet, tall: float, kind: int, rng: np.random.Generator
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
