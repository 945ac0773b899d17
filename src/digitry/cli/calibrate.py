"""The verb that fits a model's confidences to the user's images: `calibrate`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from digitry.cli.app import TEACH, app
from digitry.cli.options import Layout, ReadModel
from digitry.cli.text import console_for, percent, table_of
from digitry.errors import UsageError

if TYPE_CHECKING:
    from digitry.improve.calibrate import Calibrated, Quality
    from digitry.improve.calibrate_lines import CalibratedLines


@app.command(rich_help_panel=TEACH)
def calibrate(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="LABELLED_FOLDER",
            help="Folder with class folders 0 to 9, or with a labels.csv; one digit or string per image.",
        ),
    ],
    model: ReadModel = "reader",
    layout: Annotated[
        Layout | None,
        typer.Option(
            help="Layout that you will read the images with; single, or auto for strings."
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress; print only the file's path.")
    ] = False,
) -> None:
    """Fit confidences and thresholds to your own images.

    A model's confidences, and the thresholds of --max-error, are right for images like those that it was
    trained on. This command fits them to a few hundred labelled images of your own. The result is
    saved beside the model and applied whenever that model is loaded; the model file does not change.
    `digitry models uncalibrate` removes it.

    Where images are labelled with strings (12.50), the line network is calibrated, for digits in lines and
    for whole lines; `digitry models uncalibrate lines` removes that.
    """
    from digitry.improve.calibrate import calibrate as fit
    from digitry.improve.calibrate_lines import calibrate_lines, has_strings

    console = None if quiet else console_for(stderr=True)
    if has_strings(folder):
        if model != "reader":
            raise UsageError(
                "strings calibrate the line network, not a model",
                where="--model",
                remedy="leave --model out, or give images of single digits",
            )
        lines = calibrate_lines(folder, layout=(layout or Layout.AUTO).value, console=console)
        _finish(lines, lambda: _print_lines(lines), quiet=quiet)
    else:
        done = fit(folder, model, layout=(layout or Layout.SINGLE).value, console=console)
        _finish(done, lambda: _print(done), quiet=quiet)


def _finish(done: "Calibrated | CalibratedLines", show: Callable[[], None], *, quiet: bool) -> None:
    for error in done.failed:
        print(f"digitry: {error}", file=sys.stderr)
    if quiet:
        print(done.path)
    else:
        show()
        print(f"saved as {done.path}")
    if done.failed:
        raise typer.Exit(1)


def _print_lines(done: "CalibratedLines") -> None:
    found = done.calibration
    print(
        f"{done.network}, calibrated to {found.lines:,} images of {found.source}, "
        f"{done.right:,} read right as a whole"
    )
    table = table_of("", "slope>", "shift>", "ECE before>", "after>")
    for kind, name in (("single", "digits alone"), ("digit", "digits"), ("line", "lines")):
        scale = getattr(found, kind)
        scores = [found.scores.get(f"{kind} ece {when}") for when in ("before", "after")]
        shown = ["–" if score is None else f"{score:.4f}" for score in scores]
        table.add_row(name, f"{scale.slope:.3f}", f"{scale.shift:.3f}", *shown)
    console_for().print(table)
    print("before: the network's own calibration; after: 10-fold cross-validation")
    if done.kept:
        print(f"too few answers for a map of its own: {', '.join(done.kept)}")


def _print(done: "Calibrated") -> None:
    found = done.calibration
    print(
        f"{done.model.metadata.name}, calibrated to {found.digits:,} digits in {found.images:,} images "
        f"of {found.source}"
    )
    if done.unread:
        print(
            f"  in {done.unread:,} images no digit or several were found; they count as not covered"
        )
    table = table_of("", "before>", "after>")
    table.add_row(
        "temperature", f"{done.model.metadata.temperature:.3f}", f"{found.temperature:.3f}"
    )
    for name, field in (("loss (NLL)", "nll"), ("ECE", "ece")):
        table.add_row(
            name, f"{getattr(done.before, field):.4f}", f"{getattr(done.after, field):.4f}"
        )
    table.add_row("accuracy", percent(done.before.accuracy), percent(done.after.accuracy))
    for index, kept in enumerate(done.before.kept):
        table.add_row(
            f"coverage at --max-error {kept.limit:g}",
            _kept(done.before, index),
            _kept(done.after, index),
        )
    console_for().print(table)
    print(
        "before: the model's own calibration on these images; after: 10-fold cross-validation, fitted to "
        "nine tenths and measured on the rest"
    )
    print(_lowest_limit(done))


def _kept(quality: "Quality", index: int) -> str:
    kept = quality.kept[index]
    if kept.coverage is None:
        return "not reached"
    if kept.error is None:
        return "0.00%"
    return f"{percent(kept.coverage)} ({percent(kept.error)} wrong)"


def _lowest_limit(done: "Calibrated") -> str:
    """Return the smallest `--max-error` that this number of digits supports, as a sentence."""
    errors = [error for _, error, _ in done.calibration.risk_coverage]
    least = min(errors, default=1.0)
    if least > 0.1:
        return (
            f"{done.calibration.digits:,} digits are too few for any --max-error below 0.1: "
            "label more images"
        )
    text = (
        f"{done.calibration.digits:,} digits support --max-error {_rounded_up(least):g} and above, "
        "with 95% confidence"
    )
    if least > 0.001:
        text += "; 0.01 needs about 300 digits without an error, 0.001 about 3,000"
    return text


def _rounded_up(share: float) -> float:
    """Round up to two significant figures: a lower limit than measured must not be promised."""
    from math import ceil, floor, log10

    unit = 10 ** (floor(log10(share)) - 1)
    return float(f"{ceil(share / unit) * unit:.12g}")
