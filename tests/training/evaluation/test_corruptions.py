"""Corruptions: what each does, how strongly, and that it is reproducible."""

import numpy as np
import pytest

from digitry.errors import UsageError
from digitry.training.evaluation.corruptions import (
    BLOCK,
    CORRUPTIONS,
    PUBLISHED,
    SEVERITIES,
    corrupt,
)
from digitry.training.writing import pen

BY_CHANCE = set(CORRUPTIONS) - {"scale", "brightness", "stripe", "canny_edges"}


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """Thirty digits drawn by our own code, ink = 255."""
    rng = np.random.default_rng(0)
    return np.stack([_written(digit % 10, rng) for digit in range(30)])


def _written(digit: int, rng: np.random.Generator) -> np.ndarray:
    hand = pen.pick_hand(str(digit), rng)
    ink = pen.draw(pen.strokes_of(str(digit), hand), 18, 2.5, rng)
    page = np.zeros((28, 28), np.float32)
    y, x = (28 - ink.shape[0]) // 2, max(0, (28 - ink.shape[1]) // 2)
    page[y : y + ink.shape[0], x : x + ink.shape[1]] = ink[:28, :28]
    return np.rint(255 * page).astype(np.uint8)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


def dot(y: int, x: int) -> np.ndarray:
    image = np.zeros((1, 28, 28), np.uint8)
    image[0, y, x] = 255
    return image


