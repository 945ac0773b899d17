"""Training on writing that is composed while it goes on: one cycle, averaged weights, checkpoints.

Batches are composed by other processes, in pools that a seed and a number make; a training that was stopped
goes on from its last checkpoint with the pools that it has not seen.
"""

import math
import time
from collections.abc import Callable
from contextlib import closing
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from digitry import files
from digitry.errors import DataError, UsageError
from digitry.training.loop.device import multiplies_tiles
from digitry.training.writing.composers import Composes, composed
from digitry.training.writing.strips import Sources

N = TypeVar("N", bound=nn.Module)
B = TypeVar("B")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast a network learns."""

    samples: float = 1e6
    """The training ends after so many strips or pages, or after `seconds`: what comes first."""
    seconds: float = math.inf
    rate: float = 2.5e-3
    """The highest learning rate of its one cycle (Smith 2018)."""
    decay: float = 0.02
    clip: float = 5.0
    average: float = 0.999
    """The weights are averaged over about 1 / (1 - average) steps."""
    composers: int = 1
    """Processes that compose."""
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not (self.samples > 0 and self.seconds > 0 and self.rate > 0 and self.composers > 0):
            raise UsageError(
                "samples, seconds, rate and composers must be more than 0", where="schedule"
            )


@dataclass
class State(Generic[N]):
    """Where a training stands."""

    network: N
    averaged: N
    optimizer: torch.optim.Optimizer
    samples: int = 0
    steps: int = 0
    pools: int = 0
    seconds: float = 0.0

    def progress(self, schedule: Schedule) -> float:
        """Return the part of the training that is done, in [0, 1]."""
        return min(1.0, max(self.samples / schedule.samples, self.seconds / schedule.seconds))


def fit(
    network: N,
    loss: Callable[[N, B, torch.device], tuple[torch.Tensor, int]],
    schedule: Schedule,
    pools: Composes[B],
    sources: Sources,
    path: Path,
    *,
    on_log: Callable[[dict[str, float]], None] | None = None,
    on_checkpoint: Callable[[State[N]], None] | None = None,
    log_every: float = 30.0,
    save_every: float = 300.0,
) -> N:
    """Train a network on composed batches and return its averaged weights.

    Args:
        network: with its first weights.
        loss: returns the mean loss of a batch on a device, and how many samples the batch holds.
        schedule: how long and how fast.
        pools: what is composed.
        sources: of what it is composed.
        path: the checkpoint; a training that was stopped there goes on.
        on_log: told loss, rate and speed every `log_every` seconds.
        on_checkpoint: called after each saving, every `save_every` seconds and at the end.
        log_every: seconds.
        save_every: seconds.

    Raises:
        DataError: the loss is not finite.
        DigitryError: the checkpoint cannot be written.
    """
    state = begin(network, schedule, path)
    began = time.monotonic() - state.seconds
    logged = saved = state.seconds
    losses: list[torch.Tensor] = []
    seen = state.samples
    batches = composed(pools, sources, state.pools, schedule.composers)
    with closing(batches):
        for batch, pool in batches:
            if state.progress(schedule) >= 1:
                break
            losses.append(step(state, batch, loss, schedule))
            state.pools = pool
            state.seconds = time.monotonic() - began
            if state.seconds - logged >= log_every:
                entry = _entry(state, schedule, losses, seen, logged, path)
                losses, logged, seen = [], state.seconds, state.samples
                if on_log:
                    on_log(entry)
            if state.seconds - saved >= save_every:
                save(state, schedule, path)
                if on_checkpoint:
                    on_checkpoint(state)
                saved = state.seconds
    save(state, schedule, path)
    if on_checkpoint:
        on_checkpoint(state)
    return state.averaged


def train(
    made: Callable[[], N],
    loss: Callable[[N, B, torch.device], tuple[torch.Tensor, int]],
    schedule: Schedule,
    pools: Composes[B],
    sources: Sources,
    path: Path,
    *,
    seed: int = 0,
    start: N | None = None,
    **told: Any,
) -> N:
    """Train a network from fresh weights, or from those of another, and return its averaged weights.

    Args:
        made: makes the network.
        loss: as for `fit`, as `schedule`, `pools`, `sources` and `path` are.
        schedule: how long and how fast.
        pools: what is composed.
        sources: of what it is composed.
        path: the checkpoint; a training that was stopped there goes on.
        seed: of the fresh weights.
        start: a network of the same layers, to start from.
        told: whom to tell of the progress, as for `fit`.

    Raises:
        DataError: the loss is not finite.
        DigitryError: the checkpoint cannot be written.
    """
    torch.manual_seed(seed)
    network = made()
    if start is not None:
        network.load_state_dict(start.state_dict())
    return fit(network, loss, schedule, pools, sources, path, **told)


def finished(path: Path, schedule: Schedule) -> tuple[int, float] | None:
    """Return how many samples a training saw, and in how many seconds, if its checkpoint is its end."""
    if not path.exists():
        return None
    stored: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    samples, seconds = int(stored["samples"]), float(stored["seconds"])
    done = max(samples / schedule.samples, seconds / schedule.seconds) >= 1
    return (samples, seconds) if done else None


def _entry(
    state: State[N],
    schedule: Schedule,
    losses: list[torch.Tensor],
    seen: int,
    logged: float,
    path: Path,
) -> dict[str, float]:
    """Return what is told of the steps since `logged` seconds, when `seen` samples had been seen."""
    loss = float(torch.stack(losses).mean())
    if not math.isfinite(loss):
        raise DataError("the loss is not finite", where=str(path), remedy="lower the rate")
    return {
        "seconds": round(state.seconds, 1),
        "samples": state.samples,
        "progress": round(state.progress(schedule), 4),
        "rate": state.optimizer.param_groups[0]["lr"],
        "loss": round(loss, 4),
        "samples_per_second": round((state.samples - seen) / max(state.seconds - logged, 1e-9), 1),
    }


def begin(network: N, schedule: Schedule, path: Path) -> State[N]:
    """Return a fresh state, or the one that a checkpoint holds."""
    network.to(schedule.device, memory_format=torch.channels_last)
    averaged = deepcopy(network)
    for parameter in averaged.parameters():
        parameter.requires_grad_(False)
    averaged.eval()
    # Normalisation and biases are not decayed.
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": schedule.decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=schedule.rate,
        betas=(0.9, 0.98),
    )
    state = State(network, averaged, optimizer)
    if path.exists():
        stored: dict[str, Any] = torch.load(path, map_location=schedule.device, weights_only=True)
        network.load_state_dict(stored["network"])
        averaged.load_state_dict(stored["averaged"])
        optimizer.load_state_dict(stored["optimizer"])
        for name in ("samples", "steps", "pools", "seconds"):
            setattr(state, name, stored[name])
    return state


def save(state: State[N], schedule: Schedule, path: Path) -> None:
    """Write a checkpoint, whole or not at all."""
    content = {
        "network": state.network.state_dict(),
        "averaged": state.averaged.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "samples": state.samples,
        "steps": state.steps,
        "pools": state.pools,
        "seconds": state.seconds,
        "schedule": asdict(schedule),
    }
    with files.replacing(path) as beside:
        torch.save(content, beside)


def step(
    state: State[N],
    batch: B,
    loss: Callable[[N, B, torch.device], tuple[torch.Tensor, int]],
    schedule: Schedule,
) -> torch.Tensor:
    """Learn from one batch; return its loss."""
    rate = schedule.rate * one_cycle(state.progress(schedule))
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.network.train()
    value, count = loss(state.network, batch, torch.device(schedule.device))
    state.optimizer.zero_grad(set_to_none=True)
    value.backward()
    nn.utils.clip_grad_norm_(state.network.parameters(), schedule.clip)
    state.optimizer.step()
    state.steps += 1
    state.samples += count
    average(state, min(schedule.average, (1 + state.steps) / (10 + state.steps)))
    return value.detach()


def run(network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Return a network's output in float32; it runs in bfloat16 where that is faster."""
    inputs = inputs.to(memory_format=torch.channels_last)
    rounded = multiplies_tiles(inputs.device)
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=rounded):
        raw = network(inputs)
    result: torch.Tensor = raw.float()
    return result


def one_cycle(progress: float, warm: float = 0.06, last: float = 0.002) -> float:
    """Return the learning rate as a part of the highest: up a line, down half a cosine."""
    if progress < warm:
        return 0.04 + 0.96 * progress / warm
    down = (progress - warm) / (1 - warm)
    return last + (1 - last) * (1 + math.cos(math.pi * down)) / 2


def average(state: State[N], decay: float) -> None:
    """Move the averaged weights a little towards the network's."""
    ours = list(state.averaged.state_dict().values())
    theirs = list(state.network.state_dict().values())
    real = [(a, b) for a, b in zip(ours, theirs, strict=True) if a.is_floating_point()]
    with torch.no_grad():
        torch._foreach_lerp_([a for a, _ in real], [b for _, b in real], 1 - decay)
