"""Many settings of one recipe, several seeds each, compared on held-out training images.

The settings are those of a `grid.Plan`. The test images are never looked at: they are for the one
setting that is chosen in the end.

The folder of a sweep holds `sweep.json`, what it is, and `runs.csv`, a line for each finished training,
replaced after each. So it may be stopped at any time, and goes on where it was. What trackers keep of a
training lies beneath, in a folder named after its setting and seed.
"""

import csv
import io
import json
import math
import re
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digitry import files
from digitry.errors import DataError, DigitryError, UnavailableError, UsageError
from digitry.progress import Display
from digitry.training.data.dataset import hold_out
from digitry.training.grid import Plan, Setting, words

if TYPE_CHECKING:
    from rich.console import Console

    from digitry.training.data.dataset import Dataset
    from digitry.training.loop.train import Trained

PLAN, TABLE = "sweep.json", "runs.csv"


@dataclass(frozen=True)
class Trial:
    """One finished training.

    Attributes:
        setting: its place among the plan's settings.
        seed: of the training.
        accuracy: on the held-out images, in [0, 1]; None if the training failed.
        loss: likewise, mean cross-entropy in nats.
        epochs: that were trained.
        parameters: of the network.
        seconds: of training.
        failure: why there is no accuracy; else empty.
    """

    setting: int
    seed: int
    accuracy: float | None
    loss: float | None
    epochs: int
    parameters: int
    seconds: float
    failure: str = ""


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """How good one setting is.

    Attributes:
        setting: its fields.
        trials: its trainings, by seed.
        mean: accuracy on held-out images, the mean over seeds, in [0, 1]; None if all failed.
        spread: standard deviation over seeds; None for fewer than two.
        interval: 95%, of the mean over seeds, by Student's t; None for fewer than two. It tells how
            much the seeds leave open, not how far the held-out images are like others.
        loss: mean over seeds, in nats; None if all failed.
        seconds: mean over seeds.
        failed: trainings without a result.
    """

    setting: Setting
    trials: tuple[Trial, ...]
    mean: float | None
    spread: float | None
    interval: tuple[float, float] | None
    loss: float | None
    seconds: float
    failed: int

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form."""
        return {
            "setting": dict(self.setting),
            "mean": self.mean,
            "spread": self.spread,
            "interval": None if self.interval is None else list(self.interval),
            "loss": self.loss,
            "seconds": self.seconds,
            "failed": self.failed,
            "parameters": max(trial.parameters for trial in self.trials),
            "seeds": [trial.seed for trial in self.trials],
            "accuracies": [trial.accuracy for trial in self.trials],
        }


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a sweep has come to.

    Attributes:
        folder: where it lies.
        plan: what it consists of.
        data: name of the data set.
        held_out: training images that were held out to judge by.
        trials: what is finished.
        interrupted: whether Ctrl-C ended it early.
    """

    folder: Path
    plan: Plan
    data: str
    held_out: int
    trials: tuple[Trial, ...]
    interrupted: bool = False

    def ranking(self) -> tuple[Ranked, ...]:
        """Give the settings that were trained at least once, the best first; failed ones last.

        The best has the highest mean accuracy, and among equals the lowest mean loss.
        """
        found = []
        for place, setting in enumerate(self.plan.settings):
            trials = tuple(trial for trial in self.trials if trial.setting == place)
            if trials:
                found.append(_ranked(setting, trials))
        return tuple(
            sorted(found, key=lambda one: (one.failed > 0, -(one.mean or 0.0), one.loss or 0.0))
        )


# --- the work -------------------------------------------------------------------------------------


