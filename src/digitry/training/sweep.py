"""Sweeps: many settings of one recipe, proposed by Optuna and compared on held-out training images.

A sweep never uses the test images: they are for the one setting that is chosen in the end.

A sweep is an Optuna study in the file `trials.journal` of its folder. A trial is one setting, trained with
each seed; its attribute `result` holds the scores. An interrupted trial stays in the state RUNNING and is
tried again when the sweep is resumed.
"""

import contextlib
import itertools
import math
import random
import re
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from digitry.errors import DataError, DigitryError, UnavailableError, UsageError
from digitry.progress import Display
from digitry.training.recipes import SHORT, Recipe

if TYPE_CHECKING:
    from rich.console import Console

    from digitry.training.data.dataset import Dataset

# The held-out share if the recipe has none (10,000 images of MNIST); the largest grid.
HELD_OUT, MOST = 1 / 6, 10_000
# Fields that cannot vary; fields whose values contain commas; fields searched on a log scale.
FIXED = ("name", "summary", "seed", "data", "validation", "epochs", "distil")
LISTS = ("hidden", "kernels", "pools")
LOGARITHMIC = ("learning_rate", "batch_size")
JOURNAL = "trials.journal"

Axis = CategoricalDistribution | FloatDistribution | IntDistribution


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plan of a sweep; checked when built.

    Attributes:
        recipe: the common recipe; its seed is used for the search and for the first training.
        settings: the fields that vary: `field=value,value`, `field=value|value` or `field=low..high`.
        seeds: number of trainings of each setting, each with another seed.
        trials: number of settings to try; None = all of a grid.
        prune: whether a training stops if it is below the median of the others at the same epoch.
        data_dir: folder of the data, or None.
    """

    recipe: Recipe
    settings: Sequence[str]
    seeds: int = 1
    trials: int | None = None
    prune: bool = True
    data_dir: str | None = None

    def __post_init__(self) -> None:
        if not self.settings or len(self.axes) < len(self.settings):
            what = "a field is given twice" if self.settings else "no field to vary is given"
            raise UsageError(
                what, where="--set", remedy="add one --set field=value,value per field"
            )
        for name, axis in self.axes.items():
            for value in _values(axis):
                self.recipe.override({name: value})
        if not self.points and self.trials is None:
            raise UsageError("a range needs a number of trials", remedy="add --trials N")
        recipe = replace(self.recipe, validation=self.recipe.validation or HELD_OUT)
        object.__setattr__(self, "recipe", recipe)

    @property
    def axes(self) -> dict[str, Axis]:
        """The fields that vary, each with its distribution."""
        return dict(map(_axis, self.settings))

    @property
    def points(self) -> list[dict[str, str]]:
        """The settings of a grid, in the order in which they are tried; empty if there is a range."""
        axes, values = self.axes, list(map(_values, self.axes.values()))
        if not all(isinstance(axis, CategoricalDistribution) for axis in axes.values()):
            return []
        if (size := math.prod(map(len, values))) > MOST:
            what, remedy = (
                f"{size:,} settings are too many",
                f"vary fewer: at most {MOST:,} settings",
            )
            raise UsageError(what, where="--set", remedy=remedy)
        points = [dict(zip(axes, point, strict=True)) for point in itertools.product(*values)]
        if self.trials is not None and self.trials < size:
            random.Random(self.recipe.seed).shuffle(points)
        return points[: self.trials]

    @property
    def count(self) -> int:
        """The number of settings to try."""
        return len(self.points) or self.trials or 0


def _values(axis: Axis) -> tuple[str, ...]:
    """Return the values of a list, or the two ends of a range."""
    if isinstance(axis, CategoricalDistribution):
        return tuple(map(str, axis.choices))
    return str(axis.low), str(axis.high)


def _axis(text: str) -> tuple[str, Axis]:
    field, equals, values = (part.strip() for part in text.partition("="))
    name = SHORT.get(field, field)
    listed = [v.strip() for v in values.split("|" if "|" in values or name in LISTS else ",")]
    what, remedy = f"{text!r} is not a list of values", "write field=value,value"
    if name in FIXED:
        what, remedy = f"{name} cannot vary", "vary other fields, or use --epochs, --seed, --seeds"
    if name in FIXED or not equals or "" in (name, *listed):
        raise UsageError(what, where="--set", remedy=remedy)
    low, dots, high = values.partition("..")
    if not dots:
        return name, CategoricalDistribution(tuple(dict.fromkeys(listed)))
    kind = next((field.type for field in fields(Recipe) if field.name == name), float)
    log = name in LOGARITHMIC
    try:
        if kind in (int, int | None):
            return name, IntDistribution(int(low), int(high), log=log)
        if kind not in (float, float | None) or not math.isfinite(float(high) - float(low)):
            raise ValueError
        return name, FloatDistribution(float(low), float(high), log=log)
    except ValueError as error:
        what = f"{values} is not a valid range for {name}"
        remedy = f"write field=low..high{' with low above 0' * log}, or list values"
        raise UsageError(what, where="--set", remedy=remedy) from error


def plan_in(folder: Path, trials: int | None = None) -> Plan:
    """Return the plan of an existing sweep.

    Args:
        folder: the folder of the sweep.
        trials: a new number of settings to try; None = the old one.

    Raises:
        UsageError: the folder holds no sweep.
    """
    facts: dict[str, Any] = {}
    if (folder / JOURNAL).exists():
        with _opened(folder) as study:
            facts = study.user_attrs.get("plan", {})
    if not facts:
        raise UsageError("holds no sweep", where=folder, remedy="name the folder of a sweep")
    recipe = Recipe.from_dict(facts["recipe"])
    return Plan(**{**facts, "recipe": recipe, "trials": trials or facts["trials"]})


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[optuna.Study]:
    """Open the study in a folder, or create one, with the folder locked."""
    path = folder / JOURNAL
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The system releases the lock when the process dies.
        with FileLock(folder.absolute() / ".lock", timeout=0) as lock:
            with path.open("ab") as journal:
                # Remove a partial line of a killed process; Optuna would append to it.
                journal.truncate(path.read_bytes().rfind(b"\n") + 1)
            try:
                study = optuna.create_study(
                    storage=JournalStorage(JournalFileBackend(str(path), cast(Any, lock))),
                    study_name="sweep", direction="maximize", load_if_exists=True,
                    pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2),
                )  # fmt: skip
            except (ValueError, LookupError, TypeError) as error:
                raise DataError("is damaged", where=path, remedy="use a new folder") from error
            yield study
    except Timeout as error:
        what, remedy = "another process is running this sweep", "wait until it ends"
        raise UsageError(what, where=folder, remedy=remedy) from error
    except OSError as error:
        what = f"cannot be written ({error.strerror or error})"
        remedy = "free some space or choose another folder; finished trials are kept"
        raise DigitryError(what, where=folder, remedy=remedy) from error


def ranking(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials with a result: complete ones (best first), then pruned, then failed ones."""
    order = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    rows = [(t, t.user_attrs.get("result", {})) for t in study.get_trials(states=order)]
    # A trial that failed without a reason was interrupted.
    rows = [(t, r) for t, r in rows if t.state != TrialState.FAIL or r.get("failure")]
    rows.sort(
        key=lambda row: (order.index(row[0].state), -(row[0].value or 0), row[1]["loss"] or 0)
    )
    return [trial for trial, _ in rows]


