"""The verb `teach`: train a new version of a shipped model on corrections."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from digitry.cli.app import app
from digitry.cli.options import (
    DATA_DIR_HELP,
    DEVICE_HELP,
    EPOCHS_HELP,
    KERAS,
    ONLY_HELP,
    OUT_HELP,
    SEED_HELP,
    check_device,
    names_in,
    recipe_settings,
    require_serving,
    require_training,
)
from digitry.cli.runs import modules_for_pictures, write_report
from digitry.cli.text import console_for, print_run

TUNED_HELP = "Change how it is trained, e.g. lr=1e-4 or epochs=4; its layers stay. Repeatable."


@app.command()
def teach(
    model: Annotated[str, typer.Argument(help="Name of a shipped model.")] = "reader",
    db: Annotated[
        str | None,
        typer.Option(
            help="Store of corrections: a file, or postgresql+psycopg://user@host/name. "
            "Default: as for serve."
        ),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help=DATA_DIR_HELP)] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help=TUNED_HELP)
    ] = None,
    epochs: Annotated[int | None, typer.Option(help=EPOCHS_HELP)] = None,
    seed: Annotated[int | None, typer.Option(help=SEED_HELP)] = None,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "auto",
    out: Annotated[Path | None, typer.Option(help=OUT_HELP)] = None,
    only: Annotated[str | None, typer.Option(help=ONLY_HELP)] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress; print only the run folder.")
    ] = False,
) -> None:
    """Train a shipped model on corrections; the new version becomes the default if it passes the gate."""
    check_device(device)
    from digitry.training import run_folder

    wanted = None if only is None else run_folder.select(names_in(only))
    require_serving()
    require_training(*KERAS, "onnx", "scipy", *modules_for_pictures(wanted))
    from digitry.improve import teach as improve

    taught = improve.teach(
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
        print(taught.text)
    if taught.run.metrics["interrupted"]:
        print("digitry: interrupted; no version was saved", file=sys.stderr)
        raise typer.Exit(130)
