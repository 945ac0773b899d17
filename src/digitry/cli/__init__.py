"""The command line: parse, one public call, print. Heavy imports sit inside each command."""

import os
import signal
import sys
from typing import Annotated

import typer

from digitry.errors import DigitryError

app = typer.Typer(
    name="digitry",
    help="Reads handwritten digits from real images, and trains and evaluates the models that do it.",
    no_args_is_help=True,
    add_completion=False,
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


def main() -> None:
    """Run the command line and leave with its exit code; an error is one line on stderr."""
    try:
        app()
    except DigitryError as error:
        print(f"digitry: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("digitry: interrupted; what was finished is kept", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); nothing is left to say, and to nobody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


# The verbs register themselves with `app`, in the order in which `--help` shows them.
from digitry.cli import read, train, data  # noqa: E402, F401, I001
