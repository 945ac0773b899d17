"""Characters of one hand set beside each other, as people write numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from digitry.reading.classes import DIGITS, MARKS, OTHER
from digitry.reading.lines import HEIGHT
from digitry.training.writing.hands import Hands, Ink
from digitry.training.writing.texts import LETTER, WORD, drawn

CHARACTERS = DIGITS + MARKS
"""The characters that have a class of their own, in the order of the network's outputs."""

MOST_COLUMNS = 640

SHARE_BENT = 0.4
"""Of characters: bent a little."""


@dataclass(frozen=True)
class Style:
    """How a line is written: lengths in heights of a digit, angles as slopes."""

    height: float
    """Of a digit, pixels."""
    aspect: float
    slant: float
    slope: float
    wobble: float
    """How much a character departs from its line: 1 is usual."""
    spacing: Literal["tight", "usual", "wide", "mixed", "pitch"]
    gap: float
    """Between the ink of neighbours; with `pitch`, from one middle to the next."""
    near: bool
    """Gaps lie between the nearest points of ink instead of between columns."""
    stretched: bool
    """Each digit fills the height and its width is its own."""


@dataclass(frozen=True)
class Written:
    """Ink on a strip, what it says, and where its characters stand."""

    ink: Ink
    labels: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    """The first and the past-the-last column of each character."""
    top: int
    bottom: int
    pen: float
    """The width of its strokes, pixels."""


@dataclass(frozen=True, eq=False)
class Others:
    """What is written beside digits."""

    letters: Sequence[Ink]
    words: Sequence[Ink]
    marks: dict[str, Sequence[Ink]]
    """Handwritten marks by their character; some are drawn here anyway."""


def style(rng: np.random.Generator) -> Style:
    """Return how a line is written."""
    height = rng.uniform(15, 27) if rng.random() < 0.7 else rng.uniform(9, 31)
    spacing = ("tight", "usual", "wide", "mixed", "pitch")[
        drawn((0.3, 0.32, 0.09, 0.21, 0.08), rng)
    ]
    gap = {
        "tight": rng.uniform(-0.16, 0.1),
        "usual": rng.uniform(0.0, 0.4),
        "wide": rng.uniform(0.35, 1.0),
        "mixed": 0.1,
        "pitch": rng.uniform(1.0, 2.0),
    }[spacing]
    return Style(
        height=height,
        aspect=float(np.exp(rng.normal(0, 0.13))),
        slant=rng.normal(0, 0.15),
        slope=rng.normal(0, 0.02),
        wobble=(0.3, 1.0, 2.0)[drawn((0.25, 0.6, 0.15), rng)],
        spacing=spacing,  # type: ignore[arg-type]
        gap=gap,
        near=rng.random() < 0.3,
        stretched=rng.random() < 0.04,
    )


def write(said: str, hands: Hands, others: Others, how: Style, rng: np.random.Generator) -> Written:
    """Return a text written by one hand, with empty columns on both sides.

    Args:
        said: a text as `texts` makes them; digits and marks that do not fit are left away.
        hands: the digits.
        others: letters, words and marks.
        how: the line's style.
        rng: what chooses the characters.
    """
    pen = _Pen(how, len(said), rng)
    writer = hands.writer(rng)
    thickness = 0.0
    for char in said:
        if char == " ":
            pen.skip(rng.uniform(0.5, 1.8) * how.height)
            continue
        if char.isdigit():
            place = hands.pick(int(char), writer, rng)
            glyph = _shaped(hands.glyphs[place], float(hands.em[place]), how, rng)
            thickness = thickness or stroke_width(glyph)
            placed = pen.put(glyph, int(char), 0.0, _gap(how, rng))
        elif char == LETTER:
            source = others.letters[int(rng.integers(len(others.letters)))]
            glyph = _shaped(source, max(source.shape) / rng.uniform(0.7, 1.25), how, rng)
            placed = pen.put(glyph, OTHER, rng.uniform(0, 0.25), _gap(how, rng))
        elif char == WORD:
            glyph = _word(others, how, rng)
            placed = pen.put(glyph, OTHER, rng.uniform(0, 0.25), abs(_gap(how, rng)))
        else:
            if not thickness:
                thickness = how.height * rng.uniform(0.06, 0.16)
            glyph, below = _mark(char, others, how, thickness, rng)
            placed = pen.put(glyph, CHARACTERS.index(char), below, _mark_gap(char, rng))
            pen.loosen(_mark_gap(char, rng) - _gap(how, rng))
        if not placed:
            break
    return pen.finish(thickness or how.height * 0.1, rng)


