"""Numbers are found where they stand, whole, once, at any size."""

import itertools
import math
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digitry.reading import network
from digitry.reading.find import (
    CELL,
    ENOUGH,
    HARD,
    LARGEST,
    MARGIN,
    MULTIPLE,
    WIDENED,
    Place,
    _bounds,
    _is_same,
    _overlapping,
    distinct,
    find,
    ink_map,
    pyramid,
)

NOTHING = -8.0


class Says:
    """A finder that says of pages of one size what it is told, and of all others nothing."""

    def __init__(self, side: int, cells: np.ndarray) -> None:
        self.side, self.cells = side, cells
        self.shown: list[tuple[int, int]] = []

    def run(self, ink: np.ndarray) -> np.ndarray:
        _, _, height, width = ink.shape
        self.shown.append((height, width))
        assert height % MULTIPLE == width % MULTIPLE == 0
        if (height, width) == (self.side, self.side):
            return self.cells[None]
        return np.full((1, 3, height // CELL, width // CELL), NOTHING, np.float32)


def cells(side: int = 128) -> np.ndarray:
    blank = np.full((3, side // CELL, side // CELL), NOTHING, np.float32)
    blank[2] = 0.0
    return blank


def logit(p: float) -> float:
    return math.log(p / (1 - p))


PAGE = np.full((96, 96), 230, np.uint8)
PAGE[40:56, 40:44] = 20
"""With some ink, or its largest scale is not looked at. There the network sees it as 128x128 pixels, 16 of
them margin on each side."""


def at(cell: float) -> float:
    """The place on `PAGE` of the middle of a cell."""
    return (cell + 0.5) * CELL - MARGIN


@pytest.fixture(scope="module")
def finder() -> network.Session:
    return network.shipped("finder")


# What the network is shown


def test_paper_is_no_ink_however_it_is_lit() -> None:
    for gray in (np.full((60, 80), 240), np.linspace(250, 120, 80)[None].repeat(60, axis=0)):
        assert ink_map(gray.astype(np.uint8)).max() < 60


def test_a_shadow_and_a_table_are_ground_and_a_stroke_in_them_is_ink() -> None:
    gray = np.full((120, 200), 220, np.uint8)
    gray[:, 100:] = 90
    gray[40:80, 30:34] = 60
    gray[40:80, 150:154] = 25
    ink = ink_map(gray)
    assert ink[50:70, 31].min() > 200
    assert ink[50:70, 151].min() > 200
    assert ink[:, 60:85].max() == ink[:, 170:].max() == 0


def test_faint_ink_is_half_as_strong_as_the_strongest() -> None:
    gray = np.full((60, 60), 250, np.uint8)
    gray[20:40, 30:32] = 220
    assert 120 < ink_map(gray)[25:35, 30].mean() < 160


@pytest.mark.parametrize(
    ("height", "width"),
    [(3000, 5000), (1200, 900), (200, 40), (28, 28), (5, 400), (1, 1), (1, 3000)],
)
def test_every_page_is_seen_at_halves_of_its_size(height: int, width: int) -> None:
    pages = pyramid(np.full((height, width), 200, np.uint8))
    long = max(height, width)
    sides = [max(page.shape) for page, _ in pages]
    assert sides[0] == pytest.approx(min(max(long, ENOUGH), LARGEST), abs=1)
    assert all(abs(small - large / 2) <= 1 for large, small in itertools.pairwise(sides))
    for page, (across, down) in pages:
        assert min(page.shape) >= 4
        assert page.shape == (round(height * down), round(width * across))


def test_the_largest_scale_is_looked_at_where_ink_is_left() -> None:
    paper = np.full((400, 400), 230, np.uint8)
    nothing = Says(0, cells())
    find(paper, nothing)
    assert max(nothing.shown) == (256, 256), "half of the page, with its margin"
    small = paper.copy()
    small[300:310, 320:322] = 20
    nothing.shown.clear()
    find(small, nothing)
    window = nothing.shown[-1]
    assert len(nothing.shown) == len(pyramid(small))
    assert window[0] < 432 and window[1] < 432, "around the small writing alone"


def test_a_number_that_was_found_is_no_reason_to_look_closer(
    sheet: Callable[..., np.ndarray], finder: network.Session
) -> None:
    sizes = []

    class Counts:
        def run(self, ink: np.ndarray) -> np.ndarray:
            sizes.append(ink.size)
            return finder.run(ink)

    (place,) = find(sheet(400, 600, ("4711", 120, 150), tall=70), Counts())
    assert place.height == pytest.approx(70, rel=0.25)
    assert max(sizes) < 400 * 600 / 2


# What it says


def test_cells_that_hang_together_are_one_number_with_its_ends_and_height() -> None:
    said = cells()
    said[0, 10:12, 8:21] = logit(0.95)
    (place,) = find(PAGE, Says(128, said))
    # The network marks numbers wider, by a part of their height.
    less = WIDENED * 16 / CELL
    assert place.start == pytest.approx((at(7.5 + less), at(10.5)))
    assert place.end == pytest.approx((at(20.5 - less), at(10.5)))
    assert place.height == pytest.approx(16)
    assert place.score == pytest.approx(0.95, abs=0.01)


def test_a_sloping_number_has_a_slope_and_a_short_one_is_level() -> None:
    said = cells()
    for column in range(4, 28):
        row = 8 + (column - 4) // 3
        said[0, row : row + 2, column] = logit(0.9)
    (place,) = find(PAGE, Says(128, said))
    assert math.tan(place.slope) == pytest.approx(1 / 3, abs=0.04)
    short = cells()
    short[0, 10, 8:10] = short[0, 11, 9:11] = logit(0.9)
    (place,) = find(PAGE, Says(128, short))
    assert place.slope == 0


def test_a_number_goes_on_where_the_network_is_hardly_unsure() -> None:
    said = cells()
    said[0, 10:12, 8:16] = logit(0.95)
    sure = find(PAGE, Says(128, said))[0]
    said[0, 10:12, 16:20] = logit(0.3)
    longer = find(PAGE, Says(128, said))[0]
    assert longer.start == pytest.approx(sure.start)
    assert longer.end[0] == pytest.approx(sure.end[0] + 4 * CELL, abs=CELL)


def test_what_is_nowhere_sure_is_no_number() -> None:
    said = cells()
    said[0, 10:12, 8:16] = logit(0.55)
    assert find(PAGE, Says(128, said)) == []


@pytest.mark.parametrize("tall", [-2.5, 2.5])
def test_heights_that_the_network_does_not_know_are_not_believed(tall: float) -> None:
    said = cells()
    said[0, 10:12, 8:16] = logit(0.95)
    said[2] = tall
    assert not HARD[0] <= 16 * 2**tall <= HARD[1]
    assert find(PAGE, Says(128, said)) == []


# One number, once


def line(x0: float, x1: float, y: float = 50, height: float = 20, score: float = 0.9) -> Place:
    return Place((x0, y), (x1, y), height, score)


def test_of_one_number_at_two_scales_the_surer_is_kept() -> None:
    sure, less = line(10, 110, score=0.95), line(13, 108, y=51, height=22, score=0.8)
    assert distinct([less, sure]) == distinct([sure, less]) == [sure]


def test_a_part_of_a_number_is_no_second_number() -> None:
    assert distinct([line(60, 80, height=30, score=0.7), line(10, 110)]) == [line(10, 110)]


def test_numbers_apart_are_all_kept() -> None:
    places = [line(10, 60), line(120, 160), line(10, 60, y=90), line(10, 60, y=10)]
    assert sorted(distinct(places), key=str) == sorted(places, key=str)


def test_a_number_whose_end_another_scale_saw_reaches_to_there() -> None:
    (place,) = distinct([line(10, 110, score=0.95), line(60, 150, y=52, score=0.9)])
    assert (place.start[0], place.end[0]) == pytest.approx((10, 150))
    assert place.score == 0.95


@pytest.mark.parametrize("third", [[], [line(60, 128, y=51, score=0.8)]], ids=["two", "three"])
def test_parts_of_a_number_that_share_a_digit_are_one_number(third: list[Place]) -> None:
    (place,) = distinct([line(10, 110, score=0.95), line(100, 200, score=0.9), *third])
    assert (place.start[0], place.end[0]) == pytest.approx((10, 200))


def test_a_number_does_not_reach_to_another_line() -> None:
    kept = distinct([line(10, 110, score=0.95), line(60, 150, y=59, score=0.9)])
    assert kept[0].end[0] == 110


# With the shipped network


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 400), (400, 1), (3, 3), (28, 28), (300, 200), (2000, 3000)]
)
def test_an_empty_page_has_no_number(shape: tuple[int, int], finder: network.Session) -> None:
    assert find(np.full(shape, 230, np.uint8), finder) == []


@pytest.mark.parametrize("tall", [20, 56, 150, 500])
def test_a_drawn_number_is_found_where_its_ink_is(
    tall: int, sheet: Callable[..., np.ndarray], finder: network.Session
) -> None:
    page = sheet(3 * tall, 7 * tall, ("2748", tall, tall), tall=tall, thick=0.09 * tall)
    rows, columns = np.nonzero(page < 150)
    (place,) = find(page, finder)
    assert place.height == pytest.approx(np.ptp(rows), rel=0.25)
    # None of its ink is left out; a little paper at the ends does no harm.
    assert -tall < place.start[0] - columns.min() < 0.25 * tall
    assert -0.25 * tall < place.end[0] - columns.max() < tall
    assert place.middle[1] == pytest.approx((rows.min() + rows.max()) / 2, abs=0.2 * tall)


def test_a_turned_number_has_its_slope(
    sheet: Callable[..., np.ndarray], finder: network.Session
) -> None:
    page = sheet(300, 500, ("274836", 90, 120))
    turn = cv2.getRotationMatrix2D((250, 150), -8, 1)
    turned = cv2.warpAffine(page, turn, (500, 300), borderValue=235)
    (place,) = find(turned, finder)
    assert math.degrees(place.slope) == pytest.approx(8, abs=2)


def test_numbers_of_several_sizes_are_found_together(
    sheet: Callable[..., np.ndarray], finder: network.Session
) -> None:
    page = np.minimum(
        sheet(500, 700, ("36", 60, 250), tall=200, thick=16),
        sheet(500, 700, ("2748", 60, 60), ("159", 420, 60), tall=30, thick=3),
    )
    places = find(page, finder)
    assert sorted(round(place.height / 100) for place in places) == [0, 0, 2]


NUMBERS = st.floats(0, 200)
PLACES = st.builds(
    lambda x, y, length, slope, height: Place(
        (x, y), (x + length * math.cos(slope), y + length * math.sin(slope)), height, 0.9
    ),
    NUMBERS, NUMBERS, st.floats(1, 150), st.floats(-0.5, 0.5), st.floats(4, 60),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(one=PLACES, other=PLACES)
def test_places_of_one_number_are_always_compared(one: Place, other: Place) -> None:
    """Places whose bounds do not overlap are not compared: they must be of two numbers."""
    near = _overlapping(_bounds(one), np.array([_bounds(other)]))[0]
    assert near or not _is_same(one, other)
