"""What tests of reading share: drawn writing, and every text of a small strip, by counting every path."""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from digitry.reading.classes import BLANK, CLASSES, OTHER
from digitry.training.writing import pen

Texts = dict[tuple[int, ...], float]


@pytest.fixture(scope="session")
def written() -> Callable[..., np.ndarray]:
    """Digits drawn side by side with our own strokes: (h, w) float32 in [0, 1], ink = 1, no margin."""

    def write(text: str, height: float = 56, thick: float = 5, gap: int = 20) -> np.ndarray:
        rng = np.random.default_rng(7)
        inks = [pen.draw(pen.strokes_of(c, 1), height, thick, rng, taper=0) for c in text]
        gaps = np.zeros((max(ink.shape[0] for ink in inks), gap), np.float32)
        parts = []
        for ink in inks:
            parts += [np.pad(ink, ((0, gaps.shape[0] - ink.shape[0]), (0, 0))), gaps]
        return np.concatenate(parts[:-1], axis=1)

    return write


@pytest.fixture(scope="session")
def sheet(written: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """A page with pieces of writing: a text and its left upper corner each."""

    def draw(
        height: int, width: int, *pieces: tuple[str, int, int], tall: float = 56, thick: float = 5
    ) -> np.ndarray:
        ink = np.zeros((height, width), np.float32)
        for text, x, y in pieces:
            if not text:
                continue
            part = written(text, tall, thick, gap=round(0.35 * tall))
            place = ink[y : y + part.shape[0], x : x + part.shape[1]]
            np.maximum(place, part[: place.shape[0], : place.shape[1]], out=place)
        return (235 - 200 * ink).astype(np.uint8)

    return draw


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