class _Pen:
    """Where the next character goes."""

    def __init__(self, how: Style, count: int, rng: np.random.Generator) -> None:
        self.how = how
        self.rng = rng
        self.canvas = np.zeros((HEIGHT, MOST_COLUMNS), np.uint8)
        slack = HEIGHT - how.height
        margin = rng.integers(2, 13) if rng.random() < 0.85 else rng.integers(12, 60)
        self.x = float(margin)
        # A long sloping line would leave the strip.
        length = max(how.height * count, 1.0)
        self.slope = float(np.clip(how.slope, -(slack + 2) / length, (slack + 2) / length))
        free = max(0.0, slack - 1 - abs(self.slope) * length)
        shift = rng.uniform(-0.5, 0.5) if rng.random() < 0.3 else rng.uniform(-0.3, 0.3)
        self.baseline = how.height + slack / 2 + shift * free - self.slope * length / 2
        self.start = self.x
        self.extra = 0.0
        self.right = np.full(HEIGHT, -1e4)
        self.labels: list[int] = []
        self.spans: list[tuple[int, int]] = []
        self.middle: float | None = None

    def skip(self, columns: float) -> None:
        self.extra += columns

    def loosen(self, heights: float) -> None:
        """Make the next gap larger or smaller."""
        self.extra += heights * self.how.height

    def put(self, glyph: Ink, label: int, below: float, gap: float) -> bool:
        """Set a character down; return whether there was room.

        Args:
            glyph: cut to its ink.
            label: its class.
            below: how far its foot lies under the base line, heights of a digit.
            gap: to the character before, heights of a digit.
        """
        how, rng = self.how, self.rng
        height, width = glyph.shape
        jitter = rng.normal(0, 0.035 * how.wobble)
        foot = self.baseline + (below + jitter) * how.height + self.slope * (self.x - self.start)
        top = round(foot) - height
        first, past = max(0, top), min(HEIGHT, top + height)
        if past - first < min(3, height):
            return True
        shown = glyph[first - top : past - top]
        x = round(self._start(shown, first, gap))
        if x + width > MOST_COLUMNS - 4:
            return False
        area = self.canvas[first:past, x : x + width]
        np.maximum(area, shown, out=area)
        inked = shown > 60
        rows = np.flatnonzero(inked.any(axis=1))
        self.right = np.full(HEIGHT, -1e4)
        self.right[first + rows] = x + width - inked[rows, ::-1].argmax(axis=1)
        self.x = x + width
        self.middle = x + width / 2
        self.extra = 0.0
        self.spans.append((x, x + width))
        if not (label == OTHER and self.labels and self.labels[-1] == OTHER):
            self.labels.append(label)
        return True

    def _start(self, shown: Ink, first: int, gap: float) -> float:
        how = self.how
        width = shown.shape[1]
        if self.middle is None:
            return float(max(1.0, self.x + self.extra))
        if how.spacing == "pitch":
            # In boxes each character has its own; a wide one may push the next.
            at = self.middle + how.gap * how.height - width / 2 + self.extra
            return float(max(at, self.x - 2))
        start = self.x + gap * how.height + self.extra
        if how.near and not self.extra:
            inked = shown > 60
            rows = np.flatnonzero(inked.any(axis=1))
            left = inked[rows].argmax(axis=1)
            # A pixel up and down counts, too: slanted neighbours shall not touch by accident.
            right = np.maximum(self.right, np.roll(self.right, 1))
            right = np.maximum(right, np.roll(self.right, -1))[first + rows]
            near = float((right - left).max(initial=-1e4)) + gap * how.height
            start = float(np.clip(near, self.x - 0.4 * how.height, start + 0.1 * how.height))
        return float(max(1.0, start))

    def finish(self, thickness: float, rng: np.random.Generator) -> Written:
        margin = rng.integers(2, 13) if rng.random() < 0.85 else rng.integers(12, 60)
        width = int(min(MOST_COLUMNS, self.x + margin))
        ink = self.canvas[:, : max(width, 16)]
        rows = np.flatnonzero(ink.any(axis=1))
        top, bottom = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (8, 24)
        return Written(ink, tuple(self.labels), tuple(self.spans), top, bottom, thickness)


