"""A sweep and its folder: what is trained, what is kept, and how it goes on."""

import csv
import io
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

pytest.importorskip("torch")

from digitry.errors import DataError, UsageError
from digitry.training.data.dataset import Dataset, hold_out
from digitry.training.datasets import load_dataset
from digitry.training.evaluation import scores as evaluation
from digitry.training.grid import Plan, parse_axes, plan_of
from digitry.training.loop import train as engine
from digitry.training.recipes import RECIPES
from digitry.training.sweep import TABLE, Sweep, Trial, read_table, run_sweep

DENSE = replace(RECIPES["dense-128-128"], hidden=(16,))


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_dataset("uci")


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_of(DENSE, parse_axes(["learning_rate=1e-4,1e-2"]), seeds=2, epochs=2)


@pytest.fixture(scope="module")
def done(plan: Plan, data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return run_sweep(plan, data, tmp_path_factory.mktemp("sweep") / "new")


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / TABLE).read_text())))


def test_every_setting_is_trained_with_every_seed_and_stands_in_the_table(done: Sweep) -> None:
    table = rows(done.folder)
    assert [(row["setting"], row["learning_rate"], row["seed"]) for row in table] == [
        ("1", "0.0001", "0"),
        ("2", "0.01", "0"),
        ("1", "0.0001", "1"),
        ("2", "0.01", "1"),
    ]
    assert not done.interrupted
    assert all(row["epochs"] == "2" and row["failure"] == "" for row in table)
    assert read_table(done.folder / TABLE, done.plan) == done.trials


def test_it_is_judged_on_the_held_out_end_of_the_training_images(
    done: Sweep, data: Dataset
) -> None:
    held = hold_out(data.train, DENSE.validation or 1 / 6)[1]
    assert done.held_out == len(held)
    recipe = replace(done.plan.recipe, learning_rate=0.01, seed=1)
    trained = engine.train(recipe, data.train)
    glyphs = held.images.astype(np.float32) / 255
    said = np.asarray(trained.model.predict(glyphs, verbose=0))
    expected = evaluation.score(np.log(said), held.labels)
    trial = next(trial for trial in done.trials if (trial.setting, trial.seed) == (1, 1))
    assert trial.accuracy == pytest.approx(expected.accuracy)
    assert trial.loss == pytest.approx(expected.loss, rel=1e-4)
    assert trial.parameters == trained.model.count_params()


def test_the_best_comes_first_with_mean_spread_and_interval(done: Sweep) -> None:
    best, other = done.ranking()
    assert best.setting == {"learning_rate": "0.01"}
    scores = [trial.accuracy for trial in best.trials if trial.accuracy is not None]
    assert best.mean == pytest.approx(np.mean(scores))
    assert best.spread == pytest.approx(np.std(scores, ddof=1))
    assert best.mean is not None and other.mean is not None and best.mean > other.mean
    # Student's t with one degree of freedom: 12.706.
    half = 12.7062 * best.spread / np.sqrt(2)
    assert best.interval == pytest.approx((max(0, best.mean - half), min(1, best.mean + half)))


def test_a_finished_sweep_trains_nothing_again(
    done: Sweep, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "train", lambda *_, **__: pytest.fail("trained again"))
    assert run_sweep(done.plan, data, done.folder) == done


