"""The most probable text of a line, in the mean of its views, free or within a pattern.

Beginnings of texts grow by one symbol at a time, all columns at once. A beginning is worth the
probability of all texts that go on from it (Graves 2006 calls this prefix search); one that is worth
less than a whole text that is known cannot lead to a better one, and is dropped. What is left is few:
those of one length share a probability of 1, so fewer than 1/p of them are worth more than p. If no
more than `WIDTH` had to be kept, the text that is found is proven to be the best.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from digitry.reading.classes import BLANK, OTHER
from digitry.reading.lattice import (
    Lattice,
    Log,
    Text,
    before,
    empty,
    extend,
    greedy,
    log_mean,
    log_probability,
    log_sum,
)
from digitry.reading.pattern import Pattern

WIDTH = 8
"""Beginnings of one length that are kept at most."""

LONGEST = 400
"""Columns. In longer lines, of some forty digits, a search costs too much: the most probable one of the
views' best paths is taken."""

MOST_AHEAD = 1 << 23
"""Values of what is known of the columns ahead, at most; a pattern of very many states is searched for in
the first views alone."""

SYMBOLS = BLANK
"""The number of symbols; they come before the blank."""


@dataclass(frozen=True, slots=True)
class Found:
    """The most probable text.

    Attributes:
        text: its symbols.
        log_probability: the logarithm of its probability, summed over all of its paths, in the mean of all
            views.
        log_mass: the logarithm of the probability of all texts that were allowed: 0 if all were.
        proven: whether no text that was allowed is more probable; otherwise the search was cut short.
    """

    text: Text
    log_probability: float
    log_mass: float
    proven: bool


def best_text(lattice: Lattice, width: int = WIDTH) -> Found:
    """Return the most probable of all texts.

    Args:
        lattice: of the line.
        width: beginnings of one length that are kept at most.
    """
    text, known = _guess(lattice, greedy(lattice))
    if known >= math.log(0.5):
        # All others together are less probable.
        return Found(text, known, 0.0, True)
    if lattice.width > LONGEST:
        return Found(text, known, 0.0, False)
    return _search(lattice, None, text, known, width)


