"""Options and checks that several verbs share."""

from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from digitry.errors import UnavailableError, UsageError

DEVICES = ("auto", "cpu", "cuda", "mps")

DATA_HELP = "Data set: mnist, uci, or a path to your own (folder, IDX, .npz, .csv)."
DATA_DIR_HELP = "Folder with the MNIST files; searched before the cache and the network."
SETTINGS_HELP = "Change a field of the recipe, e.g. hidden=256,64. Repeatable."
EPOCHS_HELP = "Passes over the training images. Default: the recipe's."
SEED_HELP = "Seed for weights, order and augmentation. Default: the recipe's."
DEVICE_HELP = "auto, cpu, cuda or mps; auto uses cuda if available, else cpu."
OUT_HELP = "Run folder, new or empty. Default: `runs/<recipe>-<time>`."
ONLY_HELP = "Outputs to write, separated by commas: loss,confusion,report. Default: all."


class Format(StrEnum):
    """The output formats of a verb."""

    TEXT = "text"
    JSON = "json"


AsFormat = Annotated[Format, typer.Option("--format", help="text or json.")]

Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Load a .keras or .h5 file that no run folder records. Only for files you trust.",
    ),
]

FORMATS = ("keras", "h5", "onnx")
"""Formats that a model can be exported to; also the endings of their files."""

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
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise UnavailableError(
            f"this needs the extra `{extra}`; not installed: {', '.join(missing)}",
            remedy=f"pip install 'digitry[{extra}]'",
        )


def require_serving() -> None:
    """Check, before any work starts, that the extra `serve` is installed.

    Raises:
        UnavailableError: a module of it is missing.
    """
    needed = (
        "fastapi",
        "uvicorn",
        "httptools",
        "sqlalchemy",
        "alembic",
        "prometheus_client",
        "python_multipart",
    )
    if any(find_spec(name) is None for name in needed):
        raise UnavailableError(
            "the service needs the extra `serve`", remedy="pip install 'digitry[serve]'"
        )


def check_device(name: str) -> str:
    """Return the name of a device once it is known to be valid.

    Raises:
        UsageError: it is not one of `DEVICES`.
    """
    if name not in DEVICES:
        raise UsageError(
            f"{name!r} is not a device",
            where="--device",
            remedy=f"choose from: {', '.join(DEVICES)}",
        )
    return name


def modules_for_data(data: str) -> tuple[str, ...]:
    """Return the modules that loading a data set needs; fetching checks for its own."""
    return ("sklearn", "scipy") if data == "uci" else ()


def modules_for_model(model: str) -> tuple[str, ...]:
    """Return the modules that running a model needs: none for a .onnx file or a run folder."""
    return (*KERAS, "onnx") if Path(model).suffix in (".keras", ".h5") else ()


def names_in(names: str) -> list[str]:
    """Return the names in a comma-separated list."""
    return [name.strip() for name in names.split(",") if name.strip()]


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
