"""Classify glyphs with ONNX Runtime: calibrated probabilities, and thresholds for refusing."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from digitry.errors import ModelError, UsageError
from digitry.model.artifact import Artifact, Metadata
from digitry.reading.runtime import session

BATCH = 16
"""Glyphs per call: the activations of 16 fit into the CPU's cache; 64 run at half the speed."""

DEFAULT_THRESHOLD = 0.5
"""Digits with less confidence are refused: they are more likely wrong than right."""


class Classifier:
    """An ONNX session over one artifact.

    Args:
        artifact: a checked model file.
        threads: threads of one call; use 1 for single pages and for several workers on one machine.
    """

    def __init__(self, artifact: Artifact, *, threads: int = 1) -> None:
        self.source = artifact.source
        self.metadata = artifact.metadata
        self.labels = artifact.metadata.labels
        try:
            self._session = session(artifact.onnx, threads=threads)
            # No ink, full ink, and a ramp, to detect weights that overflow.
            ramp = np.linspace(0, 1, 784, dtype=np.float32).reshape(28, 28)
            trial = np.stack([np.zeros_like(ramp), np.ones_like(ramp), ramp])
            found = self._session.run(["logits"], {"glyphs": trial})[0]
        except Exception as error:
            # ONNX Runtime raises many private classes without a common base.
            raise ModelError(
                f"cannot be run ({str(error).splitlines()[0][:120]})",
                where=artifact.source,
                remedy="export it again with digitry",
            ) from error
        if found.shape != (len(trial), len(self.labels)):
            raise ModelError(
                f"returns the shape {found.shape} for three glyphs, but has {len(self.labels)} labels",
                where=artifact.source,
                remedy="export it again with digitry",
            )

        _check_finite(found, artifact.source)

    def logits(self, glyphs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the logits of glyphs.

        Args:
            glyphs: (n, 28, 28) float32 in [0, 1], ink = 1.

        Returns:
            (n, len(labels)) float32.
        """
        parts = [
            self._session.run(["logits"], {"glyphs": glyphs[start : start + BATCH]})[0]
            for start in range(0, len(glyphs), BATCH)
        ]
        if not parts:
            return np.zeros((0, len(self.labels)), np.float32)
        found = np.concatenate(parts)
        _check_finite(found, self.source)
        return found

    def probabilities(self, glyphs: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return calibrated probabilities, softmax(logits / temperature).

        Args:
            glyphs: (n, 28, 28) float32 in [0, 1], ink = 1.

        Returns:
            (n, len(labels)) float64, rows sum to 1.
        """
        return softmax(self.logits(glyphs), self.metadata.temperature)


def _check_finite(logits: npt.NDArray[np.float32], source: str) -> None:
    if not np.isfinite(logits).all():
        raise ModelError(
            "returns numbers that are not finite",
            where=source,
            remedy="use another model: this one is damaged or badly trained",
        )


def softmax(logits: npt.NDArray[np.floating], temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """Return softmax(logits / temperature) over the last axis, without overflow."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=-1, keepdims=True)
    powers = np.exp(scaled)
    result: npt.NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return result


def threshold_of(curve: Sequence[tuple[float, float, float]], max_error: float) -> float | None:
    """Return the lowest threshold on the confidence whose share of errors is within a limit.

    Args:
        curve: rows (threshold, error, coverage), as `Metadata.risk_coverage`.
        max_error: the limit, in (0, 1).

    Returns:
        The threshold, at least `DEFAULT_THRESHOLD`; None if no row is within the limit.
    """
    fitting = [threshold for threshold, error, _ in curve if error <= max_error]
    return max(DEFAULT_THRESHOLD, min(fitting)) if fitting else None


def threshold_for(metadata: Metadata, max_error: float | None) -> float:
    """Return the confidence below which a digit is refused.

    Args:
        metadata: metadata of the model, with the curve of its calibration if there is one.
        max_error: share of the accepted digits that may be wrong, in (0, 1); None =
            `DEFAULT_THRESHOLD`.

    Raises:
        UsageError: the limit is not in (0, 1), or the model's curve does not reach it.
    """
    if max_error is None:
        return DEFAULT_THRESHOLD
    if not 0 < max_error < 1:
        raise UsageError(
            f"{max_error} is not a valid share of errors",
            where="max_error",
            remedy="give a number above 0 and below 1, such as 0.001",
        )
    if not metadata.risk_coverage:
        raise UsageError(
            f"the model {metadata.name} has no risk-coverage curve to set a threshold by",
            remedy="train it with a validation share, or do not set max_error",
        )
    threshold = threshold_of(metadata.risk_coverage, max_error)
    if threshold is None:
        raise UsageError(
            f"the model {metadata.name} did not reach an error of {max_error:g} on the images that it "
            "was calibrated with",
            remedy="allow more errors, calibrate it with more images, or use a better model",
        )
    return threshold
