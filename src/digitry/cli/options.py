"""Options and checks that several verbs share."""

import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from digitry import extras
from digitry.errors import UsageError

if TYPE_CHECKING:
    from digitry.model.artifact import Artifact


class Format(StrEnum):
    """How a verb prints its result."""

    TEXT = "text"
    JSON = "json"


class Layout(StrEnum):
    """How the digits are arranged in an image."""

    AUTO = "auto"
    SINGLE = "single"
    LINE = "line"
    PAGE = "page"


AsFormat = Annotated[Format, typer.Option("--format", help="text or json.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]

# Reading.
ReadLayout = Annotated[Layout, typer.Option(help="One digit, one line, a page of lines, or auto.")]
ReadModel = Annotated[
    str, typer.Option(help="A shipped model's name, a .onnx file, or a run folder.")
]
MaxError = Annotated[
    float | None,
    typer.Option(
        help="Refuse uncertain digits so that at most this share of the others is wrong, e.g. 0.001."
    ),
]
ReadTemplate = Annotated[
    Path | None,
    typer.Option(help="TOML file that names the fields of a form; each image is such a form."),
]
ReadRegion = Annotated[
    str | None,
    typer.Option(
        metavar="X,Y,W,H",
        help="Read only this part: left,top,width,height in pixels, or 10%,20%,50%,30%.",
    ),
]

# Training.
MeasuredModel = Annotated[
    str,
    typer.Argument(help="Run folder, .onnx, .keras or .h5 file, or a shipped model's name."),
]
DATA_HELP = "Data set: mnist, uci, or a path to your own (folder, IDX, .npz, .csv)."
TrainingData = Annotated[str | None, typer.Option(help=f"{DATA_HELP} Default: the recipe's own.")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder with the MNIST files, searched before the cache and the network. "
        "Default: DIGITRY_DATA."
    ),
]
Epochs = Annotated[
    int | None, typer.Option(help="Passes over the training images. Default: the recipe's.")
]
Seed = Annotated[
    int | None,
    typer.Option(help="Seed for weights, order and augmentation. Default: the recipe's."),
]
Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps; auto uses cuda if available, else cpu.")
]
RunOut = Annotated[
    Path | None, typer.Option(help="Run folder, new or empty. Default: `runs/<recipe>-<time>`.")
]
Only = Annotated[
    str | None,
    typer.Option(
        help="Outputs to write, separated by commas: loss,confusion,report. Default: all."
    ),
]
Log = Annotated[
    list[str] | None, typer.Option(help="Log to tensorboard or mlflow, if installed. Repeatable.")
]
QuietRun = Annotated[bool, typer.Option("--quiet", help="No progress; print only the run folder.")]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Load a .keras or .h5 file that no run folder records. Only for files you trust.",
    ),
]

# Corrections.
Db = Annotated[
    str | None,
    typer.Option(
        "--db",
        help="Store of corrections: a file, or postgresql+psycopg://user@host/name. "
        "Default: as for serve.",
    ),
]

KERAS = ("keras", "torch", "h5py")
"""Modules that loading and saving a Keras model needs."""


def require_training(*modules: str, extra: str = "train") -> None:
    """Check, before any work starts, that the modules a verb needs are installed.

    Args:
        modules: import names.
        extra: the extra that installs them.

    Raises:
        UnavailableError: a module is missing.
    """
    extras.require(extra, "this needs", *modules)


def with_keras(*modules: str) -> None:
    """Check that the modules a verb needs are installed; import Keras, if it is one, and nothing besides.

    Raises:
        UnavailableError: a module is missing.
    """
    require_training(*modules)
    if "keras" in modules:
        from digitry.training.network.import_keras import import_keras

        import_keras()


def require_serving() -> None:
    """Check, before any work starts, that the extra `serve` is installed.

    Raises:
        UnavailableError: a module of it is missing.
    """
    extras.require(
        "serve",
        "the service needs",
        "fastapi",
        "uvicorn",
        "httptools",
        "sqlalchemy",
        "alembic",
        "prometheus_client",
        "python_multipart",
    )


def check_device(name: str) -> None:
    """Check the name of a device; whether this machine has it is known once PyTorch is loaded.

    Raises:
        UsageError: it is not the name of a device.
    """
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]+)?", name):
        raise UsageError(
            f"{name!r} is not a device",
            where="--device",
            remedy="choose from: auto, cpu, cuda, cuda:1, mps",
        )


def modules_for_data(data: str) -> tuple[str, ...]:
    """Return the modules that loading a data set needs; fetching checks for its own."""
    return ("sklearn", "scipy") if data == "uci" else ()


def modules_for_model(model: str) -> tuple[str, ...]:
    """Return the modules that running a model needs: none for a .onnx file or a run folder."""
    return (*KERAS, "onnx") if Path(model).suffix in (".keras", ".h5") else ()


def loaded_model(
    model: str, *modules: str, trust: bool, tell: Callable[[str], None] = lambda _: None
) -> "Artifact":
    """Return a model that is measured, in the form in which it is run.

    Args:
        model: a run folder, a file, or a shipped model's name.
        modules: import names of what else the verb needs.
        trust: load a Keras file that no run folder records.
        tell: told what was changed to bring in a model of another program.

    Raises:
        UnavailableError: a module is missing.
        ModelError: the model is missing, damaged or not trusted.
    """
    with_keras(*modules_for_model(model), *modules)
    from digitry.training.network import convert

    return convert.load_artifact(model, trust=trust, tell=tell)


def modules_for_pictures(only: frozenset[str] | None) -> tuple[str, ...]:
    """Return the modules that drawing the requested outputs of a run needs."""
    from digitry.training.run_folder import PLOTS, REPORT

    if only is None or REPORT in only:
        return ("matplotlib", "jinja2")
    return ("matplotlib",) if only & set(PLOTS) else ()


def outputs_in(only: str | None) -> frozenset[str] | None:
    """Return the files of a run folder that `--only` names; None = all.

    Raises:
        UsageError: a run folder has no such file.
    """
    from digitry.training.run_folder import select

    if only is None:
        return None
    return select(name.strip() for name in only.split(",") if name.strip())


def recipe_settings(
    settings: list[str] | None, epochs: int | None, seed: int | None
) -> dict[str, str]:
    """Return the recipe fields that the options set, as text.

    Args:
        settings: values of `--set`, each `field=value`.
        epochs, seed: values of their own options; they override `--set`.

    Raises:
        UsageError: a setting has no `=` or no name.
    """
    values: dict[str, str] = {}
    for setting in settings or []:
        field, equals, value = setting.partition("=")
        if not equals or not field.strip():
            raise UsageError(
                f"{setting!r} is not a setting", where="--set", remedy="write field=value"
            )
        values[field.strip()] = value.strip()
    for field, number in (("epochs", epochs), ("seed", seed)):
        if number is not None:
            values[field] = str(number)
    return values
