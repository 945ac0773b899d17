"""The verb that shows what digitry does, with its own samples: `demo`."""

import csv
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from digitry.cli.app import READ, app
from digitry.cli.text import console_for, table_of
from digitry.errors import UnavailableError, UsageError

RECIPE = "dense-128"


@app.command(rich_help_panel=READ)
def demo(
    out: Annotated[
        Path, typer.Option(help="Folder, new or empty, for the pictures and the run.")
    ] = Path("digitry-demo"),
    train: Annotated[
        bool,
        typer.Option(help="Also train a model; needs the extra train, and the network for MNIST."),
    ] = True,
) -> None:
    """Read the samples that digitry brings along, draw what it read, then train a model.

    Needs no checkout and no files of yours. Without the network it trains on the small data set uci.
    """
    samples = _samples()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError("is not an empty folder", where=out, remedy="name another by --out")
    _read(samples, out / "readings")
    made = [f"{out / 'readings'} (what was read, with boxes)"]
    if train and any(find_spec(name) is None for name in ("torch", "keras", "sklearn")):
        print("Training needs the extra `train`: pip install 'digitry[train]'", file=sys.stderr)
    elif train:
        _train(out / "run")
        made.append(f"{out / 'run' / 'report.html'} (the model)")
    print(f"Look at: {' and '.join(made)}")


def _samples() -> Path:
    """Return the folder of samples: in the installed package, or in a checkout."""
    import digitry

    package = Path(digitry.__file__).parent
    for folder in (package / "samples", package.parents[1] / "samples"):
        if (folder / "truth.csv").is_file():
            return folder
    raise UnavailableError(
        "the samples are missing", where=package, remedy="install digitry from its wheel again"
    )


def _read(samples: Path, pictures: Path) -> None:
    """Read every sample, print it beside the truth, and draw it."""
    from digitry import files
    from digitry.reading.reader import Reader
    from digitry.reading.render import annotate

    reader = Reader()
    table = table_of("sample", "read", "written", "confidence>")
    with (samples / "truth.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        path = samples / row["file"]
        if not path.is_file():
            # The wheel leaves out the largest.
            continue
        reading = reader.read(path, layout=row["layout"])  # type: ignore[arg-type]
        text = reading.text.replace("\n", "|")
        table.add_row(row["file"], text, row["label"], f"{reading.confidence:.3f}")
        with files.replacing(pictures / f"{path.stem}.png") as temporary:
            annotate(path, reading).save(temporary)
    console_for().print(table)


def _train(folder: Path) -> None:
    """Train a small model and write its report."""
    from digitry.cli import train as verb
    from digitry.training import datasets

    data = "mnist"
    try:
        datasets.load_dataset(data)
    except UnavailableError as error:
        print(f"{error.what}; training on the small data set uci", file=sys.stderr)
        data = "uci"
    verb.train(RECIPE, data=data, out=folder)
