import math
from pathlib import Path

import pytest
import torch

from digitry.reading.classes import BLANK, OTHER
from digitry.training.loop.composed import Schedule, begin, step
from digitry.training.loop.lines import (
    CHECKPOINT,
    LineSettings,
    batch_loss,
    line_loss,
    train_lines,
)
from digitry.training.network.lines import OUTPUTS, build, line_layers
from digitry.training.writing.composers import Pools
from digitry.training.writing.strips import Composer, Mix, Sources

CHANNELS = (4, 8, 8, 8, 16)


def test_the_loss_falls_on_a_handful_of_lines(sources: Sources, tmp_path: Path):
    plan = Schedule(samples=3000, rate=4e-3)
    (batch,) = Composer(sources, 1, Mix(0.9, 0, 0.1)).batches(12, 100_000)
    torch.manual_seed(0)
    state = begin(build(line_layers((8, 8, 16, 16, 16))), plan, tmp_path / "none.pt")
    losses = [float(step(state, batch, batch_loss, plan)) for _ in range(60)]
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


def test_lines_are_learnt_and_saved_and_taken_up_again(sources: Sources, tmp_path: Path):
    settings = LineSettings(
        channels=CHANNELS,
        schedule=Schedule(samples=64),
        pools=Pools(seed=3, strips=32, columns=1500, mix=Mix(0.5, 0.2, 0.1)),
    )
    first = train_lines(settings, sources, tmp_path)
    stored = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert stored["samples"] >= 64
    again = train_lines(settings, sources, tmp_path)
    for ours, theirs in zip(first.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
