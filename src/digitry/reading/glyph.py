"""Pieces of ink to glyphs: THE normalisation. Training puts its pictures through this same code.

MNIST was made so (LeCun et al. 1998, yann.lecun.com/exdb/mnist): the digit is scaled, its proportions
kept, into a box of 20x20 pixels, with anti-aliasing, and laid into 28x28 so that its centre of mass is
in the middle. To that we add what photographs need: full contrast, and a stroke width within the range
that MNIST has, because a hairline vanishes at this size and a marker closes its loops.

Whatever changes the pixels that come out must raise `artifact.GLYPH_VERSION`.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

SIZE = 28
BOX = 20
CENTRE = 14.0

# In pixels of the 20-pixel box. MNIST's own strokes are mostly 2 to 4 wide there.
THINNEST = 1.9
THICKEST = 4.2
SHADE = 0.4
"""How dark the ink of touching neighbours is shown: told from a digit's own, and still seen."""

Surroundings = tuple[npt.NDArray[np.float32], int, int]
"""(h, w) float32 in [0, 1], and the column and row of the piece's own corner in it."""

# Stroke widths are changed at about this size, where one pixel is a fine enough step.
WORKBENCH = 72

THICKEST_DISC = 8
"""Surroundings that want a larger disc are scaled down first: a disc costs the square of its width."""


def normalise(
    pieces: Sequence[npt.NDArray[np.float32]],
    surroundings: Sequence[Surroundings | None] | None = None,
) -> npt.NDArray[np.float32]:
    """Scale, centre and even out pieces of ink the way MNIST was made.

    Args:
        pieces: each (h, w) float32 in [0, 1], ink = 1: one digit and nothing else.
        surroundings: of each piece that was cut out of touching digits, what it was cut out of. It is
            shown around the piece in a paler grey: where a stroke goes on beyond the cut, the piece is
            half a digit, and what it lacks can be seen.

    Returns:
        (len(pieces), 28, 28) float32 in [0, 1], ink = 1, centre of mass at (14, 14). A piece without
        ink gives an empty glyph.
    """
    glyphs = np.zeros((len(pieces), SIZE, SIZE), np.float32)
    for index, piece in enumerate(pieces):
        around = None if surroundings is None else surroundings[index]
        _normalise(piece, glyphs[index], around)
    return glyphs


def stroke_width(ink: npt.NDArray[np.float32]) -> float:
    """Estimate the mean width of the strokes: twice the area over the length of the outline.

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
    # Edges between ink and paper, counted along both axes. An outline at a random angle crosses 4/pi
    # times as many pixel edges as it is long.
    crossings = int(np.count_nonzero(padded[1:] != padded[:-1])) + int(
        np.count_nonzero(padded[:, 1:] != padded[:, :-1])
    )
    return 2 * area / (crossings * np.pi / 4)


def percentile(values: npt.NDArray[np.float32], share: float) -> float:
    """Return what `np.percentile` gives, linearly interpolated, in a tenth of its time.

    Args:
        values: (n,), any order.
        share: in [0, 100].

    Returns:
        1 where there are no values.
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
    # Scale and centre in two steps: averaging keeps thin strokes, then a shift by a part of a pixel.
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
    # Whole pixels, as MNIST: a shift by half a pixel would blur every stroke. A lopsided digit must
    # not be pushed over the edge by its own centre of mass.
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
    """Return the rows and columns that hold the ink."""
    strong = piece > 0.25 * peak
    rows, columns = np.flatnonzero(strong.any(axis=1)), np.flatnonzero(strong.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _contrasted(ink: npt.NDArray[np.float32], peak: float) -> tuple[npt.NDArray[np.float32], float]:
    """Stretch to full contrast; give also what counts as full ink."""
    level = percentile(ink[ink > 0.4 * peak], 75)
    result: npt.NDArray[np.float32] = np.clip(ink * (1 / level), 0, 1, dtype=np.float32)
    return result, level


def _with_stroke(ink: npt.NDArray[np.float32], width: float) -> npt.NDArray[np.float32]:
    """Thicken hairlines, thin out markers, until the strokes are as wide as MNIST's.

    Args:
        ink: (h, w) float32 in [0, 1].
        width: of its strokes now, in pixels of the 20-pixel box.
    """
    factor = WORKBENCH / max(ink.shape)
    size = tuple(max(1, round(length * factor)) for length in ink.shape[::-1])
    ink = cv2.resize(ink, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    ink = np.clip(ink * (1 / max(float(ink.max()), 0.05)), 0, 1)
    # Averaging a hairline leaves grey; what counts from here on is its course.
    pixels = WORKBENCH / BOX
    if width < THINNEST:
        change = round((THINNEST + 0.3 - width) * pixels)
        margin = change // 2 + 1
        ink = cv2.copyMakeBorder(ink, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=0)
        ink = cv2.dilate(ink, _disc(change + 1))
    else:
        # Half of what is too much: a thick stroke has thin places, and a gap is worse than a blot.
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
    """Show a canvas in the frame of a glyph.

    Args:
        canvas: (h, w) float32.
        scale: pixels of the glyph for one of the canvas.
        centre: the point of the canvas, x and y, that lies at `place` in the glyph.
        place: x and y in the glyph.
        thicker: by how many pixels of the glyph its strokes are thickened.

    Returns:
        (28, 28) float32 in [0, 1].
    """
    # Only what the frame shows, and a little more: a cluster may be a hundred frames long.
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
        # Averaged down first: the affine map below only looks at four pixels.
        rows, columns = (max(1, round(length * scale)) for length in canvas.shape)
        centre = (centre[0] * columns / canvas.shape[1], centre[1] * rows / canvas.shape[0])
        canvas, scale = cv2.resize(canvas, (columns, rows), interpolation=cv2.INTER_AREA), 1.0
    # Pixel centres lie at halves: the point p of one picture is at p - 0.5 in its array.
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