def test_there_are_the_fifteen_corruptions_of_mnist_c() -> None:
    assert len(CORRUPTIONS) == 15
    assert set(PUBLISHED.values()) <= set(SEVERITIES)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_severity_changes_images_but_not_their_shape_and_type(
    digits: np.ndarray, name: str
) -> None:
    before = digits.copy()
    for severity in SEVERITIES:
        spoiled = corrupt(digits, name, severity)
        assert spoiled.shape == digits.shape
        assert spoiled.dtype == np.uint8
        assert distance(spoiled, digits) > 0
    np.testing.assert_array_equal(digits, before)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_last_severity_changes_more_than_the_first(digits: np.ndarray, name: str) -> None:
    first, last = (distance(corrupt(digits, name, severity), digits) for severity in (1, 5))
    assert last > first


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_seed_decides_the_images(digits: np.ndarray, name: str) -> None:
    once, again, other = (corrupt(digits, name, 3, seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(once, again)
    assert np.array_equal(once, other) == (name not in BY_CHANCE)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_first_images_do_not_depend_on_their_number(name: str) -> None:
    rng = np.random.default_rng(1)
    many = rng.integers(0, 256, (BLOCK + 3, 28, 28), np.uint8)
    np.testing.assert_array_equal(corrupt(many, name, 2)[:5], corrupt(many[:5], name, 2))


def test_no_images_give_no_images() -> None:
    assert corrupt(np.zeros((0, 28, 28), np.uint8), "fog", 1).shape == (0, 28, 28)


def test_shot_noise_leaves_a_blank_image_blank() -> None:
    assert not corrupt(np.zeros((2, 28, 28), np.uint8), "shot_noise", 5).any()


def test_impulse_noise_changes_its_share_of_the_pixels() -> None:
    grey = np.full((50, 28, 28), 128, np.uint8)
    struck = corrupt(grey, "impulse_noise", 5)
    assert (struck != 128).mean() == pytest.approx(0.27, abs=0.01)
    assert (struck == 255).mean() == pytest.approx(0.135, abs=0.01)


def test_brightness_raises_the_background_and_keeps_full_ink() -> None:
    lifted = corrupt(dot(3, 4), "brightness", 2)[0]
    assert lifted[3, 4] == 255
    assert lifted[0, 0] == 51


def test_translation_moves_by_whole_pixels_to_both_sides() -> None:
    moved = corrupt(np.repeat(dot(14, 14), 40, axis=0), "translate", 3)
    places = {tuple(int(p) for p in np.argwhere(one)[0]) for one in moved}
    assert places == {(11, 11), (11, 17), (17, 11), (17, 17)}


def test_scaling_to_one_half_leaves_a_quarter_of_the_ink() -> None:
    square = np.zeros((1, 28, 28), np.uint8)
    square[0, 4:24, 4:24] = 255
    small = corrupt(square, "scale", 5)[0]
    assert small.sum() / square.sum() == pytest.approx(0.25, abs=0.03)
    assert small[13, 13] == 255


@pytest.mark.parametrize("name", ["rotate", "shear", "scale"])
def test_geometry_keeps_the_centre(name: str) -> None:
    middle = np.zeros((4, 28, 28), np.uint8)
    middle[:, 13:15, 13:15] = 255
    for severity in SEVERITIES:
        spoiled = corrupt(middle, name, severity)[0].astype(float)
        places = np.arange(28)
        centre = [(spoiled.sum(axis=axis) @ places) / spoiled.sum() for axis in (0, 1)]
        assert centre == pytest.approx([13.5, 13.5], abs=0.1)


def test_rotation_turns_to_both_sides_by_its_angle() -> None:
    bar = np.zeros((40, 28, 28), np.uint8)
    bar[:, 13:15, 4:24] = 255
    turned = corrupt(bar, "rotate", 5)
    slopes = set()
    for one in turned:
        y, x = np.nonzero(one > 128)
        slopes.add(round(float(np.polyfit(x - 13.5, y - 13.5, 1)[0]), 1))
    assert len(slopes) == 2
    # A radian; a fit of y on x flattens a thick line a little.
    assert np.degrees(np.arctan(max(slopes))) == pytest.approx(57, abs=6)
    assert max(slopes) == pytest.approx(-min(slopes), abs=0.11)


def test_stripes_are_the_negative_of_both_edges(digits: np.ndarray) -> None:
    striped = corrupt(digits, "stripe", 5)
    np.testing.assert_array_equal(striped[:, :, :7], 255 - digits[:, :, :7])
    np.testing.assert_array_equal(striped[:, :, -7:], 255 - digits[:, :, -7:])
    np.testing.assert_array_equal(striped[:, :, 7:-7], digits[:, :, 7:-7])


def test_fog_differs_for_each_image() -> None:
    foggy = corrupt(np.repeat(dot(14, 14), 3, axis=0), "fog", 5)
    assert distance(foggy[0], foggy[1]) > 1
    assert foggy.mean() > 40


def test_motion_blur_spreads_ink_along_one_line() -> None:
    y, x = np.nonzero(corrupt(dot(14, 14), "motion_blur", 1)[0])
    assert len(y) > 8
    slope = np.polyfit(x, y, 1)[0]
    assert abs(slope) <= 1.05
    assert np.abs(y - np.polyval(np.polyfit(x, y, 1), x)).max() < 1


def test_dotted_lines_and_zigzags_only_add_ink(digits: np.ndarray) -> None:
    for name in ("dotted_line", "zigzag"):
        spoiled = corrupt(digits, name, 1)
        assert (spoiled >= digits).all()
        assert (spoiled > digits).any(axis=(1, 2)).all()


def test_the_last_severity_of_edges_leaves_nothing_inside() -> None:
    square = np.zeros((1, 28, 28), np.uint8)
    square[0, 6:22, 6:22] = 255
    edges = corrupt(square, "canny_edges", 5)[0]
    assert set(np.unique(edges)) == {0, 255}
    assert edges[13, 13] == 0
    assert edges[:, 13].any()


@pytest.mark.parametrize(
    ("images", "name", "severity", "words"),
    [
        (dot(1, 1), "rain", 1, "rain"),
        (dot(1, 1), "fog", 0, "severity 0"),
        (dot(1, 1), "fog", 6, "severity 6"),
        (dot(1, 1)[0], "fog", 1, "(28, 28)"),
        (dot(1, 1).astype(np.float32), "fog", 1, "float32"),
    ],
)
def test_invalid_arguments_are_refused_with_a_reason(
    images: np.ndarray, name: str, severity: int, words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        corrupt(images, name, severity)
    assert words in str(caught.value)
