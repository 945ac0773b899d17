"""Handwriting drawn by code: digits, letters and signs as pen strokes, of our own hand.

A symbol is written in several hands (`shapes`). Curves run through their points as centripetal
Catmull-Rom splines (Catmull and Rom 1974; Yuksel et al. 2011), which neither overshoot nor form loops of
their own.

    strokes = wobble(strokes_of("7", 2), rng, 1.0)
    ink = draw(strokes, height_px=40, pen_px=3, rng=rng)

What is drawn here may be given away: no person's handwriting is in it.
"""

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from digitry.errors import UsageError
from digitry.training.writing import shapes

Stroke = NDArray[np.float64]
"""One line of the pen without lifting it: (k, 2) float64, x to the right and y down."""

DIGITS: tuple[str, ...] = tuple(shapes.DIGITS)
"""The digits, "0" to "9"."""

LETTERS: tuple[str, ...] = tuple(shapes.LETTERS)
"""Letters that nobody's hand makes a digit of."""

SYMBOLS: tuple[str, ...] = tuple(shapes.SYMBOLS)
"""Signs, doodles and bits of ruling, by name; `scribble` is another one for each hand."""

SMALL: frozenset[str] = frozenset(["comma", "dot", "exclamation", "parenthesis", "quotes", "slash"])
"""Symbols that only their size, place or lean tells from a 1; no examples of shapes to refuse."""

_HANDS = {**shapes.DIGITS, **shapes.LETTERS, **shapes.SYMBOLS}
_SCRIBBLES = 64

_STEP = 0.02
"""Distance of points along a stroke, in heights of the symbol."""


def hands_of(symbol: str) -> int:
    """Return the number of hands in which `symbol` can be written.

    Raises:
        UsageError: it is no name in `DIGITS`, `LETTERS` or `SYMBOLS`.
    """
    if symbol not in _HANDS:
        raise UsageError(
            f"no strokes are known for {symbol!r}", remedy="see DIGITS, LETTERS and SYMBOLS"
        )
    return len(_HANDS[symbol]) or _SCRIBBLES


def pick_hand(symbol: str, rng: np.random.Generator) -> int:
    """Choose a hand for `symbol` at random, the rare ones rarely.

    Raises:
        UsageError: the symbol is unknown.
    """
    weights = np.array([shapes.RARE.get((symbol, hand), 1.0) for hand in range(hands_of(symbol))])
    return int(rng.choice(len(weights), p=weights / weights.sum()))


@cache
def strokes_of(symbol: str, hand: int) -> tuple[Stroke, ...]:
    """Return the strokes of a symbol in one hand, as it stands in the copybook.

    Args:
        symbol: a name in `DIGITS`, `LETTERS` or `SYMBOLS`.
        hand: which of its `hands_of(symbol)` forms, from 0; it wraps around.

    Returns:
        (k, 2) float64 each, points about 0.02 apart, x to the right and y down; the symbol's line
        of writing is y in [0, 1], and x lies in [0, 1] about 0.5. The arrays are read-only.

    Raises:
        UsageError: the symbol is unknown.
    """
    hand %= hands_of(symbol)
    if symbol == "scribble":
        return (_scribble(hand),)
    return tuple(_parse(stroke) for stroke in _HANDS[symbol][hand].split(" / "))


def wobble(
    strokes: Sequence[Stroke], rng: np.random.Generator, amount: float = 1.0
) -> tuple[Stroke, ...]:
    """Write the strokes as a person would this time: leaning, stretched, bent and a little shaky.

    The whole is sheared, turned, stretched and bent by one smooth field, so that strokes which meet
    still meet; then each is displaced and shaken by itself, so that they meet as badly as people's.

    Args:
        strokes: (k, 2) each, as `strokes_of` gives them.
        rng: source of all randomness.
        amount: 0 = none, 1 = a natural hand, 2 = a bad one.

    Returns:
        as many strokes of as many points; they may leave the unit box a little.
    """
    # Cut at two deviations: beyond them a 1 becomes a slash, and a 0 a dash.
    lean, tilt, breadth = np.clip(rng.standard_normal(3), -2, 2) * amount
    slant, angle, wide = 0.06 * amount + 0.14 * lean, 0.06 * tilt, np.exp(0.14 * breadth)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    affine = turn @ np.array([[wide, -slant], [0.0, 1.0]])
    # A field of two slow waves: half a wave to a wave over the symbol.
    waves = rng.uniform(0.5, 1.1, (2, 2)) * 2 * np.pi * rng.choice([-1, 1], (2, 2))
    phases = rng.uniform(0, 2 * np.pi, 2)
    reach = rng.normal(0, 0.022, (2, 2)) * amount
    result = []
    for stroke in strokes:
        centred = (np.asarray(stroke, float) - 0.5) @ affine.T + 0.5
        bent = centred + np.sin(centred @ waves.T + phases) @ reach
        length = max(_length(bent), 1e-3)
        # The hand's drift has about one knot for each 0.3 heights; a short stroke drifts less.
        knots = max(3, int(length / 0.3) + 2)
        drift = _smooth(rng.normal(0, 0.012, (knots, 2)), len(bent)) * min(1.0, length / 0.4)
        shift = rng.normal(0, 0.012, 2)
        result.append(bent + (drift + shift) * amount)
    return tuple(result)


