"""Probabilities of texts, from scores by column: connectionist temporal classification (CTC).

A path takes one class in each column; its text is the path without repeats and without blanks (Graves,
Fernández, Gomez, Schmidhuber 2006). The probability of a text is the sum over all of its paths. One
rule is added: other writing is not counted, so neighbouring "other"s are one `?` in the text, also
with blanks between them.

A line is looked at in several sizes, its views. They are summed side by side, one along the first axis of
every array, and the probability of a text is its mean over them. Views with fewer columns than others get
blanks behind their last.

Everything here is exact. What comes after the columns (which text, how sure) is `decode`'s.
All arrays are logarithms, float64; `t` counts columns that lie behind, from 0 to T.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from digitry.errors import ModelError, UsageError
from digitry.reading.classes import BLANK, CLASSES, OTHER

Log = npt.NDArray[np.float64]
Text = tuple[int, ...]
"""Symbols: indices of `classes.SYMBOLS`, without two `OTHER` in a row."""

FLOOR = -60.0
"""No class of a column is less probable than e^-60: keeps sums of logarithms finite."""


@dataclass(frozen=True, slots=True)
class Lattice:
    """The scores of one line in v views, ready for sums over paths.

    Attributes:
        log_p: (v, 17, T), the logarithm of the probability of each class in each column.
        so_far: (v, 17, T + 1), the logarithm of the probability of staying with a class in the first t
            columns. For other writing a blank counts as well: inside other writing it changes nothing.
    """

    log_p: Log
    so_far: Log

    @property
    def width(self) -> int:
        """The number of columns."""
        return len(self.log_p[0, 0])


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Beginnings of texts, and the probability that the first t columns say just this.

    Attributes:
        emitting: (v, n, T + 1), of the paths whose last column shows the last symbol.
        label: (v, n, T + 1), of the paths that another such symbol would only prolong.
        open: (v, n, T + 1), of the paths that any symbol would extend, even the same one. Other writing
            with the blanks in it is `open`, though no more of it would extend it.
        total: (v, n, T + 1), of all paths.
        last: (n,), the last symbol; BLANK for the empty text.
    """

    emitting: Log
    label: Log
    open: Log
    total: Log
    last: npt.NDArray[np.intp]

    def __getitem__(self, rows: slice | npt.NDArray[np.intp]) -> "Prefixes":
        return Prefixes(
            self.emitting[:, rows],
            self.label[:, rows],
            self.open[:, rows],
            self.total[:, rows],
            self.last[rows],
        )


