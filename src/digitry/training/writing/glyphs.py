"""What the glyph model learns from: single characters as the reader cuts them out of pictures; seeded.

The model must not learn how its sources look, but what `digitry.reading` makes of people's pictures. So a
character is written on a page, photographed, and goes through the reader's own `ink`, `alone`, `lines`,
`pieces` and `glyph`. What is none of the ten digits (letters, several digits in one, halves, bare paper)
is taught as such.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from digitry.model.artifact import NOT_A_DIGIT_CLASS
from digitry.reading import glyph, lines, pieces
from digitry.reading.alone import alone
from digitry.reading.boxes import Box as BoxOnCut
from digitry.reading.find import Place
from digitry.reading.ink import lift
from digitry.reading.result import Box
from digitry.training.data.dataset import Split
from digitry.training.writing import camera, clutter, damage, inks
from digitry.training.writing.inks import NARROW, Floats
from digitry.training.writing.photographs import photographed
from digitry.training.writing.sheets import (
    SIDE,
    Piece,
    Sheet,
    around,
    other_strokes,
    ruled,
    squared,
)
from digitry.training.writing.strips import Sources
from digitry.training.writing.texts import drawn

Bytes = npt.NDArray[np.uint8]

MOST = 220
"""Longest side of a character in a picture, pixels."""

COVERED = 0.55
"""What the reader cuts out is taught if its box and that of the character have this part in common: a label
must not be taught to a neighbour's ink or to half of a digit."""

SHARE_CLEAN = 0.3
"""Of pictures: drawn on a screen, without light and paper."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture of one character.

    Attributes:
        gray: (h, w) uint8, dark ink on light paper.
        box: where the character stands.
        label: 0 to 9, or `NOT_A_DIGIT_CLASS`.
    """

    gray: Bytes
    box: Box
    label: int


def scene(ink: Floats, label: int, sources: Sources, rng: np.random.Generator) -> Scene:
    """Write a character on a page, among what stands on pages, and photograph it."""
    longest = max(ink.shape)
    if longest > MOST:
        size = tuple(max(2, round(side * MOST / longest)) for side in ink.shape[::-1])
        ink = np.asarray(cv2.resize(ink, size, interpolation=cv2.INTER_AREA), np.float32)
    rows, columns = ink.shape
    sheet = Sheet(np.eye(2, 3))
    left, top = (SIDE - columns) // 2, (SIDE - rows) // 2
    _write(sheet, ink, left, top)
    tight = rng.random() < 0.3
    share = rng.uniform(0.0, 0.12) if tight else rng.uniform(0.1, 0.9)
    if not tight:
        _surround(sheet, ink, Box(left, top, columns, rows), sources, rng)
    least = 0 if label < NOT_A_DIGIT_CLASS and share < 0.05 else 1
    room = [round(max(ink.shape) * share * rng.uniform(0.4, 1.4)) + least for _ in range(4)]
    x0, y0 = max(left - room[0], 0), max(top - room[1], 0)
    x1, y1 = min(left + columns + room[2], SIDE), min(top + rows + room[3], SIDE)
    writing, printed = sheet.writing[y0:y1, x0:x1], sheet.print[y0:y1, x0:x1]
    clean = rng.random() < SHARE_CLEAN
    gray = _screen(writing, printed, rng) if clean else photographed(writing, printed, rng)
    return Scene(gray, Box(left - x0, top - y0, columns, rows), label)


def _write(sheet: Sheet, ink: Floats, x: int, y: int) -> None:
    """Write ink with its left upper corner at a place, as far as the sheet reaches."""
    x0, y0 = max(x, 0), max(y, 0)
    part = ink[y0 - y : SIDE - y, x0 - x : SIDE - x]
    place = sheet.writing[y0 : y0 + part.shape[0], x0 : x0 + part.shape[1]]
    np.maximum(place, np.rint(255 * part).astype(np.uint8), out=place)


def _surround(
    sheet: Sheet, ink: Floats, box: Box, sources: Sources, rng: np.random.Generator
) -> None:
    """Put around a character what stands on pages: rulings, a cell, strokes, a neighbour."""
    tall = float(max(box.h, 0.5 * box.w))
    kind = rng.random()
    if kind < 0.08:
        ruled(sheet, tall, rng)
    elif kind < 0.12:
        squared(sheet, tall, rng)
    elif kind < 0.24:
        corners = (float(box.x), float(box.y), float(box.right), float(box.bottom))
        around(sheet, Piece(np.zeros(ink.shape, np.uint8), (), ()), corners, 1.0, rng)
    elif kind < 0.26:
        other_strokes(sheet, tall, rng)
    if rng.random() < 0.2:
        other = inks.digit(sources, tall, rng)[0]
        gap = round(rng.uniform(0.3, 1.0) * tall)
        x = box.right + gap if rng.random() < 0.5 else box.x - gap - other.shape[1]
        if -other.shape[1] < x < SIDE:
            _write(sheet, other, x, box.y + round(rng.normal(0, 0.05) * tall))