def run_sweep(
    plan: Plan,
    dataset: "Dataset",
    folder: Path,
    *,
    device: str = "auto",
    console: "Console | None" = None,
    log: Sequence[str] = (),
) -> Sweep:
    """Train every setting with every seed, or what of it is left to do in the folder.

    A training that diverges, or whose network cannot be built, is noted as failed. Ctrl-C ends the
    training at hand, which is not counted; what was finished is in the table.

    Args:
        plan: what to train.
        dataset: on whose training part, of which the end is held out.
        folder: new or empty, or that of the same plan on the same data.
        device: `auto`, `cpu`, `cuda` or `mps`.
        console: where progress goes; None = nowhere.
        log: what each training is told to, among `tracking.TRACKERS`.

    Raises:
        UsageError: the folder holds another sweep, or something else.
        UnavailableError: a tracker is not here, or does not answer.
        DataError: a file in it is damaged, or there are too few images.
        DigitryError: the folder cannot be written.
    """

    held_out = len(hold_out(dataset.train, plan.recipe.validation)[1])
    facts = {
        "recipe": plan.recipe.to_dict(),
        "settings": [dict(setting) for setting in plan.settings],
        "seeds": list(plan.seeds),
        "data": {"name": dataset.name, "sha256": dataset.sha256, "held_out": held_out},
    }
    _claim(folder, facts)
    trials = list(read_table(folder / TABLE, plan))
    done = {(trial.setting, trial.seed) for trial in trials}
    interrupted = False
    with Display(console, len(plan.trainings)) as display:
        if done:
            display.line(f"{len(done)} of {len(plan.trainings)} trainings are done already")
        for place, seed in plan.trainings:
            if (place, seed) in done:
                continue
            trial, stop = _train(
                plan, place, seed, dataset, folder, device, display, len(trials), log
            )
            if trial is None:
                interrupted = True
                break
            trials.append(trial)
            files.write_text(folder / TABLE, _table(plan, trials))
            score = trial.failure or f"{100 * (trial.accuracy or 0):.2f}%"
            display.line(
                f"{len(trials)}/{len(plan.trainings)}  {words(plan.settings[place])}  seed {seed}  "
                f"{score}  {trial.seconds:.1f} s"
            )
            if stop:
                interrupted = len(trials) < len(plan.trainings)
                break
    return Sweep(
        folder=folder,
        plan=plan,
        data=dataset.name,
        held_out=held_out,
        trials=tuple(trials),
        interrupted=interrupted,
    )


def _train(
    plan: Plan,
    place: int,
    seed: int,
    dataset: "Dataset",
    folder: Path,
    device: str,
    display: Display,
    done: int,
    log: Sequence[str],
) -> tuple[Trial | None, bool]:
    """Make one training: what came of it, None if it was not ended, and whether to stop here."""
    from digitry.training.loop import trackers as tracking
    from digitry.training.loop import train
    from digitry.training.network.build import keras

    recipe = replace(plan.recipe.override(plan.settings[place]), seed=seed)
    text = f"{words(plan.settings[place])}  seed {seed}"
    display.at(done, text)

    class Watch(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            display.at(done, f"{text}  epoch {epoch + 1}/{recipe.epochs}")

    began = time.perf_counter()
    name = re.sub(r"[^\w.,=-]+", "-", words(plan.settings[place]))
    kept = folder / f"{name}-seed-{seed}"
    if log:
        # Of a training that was cut short, and now begins anew.
        shutil.rmtree(kept / tracking.EVENTS, ignore_errors=True)
    try:
        with tracking.follow(log, recipe, kept, scored=False) as trackers:
            trained = train.train(
                recipe, dataset.train, device=device, callbacks=[Watch(), *trackers]
            )
            if trained.interrupted:
                raise _CutShortError
    except _CutShortError:
        return None, True
    except (DataError, UnavailableError):
        # These are none of the setting's fault, and every other training would meet them, too.
        raise
    except DigitryError as error:
        spent = time.perf_counter() - began
        return Trial(place, seed, None, None, 0, 0, round(spent, 2), f"failed: {error.what}"), False
    return _trial(place, seed, trained), trained.told_to_stop


class _CutShortError(Exception):
    """A training that was interrupted: to its trackers it came to nothing."""


def _trial(place: int, seed: int, trained: "Trained") -> Trial:
    epochs = trained.history
    # With patience the model is that of the epoch with the least loss.
    judged = (
        min(epochs, key=lambda epoch: (epoch.val_loss or 0.0, epoch.number))
        if trained.recipe.patience is not None
        else epochs[-1]
    )
    return Trial(
        setting=place,
        seed=seed,
        accuracy=judged.val_accuracy,
        loss=judged.val_loss,
        epochs=len(epochs),
        parameters=int(trained.model.count_params()),
        seconds=round(trained.fit_seconds, 2),
    )


def _ranked(setting: Setting, trials: tuple[Trial, ...]) -> Ranked:
    scores = [trial.accuracy for trial in trials if trial.accuracy is not None]
    losses = [trial.loss for trial in trials if trial.loss is not None]
    mean = statistics.fmean(scores) if scores else None
    spread = statistics.stdev(scores) if len(scores) > 1 else None
    interval = None
    if mean is not None and spread is not None:
        from scipy.stats import t

        half = float(t.ppf(0.975, len(scores) - 1)) * spread / math.sqrt(len(scores))
        interval = (max(0.0, mean - half), min(1.0, mean + half))
    return Ranked(
        setting=setting,
        trials=tuple(sorted(trials, key=lambda trial: trial.seed)),
        mean=mean,
        spread=spread,
        interval=interval,
        loss=statistics.fmean(losses) if losses else None,
        seconds=statistics.fmean(trial.seconds for trial in trials),
        failed=len(trials) - len(scores),
    )


# --- the folder -----------------------------------------------------------------------------------


def _claim(folder: Path, facts: dict[str, Any]) -> None:
    """Make the folder, or see that this very sweep was begun in it."""
    path = folder / PLAN
    if folder.exists() and not folder.is_dir():
        raise UsageError("is a file", where=folder, remedy="name a new folder")
    if not path.exists():
        if (folder / TABLE).exists():
            raise DataError(
                "is missing beside runs.csv", where=path, remedy="put it back, or name a new folder"
            )
        if folder.is_dir() and any(folder.iterdir()):
            raise UsageError("is not empty", where=folder, remedy="name a new folder")
        files.write_json(path, facts)
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            "is not what a sweep wrote", where=path, remedy="put it back, or name a new folder"
        ) from error
    if before != facts:
        other = [
            name
            for name in facts
            if not isinstance(before, dict) or before.get(name) != facts[name]
        ]
        raise UsageError(
            f"holds another sweep: its {' and '.join(other)} differ",
            where=folder,
            remedy="name a new folder, or ask for the same sweep to go on with it",
        )


