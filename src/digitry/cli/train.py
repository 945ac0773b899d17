"""Verbs on models."""

import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from digitry.cli import app
from digitry.cli.model_text import (
    console_for,
    print_comparison,
    print_json,
    print_run,
    table_of,
)
from digitry.errors import UnavailableError, UsageError

if TYPE_CHECKING:
    from digitry.artifact import Artifact
    from digitry.training.evaluation import Comparison
    from digitry.training.parent import Parent
    from digitry.training.recipes import Recipe
    from digitry.training.run_folder import Run

DEVICES = ("auto", "cpu", "cuda", "mps")

DATA_HELP = "Data set: mnist, uci, or the path of your own (folder, IDX, .npz, .csv)."
DATA_DIR_HELP = "Folder in which the files of mnist lie; before the cache and the network."
FORMAT_HELP = "text or json."


CORRECTIONS = "mnist+corrections"
"""What a run that learnt from corrections calls its data; see `digitry.training.finetune`."""

KERAS = ("keras", "torch", "h5py")
"""What it takes to load and save a Keras model."""


def require_training(*modules: str) -> None:
    """See that what a verb imports of the extra `train` is installed, before anything is begun.

    Args:
        modules: their names as they are imported.

    Raises:
        UnavailableError: one is missing.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise UnavailableError(
            f"this needs the extra `train`; not here: {', '.join(missing)}",
            remedy="pip install 'digitry[train]'",
        )


@app.command()
def train(
    recipe: Annotated[
        str | None, typer.Argument(help="Name of a recipe; `digitry recipes` lists them.")
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
            help="field=value of the recipe, such as hidden=256,64. Repeatable.",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training images. Default: the recipe's.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of weights, order and augmentation. Default: the recipe's.")
    ] = None,
    device: Annotated[
        str,
        typer.Option(help="auto, cpu, cuda or mps; auto takes cuda where there is one, else cpu."),
    ] = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder, new or empty. Default: `runs/<recipe>-<time>`."),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Run folder whose training is to go on where it stopped.")
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            help="Outputs to write, by name and comma: loss,confusion,report. Default: all."
        ),
    ] = None,
    corrections: Annotated[
        str | None,
        typer.Option(
            metavar="DB",
            help="Teach a shipped model what people corrected: the store of serve --db, a file or "
            "postgresql+psycopg://user@host/name. It takes the old one's place if it is better.",
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Model to learn from beside the labels: a .onnx file, a run folder, or a shipped "
            "model's name. Its share of the loss is the recipe's distil; where that is 0, 0.5."
        ),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Model whose weights it goes on from: a run folder, a .keras, .h5 or .onnx file, or a "
            "shipped model's name. Its layers are the recipe's. Default: it begins anew.",
        ),
    ] = None,
    log: Annotated[
        list[str] | None,
        typer.Option(help="Follow it in tensorboard or mlflow, if installed. Repeatable."),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress; print the run folder alone.")
    ] = False,
) -> None:
    """Train a recipe and write its run folder: models, numbers, pictures, report."""
    require_training(*KERAS, "onnx")
    from digitry.training import datasets, run_folder

    console = None if quiet else console_for(stderr=True)
    wanted = None if only is None else run_folder.select(_parts(only))
    check_device(device)
    if corrections is not None:
        if log or any(option is not None for option in (data, resume, teacher, from_)):
            raise UsageError(
                "stands in place of --data, and is neither resumed, logged nor taught",
                where="--corrections",
                remedy="leave --data, --resume, --log, --teacher and --from away",
            )
        from digitry.cli.corrections import retrain

        require_training(*KERAS, "onnx", "scipy", *_drawing(wanted))
        settings = _values(set_, epochs, seed)
        outcome = retrain(
            recipe or "reader",
            corrections,
            settings,
            data_dir=data_dir,
            device=device,
            out=out,
            only=wanted,
            console=console,
        )
        page = _write_report(outcome.run, wanted)
        if quiet:
            print(outcome.run.folder)
        else:
            print_run(outcome.run, page)
            print(outcome.text)
        if outcome.run.metrics["interrupted"]:
            print("digitry: interrupted; nothing was put on the shelf", file=sys.stderr)
            raise typer.Exit(130)
        return
    if resume is not None:
        begun = _begun(resume, recipe, (data, data_dir, set_, epochs, seed, out, teacher, from_))
        folder, chosen = resume, begun.recipe
        wanted = begun.only if only is None else wanted
        require_training(*_drawing(wanted))
        if run_folder.is_finished(folder):
            if log:
                raise UsageError(
                    "is finished; there is nothing left to follow", where=folder,
                    remedy="leave --log away",
                )  # fmt: skip
            if console is not None:
                console.print(f"{folder} is finished; nothing is left to train", highlight=False)
        else:
            require_training(*modules_for_data(begun.data))
            from digitry.training import lean

            lean.import_keras()
            from digitry.training import engine, run, tracking

            tracking.check(log or [])
            device = begun.device if device == "auto" else device
            engine.find_device(device)
            dataset = datasets.load_dataset(
                begun.data,
                data_dir=None if begun.data_dir is None else Path(begun.data_dir),
                console=console,
            )
            with tracking.follow(log or [], chosen, folder, console=console) as callbacks:
                run.train_run(
                    chosen,
                    dataset,
                    folder,
                    device=device,
                    callbacks=callbacks,
                    resume=True,
                    only=wanted,
                    console=console,
                    teacher=_taught_by(begun.teacher),
                    parent=_going_on_from(begun.parent, chosen),
                )
    else:
        if recipe is None:
            raise UsageError("no recipe is named", remedy="digitry recipes lists them")
        chosen = _chosen(recipe, set_, epochs, seed)
        if teacher is not None and chosen.distil == 0:
            chosen = chosen.override({"distil": "0.5"})
        if teacher is None and chosen.distil > 0:
            raise UsageError(
                f"distil is {chosen.distil:g}, and there is no teacher",
                where=f"recipe {chosen.name}",
                remedy="add --teacher MODEL, or --set distil=0",
            )
        taught_by = _taught_by(teacher)
        if out is not None:
            run_folder.check_new(out)
        source = data or chosen.data
        require_training(*_drawing(wanted), *modules_for_data(source))
        from digitry.training import lean

        lean.import_keras()
        from digitry.training import engine, run, tracking

        # Before any data is loaded, or fetched.
        tracking.check(log or [])
        engine.find_device(device)
        parent = _going_on_from(from_, chosen)
        dataset = datasets.load_dataset(source, data_dir=data_dir, console=console)
        if dataset.name != chosen.data:
            chosen = chosen.override({"data": dataset.name})
        folder = out or run_folder.default_folder(chosen)
        known = source in datasets.NAMED
        with tracking.follow(log or [], chosen, folder, console=console) as callbacks:
            run.train_run(
                chosen,
                dataset,
                folder,
                device=device,
                callbacks=callbacks,
                only=wanted,
                console=console,
                data=source if known else str(Path(source).expanduser().absolute()),
                data_dir=data_dir,
                teacher=taught_by,
                parent=parent,
            )
    finished = run_folder.load_run(folder)
    page = _write_report(finished, wanted)
    if quiet:
        print(folder)
    else:
        print_run(finished, page)
    if finished.metrics["interrupted"]:
        print(f"digitry: interrupted; go on with: digitry train --resume {folder}", file=sys.stderr)
        raise typer.Exit(130)


@app.command()
def recipes(
    format_: Annotated[str, typer.Option("--format", help=FORMAT_HELP)] = "text",
) -> None:
    """List the recipes."""
    check_format(format_)
    from digitry.training.recipes import RECIPES

    if format_ == "json":
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


@app.command()
def export(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Run folder, .keras, .h5 or .onnx file, or a shipped model's name. "
            "Several become one that averages them.",
        ),
    ],
    to: Annotated[
        str,
        typer.Option(help="keras, h5 or onnx; for several models, the .onnx file to write."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="File to write. Default: beside the model.")
    ] = None,
) -> None:
    """Write a model in another format, or several models as one."""
    if len(models) > 1:
        _export_together(models, to, out)
        return
    (model,) = models
    require_training(*(modules_for_model(model) if to == "onnx" else KERAS))
    from digitry.training import convert

    print(convert.convert(model, to, out))


def _export_together(models: list[str], to: str, out: Path | None) -> None:
    if (to == "onnx") == (out is None):
        raise UsageError(
            "several models become one file", where="--to", remedy="write --to ensemble.onnx"
        )
    require_training("onnx", *(name for model in models for name in modules_for_model(model)))
    from digitry.training import ensemble

    written = ensemble.join(models, out or Path(to), console=console_for(stderr=True))
    if written.why:
        print(
            f"digitry: {written.path}: carries no risk-coverage curve: {written.why}",
            file=sys.stderr,
        )
    print(written.path)


@app.command()
def report(
    run_: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    only: Annotated[
        str | None, typer.Option(help="Pictures to draw, by name and comma. Default: all.")
    ] = None,
) -> None:
    """Draw a run's pictures and its report.html again, from its folder alone."""
    from digitry.training import run_folder

    wanted = None if only is None else run_folder.select(_parts(only))
    require_training(*_drawing(wanted))
    page = _write_report(run_folder.load_run(run_), wanted)
    print(run_ if page is None else page)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Two or more run folders.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for comparison.png. Default: the one that holds the first run."),
    ] = None,
    format_: Annotated[str, typer.Option("--format", help=FORMAT_HELP)] = "text",
) -> None:
    """Show runs side by side; p tells whether each differs from the first on the same images."""
    check_format(format_)
    require_training("scipy", "matplotlib")
    from digitry.training import evaluation
    from digitry.training.run_folder import load_predictions, load_run

    if len(runs) < 2:
        raise UsageError("one run alone cannot be compared", remedy="name two or more run folders")
    twice = [one for one, times in Counter(one.resolve() for one in runs).items() if times > 1]
    if twice:
        raise UsageError("is named twice", where=str(twice[0]), remedy="name each run once")
    loaded = [load_run(folder) for folder in runs]
    first, *others = [load_predictions(one) for one in loaded]
    tests = [None, *(evaluation.compare(first, other) for other in others)]
    # Only now, when the runs are known to be comparable, is matplotlib worth its time.
    from digitry.training import report as reporting

    (plot,) = reporting.write_comparison(loaded, out or runs[0].resolve().parent)
    if format_ == "json":
        rows = [_row(one, test) for one, test in zip(loaded, tests, strict=True)]
        print_json({"against": loaded[0].name, "runs": rows, "plot": str(plot)})
        return
    print_comparison(loaded, tests)
    print(plot)


