"""Training of the line network: CTC on composed and real strips, on a processor or a GPU.

Strips are composed by other processes, in pools that a seed and a number make; a training that was stopped
goes on from its last checkpoint with the pools that it has not seen.
"""

import math
import time
from collections.abc import Callable
from contextlib import closing
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from digitry import files
from digitry.errors import DataError, UsageError
from digitry.reading.classes import BLANK, OTHER
from digitry.training.network.lines import build, columns, line_layers
from digitry.training.writing.composers import Pools, composed
from digitry.training.writing.strips import Batch, Sources

CHECKPOINT = "lines.pt"

EMPTY_WEIGHT = 14.0
"""The loss of a line without digits, a mean over columns, beside CTC's, a sum by character.

About the columns that a character takes; with 4, words were read as digits three times out of four.
"""


@dataclass(frozen=True, kw_only=True)
class LineSettings:
    """How a line network is trained."""

    channels: tuple[int, int, int, int, int] = (16, 32, 64, 96, 128)
    strips: float = 1e6
    """The training ends after so many strips, or after `seconds`: what comes first."""
    seconds: float = math.inf
    rate: float = 2.5e-3
    """The highest learning rate of its one cycle (Smith 2018)."""
    decay: float = 0.02
    clip: float = 5.0
    average: float = 0.999
    """The weights are averaged over about 1 / (1 - average) steps."""
    pools: Pools = field(default_factory=Pools)
    composers: int = 1
    """Processes that compose strips."""
    seed: int = 0
    """Of the fresh weights."""
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not (self.strips > 0 and self.seconds > 0 and self.rate > 0 and self.composers > 0):
            raise UsageError(
                "strips, seconds, rate and composers must be more than 0", where="line settings"
            )


@dataclass
class State:
    """Where a training stands."""

    network: nn.Sequential
    averaged: nn.Sequential
    optimizer: torch.optim.Optimizer
    strips: int = 0
    steps: int = 0
    pools: int = 0
    seconds: float = 0.0

    def progress(self, settings: LineSettings) -> float:
        """Return the part of the training that is done, in [0, 1]."""
        return min(1.0, max(self.strips / settings.strips, self.seconds / settings.seconds))


def train_lines(
    settings: LineSettings,
    sources: Sources,
    folder: Path,
    *,
    start: nn.Sequential | None = None,
    on_log: Callable[[dict[str, float]], None] | None = None,
    on_checkpoint: Callable[[State], None] | None = None,
    log_every: float = 30.0,
    save_every: float = 300.0,
) -> nn.Sequential:
    """Train a line network and return its averaged weights.

    Args:
        settings: how.
        sources: what strips are made of.
        folder: where `lines.pt` is saved; a training that was stopped there goes on.
        start: a network to start from instead of fresh weights, of the settings' layers.
        on_log: told loss, rate and speed every `log_every` seconds.
        on_checkpoint: called after each saving, every `save_every` seconds and at the end.
        log_every: seconds.
        save_every: seconds.

    Raises:
        DataError: the loss is no number any more.
        DigitryError: the folder cannot be written.
    """
    state = begin(settings, folder, start)
    began = time.monotonic() - state.seconds
    logged = saved = state.seconds
    losses: list[torch.Tensor] = []
    seen = state.strips
    batches = composed(settings.pools, sources, state.pools, settings.composers)
    with closing(batches):
        for batch, pool in batches:
            if state.progress(settings) >= 1:
                break
            losses.append(step(state, batch, settings))
            state.pools = pool
            state.seconds = time.monotonic() - began
            if state.seconds - logged >= log_every:
                entry = _entry(state, settings, losses, seen, logged)
                losses, logged, seen = [], state.seconds, state.strips
                if on_log:
                    on_log(entry)
            if state.seconds - saved >= save_every:
                save(state, settings, folder / CHECKPOINT)
                if on_checkpoint:
                    on_checkpoint(state)
                saved = state.seconds
    save(state, settings, folder / CHECKPOINT)
    if on_checkpoint:
        on_checkpoint(state)
    return state.averaged


