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

SIZE = 28
BOX = 20
CENTRE = 14.0

# Stroke widths in pixels of the 20-pixel box. MNIST's strokes are mostly 2 to 4 wide.
THINNEST = 1.9
THICKEST = 4.2
SHADE = 0.4
"""Darkness of the ink of touching neighbours: visible, but different from the digit's own ink."""

Surroundings = tuple[npt.NDArray[np.float32], int, int]
"""(h, w) float32 in [0, 1], and the column and row of the piece's top left corner in it."""

# Size in pixels at which stroke widths are changed: one pixel is a small enough step.
WORKBENCH = 72

THICKEST_DISC = 8
"""Surroundings that want a larger disc are scaled down first: a disc costs the square of its width."""


def normalise(
    pieces: Sequence[npt.NDArray[np.float32]],
    surroundings: Sequence[Surroundings | None] | None = None,
) -> npt.NDArray[np.float32]:
    """Return pieces of ink as glyphs, normalised like MNIST.

    Args:
        pieces: each (h, w) float32 in [0, 1], ink = 1, with exactly one digit.
        surroundings: for a piece that was cut out of touching digits, the ink it was cut from. It is
            drawn around the piece in light grey, so that the model sees strokes that continue beyond
            the cut.

    Returns:
        (len(pieces), 28, 28) float32 in [0, 1], ink = 1, centre of mass at (14, 14). A piece without
        ink becomes an empty glyph.
    """
    glyphs = np.zeros((len(pieces), SIZE, SIZE), np.float32)
    for index, piece in enumerate(pieces):
        around = None if surroundings is None else surroundings[index]
        _normalise(piece, glyphs[index], around)
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


def percentile(values: npt.NDArray[np.float32], share: float) -> float:
    """Return the same as `np.percentile` with linear interpolation, in a tenth of its time.

    Args:
        values: (n,), in any order.
        share: in [0, 100].

    Returns:
        The percentile; 1 without values.
    """
    if values.size == 0:
        return 1.0
    place = (values.size - 1) * share / 100
    low = int(place)
    high = min(low + 1, values.size - 1)
    parted = np.partition(values, (low, high))
    return float(parted[low] + (parted[high] - parted[low]) * (place - low))


def _normalise(
    piece: npt.NDArray[np.float32],
    glyph: npt.NDArray[np.float32],
    around: Surroundings | None,
) -> None:
    peak = float(piece.max(initial=0.0))
    if peak < 0.02:
        return
    down, across = _extent(piece, peak)
    ink, level = _contrasted(piece[down, across], peak)
    original = max(ink.shape)
    width = stroke_width(ink) * BOX / original
    if not THINNEST <= width <= THICKEST:
        ink = _with_stroke(ink, width)
        zoom = WORKBENCH / original
    else:
        zoom = 1.0
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
    if around is not None:
        canvas, x_corner, y_corner = around
        centre = (
            x_corner + (across.start + across.stop) / 2,
            y_corner + (down.start + down.stop) / 2,
        )
        seen = _seen(
            canvas * (1 / level),
            scale=factor * zoom,
            centre=centre,
            place=(left + columns / 2, top + rows / 2),
            thicker=max(0.0, THINNEST + 0.3 - width) if width < THINNEST else 0.0,
        )
        np.maximum(glyph, SHADE * seen, out=glyph)


def _extent(piece: npt.NDArray[np.float32], peak: float) -> tuple[slice, slice]:
    """Return the rows and columns that contain the ink."""
    strong = piece > 0.25 * peak
    rows, columns = np.flatnonzero(strong.any(axis=1)), np.flatnonzero(strong.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _contrasted(ink: npt.NDArray[np.float32], peak: float) -> tuple[npt.NDArray[np.float32], float]:
    """Return the ink at full contrast, and the level that counts as full ink."""
    level = percentile(ink[ink > 0.4 * peak], 75)
    result: npt.NDArray[np.float32] = np.clip(ink * (1 / level), 0, 1, dtype=np.float32)
    return result, level


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
    return _contrasted(ink[_extent(ink, peak)], peak)[0]


def _seen(
    canvas: npt.NDArray[np.float32],
    *,
    scale: float,
    centre: tuple[float, float],
    place: tuple[float, float],
    thicker: float,
) -> npt.NDArray[np.float32]:
    """Return the part of a canvas that is visible in a glyph.

    Args:
        canvas: (h, w) float32.
        scale: glyph pixels per canvas pixel.
        centre: (x, y) in the canvas that is drawn at `place`.
        place: (x, y) in the glyph.
        thicker: glyph pixels by which strokes are thickened.

    Returns:
        (28, 28) float32 in [0, 1].
    """
    # Crop to the visible part plus a margin: a cluster may be a hundred times as long.
    reach = SIZE / scale + 2
    x, y = max(0, int(centre[0] - reach)), max(0, int(centre[1] - reach))
    canvas = canvas[y : int(centre[1] + reach) + 1, x : int(centre[0] + reach) + 1]
    centre = (centre[0] - x, centre[1] - y)
    change = round(thicker / scale)
    if change > THICKEST_DISC:
        less = THICKEST_DISC / change
        rows, columns = (max(1, round(length * less)) for length in canvas.shape)
        centre = (centre[0] * columns / canvas.shape[1], centre[1] * rows / canvas.shape[0])
        canvas = cv2.resize(canvas, (columns, rows), interpolation=cv2.INTER_AREA)
        scale, change = scale / less, THICKEST_DISC
    if change >= 1:
        canvas = cv2.dilate(canvas, _disc(change + 1))
    if scale < 0.6:
        # Reduce by averaging first: the affine map below interpolates between four pixels only.
        rows, columns = (max(1, round(length * scale)) for length in canvas.shape)
        centre = (centre[0] * columns / canvas.shape[1], centre[1] * rows / canvas.shape[0])
        canvas, scale = cv2.resize(canvas, (columns, rows), interpolation=cv2.INTER_AREA), 1.0
    # Pixel centres are at halves: the point p of an image is at p - 0.5 in its array.
    affine = np.array(
        [
            [scale, 0, place[0] - 0.5 - scale * (centre[0] - 0.5)],
            [0, scale, place[1] - 0.5 - scale * (centre[1] - 0.5)],
        ]
    )
    seen = cv2.warpAffine(canvas, affine, (SIZE, SIZE), flags=cv2.INTER_LINEAR)
    result: npt.NDArray[np.float32] = np.clip(seen, 0, 1)
    return result


def _disc(diameter: int) -> npt.NDArray[np.uint8]:
    disc: npt.NDArray[np.uint8] = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
    return disc
