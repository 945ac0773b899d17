"""The best path: which cuts and which digits, all taken together."""

import numpy as np

from digitry.reading.result import Box
from digitry.reading.search import best_path, guess
from digitry.reading.segment import Piece

PIECE = Piece(Box(0, 0, 10, 20), np.ones((20, 10), np.float32))
GLYPH = np.zeros((28, 28), np.float32)


def seen(value: int, probability: float):
    """A guess of `value` with this probability; the rest goes to what is no digit."""
    probabilities = np.full(11, 1e-6)
    probabilities[value] = probability
    probabilities[10] = 1 - probability
    return guess(PIECE, GLYPH, probabilities)


def values(guesses) -> list[int]:
    return [digit.value for digit in best_path(guesses)]


def test_two_digits_that_touch_are_taken_apart() -> None:
    assert values({(0, 2): seen(4, 0.02), (0, 1): seen(1, 0.9), (1, 2): seen(7, 0.8)}) == [1, 7]


def test_one_digit_is_not_taken_apart_for_parts_that_look_like_less() -> None:
    assert values({(0, 2): seen(0, 0.9), (0, 1): seen(1, 0.8), (1, 2): seen(1, 0.8)}) == [0]


def test_the_best_of_many_cuts_wins() -> None:
    parts = {(0, 1): seen(1, 0.3), (1, 2): seen(1, 0.3), (2, 3): seen(5, 0.95)}
    wider = {(0, 2): seen(0, 0.97), (1, 3): seen(2, 0.5), (0, 3): seen(8, 0.01)}
    assert values(parts | wider) == [0, 5]


def test_one_doubtful_digit_among_sure_ones_does_not_undo_the_cuts() -> None:
    parts = {(0, 1): seen(1, 0.98), (1, 2): seen(4, 0.3), (2, 3): seen(5, 0.97)}
    others = {(0, 2): seen(0, 0.01), (1, 3): seen(2, 0.01), (0, 3): seen(8, 0.01)}
    assert values(parts | others) == [1, 4, 5]


def test_a_letter_whose_parts_are_hardly_digits_stays_whole() -> None:
    letter = {(0, 2): seen(4, 0.05), (0, 1): seen(1, 0.4), (1, 2): seen(1, 0.45)}
    (only,) = best_path(letter)
    assert only is letter[0, 2]
