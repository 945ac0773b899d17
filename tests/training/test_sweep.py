"""Sweeps: plans, results, folders, and resuming."""

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

pytest.importorskip("torch")
pytest.importorskip("optuna")

import optuna
from filelock import FileLock
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from digitry.errors import DataError, DigitryError, UsageError
from digitry.training.data.dataset import Dataset, hold_out
from digitry.training.datasets import load_dataset
from digitry.training.evaluation import scores as evaluation
from digitry.training.loop import train as engine
from digitry.training.recipes import RECIPES, Recipe
from digitry.training.sweep import (
    HELD_OUT,
    JOURNAL,
    Plan,
    importances,
    plan_in,
    ranking,
    run_sweep,
)

DENSE = replace(RECIPES["dense-128-128"], hidden=(8,), epochs=2)
RATES = ("learning_rate=1e-4,1e-2",)


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Few digits, so that a training takes 0.1 s."""
    whole = load_dataset("uci")
    return replace(whole, train=whole.train.take(np.arange(300)))


@pytest.fixture(scope="module")
def done(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("sweep") / "new"
    study = run_sweep(plan(RATES, seeds=2), data, folder)
    return folder, study


def plan(settings: Sequence[str], recipe: Recipe = DENSE, **options: Any) -> Plan:
    return Plan(recipe=recipe, settings=settings, **options)


def tried(study: Any) -> list[dict[str, Any]]:
    """Return the results of the trials, in order of their numbers."""
    return [t.user_attrs["result"] for t in sorted(ranking(study), key=lambda t: t.number)]


# --- plans ----------------------------------------------------------------------------------------


def test_values_are_separated_by_commas_or_bars() -> None:
    texts = ["lr=1e-3,3e-3,1e-3", "hidden=128|256,128", "dropout=0.1..0.5", "batch_size=8..64"]
    assert plan(texts, trials=3).axes == {
        "learning_rate": CategoricalDistribution(("1e-3", "3e-3")),
        "hidden": CategoricalDistribution(("128", "256,128")),
        "dropout": FloatDistribution(0.1, 0.5),
        "batch_size": IntDistribution(8, 64, log=True),
    }
    assert plan(["hidden=256,128"]).points == [{"hidden": "256,128"}]


def test_a_grid_has_every_combination_and_fewer_trials_take_some() -> None:
    texts = ["learning_rate=1e-3,3e-3", "hidden=128|256,128"]
    assert [tuple(point.values()) for point in plan(texts).points] == [
        ("1e-3", "128"),
        ("1e-3", "256,128"),
        ("3e-3", "128"),
        ("3e-3", "256,128"),
    ]
    some = plan(texts, trials=2).points
    assert len(some) == 2 and some == plan(texts, trials=3).points[:2]
    assert plan(texts, trials=9).count == 4


def test_a_recipe_without_held_out_images_gets_some_in_a_sweep() -> None:
    assert plan(["dropout=0,0.2"]).recipe.validation == HELD_OUT
    assert plan(["dropout=0,0.2"], RECIPES["dense-128"]).recipe.validation == 0.2


@pytest.mark.parametrize(
    ("texts", "options", "words"),
    [
        ([], {}, "no field to vary"),
        (["learning_rate"], {}, "write field=value,value"),
        (["learning_rate="], {}, "write field=value,value"),
        (["lr=0.1,"], {}, "'lr=0.1,' is not a list"),
        (["lr=1e-3", "learning_rate=1e-2"], {}, "given twice"),
        (["seed=1,2"], {}, "--seeds"),
        (["validation=0.1,0.2"], {}, "cannot vary"),
        (["distil=0,0.5"], {}, "cannot vary"),
        (["hidden=1..5"], {"trials": 2}, "not a valid range for hidden"),
        (["optimizer=a..b"], {"trials": 2}, "not a valid range for optimizer"),
        (["dropout=0.5..0.1"], {"trials": 2}, "low..high"),
        (["dropout=0..inf"], {"trials": 2}, "low..high"),
        (["batch_size=8..9.5"], {"trials": 2}, "low..high"),
        (["learning_rate=0..1"], {"trials": 2}, "above 0"),
        (["dropout=0..1.5"], {"trials": 2}, "dropout"),
        (["depth=1,2"], {}, "no field 'depth'"),
        (["depth=1..2"], {"trials": 2}, "no field 'depth'"),
        (["learning_rate=1e-3,fast"], {}, "'fast'"),
        (["dropout=0..0.5"], {}, "add --trials"),
        (["batch_size=" + ",".join(map(str, range(1, 10_002)))], {}, "10,001 settings"),
    ],
)
def test_invalid_settings_are_refused_with_a_reason(
    texts: list[str], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        plan(texts, **options)
    assert words in str(caught.value)


# --- results --------------------------------------------------------------------------------------


def test_scores_are_of_the_held_out_end_of_the_training_images(
    done: tuple[Path, Any], data: Dataset
) -> None:
    assert [one["setting"] for one in tried(done[1])] == [
        {"learning_rate": "1e-4"},
        {"learning_rate": "1e-2"},
    ]
    recipe = replace(plan_in(done[0]).recipe, learning_rate=0.01, seed=1)
    trained = engine.train(recipe, data.train)
    held = hold_out(data.train, HELD_OUT)[1]
    said = np.asarray(trained.model.predict(held.images.astype(np.float32) / 255, verbose=0))
    expected = evaluation.score(np.log(said), held.labels)
    result = tried(done[1])[1]
    # The second seed.
    assert result["accuracies"][1] == pytest.approx(expected.accuracy)
    assert (result["epochs"], result["failure"]) == (4, "")
    assert result["parameters"] == trained.model.count_params()


def test_the_best_mean_comes_first(done: tuple[Path, Any]) -> None:
    best, other = ranking(done[1])
    assert best.value == pytest.approx(np.mean(best.user_attrs["result"]["accuracies"]))
    assert best.value > other.value
    assert best.user_attrs["result"]["setting"] == {"learning_rate": "1e-2"}


def test_a_finished_sweep_trains_nothing_again(
    done: tuple[Path, Any], data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "train", lambda *_, **__: pytest.fail("trained again"))
    assert tried(run_sweep(plan_in(done[0]), data, done[0])) == tried(done[1])


def test_a_failed_training_is_recorded_and_the_others_continue(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = engine.train

    def train(recipe: Any, *given: Any, **named: Any) -> Any:
        if recipe.hidden == (2,):
            raise DigitryError("takes more memory than cpu has", where="recipe")
        if recipe.hidden == (3,):
            raise RuntimeError("a kernel failed\nand more")
        return real(recipe, *given, **named)

    monkeypatch.setattr(engine, "train", train)
    study = run_sweep(plan(["hidden=2|3|4"]), data, tmp_path)
    assert [one["failure"] for one in tried(study)] == [
        "takes more memory than cpu has",
        "a kernel failed",
        "",
    ]
    assert ranking(study)[0].number == 2
    assert ranking(study)[1].value is None
    # The failed trial is not repeated.
    assert len(run_sweep(plan_in(tmp_path), data, tmp_path).get_trials()) == 3


def test_a_training_without_data_ends_the_sweep_without_a_result(
    data: Dataset, tmp_path: Path
) -> None:
    none = replace(data, train=data.train.take(np.arange(0)))
    with pytest.raises(DataError):
        run_sweep(plan(RATES), none, tmp_path)
    study = run_sweep(plan(RATES), replace(data, sha256=none.sha256), tmp_path)
    assert [one["failure"] for one in tried(study)] == ["", ""]


def test_a_training_below_the_median_of_the_others_is_pruned(data: Dataset, tmp_path: Path) -> None:
    recipe = replace(DENSE, epochs=4)
    texts = ["learning_rate=0.01,0.011,0.012,0.013,0.014,1e-7"]
    study = run_sweep(plan(texts, recipe), data, tmp_path / "pruned")
    last = ranking(study)[-1]
    assert (last.state.name, last.user_attrs["result"]["epochs"]) == ("PRUNED", 2)
    assert last.user_attrs["result"]["setting"] == {"learning_rate": "1e-7"}
    study = run_sweep(plan(texts, recipe, prune=False), data, tmp_path / "whole")
    assert {trial.state.name for trial in ranking(study)} == {"COMPLETE"}


def test_ranges_give_the_same_settings_after_a_resume(data: Dataset, tmp_path: Path) -> None:
    texts = ["learning_rate=1e-4..1e-1", "batch_size=16..64", "optimizer=adam,rmsprop"]
    wanted = plan(texts, replace(DENSE, epochs=1), trials=11, prune=False)
    whole = tried(run_sweep(wanted, data, tmp_path / "whole"))
    run_sweep(replace(wanted, trials=4), data, tmp_path / "parts")
    more = run_sweep(plan_in(tmp_path / "parts", 11), data, tmp_path / "parts")
    assert [one["setting"] for one in tried(more)] == [one["setting"] for one in whole]
    assert len({tuple(one["setting"].values()) for one in whole}) > 8
    rates = [float(one["setting"]["learning_rate"]) for one in whole]
    assert all(1e-4 <= rate <= 1e-1 and rate == float(f"{rate:.3g}") for rate in rates)
    # On a log scale; on a linear scale nine of ten would be above 0.01.
    assert sum(rate < 1e-2 for rate in rates) >= 3
    shares = importances(more)
    assert set(shares) == set(wanted.axes) and math.isclose(sum(shares.values()), 1)


# --- the folder -----------------------------------------------------------------------------------


def test_an_interrupted_sweep_keeps_finished_trials_and_repeats_the_others(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, wanted = engine.train, plan(["hidden=4|5|6|7"])

    class Died(BaseException):
        pass

    def end(error: type[BaseException]) -> None:
        raise error

    def on(place: int, change: Callable[[Any], Any]) -> None:
        calls: list[Any] = []

        def train(*given: Any, **named: Any) -> Any:
            calls.append(given)
            trained = real(*given, **named)
            return change(trained) if len(calls) == place else trained

        monkeypatch.setattr(engine, "train", train)

    for place, change, kept in (
        # Ctrl-C during the second training: it stops early and does not count.
        (2, lambda trained: replace(trained, interrupted=True), 1),
        # Ctrl-C twice in the repeated trial.
        (1, lambda trained: end(KeyboardInterrupt), 1),
        # Ctrl-C when a training has just finished: it counts, and the sweep stops.
        (1, lambda trained: replace(trained, told_to_stop=True), 2),
    ):
        on(place, change)
        assert len(ranking(run_sweep(wanted, data, tmp_path))) == kept
    # The state after `kill -9`.
    on(1, lambda trained: end(Died))
    with pytest.raises(Died):
        run_sweep(wanted, data, tmp_path)

    monkeypatch.setattr(engine, "train", real)
    said = io.StringIO()
    study = run_sweep(wanted, data, tmp_path, console=Console(file=said, width=120))
    assert sorted(one["setting"]["hidden"] for one in tried(study)) == ["4", "5", "6", "7"]
    assert "3/4  hidden=" in said.getvalue() and "4/4  hidden=" in said.getvalue()


def test_a_trial_of_a_killed_process_is_repeated(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    for wanted, folder in (
        (plan(["hidden=4|5"]), tmp_path / "grid"),
        (plan(["dropout=0..0.5"], trials=2), tmp_path / "range"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(optuna.Study, "tell", die)
            (cut,) = run_sweep(wanted, data, folder).get_trials(states=[TrialState.RUNNING])
        study = run_sweep(wanted, data, folder)
        assert [trial.state.name for trial in ranking(study)] == ["COMPLETE"] * 2
        assert cut.params in [trial.params for trial in ranking(study)]


def test_only_one_process_runs_a_sweep(done: tuple[Path, Any], data: Dataset) -> None:
    before = (done[0] / JOURNAL).read_bytes()
    with FileLock(done[0] / ".lock"), pytest.raises(UsageError, match="another process is running"):
        run_sweep(plan(RATES, seeds=2), data, done[0])
    assert (done[0] / JOURNAL).read_bytes() == before


def test_another_sweep_or_other_data_are_refused(
    done: tuple[Path, Any], data: Dataset, tmp_path: Path
) -> None:
    wanted = plan_in(done[0])
    for other, images in (
        (wanted, replace(data, sha256="0" * 64)),
        (replace(wanted, seeds=3), data),
        (replace(wanted, settings=["dropout=0,0.5"]), data),
    ):
        with pytest.raises(UsageError, match="another plan or other data"):
            run_sweep(other, images, done[0])
    with pytest.raises(UsageError, match="holds no sweep"):
        plan_in(tmp_path)
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(DigitryError, match="cannot be written"):
        run_sweep(wanted, data, tmp_path / "letter.txt")


def test_a_partial_line_of_a_killed_process_is_removed(
    done: tuple[Path, Any], data: Dataset, tmp_path: Path
) -> None:
    whole = (done[0] / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(whole + b'{"op_code":')
    assert tried(run_sweep(plan_in(tmp_path), data, tmp_path)) == tried(done[1])


@pytest.mark.parametrize("damage", [b"{\n{\n", b"\xb7\x00\xff\n", b"1\n", b'{"op_code":4}\n'])
def test_a_damaged_journal_is_reported_and_not_changed(
    done: tuple[Path, Any], data: Dataset, tmp_path: Path, damage: bytes
) -> None:
    spoilt = (done[0] / JOURNAL).read_bytes() + damage
    (tmp_path / JOURNAL).write_bytes(spoilt)
    with pytest.raises(DataError, match=rf"{JOURNAL}: is damaged; use a new folder"):
        plan_in(tmp_path)
    assert (tmp_path / JOURNAL).read_bytes().startswith(spoilt)


def test_each_training_is_logged_to_the_trackers(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    real, wanted = engine.train, plan(RATES)
    cut = iter([False, True])
    # The second is interrupted, and starts again after the resume: no epoch is logged twice.
    monkeypatch.setattr(
        engine, "train", lambda *g, **n: replace(real(*g, **n), interrupted=next(cut))
    )
    run_sweep(wanted, data, tmp_path, log=["tensorboard"])
    monkeypatch.setattr(engine, "train", real)
    study = run_sweep(wanted, data, tmp_path, log=["tensorboard"])
    names = ["0-learning_rate=1e-4-seed-0", "2-learning_rate=1e-2-seed-0"]
    for trial, name in zip(sorted(ranking(study), key=lambda t: t.number), names, strict=True):
        found = events.EventAccumulator(str(tmp_path / name / "tensorboard/validation")).Reload()
        accuracies = [event.value for event in found.Scalars("epoch_accuracy")]
        assert len(accuracies) == DENSE.epochs
        assert accuracies[-1] == pytest.approx(trial.value)


def test_the_plot_is_written(done: tuple[Path, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from PIL import Image

    from digitry.training.report.sweep_plot import write_sweep

    ranges = plan(["learning_rate=1e-4..1e-1", "dropout=0,0.5"], trials=16)
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.NopPruner())
    for number in range(16):
        trial = study.ask(ranges.axes)
        trial.report(0.5, 1)
        if number % 4 == 3:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, 0.9 + number / 1000)
    sizes = []
    for drawn in (done[1], study):
        with Image.open(write_sweep(drawn, tmp_path)) as picture:
            sizes.append(picture.size)
    # The importance of each field is below the history; with two trials there is none.
    assert set(importances(study)) == {"learning_rate", "dropout"}
    assert sizes[0][1] < sizes[1][1]
