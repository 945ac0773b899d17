"""Pages to learn finding from: the same for the same seed, their labels where the ink is."""

import numpy as np
import pytest

from digitry.reading.find import CELL
from digitry.training.writing.pages import PagePools, page
from digitry.training.writing.photographs import photographed
from digitry.training.writing.sheets import SIDE, Piece, Sheet
from digitry.training.writing.strips import Sources


def test_a_pool_holds_the_same_pages_wherever_it_is_composed(sources: Sources) -> None:
    pools = PagePools(seed=3, pages=6, batch=3)
    for one, other in zip(pools.compose(sources, 2), pools.compose(sources, 2), strict=True):
        for name in ("ink", "core", "other", "tall"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (pools.compose(sources, 2)[0].ink != pools.compose(sources, 3)[0].ink).any()


def test_a_batch_has_the_promised_shapes_and_ranges(sources: Sources) -> None:
    (batch,) = PagePools(seed=1, pages=4, batch=4).compose(sources, 0)
    cells = (4, SIDE // CELL, SIDE // CELL)
    assert batch.ink.shape == (4, 1, SIDE, SIDE)
    assert batch.core.shape == batch.other.shape == batch.tall.shape == cells
    assert batch.ink.dtype == batch.core.dtype == np.uint8
    assert set(np.unique(batch.core)) <= {0, 1}
    assert len(batch.labels) == 4
    assert (batch.tall[batch.core > 0] > 4).mean() > 0.95


def test_where_numbers_are_there_is_ink(sources: Sources) -> None:
    rng = np.random.default_rng(0)
    inside, outside = [], []
    for _ in range(30):
        ink, core, other, _ = page(sources, rng)
        by_cell = ink.reshape(SIDE // CELL, CELL, SIDE // CELL, CELL).max(axis=(1, 3)) > 60
        inside += by_cell[core > 0].tolist()
        outside += by_cell[(core == 0) & (other == 0)].tolist()
    assert len(inside) > 500
    assert np.mean(inside) > 2 * np.mean(outside)


def written() -> Piece:
    ink = np.zeros((24, 60), np.uint8)
    ink[2:22, 5:9] = ink[2:22, 40:44] = 255
    return Piece(ink, ((0.0, 0.0, 60.0, 24.0),), ())


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.8])
def test_a_number_is_marked_in_the_middle_half_of_its_height(scale: float) -> None:
    sheet = Sheet(np.array([[1.0, 0, 0], [0, 1, 0]]))
    sheet.put(written(), 100, 80, scale, 1.0)
    rows, columns = np.nonzero(sheet.core)
    tall = 24 * scale
    assert (rows.min() + 0.5) * CELL == pytest.approx(80 + tall / 4, abs=CELL)
    assert (rows.max() + 0.5) * CELL == pytest.approx(80 + 3 * tall / 4, abs=CELL)
    assert (columns.min() + 0.5) * CELL == pytest.approx(100 - 0.12 * tall, abs=CELL)
    assert (columns.max() + 0.5) * CELL == pytest.approx(100 + 60 * scale + 0.12 * tall, abs=CELL)
    assert sheet.tall[sheet.core > 0] == pytest.approx(tall)
    assert sheet.writing[80 : round(80 + tall), 100 : round(100 + 60 * scale)].max() > 150


def test_a_photograph_shows_ink_darker_than_paper() -> None:
    writing = np.zeros((64, 96), np.uint8)
    writing[20:44, 30:36] = 255
    darker = 0
    for seed in range(60):
        grey = photographed(writing, np.zeros_like(writing), np.random.default_rng(seed))
        assert grey.shape == writing.shape
        assert grey.dtype == np.uint8
        darker += grey[24:40, 31:35].mean() < grey[24:40, 45:60].mean()
    # A table or a shadow beside it may be as dark as the ink.
    assert darker >= 54
