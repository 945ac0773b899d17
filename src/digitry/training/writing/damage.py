"""Small pictures of digits in a bad state, for the glyph model to learn from; seeded.

Shaken, out of focus, grainy, hazy, dirty, written across, cut by shadows: on the 28x28 pixels of MNIST
itself, where the scenes of `glyphs` have the size of photos. `corruptions` measures the same kinds of harm
and shares no code with this: what is measured is drawn by other rules than what was learnt.
"""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
"""(28, 28) in [0, 1], ink = 1."""
Random = np.random.Generator

SIZE = 28


def spoilt(digit: npt.NDArray[np.uint8], rng: Random) -> tuple[Floats, Floats]:
    """Spoil the picture of a digit in one way, or in two.

    Args:
        digit: (28, 28) uint8, ink = 255.
        rng: source of all randomness.

    Returns:
        The spoilt picture, and the digit as it stands in it, which may have been moved.
    """
    clean: Floats = digit.astype(np.float32) / np.float32(255)
    if rng.random() < 0.3:
        clean = _moved(clean, rng)
        if rng.random() < 0.5:
            return clean, clean
    picture = clean
    first, second = rng.choice(len(_HARMS), 2, replace=False, p=_SHARES)
    for harm in (first, second) if rng.random() < 0.2 else (first,):
        picture = np.clip(_HARMS[harm](picture, rng), 0, 1).astype(np.float32)
    return picture, clean


def nothing(rng: Random) -> Floats:
    """Spoil an empty picture: lines, spots, haze and bands around no digit, with grain or without."""
    picture = np.zeros((SIZE, SIZE), np.float32)
    # First what is no upright stroke by itself; a band alone would be one, and so a 1.
    harms = [(_hazy, _crossed, _dirty)[rng.integers(3)]]
    if rng.random() < 0.7:
        harms.append((_grainy, _banded, _crossed, _dirty)[rng.integers(4)])
    for harm in harms:
        picture = np.clip(harm(picture, rng), 0, 1).astype(np.float32)
    return picture


def _moved(ink: Floats, rng: Random) -> Floats:
    """Turn, lean, shrink and shift, further than hands do."""
    angle = np.deg2rad(np.clip(rng.normal(0, 25), -60, 60))
    lean = np.clip(rng.normal(0, 0.4), -1.1, 1.1)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = rng.uniform(0.5, 1.05) * turn @ np.array([[1, lean], [0, 1]])
    shift = rng.uniform(-5, 5, 2)
    offset = (SIZE - 1) / 2 + shift - matrix @ np.full(2, (SIZE - 1) / 2)
    moved: Floats = cv2.warpAffine(ink, np.hstack((matrix, offset[:, None])), (SIZE, SIZE))
    return moved


# --- harms: each takes a picture and gives another, about in [0, 1] ----------------------------------


def _shaken(ink: Floats, rng: Random) -> Floats:
    """Draw the picture along a path, fading or not, to one side or to both."""
    length = rng.uniform(2, 16)
    angle = rng.uniform(-np.pi, np.pi)
    steps = np.linspace(0 if rng.random() < 0.7 else -length, length, 24)
    weights = np.exp(-np.abs(steps) / length * rng.uniform(0, 2.5))
    side = 2 * int(np.ceil(length)) + 3
    path = np.zeros((side, side), np.float32)
    for step, weight in zip(steps, weights, strict=True):
        x, y = side // 2 + step * np.cos(angle), side // 2 + step * np.sin(angle)
        left, top = int(x), int(y)
        across, down = x - left, y - top
        path[top : top + 2, left : left + 2] += weight * np.outer(
            [1 - down, down], [1 - across, across]
        )
    shaken: Floats = cv2.filter2D(ink, -1, path / path.sum(), borderType=cv2.BORDER_CONSTANT)
    return shaken


def _frosted(ink: Floats, rng: Random) -> Floats:
    """Look through rough glass: each pixel comes from somewhere near, and all is out of focus."""
    spread = rng.uniform(0, 2.3)
    rows, columns = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    fields = rng.normal(0, max(spread, 0.01), (2, SIZE, SIZE)).astype(np.float32)
    through = cv2.remap(ink, columns + fields[0], rows + fields[1], cv2.INTER_NEAREST)
    blurred: Floats = cv2.GaussianBlur(through, (0, 0), rng.uniform(0.5, 2.2))
    return blurred


def _grainy(ink: Floats, rng: Random) -> Floats:
    """Add the noise of a sensor, of few photons, or dead and hot pixels."""
    kind = rng.integers(3)
    if kind == 0:
        return np.asarray(ink + rng.normal(0, rng.uniform(0.03, 0.4), ink.shape), np.float32)
    if kind == 1:
        return np.asarray(ink * (1 + rng.normal(0, rng.uniform(0.1, 0.7), ink.shape)), np.float32)
    share = rng.uniform(0.01, 0.32)
    hot = rng.random(ink.shape) < rng.uniform(0.3, 0.7)
    return np.where(rng.random(ink.shape) < share, hot, ink).astype(np.float32)


