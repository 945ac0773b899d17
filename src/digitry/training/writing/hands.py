"""Isolated handwritten characters, found by their writer and class."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from digitry.errors import DataError

Ink = npt.NDArray[np.uint8]
"""(height, width) uint8, 255 = ink on 0."""

PEN = (0.05, 0.15)
"""The widths of the pens that strokes are drawn with, in heights of a character."""


@dataclass(frozen=True, eq=False)
class Hands:
    """The characters of one source.

    `em[i]` is how many pixels of glyph `i` make the height of a usual character of its source.
    """

    glyphs: Sequence[Ink]
    labels: npt.NDArray[np.int64]
    writers: npt.NDArray[np.int64]
    em: npt.NDArray[np.float32]
    by_class: dict[int, npt.NDArray[np.int64]] = field(default_factory=dict)
    by_writer: dict[int, dict[int, npt.NDArray[np.int64]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self.glyphs) == len(self.labels) == len(self.writers) == len(self.em) > 0:
            raise DataError(
                f"{len(self.glyphs)} characters, {len(self.labels)} labels and "
                f"{len(self.writers)} writers do not match",
                where="hands",
                remedy="give one label and one writer for each of at least one character",
            )
        self.by_class.update(_places(self.labels, np.arange(len(self.labels))))
        for writer, places in _places(self.writers, np.arange(len(self.writers))).items():
            self.by_writer[writer] = _places(self.labels[places], places)

    def writer(self, rng: np.random.Generator) -> int:
        """Return a writer, drawn by how much he wrote."""
        return int(self.writers[rng.integers(len(self.writers))])

    def pick(self, label: int, writer: int, rng: np.random.Generator) -> int:
        """Return the place of a character of a class, by this writer if he wrote one."""
        places = self.by_writer[writer].get(label)
        if places is None:
            places = self.by_class[label]
        return int(places[rng.integers(len(places))])


def _places(
    keys: npt.NDArray[np.int64], places: npt.NDArray[np.int64]
) -> dict[int, npt.NDArray[np.int64]]:
    order = np.argsort(keys, kind="stable")
    values, starts = np.unique(keys[order], return_index=True)
    parts = np.split(places[order], starts[1:])
    return {int(value): part for value, part in zip(values, parts, strict=True)}


def from_images(
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer],
    writers: npt.NDArray[np.integer] | None = None,
) -> Hands:
    """Return hands from pictures of one character each, cut to their ink.

    Args:
        images: (n, height, width) uint8, ink high on 0; pictures without ink are left out.
        labels: (n,) classes.
        writers: (n,); without them each character is taken to be of one unknown writer.
    """
    glyphs, kept = [], []
    for index, image in enumerate(images):
        cut = cut_to_ink(image)
        if cut is not None:
            glyphs.append(cut)
            kept.append(index)
    places = np.array(kept, np.int64)
    if writers is None:
        writers = np.zeros(len(images), np.int64)
    return Hands(
        glyphs,
        labels[places].astype(np.int64),
        writers[places].astype(np.int64),
        np.array([max(glyph.shape) for glyph in glyphs], np.float32),
    )


def from_strokes(
    samples: Sequence[Sequence[npt.NDArray[np.float32]]],
    labels: npt.NDArray[np.integer],
    writers: npt.NDArray[np.integer],
    rng: np.random.Generator,
    height: int = 40,
) -> Hands:
    """Return hands from pen strokes, drawn with one pen for each writer.

    Args:
        samples: for each character its strokes, (points, 2) float32 x and y, y down, in any unit.
        labels: (n,) classes.
        writers: (n,).
        rng: what chooses the pens.
        height: of the drawn characters' longest side, pixels.
    """
    pens = {int(writer): rng.uniform(*PEN) for writer in np.unique(writers)}
    glyphs, kept = [], []
    for index, strokes in enumerate(samples):
        pen = pens[int(writers[index])] * rng.uniform(0.9, 1.1)
        drawn = draw_strokes(strokes, height, pen * height)
        cut = cut_to_ink(drawn)
        if cut is not None:
            glyphs.append(cut)
            kept.append(index)
    places = np.array(kept, np.int64)
    return Hands(
        glyphs,
        labels[places].astype(np.int64),
        writers[places].astype(np.int64),
        np.full(len(places), height, np.float32),
    )


def draw_strokes(
    strokes: Sequence[npt.NDArray[np.float32]],
    size: float,
    pen: float,
    unit: float | None = None,
) -> Ink:
    """Return strokes drawn with a round pen.

    Args:
        strokes: each (points, 2), x and y, y down.
        size: what `unit` is long in the picture, pixels.
        pen: the pen's width, pixels.
        unit: a length in the strokes' unit; their longest side by default.
    """
    points = np.concatenate(strokes).astype(np.float32)
    low, high = points.min(axis=0), points.max(axis=0)
    scale = size / max(float((high - low).max()) if unit is None else unit, 1e-6)
    # Drawn at twice the size: OpenCV's pens are whole pixels wide.
    margin = pen + 2
    shape = np.ceil(((high - low) * scale + 2 * margin) * 2).astype(int)
    canvas = np.zeros((shape[1] + shape[1] % 2, shape[0] + shape[0] % 2), np.uint8)
    thickness = max(1, round(2 * pen))
    for stroke in strokes:
        at = ((stroke - low) * scale + margin) * 2
        path = np.round(at * 16).astype(np.int32).reshape(-1, 1, 2)
        if len(path) == 1:
            path = np.repeat(path, 2, axis=0)
        cv2.polylines(canvas, [path], False, 255, thickness, cv2.LINE_AA, shift=4)
    half = (canvas.shape[1] // 2, canvas.shape[0] // 2)
    return np.asarray(cv2.resize(canvas, half, interpolation=cv2.INTER_AREA), np.uint8)


def cut_to_ink(image: npt.NDArray[np.uint8], least: int = 40) -> Ink | None:
    """Return the part of a picture that holds ink above `least`, or None where there is none."""
    ink = image > least
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    if not len(rows):
        return None
    return np.ascontiguousarray(image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
