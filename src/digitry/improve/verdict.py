"""The verdict on a retrained model: what it reads right of the held-out corrections, and why it failed.

Both gates use it: `gate` for the glyph model, `line_gate` for the line network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from digitry.plain import Plain

WRONG_LABELS = 0.1
"""Share of the corrections that is assumed to be wrong; see `p_value`."""

MAX_P_VALUE = 0.01
"""Largest p-value at which the held-out corrections count as improved."""


@dataclass(frozen=True, kw_only=True)
class Verdict(Plain):
    """The result of a gate; `before` is the default model, `after` the candidate.

    Attributes:
        passed: whether the candidate may become the default.
        reasons: the checks that failed, one line each; empty if it passed.
        held: number of held-out corrections.
        held_before, held_after: how many of them are read right.
        gained: how many only the candidate reads right.
        lost: how many only the default reads right.
        p_value: of `gained` and `lost`, see `p_value`.
    """

    passed: bool
    reasons: tuple[str, ...]
    held: int
    held_before: int
    held_after: int
    gained: int
    lost: int
    p_value: float

    @classmethod
    def of(
        cls,
        before: npt.NDArray[np.bool_],
        after: npt.NDArray[np.bool_],
        forgotten: Sequence[str],
        **frozen: Any,
    ) -> Self:
        """Return the verdict.

        Args:
            before: (n,) which held-out corrections the default reads right.
            after: (n,) which of them the candidate reads right.
            forgotten: the other checks that failed, one line each.
            frozen: the fields of the subclass.
        """
        gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
        p = p_value(gained, lost, len(before))
        reasons = list(forgotten)
        if not p <= MAX_P_VALUE:
            reasons.append(_unproven(gained, lost, len(before), p))
        return cls(
            passed=not reasons,
            reasons=tuple(reasons),
            held=len(before),
            held_before=int(before.sum()),
            held_after=int(after.sum()),
            gained=gained,
            lost=lost,
            p_value=p,
            **frozen,
        )

    @property
    def frozen_scores(self) -> dict[str, float]:
        """Return the scores of the candidate on the frozen sets, by name."""
        raise NotImplementedError

    @property
    def frozen_summary(self) -> str:
        """Return what the two read right of the frozen sets, in a few words."""
        raise NotImplementedError

    @property
    def scores(self) -> dict[str, float]:
        """Return the scores of the candidate by name, as stored with a version."""
        found = self.frozen_scores
        if self.held:
            found["corrections before"] = self.held_before / self.held
            found["corrections"] = self.held_after / self.held
        return found

    @property
    def summary(self) -> str:
        """Return in one line why it passed or failed."""
        if not self.passed:
            return "; ".join(self.reasons)
        return (
            f"{self.held_after} of {self.held} held-out corrections right, {self.held_before} before; "
            f"{self.frozen_summary}"
        )


def p_value(gained: int, lost: int, count: int, *, wrong: float = WRONG_LABELS) -> float:
    """Return the probability that a model that is no better gets such a result, if some labels are wrong.

    A model that is no better wins each image that only one of the two models reads right with
    probability 1/2 (McNemar's exact test, a sign test). Wrong labels would bias this test: a model
    trained on wrong labels may agree with similar wrong labels. So the worst case is assumed: each
    label is wrong with probability `wrong`, and each wrong label counts as gained without being a
    gain. With w wrong labels, `gained` - w is compared with `lost`; the p-value is the mean over w.

    Args:
        gained: images that only the candidate reads as labelled.
        lost: images that only the other model reads as labelled.
        count: number of all images.
        wrong: assumed share of wrong labels, in [0, 1).

    Returns:
        One-sided, in [0, 1].
    """
    from scipy.stats import binom

    mistaken = np.arange(gained + 1)
    earned = gained - mistaken
    luck = binom.sf(earned - 1, earned + lost, 0.5)
    rest = binom.sf(gained, count, wrong)
    return float(min(1.0, (binom.pmf(mistaken, count, wrong) * luck).sum() + rest))


def fewest() -> int:
    """Return the least number of held-out corrections that can pass, if all of them are gained."""
    count = 1
    while p_value(count, 0, count) > MAX_P_VALUE:
        count += 1
    return count


def _unproven(gained: int, lost: int, count: int, p: float) -> str:
    if count < fewest():
        return f"{count} held-out corrections are too few; at least {fewest()} are needed"
    changes = f"of {count} held-out corrections {gained} are newly right and {lost} newly wrong"
    if gained <= lost:
        return changes
    return (
        f"{changes}, which chance and wrong labels can explain (p {p:.2g}, limit {MAX_P_VALUE:g})"
    )
