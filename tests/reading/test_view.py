"""Which of the lines that were read are numbers."""

import numpy as np

from digitry.reading.find import Place
from digitry.reading.pieces import Piece
from digitry.reading.recognise import NOWHERE
from digitry.reading.result import Box
from digitry.reading.view import ReadLine, Said, numbers


def line(height: float, score: float, confidence: float) -> ReadLine:
    """A digit that stands alone, as it was found and read."""
    p = np.zeros(11)
    p[7], p[10] = confidence, 1 - confidence
    ink = Piece(np.ones((4, 4), np.float32), True, NOWHERE)
    said = Said("7", p, confidence, Box(0, 0, 10, round(height)), ink)
    return ReadLine(Place((0, height), (10, height), height, score), (said,), ((0, 1),), True)


def test_dirt_beside_a_large_digit_is_no_digit_however_surely_it_is_read() -> None:
    speck = line(18, 0.86, 0.99)
    for digit in (line(114, 0.93, 0.8), line(114, 0.8, 0.95)):
        assert numbers([digit, speck], 0.5) == [digit]


def test_a_small_digit_beside_something_large_that_is_hardly_a_digit_stays() -> None:
    small, large = line(18, 0.86, 0.99), line(114, 0.8, 0.8)
    assert small in numbers([large, small], 0.5)
