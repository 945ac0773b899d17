"""The verb that predicts images without labels, in the form that Kaggle wants: `predict`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from digitry.cli.app import TRAIN, app
from digitry.cli.options import (
    DataDir,
    MeasuredModel,
    Quiet,
    Trust,
    loaded_model,
    modules_for_data,
)
from digitry.cli.text import console_for

if TYPE_CHECKING:
    from rich.console import Console

    from digitry.training.data.unlabelled import Unlabelled

HEADER = ("ImageId", "Label")


@app.command(rich_help_panel=TRAIN)
def predict(
    model: MeasuredModel,
    data: Annotated[
        str,
        typer.Argument(
            help="Images without labels: .csv (Kaggle's test.csv), .npz, .npy, IDX, or a folder of "
            "images; or mnist, uci."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="The table to write, ImageId,Label; - for standard output.")
    ] = Path("submission.csv"),
    data_dir: DataDir = None,
    trust: Trust = False,
    quiet: Quiet = False,
) -> None:
    """Predict the digit in each image of a data set that needs no labels, for a submission to Kaggle.

    Every image gets its likeliest digit; nothing is refused. ImageId counts from 1, or is a file's name.
    """
    loaded = loaded_model(model, *modules_for_data(data), trust=trust)
    from digitry import files
    from digitry.reading.rows import to_csv
    from digitry.training.evaluation.scores import infer

    found = _images(data, data_dir, None if quiet else console_for(stderr=True))
    labels = infer(loaded, found.images)[:, :10].argmax(axis=1).tolist()
    table = to_csv([HEADER, *zip(found.ids, labels, strict=True)])
    if out == Path("-"):
        print(table, end="")
        return
    files.write_text(out, table)
    if not quiet:
        print(f"{len(labels):,} images, predicted by {loaded.metadata.name}: {out}")


def _images(data: str, data_dir: Path | None, console: "Console | None") -> "Unlabelled":
    """Return the images of a file or folder, or the test images of a named data set."""
    from digitry.training import datasets
    from digitry.training.data import unlabelled

    if not datasets.is_named(data):
        return unlabelled.read(Path(data).expanduser(), console=console)
    images = datasets.load_dataset(data, data_dir=data_dir, console=console).test.images
    return unlabelled.Unlabelled(tuple(str(n) for n in range(1, len(images) + 1)), images)
