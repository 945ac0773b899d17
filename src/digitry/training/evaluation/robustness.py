"""The robustness of a model: its error under fifteen corruptions at five severities each."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from digitry.errors import DataError
from digitry.model.artifact import DIGIT_CLASSES, Artifact
from digitry.model.load import load_model
from digitry.plain import Plain
from digitry.progress import Display
from digitry.reading.classifier import Classifier
from digitry.training.data.dataset import Split
from digitry.training.evaluation.corruptions import (
    CORRUPTIONS,
    PUBLISHED,
    SEVERITIES,
    Bytes,
    corrupt,
)
from digitry.training.evaluation.scores import Z95

if TYPE_CHECKING:
    from rich.console import Console

MOST = 10_000
"""Images that are corrupted, at most: as many as MNIST-C has of each kind."""

Answer = Callable[[Bytes], tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]]
"""(n, 28, 28) uint8, ink = 255, -> (n,) labels, 10 or more for a refusal; and (n,) likeliest digits."""


@dataclass(frozen=True, slots=True)
class CorruptionScore(Plain):
    """Errors under one corruption.

    Attributes:
        name: one of `CORRUPTIONS`.
        errors: share wrong at each severity, 1 to 5, in [0, 1]; a refusal counts as wrong.
        refused: share refused as not a digit at each severity; all 0 if the model cannot refuse.
        forced: share whose likeliest digit is wrong at each severity, as MNIST-C counts, whose models
            cannot refuse.
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
    """Errors under all corruptions.

    Attributes:
        count: number of images, each tested under every corruption and severity.
        seed: seed of the corruptions.
        clean_error: share of the same images that is wrong without corruption, in [0, 1].
        mean_error: mean error over all corruptions and severities, in [0, 1].
        interval: 95% interval of the mean error: normal, with the mean error of an image as one
            observation, because the same images are used under every corruption.
        refused: mean share refused as not a digit, in [0, 1].
        forced_error: mean share whose likeliest digit is wrong, in [0, 1].
        published_error: forced_error over only the severities of the MNIST-C files.
        corruptions: scores of each corruption.
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
    """Return the errors of a model file under corruptions, run by the classifier that also reads.

    Args:
        model: the name of a shipped model, a .onnx file, a run folder, or a loaded artifact.
        split: labelled images, (n, 28, 28) uint8, ink = 255. Only digits are used, and at most `MOST`,
            evenly spread.
        seed: seed of the corruptions.
        console: where to show progress; None = nowhere.

    Raises:
        ModelError: it is not a digitry model.
        DataError: there are no images of digits.
    """
    loaded = model if isinstance(model, Artifact) else load_model(model)
    classifier = Classifier(loaded, threads=os.cpu_count() or 1)

    def answer(images: Bytes) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]:
        logits = classifier.logits(images.astype(np.float32) / np.float32(255))
        return logits.argmax(axis=1), logits[:, :DIGIT_CLASSES].argmax(axis=1)

    return measure(answer, split, seed=seed, console=console)


def measure(
    answer: Answer, split: Split, *, seed: int = 0, console: "Console | None" = None
) -> Robustness:
    """Return the errors of any classifier under corruptions.

    Args:
        answer: the classifier.
        split, seed, console: as for `robustness`.

    Raises:
        DataError: there are no images of digits.
    """
    digits = np.flatnonzero(split.labels < DIGIT_CLASSES)
    if len(digits) == 0:
        raise DataError("there are no images of digits", remedy="give at least one")
    if len(digits) > MOST:
        digits = digits[np.linspace(0, len(digits) - 1, MOST).round().astype(int)]
    images, labels = split.images[digits], split.labels[digits]
    wrong = np.zeros(len(labels))
    scores = []
    with Display(console, len(CORRUPTIONS) * len(SEVERITIES)) as display:
        clean = float((answer(images)[0] != labels).mean())
        display.line(f"{'clean':<13}{100 * clean:6.1f}%")
        for number, name in enumerate(CORRUPTIONS):
            errors, refused, forced = [], [], []
            for severity in SEVERITIES:
                display.at(number * len(SEVERITIES) + severity - 1, f"{name} {severity}")
                said, likeliest = answer(corrupt(images, name, severity, seed))
                wrong += said != labels
                errors.append(float((said != labels).mean()))
                refused.append(float((said >= DIGIT_CLASSES).mean()))
                forced.append(float((likeliest != labels).mean()))
            scores.append(CorruptionScore(name, tuple(errors), tuple(refused), tuple(forced)))
            display.line(f"{name:<13}" + "".join(f"{100 * error:6.1f}%" for error in errors))
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
