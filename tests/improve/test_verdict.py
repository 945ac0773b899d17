"""The verdict of the gates: chance and wrong labels do not help a model pass."""

import numpy as np
import pytest

from digitry.improve import verdict
from digitry.improve.verdict import p_value

pytest.importorskip("scipy")


def test_without_wrong_labels_it_is_the_sign_test() -> None:
    assert p_value(7, 0, 50, wrong=0) == pytest.approx(0.5**7)
    assert p_value(3, 1, 50, wrong=0) == pytest.approx(5 / 16)
    assert p_value(0, 4, 50, wrong=0) == pytest.approx(1.0)


def test_the_p_value_is_that_of_a_simulated_worst_case() -> None:
    rng = np.random.default_rng(1)
    count, gained, lost = 30, 12, 2
    wrong = rng.binomial(count, verdict.WRONG_LABELS, 200_000)
    earned = gained - wrong
    heads = rng.binomial(np.maximum(earned, 0) + lost, 0.5)
    assert p_value(gained, lost, count) == pytest.approx((heads >= earned).mean(), abs=0.003)


def test_the_p_value_falls_with_gains_and_rises_with_losses_and_count() -> None:
    assert p_value(20, 2, 60) < p_value(19, 2, 60)
    assert p_value(20, 2, 60) < p_value(20, 3, 60)
    assert p_value(20, 2, 60) < p_value(20, 2, 80)
    assert p_value(0, 0, 0) == p_value(0, 0, 50) == 1.0
    assert p_value(3000, 0, 5000) < 1e-12


def test_a_model_that_only_learnt_wrong_labels_fails() -> None:
    """One label in ten is wrong, each wrong one speaks for the candidate, and it is a little worse."""
    rng = np.random.default_rng(2)
    passed = 0
    for _ in range(2000):
        count = int(rng.integers(10, 200))
        wrong = rng.random(count) < 0.1
        lost = int((rng.random(count - wrong.sum()) < 0.01).sum())
        passed += p_value(int(wrong.sum()), lost, count) <= verdict.MAX_P_VALUE
    assert passed / 2000 < 0.01


def test_a_model_that_is_no_better_passes_by_luck_once_in_a_hundred_at_most() -> None:
    rng = np.random.default_rng(3)
    passed = 0
    for _ in range(3000):
        changed = int(rng.integers(0, 40))
        gained = int(rng.binomial(changed, 0.5))
        passed += p_value(gained, changed - gained, 100) <= verdict.MAX_P_VALUE
    assert passed / 3000 <= 0.01
