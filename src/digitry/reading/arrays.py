"""Arrays as people have them: which shapes are one image, and what its numbers mean.

What an array does not say is guessed, by these rules:

- Axes of length 1 around an image are dropped: (1, 28, 28), (28, 28, 1), (1, 28, 28, 1).
- A single row whose length is a square number from 64 on is a square image: 784 numbers are 28x28.
- (3, h, w) is RGB with its channels first if its planes are alike, as in one picture; else it is three
  images.
- Several images are refused: `read_many` reads them. So are rows of 64 or 784 pixels, one per digit.
- Numbers that are only 0 and 1 are a mask, and floats from 0 to about 1 are shares of white. 8x8
  pixels of 0 to 16 are scikit-learn's digits.
- Other small numbers, negative numbers and numbers over 255 are stretched to the full range.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from digitry.errors import ImageError

Bytes = npt.NDArray[np.uint8]
Rows = Callable[[int, int], npt.NDArray[Any]]
"""`rows(top, bottom)` returns a strip of an image."""

STRIP_PIXELS = 1 << 20
MOST_VALUE = 1e30
"""Larger pixel values are refused: float32 arithmetic would overflow."""

OVERSHOOT = 0.25
"""How far below 0 and above 1 floats of the range 0 to 1 may lie: cubic resizing gives such values."""
FEW_LEVELS = 16
"""Numbers from 0 to at most this are stretched, except bytes: a byte image may be that dark."""
SHORTEST_ROW = 64
ROWS = (784, 64)
"""Pixels of one digit in a flat row: 28x28, and scikit-learn's 8x8."""
SHAPES = "give (h, w), (h, w, 3) RGB or (h, w, 4) RGBA"
MANY = "read_many reads them one by one"


def as_array(source: Any, name: str) -> npt.NDArray[Any]:
    """Return a list, a tensor, or anything else with `__array__` as an array of numbers.

    Args:
        source: nested lists of numbers, a torch tensor on any device, or an object of another library.
        name: what errors call it.

    Raises:
        ImageError: it does not become an array of numbers.
    """
    try:
        if callable(getattr(source, "detach", None)):
            # A torch tensor: it may be on a GPU, need gradients, or be of bfloat16, unknown to NumPy.
            source = source.detach().cpu()
            source = source.float() if "bfloat16" in str(source.dtype) else source
        array = np.asarray(source)
    except Exception as error:
        # Any library may stand behind `__array__`; lists may be ragged.
        raise ImageError(
            f"cannot read an image from {type(source).__name__}",
            where=name,
            remedy="give rows of numbers of equal length; for several images use read_many",
        ) from error
    return array


def one_image(array: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """Return an array as one image: (h, w), (h, w, 3) or (h, w, 4), with the same numbers.

    Raises:
        ImageError: it has no numbers, is no image, or is several images.
    """
    if array.dtype == object or not (
        np.issubdtype(array.dtype, np.number) or array.dtype == np.bool_
    ):
        raise ImageError(
            f"an array of {array.dtype} is not an image",
            where=name,
            remedy="give integers, booleans or floats; for several images use read_many",
        )
    if np.issubdtype(array.dtype, np.complexfloating):
        raise ImageError(
            "an array of complex numbers is not an image",
            where=name,
            remedy="give integers, booleans or floats",
        )
    image = _without_axes(array)
    if image.ndim == 1 or (image.ndim == 2 and 1 in image.shape):
        image = _square(image)
    elif image.ndim == 3 and image.shape[0] == 3 and image.shape[2] not in (3, 4):
        image = np.moveaxis(image, 0, 2) if _are_channels(image) else image
    if image.ndim == 2 and _are_digits(image):
        side = math.isqrt(image.shape[1])
        raise ImageError(
            f"an array of shape {array.shape} looks like {image.shape[0]:,} images of {side}x{side}",
            where=name,
            remedy=MANY,
        )
    if image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4)):
        return image
    if image.ndim in (3, 4) and image.shape[0] > 1 and min(image.shape) > 0:
        raise ImageError(
            f"an array of shape {array.shape} is {image.shape[0]:,} images, not one",
            where=name,
            remedy=MANY,
        )
    raise ImageError(f"an array of shape {array.shape} is not one image", where=name, remedy=SHAPES)


