"""The verb that compares many settings of a recipe."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from digitry.cli import options
from digitry.cli.app import TRAIN, app
from digitry.cli.text import console_for, print_json, table_of
from digitry.errors import UsageError

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

    from digitry.training.data.dataset import Dataset
    from digitry.training.sweep import Plan

SET_HELP = """Values to try for a field: lr=1e-3,3e-3. Values that are lists are separated by bars:
hidden=128|256,128. Or a range: lr=1e-4..1e-2. Repeatable."""
PRUNE_HELP = """Train every setting to the end. Without it, a setting whose first training is below the
median of the others at the same epoch stops there."""
RESUME_HELP = "Continue the sweep in this folder; --trials may give a new number of settings."


@app.command(rich_help_panel=TRAIN)
def sweep(
    recipe: Annotated[
        str | None, typer.Argument(help="Name of a recipe; `digitry recipes` lists them.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUES", help=SET_HELP)
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Settings to try. Default: all combinations; ranges need it."),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Trainings per setting, each with another seed.")
    ] = 1,
    epochs: options.Epochs = None,
    seed: options.Seed = None,
    no_prune: Annotated[bool, typer.Option("--no-prune", help=PRUNE_HELP)] = False,
    data: options.TrainingData = None,
    data_dir: options.DataDir = None,
    device: options.Device = "auto",
    out: Annotated[
        Path | None, typer.Option(help="New folder. Default: `runs/sweep-<recipe>-<time>`.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help=RESUME_HELP)] = None,
    log: options.Log = None,
    format_: options.AsFormat = options.Format.TEXT,
    quiet: options.Quiet = False,
) -> None:
    """Compare settings of a recipe on held-out training images and list the best first."""
    options.check_device(device)
    options.require_training(*options.KERAS, "matplotlib")
    options.require_training("optuna", "filelock", extra="sweep")
    from digitry.training import datasets, recipes, run_folder
    from digitry.training import sweep as sweeps

    if resume is not None:
        if any((recipe, set_, seeds > 1, epochs, seed is not None, no_prune, data, data_dir, out)):
            raise UsageError(
                "a resumed sweep keeps its settings",
                where="--resume",
                remedy="give only --trials with it, or start a new sweep",
            )
        folder, plan = resume, sweeps.plan_in(resume, trials)
    elif recipe is None:
        raise UsageError("no recipe is given", remedy="`digitry recipes` lists them")
    else:
        chosen = recipes.find(recipe).override(options.recipe_settings(None, epochs, seed))
        source = data or chosen.data
        if not datasets.is_named(source):
            source = str(Path(source).expanduser().absolute())
        plan = sweeps.Plan(
            recipe=replace(chosen, data=source), settings=set_ or [], seeds=seeds, trials=trials,
            prune=not no_prune, data_dir=None if data_dir is None else str(data_dir.absolute()),
        )  # fmt: skip
        folder = out or run_folder.default_folder(f"sweep-{recipe}")
        run_folder.check_new(folder, sweeps.JOURNAL, "sweep")
    options.with_keras(*options.KERAS, *options.modules_for_data(plan.recipe.data))
    from digitry.training.loop import trackers
    from digitry.training.loop.device import find_device

    trackers.check(log or [])
    find_device(device)
    console = None if quiet else console_for(stderr=True)
    where = Path(plan.data_dir) if plan.data_dir else None
    dataset = datasets.load_dataset(plan.recipe.data, data_dir=where, console=console)
    study = sweeps.run_sweep(plan, dataset, folder, device=device, console=console, log=log or ())
    _print_result(plan, study, dataset, folder, format_)
    if len(sweeps.ranking(study)) < plan.count:
        print(f"digitry: interrupted; continue: digitry sweep --resume {folder}", file=sys.stderr)
        raise typer.Exit(130)


def _print_result(
    plan: "Plan", study: "Study", dataset: "Dataset", folder: Path, format: options.Format
) -> None:
    """Draw the plot of a sweep and print its ranking."""
    from digitry.training import sweep as sweeps
    from digitry.training.data.dataset import hold_out
    from digitry.training.report.sweep_plot import write_sweep

    held_out = len(hold_out(dataset.train, plan.recipe.validation)[1])
    ranking = sweeps.ranking(study)
    best = next((trial for trial in ranking if trial.state.name == "COMPLETE"), None)
    plot = None if best is None else str(write_sweep(study, folder))
    line = None if best is None else _train_line(plan, best.user_attrs["result"]["setting"])
    if format is options.Format.JSON:
        rows = [
            {"number": trial.number, "state": trial.state.name.lower(), "mean": trial.value}
            | trial.user_attrs["result"]
            for trial in ranking
        ]
        print_json({
            "recipe": plan.recipe.to_dict(), "data": dataset.name, "held_out": held_out,
            "trials": plan.count, "finished": len(ranking), "ranking": rows,
            "importances": sweeps.importances(study), "train": line, "folder": str(folder), "plot": plot,
        })  # fmt: skip
        return
    print(
        f"{plan.recipe.name} on {dataset.name}: {len(ranking)} of {plan.count} settings tried; "
        f"accuracy on {held_out:,} held-out training images"
    )
    _print_table(plan, ranking)
    if line is not None:
        print(f"plot: {plot}\nto train the best setting: {line}")


def _print_table(plan: "Plan", ranking: "list[FrozenTrial]") -> None:
    from statistics import stdev

    table = table_of(*plan.axes, "accuracy>", "spread>", "loss>", "parameters>", "seconds>", "")
    for trial in ranking:
        result, mean = trial.user_attrs["result"], trial.value
        scores, loss = result["accuracies"], result["loss"]
        pruned = f"pruned after epoch {result['epochs']}" if trial.state.name == "PRUNED" else ""
        table.add_row(
            *result["setting"].values(),
            "–" if mean is None else f"{mean:.2%}",
            f"{100 * stdev(scores):.2f}" if len(scores) > 1 else "–",
            "–" if loss is None else f"{loss:.4f}",
            f"{result['parameters']:,}",
            f"{result['seconds']:.1f}",
            result["failure"] or pruned,
        )
    console_for().print(table)


def _train_line(plan: "Plan", setting: dict[str, str]) -> str:
    """Return the command that trains a setting and evaluates it on the test images."""
    from digitry.training.recipes import find

    recipe, named = plan.recipe, find(plan.recipe.name)
    words = ["digitry", "train", recipe.name]
    words += [word for name, value in setting.items() for word in ("--set", f"{name}={value}")]
    words += ["--epochs", str(recipe.epochs)]
    words += ["--seed", str(recipe.seed)] if recipe.seed != named.seed else []
    words += ["--data", recipe.data] if recipe.data != named.data else []
    return shlex.join([*words, *(("--data-dir", plan.data_dir) if plan.data_dir else ())])