def draw(
    strokes: Sequence[Stroke],
    height_px: float,
    pen_px: float,
    rng: np.random.Generator,
    *,
    pressure: float = 0.25,
    taper: float = 0.35,
    grain: float = 0.0,
) -> NDArray[np.float32]:
    """Draw strokes as ink, cut close to it.

    Args:
        strokes: (k, 2) each, in heights of the symbol, as `strokes_of` and `wobble` give them.
        height_px: height of the unit box, in pixels.
        pen_px: mean width of the pen, in pixels.
        rng: source of all randomness.
        pressure: how much the width varies along a stroke, as a share of it.
        taper: how much thinner the ends of a stroke are, in [0, 1).
        grain: how much of the paper's grain shows in the ink, in [0, 1]: 0 for a marker, 0.2 for a
            ballpoint, 0.6 for a pencil.

    Returns:
        (h, w) float32 in [0, 1], ink = 1, antialiased, with an empty border of one pixel or more.
    """
    pixels = [np.asarray(stroke, float) * height_px for stroke in strokes]
    margin = pen_px * (0.5 + pressure) + 2
    low = np.min([stroke.min(0) for stroke in pixels], axis=0) - margin
    high = np.max([stroke.max(0) for stroke in pixels], axis=0) + margin
    width, height = np.ceil(high - low).astype(int)
    return trace(
        [stroke - low for stroke in pixels],
        (int(height), int(width)),
        pen_px,
        rng,
        pressure=pressure,
        taper=taper,
        grain=grain,
    )