def test_interrupted_it_keeps_what_is_finished_and_goes_on_where_it_was(
    plan: Plan, data: Dataset, done: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = engine.train, []

    def train(*given: Any, **named: Any) -> Any:
        calls.append(given[0])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*given, **named)

    # Ctrl-C within the second training: the engine ends it early, and it does not count.
    def interrupted(*given: Any, **named: Any) -> Any:
        trained = real(*given, **named)
        calls.append(given[0])
        return replace(trained, interrupted=True) if len(calls) == 2 else trained

    monkeypatch.setattr(engine, "train", interrupted)
    first = run_sweep(plan, data, tmp_path)
    assert first.interrupted
    assert len(first.trials) == len(rows(tmp_path)) == 1

    calls.clear()
    monkeypatch.setattr(engine, "train", train)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(plan, data, tmp_path)
    assert len(rows(tmp_path)) == 2

    # Ctrl-C when nothing of a training is left to end: it counts, and is the last.
    monkeypatch.setattr(
        engine, "train", lambda *given, **named: replace(real(*given, **named), told_to_stop=True)
    )
    assert run_sweep(plan, data, tmp_path).interrupted
    assert len(rows(tmp_path)) == 3

    monkeypatch.setattr(engine, "train", real)
    text = io.StringIO()
    whole = run_sweep(plan, data, tmp_path, console=Console(file=text, width=120))
    assert "3 of 4 trainings are done already" in text.getvalue()
    assert not whole.interrupted
    scores = [(trial.setting, trial.seed, trial.accuracy) for trial in whole.trials]
    assert scores == [(trial.setting, trial.seed, trial.accuracy) for trial in done.trials]


