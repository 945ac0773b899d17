import numpy as np

from digitry.training.writing.composers import Pools, composed
from digitry.training.writing.strips import Mix, Sources

POOLS = Pools(seed=3, strips=32, columns=1500, mix=Mix(0.5, 0.2, 0.1))


def test_pools_are_the_same_wherever_they_are_composed(sources: Sources):
    here = [batch for pool in (1, 2) for batch in POOLS.compose(sources, pool)]
    batches = composed(POOLS, sources, first=1)
    for wanted in here:
        batch, pool = next(batches)
        assert pool in (2, 3)
        assert batch.labels == wanted.labels
        np.testing.assert_array_equal(batch.strips, wanted.strips)
    batches.close()


def test_pools_differ_from_each_other(sources: Sources):
    first, second = (POOLS.compose(sources, pool)[0].labels for pool in (0, 1))
    assert first != second