def best_fitting(lattice: Lattice, pattern: Pattern, width: int = WIDTH) -> Found | None:
    """Return the most probable of the texts that fit a pattern.

    Nothing is left out for free: ink that the text does not name costs the whole probability that
    there is none.

    Args:
        lattice: of the line.
        pattern: compiled with `READABLE`.
        width: beginnings of one length that are kept at most.

    Returns:
        None where no text of so few columns fits.
    """
    views = max(1, MOST_AHEAD // ((lattice.width + 1) * (len(pattern.steps) + 1) * SYMBOLS))
    lattice = Lattice(lattice.log_p[:views], lattice.so_far[:views])
    ahead = _ahead(lattice, pattern)
    if not math.isfinite(ahead.mass):
        return None
    text, known = _guess(lattice, [text for text in greedy(lattice) if ahead.accepts(text)])
    if known >= ahead.mass + math.log(0.5):
        return Found(text, known, ahead.mass, True)
    return _search(lattice, ahead, text, known, width)


def _guess(lattice: Lattice, texts: Sequence[Text]) -> tuple[Text, float]:
    """Return the most probable one of some texts, and the logarithm of its probability."""
    worth = {text: log_probability(lattice, text) for text in dict.fromkeys(texts)}
    best = max(worth, key=worth.__getitem__, default=())
    return best, worth.get(best, -math.inf)


def _search(
    lattice: Lattice, ahead: "_Ahead | None", text: Text, known: float, width: int
) -> Found:
    proven = True
    # A symbol that is nowhere probable enough cannot be in a text that is more probable than `known`.
    pool = np.flatnonzero(log_mean(log_sum(lattice.log_p[:, :SYMBOLS])) > known)
    shown = lattice.log_p[:, None, pool]
    texts: list[Text] = [()]
    states = np.zeros(1, np.intp)
    growing = empty(lattice)
    if ahead is None or ahead.ends[0]:
        whole = float(log_mean(growing.total[:, 0, -1]))
        if whole > known:
            text, known = (), whole
    while texts and len(pool):
        symbols = np.broadcast_to(pool, (len(texts), len(pool)))
        entry = before(growing, symbols)
        if ahead is None:
            worth = log_mean(log_sum(entry + shown))
        else:
            following = ahead.steps[states[:, None], symbols]
            rest = np.moveaxis(ahead.after[1:, :, following, symbols], 0, -1)
            worth = log_mean(log_sum(entry + shown + rest))
        order = np.argsort(-worth, axis=None, kind="stable")
        order = order[: int((worth > known).sum())]
        proven = proven and len(order) <= width
        rows, columns = np.unravel_index(order[:width], worth.shape)
        texts = [
            (*texts[row], int(pool[column])) for row, column in zip(rows, columns, strict=True)
        ]
        growing = extend(lattice, entry[:, rows, columns], pool[columns])
        wholes = log_mean(growing.total[..., -1])
        if ahead is not None:
            states = following[rows, columns]
            wholes = np.where(ahead.ends[states], wholes, -np.inf)
        if texts and wholes.max() > known:
            best = int(np.argmax(wholes))
            text, known = texts[best], float(wholes[best])
    mass = 0.0 if ahead is None else ahead.mass
    return Found(text, known, mass, proven)


@dataclass(frozen=True, slots=True)
class _Ahead:
    """What the columns ahead allow, within a pattern of q states.

    Attributes:
        steps: (q + 1, SYMBOLS), the next state; q where there is none.
        ends: (q + 1,), whether a text may end.
        after: (T + 1, v, q + 1, SYMBOLS), the logarithm of the probability that the columns from t on
            complete a text that fits, where the column before shows a symbol that led to a state.
        mass: the logarithm of the probability of all texts that fit.
    """

    steps: npt.NDArray[np.intp]
    ends: npt.NDArray[np.bool_]
    after: Log
    mass: float

    def accepts(self, text: Text) -> bool:
        """Return whether a text fits."""
        state = 0
        for symbol in text:
            state = int(self.steps[state, symbol])
        return bool(self.ends[state])


def _ahead(lattice: Lattice, pattern: Pattern) -> _Ahead:
    count = len(pattern.steps)
    steps = np.full((count + 1, SYMBOLS), count, np.intp)
    for state, step in enumerate(pattern.steps):
        for symbol, following in step.items():
            steps[state, symbol] = following
    ends = np.zeros(count + 1, bool)
    ends[list(pattern.ends)] = True
    all_symbols = np.arange(SYMBOLS)
    others = 1.0 - np.eye(SYMBOLS)
    after = np.empty((lattice.width + 1, len(lattice.log_p), count + 1, SYMBOLS))
    after[-1] = np.where(ends, 0.0, -np.inf)[:, None]
    # Where any symbol may follow, as at the start and after a blank.
    open_ = after[-1, ..., 0]
    for t in range(lattice.width - 1, -1, -1):
        log_p = lattice.log_p[:, None, :, t]
        entered = log_p[..., :SYMBOLS] + after[t + 1][:, steps, all_symbols]
        top = np.maximum(entered.max(axis=-1, keepdims=True), -1e300)
        scaled = np.exp(entered - top)
        with np.errstate(divide="ignore"):
            another = np.log(scaled @ others) + top
            any_ = np.log(scaled.sum(axis=-1)) + top[..., 0]
        blank = log_p[..., BLANK] + open_
        other = np.logaddexp(log_p[..., OTHER:BLANK], log_p[..., BLANK:])
        stayed = np.concatenate([log_p[..., :OTHER], other], axis=-1) + after[t + 1]
        after[t] = np.logaddexp(stayed, another)
        after[t, ..., :OTHER] = np.logaddexp(after[t, ..., :OTHER], blank[..., None])
        open_ = np.logaddexp(blank, any_)
    return _Ahead(steps, ends, after, float(log_mean(open_[:, 0])))
