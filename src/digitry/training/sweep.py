"""Many settings of one recipe, compared on held-out training images: Optuna proposes, we train.

The test images are never looked at: they are for the one setting that is chosen in the end.

A sweep is an Optuna study, kept in the file `trials.journal` of its folder: it may be stopped at any time
and goes on where it was, and several processes may work on it. A trial is one setting, trained with each
seed; what came of it is its attribute `result`. A trial that ended without one is tried again.
"""

import itertools
import json
import math
import random
import re
import shutil
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from digitry.errors import DataError, DigitryError, UnavailableError, UsageError
from digitry.training.progress import Steps
from digitry.training.recipes import SHORT, Recipe

if TYPE_CHECKING:
    from rich.console import Console

    from digitry.training.data.dataset import Dataset
    from digitry.training.loop.train import Trained

SEARCHES = ("grid", "random", "tpe")
"""Every combination; drawn by chance; by a tree-structured Parzen estimator, which learns from trials."""

HELD_OUT = 1 / 6
"""Share of the training images that is held out where the recipe holds out none: MNIST's 10,000."""

MOST = 10_000
"""Most trainings of one sweep."""

FIXED = ("name", "summary", "seed", "data", "validation", "epochs", "distil")
"""Fields that are the same for every setting, or have an option of their own."""

LISTS = ("hidden", "kernels", "pools")
"""Fields whose values are lists of numbers, and so have commas of their own."""

LOGARITHMIC = ("learning_rate", "batch_size")
"""Fields whose ranges are searched by their logarithm."""

JOURNAL, LOCK = "trials.journal", ".lock"

Axis = CategoricalDistribution | FloatDistribution | IntDistribution


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a sweep consists of.

    Attributes:
        recipe: what all trainings have in common; its seed is that of the search and the first training.
        settings: what they differ in: `field=value,value`, `field=value|value` or `field=low..high`; for
            `LISTS`, whose values have commas of their own, not the first.
        seeds: trainings of each setting.
        search: among `SEARCHES`.
        trials: settings to try.
        prune: whether a training ends once it is below the median of the others at the same epoch.
        data_dir: folder of the data, where one was named.
    """

    recipe: Recipe
    settings: tuple[str, ...]
    seeds: int
    search: str
    trials: int
    prune: bool
    data_dir: str | None = None

    @property
    def axes(self) -> dict[str, Axis]:
        """The fields that differ, and where their values come from."""
        return dict(map(_axis, self.settings))

    @property
    def points(self) -> list[dict[str, str]]:
        """The settings of a grid, in the order in which they are tried; none for another search."""
        if self.search != "grid":
            return []
        points = [
            dict(zip(self.axes, v, strict=True)) for v in itertools.product(*_values(self.axes))
        ]
        if self.trials < len(points):
            random.Random(self.recipe.seed).shuffle(points)
        return points[: self.trials]

    def setting(self, params: Mapping[str, Any]) -> dict[str, str]:
        """Return Optuna's parameters as `--set` takes them, numbers of a range to three figures."""
        return {
            name: f"{min(max(float(f'{params[name]:.3g}'), axis.low), axis.high):g}"
            if isinstance(axis, FloatDistribution)
            else str(params[name])
            for name, axis in self.axes.items()
        }


def plan_of(
    recipe: Recipe,
    settings: Sequence[str],
    *,
    seeds: int = 1,
    trials: int | None = None,
    search: str | None = None,
    prune: bool = True,
    data_dir: str | None = None,
) -> Plan:
    """Return the plan of a sweep, once the recipe takes every combination of values and ends of ranges.

    Args:
        recipe, settings, seeds, prune, data_dir: as for `Plan`.
        trials: settings to try; None = all of a grid.
        search: among `SEARCHES`; None = `grid`, or `tpe` where there is a range.

    Raises:
        UsageError: a setting cannot be read or trained, or it is not clear what to try.
    """
    pairs = [_axis(text) for text in settings]
    axes = dict(pairs)
    if not axes or len(axes) < len(pairs):
        what = "a field is given twice" if axes else "there is nothing to vary"
        raise UsageError(
            what, where="--set", remedy="write each field once: --set field=value,value"
        )
    ranges = [name for name, axis in pairs if not isinstance(axis, CategoricalDistribution)]
    search = search or ("tpe" if ranges else "grid")
    if search not in SEARCHES or (ranges and search == "grid"):
        what = f"a grid needs values, and {ranges[0]} is a range" if ranges else f"no {search!r}"
        raise UsageError(
            what, where="--search", remedy="choose tpe or random; grid for lists alone"
        )
    size = math.prod(map(len, _values(axes)))
    if trials is None and search != "grid":
        raise UsageError("a search needs a number of settings", remedy="add --trials N")
    count = min(trials or size, size) if search == "grid" else trials or 0
    if not (count >= 1 and seeds >= 1 and count * seeds <= MOST and size <= MOST):
        raise UsageError(
            f"{max(count * seeds, size):,} trainings are too many or none",
            remedy=f"1 to {MOST:,} are possible; change --set, --trials or --seeds",
        )
    base = replace(recipe, validation=recipe.validation or HELD_OUT)
    for values in itertools.product(*_values(axes)):
        base.override(dict(zip(axes, values, strict=True)))
    return Plan(
        recipe=base, settings=tuple(settings), seeds=seeds, search=search, trials=count, prune=prune,
        data_dir=data_dir,
    )  # fmt: skip


