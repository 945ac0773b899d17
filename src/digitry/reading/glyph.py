"""Normalise pieces of ink to glyphs; reading and training both use this code.

MNIST was made like this (LeCun et al. 1998, yann.lecun.com/exdb/mnist): the digit is scaled into a box
of 20x20 pixels, keeping its proportions, with anti-aliasing, and placed in 28x28 pixels with its centre
of mass in the middle. Photographs also need full contrast and a stroke width within MNIST's range,
because at this size a hairline vanishes and a marker closes the loops of a digit.

Any change of the resulting pixels must raise `artifact.GLYPH_VERSION`.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from digitry.reading.percentile import percentile

SIZE = 28
BOX = 20
CENTRE = 14.0

# Stroke widths in pixels of the 20-pixel box. MNIST's strokes are mostly 2 to 4 wide.
THINNEST = 1.9
THICKEST = 4.2

# Size in pixels at which stroke widths are changed: one pixel is a small enough step.
WORKBENCH = 72


def normalise(pieces: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Return pieces of ink as glyphs, normalised like MNIST.

    Args:
        pieces: each (h, w) float32 in [0, 1], ink = 1, with exactly one digit.

    Returns:
        (len(pieces), 28, 28) float32 in [0, 1], ink = 1, centre of mass at (14, 14). A piece without
        ink becomes an empty glyph.
    """
    glyphs = np.zeros((len(pieces), SIZE, SIZE), np.float32)
    for piece, glyph in zip(pieces, glyphs, strict=True):
        _normalise(piece, glyph)
    return glyphs


def stroke_width(ink: npt.NDArray[np.float32]) -> float:
    """Return the estimated mean stroke width: twice the area divided by the outline's length.

    Args:
        ink: (h, w) float32 in [0, 1].

    Returns:
        Pixels; 0 without ink.
    """
    mask = (ink > 0.5).astype(np.uint8)
    area = int(mask.sum())
    if area == 0:
        return 0.0
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    # Edges between ink and paper, counted along both axes. A line at a random angle crosses on average
    # 4/pi pixel edges per pixel of length.
    crossings = int(np.count_nonzero(padded[1:] != padded[:-1])) + int(
        np.count_nonzero(padded[:, 1:] != padded[:, :-1])
    )
    return 2 * area / (crossings * np.pi / 4)


def _normalise(piece: npt.NDArray[np.float32], glyph: npt.NDArray[np.float32]) -> None:
    peak = float(piece.max(initial=0.0))
    if peak < 0.02:
        return
    ink = _contrasted(piece[_extent(piece, peak)], peak)
    width = stroke_width(ink) * BOX / max(ink.shape)
    if not THINNEST <= width <= THICKEST:
        ink = _with_stroke(ink, width)
    # Scale by averaging, which keeps thin strokes.
    factor = BOX / max(ink.shape)
    rows, columns = (max(1, round(length * factor)) for length in ink.shape)
    if factor != 1:
        ink = cv2.resize(
            ink, (columns, rows), interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        )
        ink *= 1 / max(percentile(ink[ink > 0.2], 90), 0.3)
        np.clip(ink, 0, 1, out=ink)
    total = float(ink.sum())
    if total <= 0:
        return
    x = float(ink.sum(axis=0) @ np.arange(columns, dtype=np.float32)) / total
    y = float(ink.sum(axis=1) @ np.arange(rows, dtype=np.float32)) / total
    # Shift by whole pixels, as MNIST: half a pixel would blur every stroke. Clamp the shift, so that a
    # digit with an off-centre mass stays within the glyph.
    left = min(max(round(CENTRE - 0.5 - x), 0), SIZE - columns)
    top = min(max(round(CENTRE - 0.5 - y), 0), SIZE - rows)
    glyph[top : top + rows, left : left + columns] = ink


def _extent(piece: npt.NDArray[np.float32], peak: float) -> tuple[slice, slice]:
    """Return the rows and columns that contain the ink."""
    strong = piece > 0.25 * peak
    rows, columns = np.flatnonzero(strong.any(axis=1)), np.flatnonzero(strong.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _contrasted(ink: npt.NDArray[np.float32], peak: float) -> npt.NDArray[np.float32]:
    """Return the ink at full contrast."""
    level = percentile(ink[ink > 0.4 * peak], 75)
    result: npt.NDArray[np.float32] = np.clip(ink * (1 / level), 0, 1, dtype=np.float32)
    return result


def _with_stroke(ink: npt.NDArray[np.float32], width: float) -> npt.NDArray[np.float32]:
    """Return the ink with thin strokes thickened and thick strokes thinned to MNIST's width.

    Args:
        ink: (h, w) float32 in [0, 1].
        width: its stroke width, in pixels of the 20-pixel box.
    """
    factor = WORKBENCH / max(ink.shape)
    size = tuple(max(1, round(length * factor)) for length in ink.shape[::-1])
    ink = cv2.resize(ink, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    ink = np.clip(ink * (1 / max(float(ink.max()), 0.05)), 0, 1)
    pixels = WORKBENCH / BOX
    if width < THINNEST:
        change = round((THINNEST + 0.3 - width) * pixels)
        margin = change // 2 + 1
        ink = cv2.copyMakeBorder(ink, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=0)
        ink = cv2.dilate(ink, _disc(change + 1))
    else:
        # Remove half of the excess only: a thick stroke has thin places, and a gap is worse than a blob.
        change = round(min(width - THICKEST, 4.0) * pixels * 0.5)
        if change >= 1:
            thinner = cv2.erode(
                ink, _disc(change + 1), borderType=cv2.BORDER_CONSTANT, borderValue=0
            )
            if float(thinner.max(initial=0.0)) > 0.5:
                ink = thinner
    peak = float(ink.max(initial=0.0))
    if peak < 0.02:
        return ink
    return _contrasted(ink[_extent(ink, peak)], peak)


def _disc(diameter: int) -> npt.NDArray[np.uint8]:
    disc: npt.NDArray[np.uint8] = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
    return disc
