"""Training on composed writing: one cycle, averaged weights, a checkpoint to go on from."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from digitry.errors import DataError, UsageError
from digitry.training.loop import composed, device
from digitry.training.loop.composed import (
    Schedule,
    State,
    average,
    begin,
    fit,
    one_cycle,
    run,
    save,
    step,
)
from digitry.training.writing.strips import Sources

from .points import Points


def error(network: nn.Module, batch: np.ndarray, device: torch.device) -> tuple[torch.Tensor, int]:
    points = torch.from_numpy(batch).to(device)
    return (network(points[:, :1]) - points[:, 1:]).square().mean(), len(batch)


def lost(network: nn.Module, batch: np.ndarray, device: torch.device) -> tuple[torch.Tensor, int]:
    return error(network, batch, device)[0] * math.nan, len(batch)


def line() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(1, 1)


def schedule(samples: float = 640) -> Schedule:
    return Schedule(samples=samples, rate=0.2, decay=0.0, average=0.9)


def test_the_rate_rises_and_falls() -> None:
    rates = [one_cycle(at / 100) for at in range(101)]
    top = rates.index(max(rates))
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert max(rates) == pytest.approx(1)
    assert rates[-1] < 0.01


def test_what_it_learns_is_in_the_averaged_weights(sources: Sources, tmp_path: Path) -> None:
    learned = fit(line(), error, schedule(), Points(), sources, tmp_path / "line.pt")
    assert float(learned.weight) == pytest.approx(2.0, abs=0.05)


def steps(state: State[nn.Module], first: int, past: int, plan: Schedule) -> None:
    for pool in range(first, past):
        for batch in Points().compose(None, pool):  # type: ignore[arg-type]
            step(state, batch, error, plan)


def test_a_training_that_was_stopped_goes_on_to_the_same_weights(
    sources: Sources, tmp_path: Path
) -> None:
    plan = schedule()
    whole = begin(line(), plan, tmp_path / "none.pt")
    steps(whole, 0, 20, plan)
    # Cut off after ten of its twenty pools, and gone on from the file.
    half = begin(line(), plan, tmp_path / "none.pt")
    steps(half, 0, 10, plan)
    half.pools = 10
    save(half, plan, tmp_path / "half.pt")
    again = begin(nn.Linear(1, 1), plan, tmp_path / "half.pt")
    assert (again.samples, again.steps, again.pools) == (320, 40, 10)
    steps(again, again.pools, 20, plan)
    for ours, theirs in zip(
        [*again.network.parameters(), *again.averaged.parameters()],
        [*whole.network.parameters(), *whole.averaged.parameters()],
        strict=True,
    ):
        assert torch.equal(ours, theirs)


def test_a_finished_training_learns_no_more(sources: Sources, tmp_path: Path) -> None:
    path = tmp_path / "line.pt"
    first = fit(line(), error, schedule(64), Points(), sources, path)
    again = fit(line(), error, schedule(64), Points(), sources, path)
    assert torch.equal(first.weight, again.weight)


def test_logs_and_checkpoints_are_told(sources: Sources, tmp_path: Path) -> None:
    logs: list[dict[str, float]] = []
    seen: list[int] = []
    fit(
        line(), error, schedule(96), Points(), sources, tmp_path / "line.pt", on_log=logs.append,
        on_checkpoint=lambda state: seen.append(state.samples), log_every=0, save_every=0,
    )  # fmt: skip
    assert all(math.isfinite(entry["loss"]) for entry in logs)
    assert [entry["samples"] for entry in logs] == sorted(entry["samples"] for entry in logs)
    assert seen[-1] == 96


def test_a_loss_that_is_not_finite_ends_the_training(sources: Sources, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the loss is not finite; lower the rate"):
        fit(line(), lost, schedule(), Points(), sources, tmp_path / "line.pt", log_every=0)


def test_averaging_moves_a_part_of_the_way(tmp_path: Path) -> None:
    state = begin(line(), schedule(), tmp_path / "none.pt")
    before = state.averaged.weight.clone()
    with torch.no_grad():
        state.network.weight += 1
    average(state, 0.75)
    assert torch.allclose(state.averaged.weight, before + 0.25)


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"rate": 0.0}, {"composers": 0}, {"seconds": 0}])
def test_a_schedule_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="more than 0"):
        Schedule(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("tiles", [True, False])
def test_a_network_answers_in_single_precision(tiles: bool, monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    network, inputs = nn.Conv2d(1, 8, 3, padding=1), torch.rand(2, 1, 32, 64)
    exact = network(inputs)
    monkeypatch.setattr(composed, "multiplies_tiles", lambda device: tiles)
    raw = run(network, inputs)
    assert raw.dtype == torch.float32
    off = float((raw - exact).abs().max().detach())
    # bfloat16 keeps eight bits of the factors.
    assert 1e-4 < off < 0.02 if tiles else off < 1e-5


@pytest.mark.parametrize("has", [True, False])
def test_tiles_are_used_where_the_processor_has_them(has: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has)
    for machine, here in (("x86_64", has), ("AMD64", has), ("arm64", False)):
        monkeypatch.setattr(device.platform, "machine", lambda machine=machine: machine)
        assert device.multiplies_tiles(torch.device("cpu")) == here
    assert device.multiplies_tiles(torch.device("cuda"))
    assert not device.multiplies_tiles(torch.device("mps"))