def _values(axes: Mapping[str, Axis]) -> list[tuple[str, ...]]:
    """Return the values of each list, and the ends of each range."""
    return [
        tuple(map(str, axis.choices))
        if isinstance(axis, CategoricalDistribution)
        else (str(axis.low), str(axis.high))
        for axis in axes.values()
    ]


def _axis(text: str) -> tuple[str, Axis]:
    field, equals, values = (part.strip() for part in text.partition("="))
    name = SHORT.get(field, field)
    listed = [v.strip() for v in values.split("|" if "|" in values or name in LISTS else ",")]
    if not equals or not name or "" in listed:
        raise UsageError(
            f"{text!r} is not a list of values", where="--set", remedy="write field=value,value"
        )
    if name in FIXED:
        raise UsageError(
            f"{name} is the same for all settings",
            where="--set",
            remedy="leave it away; --epochs, --seed and --seeds are options",
        )
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
        raise UsageError(
            f"{values} is not a range of {name}",
            where="--set",
            remedy=f"write field=low..high{' with low above 0' * log}, or list values",
        ) from error


# --- the folder -----------------------------------------------------------------------------------


def plan_in(folder: Path, trials: int | None = None) -> Plan:
    """Return the plan of a sweep that was begun, perhaps with another number of trials.

    Raises:
        UsageError: there is no sweep in the folder.
        DataError: its journal is damaged.
    """
    study = _open(folder) if (folder / JOURNAL).exists() else None
    if study is None or "plan" not in study.user_attrs:
        raise UsageError("holds no sweep", where=folder, remedy="name the folder of one")
    facts: dict[str, Any] = study.user_attrs["plan"]
    recipe = Recipe.from_dict(facts["recipe"])
    return plan_of(**{**facts, "recipe": recipe, "trials": trials or facts["trials"]})


def _lock(folder: Path) -> FileLock:
    # One for the journal and for what must happen at once, so it may be taken within itself; the system
    # frees it when a process dies.
    return FileLock(folder.absolute() / LOCK, is_singleton=True)


def _open(folder: Path) -> optuna.Study:
    """Open the study in a folder, or begin one there."""
    path = folder / JOURNAL
    names = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
    if JOURNAL not in names and any(not name.startswith(".") for name in names):
        raise UsageError("holds no sweep", where=folder, remedy="name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with _lock(folder) as lock:
            text = path.read_bytes() if path.exists() else b""
            # A process that was killed as it wrote left part of a line.
            whole = text[: text.rfind(b"\n") + 1]
            if whole != text:
                path.write_bytes(whole)
            # Optuna takes a last line that is no JSON for one that is still being written.
            for line in whole.splitlines():
                json.loads(line)
            known: dict[str, Any] = {
                "study_name": "sweep",
                "storage": JournalStorage(JournalFileBackend(str(path), cast(Any, lock))),
                "pruner": optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2),
            }
            if whole:
                return optuna.load_study(**known)
            return optuna.create_study(direction="maximize", **known)
    except (ValueError, LookupError, TypeError) as error:
        raise DataError("is damaged", where=path, remedy="name a new folder") from error
    finally:
        optuna.logging.set_verbosity(level)