def _without_axes(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array without the axes of length 1 that stand around an image."""
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    return array[..., 0] if array.ndim > 2 and array.shape[-1] == 1 else array


def _square(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return one row, or one column, as a square image where its length is a square number."""
    side = math.isqrt(array.size)
    if side * side == array.size >= SHORTEST_ROW:
        return array.reshape(side, side)
    return array


def _are_channels(planes: npt.NDArray[Any]) -> bool:
    """Return whether three planes are colours of one picture: those are alike, digits are not."""
    flat = planes.reshape(len(planes), -1).astype(np.float64)
    # The same ink on the same paper: a plane without contrast is a colour, too.
    varied = flat[flat.std(axis=1) > 0]
    if len(varied) < 2:
        return True
    return bool(np.corrcoef(varied).min() > 0.5)


def _are_digits(image: npt.NDArray[Any]) -> bool:
    """Return whether rows of 784 or 64 pixels are digits: then pixels one line apart are most alike."""
    if image.shape[1] not in ROWS or image.shape[0] < 2:
        return False
    side = math.isqrt(image.shape[1])
    part = image[:256].astype(np.float64)
    down = np.abs(part[1:] - part[:-1]).mean()
    return bool(np.abs(part[:, side:] - part[:, :-side]).mean() < down)


# --- numbers to bytes ------------------------------------------------------------------------------


def eight_bits(values: npt.NDArray[Any], name: str) -> Bytes:
    """Return numbers of any type scaled to 0..255, in the same order.

    Args:
        values: (h, w) or (h, w, channels) of any real type.
        name: what errors call them.

    Raises:
        ImageError: a number is not finite, or too large.
    """
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)

    def rows(top: int, bottom: int) -> npt.NDArray[Any]:
        return values[top:bottom]

    low, high, floating = _range_of(rows, values.shape, name)
    scaling = _meant(low, high, values.shape, floating, whole=values.dtype == np.uint8)
    if values.dtype == np.uint8 and scaling == (0.0, 1.0):
        return values
    return _applied(rows, values.shape, scaling)


def _meant(
    low: float, high: float, shape: tuple[int, ...], floating: bool, *, whole: bool
) -> tuple[float, float]:
    """Return (shift, factor) for the numbers of an array; see the rules at the top.

    Args:
        low, high: the least number, at most 0, and the largest, at least 0.
        shape: of the array.
        floating: whether the numbers are floats.
        whole: whether they are bytes, whose range is known.
    """
    if shape[:2] == (8, 8) and low >= 0 and 1 + OVERSHOOT < high <= 16:
        return 0.0, 255 / 16
    if floating and low >= -OVERSHOOT and high <= 1 + OVERSHOOT:
        return 0.0, 255.0
    if not floating and low >= 0 and high == 1:
        return 0.0, 255.0
    if not whole and low >= -OVERSHOOT and 1 < high <= FEW_LEVELS:
        return 0.0, 255 / high
    return _stretch(low, high)


def _stretch(low: float, high: float) -> tuple[float, float]:
    if low < 0 or high > 255:
        # 16 bits or another range: scanners often use only a part of it, so stretch that part.
        return low, 255 / max(high - low, 1e-6)
    return 0.0, 1.0


def stretched(rows: Rows, shape: tuple[int, ...], name: str) -> Bytes:
    """Return the numbers of an image file scaled to 0..255, strip by strip."""
    return _applied(rows, shape, scaling_of(rows, shape, name))


def scaling_of(rows: Rows, shape: tuple[int, ...], name: str) -> tuple[float, float]:
    """Return (shift, factor) for the numbers of an image file: 16 or 32 bits, or floats.

    Raises:
        ImageError: a number is not finite, or too large.
    """
    low, high, floating = _range_of(rows, shape, name)
    if floating and low >= 0 and high <= 1:
        return 0.0, 255.0
    return _stretch(low, high)


def _range_of(rows: Rows, shape: tuple[int, ...], name: str) -> tuple[float, float, bool]:
    """Return the least number, or 0; the largest, or 0; and whether the numbers are floats."""
    low = high = 0.0
    floating = False
    for top, bottom in strips(shape[0], math.prod(shape[1:])):
        strip = rows(top, bottom)
        floating = np.issubdtype(strip.dtype, np.floating)
        # float64 values beyond the range of float32 would become infinite.
        if floating and not (np.abs(strip) <= MOST_VALUE).all():
            raise ImageError(
                "has pixel values that are not finite or too large",
                where=name,
                remedy="replace NaN and infinity, and scale the rest to 0..255",
            )
        low = min(low, float(strip.min(initial=0)))
        high = max(high, float(strip.max(initial=0)))
    return low, high, floating


def _applied(rows: Rows, shape: tuple[int, ...], scaling: tuple[float, float]) -> Bytes:
    result = np.empty(shape, np.uint8)
    for top, bottom in strips(shape[0], math.prod(shape[1:])):
        result[top:bottom] = scaled(rows(top, bottom), *scaling)
    return result


def scaled(values: npt.NDArray[Any], shift: float, factor: float) -> Bytes:
    """Return (numbers - shift) * factor as uint8, rounded and clipped to 0..255."""
    wide = (values.astype(np.float32) - np.float32(shift)) * np.float32(factor)
    result: Bytes = np.rint(wide).clip(0, 255).astype(np.uint8)
    return result


def strips(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Yield (top, bottom) of strips of an image, each of at most `STRIP_PIXELS` where a row allows it."""
    step = max(1, STRIP_PIXELS // max(width, 1))
    for top in range(0, height, step):
        yield top, min(top + step, height)
