"""Numbers come in reading order: rows from top to bottom, each from left to right."""

import math

import numpy as np
import pytest

from digitry.reading.find import Place
from digitry.reading.order import APART, joined, page_slope, rows


def place(
    x: float, y: float, length: float = 60, height: float = 20, degrees: float = 0.0
) -> Place:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return Place((x, y), (x + length * cos, y + length * sin), height, 0.9)


def turned(places: list[Place], degrees: float) -> list[Place]:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

    def at(point: tuple[float, float]) -> tuple[float, float]:
        return point[0] * cos - point[1] * sin, point[0] * sin + point[1] * cos

    return [Place(at(one.start), at(one.end), one.height, one.score) for one in places]


def table(columns: int = 4, lines: int = 5) -> list[Place]:
    return [place(100 * i, 36 * j) for j in range(lines) for i in range(columns)]


def in_order(found: list[list[int]], columns: int) -> bool:
    return [k for row in found for k in row] == list(range(sum(map(len, found)))) and all(
        len(row) == columns for row in found
    )


def test_no_numbers_make_no_rows() -> None:
    assert rows([]) == []


def test_rows_go_down_and_numbers_in_them_to_the_right() -> None:
    places = table()
    order = np.random.default_rng(0).permutation(len(places)).tolist()
    found = rows([places[k] for k in order])
    assert [[order[k] for k in row] for row in found] == [
        [4 * j + i for i in range(4)] for j in range(5)
    ]


def test_a_page_that_lies_askew_has_the_same_rows() -> None:
    for degrees in (-12, -4, 7, 15):
        assert in_order(rows(turned(table(), degrees)), 4)


def test_a_row_that_bends_is_one_row() -> None:
    bent = [place(90 * i, 100 + 4 * (i - 4) ** 2 / 4, length=40) for i in range(9)]
    below = [place(90 * i, 136 + 4 * (i - 4) ** 2 / 4, length=40) for i in range(9)]
    assert [len(row) for row in rows(bent + below)] == [9, 9]


def test_columns_of_numbers_are_not_one_row_however_near_their_lines_are() -> None:
    # Two narrow lines of small writing beside a high number.
    places = [place(0, 50, 60, 60), place(120, 40, 60, 16), place(120, 60, 60, 16)]
    found = rows(places)
    assert sorted(map(len, found)) in ([1, 1, 1], [1, 2])
    assert not any({1, 2} <= set(row) for row in found)


def test_numbers_above_each_other_are_two_rows() -> None:
    assert rows([place(0, 50), place(10, 56)]) == [[0], [1]]


def test_a_digit_that_stands_a_little_higher_is_in_the_row() -> None:
    assert rows([place(0, 50), place(90, 45, 12), place(130, 52)]) == [[0, 1, 2]]


def test_the_slope_of_a_page_is_that_of_its_longer_numbers() -> None:
    long = [place(0, 40 * k, 200, degrees=6) for k in range(3)]
    short = [place(300, 10 * k, 30, degrees=-40) for k in range(9)]
    assert math.degrees(page_slope([*short, *long])) == pytest.approx(6)
    assert page_slope(short) == 0


def test_parts_of_a_field_are_joined_where_they_are_near_and_of_one_size() -> None:
    near = [place(0, 50), place(60 + 0.5 * APART * 20, 50)]
    (one,) = joined(near)
    assert (one.start, one.end) == (near[0].start, near[1].end)
    assert len(joined([place(0, 50), place(60 + 1.2 * APART * 20, 50)])) == 2
    assert len(joined([place(0, 50), place(70, 50, height=40)])) == 2
    assert joined([]) == []
