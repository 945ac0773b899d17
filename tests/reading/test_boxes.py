"""Where on a strip each character is."""

import numpy as np
import pytest

from digitry.reading.boxes import boxes

HEIGHT = 20


def spans(ink: np.ndarray, seen: np.ndarray, height: float) -> list[tuple[int, int]]:
    return [(box.start, box.end) for box in boxes(ink, seen, height)]


def bars(*columns: tuple[int, int], width: int = 100) -> np.ndarray:
    """A strip with solid characters, each from a column to before another."""
    ink = np.zeros((32, width), np.float32)
    for start, end in columns:
        ink[6:26, start:end] = 1
    return ink


def seen(*middles: float) -> np.ndarray:
    """What the network says of characters: a column pair at the middle of each."""
    return np.array([(m - 0.5, m + 0.5) for m in middles]).reshape(-1, 2)


def test_characters_apart_take_the_columns_of_their_ink() -> None:
    ink = bars((10, 22), (30, 33), (41, 55))
    assert spans(ink, seen(15, 31, 48), HEIGHT) == [(10, 22), (30, 33), (41, 55)]


def test_faint_ink_is_ink_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    ink = (0.5 * bars((10, 22), (30, 44)) + rng.uniform(0, 0.1, (32, 100))).astype(np.float32)
    assert spans(ink, seen(16, 37), HEIGHT) == [(10, 22), (30, 44)]


def test_touching_characters_are_cut_where_there_is_least_ink() -> None:
    ink = bars((10, 20), (23, 33))
    ink[15, 20:23] = 1
    (_, first_end), (second_start, _) = spans(ink, seen(15, 28), HEIGHT)
    assert first_end == second_start
    assert 20 <= first_end <= 23


def test_a_character_in_two_pieces_is_one() -> None:
    # An open 4: two strokes side by side, seen between them.
    ink = bars((10, 13), (19, 22), (40, 52))
    assert spans(ink, seen(16, 46), HEIGHT) == [(10, 22), (40, 52)]


def test_slanted_neighbours_may_share_columns() -> None:
    ink = np.zeros((32, 60), np.float32)
    for row in range(20):
        ink[25 - row, 10 + row // 2 : 13 + row // 2] = 1
        ink[25 - row, 17 + row // 2 : 20 + row // 2] = 1
    assert spans(ink, seen(16, 23), HEIGHT) == [(10, 22), (17, 29)]


def test_rulings_and_borders_belong_to_nobody() -> None:
    ink = bars((20, 30), (50, 62))
    ink[28, :] = 1
    ink[:, 3:5] = ink[:, 95:97] = 1
    assert spans(ink, seen(25, 56), HEIGHT) == [(20, 30), (50, 62)]


def test_a_character_without_ink_has_a_place_all_the_same() -> None:
    ((start, end),) = spans(np.zeros((32, 100), np.float32), seen(50), HEIGHT)
    assert start < 50 < end


def test_other_writing_reaches_as_far_as_it_was_seen() -> None:
    ink = bars((10, 14), (20, 24), (30, 34), (60, 70))
    found = spans(ink, np.array([(11.0, 32.0), (64.0, 65.0)]), HEIGHT)
    assert found == [(10, 34), (60, 70)]


@pytest.mark.parametrize("width", [0, 1, 4])
def test_narrow_strips_do(width: int) -> None:
    ink = np.ones((32, width), np.float32)
    assert spans(ink, seen(), HEIGHT) == []
    if width:
        ((start, end),) = spans(ink, seen(0), HEIGHT)
        assert 0 <= start < end <= width


def test_every_character_has_columns_within_the_strip() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        width, count = int(rng.integers(4, 120)), int(rng.integers(1, 9))
        ink = rng.random((32, width), np.float32) ** 4
        found = spans(ink, seen(*np.sort(rng.uniform(0, width - 1, count))), HEIGHT)
        assert len(found) == count
        assert all(0 <= start < end <= width for start, end in found)


def test_a_box_ends_where_its_ink_does() -> None:
    ink = np.zeros((32, 60), np.float32)
    ink[4:20, 10:20] = 1
    ink[12:28, 30:40] = 1
    found = boxes(ink, seen(15, 35), HEIGHT)
    assert [(box.top, box.bottom) for box in found] == [(4, 20), (12, 28)]


def test_a_digit_that_fills_the_strip_is_no_border() -> None:
    ink = np.zeros((32, 40), np.float32)
    ink[:, 18:21] = 1
    (box,) = boxes(ink, seen(19), 31)
    assert (box.start, box.end, box.top, box.bottom) == (18, 21, 0, 32)
