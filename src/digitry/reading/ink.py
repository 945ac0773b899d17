"""A page to the ink on it: shadows, gradients and the table beside the sheet are taken away."""

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from digitry.reading.percentile import percentile

FAINTEST = 0.045
"""Ink that takes less than this share of the paper's light is not told from paper."""

# Of the strongest ink nearby; below it lies the blurred rim of a stroke.
RIM = 0.42


@dataclass(frozen=True, slots=True)
class Ink:
    """What is on the paper.

    Attributes:
        strength: (h, w) float32 in [0, 1], the share of the paper's light that is taken away.
        mask: (h, w) uint8, 1 where there is ink.
        faint: (h, w) uint8, 1 where there may be some, pale rulings among it.
        noise: standard deviation of `strength` on bare paper.
    """

    strength: npt.NDArray[np.float32] = field(repr=False)
    mask: npt.NDArray[np.uint8] = field(repr=False)
    faint: npt.NDArray[np.uint8] = field(repr=False)
    noise: float


def lift(gray: npt.NDArray[np.uint8]) -> Ink:
    """Lift the ink off the paper.

    Args:
        gray: (h, w) uint8, ink darker than the paper.
    """
    height, width = gray.shape
    # Large pictures have millions of pixels: no pass over them that another one can do along.
    light = cv2.divide(gray, np.maximum(_paper(gray), 1), dtype=cv2.CV_32F).astype(
        np.float32, copy=False
    )
    strength: npt.NDArray[np.float32] = np.subtract(np.float32(1), light, out=light)
    np.maximum(strength, 0, out=strength)
    if min(height, width) >= 200:
        # A camera's grain is finer than a stroke; in small pictures every pixel counts.
        strength = cv2.GaussianBlur(strength, (0, 0), 0.8)
    middle, noise = _paper_noise(strength)
    floor = max(FAINTEST, middle + 4.5 * noise)
    _clear_surroundings(strength, floor)
    faint = (strength > floor).view(np.uint8)
    mask = (strength > _strongest_nearby(strength, RIM)).view(np.uint8)
    mask &= faint
    return Ink(strength, mask, faint, noise)


def _paper(gray: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Estimate the brightness of the paper under every pixel.

    A morphological closing removes all that is dark and narrower than its window, and leaves the edges
    of what is wider, such as shadows, where they are. Strokes are narrow, so a small picture is enough.
    """
    height, width = gray.shape
    factor = min(1.0, 256 / max(height, width))
    small = gray
    if factor < 1:
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        small = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    small = cv2.medianBlur(small, 3) if min(small.shape) >= 48 else small
    share = 0.6 if max(height, width) <= 64 else 0.3
    window = max(3, round(share * min(small.shape))) | 1
    margin = window
    # Beyond the border the paper goes on; without that, ink that touches it would count as paper.
    padded = cv2.copyMakeBorder(small, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, np.ones((window, window), np.uint8))
    closed = cv2.GaussianBlur(closed, (0, 0), 1.0)
    closed = closed[margin:-margin, margin:-margin]
    if factor < 1:
        closed = cv2.resize(closed, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(closed, np.uint8)


def _paper_noise(strength: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Return the middle and the spread of bare paper, robustly: a third of a picture is paper."""
    sample = strength[:: max(1, strength.shape[0] // 150), :: max(1, strength.shape[1] // 150)]
    below = sample[sample <= max(3 * percentile(sample, 33), 0.12)]
    middle = percentile(below, 50)
    return middle, 1.4826 * percentile(np.abs(below - middle), 50)


def _clear_surroundings(strength: npt.NDArray[np.float32], floor: float) -> None:
    """Wipe out the table beside the paper: dark, and lying along the border of the picture."""
    height, width = strength.shape
    if min(height, width) < 100:
        return
    dark = (strength > max(floor, 0.12)).astype(np.uint8)
    rims = (dark[0], dark[-1], dark[:, 0], dark[:, -1])
    if max(int(rim.sum()) for rim in rims) < 0.1 * min(height, width):
        return
    _, labels, stats, _ = cv2.connectedComponentsWithStats(dark, connectivity=8)
    for rim in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        counts = np.bincount(rim[rim > 0]) if rim.any() else np.zeros(0, int)
        for label in np.flatnonzero(counts >= 0.1 * min(height, width)):
            long = max(stats[label, cv2.CC_STAT_WIDTH], stats[label, cv2.CC_STAT_HEIGHT])
            if counts[label] >= 0.6 * long:
                strength[labels == label] = 0


def _strongest_nearby(strength: npt.NDArray[np.float32], share: float) -> npt.NDArray[np.float32]:
    """Return a share of the strongest ink around each pixel."""
    height, width = strength.shape
    factor = min(1.0, 200 / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    # Averaging twice its size first: a single bright pixel of noise is not ink.
    small = cv2.resize(strength, size, interpolation=cv2.INTER_AREA)
    window = max(3, round(0.12 * max(small.shape))) | 1
    nearby = share * cv2.dilate(small, np.ones((window, window), np.uint8))
    result: npt.NDArray[np.float32] = cv2.resize(
        nearby, (width, height), interpolation=cv2.INTER_LINEAR
    )
    return result
