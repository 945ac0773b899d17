"""Each character of a line has its own ink, and stands free where no other ink touches it."""

import numpy as np
import pytest

from digitry.reading.boxes import Box
from digitry.reading.decode import Character, Line, Strip
from digitry.reading.lines import CUT, HEIGHT, Cut, strip
from digitry.reading.pieces import on_cut, pieces

TALL = 20


def line_of(ink: np.ndarray, *boxes: Box) -> tuple[Cut, Line, Strip]:
    """A line with characters in boxes of its cut."""
    cut = Cut(ink, np.eye(2, 3))
    scale = TALL / (CUT / 2)
    shift = TALL - HEIGHT // 2
    characters = tuple(
        Character(
            "1",
            0.9,
            Box(
                round(box.start * scale),
                round(box.end * scale),
                round(box.top * scale) - shift,
                round(box.bottom * scale) - shift,
            ),
            (("1", 0.9),),
        )
        for box in boxes
    )
    made = strip(cut, TALL)
    return (
        cut,
        Line("1" * len(boxes), 0.9, characters, ()),
        Strip(np.zeros((made.shape[1] // 2, 17)), made, TALL),
    )


def blank() -> np.ndarray:
    return np.zeros((CUT, 160), np.uint8)


LEFT, RIGHT = Box(32, 48, 16, 48), Box(64, 80, 16, 48)


def two() -> np.ndarray:
    """Two upright bars in `LEFT` and `RIGHT`."""
    ink = blank()
    ink[17:47, 34:40] = 255
    ink[17:47, 68:74] = 255
    return ink


def test_digits_apart_stand_free_with_their_own_ink() -> None:
    left, right = pieces(*line_of(two(), LEFT, RIGHT))
    for piece in (left, right):
        assert piece.free
        assert (piece.ink > 0.5).sum() == 30 * 6
        assert 0 <= piece.ink.min() <= piece.ink.max() <= 1
    assert left.box.start < 34 < 40 < left.box.end
    assert right.box.start < 68 < 74 < right.box.end


def test_digits_that_touch_do_not_stand_free() -> None:
    ink = two()
    ink[30:34, 34:74] = 255
    left, right = pieces(*line_of(ink, LEFT, RIGHT))
    assert not left.free
    assert not right.free
    # Each still shows the ink in its box.
    assert left.ink[:, : left.ink.shape[1] // 2].max() == 1


def test_a_digit_on_a_ruling_does_not_stand_free() -> None:
    ink = two()
    ink[46:48] = 255
    assert [piece.free for piece in pieces(*line_of(ink, LEFT, RIGHT))] == [False, False]


def test_a_ruling_apart_from_the_digits_does_not_touch_them() -> None:
    ink = two()
    ink[54:56] = 255
    found = pieces(*line_of(ink, LEFT, RIGHT))
    assert [piece.free for piece in found] == [True, True]
    assert all((piece.ink > 0.5).sum() == 30 * 6 for piece in found)


def test_a_neighbours_ink_that_reaches_in_is_left_out() -> None:
    ink = two()
    # A long stroke whose end lies in the box of the left digit.
    ink[20:24, 46:100] = 255
    ink[20:60, 96:100] = 255
    (left,) = pieces(*line_of(ink, LEFT))
    assert (left.ink > 0.5).sum() == 30 * 6


def test_a_box_without_ink_has_a_piece_that_is_not_free() -> None:
    (piece,) = pieces(*line_of(blank(), LEFT))
    assert piece.ink.max() == 0
    assert not piece.free


@pytest.mark.parametrize("tall", [17, 20, 23, 26])
def test_a_box_of_a_strip_is_told_on_the_cut(tall: int) -> None:
    ink = blank()
    ink[20:44, 50:66] = 255
    cut = Cut(ink, np.eye(2, 3))
    rows, columns = np.nonzero(strip(cut, tall) > 0.5)
    box = on_cut(
        Box(int(columns.min()), int(columns.max()) + 1, int(rows.min()), int(rows.max()) + 1),
        cut,
        tall,
    )
    assert (box.start, box.end, box.top, box.bottom) == pytest.approx((50, 66, 20, 44), abs=2)


def test_a_box_beyond_the_cut_is_kept_on_it() -> None:
    box = on_cut(Box(-5, 500, -9, 90), Cut(blank(), np.eye(2, 3)), TALL)
    assert (box.start, box.end, box.top, box.bottom) == (0, 160, 0, CUT)


def test_a_character_alone_is_beside_ink_that_is_not_read() -> None:
    def beside(rows: slice, columns: slice) -> bool:
        ink = blank()
        ink[17:47, 34:40] = ink[rows, columns] = 255
        (piece,) = pieces(*line_of(ink, LEFT))
        return piece.beside

    letter, point, border = slice(17, 47), slice(42, 47), slice(0, CUT)
    assert beside(letter, slice(54, 60))
    assert not beside(letter, slice(70, 76))
    assert not beside(point, slice(54, 60))
    assert not beside(border, slice(54, 60))
    frame = blank()
    frame[12:52, 28:52] = 255
    frame[15:49, 31:49] = 0
    frame[17:47, 38:42] = 255
    (piece,) = pieces(*line_of(frame, LEFT))
    assert not piece.beside
    # What is read is writing that the line network knows.
    assert not any(piece.beside for piece in pieces(*line_of(two(), LEFT, RIGHT)))
