"""The gate between a retrained model and the place of the one that is read with.

Corrections are few, come from whoever cared to make them, and some of them are wrong. So a model that
learnt from them must pass three questions, each by itself, and whoever fails one stays a candidate:

1. *The frozen set*: MNIST's 10,000 test digits, as the reading pipeline sees them. Each picture, 28x28
   and light on dark as MNIST has it, goes the way of any picture of one digit: polarity, ink, piece,
   normalisation, network; the likeliest class is the answer, and `not a digit` is a wrong one. The
   share that is right may not be lower by more than 0.05 points, and the recall of no digit by more
   than 0.3.
2. *No digits where there are none*: on signs, letters and halves, drawn beside digits that no model of
   ours has learnt from, the share that is refused may not be lower by more than 1 point. MNIST has
   none of these, and a model that forgets to refuse would look well on it.
3. *The corrections held out*: it must read more of them right than before, by so much that neither
   chance nor wrong labels explain it; see `p_value`.

Both models answer on the same images. The first two are asked against the shipped model, too, lest many
small losses add up to a large one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from digitry.errors import DataError
from digitry.model.artifact import Artifact
from digitry.plain import Plain
from digitry.reading.classifier import Classifier
from digitry.reading.reader import single_glyph
from digitry.training.data.dataset import Split
from digitry.training.evaluation.calibration import DIGITS

if TYPE_CHECKING:
    from rich.console import Console

MOST_LOST = 0.0005
"""Share of the frozen set that may be lost."""

MOST_LOST_OF_A_DIGIT = 0.003
"""Share of each digit's pictures in the frozen set that may be lost."""

MOST_LOST_REFUSALS = 0.01
"""Share of what is no digit that may be lost."""

WRONG_LABELS = 0.1
"""Share of the corrections that may be wrong; see `p_value`."""

