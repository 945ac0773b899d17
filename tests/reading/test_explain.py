"""An explanation shows the glyph, and the parts that decided its value."""

from collections.abc import Callable

import numpy as np
import pytest

from digitry.reading import explain
from digitry.reading.reader import Reader


def corner_counts(glyphs: np.ndarray) -> np.ndarray:
    """A network whose probability of 1 is the ink in its upper left corner, the rest of 0."""
    share = glyphs[:, :7, :7].mean(axis=(1, 2))
    result = np.zeros((len(glyphs), 10))
    result[:, 1], result[:, 0] = share, 1 - share
    return result


def test_occlusion_marks_the_deciding_part() -> None:
    glyph = np.zeros((28, 28), np.float32)
    glyph[:7, :7] = 1
    glyph[20:26, 20:26] = 1
    heat = explain.occlusion(corner_counts, glyph, 1)
    assert heat.shape == (28, 28)
    assert heat[:6, :6].min() > 0.05
    assert heat[14:, 14:].max() == 0


def test_missing_ink_is_marked_too() -> None:
    heat = explain.occlusion(corner_counts, np.zeros((28, 28), np.float32), 0)
    assert heat[:6, :6].min() > 0.05
    assert heat[14:, 14:].max() == 0


@pytest.mark.parametrize("content", ["digit", "blank"])
def test_a_picture_has_a_row_for_each_digit(content: str, sheet: Callable[..., np.ndarray]) -> None:
    page = sheet(110, 180, ("25" if content == "digit" else "", 30, 25))
    reading, picture = explain.explain(Reader(), page)
    rows = max(1, len(reading.digits))
    assert len(reading.digits) == (2 if content == "digit" else 0)
    assert picture.height == rows * (explain.CELL + 16) + 40
    assert np.asarray(picture).std() > 5