def _begin(study: optuna.Study, folder: Path, plan: Plan, dataset: "Dataset") -> None:
    """Note the plan in a new study; in one that was begun, see that it is the same."""
    facts = {field.name: getattr(plan, field.name) for field in fields(plan)}
    facts |= {"recipe": plan.recipe.to_dict(), "settings": list(plan.settings)}
    with _lock(folder):
        begun = study.user_attrs
        other = [
            name
            for name in ("recipe", "settings", "seeds", "search", "prune")
            if begun.get("plan", facts)[name] != facts[name]
        ]
        if begun.get("data", dataset.sha256) != dataset.sha256:
            other.append("data")
        if other:
            raise UsageError(
                f"holds another sweep: its {' and '.join(other)} differ",
                where=folder,
                remedy="name a new folder, or go on with it by --resume",
            )
        for name, value in (("plan", facts), ("data", dataset.sha256)):
            if begun.get(name) != value:
                study.set_user_attr(name, value)


# --- the work -------------------------------------------------------------------------------------


def run_sweep(
    plan: Plan,
    dataset: "Dataset",
    folder: Path,
    *,
    device: str = "auto",
    console: "Console | None" = None,
    log: Sequence[str] = (),
) -> tuple[optuna.Study, bool]:
    """Try what is left to try; return the study, and whether Ctrl-C ended it before all was tried.

    Args:
        plan: what to try.
        dataset: on whose training part, of which the end is held out.
        folder: new or empty, or that of the same sweep on the same data.
        device: `auto`, `cpu`, `cuda` or `mps`.
        console: where progress goes; None = nowhere.
        log: what each training is told to, among `trackers.TRACKERS`.

    Raises:
        UsageError: the folder holds another sweep, or something else.
        UnavailableError: a tracker is not here, or does not answer.
        DataError: there are too few images, or the journal is damaged.
        DigitryError: the folder cannot be written.
    """
    stopped = False
    try:
        study = _open(folder)
        _begin(study, folder, plan, dataset)
        worker = FileLock(folder / f"{LOCK}-{uuid4().hex}")
        with Steps(console, plan.trials) as steps, worker:
            while not stopped and (trial := _next(study, folder, plan, worker)) is not None:
                try:
                    stopped = _try(study, trial, folder, plan, dataset, device, steps, log)
                except BaseException as error:
                    _give_up(study, folder, trial.number)
                    if not isinstance(error, _CutShortError):
                        raise
                    stopped = True
        Path(worker.lock_file).unlink(missing_ok=True)
    except OSError as error:
        raise DigitryError(
            f"cannot be written ({error.strerror or error})",
            where=folder,
            remedy="free space or choose another folder; what was finished is kept",
        ) from error
    return study, stopped and len(ranking(study)) < plan.trials


