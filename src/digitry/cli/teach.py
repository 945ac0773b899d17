"""The verb `teach`: train a new version of a shipped model on corrections."""

import sys
from typing import Annotated

import typer

from digitry.cli.app import app
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
)
from digitry.cli.text import console_for, print_run, print_taught

TUNED_HELP = "Change how it is trained, e.g. lr=1e-4 or epochs=4; its layers stay. Repeatable."


@app.command()
def teach(
    model: Annotated[str, typer.Argument(help="Name of a shipped model.")] = "reader",
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
    quiet: QuietRun = False,
) -> None:
    """Train a shipped model on corrections; the new version becomes the default if it passes the gate."""
    check_device(device)
    wanted = outputs_in(only)
    require_serving()
    require_training(*KERAS, "onnx", "scipy", *modules_for_pictures(wanted))
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
