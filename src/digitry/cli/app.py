"""The Typer application; each verb's module registers its commands here."""

from typing import Annotated

import typer
import typer.main

READ, TRAIN, TEACH, MANY = "Read", "Train", "Correct and teach", "Serve, and read by the million"
"""Groups of verbs in `digitry --help`."""

app = typer.Typer(
    name="digitry",
    help="Read handwritten digits in images; train and evaluate the models that read them.",
    epilog="Start with `digitry read photo.jpg`. Guide: https://digitry.github.io/digitry/",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from digitry import __version__

        print(f"digitry {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass
