"""The gate of the line network: the checks that a retrained network must pass to become the default.

1. *Frozen lines*, by people whose writing no network was trained on: numbers, single digits and words. The
   share that is read right may fall only a little, in each kind and in all together, compared with the
   default and with the shipped network. They are read greedily, at one height, which is fast.
2. *Held-out corrections*, read as the reader reads a line: more of them must be right than before, by more
   than chance and wrong labels can explain; see `verdict.p_value`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from digitry.improve.verdict import Verdict
from digitry.model.line_network import LineNetwork
from digitry.reading import decode, lines
from digitry.reading.classes import BLANK, SYMBOLS
from digitry.reading.network import Session
from digitry.reading.runtime import session
from digitry.training.evaluation.held_lines import HeldLine, plain

if TYPE_CHECKING:
    import onnxruntime

MOST_LOST = 0.005
"""Largest allowed fall of the share of frozen lines that are right."""

MOST_LOST_OF_A_KIND = 0.02
"""Largest allowed fall within one kind of them."""

TALL = 22
"""Height of the digits on the strips of frozen lines, pixels."""


@dataclass(frozen=True, kw_only=True)
class LineVerdict(Verdict):
    """The result of the gate.

    Attributes:
        kinds: of the frozen lines.
        counts: how many there are of each kind.
        right_before, right_after: how many of each are read right.
    """

    kinds: tuple[str, ...]
    counts: tuple[int, ...]
    right_before: tuple[int, ...]
    right_after: tuple[int, ...]

    @property
    def frozen_scores(self) -> dict[str, float]:
        """Return the share of the frozen lines that the candidate reads right."""
        return {"frozen lines": sum(self.right_after) / max(sum(self.counts), 1)}

    @property
    def frozen_summary(self) -> str:
        """Return how many of the frozen lines are read right."""
        return (
            f"{sum(self.right_after)} of {sum(self.counts)} frozen lines, "
            f"{sum(self.right_before)} before"
        )


@dataclass(frozen=True, eq=False)
class Greedy:
    """A line network that is read greedily."""

    network: "onnxruntime.InferenceSession"

    @classmethod
    def of(cls, content: bytes) -> "Greedy":
        """Return the network of a file."""
        return cls(session(content))

    def right(self, given: Sequence[HeldLine]) -> list[bool]:
        """Return which lines are read right; a line of words is right if no digit is read in it."""
        found = []
        for line in given:
            strip = lines.strip(line.cut, TALL)
            scores = self.network.run(None, {"strips": strip[None, None]})[0][0]
            best: npt.NDArray[np.intp] = scores.argmax(axis=1)
            keep = (np.diff(best, prepend=BLANK) != 0) & (best != BLANK)
            said = plain("".join(SYMBOLS[k] for k in best[keep]))
            digits = any(character.isdigit() for character in said)
            found.append(said == line.text if line.text else not digits)
        return found


def read(network: LineNetwork, given: Sequence[HeldLine]) -> list[str]:
    """Return the digits and marks of lines, read as the reader reads them."""
    seen = lines.seen([line.cut for line in given], Session(network))
    return [plain(decode.decode(strips).text) for strips in seen]


def judge(
    frozen: Sequence[HeldLine],
    held: Sequence[HeldLine],
    networks: tuple[LineNetwork, LineNetwork, LineNetwork],
) -> LineVerdict:
    """Decide whether a candidate may become the default.

    Args:
        frozen: lines of hands that no network was trained on.
        held: corrections that no network was trained on.
        networks: the default, the candidate, and the shipped one.
    """
    kinds = tuple(sorted({line.kind for line in frozen}))
    counts = tuple(sum(line.kind == kind for line in frozen) for kind in kinds)
    right = []
    for network in networks:
        hits = Greedy.of(network.onnx).right(frozen)
        right.append(
            [
                sum(hit for hit, line in zip(hits, frozen, strict=True) if line.kind == kind)
                for kind in kinds
            ]
        )
    before, after = (
        np.array(
            [said == line.text for said, line in zip(read(one, held), held, strict=True)], bool
        )
        for one in networks[:2]
    )
    return LineVerdict.of(
        before,
        after,
        _forgotten(kinds, counts, right),
        kinds=kinds,
        counts=counts,
        right_before=tuple(right[0]),
        right_after=tuple(right[1]),
    )


def _forgotten(
    kinds: Sequence[str], counts: Sequence[int], right: Sequence[Sequence[int]]
) -> list[str]:
    """Return what the candidate reads worse than one of the other networks, one line each.

    Args:
        kinds: of the frozen lines.
        counts: lines of each kind.
        right: lines of each kind that the default, the candidate and the shipped network read right.
    """
    reasons = []
    best = [max(right[0][k], right[2][k]) for k in range(len(kinds))]
    lost = max(sum(right[0]), sum(right[2])) - sum(right[1])
    if lost > MOST_LOST * sum(counts):
        reasons.append(
            f"{lost} of {sum(counts)} frozen lines are newly wrong (limit {100 * MOST_LOST:g}%)"
        )
    for k, kind in enumerate(kinds):
        fewer = best[k] - right[1][k]
        # One line more or less is no evidence.
        if fewer > max(MOST_LOST_OF_A_KIND * counts[k], 1):
            reasons.append(
                f"{fewer} of {counts[k]} frozen lines of the kind {kind} are newly wrong "
                f"(limit {100 * MOST_LOST_OF_A_KIND:g}%)"
            )
    return reasons
