"""The one digit of a picture: its main piece, what belongs to it, and nothing else."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from digitry.reading.alone import alone, at_border, box_of
from digitry.reading.ink import lift
from digitry.reading.result import Box


def blank(height: int = 100, width: int = 90, level: int = 225) -> np.ndarray:
    return np.full((height, width), level, np.uint8)


def test_a_shadow_and_a_gradient_are_paper() -> None:
    page = blank(200, 300).astype(np.float32)
    page *= np.linspace(1, 0.5, 300)[None]
    page[:, 150:] *= 0.7
    clean = page.astype(np.uint8)
    assert alone(lift(cv2.GaussianBlur(clean, (0, 0), 3))) is None
    page[60:140, 70:78] *= 0.4
    found = alone(lift(cv2.GaussianBlur(page, (0, 0), 1).astype(np.uint8)))
    assert found is not None
    assert abs(found.box.x - 69) <= 4
    assert abs(found.box.h - 82) <= 6


@pytest.mark.parametrize("symbol", "0123456789")
def test_a_digit_is_found_whole(symbol: str, sheet: Callable[..., np.ndarray]) -> None:
    page = sheet(110, 110, (symbol, 30, 25))
    rows, columns = np.nonzero(page < 150)
    found = alone(lift(page))
    assert found is not None
    assert not found.cut
    wanted = (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
    assert found.box.to_list() == pytest.approx(wanted, abs=4)
    assert found.ink.shape == (found.box.h, found.box.w)
    assert 0 <= found.ink.min() <= found.ink.max() <= 1


def test_a_neighbours_ink_at_the_rim_is_left_out(sheet: Callable[..., np.ndarray]) -> None:
    page = sheet(100, 90, ("3", 30, 20))
    page[15:80, 0:5] = 40
    found = alone(lift(page))
    assert found is not None
    assert found.box.x > 20


def test_the_hat_of_a_five_belongs_to_it() -> None:
    page = blank(120, 200)
    cv2.ellipse(page, (80, 75), (18, 18), 0, -120, 150, 40, 4)
    cv2.line(page, (68, 40), (66, 60), 40, 4)
    cv2.line(page, (76, 34), (102, 33), 40, 4)
    found = alone(lift(page))
    assert found is not None
    assert found.box.y <= 34
    assert found.box.right >= 100


def test_dirt_is_left_out(sheet: Callable[..., np.ndarray]) -> None:
    page = sheet(110, 110, ("3", 35, 25))
    clean = alone(lift(page))
    page[8:10, 8:10] = page[100:102, 90:92] = 90
    found = alone(lift(page))
    assert found is not None
    assert clean is not None
    assert found.box == clean.box


def test_a_digit_that_runs_out_of_the_page_is_cut(sheet: Callable[..., np.ndarray]) -> None:
    found = alone(lift(sheet(110, 110, ("8", 30, 25))[:, :52]))
    assert found is not None
    assert found.cut


@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_even_page_has_no_ink(level: int) -> None:
    assert alone(lift(blank(level=level))) is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 2), (3, 500), (400, 400)])
def test_noise_of_any_shape_is_harmless(shape: tuple[int, int]) -> None:
    page = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    found = alone(lift(page))
    assert found is None or (found.box.right <= shape[1] and found.box.bottom <= shape[0])


def test_boxes_of_components() -> None:
    box = box_of(np.array([3, 4, 10, 20, 99], np.int32))
    assert box == Box(3, 4, 10, 20)
    assert not at_border(box, 100, 100)
    assert at_border(box, 13, 100)
    assert at_border(box, 100, 24)
    assert at_border(Box(0, 4, 10, 20), 100, 100)
