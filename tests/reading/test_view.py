"""Which of the lines that were read are numbers."""

from dataclasses import replace

import numpy as np

from digitry.reading.find import Place
from digitry.reading.pieces import Piece
from digitry.reading.recognise import NOWHERE
from digitry.reading.result import Box
from digitry.reading.view import ReadLine, Said, View, crosses, numbers, reads_turned


def line(
    height: float, score: float, confidence: float, *, top: int = 50, beside: bool = False
) -> ReadLine:
    """A digit that stands alone, as it was found and read."""
    p = np.zeros(11)
    p[7], p[10] = confidence, 1 - confidence
    ink = Piece(np.ones((4, 4), np.float32), True, NOWHERE, beside)
    said = Said("7", p, confidence, Box(0, top, 10, round(height)), ink)
    middle = top + height / 2
    return ReadLine(Place((0, middle), (10, middle), height, score), (said,), ((0, 1),), True)


def page(*lines: ReadLine, height: int = 400) -> View:
    """A page of such digits."""
    return View(np.full((height, 300), 255, np.uint8), False, 0, lines)


def test_dirt_beside_a_large_digit_is_no_digit_however_surely_it_is_read() -> None:
    speck = line(18, 0.86, 0.99)
    for digit in (line(114, 0.93, 0.8), line(114, 0.8, 0.95)):
        assert numbers(page(digit, speck), 0.5) == [digit]


def test_a_small_digit_beside_something_large_that_is_hardly_a_digit_stays() -> None:
    small, large = line(18, 0.86, 0.99), line(114, 0.8, 0.8)
    assert small in numbers(page(large, small), 0.5)


def test_the_leg_of_a_letter_at_the_border_of_a_picture_is_no_digit() -> None:
    digit = line(30, 0.9, 0.9)
    for top in (0, 370):
        leg = line(30, 0.9, 0.9, top=top)
        assert numbers(page(digit, leg), 0.5) == [digit]
        assert not numbers(page(leg), 0.5)[0].legible


def test_a_digit_that_fills_its_picture_or_is_plainly_one_may_touch_the_border() -> None:
    digit, plain = line(30, 0.9, 0.9, top=0), line(30, 0.9, 0.99, top=0)
    assert numbers(page(digit, height=32), 0.5) == [digit]
    assert numbers(page(plain), 0.5) == [plain]


def test_a_letter_of_a_word_is_no_digit_unless_it_surely_looks_like_one() -> None:
    letter, sure = line(30, 0.9, 0.9, beside=True), line(30, 0.9, 0.99, beside=True)
    assert not numbers(page(letter), 0.5)[0].legible
    assert numbers(page(sure), 0.5) == [sure]


def test_the_only_digit_of_a_picture_must_be_surer_than_a_guess() -> None:
    doubtful, sure = line(30, 0.9, 0.6), line(30, 0.9, 0.7)
    assert not numbers(page(doubtful), 0.5)[0].legible
    assert numbers(page(sure), 0.5) == [sure]
    assert numbers(page(doubtful), 0.5, within=True) == [doubtful]
    # A place at which nothing stands does not count.
    empty = replace(line(12, 0.6, 0.9, top=200), said=())
    assert sure in numbers(page(sure, empty), 0.5)
    assert numbers(page(doubtful, empty), 0.5, within=True)[0].legible


def crossing(value: str, box: Box) -> bool:
    p = np.eye(11)[int(value)]
    ink = Piece(np.ones((4, 4), np.float32), True, NOWHERE)
    said = Said(value, p, 1.0, box, ink)
    place = Place((0, 200), (10, 200), 400, 0)
    return crosses(ReadLine(place, (said,), ((0, 1),), True), (400, 300))


def test_a_fold_or_a_ruling_from_border_to_border_is_no_1() -> None:
    assert crossing("1", Box(100, 0, 12, 400))
    assert not crossing("1", Box(100, 1, 12, 399))
    assert not crossing("1", Box(100, 0, 12, 399))
    assert not crossing("1", Box(100, 0, 150, 400))
    assert not crossing("4", Box(100, 0, 12, 400))


def test_what_a_pattern_names_may_stand_beside_a_digit() -> None:
    digit = line(30, 0.9, 0.9, beside=True)
    assert numbers(page(digit), 0.5, within=True) == [digit]


def number(text: str, confidence: float) -> View:
    """A page with a number, all of whose digits are read with one confidence."""
    p = np.zeros(11)
    ink = Piece(np.ones((4, 4), np.float32), True, NOWHERE)
    said = tuple(Said(digit, p, confidence, Box(0, 50, 10, 30), ink) for digit in text)
    return page(ReadLine(Place((0, 65), (200, 65), 30, 0.9), said, ((0, len(text)),), True))


def test_a_page_is_turned_if_it_plainly_reads_better_so() -> None:
    assert reads_turned(number("5318", 0.99), number("8??5", 0.6))
    # Upside down much of a number is read, too.
    assert reads_turned(number("89153", 0.99), number("85168", 0.85))
    assert not reads_turned(number("89153", 0.99), number("85168", 0.95))
    assert not reads_turned(number("891", 0.99), number("168", 0.85))


def test_a_number_that_is_one_upside_down_too_is_not_turned_for_a_little() -> None:
    for one, turned in (("61991", "16619"), ("5265", "5925")):
        assert not reads_turned(number(one, 0.99), number(turned, 0.85))


def test_a_page_is_not_turned_for_one_and_the_same_digit() -> None:
    assert not reads_turned(number("0000", 0.99), page())
    assert reads_turned(number("0600", 0.99), page())


def test_a_page_on_which_nothing_is_read_may_lie_on_its_side() -> None:
    assert page().doubtful
    assert not View(np.full((28, 28), 255, np.uint8), False).doubtful