def trace(
    strokes: Sequence[Stroke],
    shape: tuple[int, int],
    pen_px: float,
    rng: np.random.Generator,
    *,
    pressure: float,
    taper: float,
    grain: float,
) -> NDArray[np.float32]:
    """Draw strokes whose points are pixels onto an empty sheet.

    Args:
        strokes: (k, 2) each, x and y in pixels; (0, 0) is the corner of the first pixel.
        shape: rows and columns of the sheet, in pixels.
        pen_px, rng, pressure, taper, grain: as for `draw`.

    Returns:
        `shape` float32 in [0, 1], ink = 1.
    """
    # Drawn large and averaged: OpenCV's lines have whole widths and coarse antialiasing.
    scale = int(np.clip(np.ceil(24 / max(pen_px, 0.5)), 2, 10))
    sheet = np.zeros((shape[0] * scale, shape[1] * scale), np.uint8)
    for stroke in strokes:
        widths = _widths(stroke, pen_px, rng, pressure, taper) * scale
        points = np.rint((stroke * scale - 0.5) * 16).astype(int).tolist()
        # `cv2.line` fills one pixel more than an even thickness, and two more than an odd one.
        thickness = np.maximum(1, 2 * np.rint((widths - 1) / 2)).astype(int).tolist()
        for start, end, thick in zip(points, points[1:], thickness, strict=False):
            cv2.line(sheet, start, end, 255, thick, cv2.LINE_8, 4)
    ink = cv2.resize(sheet, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    result: NDArray[np.float32] = ink.astype(np.float32) / 255
    if grain > 0:
        # The grain of paper does not shrink with the picture alone: a wide pen is seen from near.
        sigma = 0.5 + pen_px / 16
        noise = cv2.GaussianBlur(rng.standard_normal(shape, dtype=np.float32), (0, 0), sigma)
        result *= np.clip(1 - grain * (0.3 + 1.6 * sigma * noise), 0, 1)
    return result


def _widths(
    stroke: Stroke, pen_px: float, rng: np.random.Generator, pressure: float, taper: float
) -> NDArray[np.float64]:
    """Width of the pen at each point: slow swells, and thinner where it lands and leaves."""
    steps = np.hypot(*np.diff(stroke, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    swells = _smooth(rng.normal(0, 0.5, max(3, int(along[-1] / (8 * pen_px + 1)) + 2)), len(stroke))
    reach = 2.0 * pen_px + 1e-6
    # The pen leaves faster than it lands; a short stroke has no room to thin out.
    room = min(1.0, along[-1] / (4 * reach))
    ends = 0.5 * np.exp(-along / reach) + np.exp(-(along[-1] - along) / reach)
    thinned = 1 - taper * room * np.minimum(ends, 1)
    return np.asarray(pen_px * (1 + pressure * np.clip(swells, -1, 1)) * thinned)


def _smooth(knots: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Spread knots over `count` places, joined by cosines: no corner where there was none."""
    place = np.linspace(0, len(knots) - 1, count)
    left = np.minimum(place.astype(int), len(knots) - 2)
    share = (1 - np.cos(np.pi * (place - left))) / 2
    if knots.ndim == 2:
        share = share[:, None]
    return np.asarray(knots[left] * (1 - share) + knots[left + 1] * share)


def _parse(text: str) -> Stroke:
    """Turn control points into a polyline; the curve runs anew from each corner."""
    pieces: list[list[list[float]]] = [[]]
    for word in text.split():
        point = [float(part) / 100 for part in word.rstrip("*").split(",")]
        pieces[-1].append(point)
        if word.endswith("*"):
            pieces.append([point])
    curves = [_spline(np.array(piece)) for piece in pieces if len(piece) > 1]
    stroke = np.concatenate([curves[0], *(curve[1:] for curve in curves[1:])])
    stroke.flags.writeable = False
    return stroke


def _spline(points: Stroke) -> Stroke:
    """Return a centripetal Catmull-Rom curve through the points, by Barry and Goldman's recursion."""
    if len(points) == 2:
        count = max(2, int(_length(points) / _STEP) + 1)
        return np.linspace(points[0], points[1], count)
    # The neighbour beyond each end goes on in a parabola, lest the curve go slack there.
    before = 2 * points[0] - points[1] + 0.5 * (points[2] - 2 * points[1] + points[0])
    after = 2 * points[-1] - points[-2] + 0.5 * (points[-3] - 2 * points[-2] + points[-1])
    padded = np.concatenate([[before], points, [after]])
    knots = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(padded, axis=0).T) ** 0.5)])
    curve = [points[:1]]
    for i in range(1, len(padded) - 2):
        p, t = padded[i - 1 : i + 3], knots[i - 1 : i + 3]
        count = max(2, int(np.hypot(*(p[2] - p[1])) / _STEP) + 1)
        at = np.linspace(t[1], t[2], count)[1:, None]

        def blend(a: Stroke, b: Stroke, low: float, high: float, at: Stroke = at) -> Stroke:
            return ((high - at) * a + (at - low) * b) / (high - low)

        first, second, third = (blend(p[k], p[k + 1], t[k], t[k + 1]) for k in range(3))
        fourth, fifth = blend(first, second, t[0], t[2]), blend(second, third, t[1], t[3])
        curve.append(blend(fourth, fifth, t[1], t[2]))
    return np.concatenate(curve)


def _scribble(hand: int) -> Stroke:
    """A pen let loose: another one for each hand, always the same for one."""
    rng = np.random.default_rng([7, hand])
    # It swings about a centre that drifts to one side: tangles, coils, and struck-out words.
    count = int(rng.integers(8, 22))
    drift = np.linspace(0, 1, count)[:, None] * rng.normal(0, 1.2, 2)
    points = rng.uniform(-1, 1, (count, 2)) * rng.uniform(0.35, 1, 2) + drift
    stroke = _spline(points / np.ptp(points, axis=0).max())
    # The curve bulges beyond its points, so it is fitted into the box only now.
    low, high = stroke.min(0), stroke.max(0)
    fitted = np.asarray(0.5 + (stroke - (low + high) / 2) / (high - low).max())
    fitted.flags.writeable = False
    return fitted


def _length(stroke: Stroke) -> float:
    return float(np.hypot(*np.diff(stroke, axis=0).T).sum())
