"""The verb `train`: train a recipe into a run folder, resume a run, or make the whole reader."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from digitry.cli.app import TRAIN, app
from digitry.cli.options import (
    KERAS,
    DataDir,
    Device,
    Epochs,
    Log,
    Only,
    QuietRun,
    RunOut,
    Seed,
    TrainingData,
    Trust,
    check_device,
    modules_for_data,
    modules_for_pictures,
    outputs_in,
    recipe_settings,
    require_training,
    with_keras,
)
from digitry.cli.text import console_for, print_run
from digitry.cli.train_reader import READER, train_reader
from digitry.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from digitry.training.recipes import Recipe
    from digitry.training.run_folder import RunArguments


@dataclass(frozen=True, kw_only=True)
class _How:
    """Options of a training that is started or resumed."""

    device: str
    only: frozenset[str] | None
    trust: bool
    log: Sequence[str]
    console: "Console | None"


@app.command(rich_help_panel=TRAIN)
def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="Name of a recipe; see `digitry recipes`. Or `reader`: the whole shipped reader, from "
            "MNIST and the packs of handwriting into finder.onnx, lines.onnx and reader.onnx; run it "
            "again with the same --out to go on."
        ),
    ] = None,
    data: TrainingData = None,
    data_dir: DataDir = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Change a field of the recipe, e.g. hidden=256,64. Repeatable. For `reader`: "
            "PART.samples=NUMBER, PART.seconds=NUMBER, or glyph.FIELD=VALUE of the recipe `glyph`.",
        ),
    ] = None,
    epochs: Epochs = None,
    seed: Seed = None,
    device: Device = "auto",
    out: RunOut = None,
    resume: Annotated[
        Path | None, typer.Option(help="Run folder of an interrupted training to continue.")
    ] = None,
    only: Only = None,
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
            help="Model to start from, with the layers of the recipe, or its first convolutions: a run "
            "folder, a .keras, .h5 or .onnx file, or a shipped model's name; for `reader --part lines`, "
            "`lines` or a .onnx file. "
            "Default: start from random weights.",
        ),
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(help="For `reader`: finder, lines or glyph alone. Repeatable. Default: all."),
    ] = None,
    trust: Trust = False,
    log: Log = None,
    quiet: QuietRun = False,
) -> None:
    """Train a recipe and write its run folder: models, scores, pictures, report. Or the whole reader."""
    require_training(*KERAS, "onnx")
    check_device(device)
    how = _How(
        device=device,
        only=outputs_in(only),
        trust=trust,
        log=log or (),
        console=None if quiet else console_for(stderr=True),
    )
    if recipe == READER:
        if any(value is not None for value in (data, epochs, teacher, only)) or log:
            raise UsageError(
                "reader takes no --data, --epochs, --teacher, --only and --log",
                remedy="leave them out, or train the recipe `glyph`",
            )
        train_reader(
            part or (),
            set_,
            out,
            resume,
            from_=from_,
            trust=trust,
            data_dir=data_dir,
            device=device,
            seed=seed,
            console=how.console,
        )
        return
    if part:
        raise UsageError("only the reader has parts", where="--part", remedy="leave it out")
    if resume is not None:
        began = _arguments_of(
            resume, recipe, (data, data_dir, set_, epochs, seed, out, teacher, from_)
        )
        folder, wanted = resume, began.only if only is None else how.only
        _resume(folder, began, wanted, how)
    else:
        if recipe is None:
            raise UsageError("no recipe is named", remedy="choose one from `digitry recipes`")
        chosen = _chosen(recipe, recipe_settings(set_, epochs, seed), teacher)
        folder, wanted = (
            _begin(chosen, data or chosen.data, data_dir, out, teacher, from_, how),
            how.only,
        )
    from digitry.training.report.write import write_report
    from digitry.training.run_folder import load_run

    finished = load_run(folder)
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
    from digitry.model.load import load_model
    from digitry.training import datasets, run_folder

    taught_by = None if teacher is None else load_model(teacher)
    if out is not None:
        run_folder.check_new(out)
    require_training(*modules_for_pictures(how.only), *modules_for_data(data))
    _check_loop(how)
    from digitry.training.loop import start_from, trackers
    from digitry.training.run import train_run

    # Checked before any data is loaded or fetched.
    goes_on_from = None if parent is None else start_from.parent_of(parent, recipe, trust=how.trust)
    dataset = datasets.load_dataset(data, data_dir=data_dir, console=how.console)
    if dataset.name != recipe.data:
        recipe = recipe.override({"data": dataset.name})
    folder = out or run_folder.default_folder(recipe.name)
    with trackers.follow(how.log, recipe, folder, console=how.console) as callbacks:
        train_run(
            recipe,
            dataset,
            folder,
            device=how.device,
            callbacks=callbacks,
            only=how.only,
            console=how.console,
            data=data if datasets.is_named(data) else str(Path(data).expanduser().absolute()),
            data_dir=data_dir,
            teacher=taught_by,
            parent=goes_on_from,
        )
    return folder


def _resume(folder: Path, began: "RunArguments", only: frozenset[str] | None, how: _How) -> None:
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
    require_training(*modules_for_data(began.data))
    how = replace(how, device=began.device if how.device == "auto" else how.device)
    _check_loop(how)
    from digitry.training.loop import trackers
    from digitry.training.run import resume_run

    dataset = datasets.load_dataset(
        began.data,
        data_dir=None if began.data_dir is None else Path(began.data_dir),
        console=how.console,
    )
    with trackers.follow(how.log, began.recipe, folder, console=how.console) as callbacks:
        resume_run(
            folder,
            dataset,
            device=how.device,
            callbacks=callbacks,
            only=only,
            console=how.console,
            trust=how.trust,
        )


def _check_loop(how: _How) -> None:
    """Import Keras, and check the trackers and the device, before any data is loaded."""
    with_keras(*KERAS)
    from digitry.training.loop import trackers
    from digitry.training.loop.device import find_device

    trackers.check(how.log)
    find_device(how.device)


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


def _arguments_of(folder: Path, recipe: str | None, settings: tuple[object, ...]) -> "RunArguments":
    """Return the arguments that a run was started with, after checking that it can be resumed."""
    from digitry.training.data.dataset import WITH_CORRECTIONS
    from digitry.training.run_folder import load_arguments

    if any(setting not in (None, []) for setting in settings):
        raise UsageError(
            "a run is resumed with its own recipe and data",
            where="--resume",
            remedy="remove --data, --data-dir, --set, --epochs, --seed, --out, --teacher and --from",
        )
    began = load_arguments(folder)
    if began.data == WITH_CORRECTIONS:
        raise UsageError(
            "was trained on corrections and cannot be resumed",
            where=folder,
            remedy="start again with `digitry teach`",
        )
    if recipe not in (None, began.recipe.name):
        raise UsageError(
            f"holds a run of {began.recipe.name}, not of {recipe}",
            where=folder,
            remedy=f"digitry train --resume {folder}",
        )
    return began
