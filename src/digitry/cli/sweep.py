"""The verb that compares many settings of a recipe."""

import dataclasses
import shlex
import sys
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from digitry.cli.app import app
from digitry.cli.options import (
    DATA_DIR_HELP,
    DATA_HELP,
    DEVICE_HELP,
    EPOCHS_HELP,
    KERAS,
    SEED_HELP,
    AsFormat,
    Format,
    check_device,
    modules_for_data,
    recipe_settings,
    require_training,
)
from digitry.cli.text import console_for, print_json, table_of
from digitry.errors import UsageError

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from digitry.training.sweep import Plan


class Search(StrEnum):
    """How the settings are chosen; see `digitry.training.sweep.SEARCHES`."""

    GRID = "grid"
    RANDOM = "random"
    TPE = "tpe"


@app.command()
def sweep(
    recipe: Annotated[
        str | None, typer.Argument(help="Name of a recipe; `digitry recipes` lists them.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUES",
            help="Values of a field, by comma or bar: lr=1e-3,3e-3; those that are lists themselves "
            "by bar alone: hidden=128|256,128; or a range: lr=1e-4..1e-2. Repeatable.",
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Settings to try. Default: every combination of a grid.")
    ] = None,
    search: Annotated[
        Search | None,
        typer.Option(
            help="grid, random or tpe, which learns from the trials before. Default: grid; with a "
            "range, tpe."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each setting.")] = 1,
    epochs: Annotated[int | None, typer.Option(help=EPOCHS_HELP)] = None,
    seed: Annotated[int | None, typer.Option(help=SEED_HELP)] = None,
    no_prune: Annotated[
        bool,
        typer.Option(
            "--no-prune",
            help="Train every setting to the end. Without it one whose first training is below the "
            "median of the others at the same epoch ends there.",
        ),
    ] = False,
    data: Annotated[
        str | None, typer.Option(help=f"{DATA_HELP} Default: the recipe's own.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help=DATA_DIR_HELP)] = None,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder, new, or of the same sweep, which goes on then. "
            "Default: `runs/sweep-<recipe>-<time>`."
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a sweep that is to go on, or to get another process; with --trials, to a new "
            "number of settings."
        ),
    ] = None,
    log: Annotated[
        list[str] | None,
        typer.Option(help="Follow each in tensorboard or mlflow, if installed. Repeatable."),
    ] = None,
    format_: AsFormat = Format.TEXT,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Compare settings of a recipe on held-out training images, the best first."""
    check_device(device)
    require_training(*KERAS, "matplotlib")
    require_training("optuna", "filelock", extra="sweep")
    from digitry.training import datasets, recipes
    from digitry.training import sweep as sweeping
    from digitry.training.data.dataset import hold_out
    from digitry.training.report import sweep_plot

    if resume is not None:
        if (
            recipe
            or set_
            or search
            or seeds != 1
            or epochs
            or seed is not None
            or data
            or out
            or data_dir
        ):
            raise UsageError(
                "a sweep goes on with what it began with",
                where="--resume",
                remedy="of the options that say what to train, --trials alone may be new",
            )
        folder, plan = resume, sweeping.plan_in(resume, trials)
    elif recipe is None:
        raise UsageError("no recipe is named", remedy="digitry recipes lists them")
    else:
        chosen = recipes.find(recipe).override(recipe_settings(None, epochs, seed))
        source = data or chosen.data
        if source not in datasets.NAMED:
            source = str(Path(source).expanduser().absolute())
        plan = sweeping.plan_of(
            dataclasses.replace(chosen, data=source), set_ or [],
            seeds=seeds, trials=trials, search=search and str(search), prune=not no_prune,
            data_dir=None if data_dir is None else str(data_dir.absolute()),
        )  # fmt: skip
        folder = out or _new_folder(chosen.name)
    require_training(*modules_for_data(plan.recipe.data))
    from digitry.training.loop import trackers, train

    trackers.check(log or [])
    train.find_device(device)
    console = None if quiet else console_for(stderr=True)
    dataset = datasets.load_dataset(
        plan.recipe.data, data_dir=Path(plan.data_dir) if plan.data_dir else None, console=console
    )
    study, interrupted = sweeping.run_sweep(
        plan, dataset, folder, device=device, console=console, log=log or ()
    )
    held_out = len(hold_out(dataset.train, plan.recipe.validation)[1])
    ranking = sweeping.ranking(study)
    best = ranking[0] if ranking and ranking[0].state.name == "COMPLETE" else None
    plot = None if best is None else sweep_plot.write_sweep(study, plan, folder)
    train_line = None if best is None else _train_line(plan, best)
    if format_ is Format.JSON:
        print_json(
            {
                "recipe": plan.recipe.to_dict(),
                "data": dataset.name,
                "held_out": held_out,
                "search": plan.search,
                "trials": plan.trials,
                "finished": len(ranking),
                "ranking": [_row(trial) for trial in ranking],
                "importances": sweeping.importances(study),
                "train": train_line,
                "folder": str(folder),
                "plot": None if plot is None else str(plot),
            }
        )
    else:
        print(
            f"{plan.recipe.name} on {dataset.name}: {len(ranking)} of {plan.trials} settings tried, "
            f"judged on {held_out:,} held-out training images"
        )
        _print_table(plan, ranking)
        if train_line is not None:
            print(plot)
            print(f"the best, for the test images: {train_line}")
    if interrupted:
        print(f"digitry: interrupted; go on with: digitry sweep --resume {folder}", file=sys.stderr)
        raise typer.Exit(130)


def _new_folder(name: str) -> Path:
    wish = Path("runs") / f"sweep-{name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    folder, number = wish, 2
    while folder.exists():
        folder, number = wish.with_name(f"{wish.name}-{number}"), number + 1
    return folder


def _row(trial: "FrozenTrial") -> dict[str, Any]:
    """Return the JSON form of a trial."""
    facts = {"number": trial.number, "state": trial.state.name.lower(), "mean": trial.value}
    return {**facts, **trial.user_attrs["result"]}


def _print_table(plan: "Plan", ranking: "list[FrozenTrial]") -> None:
    from statistics import stdev

    table = table_of(*plan.axes, "accuracy>", "spread>", "loss>", "parameters>", "seconds>", "")
    for trial in ranking:
        result = trial.user_attrs["result"]
        scores, failure = result["accuracies"], result["failure"]
        pruned = f"pruned after epoch {result['epochs']}" if trial.state.name == "PRUNED" else ""
        table.add_row(
            *result["setting"].values(),
            "–" if trial.value is None else f"{100 * trial.value:.2f}%",
            f"{100 * stdev(scores):.2f}" if len(scores) > 1 else "–",
            "–" if result["loss"] is None else f"{result['loss']:.4f}",
            f"{result['parameters']:,}",
            f"{result['seconds']:.1f}",
            failure or pruned,
        )
    console_for().print(table)


def _train_line(plan: "Plan", best: "FrozenTrial") -> str:
    """Return the command that trains the best setting, and measures it on the test images."""
    from digitry.training.recipes import find

    recipe, named = plan.recipe, find(plan.recipe.name)
    words = [
        f"--set {name}={value}" for name, value in best.user_attrs["result"]["setting"].items()
    ]
    words.append(f"--epochs {recipe.epochs}")
    if recipe.seed != named.seed:
        words.append(f"--seed {recipe.seed}")
    wanted = {
        "--data": None if recipe.data == named.data else recipe.data,
        "--data-dir": plan.data_dir,
    }
    words += [f"{name} {shlex.quote(str(value))}" for name, value in wanted.items() if value]
    return f"digitry train {recipe.name} {' '.join(words)}"
