"""How sure each part of a text is, against counting every text of small strips."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from digitry.reading import posterior
from digitry.reading.best_text import best_text
from digitry.reading.classes import BLANK, OTHER
from digitry.reading.lattice import lattice, log_mean
from digitry.reading.posterior import anything, instead, occupancy, sums

SEEN = (1, 2, OTHER, BLANK)
ROWS = st.lists(st.tuples(*[st.floats(-6, 6)] * len(SEEN)), min_size=1, max_size=5)
EVERY = np.arange(BLANK)


@settings(max_examples=40, deadline=None)
@given(rows=ROWS, data=st.data())
def test_another_symbol_in_its_place_gives_the_text_with_it(
    rows, data, scores_of, every_text
) -> None:
    texts = every_text(SEEN, rows)
    text = data.draw(st.sampled_from(sorted(texts)))
    p = np.exp(instead(sums(lattice([scores_of(SEEN, rows)]), text), EVERY))[0]
    assert p.shape == (len(text), len(EVERY))
    for i in range(len(text)):
        for symbol in range(BLANK):
            changed = (*text[:i], symbol, *text[i + 1 :])
            assert p[i, symbol] == pytest.approx(texts.get(changed, 0.0), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(rows=ROWS, data=st.data())
def test_anything_in_a_range_is_all_texts_that_agree_with_the_rest(
    rows, data, scores_of, every_text
) -> None:
    texts = every_text(SEEN, rows)
    text = data.draw(st.sampled_from(sorted(texts)))
    n = len(text)
    ranges = [(i, j) for i in range(n + 1) for j in range(i, n + 1)]
    starts, stops = np.array(ranges).T
    p = np.exp(anything(sums(lattice([scores_of(SEEN, rows)]), text), starts, stops))[0]
    for (i, j), found in zip(ranges, p, strict=True):
        agree = [
            q
            for other, q in texts.items()
            if len(other) >= n - (j - i)
            and other[:i] == text[:i]
            and other[len(other) - (n - j) :] == text[j:]
        ]
        assert found == pytest.approx(sum(agree), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(rows=ROWS, others=ROWS, data=st.data())
def test_each_view_of_a_line_is_summed_as_if_it_were_the_only_one(
    rows, others, data, scores_of, every_text
) -> None:
    views = [scores_of(SEEN, rows), scores_of(SEEN, others)]
    text = data.draw(st.sampled_from(sorted(every_text(SEEN, rows))))
    both, places = sums(lattice(views), text), np.arange(len(text))
    for i, view in enumerate(views):
        if text in every_text(SEEN, (rows, others)[i]):
            alone = sums(lattice([view]), text)
            found, wanted = (np.exp(instead(one, EVERY)) for one in (both, alone))
            np.testing.assert_allclose(found[i], wanted[0], atol=1e-12)
            found, wanted = (np.exp(anything(one, places, places + 1)) for one in (both, alone))
            np.testing.assert_allclose(found[i], wanted[0], atol=1e-12)
            shown = occupancy(both, i)[:, : len(view)]
            np.testing.assert_allclose(shown, occupancy(alone, 0), atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(rows=ROWS, data=st.data())
def test_a_character_and_what_may_stand_instead_are_together_at_most_certain(
    rows, data, scores_of, every_text
) -> None:
    text = data.draw(st.sampled_from(sorted(every_text(SEEN, rows))))
    seen = sums(lattice([scores_of(SEEN, rows)]), text)
    places = np.arange(len(text))
    p = np.exp(instead(seen, EVERY) - anything(seen, places, places + 1)[..., None])[0]
    assert (p.sum(axis=1) <= 1 + 1e-9).all()
    assert (p >= 0).all()


@settings(max_examples=40, deadline=None)
@given(rows=ROWS, data=st.data())
def test_each_column_shows_one_character_or_none(rows, data, scores_of, every_text) -> None:
    text = data.draw(st.sampled_from(sorted(every_text(SEEN, rows))))
    shown = occupancy(sums(lattice([scores_of(SEEN, rows)]), text), 0)
    assert shown.shape == (len(text), len(rows))
    assert (shown.sum(axis=0) <= 1 + 1e-9).all()
    assert (shown.sum(axis=1) >= 1 - 1e-9).all()


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=ROWS, data=st.data())
def test_a_long_line_is_summed_in_blocks_with_the_same_result(
    rows, data, scores_of, every_text, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = data.draw(st.sampled_from(sorted(every_text(SEEN, rows))))
    seen = sums(lattice([scores_of(SEEN, rows)]), text)
    starts = np.arange(len(text) + 1)
    whole = instead(seen, EVERY), anything(seen, starts, starts)
    monkeypatch.setattr(posterior, "BLOCK", 1)
    np.testing.assert_array_equal(instead(seen, EVERY), whole[0])
    np.testing.assert_array_equal(anything(seen, starts, starts), whole[1])


@pytest.mark.parametrize("seed", range(6))
def test_what_is_too_improbable_is_left_out_and_all_else_is_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 1, (2, 120, BLANK + 1))
    rows[..., BLANK] += 12
    for column in range(4, 116, 8):
        # A character, and another one that it might be; here and there one of two columns or of none.
        shown = rng.integers(0, BLANK, 2)
        rows[:, column : column + rng.integers(1, 3), shown] += rng.uniform(12, 16, 2)
    grid = lattice(list(rows))
    seen = sums(grid, best_text(grid).text)
    whole = log_mean(instead(seen, EVERY))
    least = float(log_mean(seen.log_probability)) + math.log(1e-3)
    found = log_mean(instead(seen, EVERY, least))
    kept = whole >= least
    assert kept.sum() > len(seen.text)
    np.testing.assert_allclose(np.exp(found[kept]), np.exp(whole[kept]), rtol=1e-4)
    assert (found[~kept] <= whole[~kept] + 1e-9).all()
    assert np.isneginf(found).mean() > 0.5


def test_a_character_is_where_it_was_seen(scores_of) -> None:
    rows = [(0, 0, 0, 9), (9, 0, 0, 0), (0, 0, 0, 9), (0, 0, 0, 9), (0, 9, 0, 0)]
    shown = occupancy(sums(lattice([scores_of(SEEN, rows)]), (1, 2)), 0)
    assert shown.argmax(axis=1).tolist() == [1, 4]


def test_a_text_of_no_symbols_has_no_parts(scores_of) -> None:
    seen = sums(lattice([scores_of(SEEN, [(0, 0, 0, 0)])]), ())
    assert instead(seen, EVERY).shape == (1, 0, BLANK)
    assert occupancy(seen, 0).shape == (0, 1)
    # All texts agree with nothing.
    assert math.exp(anything(seen, np.array([0]), np.array([0]))[0, 0]) == pytest.approx(1)
