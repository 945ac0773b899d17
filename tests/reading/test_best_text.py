"""The most probable text, free and within a pattern, against counting every text of small strips."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digitry.reading import best_text as best_text_module
from digitry.reading import pattern
from digitry.reading.best_text import best_fitting, best_text
from digitry.reading.classes import BLANK, CLASSES, OTHER, SYMBOLS
from digitry.reading.lattice import lattice

POINT = CLASSES.index(".")
SEEN = (1, 2, POINT, OTHER, BLANK)
ROWS = st.lists(st.tuples(*[st.floats(-5, 5)] * len(SEEN)), max_size=5)
PATTERNS = [r"1\d", r"\d+\.\d", r"1?2", r"12|21", r"\d{3}", r"[12]\.?1", r"a\d+", r"\d*", r"2+"]
WIDE = 10**6


@settings(max_examples=80, deadline=None)
@given(rows=ROWS)
def test_no_text_is_more_probable(rows, scores_of, every_text) -> None:
    texts = every_text(SEEN, rows)
    found = best_text(lattice([scores_of(SEEN, rows)]), WIDE)
    assert found.proven
    assert texts[found.text] == pytest.approx(max(texts.values()), rel=1e-9)
    assert math.exp(found.log_probability) == pytest.approx(texts[found.text], rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, others=ROWS)
def test_no_text_is_more_probable_in_the_mean_of_two_views(
    rows, others, scores_of, every_text
) -> None:
    seen = [every_text(SEEN, one) for one in (rows, others)]
    texts = {
        text: (seen[0].get(text, 0.0) + seen[1].get(text, 0.0)) / 2 for one in seen for text in one
    }
    found = best_text(lattice([scores_of(SEEN, rows), scores_of(SEEN, others)]), WIDE)
    assert found.proven
    assert texts[found.text] == pytest.approx(max(texts.values()), rel=1e-9)
    assert math.exp(found.log_probability) == pytest.approx(texts[found.text], rel=1e-9)
    form = pattern.compile(r"\d+", pattern.READABLE)
    fit = [p for text, p in texts.items() if form.matches("".join(SYMBOLS[k] for k in text))]
    within = best_fitting(lattice([scores_of(SEEN, rows), scores_of(SEEN, others)]), form, WIDE)
    if not fit:
        assert within is None or within.log_probability < -40
        return
    assert within is not None
    assert math.exp(within.log_probability) == pytest.approx(max(fit), rel=1e-9)
    assert math.exp(within.log_mass) == pytest.approx(sum(fit), rel=1e-9)


@pytest.mark.parametrize("form", PATTERNS)
@settings(max_examples=40, deadline=None)
@given(rows=ROWS)
def test_no_text_that_fits_is_more_probable(form: str, rows, scores_of, every_text) -> None:
    compiled = pattern.compile(form, pattern.READABLE)
    texts = {
        text: p
        for text, p in every_text(SEEN, rows).items()
        if compiled.matches("".join(SYMBOLS[symbol] for symbol in text))
    }
    found = best_fitting(lattice([scores_of(SEEN, rows)]), compiled, WIDE)
    if not texts:
        # There is no room for it, or it needs what is as good as impossible.
        assert found is None or found.log_probability < -40
        return
    assert found is not None
    assert found.proven
    assert texts[found.text] == pytest.approx(max(texts.values()), rel=1e-9)
    assert math.exp(found.log_probability) == pytest.approx(texts[found.text], rel=1e-9)
    assert math.exp(found.log_mass) == pytest.approx(sum(texts.values()), rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_narrow_search_that_says_it_is_proven_is(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = lattice([rng.normal(size=(6, len(CLASSES))) * 3])
    narrow, wide = best_text(grid, 2), best_text(grid, WIDE)
    assert wide.proven
    assert narrow.log_probability <= wide.log_probability + 1e-12
    if narrow.proven:
        assert narrow.text == wide.text


def test_the_most_probable_path_need_not_say_the_most_probable_text(scores_of) -> None:
    # The best path is blank, blank (0.36); but 1 can be said in three ways (0.64).
    rows = [(math.log(0.4), math.log(0.6))] * 2
    found = best_text(lattice([scores_of((1, BLANK), rows)]))
    assert found.text == (1,)
    assert math.exp(found.log_probability) == pytest.approx(0.64)


@pytest.mark.parametrize("text", [(0, 0), (1, 1), (0, 0, 0, 0), (1, 1, 7, 7)])
def test_repeated_digits_survive_a_blank_of_one_column(text, scores_of) -> None:
    classes = (0, 1, 7, BLANK)
    rows = [[5.0 * (c == s) for c in classes] for digit in text for s in (digit, BLANK)]
    grid = lattice([scores_of(classes, rows)])
    assert best_text(grid).text == text
    form = pattern.compile(rf"\d{{{len(text)}}}", pattern.READABLE)
    within = best_fitting(grid, form)
    assert within is not None
    assert within.text == text


def test_the_same_scores_give_the_same_text() -> None:
    grid = lattice([np.zeros((7, len(CLASSES)))])
    assert best_text(grid) == best_text(grid)
    form = pattern.compile(r"\d\d", pattern.READABLE)
    assert best_fitting(grid, form) == best_fitting(grid, form)


def test_what_a_pattern_leaves_out_costs_its_whole_probability(scores_of) -> None:
    # 1.2, surely: as 12 it is as improbable as that there is no point.
    rows = [[7.0 * (c == s) for c in SEEN] for s in (1, BLANK, POINT, BLANK, 2)]
    grid = lattice([scores_of(SEEN, rows)])
    found = best_fitting(grid, pattern.compile(r"\d\d", pattern.READABLE))
    assert found is not None
    assert found.text == (1, 2)
    assert found.log_probability < -6


def test_no_text_fits_fewer_columns_than_it_has_symbols(scores_of) -> None:
    grid = lattice([scores_of(SEEN, [(0,) * len(SEEN)] * 3)])
    assert best_fitting(grid, pattern.compile(r"\d{4}", pattern.READABLE)) is None
    assert best_fitting(grid, pattern.compile(r"\d{3}", pattern.READABLE)) is not None


def test_a_pattern_too_large_for_all_views_is_searched_for_in_the_first(
    scores_of, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = scores_of((1, 2, BLANK), [(3, 0, 0), (0, 0, 3), (3, 0, 0)])
    two = scores_of((1, 2, BLANK), [(0, 3, 0), (0, 0, 3), (0, 3, 0)])
    form = pattern.compile(r"\d\d", pattern.READABLE)
    monkeypatch.setattr(best_text_module, "MOST_AHEAD", 1)
    assert best_fitting(lattice([one, two]), form) == best_fitting(lattice([one]), form)


def test_work_grows_with_the_columns_and_not_with_the_number_of_texts() -> None:
    # 17^60 paths, all alike: the search is cut short, and says so.
    found = best_text(lattice([np.zeros((60, len(CLASSES)))]), width=4)
    assert not found.proven