# --- what train does -------------------------------------------------------------------------------


def _chosen(
    name: str, settings: list[str] | None, epochs: int | None, seed: int | None
) -> "Recipe":
    from digitry.training import recipes

    return recipes.find(name).override(_values(settings, epochs, seed))


def _values(settings: list[str] | None, epochs: int | None, seed: int | None) -> dict[str, str]:
    values: dict[str, str] = {}
    for setting in settings or []:
        field, equals, value = setting.partition("=")
        if not equals or not field.strip():
            raise UsageError(
                f"{setting!r} is no setting", where="--set", remedy="write field=value"
            )
        values[field.strip()] = value.strip()
    for field, number in (("epochs", epochs), ("seed", seed)):
        if number is not None:
            values[field] = str(number)
    return values


def _begun(folder: Path, recipe: str | None, settings: tuple[object, ...]) -> Any:
    from digitry.training import run_folder

    if any(setting not in (None, []) for setting in settings):
        raise UsageError(
            "a run goes on with the recipe and data that it began with",
            where="--resume",
            remedy="leave --data, --data-dir, --set, --epochs, --seed, --out, --teacher and --from away",
        )
    begun = run_folder.load_start(folder)
    if begun.data == CORRECTIONS:
        raise UsageError(
            "learnt from corrections, and such a run is not resumed",
            where=folder,
            remedy="begin it again with --corrections",
        )
    if recipe not in (None, begun.recipe.name):
        raise UsageError(
            f"holds a run of {begun.recipe.name}, not of {recipe}",
            where=folder,
            remedy=f"digitry train --resume {folder}",
        )
    return begun


