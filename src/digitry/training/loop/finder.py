"""Training of the finder on composed pages."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from digitry.reading.find import TALL
from digitry.training.loop.composed import Schedule, run, train
from digitry.training.network.finder import Finder
from digitry.training.writing.pages import PageBatch, PagePools
from digitry.training.writing.strips import Sources

CHECKPOINT = "finder.pt"

HEIGHT_WEIGHT = 0.5
"""Of the error of heights, beside the cross-entropy of what is where."""


@dataclass(frozen=True, kw_only=True)
class FinderSettings:
    """How a finder is trained."""

    channels: tuple[int, int, int, int, int] = (8, 16, 32, 48, 64)
    schedule: Schedule = field(default_factory=lambda: Schedule(samples=300_000, rate=3e-3))
    pools: PagePools = field(default_factory=PagePools)
    seed: int = 0
    """Of the fresh weights."""


def train_finder(
    settings: FinderSettings,
    sources: Sources,
    folder: Path,
    *,
    start: Finder | None = None,
    **told: Any,
) -> Finder:
    """Train a finder, with its checkpoint `finder.pt` in a folder; see `composed.train`."""
    how, path = settings, folder / CHECKPOINT
    made = partial(Finder, how.channels)
    told |= {"seed": how.seed, "start": start}
    trained: Finder = train(made, batch_loss, how.schedule, how.pools, sources, path, **told)
    return trained


def batch_loss(
    network: nn.Module, batch: PageBatch, device: torch.device
) -> tuple[torch.Tensor, int]:
    """Return the mean loss of a batch of pages, and how many they are."""
    ink = torch.from_numpy(batch.ink).to(device).float().div_(255)
    core, other = (
        torch.from_numpy(cells).to(device).float() for cells in (batch.core, batch.other)
    )
    tall = torch.from_numpy(batch.tall).to(device).float()
    return cell_loss(run(network, ink), core, other, tall), len(batch.ink)


def cell_loss(
    cells: torch.Tensor, core: torch.Tensor, other: torch.Tensor, tall: torch.Tensor
) -> torch.Tensor:
    """Return the mean loss of pages by cells.

    Cross-entropy, and for numbers a soft Dice loss beside it: most cells of most pages are paper.

    Args:
        cells: (n, 3, h, w), the finder's output.
        core: (n, h, w), 1 in a number.
        other: (n, h, w), 1 in other writing.
        tall: (n, h, w), the height of the digits there, pixels.
    """
    seen = F.binary_cross_entropy_with_logits(cells[:, 0], core)
    seen = seen + 0.5 * F.binary_cross_entropy_with_logits(cells[:, 1], other)
    sure = cells[:, 0].sigmoid()
    both = (sure * core).sum((1, 2))
    dice = 1 - (2 * both + 8) / (sure.sum((1, 2)) + core.sum((1, 2)) + 8)
    inside = core * (tall > 0)
    wanted = torch.log2(tall.clamp(min=4.0) / TALL)
    error = F.smooth_l1_loss(cells[:, 2], wanted, beta=0.1, reduction="none")
    height = (error * inside).sum() / inside.sum().clamp(min=1.0)
    return seen + 0.3 * dice.mean() + HEIGHT_WEIGHT * height
