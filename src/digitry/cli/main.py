"""Run the command line: exit codes, errors in one line, output that cannot be written."""

import errno
import io
import os
import signal
import sys
import warnings
from typing import TYPE_CHECKING, Any

import typer
import typer.main

from digitry.cli.app import app
from digitry.errors import DigitryError, DigitryWarning

# The verbs add themselves to `app`, in the order in which `--help` shows them.
# ruff: isort: off
from digitry.cli import read, calibrate, train, teach, sweep, evaluate, runs, models  # noqa: F401
from digitry.cli import data, serve, corrections, bulk  # noqa: F401

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer


# Typer carries a copy of click of its own from 0.26 on, and imports click before: its exceptions are
# found through the one that Typer always passes on.
_ClickException: type[Exception] = next(
    base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"
)


def main() -> None:
    """Run the command line and leave with its exit code; an error is one line on stderr."""
    _guard_output()
    warnings.formatwarning = _warning
    try:
        code = _run(sys.argv[1:])
        # Now, while somebody can still be told: at the very end Python would complain by itself.
        sys.stdout.flush()
    except DigitryError as error:
        if isinstance(error, _OutputError):
            _drop_output()
        if error.what:
            print(f"digitry: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print("digitry: interrupted; what was finished is kept", file=sys.stderr)
        code = 128 + signal.SIGINT
    sys.exit(code)


def _warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """Say a warning of ours in one line; where in our code it was raised helps nobody."""
    if issubclass(category, DigitryWarning):
        return f"digitry: {message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"


class _OutputError(DigitryError):
    """Standard output cannot be written; without a text, since its reader has gone (`| head`)."""


class _Output(io.FileIO):
    """Standard output, whose errors are ours to tell and not to be taken for those of other files."""

    def write(self, content: "Buffer", /) -> int:
        try:
            return super().write(content)
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.EINVAL):
                # The pipe is closed (Windows calls it an invalid argument): exit quietly.
                gone = _OutputError("")
                gone.exit_code = 1
                raise gone from error
            raise _OutputError(
                f"cannot be written ({error.strerror})",
                where="standard output",
                remedy="free space, or send it elsewhere",
            ) from error


def _guard_output() -> None:
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 (no path; open to the end)
    if sys.stdout is None:
        # Closed by who called us. Its number must not become that of another file, and may not be
        # written to.
        closed = _Output(os.open(os.devnull, os.O_RDONLY), "w", closefd=False)
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(closed))
        return
    given = sys.stdout
    buffer = getattr(given, "buffer", None)
    # Under `python -u` there is no buffer between the text and the file.
    raw = getattr(buffer, "raw", buffer)
    if type(raw) is io.FileIO:
        given.flush()
        output = _Output(raw.fileno(), "w", closefd=False)
        sys.stdout = io.TextIOWrapper(
            output if raw is buffer else io.BufferedWriter(output),
            encoding=given.encoding,
            errors=given.errors,
            line_buffering=bool(given.line_buffering),
            write_through=raw is buffer,
        )


def _drop_output() -> None:
    # What waits to be written would be tried again, in vain and noisily, when Python ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(words: list[str]) -> int:
    """Run one command, and give its exit code.

    Not by calling `app`: that frames a usage error in a box of five lines, and turns Ctrl-C into an
    exit like any other.
    """
    command = typer.main.get_command(app)
    try:
        with command.make_context("digitry", words) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except typer.Abort:
        print("digitry: stopped", file=sys.stderr)
        return 1
    except _ClickException as error:
        # Without any words the help is the answer, and it has been printed.
        if type(error).__name__ != "NoArgsIsHelpError":
            print(f"digitry: {_complaint(error)}", file=sys.stderr)
        return int(getattr(error, "exit_code", 2))
    return 0


def _complaint(error: Any) -> str:
    """Say in one line what Typer says in several, and where to read on."""
    what = " ".join(error.format_message().split()).rstrip(".")
    verb = error.ctx.command_path if getattr(error, "ctx", None) is not None else "digitry"
    return f"{what[:1].lower()}{what[1:]}; see {verb} --help"