def _gap(how: Style, rng: np.random.Generator) -> float:
    if how.spacing == "mixed":
        return float(rng.uniform(-0.2, 0.4))
    gap = how.gap + rng.normal(0, 0.05) * how.wobble
    # Ink that overlaps by more cannot be read.
    return float(max(gap, -0.2))


def _mark_gap(char: str, rng: np.random.Generator) -> float:
    low, high = {
        ".": (0.02, 0.35),
        ",": (0.0, 0.3),
        "-": (0.05, 0.4),
        "/": (-0.08, 0.25),
        ":": (0.08, 0.4),
    }[char]
    return float(rng.uniform(low, high))


def _shaped(glyph: Ink, em: float, how: Style, rng: np.random.Generator) -> Ink:
    """Return a character in the line's size and slant, with a little of its own."""
    wobble = how.wobble
    if rng.random() < SHARE_BENT:
        glyph = bent(glyph, rng)
    scale = how.height / em * float(np.exp(rng.normal(0, 0.05 * wobble)))
    wide = scale * how.aspect * float(np.exp(rng.normal(0, 0.05 * wobble)))
    if how.stretched:
        scale = how.height / glyph.shape[0]
        wide = how.height * how.aspect / glyph.shape[1] * rng.uniform(0.75, 1.0)
    return warp(glyph, wide, scale, how.slant, how.slope + rng.normal(0, 0.035 * wobble))


def warp(glyph: Ink, wide: float, tall: float, slant: float, turn: float) -> Ink:
    """Return a glyph scaled, slanted and turned, cut to its ink.

    Args:
        glyph: uint8, 255 = ink.
        wide: scale of the width.
        tall: scale of the height.
        slant: columns to the right for one row up.
        turn: clockwise, radians, small.
    """
    height, width = glyph.shape
    if min(wide, tall) < 0.7:
        # Interpolation alone would skip pixels.
        size = (max(2, round(width * wide)), max(2, round(height * tall)))
        glyph = cv2.resize(glyph, size, interpolation=cv2.INTER_AREA)
        height, width = glyph.shape
        wide = tall = 1.0
    matrix = np.array([[wide, -slant * tall], [turn * wide, tall]])
    corners = matrix @ np.array([[0, width, 0, width], [0, 0, height, height]], float)
    low, high = corners.min(axis=1), corners.max(axis=1)
    across, down = (int(v) for v in np.ceil(high - low) + 2)
    full = np.concatenate([matrix, (1 - low)[:, None]], axis=1)
    warped = cv2.warpAffine(glyph, full, (across, down), flags=cv2.INTER_LINEAR)
    columns = np.flatnonzero(warped.max(axis=0) > 50)
    rows = np.flatnonzero(warped.max(axis=1) > 50)
    if not len(columns):
        return glyph
    return np.asarray(warped[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], dtype=np.uint8)


def bent(glyph: Ink, rng: np.random.Generator) -> Ink:
    """Return a glyph bent a little, as if the same hand had written it once more.

    A coarse grid of random shifts, smooth between its points (Simard, Steinkraus, Platt 2003).
    """
    height, width = glyph.shape
    reach = rng.uniform(0.012, 0.045) * max(height, width)
    shifts = rng.normal(0, reach, (4, 3, 2)).astype(np.float32)
    field = cv2.resize(shifts, (width + 4, height + 4), interpolation=cv2.INTER_CUBIC)
    field += np.stack(np.meshgrid(np.arange(-2, width + 2), np.arange(-2, height + 2)), axis=-1)
    moved = cv2.remap(glyph, np.asarray(field, np.float32), None, cv2.INTER_LINEAR)
    columns = np.flatnonzero(moved.max(axis=0) > 50)
    rows = np.flatnonzero(moved.max(axis=1) > 50)
    if not len(columns):
        return glyph
    return np.asarray(moved[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], np.uint8)


def stroke_width(glyph: npt.NDArray[np.uint8]) -> float:
    """Return about how wide the strokes of a glyph are, pixels."""
    ink = glyph.astype(np.float32)
    edges = np.abs(np.diff(ink, axis=0)).sum() + np.abs(np.diff(ink, axis=1)).sum()
    return float(np.clip(2.5 * ink.sum() / max(edges, 1.0), 0.8, 8.0))


