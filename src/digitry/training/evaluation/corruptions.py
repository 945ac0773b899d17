"""Fifteen corruptions of test digits at five severities each, to measure robustness.

They follow MNIST-C (Mu & Gilmer 2019, "MNIST-C: A Robustness Benchmark for Computer Vision",
arxiv.org/abs/1906.02337) and use its settings where it states them: eleven of its corruptions have five
severities. The other four have one; here it is the highest (stripe, canny_edges) or the lowest
(dotted_line, zigzag) of five. The implementation is our own, with NumPy and OpenCV, so results are
close but not equal to those on MNIST-C's files.

The same seed gives the same images, and the first images do not depend on the number of images.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from digitry.errors import UsageError

Glyphs = npt.NDArray[np.float32]
"""(n, 28, 28) in [0, 1], ink = 1."""
Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.float64]

SIZE = 28
SEVERITIES = (1, 2, 3, 4, 5)
BLOCK = 500
"""Number of images that share a stream of random numbers."""

PUBLISHED = {
    "shot_noise": 5,
    "impulse_noise": 4,
    "glass_blur": 1,
    "motion_blur": 1,
    "shear": 2,
    "scale": 3,
    "rotate": 2,
    "brightness": 5,
    "translate": 3,
    "stripe": 5,
    "fog": 5,
    "spatter": 4,
    "dotted_line": 1,
    "zigzag": 1,
    "canny_edges": 5,
}
"""The severity of each corruption in the published MNIST-C files."""

CORRUPTIONS = tuple(PUBLISHED)
"""The names of the corruptions, in the order of MNIST-C."""


def corrupt(images: Bytes, name: str, severity: int, seed: int = 0) -> Bytes:
    """Return corrupted images of digits.

    Args:
        images: (n, 28, 28) uint8, ink = 255.
        name: one of `CORRUPTIONS`.
        severity: 1 to 5.
        seed: seed of all random choices.

    Returns:
        (n, 28, 28) uint8, ink = 255.

    Raises:
        UsageError: there is no such corruption or severity, or the images have another shape.
    """
    if name not in _FUNCTIONS:
        raise UsageError(
            f"no corruption is called {name!r}", remedy=f"choose from: {', '.join(CORRUPTIONS)}"
        )
    if severity not in SEVERITIES:
        raise UsageError(f"there is no severity {severity}", where=name, remedy="give 1 to 5")
    if images.ndim != 3 or images.shape[1:] != (SIZE, SIZE) or images.dtype != np.uint8:
        raise UsageError(
            f"images are {images.dtype} of the shape {images.shape}",
            where=name,
            remedy="give (n, 28, 28) uint8",
        )
    corrupted = np.empty_like(images)
    for start in range(0, len(images), BLOCK):
        part = images[start : start + BLOCK].astype(np.float32) / np.float32(255)
        chance = _Chance([seed, CORRUPTIONS.index(name), severity, start], len(part))
        ink = _FUNCTIONS[name](part, severity - 1, chance)
        corrupted[start : start + BLOCK] = np.rint(255 * np.clip(ink, 0, 1)).astype(np.uint8)
    return corrupted


class _Chance:
    """Random numbers for the first `count` images of a block.

    Each method draws for a whole block and returns the first `count`, so that an image's numbers do not
    depend on the number of images.
    """

    def __init__(self, seed: Sequence[int], count: int) -> None:
        self.rng, self.count = np.random.default_rng(seed), count

    def uniform(self, low: float, high: float, *shape: int) -> Numbers:
        return self.rng.uniform(low, high, (BLOCK, *shape))[: self.count]

    def normal(self, mean: float, spread: float, *shape: int) -> Numbers:
        return self.rng.normal(mean, spread, (BLOCK, *shape))[: self.count]

    def integers(self, low: int, high: int, *shape: int) -> npt.NDArray[np.int64]:
        return self.rng.integers(low, high, (BLOCK, *shape))[: self.count]

    def signs(self) -> Numbers:
        return np.where(self.integers(0, 2) == 0, -1.0, 1.0)


# --- noise and blur -------------------------------------------------------------------------------


def _shot_noise(ink: Glyphs, level: int, chance: _Chance) -> Glyphs:
    """Add Poisson noise, stronger for fewer photons."""
    photons = (60, 25, 12, 5, 3)[level]
    # Image after image from one stream, so later images do not change earlier ones.
    return (chance.rng.poisson(ink * photons) / photons).astype(np.float32)


def _impulse_noise(ink: Glyphs, level: int, chance: _Chance) -> Glyphs:
    """Set a share of the pixels to black or white: salt and pepper."""
    share = (0.03, 0.06, 0.09, 0.17, 0.27)[level]
    lot = chance.uniform(0, 1, SIZE, SIZE)
    return np.where(lot < share / 2, 0, np.where(lot < share, 1, ink)).astype(np.float32)


def _glass_blur(ink: Glyphs, level: int, chance: _Chance) -> Glyphs:
    """Blur, swap neighbouring pixels, blur: frosted glass."""
    sigma, reach, rounds = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))[level]
    seen = _blurred(ink, sigma)
    every = np.arange(len(ink))
    # Each swap depends on earlier ones, so pixels are swapped one by one, but for all images at once.
    # Bounds as in MNIST-C.
    for _ in range(rounds):
        for y in range(SIZE - reach, reach, -1):
            for x in range(SIZE - reach, reach, -1):
                dy, dx = chance.integers(-reach, reach, 2).T
                stays = chance.integers(0, 2) == 0
                other = (every, np.where(stays, y, y + dy), np.where(stays, x, x + dx))
                mine = seen[:, y, x].copy()
                seen[:, y, x] = seen[other]
                seen[other] = mine
    return _blurred(seen, sigma)


def _motion_blur(ink: Glyphs, level: int, chance: _Chance) -> Glyphs:
    """Draw a trail behind each pixel, at up to 45 degrees: a moving camera."""
    radius, sigma = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))[level]
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    angle = np.radians(chance.uniform(-45, 45))
    # Whole pixels, rounded as ImageMagick does, whose blur MNIST-C uses.
    across = np.ceil(np.outer(steps, np.cos(angle)) - 0.5).astype(int)
    down = np.ceil(np.outer(steps, np.sin(angle)) - 0.5).astype(int)
    every = np.arange(len(ink))[:, None, None]
    rows, columns = np.arange(SIZE)[:, None], np.arange(SIZE)
    trail = np.zeros_like(ink)
    for weight, dx, dy in zip(weights.astype(np.float32), across, down, strict=True):
        y = np.clip(rows + dy[:, None, None], 0, SIZE - 1)
        x = np.clip(columns + dx[:, None, None], 0, SIZE - 1)
        trail += weight * ink[every, y, x]
    return trail


# --- geometry -------------------------------------------------------------------------------------


def _shear(ink: Glyphs, level: int, chance: _Chance) -> Glyphs:
    angle = chance.signs() * (0.2, 0.4, 0.6, 0.8, 1.0)[level]
    # As in MNIST-C, the sheared axis keeps its length, so the digit also becomes taller.
    return _warped(ink, xy=-np.sin(angle), yy=np.cos(angle))


def _scale(ink: Glyphs, level: int, chance: _Chance) -> Glyphs:
    factor = np.full(len(ink), 1 / (0.9, 0.8, 0.7, 0.6, 0.5)[level])
    return _warped(ink, xx=factor, yy=factor)


def _rotate(ink: Glyphs, level: int, chance: _Chance) -> Glyphs:
    angle = chance.signs() * (0.2, 0.4, 0.6, 0.8, 1.0)[level]
    cosine, sine = np.cos(angle), np.sin(angle)
    return _warped(ink, xx=cosine, xy=-sine, yx=sine, yy=cosine)


def _translate(ink: Glyphs, level: int, chance: _Chance) -> Glyphs:
    pixels = level + 1
    return _warped(ink, dx=pixels * chance.signs(), dy=pixels * chance.signs())


def _warped(
    ink: Glyphs,
    *,
    xx: Numbers | float = 1.0,
    xy: Numbers | float = 0.0,
    yx: Numbers | float = 0.0,
    yy: Numbers | float = 1.0,
    dx: Numbers | float = 0.0,
    dy: Numbers | float = 0.0,
) -> Glyphs:
    """Sample each pixel (x, y) at (xx x + xy y + dx, yx x + yy y + dy), relative to the centre."""
    middle = (SIZE - 1) / 2
    maps = np.zeros((len(ink), 2, 3))
    maps[:, 0, 0], maps[:, 0, 1], maps[:, 1, 0], maps[:, 1, 1] = xx, xy, yx, yy
    maps[:, 0, 2] = middle * (1 - maps[:, 0, 0] - maps[:, 0, 1]) + dx
    maps[:, 1, 2] = middle * (1 - maps[:, 1, 0] - maps[:, 1, 1]) + dy
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    pictures = [
        cv2.warpAffine(picture, one, (SIZE, SIZE), flags=how)
        for picture, one in zip(ink, maps, strict=True)
    ]
    return np.stack(pictures).astype(np.float32)


# --- light, dirt and strokes ----------------------------------------------------------------------


def _brightness(ink: Glyphs, level: int, chance: _Chance) -> Glyphs:
    return ink + np.float32((0.1, 0.2, 0.3, 0.4, 0.5)[level])


def _stripe(ink: Glyphs, level: int, chance: _Chance) -> Glyphs:
    """Invert a stripe along the left and the right edge."""
    width = (3, 4, 5, 6, 7)[level]
    striped = ink.copy()
    for edge in (slice(None, width), slice(SIZE - width, None)):
        striped[:, :, edge] = 1 - ink[:, :, edge]
    return striped


def _fog(ink: Glyphs, level: int, chance: _Chance) -> Glyphs:
    density, decay = ((1.5, 2), (2.0, 2), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))[level]
    whole = _plasma(4, decay, chance.rng)
    # The fog is periodic, so any crop of it can be used, and a few maps serve many images.
    which = chance.integers(0, len(whole), 1, 1)
    down, across = (chance.integers(0, whole.shape[1], 1, 1) for _ in range(2))
    y = (down + np.arange(SIZE)[:, None]) % whole.shape[1]
    x = (across + np.arange(SIZE)) % whole.shape[1]
    brightest = ink.max(axis=(1, 2), keepdims=True)
    foggy = (ink + density * whole[which, y, x]) * brightest / (brightest + density)
    return np.asarray(foggy, np.float32)


def _plasma(count: int, decay: float, rng: np.random.Generator, side: int = 256) -> Numbers:
    """Return height maps in [0, 1] by the diamond-square algorithm (Fournier, Fussell, Carpenter 1982)."""
    field = np.zeros((count, side, side))
    step, swing = side, 100.0

    def rough(total: Numbers) -> Numbers:
        # The mean of four neighbours plus noise; its amplitude is squared, as in MNIST-C.
        return total / 4 + swing**2 * rng.uniform(-1, 1, total.shape)

    while step >= 2:
        half = step // 2
        corners = field[:, ::step, ::step]
        beside = corners + np.roll(corners, -1, 1)
        field[:, half::step, half::step] = rough(beside + np.roll(beside, -1, 2))
        middles, corners = field[:, half::step, half::step], field[:, ::step, ::step]
        left_right = middles + np.roll(middles, 1, 1) + corners + np.roll(corners, -1, 2)
        field[:, ::step, half::step] = rough(left_right)
        above_below = middles + np.roll(middles, 1, 2) + corners + np.roll(corners, -1, 1)
        field[:, half::step, ::step] = rough(above_below)
        step, swing = half, swing / decay
    field -= field.min(axis=(1, 2), keepdims=True)
    return np.asarray(field / field.max(axis=(1, 2), keepdims=True))


def _spatter(ink: Glyphs, level: int, chance: _Chance) -> Glyphs:
    """Add spots of mud, a quarter as bright as ink."""
    mean, spread, sigma, threshold, soft = (
        (0.65, 0.3, 4, 0.69, 0.6),
        (0.65, 0.3, 3, 0.68, 0.6),
        (0.65, 0.3, 2, 0.68, 0.5),
        (0.65, 0.3, 1, 0.65, 1.5),
        (0.67, 0.4, 1, 0.65, 1.5),
    )[level]
    liquid = _blurred(chance.normal(mean, spread, SIZE, SIZE).astype(np.float32), sigma)
    spots = _blurred((liquid > threshold).astype(np.float32), soft)
    spots[spots < 0.8] = 0
    return ink * (1 - spots) + np.float32(63 / 255) * spots


def _dotted_line(ink: Glyphs, level: int, chance: _Chance) -> Glyphs:
    """Draw dotted lines across the image, as many as the severity."""
    dots = (np.arange(SIZE) // 2 % 2 == 1) & (np.arange(SIZE) < SIZE - 1)
    for _ in range(level + 1):
        left, right = chance.integers(0, SIZE - 1, 2).T
        line = _line(np.zeros(len(ink)), left, np.full(len(ink), SIZE - 1.0), right)
        ink = np.clip(ink + line * dots, 0, 1)
    return ink


def _zigzag(ink: Glyphs, level: int, chance: _Chance) -> Glyphs:
    """Draw zigzags across the image, as many as the severity."""
    first, last = 2, 25
    for _ in range(level + 1):
        start = chance.integers(0, SIZE - 1)
        angle = np.arctan(chance.integers(-5, 5) / (last - first))
        length = (last - first) / np.cos(angle)
        # Corners along a horizontal line, up and down by 2 at every odd multiple of 2; then rotated.
        along = [np.zeros(len(ink)), *(np.full(len(ink), 2.0 + 4 * n) for n in range(6)), length]
        beside = [0.0, *(2.0 * (-1) ** n for n in range(6)), 0.0]
        columns = [a * np.cos(angle) - b * np.sin(angle) + first for a, b in zip(along, beside)]  # noqa: B905
        rows = [a * np.sin(angle) + b * np.cos(angle) + start for a, b in zip(along, beside)]  # noqa: B905
        for n in range(len(along) - 1):
            line = _line(columns[n], rows[n], columns[n + 1], rows[n + 1])
            ink = np.clip(ink + line, 0, 1)
    return ink


def _line(x0: Numbers, y0: Numbers, x1: Numbers, y1: Numbers) -> Glyphs:
    """Return one image per line from (x0, y0) to (x1, y1), x1 > x0, fading to its sides."""
    x, y = np.arange(SIZE, dtype=np.float32), np.arange(SIZE, dtype=np.float32)[:, None]
    left, top, right, end = (np.asarray(v, np.float32)[:, None, None] for v in (x0, y0, x1, y1))
    distance = np.abs(y - (top + (end - top) / (right - left) * (x - left)))
    line = np.clip(1 + np.log1p(-np.minimum(distance, 2.299) / 2.3), 0, 1)
    return np.asarray(line * ((x >= np.floor(left)) & (x < np.ceil(right))), np.float32)


def _canny_edges(ink: Glyphs, level: int, chance: _Chance) -> Glyphs:
    """Keep the outlines (Canny 1986) and, with rising severity, less of the ink inside."""
    smooth = np.rint(255 * _blurred(ink, 1.0)).astype(np.uint8)
    edges = np.stack([cv2.Canny(picture, 26, 51, L2gradient=True) for picture in smooth])
    left = np.float32((0.8, 0.6, 0.4, 0.2, 0.0)[level])
    return np.asarray(np.maximum(edges.astype(np.float32) / 255, left * ink), np.float32)


def _blurred(ink: Glyphs, sigma: float) -> Glyphs:
    """Blur by a Gaussian with replicated borders, as a product with one matrix per axis."""
    reach = int(4 * sigma + 0.5)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-(offsets**2) / (2 * sigma**2))
    matrix = np.zeros((SIZE, SIZE))
    for row in range(SIZE):
        np.add.at(matrix[row], np.clip(row + offsets, 0, SIZE - 1), weights / weights.sum())
    kernel = matrix.astype(np.float32)
    return np.asarray(kernel @ ink @ kernel.T, np.float32)


_FUNCTIONS: dict[str, Callable[[Glyphs, int, _Chance], Glyphs]] = {
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "glass_blur": _glass_blur,
    "motion_blur": _motion_blur,
    "shear": _shear,
    "scale": _scale,
    "rotate": _rotate,
    "brightness": _brightness,
    "translate": _translate,
    "stripe": _stripe,
    "fog": _fog,
    "spatter": _spatter,
    "dotted_line": _dotted_line,
    "zigzag": _zigzag,
    "canny_edges": _canny_edges,
}
