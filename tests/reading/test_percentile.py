"""Percentiles and medians are those of NumPy and of Python."""

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digitry.reading.percentile import median, percentile

NUMBERS = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=20)


@given(values=NUMBERS, share=st.floats(0, 100))
def test_a_percentile_is_that_of_numpy(values: list[float], share: float) -> None:
    array = np.array(values, np.float32)
    expected = float(np.percentile(array, share))
    assert percentile(array, share) == pytest.approx(expected, abs=1e-3)


@given(values=NUMBERS)
def test_a_median_is_that_of_python(values: list[float]) -> None:
    assert median(values) == statistics.median(values)


def test_nothing_has_the_percentile_one() -> None:
    assert percentile(np.zeros(0, np.float32), 95) == 1.0
