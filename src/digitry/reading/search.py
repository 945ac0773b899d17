"""The search for what the ink says: which cuts, which digits, all taken together.

A cluster of ink has been cut into atoms; every run of atoms in a row that may be one digit has been
shown to the classifier. A path takes the whole cluster apart into such runs. The best path is the one
whose digits are, multiplied, the most probable; where a pattern says what a field must look like, the
best of those that fit it, sought through the automaton of the pattern and not filtered afterwards.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from digitry.reading.pattern import DIGITS, Pattern
from digitry.reading.segment import Piece

LEAST_LIKELY = 0.5
"""Parts that are digits with less than this probability, in the geometric mean, make one sign."""

LEAST = 1e-9
"""Below this probability nothing is told apart; it also keeps the logarithms finite."""


@dataclass(frozen=True, slots=True)
class Guess:
    """A piece that is taken as one digit.

    Attributes:
        piece: its ink.
        glyph: (28, 28) float32 in [0, 1], as the network saw it.
        probabilities: (classes,) float64; 10 digits, and perhaps one class for no digit.
        value: what the path takes it for.
        allowed: the digits that a pattern leaves for its place.
    """

    piece: Piece
    glyph: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float64]
    value: int
    allowed: frozenset[int] = DIGITS

    @property
    def confidence(self) -> float:
        """The probability that it is `value`, among all that it may be: in [0, 1]."""
        if self.allowed == DIGITS:
            return float(self.probabilities[self.value])
        possible = self.probabilities[[*self.allowed, *range(10, len(self.probabilities))]].sum()
        return float(self.probabilities[self.value] / max(float(possible), LEAST))

    @property
    def score(self) -> float:
        """The logarithm of the probability that it is `value`."""
        return math.log(max(float(self.probabilities[self.value]), LEAST))


Guesses = Mapping[tuple[int, int], Guess]
"""Of one cluster: (first atom, atom after the last) -> guess."""


def guess(
    piece: Piece, glyph: npt.NDArray[np.float32], probabilities: npt.NDArray[np.float64]
) -> Guess:
    """Take a piece for its most probable digit."""
    return Guess(piece, glyph, probabilities, int(np.argmax(probabilities[:10])))


def best_path(guesses: Guesses) -> list[Guess]:
    """Cut a cluster where the digits that come out are the most probable, all taken together.

    Where even these are hardly digits, it is one sign or letter, and stays whole.
    """
    count = max(stop for _, stop in guesses)
    # best[k]: the score of the first k atoms, and where the last digit of them begins.
    best: list[tuple[float, int]] = [(0.0, 0)]
    for stop in range(1, count + 1):
        best.append(
            max(
                (best[start][0] + guesses[start, stop].score, start)
                for start in range(stop)
                if (start, stop) in guesses
            )
        )
    ends = [count]
    while ends[-1]:
        ends.append(best[ends[-1]][1])
    if len(ends) > 2 and best[count][0] < (len(ends) - 1) * math.log(LEAST_LIKELY):
        return [guesses[0, count]]
    return [guesses[start, stop] for start, stop in pairwise(reversed(ends))]


def fitting_path(clusters: Sequence[Guesses], pattern: Pattern) -> list[Guess] | None:
    """Return the best path through a whole line whose digits fit the pattern.

    A cluster may also be left out as a mark (a dot, a dash, a smudge), at the price of the
    probability that it is no digit.

    Returns:
        The digits from left to right; None where no path fits.
    """
    # Where we are after some clusters: state of the automaton -> (score, digits so far).
    reached: dict[int, tuple[float, tuple[Guess, ...]]] = {0: (0.0, ())}
    for guesses in clusters:
        count = max(stop for _, stop in guesses)
        by_atom: list[dict[int, tuple[float, tuple[Guess, ...]]]] = [reached]
        by_atom += [{} for _ in range(count)]
        for (start, stop), guess in sorted(guesses.items()):
            for state, (score, path) in by_atom[start].items():
                allowed = frozenset(pattern.steps[state])
                for digit, following in pattern.steps[state].items():
                    taken = replace(guess, value=digit, allowed=allowed)
                    total = score + taken.score
                    if following not in by_atom[stop] or total > by_atom[stop][following][0]:
                        by_atom[stop][following] = (total, (*path, taken))
        left_out = math.log(max(_nothing(guesses[0, count]), LEAST))
        after = dict(by_atom[count])
        for state, (score, path) in reached.items():
            if state not in after or score + left_out > after[state][0]:
                after[state] = (score + left_out, path)
        reached = after
    ends = [reached[state] for state in pattern.ends if state in reached]
    if not ends:
        return None
    return list(max(ends, key=lambda end: end[0])[1])


def _nothing(whole: Guess) -> float:
    """Return the probability that a cluster is not a digit, whether or not the model has that class."""
    if len(whole.probabilities) > 10:
        return float(whole.probabilities[10])
    return float(1 - whole.probabilities[:10].max())