def lattice(views: Sequence[npt.ArrayLike], temperature: float = 1.0) -> Lattice:
    """Return the lattice of one line.

    Args:
        views: of the line, one or more: (T, 17) each, log-probabilities or logits by column, in the order
            of `classes.CLASSES`; T may be 0.
        temperature: greater than 0; scores are divided by it, so that a greater one makes them less
            sure.

    Raises:
        ModelError: the scores have another shape, or are not finite.
        UsageError: the temperature is not a positive number.
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise UsageError(f"{temperature} is not a temperature", remedy="give a number above 0")
    scores = [_checked(np.asarray(view, np.float64)) for view in views]
    width = max(len(one) for one in scores)
    log_p = np.full((len(scores), len(CLASSES), width), FLOOR)
    log_p[:, BLANK] = 0.0
    for own, one in zip(log_p, scores, strict=True):
        raw = (one - one.max(axis=1, keepdims=True, initial=-np.inf)) / temperature
        own[:, : len(raw)] = (raw - np.log(np.exp(raw).sum(axis=1, keepdims=True))).T
    return _of(np.maximum(log_p, FLOOR))


def _checked(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if scores.ndim != 2 or scores.shape[1] != len(CLASSES):
        raise ModelError(
            f"scores have the shape {scores.shape}",
            where="the model that reads lines",
            remedy=f"it must give (columns, {len(CLASSES)})",
        )
    if not np.isfinite(scores).all():
        column = int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])
        raise ModelError(
            f"scores of column {column} are not finite numbers",
            where="the model that reads lines",
            remedy="use another model",
        )
    return scores


def reverse(lattice: Lattice) -> Lattice:
    """Return the lattice of the same line from right to left."""
    return _of(np.ascontiguousarray(lattice.log_p[..., ::-1]))


def _of(log_p: Log) -> Lattice:
    so_far = np.zeros((*log_p.shape[:2], log_p.shape[2] + 1))
    np.cumsum(log_p, axis=-1, out=so_far[..., 1:])
    np.cumsum(np.logaddexp(log_p[:, OTHER], log_p[:, BLANK]), axis=-1, out=so_far[:, OTHER, 1:])
    return Lattice(log_p, so_far)


def empty(lattice: Lattice) -> Prefixes:
    """Return the empty text as the one prefix."""
    blanks = lattice.so_far[:, [BLANK]]
    nothing = np.full(blanks.shape, -np.inf)
    return Prefixes(nothing, nothing, blanks, blanks, np.array([BLANK]))


def before(prefixes: Prefixes, symbols: npt.NDArray[np.intp]) -> Log:
    """Return the probability that the next column may begin a new symbol.

    Args:
        prefixes: n of them.
        symbols: (n, m), what may extend each of them.

    Returns:
        (v, n, m, T), for the columns from the first on.
    """
    same = symbols == prefixes.last[:, None]
    any_other = prefixes.total[:, :, None, :-1]
    if not same.any():
        shape = len(any_other), *symbols.shape, any_other.shape[-1]
        return np.broadcast_to(any_other, shape)
    # The same symbol again is a new one only after a blank; other writing never is.
    again = np.where(prefixes.last[:, None] == OTHER, -np.inf, prefixes.open[..., :-1])
    return np.where(same[:, :, None], again[:, :, None], any_other)


def extend(lattice: Lattice, before: Log, symbols: npt.NDArray[np.intp]) -> Prefixes:
    """Return prefixes that are longer by one symbol.

    Args:
        lattice: of the line.
        before: (v, n, T), from `before`.
        symbols: (n,), what each is extended by.
    """
    other = (symbols == OTHER)[:, None]
    shown = lattice.log_p[:, symbols] if other.any() else None
    lasting, emitting = states(before, lattice.so_far[:, symbols], shown)
    blank = lattice.so_far[:, [BLANK]]
    blanks = np.empty_like(lasting)
    blanks[..., 0] = -np.inf
    gathered = np.logaddexp.accumulate(lasting[..., :-1] - blank[..., :-1], axis=-1)
    blanks[..., 1:] = gathered + blank[..., 1:]
    if shown is not None:
        # Other writing and the blanks in it are one state, which anything but itself extends.
        blanks = np.where(other, lasting, blanks)
        lasting = np.where(other, -np.inf, lasting)
    return Prefixes(emitting, lasting, blanks, np.logaddexp(lasting, blanks), symbols)


def states(before: Log, staying: Log, shown: Log | None = None) -> tuple[Log, Log]:
    """Return the probability that a new symbol lasts after t columns, and that the last shows it.

    The two differ for other writing alone, which lasts through blanks.

    Args:
        before: (v, …, T), from `before`.
        staying: (v, …, T + 1), of each symbol, as in `Lattice.so_far`.
        shown: (v, …, T), of each symbol, as in `Lattice.log_p`; needed if one of them is other writing.

    Returns:
        Two of (v, …, T + 1).
    """
    lasting = np.empty(staying.shape)
    lasting[..., 0] = -np.inf
    if shown is None:
        # x[t + 1] = log(p[t]) + log(exp(before[t]) + exp(x[t])), as one running sum.
        gathered = np.logaddexp.accumulate(before - staying[..., :-1], axis=-1)
        lasting[..., 1:] = gathered + staying[..., 1:]
        return lasting, lasting
    gathered = np.logaddexp.accumulate(before + shown - staying[..., 1:], axis=-1)
    lasting[..., 1:] = gathered + staying[..., 1:]
    emitting = np.full(staying.shape, -np.inf)
    emitting[..., 1:] = np.logaddexp(before, lasting[..., :-1]) + shown
    return lasting, emitting


def prefixes(lattice: Lattice, text: Text) -> Prefixes:
    """Return all prefixes of a text, from the empty one to itself: n + 1."""
    shape = len(lattice.log_p), len(text) + 1, lattice.width + 1
    label, open_, total = (np.full(shape, -np.inf) for _ in range(3))
    emitting = label.copy() if OTHER in text else label
    blank = lattice.so_far[:, BLANK]
    open_[:, 0] = total[:, 0] = blank
    last = BLANK
    # The same sums as in `extend`, of one text, without a copy: nothing here is done more often.
    for i, symbol in enumerate(text, 1):
        before = (open_ if symbol == last else total)[:, i - 1, :-1]
        stay = lattice.so_far[:, symbol]
        if symbol == OTHER:
            shown = lattice.log_p[:, OTHER]
            gathered = np.logaddexp.accumulate(before + shown - stay[:, 1:], axis=-1)
            open_[:, i, 1:] = total[:, i, 1:] = gathered + stay[:, 1:]
            emitting[:, i, 1:] = np.logaddexp(before, open_[:, i, :-1]) + shown
        else:
            gathered = np.logaddexp.accumulate(before - stay[:, :-1], axis=-1)
            label[:, i, 1:] = gathered + stay[:, 1:]
            gathered = np.logaddexp.accumulate(label[:, i, :-1] - blank[:, :-1], axis=-1)
            open_[:, i, 1:] = gathered + blank[:, 1:]
            np.logaddexp(label[:, i], open_[:, i], out=total[:, i])
            emitting[:, i] = label[:, i]
        last = symbol
    return Prefixes(emitting, label, open_, total, np.array([BLANK, *text], np.intp))


def log_probability(lattice: Lattice, text: Text) -> float:
    """Return the logarithm of the probability of a text: the sum over all of its paths."""
    return float(log_mean(prefixes(lattice, text).total[:, -1, -1]))


def greedy(lattice: Lattice) -> list[Text]:
    """Return the text of the most probable path of each view: good guesses at the most probable text."""
    return [_text(path.tolist()) for path in np.argmax(lattice.log_p, axis=1)]


def _text(path: Sequence[int]) -> Text:
    found: list[int] = []
    last = BLANK
    for symbol in path:
        if symbol not in (BLANK, last) and (symbol != OTHER or found[-1:] != [OTHER]):
            found.append(symbol)
        last = symbol
    return tuple(found)


def log_sum(values: Log) -> Log:
    """Return the logarithm of the sum of exponentials along the last axis; -inf of nothing."""
    top = values.max(axis=-1, keepdims=True, initial=-1e300)
    with np.errstate(divide="ignore"):
        summed: Log = np.log(np.exp(values - top).sum(axis=-1)) + top[..., 0]
    return summed


def log_mean(values: Log) -> Log:
    """Return the logarithm of the mean of exponentials along the first axis, that of the views."""
    mean: Log = np.logaddexp.reduce(values, axis=0) - np.log(len(values))
    return mean
