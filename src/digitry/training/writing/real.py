"""Strips of real writing: what they say, and how other hands might have written it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from digitry.reading.classes import OTHER
from digitry.reading.lines import CUT, HEIGHT, LONGEST, Cut
from digitry.training.writing.hands import PEN, Ink, cut_to_ink, draw_strokes
from digitry.training.writing.strings import CHARACTERS, MOST_COLUMNS


@dataclass(frozen=True, eq=False)
class Real:
    """A strip of real writing.

    Attributes:
        ink: (height, width) uint8, 255 = ink.
        labels: the classes of what it says.
        top, bottom: the rows in which its digits stand.
        page: where it comes from; strips of one page are of one hand.
        slant: of its writing, see `spliced.upright`.
        cuts: columns between its characters, once it is upright; empty where they are not known.
    """

    ink: Ink
    labels: tuple[int, ...]
    top: int
    bottom: int
    page: str = ""
    slant: float = 0.0
    cuts: tuple[int, ...] = ()


def labels_of(said: str) -> tuple[int, ...]:
    """Return the classes of a transcription.

    Spaces have none; a run of characters that have no class is one `OTHER`.
    """
    labels: list[int] = []
    for char in said:
        if char == " ":
            continue
        label = CHARACTERS.find(char)
        if label < 0:
            if labels and labels[-1] == OTHER:
                continue
            label = OTHER
        labels.append(label)
    return tuple(labels)


def stroke_strip(
    strokes: Sequence[npt.NDArray[np.float32]], rng: np.random.Generator
) -> Real | None:
    """Return a string written with a pen on a tablet, drawn with a pen of a random width.

    Args:
        strokes: (points, 2) float32 each, y down.
        rng: what chooses the pen.
    """
    heights = np.array([np.ptp(stroke[:, 1]) for stroke in strokes], float)
    tall = heights[heights > 0.35 * heights.max(initial=0)]
    unit = float(np.percentile(tall, 60)) if len(tall) else 0.0
    if unit <= 0:
        return None
    size = 36.0
    picture = draw_strokes(strokes, size, size * rng.uniform(*PEN), unit)
    if picture.shape[1] > 24 * size or cut_to_ink(picture) is None:
        return None
    picture = np.pad(picture, ((12, 12), (8, 8)))
    profile = picture.astype(np.float32).sum(axis=1)
    filled = np.flatnonzero(profile > 0.15 * profile.max())
    top, bottom = int(filled[0]), int(filled[-1]) + 1
    if bottom - top < size * 0.8:
        middle = (top + bottom) / 2
        top, bottom = int(middle - size / 2), int(middle + size / 2)
    return Real(picture, (), top, bottom)


def rewritten(real: Real, rng: np.random.Generator) -> Real:
    """Return a real strip as another hand might have written it.

    It slants otherwise, it is narrower or wider, in places more than in others; upper or lower loops are
    larger, legs longer or shorter; and each stroke bends a little. Real strips are few: a network that sees
    them as they are learns them by heart.
    """
    height, width = real.ink.shape
    tall, middle = max(real.bottom - real.top, 4), (real.top + real.bottom) / 2
    slant, aspect = rng.normal(0, 0.17), float(np.exp(rng.normal(0, 0.16)))
    margin = abs(slant) * height / 2 + 1
    wide = max(8, math.ceil((width + 2 * margin) * aspect))
    # For each place of the new picture, where it is looked up in the old one; 0 to 1 are the digits' rows.
    down = (np.arange(height) - real.top) / tall
    waist, above, below = rng.normal(0, 0.07), *np.exp(rng.normal(0, 0.2, 2))
    inside = down + np.clip(waist, -0.2, 0.2) * np.sin(np.pi * down)
    rows = np.where(down < 0, down / above, np.where(down > 1, 1 + (down - 1) / below, inside))
    y = np.broadcast_to((rows * tall + real.top)[:, None], (height, wide))
    pace = np.exp(rng.normal(0, 0.12, max(2, round(wide / tall)))).astype(np.float32)
    along = np.cumsum(cv2.resize(pace[None], (wide, 1), interpolation=cv2.INTER_LINEAR)[0])
    x = along[None] / along[-1] * (width + 2 * margin) - margin
    x = x + slant * (np.arange(height) - middle)[:, None]
    reach, knots = rng.uniform(0.01, 0.04) * tall, rng.uniform(0.4, 0.8) * tall
    grid = (max(2, round(height / knots)), max(2, round(wide / knots)), 2)
    bends = rng.normal(0, reach, grid).astype(np.float32)
    bends = cv2.resize(bends, (wide, height), interpolation=cv2.INTER_CUBIC)
    look = (np.stack([x, y], axis=-1) + bends).astype(np.float32)
    ink = cv2.remap(real.ink, look, None, cv2.INTER_LINEAR)
    return replace(real, ink=np.asarray(ink, np.uint8))


def placed(real: Real, rng: np.random.Generator) -> Ink:
    """Return a real strip scaled so that its digits are of a random size, near the middle.

    Returns:
        (32, width) uint8.
    """
    tall = rng.uniform(15, 27) if rng.random() < 0.75 else rng.uniform(10, 30)
    return set_in(real, tall, float(np.exp(rng.normal(0, 0.1))), rng.normal(0, 1.5))


def set_in(real: Real, tall: float, aspect: float = 1.0, down: float = 0.0) -> Ink:
    """Return a real strip with digits `tall` pixels high in its middle, or `down` pixels below it.

    Returns:
        (32, width) uint8, the width a result of the scale.
    """
    scale = tall / max(real.bottom - real.top, 4)
    height, width = real.ink.shape
    wide = int(np.clip(round(width * scale * aspect), 8, MOST_COLUMNS))
    if scale < 0.75:
        # Averages first: a warp alone would skip pixels.
        size = (wide, max(4, round(height * scale)))
        ink = cv2.resize(real.ink, size, interpolation=cv2.INTER_AREA)
        across = tall_scale = 1.0
        middle = (real.top + real.bottom) / 2 * size[1] / height
    else:
        ink, across, tall_scale = real.ink, wide / width, scale
        middle = (real.top + real.bottom) / 2 * scale
    matrix = np.array([[across, 0, 0], [0, tall_scale, HEIGHT / 2 + down - middle]])
    return np.asarray(cv2.warpAffine(ink, matrix, (wide, HEIGHT), flags=cv2.INTER_LINEAR), np.uint8)


def cut_of(real: Real) -> Cut:
    """Return a strip whose rows of writing are known as the reader would cut it out."""
    scale = CUT / 2 / max(real.bottom - real.top, 4)
    height, width = real.ink.shape
    wide = int(np.clip(round(width * scale), 16, LONGEST * CUT / 2))
    ink = real.ink
    if scale < 0.75:
        # Averages first: a warp alone would skip pixels.
        size = (wide, max(4, round(height * scale)))
        ink = np.asarray(cv2.resize(ink, size, interpolation=cv2.INTER_AREA), np.uint8)
    across, down = wide / ink.shape[1], (height * scale) / ink.shape[0]
    middle = (real.top + real.bottom) / 2 * scale
    matrix = np.array([[across, 0, 0], [0, down, CUT / 2 - middle]])
    return Cut(
        np.asarray(cv2.warpAffine(ink, matrix, (wide, CUT), flags=cv2.INTER_LINEAR), np.uint8),
        np.eye(2, 3),
    )
