"""Every text of a small strip, by counting every path: what the sums over paths must agree with."""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from digitry.reading.classes import BLANK, CLASSES, OTHER

Texts = dict[tuple[int, ...], float]


@pytest.fixture(scope="session")
def scores_of() -> Callable[..., np.ndarray]:
    """Scores by column for a few classes; all others are as good as impossible."""

    def scores(classes: Sequence[int], rows: Sequence[Sequence[float]]) -> np.ndarray:
        full = np.full((len(rows), len(CLASSES)), -200.0)
        full[:, classes] = np.array(rows, float).reshape(len(rows), len(classes))
        return full

    return scores


@pytest.fixture(scope="session")
def every_text() -> Callable[..., Texts]:
    """Texts with their probabilities: each path is taken, one class a column."""

    def texts(classes: Sequence[int], rows: Sequence[Sequence[float]]) -> Texts:
        p = np.exp(np.array(rows, float).reshape(len(rows), len(classes)))
        p /= p.sum(axis=1, keepdims=True)
        found: Texts = {}
        for path in itertools.product(range(len(classes)), repeat=len(rows)):
            text = _said([classes[k] for k in path])
            found[text] = found.get(text, 0.0) + math.prod(p[t, k] for t, k in enumerate(path))
        return found

    return texts


def _said(path: Sequence[int]) -> tuple[int, ...]:
    text: list[int] = []
    before = BLANK
    for symbol in path:
        repeated = symbol == before or (symbol == OTHER and text[-1:] == [OTHER])
        if symbol != BLANK and not repeated:
            text.append(symbol)
        before = symbol
    return tuple(text)
