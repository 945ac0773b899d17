"""Options and checks that several verbs share."""

from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from digitry.errors import UnavailableError, UsageError

DEVICES = ("auto", "cpu", "cuda", "mps")

DATA_HELP = "Data set: mnist, uci, or the path of your own (folder, IDX, .npz, .csv)."
DATA_DIR_HELP = "Folder in which the files of mnist lie; before the cache and the network."
SETTINGS_HELP = "field=value of the recipe, such as hidden=256,64. Repeatable."
EPOCHS_HELP = "Passes over the training images. Default: the recipe's."
SEED_HELP = "Seed of weights, order and augmentation. Default: the recipe's."
DEVICE_HELP = "auto, cpu, cuda or mps; auto takes cuda where there is one, else cpu."
OUT_HELP = "Run folder, new or empty. Default: `runs/<recipe>-<time>`."
ONLY_HELP = "Outputs to write, by name and comma: loss,confusion,report. Default: all."


class Format(StrEnum):
    """How a verb prints what it found."""

    TEXT = "text"
    JSON = "json"


AsFormat = Annotated[Format, typer.Option("--format", help="text or json.")]

Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Load a .keras or .h5 file whose sha256 no run folder records: you trust its maker.",
    ),
]

KERAS = ("keras", "torch", "h5py")
"""What it takes to load and save a Keras model."""


def require_training(*modules: str, extra: str = "train") -> None:
    """Check that what a verb imports of an extra is installed, before anything is begun.

    Args:
        modules: their names as they are imported.
        extra: what brings them.

    Raises:
        UnavailableError: one is missing.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise UnavailableError(
            f"this needs the extra `{extra}`; not here: {', '.join(missing)}",
            remedy=f"pip install 'digitry[{extra}]'",
        )


def require_serving() -> None:
    """Check that the extra `serve` is installed, before anything is begun.

    Raises:
        UnavailableError: it is not.
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
    """Return a device's name back, or say which there are."""
    if name not in DEVICES:
        raise UsageError(
            f"{name!r} is no device", where="--device", remedy=f"choose from: {', '.join(DEVICES)}"
        )
    return name


def modules_for_data(data: str) -> tuple[str, ...]:
    """Return which modules it takes to load a data set; only fetching wants more, and says so itself."""
    return ("sklearn", "scipy") if data == "uci" else ()


def modules_for_model(model: str) -> tuple[str, ...]:
    """Return which modules it takes to run a model: none for a .onnx file or what holds one."""
    return (*KERAS, "onnx") if Path(model).suffix in (".keras", ".h5") else ()


def names_in(names: str) -> list[str]:
    """Return the names in a list with commas."""
    return [name.strip() for name in names.split(",") if name.strip()]


def recipe_settings(
    settings: list[str] | None, epochs: int | None, seed: int | None
) -> dict[str, str]:
    """Return the fields of a recipe that the options set, as text.

    Args:
        settings: those of `--set`, each `field=value`.
        epochs, seed: options of their own; they count for more.

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
