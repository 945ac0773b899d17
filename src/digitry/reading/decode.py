"""From the scores of a strip to its text: characters, words, how sure they are, and where they stand.

A strip is read freely, or within a pattern. The text is the one that is the most probable, summed over
all the ways to write it into the columns (CTC; see `lattice`). All probabilities are those of the
network: `temperature` is what calibrates them. Places are columns of the strip, in pixels; where the
strip lies on a page is the caller's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import pairwise
from operator import or_

import numpy as np
import numpy.typing as npt

from digitry.errors import UsageError
from digitry.reading.best_text import best_fitting, best_text
from digitry.reading.boxes import Box, boxes
from digitry.reading.classes import BLANK, CLASSES, DIGITS, OTHER, SYMBOLS
from digitry.reading.lattice import Text, before, empty, extend, lattice, log_mean, log_sum
from digitry.reading.pattern import Pattern
from digitry.reading.percentile import median
from digitry.reading.posterior import Sums, anything, instead, occupancy, sums

STRIDE = 2
"""Pixels of the strip for each column of scores."""

UNFIT = 0.05
"""Prior probability of texts that do not fit the pattern, relative to those that do.

A line fits if its best text within the pattern has at least this share of the probability of its best text
without one. So a pattern does not overrule scores that are more than 95% sure."""

WORD_GAP = 0.36
"""A gap parts words if it is wider than the line's usual gap by this, in heights of a digit; beside a mark
or other writing, by twice this."""

LONE_GAP = 0.4
"""The usual gap if there are fewer than two other gaps, in heights of a digit."""

FAR = 1.5
"""A gap wider than this, in heights of a digit, always parts words."""

SLASH_HIGH, SLASH_STEEP = 1.12, 20.0
"""A stroke `SLASH_HIGH` times as high as the digits beside it is a slash or a 1 with equal odds; the
logarithm of the odds grows by `SLASH_STEEP` per digit height."""

SLASH_AT_END = 0.02
"""Odds of a slash against a 1 at the beginning or end of a line, relative to those within it.

