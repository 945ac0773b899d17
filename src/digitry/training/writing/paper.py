"""What lies under and around writing: rulings, borders, cells, patterns, stamps, the lines above and below.

Nothing of it has a label: a reader must see past it. Each function draws on a `Sheet`, a layer of twice the
strip's size, whose lines are then as thin as half a pixel.
"""

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from digitry.reading.lines import HEIGHT
from digitry.training.writing.hands import Ink
from digitry.training.writing.strings import Written
from digitry.training.writing.texts import drawn

SHIFT = 4
UNIT = 2 * 2**SHIFT


class Sheet:
    """An empty layer to draw on, in the strip's pixels."""

    def __init__(self, width: int, rng: np.random.Generator) -> None:
        self.width = width
        self.rng = rng
        self.layer = np.zeros((2 * HEIGHT, 2 * width), np.uint8)
        self.slope = rng.normal(0, 0.012) if rng.random() < 0.6 else 0.0

    def line(self, x0: float, y0: float, x1: float, y1: float, thick: float, shade: float) -> None:
        """Draw a straight line, `thick` pixels wide, `shade` in [0, 1]."""
        ends = [(round(x * UNIT), round(y * UNIT)) for x, y in ((x0, y0), (x1, y1))]
        drawn = max(1, round(2 * thick))
        cv2.line(self.layer, ends[0], ends[1], int(255 * shade), drawn, cv2.LINE_AA, SHIFT)

    def across(self, y: float, thick: float, shade: float, x0: float = -4, x1: float = 1e4) -> None:
        """Draw a line along the writing, sloped as the sheet is."""
        x1 = min(x1, self.width + 4)
        middle = self.width / 2
        self.line(
            x0, y + self.slope * (x0 - middle), x1, y + self.slope * (x1 - middle), thick, shade
        )

    def upright(
        self, x: float, thick: float, shade: float, y0: float = -4, y1: float = HEIGHT + 4
    ) -> None:
        """Draw a line across the writing, at right angles to the sheet's slope."""
        middle = HEIGHT / 2
        self.line(
            x - self.slope * (y0 - middle), y0, x - self.slope * (y1 - middle), y1, thick, shade
        )

    def finished(self) -> Ink:
        """Return the layer at the strip's size; some lines are broken or printed unevenly."""
        layer = np.asarray(
            cv2.resize(self.layer, (self.width, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8
        )
        if self.rng.random() < 0.3:
            layer = broken(layer, self.rng)
        return layer


def broken(layer: npt.NDArray[np.uint8], rng: np.random.Generator, most: float = 0.45) -> Ink:
    """Return ink that has worn away in patches, as uneven print or faint pens leave it.

    Args:
        layer: uint8, 255 = ink.
        rng: what chooses the patches.
        most: about the largest part that wears away.
    """
    height, width = layer.shape
    cell = rng.uniform(2, 10)
    shape = (max(2, int(height / cell)), max(2, int(width / cell)))
    patches = rng.random(shape, dtype=np.float32)
    field = cv2.resize(patches, (width, height), interpolation=cv2.INTER_LINEAR)
    keep = np.clip((field - rng.uniform(0.1, most)) * 5, rng.uniform(0, 0.5), 1)
    return np.asarray(layer * keep, np.uint8)


def _lead(rng: np.random.Generator) -> tuple[float, float]:
    """Return a printed line's thickness in pixels, and its shade."""
    thick = (0.5, 1.0, 1.5, 2.0, 3.0)[drawn((0.2, 0.3, 0.25, 0.17, 0.08), rng)]
    return thick, float(rng.uniform(0.25, 1.0))


def underline(sheet: Sheet, written: Written, rng: np.random.Generator) -> None:
    """Draw one line under the writing, through its feet or over it."""
    thick, shade = _lead(rng)
    y = written.bottom + rng.normal(0.5, 2.0) if rng.random() < 0.85 else written.top - 2
    if rng.random() < 0.2:
        # By hand: neither straight nor as long as the strip.
        left = rng.uniform(-4, 8)
        right = sheet.width - rng.uniform(-4, 8)
        xs = np.linspace(left, right, 6)
        ys = y + rng.normal(0, 0.7, 6) + np.linspace(0, rng.normal(0, 2), 6)
        path = np.round(np.stack([xs, ys], 1) * UNIT).astype(np.int32).reshape(-1, 1, 2)
        wide = max(2, round(2 * written.pen))
        cv2.polylines(sheet.layer, [path], False, 255, wide, cv2.LINE_AA, SHIFT)
        return
    sheet.across(y, thick, shade)
    if rng.random() < 0.15:
        sheet.across(y + thick + rng.uniform(1.5, 3), thick, shade)


def ruled(sheet: Sheet, written: Written, rng: np.random.Generator) -> None:
    """Draw the lines of ruled paper."""
    thick, shade = _lead(rng)
    pitch = rng.uniform(7, 34)
    y = written.bottom + rng.normal(0.5, 2) - pitch * 8
    while y < HEIGHT + 6:
        sheet.across(y, thick, shade)
        y += pitch


def squared(sheet: Sheet, written: Written, rng: np.random.Generator) -> None:
    """Draw squared paper."""
    thick, shade = _lead(rng)
    thick, shade = min(thick, 1.5), shade * rng.uniform(0.5, 0.9)
    pitch = rng.uniform(6, 30)
    for y in np.arange(rng.uniform(-pitch, 0), HEIGHT + 6, pitch):
        sheet.across(float(y), thick, shade)
    for x in np.arange(rng.uniform(-pitch, 0), sheet.width + 6, pitch):
        sheet.upright(float(x), thick, shade)


def edges(sheet: Sheet, written: Written, rng: np.random.Generator) -> None:
    """Draw a cell's borders where a crop of a cell has them: at the edges of the strip.

    A border stands left, right or on both sides of the writing, alone, double or with the lying borders of
    its cell; it is taller than the digits beside it.
    """
    thick, shade = _lead(rng)
    shade = max(shade, rng.uniform(0.3, 1.0))
    first = written.spans[0][0] if written.spans else sheet.width
    last = written.spans[-1][1] if written.spans else 0
    which = drawn((0.3, 0.3, 0.4), rng)
    boxed = rng.random() < 0.45
    reach = written.bottom - written.top
    over = max(2.0, 0.15 * reach)
    top = written.top - rng.uniform(over, over + 5) if boxed else -4.0
    bottom = written.bottom + rng.uniform(over, over + 5) if boxed else HEIGHT + 4.0
    if not boxed and rng.random() < 0.25:
        # The border ends within the strip, at the corner of its table.
        if rng.random() < 0.5:
            top = max(0.0, written.top - rng.uniform(over, 8))
        else:
            bottom = min(HEIGHT - 1.0, written.bottom + rng.uniform(over, 8))
    left = rng.uniform(0, max(first - 1.5 - thick / 2, 0.5))
    right = rng.uniform(min(last + 1.5 + thick / 2, sheet.width - 1), sheet.width - 0.5)
    if rng.random() < 0.5:
        left = min(left, rng.uniform(0, 4))
        right = max(right, sheet.width - rng.uniform(0.5, 4))
    for x, shown in ((left, which != 1), (right, which != 0)):
        if not shown:
            continue
        sheet.upright(x, thick, shade, top, bottom)
        if rng.random() < 0.12:
            outside = -1 if x < sheet.width / 2 else 1
            sheet.upright(x + outside * (thick + rng.uniform(1.5, 3)), thick, shade, top, bottom)
    if boxed:
        x0 = left if which != 1 and rng.random() < 0.6 else -4.0
        x1 = right if which != 0 and rng.random() < 0.6 else sheet.width + 4.0
        for y, shown in ((top, rng.random() < 0.75), (bottom, rng.random() < 0.75)):
            if shown:
                sheet.across(y, thick, shade, x0, x1)


def cells(sheet: Sheet, written: Written, rng: np.random.Generator) -> None:
    """Draw the walls between characters: boxes, a comb, the columns of a table."""
    thick, shade = _lead(rng)
    spans = written.spans
    if not spans:
        edges(sheet, written, rng)
        return
    walls = [spans[0][0] - rng.uniform(1.5, 7)]
    for (_, end), (start, _) in pairwise(spans):
        if start - end >= 2 + thick:
            walls.append((start + end) / 2 + rng.uniform(-0.25, 0.25) * (start - end - thick))
    walls.append(spans[-1][1] + rng.uniform(1.5, 7))
    reach = written.bottom - written.top
    foot = written.bottom + rng.uniform(0.5, 4)
    kind = drawn((0.5, 0.2, 0.3), rng)
    top = written.top - max(1.5, 0.12 * reach) - rng.uniform(0, 3)
    if kind == 1:
        top = foot - rng.uniform(0.25, 0.6) * reach
    elif kind == 2:
        top, foot = -4.0, HEIGHT + 4.0
    for x in walls:
        sheet.upright(x, thick, shade, top, foot)
    if kind == 0:
        sheet.across(top, thick, shade, walls[0], walls[-1])
    if kind < 2:
        sheet.across(foot, thick, shade, walls[0], walls[-1])


def pattern(sheet: Sheet, written: Written, rng: np.random.Generator) -> None:
    """Draw the fine waves and slanted lines that cheques and forms are printed with."""
    shade = float(rng.uniform(0.15, 0.5))
    if rng.random() < 0.5:
        xs = np.arange(-2, sheet.width + 4, 2.0)
        period, swing = rng.uniform(8, 40), rng.uniform(1, 6)
        for y in np.arange(rng.uniform(-4, 2), HEIGHT + 6, rng.uniform(3, 9)):
            wave = y + swing * np.sin(xs * 2 * np.pi / period + y * rng.uniform(0, 0.5))
            path = np.round(np.stack([xs, wave], 1) * UNIT).astype(np.int32).reshape(-1, 1, 2)
            cv2.polylines(sheet.layer, [path], False, int(255 * shade), 1, cv2.LINE_AA, SHIFT)
        return
    lean, pitch = rng.uniform(-40, 40), rng.uniform(4, 14)
    for x in np.arange(-40, sheet.width + 40, pitch):
        sheet.line(float(x), -2, float(x + lean), HEIGHT + 2, 0.5, shade)


def stamp(sheet: Sheet, written: Written, rng: np.random.Generator) -> None:
    """Draw a ring, a stroke across the writing, a tick or a scribble."""
    shade = float(rng.uniform(0.3, 0.9))
    width = sheet.width
    kind = rng.choice(3)
    if kind == 0:
        centre = (round(rng.uniform(0, width) * UNIT), round(rng.uniform(-10, 42) * UNIT))
        radius = round(rng.uniform(18, 50) * UNIT)
        thick = int(rng.integers(1, 5))
        cv2.circle(sheet.layer, centre, radius, int(255 * shade), thick, cv2.LINE_AA, SHIFT)
        return
    if kind == 1:
        # A long flourish from the neighbourhood that crosses a corner of the strip.
        y = rng.uniform(-6, 38)
        x0, x1 = (-4, rng.uniform(0.1, 0.6) * width) if rng.random() < 0.5 else (0.4 * width, width)
        sheet.line(x0, y, x1, rng.choice((-4.0, HEIGHT + 4.0)), written.pen, shade)
        return
    count = int(rng.integers(3, 9))
    x = rng.uniform(0, width)
    xs = np.clip(x + np.cumsum(rng.normal(0, 5, count)), 0, width)
    ys = rng.choice((rng.uniform(-4, 6), rng.uniform(26, 36))) + rng.normal(0, 3, count)
    path = np.round(np.stack([xs, ys], 1) * UNIT).astype(np.int32).reshape(-1, 1, 2)
    cv2.polylines(sheet.layer, [path], False, int(255 * shade), 3, cv2.LINE_AA, SHIFT)


def neighbours(ink: Ink, written: Written, other: Ink, rng: np.random.Generator) -> None:
    """Let the feet or heads of another line's writing reach into a strip, in place.

    Args:
        ink: the strip.
        written: what stands in it.
        other: another strip's ink, whose characters are cut off at the edge.
    """
    rows = np.flatnonzero(other.any(axis=1))
    if not len(rows):
        return
    other = other[rows[0] : rows[-1] + 1]
    if rng.random() < 0.5:
        room = written.top - 1
        depth = min(int(rng.integers(2, 9)), room, len(other))
        if depth > 1:
            _onto(ink[:depth], other[-depth:], rng)
    else:
        room = HEIGHT - written.bottom - 1
        depth = min(int(rng.integers(2, 9)), room, len(other))
        if depth > 1:
            _onto(ink[HEIGHT - depth :], other[:depth], rng)


def _onto(
    area: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8], rng: np.random.Generator
) -> None:
    shift = int(rng.integers(-20, 21))
    width = min(area.shape[1], other.shape[1] + shift)
    if width > max(0, shift):
        part = other[:, max(0, -shift) : width - shift]
        place = area[:, max(0, shift) : max(0, shift) + part.shape[1]]
        np.maximum(place, part[:, : place.shape[1]], out=place)


def specks(ink: Ink, rng: np.random.Generator) -> None:
    """Strew dirt on a strip, in place: too small to be a mark."""
    width = ink.shape[1]
    count = int(rng.integers(1, 2 + width // 12))
    ys, xs = rng.integers(0, HEIGHT, count), rng.integers(0, width, count)
    ink[ys, xs] = np.maximum(ink[ys, xs], rng.integers(60, 256, count).astype(np.uint8))
    half = xs[: count // 2] - 1
    ink[ys[: count // 2], half] = np.maximum(ink[ys[: count // 2], half], 120)


DRAWN = (underline, ruled, squared, edges, cells, pattern, stamp)
SHARES = (0.22, 0.12, 0.08, 0.27, 0.17, 0.06, 0.08)
SHARE_PLAIN = 0.42


def under(written: Written, neighbour: Ink | None, rng: np.random.Generator) -> Ink:
    """Return writing with paper under it: of a random kind, often plain.

    Args:
        written: the writing.
        neighbour: another line's ink, or None for none.
        rng: what chooses.

    Returns:
        (32, width) uint8, 255 = ink.
    """
    ink = written.ink.copy()
    if rng.random() > SHARE_PLAIN:
        kinds: Sequence[int] = [drawn(SHARES, rng)]
        if rng.random() < 0.25:
            kinds = [*kinds, drawn(SHARES, rng)]
        for kind in kinds:
            sheet = Sheet(ink.shape[1], rng)
            DRAWN[kind](sheet, written, rng)
            np.maximum(ink, sheet.finished(), out=ink)
    if neighbour is not None and rng.random() < 0.15:
        neighbours(ink, written, neighbour, rng)
    if rng.random() < 0.1:
        specks(ink, rng)
    return ink
