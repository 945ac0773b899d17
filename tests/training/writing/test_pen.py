import cv2
import numpy as np
import pytest

from digitry.errors import UsageError
from digitry.training.writing.pen import (
    DIGITS,
    LETTERS,
    SMALL,
    SYMBOLS,
    draw,
    hands_of,
    pick_hand,
    strokes_of,
    trace,
    wobble,
)

EVERY_FORM = [
    (symbol, hand) for symbol in DIGITS + LETTERS + SYMBOLS for hand in range(hands_of(symbol))
]
LOOPS = {"0": 1, "6": 1, "8": 2, "9": 1}
"""Of a digit in its first form, which closes them."""


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def holes(ink: np.ndarray) -> int:
    empty = (ink < 0.5).astype(np.uint8)
    return cv2.connectedComponents(empty, connectivity=4)[0] - 2


def test_every_digit_is_written_in_four_hands_or_more() -> None:
    assert tuple("0123456789") == DIGITS
    assert all(hands_of(digit) >= 4 for digit in DIGITS)


def test_letters_that_some_hand_makes_a_digit_of_are_left_out() -> None:
    assert len(LETTERS) >= 24
    assert not set(LETTERS) & set("OoIlZzSsBgqbG")


def test_signs_that_only_size_or_lean_tells_from_a_one_are_named() -> None:
    assert set(SYMBOLS) > SMALL
    assert "comma" in SMALL


@pytest.mark.parametrize(("symbol", "hand"), EVERY_FORM)
def test_every_form_lies_in_the_unit_box_as_fine_even_polylines(symbol: str, hand: int) -> None:
    strokes = strokes_of(symbol, hand)
    points = np.concatenate(strokes)
    assert points.min() > -0.03
    assert points.max() < 1.03
    for stroke in strokes:
        assert stroke.ndim == 2
        assert stroke.shape[1] == 2
        assert stroke.shape[0] >= 2
        assert stroke.dtype == np.float64
        assert np.hypot(*np.diff(stroke, axis=0).T).max() < 0.08


@pytest.mark.parametrize(("digit", "hand"), [form for form in EVERY_FORM if form[0] in DIGITS])
def test_every_digit_fills_the_height_of_the_box(digit: str, hand: int) -> None:
    y = np.concatenate(strokes_of(digit, hand))[:, 1]
    assert y.min() < 0.06
    assert y.max() > 0.94


def test_hands_wrap_around_and_cannot_be_written_over() -> None:
    first = strokes_of("7", 0)
    assert all(
        np.array_equal(a, b) for a, b in zip(first, strokes_of("7", hands_of("7")), strict=True)
    )
    with pytest.raises(ValueError, match="read-only"):
        first[0][0] = 0


def test_an_unknown_symbol_is_named_in_the_error() -> None:
    for call in (lambda: strokes_of("%", 0), lambda: pick_hand("ten", rng())):
        with pytest.raises(UsageError, match="no strokes are known for"):
            call()


def test_a_slashed_zero_is_chosen_rarely_and_the_others_often() -> None:
    source = rng()
    picked = np.bincount([pick_hand("0", source) for _ in range(2000)], minlength=6)
    assert picked[:5].min() > 250
    assert 10 < picked[5] < 120


def test_the_same_seed_gives_the_same_pixels_and_another_seed_others() -> None:
    def drawn(seed: int) -> np.ndarray:
        source = rng(seed)
        return draw(wobble(strokes_of("3", 1), source), 40, 3, source, grain=0.3)

    assert np.array_equal(drawn(1), drawn(1))
    assert drawn(1).shape != drawn(2).shape or not np.array_equal(drawn(1), drawn(2))


def test_without_any_wobble_the_strokes_stay_as_they_are() -> None:
    for before, after in zip(strokes_of("4", 0), wobble(strokes_of("4", 0), rng(), 0), strict=True):
        np.testing.assert_allclose(before, after, atol=1e-12)


def test_wobble_moves_points_by_a_hand_s_breadth_and_keeps_their_number() -> None:
    source = rng()
    moved = []
    for _ in range(200):
        for before, after in zip(
            strokes_of("5", 0), wobble(strokes_of("5", 0), source), strict=True
        ):
            assert before.shape == after.shape
            moved.append(np.abs(after - before).max())
    assert 0.03 < np.median(moved) < 0.2
    assert max(moved) < 0.5


def test_wobbled_strokes_are_smooth() -> None:
    source = rng()
    for _ in range(100):
        (stroke,) = wobble(strokes_of("0", 0), source)
        steps = np.diff(stroke, axis=0)
        turns = np.diff(np.unwrap(np.arctan2(steps[:, 1], steps[:, 0])))
        assert np.abs(turns).max() < 1.2


@pytest.mark.parametrize(("height", "pen"), [(8, 0.6), (20, 1.5), (28, 3), (64, 1), (300, 22)])
def test_ink_is_as_high_and_as_thick_as_was_asked_and_does_not_touch_the_border(
    height: int, pen: float
) -> None:
    ink = draw(strokes_of("1", 0), height, pen, rng(), pressure=0, taper=0, grain=0)
    assert ink.dtype == np.float32
    assert ink.min() == 0
    assert 0.3 < ink.max() <= 1
    for border in (ink[0], ink[-1], ink[:, 0], ink[:, -1]):
        assert border.max() == 0
    rows = np.flatnonzero(ink.max(axis=1) > 0.2)
    assert abs(rows[-1] - rows[0] + 1 - (height + pen)) <= 2.5
    middle = ink[rows[0] + int(pen) + 1 : rows[-1] - int(pen)]
    assert np.median(middle.sum(axis=1)) == pytest.approx(pen, rel=0.2, abs=0.25)


def test_ink_is_antialiased() -> None:
    ink = draw(strokes_of("8", 0), 40, 3, rng())
    assert ((ink > 0.05) & (ink < 0.95)).sum() > 60


@pytest.mark.parametrize("digit", DIGITS)
def test_digits_have_the_loops_that_they_are_known_by(digit: str) -> None:
    ink = draw(strokes_of(digit, 0), 100, 5, rng(), pressure=0, taper=0, grain=0)
    assert holes(ink) == LOOPS.get(digit, 0)


def test_grain_takes_ink_away_and_puts_none_beside_the_strokes() -> None:
    plain, grainy = (draw(strokes_of("2", 0), 60, 5, rng(3), grain=grain) for grain in (0.0, 0.6))
    assert np.all(grainy <= plain + 1e-6)
    assert 0.5 < grainy.sum() / plain.sum() < 0.95


def test_a_sheet_holds_strokes_where_their_pixels_say() -> None:
    line = np.array([[10.0, 20.0], [50.0, 20.0]])
    ink = trace([line], (40, 60), 2, rng(), pressure=0, taper=0, grain=0)
    assert ink.shape == (40, 60)
    rows, columns = np.nonzero(ink > 0.4)
    assert set(rows) == {19, 20}
    assert columns.min() in (9, 10)
    assert columns.max() in (49, 50)


def test_scribbles_differ_from_hand_to_hand() -> None:
    shapes = {strokes_of("scribble", hand)[0].tobytes() for hand in range(hands_of("scribble"))}
    assert len(shapes) == hands_of("scribble") >= 50