def _word(others: Others, how: Style, rng: np.random.Generator) -> Ink:
    source = others.words[int(rng.integers(len(others.words)))]
    scale = how.height * rng.uniform(0.8, 1.3) / source.shape[0]
    size = (max(4, round(source.shape[1] * scale)), max(4, round(source.shape[0] * scale)))
    return np.asarray(cv2.resize(source, size, interpolation=cv2.INTER_AREA), np.uint8)


def _mark(
    char: str, others: Others, how: Style, pen: float, rng: np.random.Generator
) -> tuple[Ink, float]:
    """Return a mark, and how far its foot lies under the base line in heights of a digit."""
    height = how.height
    pen = float(np.clip(pen * rng.uniform(0.8, 1.25), 0.8, 0.25 * height))
    real = others.marks.get(char)
    if char == ".":
        wide = max(pen * rng.uniform(0.9, 1.8), 0.08 * height)
        return _drawn([(0, 0), (rng.uniform(0, 0.5) * wide, rng.uniform(0, 0.5) * wide)], wide), (
            rng.uniform(-0.06, 0.06)
        )
    if char == ":":
        apart = height * rng.uniform(0.3, 0.6)
        wide = max(pen * rng.uniform(0.9, 1.6), 0.08 * height)
        lean = rng.normal(0, 0.12) * apart
        both = [_line((lean, 0), (lean, 0.3)), _line((0, apart), (0, apart + 0.3))]
        return _ink(both, wide), rng.uniform(-0.2, 0.02)
    if char == "/":
        tall = height * rng.uniform(0.95, 1.5)
        lean = tall * (rng.uniform(0.15, 0.75) if rng.random() < 0.95 else rng.uniform(-0.1, 0.15))
        if real and rng.random() < 0.35:
            source = real[int(rng.integers(len(real)))]
            if min(source.shape) > 4:
                scale = tall / source.shape[0]
                wide = max(lean, 2.0) / source.shape[1]
                return warp(source, wide, scale, 0.0, 0.0), rng.uniform(0, 0.25)
        bend = rng.normal(0, 0.06) * height
        return _drawn([(lean, 0), (lean / 2 + bend, tall / 2), (0, tall)], pen), rng.uniform(
            0, 0.25
        )
    if char == "-":
        wide = height * rng.uniform(0.25, 0.8)
        if real and rng.random() < 0.3:
            source = real[int(rng.integers(len(real)))]
            scale = wide / source.shape[1]
            return warp(source, scale, max(scale, 0.5), 0.0, 0.0), -rng.uniform(0.3, 0.55)
        rise, bend = rng.normal(0, 0.06, 2) * height
        path = [(0, 0), (wide / 2, bend), (wide, rise)]
        return _drawn(path, pen), -rng.uniform(0.3, 0.55)
    # A comma: a short stroke that hangs from the base line.
    tall, lean = height * rng.uniform(0.15, 0.38), height * rng.uniform(-0.02, 0.2)
    path = [(lean, 0), (lean * rng.uniform(0.6, 1.2), tall * 0.5), (0, tall)]
    return _drawn(path, pen * rng.uniform(0.9, 1.3)), rng.uniform(0.08, 0.3)


def _line(*points: tuple[float, float]) -> npt.NDArray[np.float64]:
    return np.array(points, float)


def _drawn(path: Sequence[tuple[float, float]], pen: float) -> Ink:
    return _ink([np.array(path, float)], pen)


def _ink(strokes: Sequence[npt.NDArray[np.float64]], pen: float) -> Ink:
    """Return strokes drawn at their size, cut to their ink."""
    points = np.concatenate(strokes)
    low = points.min(axis=0) - pen / 2 - 1
    size = np.ceil(points.max(axis=0) + pen / 2 + 1 - low).astype(int)
    canvas = np.zeros((4 * size[1], 4 * size[0]), np.uint8)
    for stroke in strokes:
        path = np.round((stroke - low) * 64).astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(canvas, [path], False, 255, max(2, round(4 * pen)), cv2.LINE_AA, shift=4)
    small = cv2.resize(canvas, (int(size[0]), int(size[1])), interpolation=cv2.INTER_AREA)
    columns = np.flatnonzero(small.max(axis=0) > 30)
    rows = np.flatnonzero(small.max(axis=1) > 30)
    if not len(columns):
        return np.full((2, 2), 200, np.uint8)
    return np.asarray(small[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], np.uint8)
