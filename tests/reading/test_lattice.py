"""The probability of a text is the sum over all of its paths."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digitry.errors import ModelError, UsageError
from digitry.reading.classes import BLANK, CLASSES, OTHER
from digitry.reading.lattice import greedy, lattice, log_probability, log_sum, prefixes, reverse

SEEN = (1, 2, OTHER, BLANK)
LOGITS = st.floats(-8, 8)
ROWS = st.lists(st.tuples(*[LOGITS] * len(SEEN)), max_size=5)


@settings(max_examples=80, deadline=None)
@given(rows=ROWS)
def test_a_text_is_as_probable_as_all_of_its_paths_together(rows, scores_of, every_text) -> None:
    grid = lattice([scores_of(SEEN, rows)])
    for text, probability in every_text(SEEN, rows).items():
        assert math.exp(log_probability(grid, text)) == pytest.approx(probability, abs=1e-12)


@settings(max_examples=80, deadline=None)
@given(rows=ROWS, others=ROWS)
def test_a_line_in_two_views_is_as_probable_as_in_their_mean(
    rows, others, scores_of, every_text
) -> None:
    """Also where one of them has fewer columns."""
    both = lattice([scores_of(SEEN, rows), scores_of(SEEN, others)])
    one, another = every_text(SEEN, rows), every_text(SEEN, others)
    for text in {*one, *another}:
        mean = (one.get(text, 0.0) + another.get(text, 0.0)) / 2
        assert math.exp(log_probability(both, text)) == pytest.approx(mean, abs=1e-12)
    first, second = lattice([scores_of(SEEN, rows)]), lattice([scores_of(SEEN, others)])
    assert greedy(both) == [*greedy(first), *greedy(second)]


@settings(max_examples=80, deadline=None)
@given(rows=ROWS)
def test_from_right_to_left_a_text_is_as_probable(rows, scores_of, every_text) -> None:
    grid = lattice([scores_of(SEEN, rows)])
    for text in every_text(SEEN, rows):
        forth, back = log_probability(grid, text), log_probability(reverse(grid), text[::-1])
        assert math.exp(forth) == pytest.approx(math.exp(back), abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(rows=ROWS)
def test_every_prefix_is_summed_over_every_number_of_columns(rows, scores_of, every_text) -> None:
    grid = lattice([scores_of(SEEN, rows)])
    total = prefixes(grid, (1, OTHER, 2)).total
    for t in range(len(rows) + 1):
        texts = every_text(SEEN, rows[:t])
        for n in range(4):
            expected = texts.get((1, OTHER, 2)[:n], 0.0)
            assert math.exp(total[0, n, t]) == pytest.approx(expected, abs=1e-12)


def test_a_digit_twice_needs_a_blank_between(scores_of) -> None:
    sure = scores_of((0, BLANK), [(9, 0), (0, 9), (9, 0)])
    assert greedy(lattice([sure])) == [(0, 0)]
    assert log_probability(lattice([sure]), (0, 0)) > math.log(0.99)
    run = scores_of((0, BLANK), [(9, 0), (9, 0), (9, 0)])
    assert greedy(lattice([run])) == [(0,)]


def test_other_writing_is_not_counted(scores_of) -> None:
    two = scores_of((OTHER, BLANK), [(9, 0), (0, 9), (9, 0)])
    assert greedy(lattice([two])) == [(OTHER,)]
    assert log_probability(lattice([two]), (OTHER,)) > math.log(0.99)


def test_a_strip_without_columns_says_nothing() -> None:
    nothing = lattice([np.zeros((0, len(CLASSES)))])
    assert greedy(nothing) == [()]
    assert log_probability(nothing, ()) == 0
    assert log_probability(nothing, (3,)) == -math.inf


@given(rows=ROWS, shift=st.floats(-50, 50))
def test_logits_do_as_well_as_log_probabilities(rows, shift, scores_of) -> None:
    scores = scores_of(SEEN, rows)
    assert np.allclose(lattice([scores + shift]).log_p, lattice([scores]).log_p)


def test_a_higher_temperature_is_less_sure(scores_of) -> None:
    scores = scores_of((7, BLANK), [(0, 5), (5, 0), (0, 5)])
    sure = [log_probability(lattice([scores], t), (7,)) for t in (0.5, 1, 2, 4)]
    assert sure == sorted(sure, reverse=True)
    assert greedy(lattice([scores], 4)) == [(7,)]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_numbers_are_told_with_their_column(wrong: float) -> None:
    scores = np.zeros((5, len(CLASSES)))
    scores[3, 2] = wrong
    with pytest.raises(ModelError, match="column 3"):
        lattice([scores])


@pytest.mark.parametrize("shape", [(5,), (5, 12), (1, 5, 17), (17, 5)])
def test_scores_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="shape"):
        lattice([np.zeros(shape)])


@pytest.mark.parametrize("temperature", [0, -1, np.nan, np.inf])
def test_a_temperature_must_be_a_positive_number(temperature: float) -> None:
    with pytest.raises(UsageError):
        lattice([np.zeros((1, len(CLASSES)))], temperature)


def test_extreme_scores_stay_finite() -> None:
    scores = np.full((400, len(CLASSES)), -1e30)
    scores[::2, 4] = 1e30
    scores[1::2, BLANK] = 1e30
    assert log_probability(lattice([scores]), (4,) * 200) == pytest.approx(0)
    assert np.isfinite(log_probability(lattice([scores]), (5,)))


def test_the_sum_of_nothing_is_nothing() -> None:
    assert log_sum(np.full((2, 3), -np.inf)).tolist() == [-np.inf, -np.inf]
    assert log_sum(np.zeros((2, 0))).tolist() == [-np.inf, -np.inf]