_COLUMNS = tuple(field.name for field in fields(Trial))


def _table(plan: Plan, trials: Sequence[Trial]) -> str:
    """Give the text of runs.csv: the setting's number from 1, its fields, then what came of it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["setting", *plan.fields, *_COLUMNS[1:]])
    for trial in trials:
        rest = [getattr(trial, name) for name in _COLUMNS[1:]]
        writer.writerow(
            [
                trial.setting + 1,
                *plan.settings[trial.setting].values(),
                *("" if value is None else value for value in rest),
            ]
        )
    return text.getvalue()


def read_table(path: Path, plan: Plan) -> tuple[Trial, ...]:
    """Read runs.csv back; nothing if there is none yet.

    Raises:
        DataError: it is not the table of this plan, or is damaged.
    """
    if not path.exists():
        return ()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DataError("is no text", where=path, remedy="name a new folder") from error
    trials: dict[tuple[int, int], Trial] = {}
    rows = csv.DictReader(io.StringIO(text), strict=True)
    try:
        for row in rows:
            trial = _trial_of(row, plan)
            if (trial.setting, trial.seed) in trials:
                raise ValueError("a training that stands there twice")
            trials[trial.setting, trial.seed] = trial
    except (ValueError, csv.Error) as error:
        raise DataError(
            f"is not what the sweep wrote ({error})",
            where=f"{path}, line {rows.line_num}",
            remedy="take the line out, and its training is done again; or name a new folder",
        ) from error
    return tuple(trials.values())


def _trial_of(row: dict[str, Any], plan: Plan) -> Trial:
    """Read a line of runs.csv; a ValueError says what is wrong with it."""

    def number(name: str, low: float, high: float = math.inf) -> float:
        try:
            value = float(row[name])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{name} is no number") from error
        if not (math.isfinite(value) and low <= value <= high):
            raise ValueError(f"{name} is {row[name]}")
        return value

    place, seed = int(number("setting", 1)) - 1, int(number("seed", 0))
    if (place, seed) not in plan.trainings or any(
        row.get(name) != value for name, value in plan.settings[place].items()
    ):
        raise ValueError("a training that is not planned")
    failure = row.get("failure") or ""
    if failure and (row.get("accuracy") or row.get("loss")):
        raise ValueError("a failure with a score")
    return Trial(
        setting=place,
        seed=seed,
        accuracy=None if failure else number("accuracy", 0, 1),
        loss=None if failure else number("loss", 0),
        epochs=int(number("epochs", 0)),
        parameters=int(number("parameters", 0)),
        seconds=number("seconds", 0),
        failure=failure,
    )
