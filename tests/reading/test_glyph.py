"""Glyphs are normalised like MNIST."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digitry.reading import glyph


def bar(height: int, width: int) -> np.ndarray:
    return np.ones((height, width), np.float32)


def ring(side: int, pen: int) -> np.ndarray:
    page = np.zeros((side, side), np.float32)
    cv2.circle(page, (side // 2, side // 2), side // 2 - pen, 1.0, pen)
    return page


def centre_of_mass(glyphs: np.ndarray) -> tuple[float, float]:
    total = glyphs.sum()
    rows, columns = np.mgrid[0:28, 0:28] + 0.5
    return float((glyphs * rows).sum() / total), float((glyphs * columns).sum() / total)


def test_proportions_are_kept_and_the_longer_side_is_twenty() -> None:
    page = np.zeros((90, 60), np.float32)
    cv2.ellipse(page, (30, 45), (20, 40), 0, 0, 360, 1.0, 8)
    image = glyph.normalise([page])[0]
    rows = np.flatnonzero((image > 0.5).any(axis=1))
    columns = np.flatnonzero((image > 0.5).any(axis=0))
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    assert height == 20
    assert width == pytest.approx(20 * 48 / 88, abs=1)


def test_the_centre_of_mass_is_in_the_middle() -> None:
    page = np.zeros((80, 80), np.float32)
    page[:, 36:44] = 1
    page[60:68, 20:70] = 1
    x, y = centre_of_mass(glyph.normalise([page])[0])
    assert abs(x - 14) <= 0.51
    assert abs(y - 14) <= 0.51


def test_an_mnist_digit_is_unchanged() -> None:
    image = np.zeros((28, 28), np.float32)
    cv2.ellipse(image, (14, 14), (5, 9), 12, 0, 360, 1.0, 2, cv2.LINE_AA)
    trimmed = image[4:24]
    again = glyph.normalise([trimmed])[0]
    twice = glyph.normalise([again])[0]
    assert np.array_equal(again, twice)


@pytest.mark.parametrize("pen", [1, 2, 4, 8, 16, 24])
def test_hairlines_and_markers_get_strokes_as_wide_as_mnists(pen: int) -> None:
    image = glyph.normalise([ring(120, pen)])[0]
    assert 1.4 <= glyph.stroke_width(image) <= 5.5
    assert image.max() > 0.9
    # The hole of the ring stays open.
    assert image[13:15, 13:15].max() < 0.5


@pytest.mark.parametrize("side", [16, 28, 60, 150, 700])
def test_the_size_of_the_image_does_not_matter(side: int) -> None:
    image = glyph.normalise([ring(side, max(1, side // 8))])[0]
    reference = glyph.normalise([ring(280, 35)])[0]
    # At 16 pixels the ring itself is drawn in steps.
    assert np.abs(image - reference).mean() < (0.1 if side == 16 else 0.06)


def test_faint_ink_gives_the_same_glyph_as_black_ink() -> None:
    faint = glyph.normalise([ring(60, 7) * 0.1])[0]
    black = glyph.normalise([ring(60, 7)])[0]
    assert np.abs(faint - black).max() < 0.02


def test_no_ink_gives_an_empty_glyph() -> None:
    assert glyph.normalise([]).shape == (0, 28, 28)
    assert glyph.normalise([np.zeros((5, 9), np.float32)]).max() == 0


def test_stroke_width_of_known_shapes() -> None:
    page = np.zeros((100, 100), np.float32)
    page[20:80, 50:56] = 1
    assert glyph.stroke_width(page) == pytest.approx(6, rel=0.45)
    assert glyph.stroke_width(np.zeros((4, 4), np.float32)) == 0


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 90), st.integers(1, 90), st.floats(0, 1), st.integers(0, 2**31), st.booleans()
)
def test_any_ink_gives_a_glyph_in_range(
    height: int, width: int, share: float, seed: int, binary: bool
) -> None:
    rng = np.random.default_rng(seed)
    page = rng.random((height, width)).astype(np.float32)
    page = (page < share).astype(np.float32) if binary else page * (page < share)
    image = glyph.normalise([page])[0]
    assert image.shape == (28, 28)
    assert np.isfinite(image).all()
    assert image.min() >= 0
    assert image.max() <= 1
