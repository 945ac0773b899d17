"""The verb `teach`: train a new version of a shipped model on corrections."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from digitry.cli.app import TEACH, app
from digitry.cli.options import (
    KERAS,
    DataDir,
    Db,
    Device,
    Epochs,
    Only,
    QuietRun,
    RunOut,
    Seed,
    check_device,
    modules_for_pictures,
    outputs_in,
    recipe_settings,
    require_serving,
    require_training,
    with_keras,
)
from digitry.cli.text import console_for, print_run, print_taught, print_taught_lines
from digitry.errors import UsageError

TUNED_HELP = "Change how it is trained, e.g. lr=1e-4 or epochs=4; its layers stay. Repeatable."


@app.command(rich_help_panel=TEACH)
def teach(
    model: Annotated[
        str, typer.Argument(help="reader, on corrected digits; or lines, on corrected lines.")
    ] = "reader",
    db: Db = None,
    data_dir: DataDir = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help=TUNED_HELP)
    ] = None,
    epochs: Epochs = None,
    seed: Seed = None,
    device: Device = "auto",
    out: RunOut = None,
    only: Only = None,
    samples: Annotated[
        float | None,
        typer.Option(min=1, help="For `lines`: how many strips it learns from. Default: 12,000."),
    ] = None,
    quiet: QuietRun = False,
) -> None:
    """Train a shipped model on corrections; the new version becomes the default if it passes the gate."""
    check_device(device)
    if model == "lines":
        if set_ or epochs is not None or only is not None:
            raise UsageError(
                "--set, --epochs and --only are for reader",
                where="lines",
                remedy="use --samples and --seed",
            )
        _lines(db, data_dir, out, samples, seed or 0, device, quiet=quiet)
        return
    if samples is not None:
        raise UsageError("--samples is for lines", where=model, remedy="use --epochs")
    wanted = outputs_in(only)
    require_serving()
    with_keras(*KERAS, "onnx", "scipy", *modules_for_pictures(wanted))
    from digitry.improve.teach import teach as train_further
    from digitry.training.report.write import write_report

    taught = train_further(
        model,
        db,
        recipe_settings(set_, epochs, seed),
        data_dir=data_dir,
        device=device,
        out=out,
        only=wanted,
        console=None if quiet else console_for(stderr=True),
    )
    page = write_report(taught.run, wanted)
    if quiet:
        print(taught.run.folder)
    else:
        print_run(taught.run, page)
        print_taught(taught)
    if taught.run.metrics["interrupted"]:
        print("digitry: interrupted; no version was saved", file=sys.stderr)
        raise typer.Exit(130)


def _lines(
    db: str | None,
    data_dir: Path | None,
    out: Path | None,
    samples: float | None,
    seed: int,
    device: str,
    *,
    quiet: bool,
) -> None:
    require_serving()
    require_training("torch", "onnx", "scipy")
    from digitry.improve.teach import teach_lines

    taught = teach_lines(
        db,
        data_dir=data_dir,
        out=out,
        samples=samples,
        seed=seed,
        device="cpu" if device == "auto" else device,
        console=None if quiet else console_for(stderr=True),
    )
    print(taught.folder)
    if not quiet:
        print_taught_lines(taught)
