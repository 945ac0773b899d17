"""Splits: their shape and type, and how validation images are held out."""

import numpy as np
import pytest

from digitry.errors import DataError
from digitry.training.data.dataset import Split, hold_out


def test_hold_out_follows_keras() -> None:
    split = Split(
        np.arange(7 * 784, dtype=np.uint32).astype(np.uint8).reshape(7, 28, 28),
        np.arange(7, dtype=np.uint8),
        tuple("abcdefg"),
        (1, 5),
    )
    kept, held = hold_out(split, 0.3)
    # floor(7 * 0.7) = 4
    assert kept.labels.tolist() == [0, 1, 2, 3]
    assert held.labels.tolist() == [4, 5, 6]
    assert (held.names, kept.turned, held.turned) == (("e", "f", "g"), (1,), (1,))
    assert len(hold_out(split, 0.0)[1]) == 0


def test_a_split_of_the_wrong_shape_or_type_is_refused() -> None:
    with pytest.raises(DataError, match="float"):
        Split(np.zeros((2, 28, 28)), np.zeros(2, np.uint8))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="labels"):
        Split(np.zeros((2, 28, 28), np.uint8), np.zeros(3, np.uint8))