def ranking(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials with a result, the best first: highest mean accuracy, then least loss.

    Behind those that were trained to the end stand pruned ones, then failed ones.
    """
    order = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    return sorted(
        (t for t in study.get_trials() if t.state.is_finished() and not _is_cut(t)),
        key=lambda t: (
            order.index(t.state),
            -(t.value or 0.0),
            t.user_attrs["result"]["loss"] or 0.0,
        ),
    )


def importances(study: optuna.Study) -> dict[str, float]:
    """Return the share of each field in the differences, by PED-ANOVA (Watanabe et al., IJCAI 2023).

    Empty with fewer than ten complete trials, which tell too little.
    """
    if sum(trial.state == TrialState.COMPLETE for trial in study.get_trials()) < 10:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        return optuna.importance.get_param_importances(study, evaluator=evaluator)


def _next(study: optuna.Study, folder: Path, plan: Plan, worker: FileLock) -> Trial | None:
    """Return the next trial to train: one that was cut short, or a new one; None if all are begun."""
    with _lock(folder):
        for trial in study.get_trials(states=[TrialState.RUNNING]):
            # Whoever is at work holds his lock.
            other = FileLock(folder / trial.user_attrs.get("worker", f"{LOCK}-none"))
            try:
                with other.acquire(timeout=0):
                    _give_up(study, folder, trial.number)
                Path(other.lock_file).unlink(missing_ok=True)
            except Timeout:
                continue
        trials = study.get_trials()
        cut = [_is_cut(trial) for trial in trials]
        taken = [set(t.params.items()) for t, short in zip(trials, cut, strict=True) if not short]
        again = [t.params for t, short in zip(trials, cut, strict=True) if short]
        whole = [params for params in again if len(params) == len(plan.axes)]
        wanted = (point for point in [*whole, *plan.points] if set(point.items()) not in taken)
        if all(trial.state != TrialState.WAITING for trial in trials):
            if point := next(wanted, None):
                study.enqueue_trial(point)
            elif len(taken) >= plan.trials:
                return None
        # Seeded by the number of the trial: what is drawn does not depend on when a sweep was stopped.
        seed = plan.recipe.seed + len(trials)
        samplers = optuna.samplers
        study.sampler = (
            samplers.TPESampler(seed=seed)
            if plan.search == "tpe"
            else samplers.RandomSampler(seed=seed)
        )
        new = study.ask(cast(Any, plan.axes))
        new.set_user_attr("worker", Path(worker.lock_file).name)
        return new


def _is_cut(trial: FrozenTrial) -> bool:
    # A process may die between noting what came of a training and telling the study that it is over.
    result = trial.user_attrs.get("result", {"failure": ""})
    return trial.state == TrialState.FAIL and not result["failure"]


def _give_up(study: optuna.Study, folder: Path, number: int) -> None:
    """End a trial without a result, and forget what trackers have of it."""
    study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
    for kept in folder.glob(f"{number}-*"):
        shutil.rmtree(kept, ignore_errors=True)


class _CutShortError(Exception):
    """A training that was interrupted: to its trackers it came to nothing."""


def _try(
    study: optuna.Study,
    trial: Trial,
    folder: Path,
    plan: Plan,
    dataset: "Dataset",
    device: str,
    steps: Steps,
    log: Sequence[str],
) -> bool:
    """Train one setting with each seed and tell the study; return whether Ctrl-C came at its end."""
    from digitry.training.loop import trackers, train

    setting, began = plan.setting(trial.params), time.perf_counter()
    words = " ".join(f"{name}={value}" for name, value in setting.items())
    name = re.sub(r"[^\w.,=-]+", "-", words)
    done = len(ranking(study))
    made: list[Trained] = []
    failure = ""
    watch = _watch(trial, plan, lambda epoch: steps.at(done, f"{words}  epoch {epoch}"))
    try:
        recipe = plan.recipe.override(setting)
        for seed in range(recipe.seed, recipe.seed + plan.seeds):
            kept = folder / f"{trial.number}-{name}-seed-{seed}"
            one = replace(recipe, seed=seed)
            with trackers.follow(log, one, kept, scored=False) as callbacks:
                made.append(
                    train.train(one, dataset.train, device=device, callbacks=[watch, *callbacks])
                )
                if made[-1].interrupted or (made[-1].told_to_stop and len(made) < plan.seeds):
                    raise _CutShortError
            if watch.pruned:
                break
    except (DataError, UnavailableError):
        # These are none of the setting's fault, and every other training would meet them, too.
        raise
    except (DigitryError, RuntimeError, ValueError) as error:
        failure = getattr(error, "what", "") or (str(error).splitlines() or [repr(error)])[0]
    judged = [_judged(one) for one in made]
    accuracies = [accuracy for accuracy, _ in judged]
    result = {
        "setting": setting,
        "accuracies": accuracies,
        "loss": statistics.fmean(loss for _, loss in judged) if judged else None,
        "epochs": sum(len(one.history) for one in made),
        "parameters": int(made[0].model.count_params()) if made else 0,
        "seconds": round(time.perf_counter() - began, 2),
        "failure": failure,
    }
    trial.set_user_attr("result", result)
    if failure or watch.pruned:
        study.tell(trial, state=TrialState.FAIL if failure else TrialState.PRUNED)
    else:
        study.tell(trial, statistics.fmean(accuracies))
    told = failure or f"{'pruned at ' * watch.pruned}{100 * statistics.fmean(accuracies):.2f}%"
    steps.line(f"{len(ranking(study))}/{plan.trials}  {words}  {told}  {result['seconds']:.1f} s")
    return bool(made) and made[-1].told_to_stop


def _watch(trial: Trial, plan: Plan, show: Callable[[int], None]) -> Any:
    """Return the callback that tells Optuna of each epoch with the first seed, and prunes."""
    from digitry.training.network.build import keras

    class Watch(keras.callbacks.Callback):  # type: ignore[misc]
        pruned = over = False

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            show(epoch + 1)
            if self.over:
                return
            trial.report(logs["val_accuracy"], epoch + 1)
            if plan.prune and epoch + 1 < plan.recipe.epochs and trial.should_prune():
                self.pruned = self.model.stop_training = True

        def on_train_end(self, logs: Any = None) -> None:
            self.over = True

    return Watch()


def _judged(trained: "Trained") -> tuple[float, float]:
    """Return accuracy and loss on the held-out images, of the epoch whose weights the model has."""
    epochs = [(epoch.val_loss or 0.0, epoch.val_accuracy or 0.0) for epoch in trained.history]
    loss, accuracy = (
        min(epochs, key=lambda pair: pair[0]) if trained.recipe.patience is not None else epochs[-1]
    )
    return accuracy, loss
