"""Figures that are no writing: of each kind, as high as asked for, the same for the same seed."""

import numpy as np
import pytest

from digitry.training.writing import figures
from digitry.training.writing.figures import figure


@pytest.mark.parametrize("height", [14.0, 60.0, 150.0])
def test_a_figure_is_ink_of_the_height_that_was_asked_for(height: float):
    rng = np.random.default_rng(1)
    for _ in range(60):
        ink = figure(height, rng)
        assert ink.dtype == np.float32
        assert ink.shape[0] == round(height)
        assert ink.min() >= 0
        assert 0.3 < ink.max() <= 1


def test_one_seed_draws_the_same_figures():
    first, second = (
        [figure(40, rng) for _ in range(12)]
        for rng in (np.random.default_rng(3), np.random.default_rng(3))
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert len({ink.tobytes() for ink in first}) == 12


@pytest.mark.parametrize("kind", figures._KINDS)
def test_each_kind_draws_many_figures(kind):
    rng = np.random.default_rng(5)
    drawn = [kind(rng) for _ in range(40)]
    assert len({ink.tobytes() for ink in drawn}) >= 20
    # Of blocks that are cut out again nothing may be left; `figure` draws another one then.
    assert sum(bool((ink > 0.5).sum() > 60) for ink in drawn) >= 38