def _hazy(ink: Floats, rng: Random) -> Floats:
    """Lighten all of it, evenly or in clouds, or leave little contrast."""
    kind = rng.integers(3)
    if kind == 0:
        return np.asarray(ink + np.float32(rng.uniform(0, 0.55)), np.float32)
    if kind == 1:
        low = rng.uniform(0, 0.6)
        return np.asarray(low + rng.uniform(0.25, 1) * (1 - low) * ink, np.float32)
    clouds = np.zeros((SIZE, SIZE), np.float32)
    fall = rng.uniform(0.35, 0.75)
    for octave, knots in enumerate((2, 3, 5, 9, 17)):
        field = rng.random((knots, knots)).astype(np.float32)
        clouds += fall**octave * cv2.resize(field, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    clouds -= clouds.min()
    thick = rng.uniform(0.5, 3.5)
    return np.asarray((ink + thick * clouds / max(clouds.max(), 1e-6)) / (1 + thick), np.float32)


def _crossed(ink: Floats, rng: Random) -> Floats:
    """Draw up to six lines across: straight ones, waves, zigzags; whole, dashed or dotted."""
    crossed = ink.copy()
    for _ in range(int(rng.integers(1, 7))):
        x = np.linspace(-2, SIZE + 2, 120)
        slope, height = rng.normal(0, 0.4), rng.uniform(0, SIZE)
        kind = rng.integers(3)
        swing, period = rng.uniform(0.8, 3.5), rng.uniform(4, 12)
        phase = (x / period + rng.random()) % 1
        wave = np.zeros_like(x) if kind == 0 else np.sin(2 * np.pi * phase)
        if kind == 2:
            wave = 4 * np.abs(phase - 0.5) - 1
        y = height + slope * (x - SIZE / 2) + swing * wave
        # Eighths of a pixel, for lines that are thinner than one.
        points = np.rint(8 * np.stack([x, y], 1)).astype(np.int32)
        line = np.zeros((SIZE * 4, SIZE * 4), np.uint8)
        thick = int(rng.integers(3, 9))
        cv2.polylines(line, [points], False, 255, thick, cv2.LINE_AA, 1)
        small = cv2.resize(line, (SIZE, SIZE), interpolation=cv2.INTER_AREA) / np.float32(255)
        if rng.random() < 0.5:
            beat, share = rng.uniform(2.5, 8), rng.uniform(0.35, 0.7)
            small = small * ((np.arange(SIZE) / beat + rng.random()) % 1 < share)
        crossed = np.maximum(crossed, np.float32(rng.uniform(0.5, 1)) * small)
    return crossed


def _banded(ink: Floats, rng: Random) -> Floats:
    """Turn dark and light around in bands along the edges, as hard shadows and table edges do."""
    banded = ink.copy()
    light = np.float32(rng.uniform(0.6, 1))
    # Quarter turns to each edge; quite often two that lie opposite.
    edges = rng.permutation(4)[: rng.integers(1, 4)] if rng.random() < 0.65 else (0, 2)
    for edge in edges:
        turned = np.rot90(banded, edge)
        width = int(rng.integers(2, 9))
        turned[:, :width] = np.abs(light - turned[:, :width])
    return banded


def _dirty(ink: Floats, rng: Random) -> Floats:
    """Throw spots on it, grey or as dark as ink, soft or sharp."""
    spots = cv2.GaussianBlur(
        rng.normal(0, 1, (SIZE, SIZE)).astype(np.float32), (0, 0), rng.uniform(0.7, 4)
    )
    spots = (spots > np.quantile(spots, rng.uniform(0.6, 0.97))).astype(np.float32)
    if rng.random() < 0.7:
        spots = cv2.GaussianBlur(spots, (0, 0), rng.uniform(0.3, 1.2))
    return np.asarray(ink * (1 - spots) + np.float32(rng.uniform(0.1, 0.8)) * spots, np.float32)


def _hollow(ink: Floats, rng: Random) -> Floats:
    """Leave the outlines, and some of what they enclose."""
    large = cv2.resize(ink, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    body = (large > rng.uniform(0.25, 0.6)).astype(np.uint8)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    grown = cv2.dilate(body, disc, iterations=int(rng.integers(0, 3)))
    rim = grown - cv2.erode(grown, disc, iterations=int(rng.integers(1, 3)))
    small = cv2.resize(rim.astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    small = np.clip(small * np.float32(rng.uniform(1, 2)), 0, 1)
    inside = np.float32(rng.uniform(0, 0.8) * (rng.random() < 0.6))
    return np.asarray(np.maximum(small, inside * ink), np.float32)


_HARMS: tuple[Callable[[Floats, Random], Floats], ...] = (
    _shaken, _frosted, _grainy, _hazy, _crossed, _banded, _dirty, _hollow,
)  # fmt: skip
_SHARES = (0.16, 0.14, 0.14, 0.12, 0.18, 0.1, 0.08, 0.08)
