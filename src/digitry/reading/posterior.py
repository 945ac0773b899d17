"""How sure each part of a text is: posteriors over all paths, by forward and backward sums.

A character's probability is that of the text with it, divided by that of all texts that agree with the
rest: those with another character in its place, with none, and with several. All of it is exact.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from digitry.reading.classes import BLANK, CLASSES, OTHER
from digitry.reading.lattice import (
    Lattice,
    Log,
    Prefixes,
    Text,
    before,
    log_sum,
    prefixes,
    reverse,
    states,
)


@dataclass(frozen=True, slots=True)
class Sums:
    """What the columns before and after each place of a text say.

    Attributes:
        lattice: of the strip.
        text: n symbols.
        before: n + 1 prefixes; `before[i]` is the first i symbols, by the columns behind.
        after: n + 1 suffixes; `after[i]` is the last i symbols, by the columns behind; those ahead
            are summed, so that column t stands at index t.
    """

    lattice: Lattice
    text: Text
    before: Prefixes
    after: Prefixes

    @property
    def log_probability(self) -> float:
        """The logarithm of the probability of the text."""
        return float(self.before.total[-1, -1])


def sums(lattice: Lattice, text: Text) -> Sums:
    """Return the forward and backward sums of a text."""
    after = prefixes(reverse(lattice), text[::-1])
    after = Prefixes(
        after.emitting[:, ::-1],
        after.label[:, ::-1],
        after.open[:, ::-1],
        after.total[:, ::-1],
        after.last,
    )
    return Sums(lattice, text, prefixes(lattice, text), after)


def occupancy(sums: Sums) -> Log:
    """Return the probability that a column shows a character, given the text.

    Returns:
        (n, T), in [0, 1].
    """
    symbols = np.array(sums.text, np.intp)
    shown: Log = (
        sums.before.emitting[1:, 1:]
        + sums.after.emitting[:0:-1, :-1]
        - sums.lattice.log_p[symbols]
        - sums.log_probability
    )
    return np.exp(shown)


def instead(sums: Sums, symbols: npt.NDArray[np.intp]) -> Log:
    """Return the probability of the text with another symbol in each place.

    Args:
        sums: of n symbols.
        symbols: (m,), what may stand in each place.

    Returns:
        (n, m), logarithms.
    """
    count = len(sums.text)
    places = np.arange(count)
    after = sums.after[count - 1 - places]
    chosen = np.broadcast_to(symbols, (count, len(symbols)))
    _, emitting = states(sums.lattice, before(sums.before[places], chosen), chosen)
    # The column after its last: a blank, or the next symbol if that is another one.
    follows = after.last[:, None] == symbols
    rest = np.where(follows[:, :, None], after.open[:, None, 1:], after.total[:, None, 1:])
    values = log_sum(emitting[:, :, 1:] + rest)
    return np.where(follows & (symbols == OTHER), -np.inf, values)


def anything(sums: Sums, starts: npt.NDArray[np.intp], stops: npt.NDArray[np.intp]) -> Log:
    """Return the probability of all texts that agree with this one outside of a range.

    Args:
        sums: of n symbols.
        starts, stops: (k,), ranges of the text: what lies between, in however many symbols, is free.

    Returns:
        (k,), logarithms.
    """
    lattice = sums.lattice
    left, right = sums.before[starts], sums.after[len(sums.text) - stops]
    entries = _Entries(lattice, left)
    # Once in the free part, a path may do as it likes.
    nothing = np.full((len(starts), 1), -np.inf)
    free = np.concatenate([nothing, np.logaddexp.accumulate(entries.but(), axis=1)], axis=1)
    to_the_end = np.logaddexp(free[:, -1], left.total[:, -1])
    # Where symbols follow, the first of them must be a new one, not more of the free part's last.
    first = right.last
    new = np.logaddexp(
        free[:, :-1] + _without(lattice, first[:, None]), entries.but(first[:, None])
    )
    if OTHER in first:
        ends = np.stack([first, np.full_like(first, BLANK)], axis=1)
        begun = np.logaddexp(free[:, :-1] + _without(lattice, ends), entries.but(ends))
        blank = lattice.so_far[BLANK, 1:]
        begun = np.logaddexp.accumulate(begun - blank, axis=1) + blank
        new = np.where((first == OTHER)[:, None], begun, new)
    new = np.concatenate([nothing, new[:, :-1]], axis=1) if lattice.width else new
    direct = before(left, first[:, None])[:, 0]
    followed = log_sum(np.logaddexp(new, direct) + right.emitting[:, :-1])
    return np.where(first == BLANK, to_the_end, followed)


class _Entries:
    """The probability of going from a prefix to any new symbol, by column."""

    def __init__(self, lattice: Lattice, before: Prefixes) -> None:
        self.lattice = lattice
        self.open, self.label = before.open[:, :-1], before.label[:, :-1]
        self.last = before.last[:, None]

    def but(self, symbols: npt.NDArray[np.intp] | None = None) -> Log:
        """Return (n, T), leaving out `symbols` (n, k)."""
        blank = np.full_like(self.last, BLANK)
        left_out = blank if symbols is None else np.concatenate([blank, symbols], axis=1)
        # Other writing after other writing is not new, whatever lies between.
        again = np.where(self.last == OTHER, OTHER, BLANK)
        from_open = _without(self.lattice, np.concatenate([left_out, again], axis=1))
        from_label = _without(self.lattice, np.concatenate([left_out, self.last], axis=1))
        return np.logaddexp(self.open + from_open, self.label + from_label)


def _without(lattice: Lattice, left_out: npt.NDArray[np.intp]) -> Log:
    # (n, k) classes -> (n, T): the probability of all the others, summed and not subtracted.
    kept = np.ones((len(left_out), len(CLASSES)))
    np.put_along_axis(kept, left_out, 0.0, axis=1)
    return np.log(kept @ np.exp(lattice.log_p))