def _screen(writing: Bytes, printed: Bytes, rng: np.random.Generator) -> Bytes:
    """Return a page as a drawing program gives it: white paper, one colour, in black and white or not."""
    ink = np.maximum(writing, printed // 2).astype(np.float32) / np.float32(255)
    if rng.random() < 0.5:
        ink = (ink > 0.5).astype(np.float32)
    return np.asarray(255 * (1 - rng.uniform(0.75, 1.0) * ink), np.uint8)


# --- as the reader cuts ------------------------------------------------------------------------------


def as_whole(scene: Scene) -> Floats | None:
    """Return the glyph of all the ink of a picture, or None where the reader takes something else for it.

    Returns:
        (28, 28) float32 in [0, 1], ink = 1.
    """
    found = alone(lift(scene.gray))
    if found is None or _shared(found.box, scene.box) < COVERED:
        return None
    return _taught(found.ink, found.box.w, found.box.h, scene.label)


def as_line(scene: Scene, rng: np.random.Generator) -> Floats | None:
    """Return the glyph of a line of one character; None where it touches other ink.

    The reader does not ask the glyph model about ink that touches other ink.
    Places and boxes are as inexact as those of the finder and the line network.
    """
    box = scene.box
    tall = max(float(box.h), 0.5 * box.w)
    middle = box.y + box.h / 2 + rng.normal(0, 0.04, 2) * tall
    ends = np.array([box.x, box.right]) + rng.normal(0, 0.08, 2) * tall
    height = tall * float(np.exp(rng.normal(0, 0.1)))
    place = Place(
        (float(ends[0]), float(middle[0])),
        (float(max(ends[1], ends[0] + 1)), float(middle[1])),
        height,
        1.0,
    )
    cut = lines.cut(scene.gray, place)
    corners = np.array([(x, y, 1.0) for x in (box.x, box.right) for y in (box.y, box.bottom)])
    back = cv2.invertAffineTransform(cut.to_page)
    at = corners @ back.T
    low = at.min(axis=0) + rng.normal(0, 1.0, 2)
    high = at.max(axis=0) + rng.normal(0, 1.0, 2)
    rows, columns = cut.ink.shape
    start, top = int(np.clip(low[0], 0, columns - 2)), int(np.clip(low[1], 0, rows - 2))
    end = int(np.clip(high[0] + 1, start + 1, columns))
    bottom = int(np.clip(high[1] + 1, top + 1, rows))
    (piece,) = pieces.in_boxes(cut, [BoxOnCut(start, end, top, bottom)])
    if not piece.free:
        return None
    return _taught(piece.ink, end - start, bottom - top, scene.label)


def _shared(a: Box, b: Box) -> float:
    """Return the intersection of two boxes over their union."""
    width = min(a.right, b.right) - max(a.x, b.x)
    height = min(a.bottom, b.bottom) - max(a.y, b.y)
    both = max(width, 0) * max(height, 0)
    return both / max(a.w * a.h + b.w * b.h - both, 1)


def _taught(ink: Floats, width: int, height: int, label: int) -> Floats | None:
    if label == NOT_A_DIGIT_CLASS and width < NARROW * height:
        # An upright stroke alone looks like a 1.
        return None
    result: Floats = glyph.normalise([ink])[0]
    return result if result.any() else None


def _pixels(ink: Floats) -> Bytes:
    """Return a picture as dark ink on white paper."""
    return np.rint(255 * (1 - ink)).astype(np.uint8)


# --- the kinds of glyphs -----------------------------------------------------------------------------

Taught = tuple[Floats | None, int]


def _plain(sources: Sources, rng: np.random.Generator) -> Taught:
    """Return a digit as MNIST has it; glyphs that a user passes in have no paper to remove."""
    ink, em, label = inks.picked(sources, rng)
    picture = inks.as_mnist(ink, em)
    return (glyph.normalise([picture])[0] if rng.random() < 0.3 else picture), label


def _small(sources: Sources, rng: np.random.Generator) -> Taught:
    """Return what the reader makes of a drawing of 28x28 pixels, or a few more."""
    ink, em, label = inks.picked(sources, rng)
    picture = inks.as_mnist(ink, em)
    found = alone(lift(_pixels(np.pad(picture, int(rng.integers(0, 5))))))
    return (None if found is None else _taught(found.ink, 1, 1, label)), label


def _stretched(sources: Sources, rng: np.random.Generator) -> Taught:
    """Return a character that fills a small square, mostly black and white, as forms were scanned."""
    if rng.random() < 0.2:
        ink, label = _bytes(inks.letter(sources, 40.0, rng)), NOT_A_DIGIT_CLASS
    else:
        ink, _, label = inks.picked(sources, rng)
    picture = np.pad(camera.squared(ink, rng), int(rng.integers(1, 5)))
    found = alone(lift(np.asarray(255 - picture, np.uint8)))
    return (None if found is None else _taught(found.ink, found.box.w, found.box.h, label)), label


def _spoilt(sources: Sources, rng: np.random.Generator) -> Taught:
    """Return a digit in a bad state, just as it is or as the reader finds it."""
    ink, em, label = inks.picked(sources, rng)
    picture, clean = damage.spoilt(_bytes(inks.as_mnist(ink, em)), rng)
    if rng.random() < 0.25:
        return picture, label
    found = alone(lift(_pixels(picture)))
    if found is None:
        return None, label
    box = found.box
    # Where the reader loses the digit, what it finds teaches nothing.
    if clean[box.y : box.bottom, box.x : box.right].sum() < 0.6 * clean.sum():
        return None, label
    return _taught(found.ink, 1, 1, label), label


def _written(sources: Sources, rng: np.random.Generator) -> Taught:
    """Return a digit on a page."""
    ink, label = inks.digit(sources, inks.any_height(rng), rng)
    return _seen(scene(ink, label, sources, rng), rng), label


def _other(sources: Sources, rng: np.random.Generator) -> Taught:
    """Return what is no digit, on a page."""
    ink = inks.no_digit(sources, inks.any_height(rng), rng)
    return _seen(scene(ink, NOT_A_DIGIT_CLASS, sources, rng), rng), NOT_A_DIGIT_CLASS


def _seen(picture: Scene, rng: np.random.Generator) -> Floats | None:
    return as_whole(picture) if rng.random() < 0.55 else as_line(picture, rng)


def _spoilt_other(sources: Sources, rng: np.random.Generator) -> Taught:
    """Return a letter in a bad state, or lines and spots around nothing."""
    if rng.random() < 0.5:
        picture = damage.nothing(rng)
    else:
        ink = inks.letter(sources, 20.0, rng)
        picture, _ = damage.spoilt(_bytes(inks.as_mnist(_bytes(ink), 20.0)), rng)
    if rng.random() < 0.5:
        return picture, NOT_A_DIGIT_CLASS
    return _found(_pixels(picture)), NOT_A_DIGIT_CLASS


def _nothing(sources: Sources, rng: np.random.Generator) -> Taught:
    """Return what the reader takes for ink where nothing is written."""
    picture = clutter.bare(rng) if rng.random() < 0.6 else clutter.thing(rng)
    return _found(picture), NOT_A_DIGIT_CLASS


def _found(gray: Bytes) -> Floats | None:
    found = alone(lift(gray))
    if found is None:
        return None
    return _taught(found.ink, found.box.w, found.box.h, NOT_A_DIGIT_CLASS)


def _bytes(ink: Floats) -> Bytes:
    return np.rint(255 * ink).astype(np.uint8)


KINDS = (_plain, _small, _stretched, _spoilt, _written, _other, _spoilt_other, _nothing)
SHARES = (0.11, 0.1, 0.05, 0.1, 0.34, 0.22, 0.04, 0.04)


@dataclass(frozen=True, kw_only=True)
class GlyphPools:
    """What is composed: pool `i` holds the same glyphs wherever and whenever it is composed."""

    seed: int = 0
    glyphs: int = 2000
    """In a pool."""

    def compose(self, sources: Sources, pool: int) -> Sequence[Split]:
        """Return the glyphs of one pool."""
        rng = np.random.default_rng([self.seed, pool])
        images = np.zeros((self.glyphs, glyph.SIZE, glyph.SIZE), np.uint8)
        labels = np.zeros(self.glyphs, np.uint8)
        count = 0
        while count < self.glyphs:
            image, label = KINDS[drawn(SHARES, rng)](sources, rng)
            if image is not None:
                images[count], labels[count] = np.rint(255 * image), label
                count += 1
        return [Split(images, labels)]
