"""How sure each part of a text is: posteriors over all paths, by forward and backward sums.

A character's probability is that of the text with it, divided by that of all texts that agree with the
rest: those with another character in its place, with none, and with several. All of it is exact. As in
`lattice`, the first axis of an array is that of a line's views.
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
    log_mean,
    log_sum,
    prefixes,
    reverse,
    states,
)

BLOCK = 1 << 18
"""Values of an array that are computed at once; a line may have a thousand columns."""

SLIGHT = 12.0
"""Nats. Columns in which a text is less than e^-12 times as probable as it must be are left out of sums."""


@dataclass(frozen=True, slots=True)
class Sums:
    """What the columns before and after each place of a text say.

    Attributes:
        lattice: of the line.
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
    def log_probability(self) -> Log:
        """The logarithm of the probability of the text in each view: (v,)."""
        return self.before.total[:, -1, -1]


def sums(lattice: Lattice, text: Text) -> Sums:
    """Return the forward and backward sums of a text."""
    after = prefixes(reverse(lattice), text[::-1])
    after = Prefixes(
        after.emitting[..., ::-1],
        after.label[..., ::-1],
        after.open[..., ::-1],
        after.total[..., ::-1],
        after.last,
    )
    return Sums(lattice, text, prefixes(lattice, text), after)


def occupancy(sums: Sums, view: int) -> Log:
    """Return the probability that a column of one view shows a character, given the text.

    Returns:
        (n, T), in [0, 1].
    """
    symbols = np.array(sums.text, np.intp)
    shown: Log = (
        sums.before.emitting[view, 1:, 1:]
        + sums.after.emitting[view, :0:-1, :-1]
        - sums.lattice.log_p[view, symbols]
        - sums.log_probability[view]
    )
    return np.exp(shown)


def instead(sums: Sums, symbols: npt.NDArray[np.intp], least: float = -np.inf) -> Log:
    """Return the probability of the text with another symbol in each place.

    Args:
        sums: of n symbols.
        symbols: (m,), what may stand in each place.
        least: a logarithm; a text that in the mean of the views is less probable may get -inf. Most are, in
            most of the columns: to leave them out is what makes long lines quick.

    Returns:
        (v, n, m), logarithms.
    """
    count = len(sums.text)
    # Before a symbol that begins in column t lies the prefix; at best all is right from there on, and
    # the same the other way round.
    behind = sums.before.total[:, :count, :-1]
    ahead = sums.after.total[:, count - 1 :: -1, 1:] if count else behind
    begins = behind + np.maximum.accumulate(ahead[..., ::-1], axis=-1)[..., ::-1]
    found = np.full((*begins.shape[:2], len(symbols)), -np.inf)
    shown = sums.lattice.log_p[:, symbols]
    top = np.maximum(begins.max(axis=-1, keepdims=True, initial=-1e300), -1e300)
    with np.errstate(divide="ignore"):
        most = np.log(np.exp(begins - top) @ np.moveaxis(np.exp(shown), -1, -2)) + top
    # Nearly a bound: a symbol may end in more than one column.
    places, chosen = np.nonzero(log_mean(most) >= least - 1)
    if not len(places) or not sums.lattice.width:
        return found
    ends = np.maximum.accumulate(behind, axis=-1) + ahead
    first, past = _spans(begins, ends, shown, places, chosen, least - SLIGHT)
    other = symbols[chosen] == OTHER
    for kind in filter(len, (np.flatnonzero(~other), np.flatnonzero(other))):
        order = kind[np.argsort(past[kind] - first[kind], kind="stable")]
        for block in _blocks(sums, past[order] - first[order]):
            rows = order[block]
            width = int((past[rows] - first[rows]).max())
            columns = np.minimum(first[rows], sums.lattice.width - width)[:, None] + np.arange(
                width
            )
            found[:, places[rows], chosen[rows]] = _instead(
                sums, places[rows], symbols[chosen[rows]], columns
            )
    return found


