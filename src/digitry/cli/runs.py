"""Verbs on recipes and finished runs: recipes, export, report, compare."""

import os
import sys
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from digitry.cli.app import TRAIN, app
from digitry.cli.options import (
    KERAS,
    AsFormat,
    Format,
    Trust,
    modules_for_model,
    modules_for_pictures,
    outputs_in,
    require_training,
    with_keras,
)
from digitry.cli.text import console_for, print_comparison, print_json, table_of
from digitry.errors import UsageError

if TYPE_CHECKING:
    from digitry.training.evaluation.scores import Comparison
    from digitry.training.run_folder import Run


class ModelFormat(StrEnum):
    """The format of a model's file."""

    KERAS = "keras"
    H5 = "h5"
    ONNX = "onnx"


@app.command(rich_help_panel=TRAIN)
def recipes(
    format_: AsFormat = Format.TEXT,
) -> None:
    """List the recipes."""
    from digitry.training.recipes import RECIPES

    if format_ is Format.JSON:
        print_json([recipe.to_dict() for recipe in RECIPES.values()])
        return
    table = table_of(
        "recipe", "hidden", "optimizer", "batch>", "epochs>", "held out>", "what it is"
    )
    for recipe in RECIPES.values():
        table.add_row(
            f"[bold]{recipe.name}[/]",
            ", ".join(str(units) for units in recipe.hidden),
            recipe.optimizer,
            str(recipe.batch_size),
            str(recipe.epochs),
            f"{100 * recipe.validation:.3g}%" if recipe.validation else "–",
            recipe.summary,
        )
    console_for().print(table)


@app.command(rich_help_panel=TRAIN)
def export(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Run folder, .keras, .h5 or .onnx file, or a shipped model's name. "
            "Several models become one ensemble that averages them.",
        ),
    ],
    format: Annotated[
        ModelFormat | None,
        typer.Option(help="Format of the file. Default: by the suffix of --to."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--to",
            "--out",
            help="File to write; an ensemble needs one, .onnx. Default: next to the model.",
        ),
    ] = None,
    trust: Trust = False,
) -> None:
    """Write a model in another format, or several models as one ensemble.

    A .onnx file of PyTorch, scikit-learn or another program, or a Keras file from elsewhere, becomes a
    model that `digitry read --model` takes: a trial on known digits shows which pixels it takes.
    """
    wanted = _model_format(format, out)
    if len(models) > 1:
        _export_ensemble(models, wanted, out, trust)
        return
    (model,) = models
    with_keras(*(modules_for_model(model) if wanted is ModelFormat.ONNX else KERAS))
    from digitry.training.network import convert

    def tell(line: str) -> None:
        print(f"digitry: {model}: {line}", file=sys.stderr)

    print(convert.convert(model, wanted.value, out, trust=trust, tell=tell))


def _model_format(format: ModelFormat | None, out: Path | None) -> ModelFormat:
    if format is not None:
        return format
    suffix = "" if out is None else out.suffix.removeprefix(".")
    if suffix not in set(ModelFormat):
        raise UsageError(
            "no format is given",
            remedy="add --format keras, h5 or onnx, or --out with one of these as its suffix",
        )
    return ModelFormat(suffix)


def _export_ensemble(models: list[str], format: ModelFormat, out: Path | None, trust: bool) -> None:
    if format is not ModelFormat.ONNX or out is None:
        raise UsageError(
            "several models become one .onnx file", remedy="name it: --out ensemble.onnx"
        )
    with_keras("onnx", *(name for model in models for name in modules_for_model(model)))
    from digitry.training.network import ensemble

    written = ensemble.join(models, out, console=console_for(stderr=True), trust=trust)
    if written.why:
        print(
            f"digitry: {written.path}: has no risk-coverage curve: {written.why}",
            file=sys.stderr,
        )
    print(written.path)


@app.command(rich_help_panel=TRAIN)
def report(
    run_: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    only: Annotated[
        str | None, typer.Option(help="Pictures to draw, separated by commas. Default: all.")
    ] = None,
) -> None:
    """Draw a run's pictures and write its report.html again, from the files in its folder."""
    wanted = outputs_in(only)
    require_training(*modules_for_pictures(wanted))
    from digitry.training.report.write import write_report
    from digitry.training.run_folder import load_run

    page = write_report(load_run(run_), wanted)
    print(run_ if page is None else page)


@app.command(rich_help_panel=TRAIN)
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Two or more run folders.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for comparison.png. Default: the parent of the first run folder."
        ),
    ] = None,
    format_: AsFormat = Format.TEXT,
) -> None:
    """Compare runs with the first one; p is from McNemar's test on the same test images."""
    require_training("scipy", "matplotlib")
    from digitry.training.evaluation import scores
    from digitry.training.run_folder import load_predictions, load_run

    if len(runs) < 2:
        raise UsageError("only one run is named", remedy="name two or more run folders")
    twice = [one for one, times in Counter(one.resolve() for one in runs).items() if times > 1]
    if twice:
        raise UsageError("is named twice", where=str(twice[0]), remedy="name each run once")
    loaded = [load_run(folder) for folder in runs]
    first, *others = [load_predictions(one) for one in loaded]
    tests = [None, *(scores.compare(first, other) for other in others)]
    # matplotlib loads slowly: import it only once the runs are known to be comparable.
    from digitry.training.report.page import write_comparison

    # As it was given: a relative path stays one, and `.` has a parent, too.
    (plot,) = write_comparison(loaded, out or Path(os.path.normpath(runs[0] / "..")))
    if format_ is Format.JSON:
        rows = [_row(one, test) for one, test in zip(loaded, tests, strict=True)]
        print_json({"against": loaded[0].name, "runs": rows, "plot": str(plot)})
        return
    print_comparison(loaded, tests)
    print(plot)


def _row(one: "Run", test: "Comparison | None") -> dict[str, Any]:
    metrics = one.metrics
    return {
        "run": one.name,
        "folder": str(one.folder),
        "recipe": one.recipe.name,
        "accuracy": metrics["test"]["accuracy"],
        "interval": metrics["test"]["interval"],
        "loss": metrics["test"]["loss"],
        "ece": metrics["test"]["ece"],
        "parameters": metrics["parameters"],
        "fit_seconds": metrics["fit_seconds"],
        "comparison": None if test is None else test.to_dict(),
    }
