"""How a model bears spoiled pictures: its error under fifteen corruptions in five severities each."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from digitry.errors import DataError
from digitry.model.artifact import Artifact
from digitry.model.load import load_model
from digitry.plain import Plain
from digitry.reading.classifier import Classifier
from digitry.training.data.dataset import Split
from digitry.training.evaluation.calibration import DIGITS
from digitry.training.evaluation.corruptions import (
    CORRUPTIONS,
    PUBLISHED,
    SEVERITIES,
    Bytes,
    corrupt,
)
from digitry.training.evaluation.scores import Z95
from digitry.training.progress import Steps

if TYPE_CHECKING:
    from rich.console import Console

MOST = 10_000
"""Most pictures that are spoiled: as many as MNIST-C has of each kind."""

Answer = Callable[[Bytes], tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]]
"""From (n, 28, 28) uint8, ink = 255, to (n,) labels, 10 or more where it refuses to name a digit; and
to the (n,) digits that it would name if it had to."""


@dataclass(frozen=True, slots=True)
class CorruptionScore(Plain):
    """How one corruption is borne.

    Attributes:
        name: one of `CORRUPTIONS`.
        errors: the share not read right at each severity, 1 to 5, in [0, 1]; a refusal counts.
        refused: the share that was called no digit, likewise; 0 throughout if a model cannot.
        forced: the share whose likeliest digit is a wrong one, likewise: as MNIST-C counts, whose
            models cannot refuse.
    """

    name: str
    errors: tuple[float, ...]
    refused: tuple[float, ...]
    forced: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean error over the severities."""
        return sum(self.errors) / len(self.errors)


@dataclass(frozen=True, kw_only=True)
class Robustness(Plain):
    """How spoiled pictures are borne.

    Attributes:
        count: pictures, each seen under every corruption and severity.
        seed: of the corruptions.
        clean_error: the share of the same pictures that is not read right unspoiled, in [0, 1].
        mean_error: the mean over all corruptions and severities, in [0, 1].
        interval: of the mean error, 95%: normal, with a picture's mean error as one observation,
            since the same pictures are met again and again.
        refused: the mean share that was called no digit, in [0, 1].
        forced_error: the mean share whose likeliest digit is wrong, in [0, 1].
        published_error: the same over the corruptions at the severities of the MNIST-C files alone.
        corruptions: each one's scores.
    """

    count: int
    seed: int
    clean_error: float
    mean_error: float
    interval: tuple[float, float]
    refused: float
    forced_error: float
    published_error: float
    corruptions: tuple[CorruptionScore, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the plain form, with the mean error of each corruption."""
        found = super().to_dict()
        for row, one in zip(found["corruptions"], self.corruptions, strict=True):
            row["mean_error"] = one.mean
        return found


def robustness(
    model: str | Path | Artifact,
    split: Split,
    *,
    seed: int = 0,
    console: "Console | None" = None,
) -> Robustness:
    """Measure how a model file bears spoiled pictures, by the code that reads.

    Args:
        model: the name of a shipped model, a .onnx file, a run folder, or a loaded artifact.
        split: labelled images, (n, 28, 28) uint8, ink = 255. Images of no digit are left out, and
            of more than `MOST` as many, spread evenly.
        seed: of the corruptions.
        console: where progress goes; None = nowhere.

    Raises:
        ModelError: it is not a model of ours.
        DataError: there are no images of digits.
    """
    loaded = model if isinstance(model, Artifact) else load_model(model)
    classifier = Classifier(loaded, threads=os.cpu_count() or 1)

    def answer(images: Bytes) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]:
        logits = classifier.logits(images.astype(np.float32) / np.float32(255))
        return logits.argmax(axis=1), logits[:, :DIGITS].argmax(axis=1)

    return measure(answer, split, seed=seed, console=console)


def measure(
    answer: Answer, split: Split, *, seed: int = 0, console: "Console | None" = None
) -> Robustness:
    """Measure how anything that reads pictures bears spoiled ones.

    Args:
        answer: what reads them.
        split, seed, console: as for `robustness`.

    Raises:
        DataError: there are no images of digits.
    """
    digits = np.flatnonzero(split.labels < DIGITS)
    if len(digits) == 0:
        raise DataError("there are no images of digits to spoil", remedy="give at least one")
    if len(digits) > MOST:
        digits = digits[np.linspace(0, len(digits) - 1, MOST).round().astype(int)]
    images, labels = split.images[digits], split.labels[digits]
    wrong = np.zeros(len(labels))
    scores = []
    with Steps(console, len(CORRUPTIONS) * len(SEVERITIES)) as steps:
        clean = float((answer(images)[0] != labels).mean())
        steps.line(f"{'unspoiled':<13}{100 * clean:6.1f}%")
        for number, name in enumerate(CORRUPTIONS):
            errors, refused, forced = [], [], []
            for severity in SEVERITIES:
                steps.at(number * len(SEVERITIES) + severity - 1, f"{name} {severity}")
                said, likeliest = answer(corrupt(images, name, severity, seed))
                wrong += said != labels
                errors.append(float((said != labels).mean()))
                refused.append(float((said >= DIGITS).mean()))
                forced.append(float((likeliest != labels).mean()))
            scores.append(CorruptionScore(name, tuple(errors), tuple(refused), tuple(forced)))
            steps.line(f"{name:<13}" + "".join(f"{100 * error:6.1f}%" for error in errors))
    each = wrong / (len(CORRUPTIONS) * len(SEVERITIES))
    mean = float(each.mean())
    half = Z95 * float(each.std(ddof=1)) / math.sqrt(len(each)) if len(each) > 1 else 1.0
    return Robustness(
        count=len(labels),
        seed=seed,
        clean_error=clean,
        mean_error=mean,
        interval=(max(0.0, mean - half), min(1.0, mean + half)),
        refused=_mean([share for one in scores for share in one.refused]),
        forced_error=_mean([share for one in scores for share in one.forced]),
        published_error=_mean([one.forced[PUBLISHED[one.name] - 1] for one in scores]),
        corruptions=tuple(scores),
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
