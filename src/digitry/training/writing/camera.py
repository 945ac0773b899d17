"""How a camera, a scanner and thresholding spoil a strip of ink."""

import cv2
import numpy as np
import numpy.typing as npt

from digitry.training.writing.paper import broken
from digitry.training.writing.texts import drawn

Strip = npt.NDArray[np.float32]
"""(32, width) float32 in [0, 1], ink = 1 on 0."""


def spoilt(ink: npt.NDArray[np.uint8], rng: np.random.Generator) -> Strip:
    """Return a strip as a picture of it looks once its background is taken away.

    Args:
        ink: (32, width) uint8, 255 = ink.
        rng: what chooses; one strip in five stays as it is.
    """
    if rng.random() < 0.2:
        return np.asarray(ink, np.float32) / np.float32(255)
    if rng.random() < 0.35:
        ink = pen(ink, rng)
    if rng.random() < 0.08:
        ink = broken(ink, rng, 0.3)
    if rng.random() < 0.3:
        ink = coarse(ink, rng)
    if rng.random() < 0.35:
        ink = blurred(ink, rng)
    strip = np.asarray(ink, np.float32) / np.float32(255)
    if rng.random() < 0.5:
        strip = lit(strip, rng)
    if rng.random() < 0.4:
        strip = grained(strip, rng)
    if rng.random() < 0.08:
        strip = compressed(strip, rng)
    if rng.random() < 0.2:
        strip = thresholded(strip, rng)
    elif rng.random() < 0.4:
        strip = contrasted(strip, rng)
    return np.clip(strip, 0, 1, out=strip)


def pen(ink: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return the same writing with a thicker or thinner pen."""
    soft = cv2.GaussianBlur(ink, (0, 0), float(rng.uniform(0.4, 0.85)))
    level = rng.uniform(0.23, 0.62)
    table = np.clip((np.arange(256) / 255 - level) * 4 + 0.5, 0, 1) * 255
    table -= table[0]
    return np.asarray(cv2.LUT(soft, np.clip(table, 0, 255).astype(np.uint8)), np.uint8)


def coarse(ink: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return a strip that was a smaller picture before: digits of 8 to 20 pixels, scaled up."""
    height, width = ink.shape
    scale = rng.uniform(0.35, 0.8)
    size = (max(4, round(width * scale)), max(4, round(height * scale)))
    small = cv2.resize(ink, size, interpolation=cv2.INTER_AREA)
    if rng.random() < 0.25:
        _, small = cv2.threshold(small, float(rng.uniform(70, 150)), 255, cv2.THRESH_BINARY)
    how = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST)[drawn((0.5, 0.3, 0.2), rng)]
    return np.asarray(cv2.resize(small, (width, height), interpolation=how), np.uint8)


def squared(ink: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return a character stretched to a small square, mostly black and white, as forms were scanned."""
    side = int(rng.integers(12, 21))
    small = cv2.resize(ink, (side, side), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.75:
        _, small = cv2.threshold(small, float(rng.uniform(50, 140)), 255, cv2.THRESH_BINARY)
    return np.asarray(small, np.uint8)


def blurred(ink: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return a strip out of focus, or shaken."""
    if rng.random() < 0.8:
        return np.asarray(cv2.GaussianBlur(ink, (0, 0), float(rng.uniform(0.3, 1.3))), np.uint8)
    length = int(rng.integers(2, 5))
    kernel = np.ones((1, length) if rng.random() < 0.5 else (length, 1), np.float32) / length
    return np.asarray(cv2.filter2D(ink, -1, kernel), np.uint8)


def lit(strip: Strip, rng: np.random.Generator) -> Strip:
    """Return a strip with fainter ink, unevenly lit, with what is left of its background."""
    height, width = strip.shape
    strength = rng.uniform(0.45, 1.0)
    if rng.random() < 0.5:
        ends = rng.uniform(0.6, 1.0, 2)
        strip = strip * np.linspace(ends[0], ends[1], width, dtype=np.float32)
    strip = strip * np.float32(strength)
    if rng.random() < 0.6:
        corners = rng.random((2, max(2, width // 24)), dtype=np.float32) * rng.uniform(0, 0.22)
        ground = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)
        strip = np.maximum(strip, ground) if rng.random() < 0.5 else strip + ground * (1 - strip)
    return np.asarray(strip, np.float32)


def grained(strip: Strip, rng: np.random.Generator) -> Strip:
    """Return a strip with the grain of paper and sensor."""
    height, width = strip.shape
    size = 1 if rng.random() < 0.5 else 2
    noise = rng.standard_normal((-(-height // size), -(-width // size)), dtype=np.float32)
    if size == 2:
        noise = cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)
    noise = noise[:height, :width] * np.float32(rng.uniform(0.01, 0.1))
    # Ink is zero where the background was taken away: noise shows one side of itself there.
    return np.asarray(np.clip(strip + noise, 0, 1), np.float32)


def compressed(strip: Strip, rng: np.random.Generator) -> Strip:
    """Return a strip that was saved as a JPEG."""
    grey = np.asarray(255 - strip * 255 * rng.uniform(0.5, 1), np.uint8)
    quality = int(rng.integers(15, 70))
    _, data = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])
    back = np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.float32)
    return np.asarray(1 - back / np.float32(255), np.float32)


def thresholded(strip: Strip, rng: np.random.Generator) -> Strip:
    """Return a strip in black and white."""
    top = float(strip.max())
    return (strip > np.float32(top * rng.uniform(0.3, 0.6))).astype(np.float32)


def contrasted(strip: Strip, rng: np.random.Generator) -> Strip:
    """Return a strip with its darkest ink drawn to 1 and its lightest to 0, as a reader does."""
    top = max(float(strip.max()), 0.2)
    low = rng.uniform(0, 0.2) * top
    high = top * rng.uniform(0.6, 1.0)
    return np.asarray(np.clip((strip - low) / max(high - low, 0.05), 0, 1), np.float32)
