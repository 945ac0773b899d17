"""Draws handwriting that the shipped reader does not know, and makes corrections from it."""

import hashlib

import numpy as np

from digitry.improve.retrain import Corrected
from digitry.reading.reader import single_glyph
from digitry.training.writing import pen


def _line(start: tuple[float, float], end: tuple[float, float]) -> np.ndarray:
    return np.linspace(start, end, 30)


STYLES = {
    "crossed": [_line((0.24, 0.18), (0.76, 0.82)), _line((0.76, 0.18), (0.24, 0.82))],
    "struck": [_line((0.16, 0.08), (0.84, 0.92))],
    "barred": [_line((0.04, 0.52), (0.98, 0.48))],
}
"""Zeros, by what is drawn across them."""


def page(rng: np.random.Generator, style: str = "crossed") -> np.ndarray:
    """Return a drawn zero, (h, w) uint8, dark on light, in one of five hands with a random pen."""
    lines = (*pen.strokes_of("0", int(rng.integers(5))), *STYLES[style])
    ink = pen.draw(pen.wobble(lines, rng), 60, float(rng.uniform(2.5, 8)), rng)
    return np.asarray(240 - 205 * np.pad(ink, 16), np.uint8)


def glyphs(pages: list[np.ndarray]) -> np.ndarray:
    """Return their glyphs as images, (n, 28, 28) uint8, ink = 255."""
    return np.stack([np.rint(255 * single_glyph(one)).astype(np.uint8) for one in pages])


def corrected(images: np.ndarray, labels: np.ndarray) -> Corrected:
    """Return corrections, each with a hash of its image."""
    digests = tuple(hashlib.sha256(image.tobytes()).hexdigest() for image in images)
    return Corrected(images, labels.astype(np.uint8), digests)
