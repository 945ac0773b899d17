"""The verb that compares many settings of a recipe."""

import dataclasses
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from digitry.cli.app import app
from digitry.cli.options import (
    DATA_DIR_HELP,
    DATA_HELP,
    KERAS,
    AsFormat,
    Format,
    check_device,
    modules_for_data,
    require_training,
)
from digitry.cli.text import console_for, print_json, table_of

if TYPE_CHECKING:
    from digitry.training.sweep import Ranked, Sweep


@app.command()
def sweep(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe; `digitry recipes` lists them.")],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUES",
            help="Values of a field, by comma or bar: lr=1e-3,3e-3; those that are lists themselves "
            "by bar alone: hidden=128|256,128; with --random also a range: lr=1e-4..1e-2. Repeatable.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each setting.")] = 1,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training images. Default: the recipe's.")
    ] = None,
    random: Annotated[
        int | None,
        typer.Option(help="So many settings drawn by chance. Default: every combination."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help=f"{DATA_HELP} Default: the recipe's own.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help=DATA_DIR_HELP)] = None,
    device: Annotated[
        str,
        typer.Option(help="auto, cpu, cuda or mps; auto takes cuda where there is one, else cpu."),
    ] = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder, new, or of the same sweep, which goes on then. "
            "Default: `runs/sweep-<recipe>-<time>`."
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
    require_training(*KERAS, "scipy", "matplotlib")
    from digitry.training import datasets, grid, recipes
    from digitry.training import sweep as sweeping
    from digitry.training.report import sweep_plot

    chosen = recipes.find(recipe)
    source = data or chosen.data
    axes = grid.parse_axes(set_ or [])
    plan = grid.plan_of(
        dataclasses.replace(chosen, data=source), axes, seeds=seeds, epochs=epochs, draws=random
    )
    require_training(*modules_for_data(source))
    from digitry.training.loop import trackers, train

    trackers.check(log or [])
    train.find_device(device)
    console = None if quiet else console_for(stderr=True)
    dataset = datasets.load_dataset(source, data_dir=data_dir, console=console)
    folder = out or _new_folder(chosen.name)
    found = sweeping.run_sweep(plan, dataset, folder, device=device, console=console, log=log or ())
    ranking = found.ranking()
    plot = None
    if any(one.mean is not None for one in ranking):
        plot = sweep_plot.write_sweep(found)
    if format_ is Format.JSON:
        print_json(
            {
                "recipe": plan.recipe.to_dict(),
                "data": found.data,
                "held_out": found.held_out,
                "trainings": len(plan.trainings),
                "finished": len(found.trials),
                "ranking": [one.to_dict() for one in ranking],
                "folder": str(folder),
                "plot": None if plot is None else str(plot),
            }
        )
    else:
        wanted = {"--data": data, "--data-dir": data_dir}
        options = [f"{name} {shlex.quote(str(value))}" for name, value in wanted.items() if value]
        _print(found, ranking, plot, [f"--epochs {plan.recipe.epochs}", *options])
    if found.interrupted:
        print(
            f"digitry: interrupted; the same command with --out {folder} goes on", file=sys.stderr
        )
        raise typer.Exit(130)


def _new_folder(name: str) -> Path:
    wish = Path("runs") / f"sweep-{name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    folder, number = wish, 2
    while folder.exists():
        folder, number = wish.with_name(f"{wish.name}-{number}"), number + 1
    return folder


def _print(
    found: "Sweep", ranking: "tuple[Ranked, ...]", plot: Path | None, options: list[str]
) -> None:
    from digitry.training.sweep import TABLE

    plan = found.plan
    print(
        f"{plan.recipe.name} on {found.data}: {len(found.trials)} of {len(plan.trainings)} trainings, "
        f"judged on {found.held_out:,} held-out training images"
    )
    failed = any(one.failed for one in ranking)
    table = table_of(
        *plan.fields, "mean>", "spread>", "95% interval>", "loss>", "parameters>", "seconds>",
        "seeds>", *(["failed>"] if failed else []),
    )  # fmt: skip
    for place, one in enumerate(ranking):
        mean = "–" if one.mean is None else f"{100 * one.mean:.2f}%"
        low_high = one.interval
        table.add_row(
            *one.setting.values(),
            f"[bold green]{mean}[/]" if place == 0 and one.mean is not None else mean,
            "–" if one.spread is None else f"{100 * one.spread:.2f}",
            "–" if low_high is None else f"{100 * low_high[0]:.2f}% to {100 * low_high[1]:.2f}%",
            "–" if one.loss is None else f"{one.loss:.4f}",
            f"{max(trial.parameters for trial in one.trials):,}",
            f"{one.seconds:.1f}",
            str(len(one.trials)),
            *([str(one.failed)] if failed else []),
        )
    console_for().print(table)
    print(found.folder / TABLE)
    if plot is not None:
        print(plot)
        chosen = [f"--set {name}={value}" for name, value in ranking[0].setting.items()]
        words = " ".join([*chosen, *options])
        print(f"the best, for the test images: digitry train {plan.recipe.name} {words}")
