"""An array, however people have it, is read as what its owner sees, or refused with a remedy."""

import subprocess
import sys

import numpy as np
import pytest

from digitry.errors import ImageError
from digitry.reading import image
from digitry.reading.reader import Reader


def stroke(side: int = 28) -> np.ndarray:
    """Return a light upright stroke on dark ground, as in MNIST: (side, side) uint8."""
    digit = np.zeros((side, side), np.uint8)
    half = max(1, side // 14)
    digit[side // 7 : -side // 7, side // 2 - half : side // 2 + half] = 255
    return digit


def bent() -> np.ndarray:
    digit = np.zeros((28, 28), np.uint8)
    digit[5:8, 6:22] = digit[8:24, 19:22] = 255
    return digit


def gray(source: object) -> np.ndarray:
    return image.load(source).gray.astype(int)


@pytest.mark.parametrize(
    "shape", [(28, 28, 1), (1, 28, 28), (1, 28, 28, 1), (1, 1, 28, 28), (784,), (1, 784), (784, 1)]
)
def test_one_digit_in_any_shape_is_the_same_picture(shape: tuple[int, ...]) -> None:
    assert np.array_equal(gray(stroke().reshape(shape)), stroke())


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("integers 0 and 1", lambda digit: (digit > 128).astype(int)),
        ("bytes 0 and 1", lambda digit: (digit > 128).astype(np.uint8)),
        ("booleans", lambda digit: digit > 128),
        ("0 to 1", lambda digit: digit / 255),
        ("a little over 1", lambda digit: digit / 255 * 1.04 - 0.02),
        ("-1 to 1", lambda digit: digit / 127.5 - 1),
        ("standardised", lambda digit: (digit / 255 - 0.1307) / 0.3081),
        ("0 to 2", lambda digit: digit / 127.5),
        ("0 to 16", lambda digit: digit / 255 * 16),
        ("0 to 255 in floats", lambda digit: digit.astype(np.float32)),
        ("0 to 65535", lambda digit: digit.astype(np.uint16) * 257),
    ],
)
def test_numbers_of_any_range_have_the_full_contrast(name: str, change: object) -> None:
    values = gray(change(stroke()))  # type: ignore[operator]
    assert values.min() <= 6 and values.max() >= 249, name
    assert np.abs(values - stroke()).max() <= 6, name


def test_a_dark_byte_image_is_not_brightened() -> None:
    assert gray(np.full((30, 30), 3, np.uint8)).max() == 3


def test_the_digits_of_scikit_learn_have_values_of_0_to_16() -> None:
    small = stroke(8) // 255 * 16
    for one in (small, small.astype(float), small.reshape(64).astype(float)):
        assert set(np.unique(gray(one))) == {0, 255}
    # A value below 16 is no full white.
    assert gray(small * 0.75).max() == 191


@pytest.mark.parametrize(
    "many",
    [
        np.stack([stroke(), bent(), stroke()]),
        np.stack([stroke()] * 5)[..., None],
        np.stack([stroke(), bent()] * 4)[:, None],
        np.stack([stroke(), bent(), stroke(), bent()]).reshape(4, 784),
        np.zeros((7, 28, 28, 3)),
    ],
)
def test_several_images_in_one_array_point_to_read_many(many: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"read_many reads them one by one"):
        image.load(many)


def test_read_many_takes_such_arrays_apart() -> None:
    reader = Reader()
    digits = np.stack([stroke(), bent()])
    for many in (digits, digits.reshape(2, 784), digits[..., None], digits / 255):
        readings = list(reader.read_many(many, layout="single"))
        assert [len(reading.digits) for reading in readings] == [1, 1]  # type: ignore[union-attr]


def test_colours_may_come_first_or_last() -> None:
    rgb = np.stack([stroke(), stroke(), stroke() // 2], axis=-1)
    assert np.array_equal(gray(rgb), gray(np.moveaxis(rgb, 2, 0)))
    # Red ink on white: one plane has no contrast at all.
    red = np.stack([np.full((28, 28), 255, np.uint8), 255 - stroke(), 255 - stroke()])
    assert gray(red).shape == (28, 28)


def test_a_wide_picture_is_not_taken_for_rows_of_digits() -> None:
    wide = np.full((300, 784), 240, np.uint8)
    wide[80:220, 100:130] = wide[100:120, 300:600] = 20
    assert gray(wide).shape == (300, 784)


def test_lists_are_arrays() -> None:
    assert np.array_equal(gray(stroke().tolist()), stroke())
    assert np.array_equal(gray(stroke().reshape(784).tolist()), stroke())
    with pytest.raises(ImageError, match="rows of numbers of equal length"):
        image.load([[1, 2, 3], [4, 5]])
    with pytest.raises(ImageError, match="read_many"):
        image.load(["a.png", "b.png"])


class Foreign:
    """An array of another library."""

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return stroke()


class Broken:
    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        raise RuntimeError("not on this device")


def test_whatever_has_array_is_an_array() -> None:
    assert np.array_equal(gray(Foreign()), stroke())
    with pytest.raises(ImageError, match="cannot read an image from Broken"):
        image.load(Broken())


TENSORS = """
import torch
from digitry.reading import image
digit = torch.zeros(28, 28)
digit[4:24, 12:16] = 1
same = image.load(digit.numpy()).gray
kinds = {
    "with gradients": digit.clone().requires_grad_(),
    "of bfloat16": digit.bfloat16(),
    "of half": digit.half(),
    "with a channel": digit[None],
    "of a batch": digit[None, None],
    "colours first": digit.expand(3, 28, 28),
    "of bytes": (digit * 255).to(torch.uint8),
    "of booleans": digit > 0,
}
for name, tensor in kinds.items():
    assert (image.load(tensor).gray == same).all(), name
"""


def test_tensors_of_torch_are_arrays() -> None:
    # torch is imported in a process of its own: it takes seconds and a lot of memory.
    pytest.importorskip("numpy")
    done = subprocess.run([sys.executable, "-c", TENSORS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
