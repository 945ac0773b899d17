"""Points to fit a line to; the processes that compose them import this module alone, without torch."""

from dataclasses import dataclass

import numpy as np

from digitry.training.writing.strips import Sources


@dataclass(frozen=True)
class Points:
    """Pools of points on a line through the origin, 8 points a batch, 4 batches a pool."""

    slope: float = 2.0

    def compose(self, sources: Sources, pool: int) -> list[np.ndarray]:
        x = np.random.default_rng(pool).normal(size=(4, 8, 1)).astype(np.float32)
        return list(np.concatenate([x, self.slope * x], axis=2))