def _spans(
    begins: Log,
    ends: Log,
    shown: Log,
    places: npt.NDArray[np.intp],
    chosen: npt.NDArray[np.intp],
    least: float,
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the first and the past-the-last column in which symbols may stand in some places.

    Args:
        begins, ends: (v, n, T), what a text with a symbol that begins or ends there is worth at most.
        shown: (v, m, T), of each symbol.
        places, chosen: (k,), of the n and the m.
        least: what a text is worth at least.
    """
    width = begins.shape[-1]
    first, past = np.zeros(len(places), np.intp), np.full(len(places), width)
    if not np.isfinite(least):
        return first, past
    views = len(begins)
    for block in np.split(
        np.arange(len(places)), range(BLOCK // width, len(places), BLOCK // width)
    ):
        may = np.zeros((2, len(block), width), bool)
        for view in range(views):
            seen = shown[view, chosen[block]]
            may[0] |= begins[view, places[block]] + seen >= least
            may[1] |= ends[view, places[block]] + seen >= least
        first[block] = may[0].argmax(axis=-1)
        past[block] = width - may[1, :, ::-1].argmax(axis=-1)
    return first, np.maximum(past, first + 1)


def _instead(
    sums: Sums,
    places: npt.NDArray[np.intp],
    symbols: npt.NDArray[np.intp],
    columns: npt.NDArray[np.intp],
) -> Log:
    """Return the probability of the text with a symbol in a place, within some columns.

    Args:
        sums: of n symbols.
        places, symbols: (k,); all of the symbols are other writing, or none.
        columns: (k, w), one after the other.

    Returns:
        (v, k), logarithms.
    """
    past = np.concatenate([columns, columns[:, -1:] + 1], axis=1)
    behind, rest = sums.before, len(sums.text) - 1 - places
    last, following = behind.last[places], sums.after.last[rest]
    # The same symbol again is a new one only after a blank; other writing never is.
    entry = behind.total[:, places[:, None], columns]
    again = np.flatnonzero(last == symbols)
    entry[:, again] = behind.open[:, places[again, None], columns[again]]
    entry[:, np.flatnonzero((last == symbols) & (symbols == OTHER))] = -np.inf
    staying = sums.lattice.so_far[:, symbols[:, None], past]
    is_other = bool((symbols == OTHER).all())
    shown = sums.lattice.log_p[:, symbols[:, None], columns] if is_other else None
    _, emitting = states(entry, staying, shown)
    # The column after its last: a blank, or the next symbol if that is another one.
    completed = sums.after.total[:, rest[:, None], past[:, 1:]]
    same = np.flatnonzero(following == symbols)
    completed[:, same] = sums.after.open[:, rest[same, None], past[same, 1:]]
    values = log_sum(emitting[..., 1:] + completed)
    values[:, np.flatnonzero((following == symbols) & (symbols == OTHER))] = -np.inf
    return values


def anything(sums: Sums, starts: npt.NDArray[np.intp], stops: npt.NDArray[np.intp]) -> Log:
    """Return the probability of all texts that agree with this one outside of a range.

    Args:
        sums: of n symbols.
        starts, stops: (k,), ranges of the text: what lies between, in however many symbols, is free.

    Returns:
        (v, k), logarithms.
    """
    blocks = _blocks(sums, np.full(len(starts), sums.lattice.width))
    found = [_anything(sums, starts[block], stops[block]) for block in blocks]
    return np.concatenate(found, axis=1)


def _blocks(sums: Sums, widths: npt.NDArray[np.intp]) -> list[npt.NDArray[np.intp]]:
    """Return rows in blocks.

    Args:
        sums: for its views.
        widths: of the rows, in columns, the narrowest first; a block is as wide as its widest.
    """
    views, bounds, start = len(sums.lattice.log_p), [], 0
    for row, width in enumerate(widths.tolist()):
        if row > start and (row + 1 - start) * width * views > BLOCK:
            bounds.append(row)
            start = row
    return np.split(np.arange(len(widths)), bounds)


def _anything(sums: Sums, starts: npt.NDArray[np.intp], stops: npt.NDArray[np.intp]) -> Log:
    left, right = sums.before[starts], sums.after[len(sums.text) - stops]
    # From here on sums are of probabilities, each row scaled by its greatest.
    left_scale, begun = _scaled(left.total)
    right_scale, ends = _scaled(right.emitting)
    first = right.last
    new = _Entries(sums.lattice, left, left_scale)
    # Once in the free part, a path may do as it likes.
    free = _after(np.cumsum(new.but(), axis=-1))
    with np.errstate(divide="ignore"):
        to_the_end = np.log(free[..., -1] + begun[..., -1]) + left_scale[..., 0]
    # Where symbols follow, the first of them must be a new one, not more of the free part's last.
    free = _after(free[..., :-1] * new.without(first[:, None]) + new.but(first[:, None]))
    other = np.flatnonzero(first == OTHER)
    if len(other):
        free[:, other] = new.not_other(other)
    direct = np.exp(before(left, first[:, None])[:, :, 0] - left_scale)
    with np.errstate(divide="ignore"):
        followed = np.log(((free[..., :-1] + direct) * ends[..., :-1]).sum(axis=-1))
    followed += (left_scale + right_scale)[..., 0]
    # The text itself agrees, also where it is so improbable that the sums are nought.
    least = sums.log_probability[:, None]
    return np.maximum(np.where(first == BLANK, to_the_end, followed), least)


class _Entries:
    """The probability of going from a prefix to any new symbol, by column.

    Args:
        lattice: of the line.
        prefixes: n of them.
        scale: (v, n, 1), the logarithm of what they are divided by.
    """

    def __init__(self, lattice: Lattice, prefixes: Prefixes, scale: Log) -> None:
        self.p = np.exp(lattice.log_p)
        self.open = np.exp(prefixes.open[..., :-1] - scale)
        self.label = np.exp(prefixes.label[..., :-1] - scale)
        self.last = prefixes.last[:, None]

    def but(self, symbols: npt.NDArray[np.intp] | None = None) -> npt.NDArray[np.float64]:
        """Return (v, n, T), leaving out `symbols` (n, k)."""
        out = np.full_like(self.last, BLANK)
        if symbols is not None:
            out = np.concatenate([out, symbols], axis=1)
        # Other writing after other writing is not new, whatever lies between.
        again = np.where(self.last == OTHER, OTHER, BLANK)
        return self.open * self.without(np.concatenate([out, again], axis=1)) + (
            self.label * self.without(np.concatenate([out, self.last], axis=1))
        )

    def without(self, left_out: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        """Return the probability of all classes but those of each row: (n, k) to (v, n, T)."""
        # Summed, not subtracted from 1, which would leave nothing of small ones.
        kept = np.ones((len(left_out), len(CLASSES)))
        kept[np.arange(len(left_out))[:, None], left_out] = 0.0
        return kept @ self.p

    def not_other(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        """Return what of the free part has not other writing as its last symbol: (v, rows, T + 1)."""
        whole = _after(np.cumsum(self.but(), axis=-1))[:, rows]
        out = np.broadcast_to([OTHER, BLANK], (len(self.last), 2))
        begun = whole[..., :-1] * self.without(out)[:, rows] + self.but(out)[:, rows]
        found = np.zeros((begun.shape[-1] + 1, *begun.shape[:2]))
        blanks = self.p[:, BLANK].T[..., None]
        for t, (entered, blank) in enumerate(zip(np.moveaxis(begun, -1, 0), blanks, strict=True)):
            found[t + 1] = entered + found[t] * blank
        return np.moveaxis(found, 0, -1)


def _scaled(values: Log) -> tuple[Log, npt.NDArray[np.float64]]:
    # (v, n, T) -> (v, n, 1) the greatest of each row, and the row divided by it, no logarithms any more.
    scale = np.maximum(values.max(axis=-1, keepdims=True), -1e300)
    return scale, np.exp(values - scale)


def _after(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.concatenate([np.zeros((*values.shape[:-1], 1)), values], axis=-1)
