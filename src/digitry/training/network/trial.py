"""Finds out which pixels a model takes, by a trial on known digits.

A file says which shape its input has, but not whether ink is 1, 255 or 0. So the model reads known digits
in every way, and the way in which it reads them best is taken. The digits are those of scikit-learn and,
if MNIST is on this machine, some of its training images; the set that the model reads better decides.

Accuracy alone tells too little: a network of ReLUs gives nearly the same order of the digits for pixels
up to 255 as for pixels up to 1. Its confidence differs, but one that was trained for a short time is
unsure in the right way, too. So the loss is taken at the best temperature, and a temperature far from 1
counts a little against a way.
"""

import contextlib
import functools
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from digitry.errors import DataError, ModelError, UnavailableError
from digitry.model import artifact
from digitry.model.artifact import Artifact, Metadata
from digitry.reading.classifier import Classifier, softmax
from digitry.training.datasets import load_dataset

NEEDED = 0.3
"""Share of the known digits that a model must read right in the best way; chance is 0.1, and networks
that were trained on other digits may read less than half of scikit-learn's."""
ODD = 0.05
"""Share by which the loss counts more for each factor of e between the best temperature and 1."""
TEMPERATURES = np.geomspace(1 / 50, 300, 60)
MNIST_IMAGES = 500
LABELS = tuple(str(digit) for digit in range(10))


@dataclass(frozen=True)
class Pixels:
    """How a model takes pixels: `factor` times the share of ink plus `offset`.

    Attributes:
        values: the range or formula, as text.
        light_ink: whether ink is the higher value, as in MNIST; else paper is, as in a photo.
        factor, offset: from the share of ink in [0, 1] to the value of a pixel.
        doubt: share by which the loss counts more. A network of usual pixels that was trained for a
            short time is sometimes better in an unusual way, which makes it surer.
    """

    values: str
    light_ink: bool
    factor: float
    offset: float
    doubt: float

    def __str__(self) -> str:
        ink = "light ink on dark" if self.light_ink else "dark ink on light"
        return f"{self.values}, {ink}"


def _both(values: str, scale: float, start: float, *, doubt: float) -> tuple[Pixels, Pixels]:
    return (
        Pixels(values, True, scale, start, doubt),
        Pixels(values, False, -scale, scale + start, doubt),
    )


WAYS = (
    *_both("pixels from 0 to 1", 1, 0, doubt=0),
    *_both("pixels from 0 to 255", 255, 0, doubt=0),
    *_both("pixels from -1 to 1", 2, -1, doubt=0.05),
    *_both("(pixels - 0.1307) / 0.3081", 1 / 0.3081, -0.1307 / 0.3081, doubt=0.1),
)
"""The usual ways; the last is that of PyTorch's examples, with MNIST's mean and standard deviation."""


@dataclass(frozen=True)
class Found:
    """What a trial found.

    Attributes:
        artifact: the model as a file that takes glyphs.
        pixels: the way in which the model read best.
        accuracy: share of the known digits that it read right in this way, in [0, 1].
        known: name of the known digits.
        images: their number.
    """

    artifact: Artifact
    pixels: Pixels
    accuracy: float
    known: str
    images: int


class ReadsNothingError(ModelError):
    """A model reads less than `NEEDED` of the known digits, whatever pixels it is given."""


def tried(core: bytes, name: str, labels: tuple[str, ...] = LABELS) -> Found:
    """Find out which pixels a model takes, and make a model file of it that takes glyphs.

    Args:
        core: an ONNX model from `glyphs` (n, 28, 28), in whatever range it takes, to `logits` (n, k)
            and `probabilities`.
        name, labels: for the metadata; k labels.

    Raises:
        ModelError: it cannot be held by a model file.
        ReadsNothingError: it reads less than `NEEDED` in every way.
    """
    classifier = Classifier(_artifact(core, Metadata(name=name, labels=labels)))
    best: tuple[float, float, Pixels, _Known] | None = None
    for known in _known_digits():
        results = [(*_scores(classifier, known, way), way) for way in WAYS]
        loss, right, way = min(results, key=lambda one: one[0])
        if best is None or right > best[0]:
            best = right, loss, way, known
    if best is None or best[0] < NEEDED:
        raise ReadsNothingError(
            f"reads at most {100 * (0 if best is None else best[0]):.0f}% of known digits right, in "
            f"{len(WAYS)} ways to scale their pixels",
            remedy="use a model that was trained on digits centred in 28x28 pixels, as MNIST's are",
        )
    right, _, way, known = best
    metadata = Metadata(name=name, labels=labels, scores={f"{known.name}/accuracy": right})
    made = _artifact(_scaled(core, way), metadata)
    return Found(made, way, right, known.name, len(known.values))


@dataclass(frozen=True)
class _Known:
    """Digits whose values are known: (n, 28, 28) float32 in [0, 1], ink = 1, and (n,) labels."""

    name: str
    ink: npt.NDArray[np.float32]
    values: npt.NDArray[np.integer]


@functools.cache
def _known_digits() -> tuple[_Known, ...]:
    """Return the sets of known digits on this machine; nothing is downloaded."""
    sets = [("uci/test", load_dataset("uci").test)]
    with contextlib.suppress(UnavailableError, DataError):
        mnist = load_dataset("mnist", offline=True).train
        sets.append(("mnist/train", mnist.take(range(MNIST_IMAGES))))
    return tuple(
        _Known(name, one.images.astype(np.float32) / np.float32(255), one.labels)
        for name, one in sets
    )


def _scores(classifier: Classifier, known: _Known, way: Pixels) -> tuple[float, float]:
    """Return the weighted loss of a way, and the accuracy."""
    logits = classifier.logits(known.ink * np.float32(way.factor) + np.float32(way.offset))
    rows = np.arange(len(known.values))
    chosen = [softmax(logits, one)[rows, known.values] for one in TEMPERATURES]
    losses = [-np.log(np.maximum(one, 1e-30)).mean() for one in chosen]
    place = int(np.argmin(losses))
    odd = ODD * abs(math.log(TEMPERATURES[place])) + way.doubt
    right = logits[:, : len(LABELS)].argmax(-1) == known.values
    return float(losses[place] * (1 + odd)), float(right.mean())


def _scaled(core: bytes, way: Pixels) -> bytes:
    """Return the model with the scaling of pixels as its first step."""
    if (way.factor, way.offset) == (1, 0):
        return core
    model = onnx.load_model_from_string(core)
    graph = model.graph
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == "glyphs":
                node.input[place] = "pixels"
    for name, value in (("factor", way.factor), ("offset", way.offset)):
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    graph.node.insert(0, helper.make_node("Add", ["scaled", "offset"], ["pixels"]))
    graph.node.insert(0, helper.make_node("Mul", ["glyphs", "factor"], ["scaled"]))
    content: bytes = model.SerializeToString()
    return content


def _artifact(content: bytes, metadata: Metadata) -> Artifact:
    with tempfile.TemporaryDirectory(prefix="digitry-") as folder:
        return artifact.save(Path(folder) / "model.onnx", content, metadata)
