"""The verb `train`: train a recipe into a run folder, or resume a run."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from digitry.cli.app import app
from digitry.cli.options import (
    DATA_DIR_HELP,
    DATA_HELP,
    DEVICE_HELP,
    EPOCHS_HELP,
    KERAS,
    ONLY_HELP,
    OUT_HELP,
    SEED_HELP,
    SETTINGS_HELP,
    Trust,
    check_device,
    modules_for_data,
    names_in,
    recipe_settings,
    require_training,
)
from digitry.cli.runs import modules_for_pictures, write_report
from digitry.cli.text import console_for, print_run
from digitry.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from digitry.model.artifact import Artifact
    from digitry.training.loop.start_from import Parent
    from digitry.training.recipes import Recipe
    from digitry.training.run_folder import Start

FROM_CORRECTIONS = "mnist+corrections"
"""The data of a run that `digitry teach` made; see `digitry.improve.retrain`."""


@dataclass(frozen=True, kw_only=True)
class _How:
    """Options of a training that is started or resumed."""

    device: str
    only: frozenset[str] | None
    trust: bool
    log: Sequence[str]
    console: "Console | None"


@app.command()
def train(
    recipe: Annotated[
        str | None, typer.Argument(help="Name of a recipe; see `digitry recipes`.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help=f"{DATA_HELP} Default: the recipe's own.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help=DATA_DIR_HELP)] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help=SETTINGS_HELP,
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help=EPOCHS_HELP)] = None,
    seed: Annotated[int | None, typer.Option(help=SEED_HELP)] = None,
    device: Annotated[
        str,
        typer.Option(help=DEVICE_HELP),
    ] = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help=OUT_HELP),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Run folder of an interrupted training to continue.")
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(help=ONLY_HELP),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Model for distillation: a .onnx file, a run folder, or a shipped model's name. Its "
            "share of the loss is the recipe's distil, or 0.5 if that is 0."
        ),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Model to start from, with the same layers as the recipe: a run folder, a .keras, .h5 "
            "or .onnx file, or a shipped model's name. Default: start from random weights.",
        ),
    ] = None,
    trust: Trust = False,
    log: Annotated[
        list[str] | None,
        typer.Option(help="Log to tensorboard or mlflow, if installed. Repeatable."),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress; print only the run folder.")
    ] = False,
) -> None:
    """Train a recipe and write its run folder: models, scores, pictures, report."""
    require_training(*KERAS, "onnx")
    from digitry.training import run_folder

    check_device(device)
    how = _How(
        device=device,
        only=None if only is None else run_folder.select(names_in(only)),
        trust=trust,
        log=log or (),
        console=None if quiet else console_for(stderr=True),
    )
    if resume is not None:
        start = _start_of(resume, recipe, (data, data_dir, set_, epochs, seed, out, teacher, from_))
        folder, wanted = resume, start.only if only is None else how.only
        _resume(folder, start, wanted, how)
    else:
        if recipe is None:
            raise UsageError("no recipe is named", remedy="choose one from `digitry recipes`")
        chosen = _chosen(recipe, recipe_settings(set_, epochs, seed), teacher)
        folder, wanted = (
            _begin(chosen, data or chosen.data, data_dir, out, teacher, from_, how),
            how.only,
        )
    finished = run_folder.load_run(folder)
    page = write_report(finished, wanted)
    if quiet:
        print(folder)
    else:
        print_run(finished, page)
    if finished.metrics["interrupted"]:
        print(
            f"digitry: interrupted; to continue: digitry train --resume {folder}", file=sys.stderr
        )
        raise typer.Exit(130)


def _begin(
    recipe: "Recipe",
    data: str,
    data_dir: Path | None,
    out: Path | None,
    teacher: str | None,
    parent: str | None,
    how: _How,
) -> Path:
    """Train a recipe into a new run folder; return the folder."""
    from digitry.training import datasets, run_folder

    taught_by = _loaded(teacher)
    if out is not None:
        run_folder.check_new(out)
    require_training(*modules_for_pictures(how.only), *modules_for_data(data))
    from digitry.training.network.import_keras import import_keras

    import_keras()
    from digitry.training.loop import trackers
    from digitry.training.loop.device import find_device
    from digitry.training.run import train_run

    # Check both before any data is loaded or fetched.
    trackers.check(how.log)
    find_device(how.device)
    goes_on_from = _parent(parent, recipe, how.trust)
    dataset = datasets.load_dataset(data, data_dir=data_dir, console=how.console)
    if dataset.name != recipe.data:
        recipe = recipe.override({"data": dataset.name})
    folder = out or run_folder.default_folder(recipe)
    with trackers.follow(how.log, recipe, folder, console=how.console) as callbacks:
        train_run(
            recipe,
            dataset,
            folder,
            device=how.device,
            callbacks=callbacks,
            only=how.only,
            console=how.console,
            data=data if data in datasets.NAMED else str(Path(data).expanduser().absolute()),
            data_dir=data_dir,
            teacher=taught_by,
            parent=goes_on_from,
        )
    return folder


def _resume(folder: Path, start: "Start", only: frozenset[str] | None, how: _How) -> None:
    """Continue the training of a run folder; a finished run does not change."""
    from digitry.training import datasets, run_folder

    require_training(*modules_for_pictures(only))
    if run_folder.is_finished(folder):
        if how.log:
            raise UsageError(
                "is finished; there is nothing left to log",
                where=folder,
                remedy="remove --log",
            )
        if how.console is not None:
            how.console.print(f"{folder} is finished; nothing to train", highlight=False)
        return
    require_training(*modules_for_data(start.data))
    from digitry.training.network.import_keras import import_keras

    import_keras()
    from digitry.training.loop import trackers
    from digitry.training.loop.device import find_device
    from digitry.training.run import train_run

    trackers.check(how.log)
    device = start.device if how.device == "auto" else how.device
    find_device(device)
    dataset = datasets.load_dataset(
        start.data,
        data_dir=None if start.data_dir is None else Path(start.data_dir),
        console=how.console,
    )
    with trackers.follow(how.log, start.recipe, folder, console=how.console) as callbacks:
        train_run(
            start.recipe,
            dataset,
            folder,
            device=device,
            callbacks=callbacks,
            resume=True,
            only=only,
            console=how.console,
            teacher=_loaded(start.teacher),
            parent=_parent(start.parent, start.recipe, how.trust),
        )


def _chosen(name: str, settings: dict[str, str], teacher: str | None) -> "Recipe":
    from digitry.training import recipes

    recipe = recipes.find(name).override(settings)
    if teacher is not None and recipe.distil == 0:
        return recipe.override({"distil": "0.5"})
    if teacher is None and recipe.distil > 0:
        raise UsageError(
            f"distil is {recipe.distil:g}, but no teacher is given",
            where=f"recipe {recipe.name}",
            remedy="add --teacher MODEL, or --set distil=0",
        )
    return recipe


def _start_of(folder: Path, recipe: str | None, settings: tuple[object, ...]) -> "Start":
    """Return the recorded start of a run, after checking that these options can resume it."""
    from digitry.training import run_folder

    if any(setting not in (None, []) for setting in settings):
        raise UsageError(
            "a run is resumed with its own recipe and data",
            where="--resume",
            remedy="remove --data, --data-dir, --set, --epochs, --seed, --out, --teacher and --from",
        )
    start = run_folder.load_start(folder)
    if start.data == FROM_CORRECTIONS:
        raise UsageError(
            "was trained on corrections and cannot be resumed",
            where=folder,
            remedy="start again with `digitry teach`",
        )
    if recipe not in (None, start.recipe.name):
        raise UsageError(
            f"holds a run of {start.recipe.name}, not of {recipe}",
            where=folder,
            remedy=f"digitry train --resume {folder}",
        )
    return start


def _loaded(model: str | None) -> "Artifact | None":
    from digitry.model.load import load_model

    return None if model is None else load_model(model)


def _parent(model: str | None, recipe: "Recipe", trust: bool) -> "Parent | None":
    from digitry.training.loop.start_from import parent_of

    return None if model is None else parent_of(model, recipe, trust=trust)
