"""A line arrives level on strips of one height, and what stands on a strip can be told on the page."""

import math

import cv2
import numpy as np
import pytest

from digitry.reading import lines, network
from digitry.reading.find import Place
from digitry.reading.lines import ASIDE, COLUMNS, CUT, HEIGHT, LONGEST, TALL, Cut, cut, seen, strip


class Shade:
    """A line network whose scores are the mean ink of each second column; it counts its calls."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []

    def run(self, strips: np.ndarray) -> np.ndarray:
        self.batches.append(strips.shape)
        count, _, _, width = strips.shape
        by_column = strips.reshape(count, HEIGHT, width // 2, 2).mean(axis=(1, 3))
        return np.repeat(by_column[:, :, None], 17, axis=2)


def along(degrees: float, *, height: float = 40, length: float = 240) -> tuple[np.ndarray, Place]:
    """Draw a bar as high as a fifth of a digit along the middle of a sloping line."""
    x, y = 160.0, 200.0
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    end = (x + length * cos, y + length * sin)
    page = np.full((420, 560), 230, np.uint8)
    ends = [tuple(round(16 * v) for v in point) for point in ((x, y), end)]
    cv2.line(page, ends[0], ends[1], 40, round(height / 5), cv2.LINE_AA, 4)
    return page, Place((x, y), end, height, 0.9)


@pytest.mark.parametrize("degrees", [-20, -5, 0, 12])
def test_a_sloping_line_arrives_level(degrees: float) -> None:
    page, place = along(degrees)
    line = cut(page, place)
    assert line.ink.shape == (CUT, round((240 + 2 * ASIDE * 40) / 40 * CUT / 2))
    for column in range(30, line.ink.shape[1] - 30, 10):
        rows = np.flatnonzero(line.ink[:, column] > 128)
        assert rows.mean() == pytest.approx(CUT / 2 - 0.5, abs=1)
        assert len(rows) == pytest.approx(CUT / 2 / 5, abs=2)


@pytest.mark.parametrize("degrees", [-20, 0, 12])
def test_points_of_a_cut_are_told_on_the_page(degrees: float) -> None:
    page, place = along(degrees)
    line = cut(page, place)
    first, last = ASIDE * CUT / 2, line.ink.shape[1] - ASIDE * CUT / 2
    for x, wanted in ((first, place.start), (last, place.end)):
        assert line.to_page @ (x, CUT / 2, 1) == pytest.approx(wanted, abs=1)
    # Up on the cut is up from the line.
    up = line.to_page @ (first, CUT / 4, 1) - place.start
    assert np.linalg.norm(up) == pytest.approx(place.height / 2, abs=0.5)
    assert up[1] < 0


@pytest.mark.parametrize("height", [6, 15, 33, 90, 400])
def test_a_place_on_the_page_is_the_same_on_the_cut_at_any_size(height: int) -> None:
    page = np.full((3 * height, 8 * height), 230, np.uint8)
    page[height : 2 * height, 3 * height : round(3.2 * height)] = 30
    place = Place((height, 1.5 * height), (7 * height, 1.5 * height), height, 0.9)
    line = cut(page, place)
    rows, columns = np.nonzero(line.ink > 128)
    low = line.to_page @ (columns.min(), rows.min(), 1)
    high = line.to_page @ (columns.max() + 1, rows.max() + 1, 1)
    near = max(0.06 * height, 1)
    assert low == pytest.approx((3 * height, height), abs=near)
    assert high == pytest.approx((3.2 * height, 2 * height), abs=near)


def test_a_large_line_is_averaged_and_makes_no_false_stripes() -> None:
    height = 320
    page = np.full((2 * height, 6 * height), 230, np.uint8)
    # Stripes finer than a pixel of the cut, in a square as high as a digit.
    page[height // 2 : 3 * height // 2 : 3, 2 * height : 3 * height] = 30
    line = cut(page, Place((height, height), (5 * height, height), height, 0.9))
    left = round((1 + ASIDE) * CUT / 2)
    inside = line.ink[CUT // 4 + 3 : 3 * CUT // 4 - 3, left + 3 : left + CUT // 2 - 3]
    assert inside.min() > 0
    # Pixels taken here and there would be all or nothing.
    assert inside.std() < 0.25 * inside.mean()


def test_a_line_that_begins_beyond_the_page_is_cut_out_with_empty_paper_there() -> None:
    page = np.full((40, 100), 230, np.uint8)
    page[10:30, 20:24] = 30
    line = cut(page, Place((-40, 20), (90, 20), 20, 0.9))
    scale = CUT / 2 / 20
    assert line.ink[:, : round(40 * scale)].max() < 40
    assert line.ink[CUT // 2].max() > 200


def test_no_line_is_longer_than_the_longest() -> None:
    page = np.full((20, 4000), 230, np.uint8)
    line = cut(page, Place((0, 10), (4000, 10), 8, 0.9))
    assert line.ink.shape[1] == round((LONGEST + 2 * ASIDE) * CUT / 2)


@pytest.mark.parametrize("tall", TALL)
def test_a_strip_has_digits_of_the_height_asked_for_in_its_middle(tall: int) -> None:
    ink = np.zeros((CUT, 301), np.uint8)
    ink[CUT // 4 : 3 * CUT // 4, 100:108] = 255
    made = strip(Cut(ink, np.eye(2, 3)), tall)
    assert made.shape[0] == HEIGHT
    assert made.shape[1] % 4 == 0
    assert 0 <= made.min() <= made.max() <= 1
    rows = np.flatnonzero((made > 0.5).any(axis=1))
    assert len(rows) == pytest.approx(tall, abs=1)
    assert rows.mean() == pytest.approx(HEIGHT / 2 - 0.5, abs=1)


def cuts(*widths: int) -> list[Cut]:
    rng = np.random.default_rng(0)
    return [Cut(rng.integers(0, 256, (CUT, w)).astype(np.uint8), np.eye(2, 3)) for w in widths]


def test_each_line_gets_its_own_strips_whatever_is_read_beside_it() -> None:
    lines_ = cuts(300, 40, 1200, 90, 16)
    together = seen(lines_, Shade())
    for line, strips in zip(lines_, together, strict=True):
        (alone,) = seen([line], Shade())
        assert [one.height for one in strips] == list(TALL)
        for one, other in zip(strips, alone, strict=True):
            assert one.scores.shape == (one.ink.shape[1] // 2, 17)
            np.testing.assert_array_equal(one.ink, other.ink)
            np.testing.assert_allclose(one.scores, other.scores)


def test_batches_are_bounded_and_hold_strips_of_about_one_width() -> None:
    shade = Shade()
    seen(cuts(*range(60, 900, 20)), shade)
    assert len(shade.batches) > 5
    for count, _, _, width in shade.batches:
        assert count == 1 or count * width <= COLUMNS


def test_no_lines_ask_nothing() -> None:
    shade = Shade()
    assert seen([], shade) == []
    assert shade.batches == []


def test_the_ink_of_a_line_has_lost_a_shadow_and_kept_its_ruling() -> None:
    gray = np.full((CUT, 200), 210, np.uint8)
    gray[:, 100:] = 140
    gray[20:44, 50:54] = 40
    gray[50:52] = 90
    ink = lines.lifted(gray)
    assert ink[25:40, 51].min() > 200
    assert ink[5:15, 20:40].max() < 30
    assert ink[5:15, 150:190].max() < 30
    assert ink[51, 10:40].min() > 100


def test_the_shipped_network_gives_probabilities_by_column() -> None:
    (strips,) = seen(cuts(200), network.shipped("lines"))
    for one in strips:
        np.testing.assert_allclose(np.exp(one.scores).sum(axis=1), 1, atol=1e-4)
