"""The verb that fits a model to one's own images: `calibrate`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from digitry.cli.app import app
from digitry.cli.read import Layout
from digitry.errors import UsageError

if TYPE_CHECKING:
    from digitry.improve.calibrate import Calibrated, Quality


@app.command()
def calibrate(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="LABELLED_FOLDER",
            help="Folder of class folders 0 to 9, or with a labels.csv; one digit in each image.",
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="A shipped model's name, a .onnx file, or a run folder.")
    ] = "reader",
    layout: Annotated[
        Layout, typer.Option(help="How the images will be read: as one digit, or find out.")
    ] = Layout.SINGLE,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take the model's calibration away again.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress; print the file alone.")
    ] = False,
) -> None:
    """Fit confidences and thresholds to your own images.

    A model's confidences, and what --max-error makes of them, hold for images like those that it was
    trained on. Fitted to a few hundred labelled images of yours, they hold for yours. What comes out is
    kept beside the model, and applied wherever that very model is loaded; the model file stays as it is.
    """
    if remove:
        if folder is not None:
            raise UsageError("--remove takes no folder", remedy="name the model by --model")
        _remove(model, quiet)
        return
    if folder is None:
        raise UsageError("no folder of labelled images is named", remedy="see digitry calibrate -h")
    from digitry.cli.text import console_for
    from digitry.improve.calibrate import calibrate as fit

    console = None if quiet else console_for(stderr=True)
    done = fit(folder, model, layout=layout.value, console=console)
    for error in done.failed:
        print(f"digitry: {error}", file=sys.stderr)
    if quiet:
        print(done.path)
    else:
        _print(done)
    if done.failed:
        raise typer.Exit(1)


def _remove(model: str, quiet: bool) -> None:
    from digitry.model import calibration_file
    from digitry.model.load import calibration_path

    path = calibration_path(model)
    there = calibration_file.remove(path)
    if quiet:
        return
    if there:
        print(f"taken away: {path}; {model} reads as it was trained")
    else:
        print(f"{model} has no calibration")


def _print(done: "Calibrated") -> None:
    from digitry.cli.text import console_for, table_of

    found = done.calibration
    print(
        f"{done.model.metadata.name}, calibrated to {found.digits:,} digits in {found.images:,} images "
        f"of {found.source}"
    )
    if done.unread:
        print(f"  {done.unread:,} images gave no digit or several; they count as not covered")
    table = table_of("", "before>", "after>")
    table.add_row(
        "temperature", f"{done.model.metadata.temperature:.3f}", f"{found.temperature:.3f}"
    )
    for name, field in (("loss (NLL)", "nll"), ("ECE", "ece")):
        table.add_row(
            name, f"{getattr(done.before, field):.4f}", f"{getattr(done.after, field):.4f}"
        )
    table.add_row("accuracy", _percent(done.before.accuracy), _percent(done.after.accuracy))
    for index, kept in enumerate(done.before.kept):
        table.add_row(
            f"coverage at --max-error {kept.limit:g}",
            _kept(done.before, index),
            _kept(done.after, index),
        )
    console_for().print(table)
    print(
        "before: the model's own calibration on these images; after: fitted to nine tenths of them and "
        "measured on the tenth, in turn"
    )
    print(_vouched(done))
    print(f"kept in {done.path}")


def _kept(quality: "Quality", index: int) -> str:
    kept = quality.kept[index]
    if kept.coverage is None:
        return "never reached"
    if kept.error is None:
        return "0.00%"
    return f"{_percent(kept.coverage)} ({_percent(kept.error)} wrong)"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"


def _vouched(done: "Calibrated") -> str:
    """Say honestly how small a share of errors so many digits can vouch for."""
    errors = [error for _, error, _ in done.calibration.risk_coverage]
    least = min(errors, default=1.0)
    if least > 0.1:
        return (
            f"{done.calibration.digits:,} digits cannot vouch for any useful share of errors here: "
            "--max-error will be refused; label more"
        )
    text = (
        f"{done.calibration.digits:,} digits vouch for --max-error {_rounded_up(least):g} and more, "
        "with 95% certainty"
    )
    if least > 0.001:
        text += "; 0.01 takes about 300 digits without an error, 0.001 about 3,000"
    return text


def _rounded_up(share: float) -> float:
    """Round up to two figures: a limit that is promised must be one that is kept."""
    from math import ceil, floor, log10

    unit = 10 ** (floor(log10(share)) - 1)
    return float(f"{ceil(share / unit) * unit:.12g}")