def test_another_sweep_in_the_same_folder_is_refused(
    done: Sweep, data: Dataset, tmp_path: Path
) -> None:
    before = (done.folder / TABLE).read_bytes()
    for other in (
        plan_of(DENSE, parse_axes(["learning_rate=1e-4"]), seeds=2, epochs=2),
        plan_of(DENSE, parse_axes(["learning_rate=1e-4,1e-2"]), seeds=3, epochs=2),
        plan_of(DENSE, parse_axes(["learning_rate=1e-4,1e-2"]), seeds=2, epochs=3),
    ):
        with pytest.raises(UsageError, match="another sweep"):
            run_sweep(other, data, done.folder)
    with pytest.raises(UsageError, match="its data differ"):
        run_sweep(done.plan, replace(data, sha256="0" * 64), done.folder)
    assert (done.folder / TABLE).read_bytes() == before
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty"):
        run_sweep(done.plan, data, tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        run_sweep(done.plan, data, tmp_path / "letter.txt")


def with_first(column: str, value: str, text: str) -> str:
    """Give the table with another value in a column of its first line."""
    rows = list(csv.reader(io.StringIO(text)))
    rows[1][rows[0].index(column)] = value
    return "".join(",".join(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("0.0001", "0.5"),
        lambda text: text.replace("seed", "sead"),
        lambda text: text[:-20],
        lambda text: text + "9,0.1,0,0.9,0.1,2,100,1.0,\n",
        lambda text: text.replace(",2,", ",two,"),
        lambda text: text + '"',
        # Numbers that no training gives: they would win, or break the arithmetic.
        *(partial(with_first, "accuracy", value) for value in ("1.7", "-0.1", "nan", "inf", "")),
        partial(with_first, "loss", "nan"),
        partial(with_first, "parameters", "-5"),
        partial(with_first, "seconds", "-1"),
        partial(with_first, "failure", "failed: by hand"),
        lambda text: text + text.splitlines()[1] + "\n",
    ],
)
def test_a_damaged_table_is_named_and_left_alone(
    done: Sweep, data: Dataset, tmp_path: Path, damage: Any
) -> None:
    for name in ("sweep.json", TABLE):
        (tmp_path / name).write_bytes((done.folder / name).read_bytes())
    (tmp_path / TABLE).write_text(damage((tmp_path / TABLE).read_text()))
    before = (tmp_path / TABLE).read_bytes()
    with pytest.raises(DataError) as caught:
        run_sweep(done.plan, data, tmp_path)
    assert TABLE in str(caught.value) and "line" in str(caught.value)
    assert (tmp_path / TABLE).read_bytes() == before


def test_a_table_that_is_no_text_or_has_lost_its_plan_is_named(
    done: Sweep, data: Dataset, tmp_path: Path
) -> None:
    (tmp_path / TABLE).write_bytes((done.folder / TABLE).read_bytes())
    with pytest.raises(DataError, match=r"sweep\.json: is missing beside runs\.csv; put it back"):
        run_sweep(done.plan, data, tmp_path)
    (tmp_path / "sweep.json").write_bytes((done.folder / "sweep.json").read_bytes())
    (tmp_path / TABLE).write_bytes(b"\xb7\x00\xff")
    with pytest.raises(DataError, match=r"runs\.csv: is no text; name a new folder"):
        run_sweep(done.plan, data, tmp_path)


def test_a_damaged_plan_is_named(done: Sweep, data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(DataError, match=r"sweep\.json"):
        run_sweep(done.plan, data, tmp_path)
    (tmp_path / "sweep.json").write_text(json.dumps([1]))
    with pytest.raises(UsageError, match="another sweep"):
        run_sweep(done.plan, data, tmp_path)


def test_each_training_is_told_to_the_trackers(
    plan: Plan, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    real = engine.train
    cut = iter([False, True])

    def train(*given: Any, **named: Any) -> Any:
        trained = real(*given, **named)
        return replace(trained, interrupted=next(cut))

    # The second is cut short, and begins anew when the sweep goes on: no epoch is there twice.
    monkeypatch.setattr(engine, "train", train)
    run_sweep(plan, data, tmp_path, log=["tensorboard"])
    monkeypatch.setattr(engine, "train", real)
    done = run_sweep(plan, data, tmp_path, log=["tensorboard"])
    folders = sorted(path for path in tmp_path.iterdir() if path.is_dir())
    assert len(folders) == len(done.trials) == 4
    for trial in done.trials:
        (name,) = [
            f"{key}={value}-seed-{trial.seed}"
            for key, value in plan.settings[trial.setting].items()
        ]
        found = events.EventAccumulator(str(tmp_path / name / "tensorboard/validation")).Reload()
        accuracies = [event.value for event in found.Scalars("epoch_accuracy")]
        assert len(accuracies) == trial.epochs
        assert accuracies[-1] == pytest.approx(trial.accuracy)


def test_a_training_that_fails_is_noted_and_the_others_go_on(data: Dataset, tmp_path: Path) -> None:
    conv = replace(RECIPES["reader"], augment="none", averaging=0.0, schedule="constant", epochs=1)
    # Four poolings leave nothing of 28 pixels.
    few = replace(data, train=data.train.take(np.arange(200)))
    plan = plan_of(conv, parse_axes(["hidden=1,2,4,8,16,32|2"]), epochs=1)
    found = run_sweep(plan, few, tmp_path)
    best, failed = found.ranking()
    assert best.setting == {"hidden": "2"}
    assert best.failed == 0
    assert failed.mean is None
    assert failed.failed == 1
    assert failed.trials[0].failure.startswith("failed: ")
    assert read_table(tmp_path / TABLE, plan) == found.trials


def test_settings_that_failed_once_come_last_and_one_seed_has_no_interval() -> None:
    plan = plan_of(DENSE, parse_axes(["dropout=0,0.1,0.2"]), seeds=2)
    trials = (
        Trial(0, 0, 0.99, 0.1, 2, 100, 1.0),
        Trial(0, 1, None, None, 0, 0, 1.0, "failed: the loss is nan"),
        Trial(1, 0, 0.90, 0.2, 2, 100, 1.0),
        Trial(2, 0, 0.95, 0.2, 2, 100, 1.0),
    )
    found = Sweep(folder=Path(), plan=plan, data="uci", held_out=10, trials=trials)
    assert [one.setting["dropout"] for one in found.ranking()] == ["0.2", "0.1", "0.0"]
    assert found.ranking()[0].interval is None
    assert found.ranking()[0].to_dict()["accuracies"] == [0.95]


def test_the_picture_is_drawn(done: Sweep, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from PIL import Image

    from digitry.training.report.sweep_plot import write_sweep

    with Image.open(write_sweep(replace(done, folder=tmp_path))) as picture:
        assert min(picture.size) > 300
    with pytest.raises(DataError, match="no training has a result"):
        write_sweep(replace(done, folder=tmp_path, trials=()))