Of such strokes in the transcriptions of training, one of 2,240 at the ends is a slash, of 1,315 within 215:
odds of 0.002. But a line may be cut off within a date: ten times that."""

PLAIN = 0.97
"""If all strips give the same text, each character with this probability in some column, the search is left
out: it would only confirm the text."""

NAMED = 1e-3
"""Alternatives that are less probable are not named."""


@dataclass(frozen=True, slots=True)
class Strip:
    """One line of writing as the network saw it.

    Attributes:
        scores: (T, 17), log-probabilities by column, in the order of `classes.CLASSES`.
        ink: (h, W) float32 in [0, 1], ink = 1; column t of the scores begins at pixel `STRIDE * t`.
        height: of a digit on the strip, in pixels.
    """

    scores: npt.NDArray[np.floating]
    ink: npt.NDArray[np.float32] = field(repr=False)
    height: float


@dataclass(frozen=True, slots=True)
class Character:
    """One character of a line.

    Attributes:
        value: a digit, a mark, or `?` for a run of other writing.
        confidence: the probability in [0, 1] that it is `value`, if the rest of the line is right.
        box: where it stands on the strip.
        alternatives: (value, probability), itself first, then the most probable; together at most 1.
            What is left is that there are no or several characters in its place.
    """

    value: str
    confidence: float
    box: Box
    alternatives: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Word:
    """Characters that stand together.

    Attributes:
        text: what they say.
        confidence: the probability in [0, 1] that all of them are right, if the rest of the line is.
        first, past: the index of its first character in the line, and of the first after it.
        box: where it stands on the strip.
    """

    text: str
    confidence: float
    first: int
    past: int
    box: Box


@dataclass(frozen=True, slots=True)
class Line:
    """What a strip says.

    Attributes:
        text: the words, joined by a space.
        confidence: the probability in [0, 1] of just this text, spaces left aside; within a pattern,
            of this text among those that fit.
        characters: from left to right.
        words: from left to right.
        strip: which of the strips the boxes are on: the index of the one that is the surest.
        fits: whether it fits the pattern; None where there is none. A line that does not fit is read
            freely.
    """

    text: str
    confidence: float
    characters: tuple[Character, ...]
    words: tuple[Word, ...]
    strip: int = 0
    fits: bool | None = None


def decode(
    strips: Strip | Sequence[Strip],
    *,
    pattern: Pattern | None = None,
    temperature: float = 1.0,
    plain: bool = True,
) -> Line:
    """Return what a line of writing says.

    Args:
        strips: the line; or the same line scaled to several heights. Then the text is the one whose
            probability is the greatest in the mean of all, and it stands where it does on the strip
            that is the surest of it.
        pattern: what the line must look like, compiled with `pattern.READABLE`.
        temperature: greater than 0; calibrates the scores.
        plain: whether a line that all strips plainly say is taken without a search: its probabilities are
            then those of single columns.

    Raises:
        ModelError: the scores are not (T, 17) finite numbers.
        UsageError: there is no strip, or the temperature is not a positive number.
    """
    views = [strips] if isinstance(strips, Strip) else list(strips)
    if not views:
        raise UsageError("there is no strip to decode", remedy="give at least one")
    read = _plain(views, pattern) if plain and temperature == 1.0 else None
    if read is not None:
        return read
    grid = lattice([view.scores for view in views], temperature)
    free = best_text(grid)
    if pattern is None:
        return _line(views, sums(grid, free.text), None)
    fitting = best_fitting(grid, pattern)
    if fitting is None or fitting.log_probability < free.log_probability + math.log(UNFIT):
        return _line(views, sums(grid, free.text), None, fits=False)
    prior = _Prior(pattern, fitting.log_mass)
    return _line(views, sums(grid, fitting.text), prior, fits=True)


def is_plain(strips: Sequence[Strip]) -> bool:
    """Return whether every strip of a line says the same with confidence."""
    return _peaks(strips) is not None


def is_other(strips: Sequence[Strip]) -> bool:
    """Return whether no strip of a line shows a digit in any column: it is other writing, or nothing."""
    return all((view.scores.argmax(axis=1) >= len(DIGITS)).all() for view in strips)


def other(strips: Sequence[Strip], pattern: Pattern | None = None) -> Line:
    """Return a line that holds no digit as one run of other writing; empty where nothing is written."""
    view = strips[0]
    shown = np.flatnonzero(view.scores.argmax(axis=1) != BLANK)
    fits = None if pattern is None else False
    if not len(shown):
        return Line("", 1.0, (), (), 0, fits)
    rows, columns = view.ink.shape
    start = min(STRIDE * int(shown[0]), columns - 1)
    box = Box(start, max(min(STRIDE * (int(shown[-1]) + 1), columns), start + 1), 0, rows)
    p = float(np.exp(view.scores[shown, OTHER]).max())
    one = Character(SYMBOLS[OTHER], p, box, ((SYMBOLS[OTHER], p),))
    return Line(one.value, p, (one,), (Word(one.value, p, 0, 1, box),), 0, fits)


def _peaks(views: Sequence[Strip]) -> tuple[Text, list[list[tuple[int, int]]]] | None:
    """Return what all strips plainly say, and in which columns each of them shows each character."""
    text: Text | None = None
    found = []
    for view in views:
        scores = np.asarray(view.scores)
        if (
            scores.ndim != 2
            or scores.shape[1] != len(CLASSES)
            or not _are_log_probabilities(scores)
        ):
            return None
        best = np.argmax(scores, axis=1)
        starts = np.flatnonzero(np.diff(best, prepend=-1))
        ends = np.append(starts[1:], len(best))
        shown = best[starts] != BLANK
        runs = list(zip(starts[shown].tolist(), ends[shown].tolist(), strict=True))
        said = tuple(int(best[start]) for start, _ in runs)
        if (text is not None and said != text) or OTHER in said or not said:
            return None
        text = said
        tops = [view.scores[start:end, k].max() for (start, end), k in zip(runs, said, strict=True)]
        if min(tops) < math.log(PLAIN):
            return None
        found.append(runs)
    return None if text is None else (text, found)


def _are_log_probabilities(scores: npt.NDArray[np.floating]) -> bool:
    """Return whether each column adds up to 1: logits are not taken for plain."""
    return bool(
        np.isfinite(scores).all() and np.abs(np.exp(scores).sum(axis=1) - 1).max(initial=0) < 1e-3
    )


def _plain(views: Sequence[Strip], pattern: Pattern | None) -> Line | None:
    """Return what a line says if that is plain, without a search; None if it is not."""
    peaks = _peaks(views)
    if peaks is None or (pattern is not None and not pattern.matches(_written(peaks[0]))):
        return None
    text, runs = peaks
    p = np.zeros((len(text), BLANK))
    for view, columns in zip(views, runs, strict=True):
        for i, (start, end) in enumerate(columns):
            at = start + int(view.scores[start:end, text[i]].argmax())
            p[i] += np.exp(view.scores[at, :BLANK])
    p /= len(views)
    surest = int(np.argmax([float(view.scores.max(axis=1).sum()) for view in views]))
    seen = np.array([(STRIDE * a, STRIDE * b - 1) for a, b in runs[surest]], np.float64)
    places = boxes(views[surest].ink, seen, views[surest].height)
    alternatives: list[tuple[tuple[str, float], ...]] = []
    for i, own in enumerate(text):
        order = [own, *(k for k in np.argsort(-p[i]).tolist() if k != own and p[i, k] >= NAMED)]
        alternatives.append(tuple((SYMBOLS[k], float(p[i, k])) for k in order))
    if pattern is None:
        alternatives = _slash_or_one(alternatives, places)
    characters = tuple(
        Character(*named[0], place, named)
        for named, place in zip(alternatives, places, strict=True)
    )
    return _as_line(characters, views, surest, None if pattern is None else True)


def _as_line(
    characters: tuple[Character, ...], views: Sequence[Strip], surest: int, fits: bool | None
) -> Line:
    values = [character.value for character in characters]
    words = []
    for first, past in _words(values, [c.box for c in characters], views[surest].height):
        part = characters[first:past]
        p = math.prod(character.confidence for character in part)
        box = reduce(or_, (character.box for character in part))
        words.append(Word("".join(values[first:past]), p, first, past, box))
    confidence = math.prod(character.confidence for character in characters)
    said = " ".join(word.text for word in words)
    return Line(said, confidence, characters, tuple(words), surest, fits)


def single(scores: Sequence[npt.ArrayLike], temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """Return how probable it is that a strip says just one digit, for each of the ten.

    Args:
        scores: (T, 17) each, of one strip scaled to several heights: the mean of them is taken.
        temperature: greater than 0; calibrates the scores.

    Returns:
        (10,) in [0, 1]; what is missing to 1 in their sum is that it is not one digit.

    Raises:
        ModelError: the scores are not (T, 17) finite numbers.
        UsageError: there are none, or the temperature is not a positive number.
    """
    if not len(scores):
        raise UsageError("there is no strip to decode", remedy="give at least one")
    digits = np.arange(10)
    grid = lattice(scores, temperature)
    alone = extend(grid, before(empty(grid), digits[None])[:, 0], digits)
    mean: npt.NDArray[np.float64] = np.exp(log_mean(alone.total[..., -1]))
    return np.minimum(mean, 1.0)


@dataclass(frozen=True, slots=True)
class _Prior:
    """What is known of a line beforehand: a text that fits is `1 / UNFIT` times as probable.

    `log_mass` is the logarithm of the probability of all that fit, by the scores alone.
    """

    pattern: Pattern
    log_mass: float

    @property
    def log_total(self) -> float:
        """The logarithm of what the probabilities of all texts, so weighted, add up to."""
        mass = min(math.exp(self.log_mass), 1.0)
        return math.log(mass + UNFIT * (1.0 - mass)) if mass else self.log_mass

    def weights(self, text: Text, symbols: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        """Return the weight of a text with each symbol in each place: (n, m)."""
        fit = [
            [
                self.pattern.matches(_written((*text[:i], int(symbol), *text[i + 1 :])))
                for symbol in symbols
            ]
            for i in range(len(text))
        ]
        return np.where(fit, 1.0, UNFIT)

    @property
    def otherwise(self) -> float:
        """The greatest weight of a text that is longer or shorter."""
        return 1.0 if self.pattern.length is None else UNFIT


def _line(
    views: Sequence[Strip], seen: Sums, prior: _Prior | None, fits: bool | None = None
) -> Line:
    text = seen.text
    log_p = float(log_mean(seen.log_probability))
    surest = int(np.argmax(seen.log_probability))
    places = _places(views[surest], occupancy(seen, surest))
    # Other writing that a pattern names by a letter or a sign is passed over.
    kept = [i for i, symbol in enumerate(text) if prior is None or symbol != OTHER]
    values = [SYMBOLS[text[i]] for i in kept]
    bounds = _words(values, [places[i] for i in kept], views[surest].height)
    ranges = [(i, i + 1) for i in range(len(text))]
    ranges += [(kept[first], kept[past - 1] + 1) for first, past in bounds]
    starts, stops = np.array(ranges, np.intp).reshape(-1, 2).T
    alike = log_mean(anything(seen, starts, stops))
    alternatives = _alternatives(seen, alike[: len(text)], prior)
    if prior is None:
        alternatives = _slash_or_one(alternatives, places)
        values = [alternatives[i][0][0] for i in kept]
    characters = [Character(*alternatives[i][0], places[i], alternatives[i]) for i in kept]
    confidence = _probability(log_p - (prior.log_total if prior else 0.0))
    words = [
        Word(
            "".join(values[first:past]),
            # A word is right at least as often as the line.
            max(_probability(log_p - log_alike), confidence),
            first,
            past,
            reduce(or_, (character.box for character in characters[first:past])),
        )
        for (first, past), log_alike in zip(bounds, alike[len(text) :].tolist(), strict=True)
    ]
    said = " ".join(word.text for word in words)
    return Line(said, confidence, tuple(characters), tuple(words), surest, fits)


def _alternatives(
    seen: Sums, alike: npt.NDArray[np.float64], prior: _Prior | None
) -> list[tuple[tuple[str, float], ...]]:
    """Return what each character may be, itself first."""
    text = seen.text
    if not text:
        return []
    # Skip symbols that are nowhere probable enough. A pattern may make them more so.
    shown = log_sum(seen.lattice.log_p[:, :BLANK]).max(axis=0)
    least = math.log(NAMED if prior is None else NAMED * UNFIT)
    least += float(log_mean(seen.log_probability))
    symbols = np.union1d(np.flatnonzero(shown > least), np.array(text, np.intp))
    p = np.exp(log_mean(instead(seen, symbols, least)) - alike[:, None])
    if prior is not None:
        several = np.maximum(1.0 - p.sum(axis=1), 0.0) * prior.otherwise
        p *= prior.weights(text, symbols)
        p /= (p.sum(axis=1) + several)[:, None]
    found = []
    for row, own in zip(p, np.searchsorted(symbols, text).tolist(), strict=True):
        order = [own, *(k for k in np.argsort(-row, kind="stable").tolist() if k != own)]
        named = [k for k in order if k == own or row[k] >= NAMED]
        found.append(tuple((SYMBOLS[symbols[k]], min(float(row[k]), 1.0)) for k in named))
    return found


def _slash_or_one(
    alternatives: Sequence[tuple[tuple[str, float], ...]], places: Sequence[Box]
) -> list[tuple[tuple[str, float], ...]]:
    """Return what each character may be, slashes told from ones by their height and their place.

    A slanted 1 and a slash are the same stroke; but a slash is mostly higher than the digits beside it, and
    stands between two of them.
    """
    tall = [box.bottom - box.top for box in places]
    digits = [h for h, named in zip(tall, alternatives, strict=True) if named[0][0] in "023456789"]
    if not digits:
        return list(alternatives)
    usual = median(digits)
    found = []
    for i, (height, named) in enumerate(zip(tall, alternatives, strict=True)):
        p = dict(named)
        if named[0][0] in "1/" and "1" in p and "/" in p:
            higher = math.exp(SLASH_STEEP * (height / usual - SLASH_HIGH))
            odds = p["/"] / max(p["1"], NAMED) * higher
            if i in (0, len(tall) - 1):
                odds *= SLASH_AT_END
            both = p["1"] + p["/"]
            p["/"] = both * odds / (1 + odds)
            p["1"] = both - p["/"]
            named = tuple(sorted(p.items(), key=lambda pair: -pair[1]))
        found.append(named)
    return found


def _places(strip: Strip, shown: npt.NDArray[np.float64]) -> list[Box]:
    """Return where each character stands, from the probability that a column shows it: (n, T)."""
    share = np.cumsum(shown[:, : len(strip.scores)], axis=1)
    if not len(share):
        return []
    share /= share[:, -1:]
    first = (share < 0.1).sum(axis=1) * STRIDE
    last = (share < 0.9).sum(axis=1) * STRIDE + STRIDE - 1
    return boxes(strip.ink, np.stack([first, last], axis=1).astype(np.float64), strip.height)


def _words(values: Sequence[str], places: Sequence[Box], height: float) -> list[tuple[int, int]]:
    """Return the first and the past-the-last character of each word."""
    if not places:
        return []
    gaps = [(right.start - left.end) / height for left, right in pairwise(places)]
    between = [left.isdigit() and right.isdigit() for left, right in pairwise(values)]
    parted = [0]
    for i, gap in enumerate(gaps):
        usual = [gaps[k] for k in range(len(gaps)) if k != i and between[k]]
        # Two or three digits have too few gaps to show what is usual.
        least = max(median(usual), 0.0) if len(usual) > 1 else LONE_GAP
        least += WORD_GAP if between[i] else 2 * WORD_GAP
        if gap > min(least, FAR):
            parted.append(i + 1)
    return list(pairwise([*parted, len(places)]))


def _written(text: Text) -> str:
    return "".join(SYMBOLS[symbol] for symbol in text)


def _probability(log_p: float) -> float:
    return math.exp(min(log_p, 0.0))
