"""Finds out which pixels a model takes, by a trial on known digits.

A file says which shape its input has, but not whether ink is 1, 255 or 0. So the model reads known digits
in every way, and the way in which it reads them best is taken.
"""

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from digitry.errors import ModelError
from digitry.model import artifact
from digitry.model.artifact import Artifact, Metadata
from digitry.reading.classifier import Classifier, softmax
from digitry.training.datasets import load_dataset

NEEDED = 0.5
"""Share of the known digits that a model must read right in the best way; chance is 0.1."""
CLOSE = 0.05
"""Ways whose accuracy is this close to the best are told apart by their loss."""
LABELS = tuple(str(digit) for digit in range(10))


@dataclass(frozen=True)
class Pixels:
    """How a model takes pixels: `factor` times the share of ink plus `offset`.

    Attributes:
        values: the range or formula, as text.
        light_ink: whether ink is the higher value, as in MNIST; else paper is, as in a photo.
        factor, offset: from the share of ink in [0, 1] to the value of a pixel.
    """

    values: str
    light_ink: bool
    factor: float
    offset: float

    def __str__(self) -> str:
        ink = "light ink on dark" if self.light_ink else "dark ink on light"
        return f"{self.values}, {ink}"


def _both(values: str, scale: float, start: float) -> tuple[Pixels, Pixels]:
    return (
        Pixels(values, True, scale, start),
        Pixels(values, False, -scale, scale + start),
    )


WAYS = (
    *_both("pixels from 0 to 1", 1, 0),
    *_both("pixels from 0 to 255", 255, 0),
    *_both("pixels from -1 to 1", 2, -1),
    *_both("(pixels - 0.1307) / 0.3081", 1 / 0.3081, -0.1307 / 0.3081),
)
"""The usual ways; the last is that of PyTorch's examples, with MNIST's mean and standard deviation."""


@dataclass(frozen=True)
class Found:
    """What a trial found.

    Attributes:
        artifact: the model as a file that takes glyphs.
        pixels: the way in which the model read best.
        accuracy: share of the known digits that it read right in this way, in [0, 1].
        images: number of known digits.
    """

    artifact: Artifact
    pixels: Pixels
    accuracy: float
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
    ink, values = _known_digits()
    classifier = Classifier(_artifact(core, Metadata(name=name, labels=labels)))
    results = []
    for way in WAYS:
        pixels = ink * np.float32(way.factor) + np.float32(way.offset)
        right, loss = _scores(classifier.logits(pixels), values)
        results.append((right, loss, way))
    best = max(right for right, _, _ in results)
    if best < NEEDED:
        raise ReadsNothingError(
            f"reads at most {100 * best:.0f}% of {len(ink)} known digits right, in "
            f"{len(WAYS)} ways to scale their pixels",
            remedy="use a model that was trained on digits centred in 28x28 pixels, as MNIST's are",
        )
    close = [one for one in results if one[0] >= best - CLOSE]
    right, _, way = min(close, key=lambda one: one[1])
    metadata = Metadata(name=name, labels=labels, scores={"uci/test/accuracy": right})
    return Found(_artifact(_scaled(core, way), metadata), way, right, len(ink))


@functools.cache
def _known_digits() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.integer]]:
    """Return the test part of `uci`: (n, 28, 28) float32 in [0, 1], ink = 1, and (n,) labels."""
    known = load_dataset("uci").test
    return known.images.astype(np.float32) / np.float32(255), known.labels


def _scores(
    logits: npt.NDArray[np.float32], labels: npt.NDArray[np.integer]
) -> tuple[float, float]:
    """Return accuracy and mean cross-entropy."""
    probabilities = softmax(logits)[np.arange(len(labels)), labels]
    loss = float(-np.log(np.maximum(probabilities, 1e-30)).mean())
    return float((logits[:, : len(LABELS)].argmax(-1) == labels).mean()), loss


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