def importances(study: optuna.Study) -> dict[str, float]:
    """Return the importance of each field as Optuna computes it; empty below ten complete trials."""
    complete = study.get_trials(states=[TrialState.COMPLETE])
    return optuna.importance.get_param_importances(study) if len(complete) >= 10 else {}


def run_sweep(
    plan: Plan, dataset: "Dataset", folder: Path, *,
    device: str = "auto", console: "Console | None" = None, log: Sequence[str] = (),
) -> optuna.Study:  # fmt: skip
    """Run all trials that are left, until Ctrl-C; return the study.

    Args:
        plan: the plan of the sweep.
        dataset: its training part is used; the end of that is held out.
        folder: a new folder, or that of the same sweep on the same data.
        device: `auto`, `cpu`, `cuda` or `mps`.
        console: shows progress; None = no progress.
        log: trackers of each training, from `trackers.TRACKERS`.

    Raises:
        UsageError: the folder holds another sweep, or another process is running this one.
        DigitryError: the folder cannot be written.
    """
    facts = {**vars(plan), "recipe": plan.recipe.to_dict(), "settings": list(plan.settings)}
    with _opened(folder) as study, Display(console, plan.count) as steps:
        begun, data = study.user_attrs.get("plan", facts), study.user_attrs.get("data")
        if begun | {"trials": plan.trials} != facts or data not in (None, dataset.sha256):
            what = "holds a sweep with another plan or other data"
            raise UsageError(what, where=folder, remedy="use a new folder")
        study.set_user_attr("data", dataset.sha256)
        study.set_user_attr("plan", facts)
        _queue(study, plan)
        with contextlib.suppress(KeyboardInterrupt):
            while (done := len(ranking(study))) < plan.count:
                # Seeded by the trial's number, so that an interruption does not change the samples.
                seed = plan.recipe.seed + len(study.trials)
                study.sampler = optuna.samplers.TPESampler(seed=seed)
                trial = study.ask(cast(Any, plan.axes))
                setting = {
                    name: f"{value:.3g}" if isinstance(value, float) else str(value)
                    for name, value in trial.params.items()
                }
                words = " ".join(f"{name}={value}" for name, value in setting.items())
                steps.at(done, words)
                said, stop = _try(trial, setting, words, plan, dataset, folder, device, log)
                steps.line(f"{done + 1}/{plan.count}  {words}  {said}")
                if stop:
                    break
    return study