SURE = 0.01
"""The p-value from which corrections count as read better."""

Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Exam:
    """The images that models are asked about.

    Attributes:
        frozen: from `frozen_set`, labels 0 to 9.
        nothing: (k, 28, 28) uint8, ink = 255: glyphs of what is no digit.
        held: corrections that no model has learnt from, labels 0 to 10; may be empty.
    """

    frozen: Split
    nothing: npt.NDArray[np.uint8]
    held: Split


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model says to an `Exam`: the likeliest class of each image, as uint8.

    Attributes:
        frozen, nothing, held: for each image there.
    """

    frozen: Labels
    nothing: Labels
    held: Labels


@dataclass(frozen=True, kw_only=True)
class Verdict(Plain):
    """What the gate found.

    Attributes:
        passed: whether the candidate may take the place of the default.
        reasons: what it failed, a line each; empty if it passed.
        frozen_before, frozen_after: share of the frozen set that is read right, in [0, 1].
        recalls_before, recalls_after: the same for each digit.
        refused_before, refused_after: share of what is no digit that is seen to be none, in [0, 1].
        held: corrections that were held out.
        held_before, held_after: how many of them are read as they say.
        gained: how many the candidate alone reads so; `lost`: the default alone.
        p_value: of `gained` and `lost`, see `p_value`.
    """

    passed: bool
    reasons: tuple[str, ...]
    frozen_before: float
    frozen_after: float
    recalls_before: tuple[float, ...]
    recalls_after: tuple[float, ...]
    refused_before: float
    refused_after: float
    held: int
    held_before: int
    held_after: int
    gained: int
    lost: int
    p_value: float

    @property
    def scores(self) -> dict[str, float]:
        """Return the figures of the candidate by name, as a version on the shelf keeps them."""
        found = {"frozen MNIST": self.frozen_after, "not a digit": self.refused_after}
        if self.held:
            found["corrections before"] = self.held_before / self.held
            found["corrections"] = self.held_after / self.held
        return found

    @property
    def summary(self) -> str:
        """Return in one line why it passed or did not."""
        if not self.passed:
            return "; ".join(self.reasons)
        return (
            f"{self.held_after} of {self.held} held-out corrections right, {self.held_before} before; "
            f"frozen MNIST {_percent(self.frozen_after)}, {_percent(self.frozen_before)} before"
        )


def frozen_set(test: Split, *, console: "Console | None" = None) -> Split:
    """Return MNIST's test part as the reading pipeline sees it: the protocol stands above.

    Args:
        test: (n, 28, 28) uint8, ink = 255, with its labels.
        console: shows progress.

    Returns:
        The glyphs that the network would be given, as images, and the same labels.
    """
    from digitry.progress import Display

    glyphs = np.zeros(test.images.shape, np.uint8)
    with Display(console, len(test)) as display:
        for index, image in enumerate(test.images):
            if display.due():
                display.at(index, f"frozen set, {index:,} of {len(test):,}")
            glyphs[index] = np.rint(255 * single_glyph(image))
    return Split(glyphs, test.labels)


def answers(model: Artifact, exam: Exam, *, threads: int = 2) -> Answers:
    """Ask a model, by the code that reads."""
    classifier = Classifier(model, threads=threads)

    def best(images: npt.NDArray[np.uint8]) -> Labels:
        logits = classifier.logits(images.astype(np.float32) / np.float32(255))
        return np.asarray(logits.argmax(axis=1), np.uint8)

    return Answers(best(exam.frozen.images), best(exam.nothing), best(exam.held.images))


def judge(
    exam: Exam, before: Answers, after: Answers, *, anchors: Sequence[Answers] = ()
) -> Verdict:
    """Decide whether a candidate may take the place of the default.

    Args:
        exam: what was asked.
        before: what the default said.
        after: what the candidate said.
        anchors: what others said beside which the candidate may not be worse on the frozen set and on
            what is no digit: the shipped model.

    Raises:
        DataError: the frozen set lacks a digit, or the answers are to another exam.
    """
    truth, said = exam.frozen.labels, exam.held.labels
    for given in (before, after, *anchors):
        sizes = (len(given.frozen), len(given.nothing), len(given.held))
        if sizes != (len(truth), len(exam.nothing), len(said)):
            raise DataError(
                "the predictions do not match the gate's images", remedy="run each model again"
            )
    support = np.bincount(truth, minlength=DIGITS)[:DIGITS]
    if not support.all():
        raise DataError(
            f"the frozen set has no {int(support.argmin())}", remedy="use MNIST's whole test set"
        )

    def hits(given: Answers) -> npt.NDArray[np.int64]:
        return np.bincount(truth[given.frozen == truth], minlength=DIGITS)[:DIGITS]

    def refused(given: Answers) -> int:
        return int((given.nothing == DIGITS).sum())

    new = hits(after)
    olds = [hits(given) for given in (before, *anchors)]
    reasons = []
    lost = max(int(old.sum()) for old in olds) - int(new.sum())
    if lost > MOST_LOST * len(truth):
        reasons.append(
            f"accuracy on frozen MNIST fell by {_points(lost / len(truth))} "
            f"(limit {_points(MOST_LOST)})"
        )
    falls = (np.max(olds, axis=0) - new) / support
    worst = int(falls.argmax())
    if falls[worst] > MOST_LOST_OF_A_DIGIT:
        reasons.append(
            f"recall of {worst} on frozen MNIST fell by {_points(falls[worst])} "
            f"(limit {_points(MOST_LOST_OF_A_DIGIT)})"
        )
    forgotten = max(refused(given) for given in (before, *anchors)) - refused(after)
    if forgotten > MOST_LOST_REFUSALS * len(exam.nothing):
        reasons.append(
            f"the share of non-digits refused fell by {_points(forgotten / len(exam.nothing))} "
            f"(limit {_points(MOST_LOST_REFUSALS)})"
        )
    right_before, right_after = before.held == said, after.held == said
    gained = int((right_after & ~right_before).sum())
    dropped = int((right_before & ~right_after).sum())
    p = p_value(gained, dropped, len(said))
    if not p <= SURE:
        reasons.append(_unproven(gained, dropped, len(said), p))
    shares = [tuple(float(share) for share in old / support) for old in (olds[0], new)]
    count = max(len(exam.nothing), 1)
    return Verdict(
        passed=not reasons,
        reasons=tuple(reasons),
        frozen_before=float(olds[0].sum() / len(truth)),
        frozen_after=float(new.sum() / len(truth)),
        recalls_before=shares[0],
        recalls_after=shares[1],
        refused_before=refused(before) / count,
        refused_after=refused(after) / count,
        held=len(said),
        held_before=int(right_before.sum()),
        held_after=int(right_after.sum()),
        gained=gained,
        lost=dropped,
        p_value=p,
    )


def p_value(gained: int, lost: int, count: int, *, wrong: float = WRONG_LABELS) -> float:
    """Return how likely so good a result is of a model that is no better, if some labels are wrong.

    Of the images that one model alone reads as their labels say, a model that is no better gets each
    by the toss of a coin (the sign test, as McNemar has it). But wrong labels are not fair: a model that
    learnt from wrong labels may agree with others of their kind. So the worst is assumed: each label
    is wrong with probability `wrong`, and every wrong one speaks for the candidate, and is no gain.
    With w of them the rest is `gained` - w against `lost`; the p-value is the mean over w.

    Args:
        gained: images that the candidate alone reads as their labels say.
        lost: images that the other one alone does.
        count: of all images.
        wrong: share of the labels that may be wrong, in [0, 1).

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
    """Return how many held-out corrections it takes to prove anything, were all of them gained."""
    count = 1
    while p_value(count, 0, count) > SURE:
        count += 1
    return count


def _unproven(gained: int, lost: int, count: int, p: float) -> str:
    if count < fewest():
        return f"{count} held-out corrections are too few; at least {fewest()} are needed"
    changes = f"of {count} held-out corrections {gained} are newly right and {lost} newly wrong"
    if gained <= lost:
        return changes
    return f"{changes}, which chance and wrong labels can explain (p {p:.2g}, limit {SURE:g})"


def _points(difference: float) -> str:
    return f"{100 * difference:.2f} points"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"
