"""Explanations: which parts of a glyph the model's answer depends on."""

import numpy as np

from digitry.model.artifact import Artifact
from digitry.reading.classifier import Classifier
from digitry.reading.explain import occlusion

LEAST_FALL = 0.02
"""The smallest drop of the probability that is scaled to weight 1."""


class Explainer:
    """Explains answers of a model. It runs in the service's own process: no image is decoded here.

    Args:
        loaded: the model file.
    """

    def __init__(self, loaded: Artifact) -> None:
        self._classifier = Classifier(loaded)

    def weights(self, pixels: list[int], value: int) -> list[list[float]]:
        """Return how important each pixel of a glyph is; see `digitry.reading.explain.occlusion`.

        Args:
            pixels: 784 values, 0 to 255, ink = 255.
            value: the digit to explain, 0 to 9.

        Returns:
            28 rows of 28 weights in [0, 1]. The largest is 1, unless no part lowers the probability by
            `LEAST_FALL` or more.
        """
        glyph = (np.array(pixels, np.float32) / np.float32(255)).reshape(28, 28)
        heat = occlusion(self._classifier.probabilities, glyph, value)
        heat /= max(float(heat.max()), LEAST_FALL)
        return [[round(float(weight), 3) for weight in row] for row in heat]
