"""Run the command line: exit codes, one-line errors, standard output that cannot be written."""

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

# Importing a module registers its verbs; `--help` shows them in this order.
# ruff: isort: off
from digitry.cli import read, template, demo, doctor  # noqa: F401
from digitry.cli import train, evaluate, runs, sweep, predict, data  # noqa: F401
from digitry.cli import corrections, teach, models, calibrate, serve, bulk  # noqa: F401

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer


COMPLETING = "_DIGITRY_COMPLETE"
"""The environment variable by which the completion of a shell asks."""

# From 0.26 on Typer bundles its own click; before, it imports click. BadParameter, which Typer always
# exports, leads to the right ClickException.
_ClickException: type[Exception] = next(
    base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"
)


def main() -> None:
    """Run the command line and exit with its exit code; an error is one line on stderr."""
    _guard_output()
    warnings.formatwarning = _warning
    try:
        code = _run(sys.argv[1:])
        # Flush here, where a failure becomes our one-line error and not Python's traceback at exit.
        sys.stdout.flush()
    except DigitryError as error:
        if isinstance(error, _OutputError):
            _drop_output()
        if error.what:
            print(f"digitry: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print("digitry: interrupted; finished work is kept", file=sys.stderr)
        code = 128 + signal.SIGINT
    sys.exit(code)


def _warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """Return one of our warnings as one line, without the place in our code."""
    if issubclass(category, DigitryWarning):
        return f"digitry: {message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"


class _OutputError(DigitryError):
    """Standard output cannot be written; no text if its reader closed the pipe (`| head`)."""


class _Output(io.FileIO):
    """Standard output whose write errors are `_OutputError`, distinct from errors of other files."""

    def write(self, content: "Buffer", /) -> int:
        try:
            return super().write(content)
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.EINVAL):
                # The pipe is closed (Windows calls it an invalid argument): exit quietly.
                closed = _OutputError("")
                closed.exit_code = 1
                raise closed from error
            raise _OutputError(
                f"cannot be written ({error.strerror})",
                where="standard output",
                remedy="free disk space, or redirect the output elsewhere",
            ) from error


def _guard_output() -> None:
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 (no path; stays open)
    if sys.stdout is None:
        # The caller closed it. Take a descriptor that cannot be written to, so that no other file
        # gets its number.
        closed = _Output(os.open(os.devnull, os.O_RDONLY), "w", closefd=False)
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(closed))
        return
    given = sys.stdout
    buffer = getattr(given, "buffer", None)
    # Under `python -u` the text layer writes to the file without a buffer.
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
    # At exit Python flushes stdout again; without this it would fail again, with a traceback.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(words: list[str]) -> int:
    """Run one command and return its exit code.

    Does not call `app`: that prints a usage error as a box of five lines, and hides Ctrl-C.
    """
    command = typer.main.get_command(app)
    if COMPLETING in os.environ:
        # A shell asks what may come next; Typer answers and exits.
        command.main(args=words, prog_name="digitry")
    try:
        with command.make_context("digitry", words) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except typer.Abort:
        print("digitry: stopped", file=sys.stderr)
        return 1
    except _ClickException as error:
        # Without arguments Typer has printed the help already.
        if type(error).__name__ != "NoArgsIsHelpError":
            print(f"digitry: {_complaint(error)}", file=sys.stderr)
        return int(getattr(error, "exit_code", 2))
    return 0


def _complaint(error: Any) -> str:
    """Return Typer's message as one line that ends with the help command to run."""
    what = " ".join(error.format_message().split()).rstrip(".")
    verb = error.ctx.command_path if getattr(error, "ctx", None) is not None else "digitry"
    return f"{what[:1].lower()}{what[1:]}; see {verb} --help"
