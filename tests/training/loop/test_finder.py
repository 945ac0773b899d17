"""The finder learns where numbers stand on composed pages."""

from pathlib import Path

import numpy as np
import pytest
import torch

from digitry.reading.find import TALL
from digitry.training.loop.composed import Schedule, begin, step
from digitry.training.loop.finder import (
    CHECKPOINT,
    FinderSettings,
    batch_loss,
    cell_loss,
    train_finder,
)
from digitry.training.network.finder import Finder
from digitry.training.writing.pages import PagePools
from digitry.training.writing.strips import Sources

CHANNELS = (4, 8, 8, 8, 8)


def cells(core: float, height: float) -> torch.Tensor:
    """A finder that is as sure of a number everywhere, of one height."""
    said = torch.zeros(1, 3, 8, 8)
    said[:, 0], said[:, 1], said[:, 2] = core, -9.0, float(np.log2(height / TALL))
    return said


def test_the_loss_is_least_where_the_finder_is_right() -> None:
    core = torch.ones(1, 8, 8)
    other, tall = torch.zeros(1, 8, 8), torch.full((1, 8, 8), 24.0)
    right = cell_loss(cells(9.0, 24), core, other, tall)
    assert float(right) < 0.01
    for wrong in (cells(-9.0, 24), cells(9.0, 12), cells(0.0, 24)):
        assert float(cell_loss(wrong, core, other, tall)) > float(right) + 0.1


def test_heights_count_only_in_numbers() -> None:
    nothing = torch.zeros(1, 8, 8)
    losses = [cell_loss(cells(-9.0, height), nothing, nothing, nothing) for height in (8, 40)]
    assert float(losses[0]) == float(losses[1])


def test_the_loss_falls_on_a_few_pages(sources: Sources, tmp_path: Path) -> None:
    (batch,) = PagePools(seed=1, pages=4, batch=4).compose(sources, 0)
    plan = Schedule(samples=240, rate=4e-3)
    torch.manual_seed(0)
    state = begin(Finder(CHANNELS), plan, tmp_path / "none.pt")
    losses = [float(step(state, batch, batch_loss, plan)) for _ in range(40)]
    assert losses[-1] < 0.75 * losses[0]


def test_a_finder_is_trained_and_saved_and_taken_up_again(sources: Sources, tmp_path: Path) -> None:
    settings = FinderSettings(
        channels=CHANNELS,
        schedule=Schedule(samples=4),
        pools=PagePools(seed=1, pages=4, batch=4),
    )
    first = train_finder(settings, sources, tmp_path)
    assert (tmp_path / CHECKPOINT).is_file()
    again = train_finder(settings, sources, tmp_path)
    for ours, theirs in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_it_may_start_from_another(sources: Sources, tmp_path: Path) -> None:
    torch.manual_seed(5)
    start = Finder(CHANNELS)
    settings = FinderSettings(
        channels=CHANNELS,
        schedule=Schedule(samples=4, rate=1e-9),
        pools=PagePools(seed=1, pages=4, batch=4),
    )
    trained = train_finder(settings, sources, tmp_path, start=start)
    assert trained.down[0][0][0].weight.detach().numpy() == pytest.approx(
        start.down[0][0][0].weight.detach().numpy(), abs=1e-6
    )