def _queue(study: optuna.Study, plan: Plan) -> None:
    """Enqueue the interrupted trials again, and what is left of a grid."""
    interrupted = study.get_trials(states=[TrialState.RUNNING])
    taken = [trial.params for trial in ranking(study)]
    waiting = study.get_trials(states=[TrialState.WAITING])
    taken += [trial.system_attrs["fixed_params"] for trial in waiting]
    for params in [*(trial.params for trial in interrupted), *plan.points]:
        if params not in taken:
            taken.append(params)
            study.enqueue_trial(params)
    for trial in interrupted:
        study.tell(trial.number, state=TrialState.FAIL)


def _try(
    trial: Trial, setting: dict[str, str], words: str,
    plan: Plan, dataset: "Dataset", folder: Path, device: str, log: Sequence[str],
) -> tuple[str, bool]:  # fmt: skip
    """Train a setting with each seed and store the result in the study.

    Returns:
        A summary for the progress display, and whether Ctrl-C was pressed.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed before the end; the trial stays in the state RUNNING.
    """
    from digitry.training.loop import trackers, train
    from digitry.training.network.build import keras

    began, failure = time.perf_counter(), ""
    made: list[train.Trained] = []

    def judge(epoch: int, logs: dict[str, float]) -> None:
        if not made:
            trial.report(logs["val_accuracy"], epoch + 1)
            if plan.prune and epoch + 1 < plan.recipe.epochs and trial.should_prune():
                watch.model.stop_training = True
                pruned.append(epoch)

    pruned: list[int] = []
    watch = keras.callbacks.LambdaCallback(on_epoch_end=judge)
    try:
        for seed in range(plan.recipe.seed, plan.recipe.seed + plan.seeds):
            recipe = replace(plan.recipe.override(setting), seed=seed)
            kept = folder / re.sub(r"[^\w.,=-]+", "-", f"{trial.number}-{words}-seed-{seed}")
            with trackers.follow(log, recipe, kept, scored=False) as told:
                made.append(
                    train.train(recipe, dataset.train, device=device, callbacks=[watch, *told])
                )
                if made[-1].interrupted or (made[-1].told_to_stop and len(made) < plan.seeds):
                    raise KeyboardInterrupt
            if pruned:
                break
    except (DataError, UnavailableError):
        # Not caused by the setting: every other training would fail in the same way.
        raise
    except (DigitryError, RuntimeError, ValueError) as error:
        failure = getattr(error, "what", "") or (str(error).splitlines() or [repr(error)])[0]
    # The epoch whose weights the model has: with `patience` the best one, else the last one.
    epochs = [one.history if one.recipe.patience is not None else one.history[-1:] for one in made]
    last = [min(history, key=lambda epoch: epoch.val_loss or 0.0) for history in epochs]
    result = {
        "setting": setting,
        "accuracies": [epoch.val_accuracy or 0.0 for epoch in last],
        "loss": statistics.fmean(epoch.val_loss or 0.0 for epoch in last) if last else None,
        "epochs": sum(len(one.history) for one in made),
        "parameters": int(made[0].model.count_params()) if made else 0,
        "seconds": round(time.perf_counter() - began, 2),
        "failure": failure,
    }
    trial.set_user_attr("result", result)
    state = TrialState.FAIL if failure else TrialState.PRUNED if pruned else None
    mean = statistics.fmean(epoch.val_accuracy or 0.0 for epoch in last) if last else 0.0
    trial.study.tell(trial, None if state else mean, state=state)
    said = failure or f"{'pruned at ' * bool(pruned)}{100 * mean:.2f}%"
    return f"{said}  {result['seconds']:.1f} s", bool(made) and made[-1].told_to_stop
