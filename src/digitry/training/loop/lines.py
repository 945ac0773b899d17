"""Training of the line network: CTC on composed and real strips."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from digitry.reading.classes import BLANK, OTHER
from digitry.training.loop.composed import Schedule, run, train
from digitry.training.network.lines import build, columns, line_layers
from digitry.training.writing.composers import Pools
from digitry.training.writing.strips import Batch, Sources

CHECKPOINT = "lines.pt"

EMPTY_WEIGHT = 14.0
"""The loss of a line without digits, a mean over columns, beside CTC's, a sum by character.

About the columns that a character takes; with 4, words were read as digits three times out of four.
"""


@dataclass(frozen=True, kw_only=True)
class LineSettings:
    """How a line network is trained."""

    channels: tuple[int, int, int, int, int] = (16, 32, 64, 128, 192)
    schedule: Schedule = field(default_factory=Schedule)
    pools: Pools = field(default_factory=Pools)
    seed: int = 0
    """Of the fresh weights."""


def train_lines(
    settings: LineSettings,
    sources: Sources,
    folder: Path,
    *,
    start: nn.Sequential | None = None,
    **told: Any,
) -> nn.Sequential:
    """Train a line network, with its checkpoint `lines.pt` in a folder; see `composed.train`."""
    how, path = settings, folder / CHECKPOINT
    made = partial(build, line_layers(how.channels))
    told |= {"seed": how.seed, "start": start}
    return train(made, batch_loss, how.schedule, how.pools, sources, path, **told)


def batch_loss(network: nn.Module, batch: Batch, device: torch.device) -> tuple[torch.Tensor, int]:
    """Return the mean loss of a batch of strips, and how many they are."""
    strips = torch.from_numpy(batch.strips).to(device).float().div_(255)
    raw = run(network, strips)
    return line_loss(columns(raw).log_softmax(-1), batch.labels), len(batch.labels)


def line_loss(by_column: torch.Tensor, labels: tuple[tuple[int, ...], ...]) -> torch.Tensor:
    """Return the mean loss of lines.

    A line with digits or marks has CTC's loss, divided by its length; any other line the mean over its
    columns of minus the log of (blank + other), times `EMPTY_WEIGHT`.

    Args:
        by_column: (n, columns, 17) log-probabilities.
        labels: the classes of each line; none, or `OTHER` alone, is a line without digits.
    """
    count, width, _ = by_column.shape
    said = [i for i, line in enumerate(labels) if any(label != OTHER for label in line)]
    quiet = sorted(set(range(count)) - set(said))
    total = by_column.new_zeros(())
    if said:
        lengths = torch.tensor([len(labels[i]) for i in said])
        targets = torch.tensor([label for i in said for label in labels[i]])
        losses = F.ctc_loss(
            by_column[said].transpose(0, 1),
            targets.to(by_column.device),
            torch.full((len(said),), width),
            lengths,
            blank=BLANK,
            reduction="none",
            zero_infinity=True,
        )
        total = total + (losses / lengths.to(losses.device)).sum()
    if quiet:
        nothing = torch.logaddexp(by_column[quiet][..., BLANK], by_column[quiet][..., OTHER])
        total = total - EMPTY_WEIGHT * nothing.mean(1).sum()
    return total / count
