import math
from pathlib import Path

import pytest
import torch

from digitry.errors import UsageError
from digitry.reading.classes import BLANK, OTHER
from digitry.training.loop.lines import (
    CHECKPOINT,
    LineSettings,
    begin,
    line_loss,
    one_cycle,
    step,
    train_lines,
)
from digitry.training.network.lines import OUTPUTS
from digitry.training.writing.composers import Pools
from digitry.training.writing.strips import Composer, Mix, Sources

SMALL = LineSettings(
    channels=(4, 8, 8, 8, 16),
    strips=64,
    pools=Pools(seed=3, strips=32, columns=1500, mix=Mix(0.5, 0.2, 0.1)),
)


def test_the_loss_falls_on_a_handful_of_lines(sources: Sources, tmp_path: Path):
    settings = LineSettings(channels=(8, 8, 16, 16, 16), strips=3000, rate=4e-3)
    (batch,) = Composer(sources, 1, Mix(0.9, 0, 0.1)).batches(12, 100_000)
    state = begin(settings, tmp_path)
    losses = [float(step(state, batch, settings)) for _ in range(60)]
    assert losses[-1] < 0.3 * losses[0]


def test_a_line_without_digits_costs_nothing_where_all_is_blank_or_other():
    by_column = torch.full((1, 8, OUTPUTS), -30.0)
    by_column[..., BLANK] = by_column[..., OTHER] = math.log(0.5)
    assert float(line_loss(by_column, ((),))) == pytest.approx(0, abs=1e-5)
    assert float(line_loss(by_column, ((OTHER,),))) == pytest.approx(0, abs=1e-5)
    assert float(line_loss(by_column, ((3,),))) > 5


def test_a_lines_loss_is_ctcs_by_character():
    torch.manual_seed(0)
    by_column = torch.randn(2, 10, OUTPUTS).log_softmax(-1)
    wanted = [
        torch.nn.functional.ctc_loss(
            by_column[i][:, None], torch.tensor([said]), (10,), (len(said),), blank=BLANK,
            reduction="sum",
        )
        / len(said)
        for i, said in enumerate(([1, 1, 7], [4]))
    ]  # fmt: skip
    found = line_loss(by_column, ((1, 1, 7), (4,)))
    assert float(found) == pytest.approx(float(sum(wanted)) / 2, rel=1e-5)


def test_a_line_too_long_for_its_columns_teaches_nothing_and_breaks_nothing():
    by_column = torch.randn(1, 2, OUTPUTS).log_softmax(-1).requires_grad_()
    loss = line_loss(by_column, ((1, 1, 1),))
    loss.backward()
    assert float(loss.detach()) == 0
    assert by_column.grad is not None
    assert torch.isfinite(by_column.grad).all()


def test_the_rate_rises_and_falls():
    rates = [one_cycle(at / 100) for at in range(101)]
    top = rates.index(max(rates))
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert max(rates) == pytest.approx(1)
    assert rates[-1] < 0.01


def test_a_training_that_was_stopped_goes_on(sources: Sources, tmp_path: Path):
    first = train_lines(SMALL, sources, tmp_path)
    stored = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert stored["strips"] >= 64
    went_on = begin(LineSettings(channels=SMALL.channels, strips=128), tmp_path)
    assert went_on.strips == stored["strips"]
    assert went_on.pools == stored["pools"] >= 2
    for ours, theirs in zip(
        went_on.averaged.state_dict().values(), first.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_logs_and_checkpoints_are_told(sources: Sources, tmp_path: Path):
    logs: list[dict[str, float]] = []
    seen: list[int] = []
    train_lines(
        SMALL, sources, tmp_path, on_log=logs.append, log_every=0, save_every=0,
        on_checkpoint=lambda state: seen.append(state.strips),
    )  # fmt: skip
    assert logs
    assert all(math.isfinite(entry["loss"]) for entry in logs)
    assert seen == sorted(seen)
    assert seen[-1] >= 64


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(UsageError, match="more than 0"):
        LineSettings(strips=0)
