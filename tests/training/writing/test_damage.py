"""Spoilt pictures: other pictures of the same digit, the same for the same seed."""

import numpy as np
import pytest

from digitry.training.data.dataset import Split
from digitry.training.datasets import load_dataset
from digitry.training.writing import damage


@pytest.fixture(scope="module")
def digits() -> Split:
    return load_dataset("uci").train


def test_a_spoilt_digit_is_another_picture_of_the_same_digit_and_the_same_again(
    digits: Split,
) -> None:
    changed = 0.0
    for index in range(60):
        one, again = (
            damage.spoilt(digits.images[index], np.random.default_rng(index)) for _ in "ab"
        )
        assert np.array_equal(one[0], again[0])
        picture, digit = one
        assert picture.shape == digit.shape == (28, 28)
        assert picture.dtype == np.float32
        assert 0 <= picture.min() <= picture.max() <= 1
        # Moved, perhaps, but still there.
        assert digit.sum() > 0.1 * digits.images[index].sum() / 255
        changed += float(np.abs(picture - digits.images[index] / 255).mean())
    assert changed / 60 > 0.03


def test_each_harm_changes_every_picture(digits: Split) -> None:
    clean = digits.images[0].astype(np.float32) / 255
    for harm in damage._HARMS:
        rng = np.random.default_rng(9)
        changes = [float(np.abs(harm(clean, rng) - clean).mean()) for _ in range(60)]
        # The mildest of sixty is still another picture, and most are plainly so.
        assert min(changes) > 1e-4, harm.__name__
        assert np.median(changes) > 0.01, harm.__name__


def test_bands_lie_along_edges_and_never_twice_on_one() -> None:
    blank = np.zeros((28, 28), np.float32)
    seen = set()
    for seed in range(200):
        banded = damage._banded(blank, np.random.default_rng(seed))
        edges = (banded[:, 0], banded[0], banded[:, -1], banded[-1])
        # The middle of an edge is light only if that edge has a band.
        found = tuple(bool(edge[14] > 0.5) for edge in edges)
        assert any(found)
        assert banded[14, 14] == 0
        seen.add(found)
    assert {(True, False, True, False), (False, True, False, True)} <= seen
    assert any(sum(found) == 3 for found in seen)
