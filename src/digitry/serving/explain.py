"""Which parts of a digit decided, for a glyph that a client sends as plain numbers."""

import numpy as np

from digitry.model.artifact import Artifact
from digitry.reading.classifier import Classifier
from digitry.reading.explain import occlusion

LEAST_FALL = 0.02
"""A fall of the probability that is shown in full colour only if it is at least this large."""


class Explainer:
    """The model that is asked why. Glyphs are plain numbers, so the service's own process may run it.

    Args:
        loaded: the model file.
    """

    def __init__(self, loaded: Artifact) -> None:
        self._classifier = Classifier(loaded)

    def weights(self, pixels: list[int], value: int) -> list[list[float]]:
        """Return how much each part of a glyph mattered; see `digitry.reading.explain.occlusion`.

        Args:
            pixels: 784 of them, 0 to 255, ink = 255.
            value: the digit that is asked about, 0 to 9.

        Returns:
            28 rows of 28 numbers in [0, 1], scaled so that the most important part has 1, unless
            nothing matters much.
        """
        glyph = (np.array(pixels, np.float32) / np.float32(255)).reshape(28, 28)
        heat = occlusion(self._classifier.probabilities, glyph, value)
        heat /= max(float(heat.max()), LEAST_FALL)
        return [[round(float(weight), 3) for weight in row] for row in heat]