def _entry(
    state: State, settings: LineSettings, losses: list[torch.Tensor], seen: int, logged: float
) -> dict[str, float]:
    """Return what is told of the steps since `logged` seconds, when `seen` strips had been seen."""
    loss = float(torch.stack(losses).mean())
    if not math.isfinite(loss):
        raise DataError("the loss is not finite", where="lines", remedy="lower the rate")
    return {
        "seconds": round(state.seconds, 1),
        "strips": state.strips,
        "progress": round(state.progress(settings), 4),
        "rate": state.optimizer.param_groups[0]["lr"],
        "loss": round(loss, 4),
        "strips_per_second": round((state.strips - seen) / max(state.seconds - logged, 1e-9), 1),
    }


def begin(settings: LineSettings, folder: Path, start: nn.Sequential | None = None) -> State:
    """Return a fresh state, or the one that a checkpoint in the folder holds."""
    torch.manual_seed(settings.seed)
    network = build(line_layers(settings.channels))
    if start is not None:
        network.load_state_dict(start.state_dict())
    network.to(settings.device, memory_format=torch.channels_last)
    averaged = deepcopy(network)
    for parameter in averaged.parameters():
        parameter.requires_grad_(False)
    averaged.eval()
    # Normalisation and biases are not decayed.
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": settings.decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=settings.rate,
        betas=(0.9, 0.98),
    )
    state = State(network, averaged, optimizer)
    path = folder / CHECKPOINT
    if path.exists():
        stored: dict[str, Any] = torch.load(path, map_location=settings.device, weights_only=True)
        network.load_state_dict(stored["network"])
        averaged.load_state_dict(stored["averaged"])
        optimizer.load_state_dict(stored["optimizer"])
        for name in ("strips", "steps", "pools", "seconds"):
            setattr(state, name, stored[name])
    return state


def save(state: State, settings: LineSettings, path: Path) -> None:
    """Write a checkpoint, whole or not at all."""
    content = {
        "network": state.network.state_dict(),
        "averaged": state.averaged.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "strips": state.strips,
        "steps": state.steps,
        "pools": state.pools,
        "seconds": state.seconds,
        "settings": asdict(settings),
    }
    with files.replacing(path) as beside:
        torch.save(content, beside)


def step(state: State, batch: Batch, settings: LineSettings) -> torch.Tensor:
    """Learn from one batch; return its loss."""
    rate = settings.rate * one_cycle(state.progress(settings))
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    strips = torch.from_numpy(batch.strips).to(settings.device).float().div_(255)
    strips = strips.to(memory_format=torch.channels_last)
    state.network.train()
    # Half the bytes of activations: what a GPU waits for. Slower than float32 on most processors.
    with torch.autocast(strips.device.type, torch.bfloat16, enabled=strips.is_cuda):
        raw = state.network(strips)
    loss = line_loss(columns(raw.float()).log_softmax(-1), batch.labels)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(state.network.parameters(), settings.clip)
    state.optimizer.step()
    state.steps += 1
    state.strips += len(batch.labels)
    average(state, min(settings.average, (1 + state.steps) / (10 + state.steps)))
    return loss.detach()


def one_cycle(progress: float, warm: float = 0.06, last: float = 0.002) -> float:
    """Return the learning rate as a part of the highest: up a line, down half a cosine."""
    if progress < warm:
        return 0.04 + 0.96 * progress / warm
    down = (progress - warm) / (1 - warm)
    return last + (1 - last) * (1 + math.cos(math.pi * down)) / 2


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


def average(state: State, decay: float) -> None:
    """Move the averaged weights a little towards the network's."""
    ours = list(state.averaged.state_dict().values())
    theirs = list(state.network.state_dict().values())
    real = [(a, b) for a, b in zip(ours, theirs, strict=True) if a.is_floating_point()]
    with torch.no_grad():
        torch._foreach_lerp_([a for a, _ in real], [b for _, b in real], 1 - decay)