def _taught_by(teacher: str | None) -> "Artifact | None":
    from digitry import artifact

    return None if teacher is None else artifact.load(teacher)


def _going_on_from(model: str | None, recipe: "Recipe") -> "Parent | None":
    from digitry.training.parent import parent_of

    return None if model is None else parent_of(model, recipe)


def check_device(name: str) -> str:
    """Give a device's name back, or say which there are."""
    if name not in DEVICES:
        raise UsageError(
            f"{name!r} is no device", where="--device", remedy=f"choose from: {', '.join(DEVICES)}"
        )
    return name


def _drawing(only: frozenset[str] | None) -> tuple[str, ...]:
    """Say which modules it takes to draw what was asked for."""
    from digitry.training.run_folder import PLOTS

    if only is not None and not only & {*PLOTS, "report.html"}:
        return ()
    return ("matplotlib", "jinja2") if only is None or "report.html" in only else ("matplotlib",)


def modules_for_data(data: str) -> tuple[str, ...]:
    """Say which modules it takes to load a data set; only fetching wants more, and says so itself."""
    return ("sklearn", "scipy") if data == "uci" else ()


def modules_for_model(model: str) -> tuple[str, ...]:
    """Say which modules it takes to run a model: none for a .onnx file or what holds one."""
    return (*KERAS, "onnx") if Path(model).suffix in (".keras", ".h5") else ()


def _write_report(finished: "Run", only: frozenset[str] | None) -> Path | None:
    from digitry.training.run_folder import PLOTS

    if only is not None and not only & {*PLOTS, "report.html"}:
        return None
    from digitry.training import report

    report.write_plots(finished, only)
    return report.write_html(finished) if only is None or "report.html" in only else None


# --- what the others print -------------------------------------------------------------------------


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


def _parts(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def check_format(name: str) -> None:
    """Refuse a format that a verb on models does not print."""
    if name not in ("text", "json"):
        raise UsageError(f"{name!r} is no format", where="--format", remedy="choose text or json")
