"""The command line with the streams of a process of its own, but without the seconds that one needs to
start.

What is about the process itself (closed pipes, memory, packages that are absent) starts one.
"""

import io
import os
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest import mock

from digitry.cli.main import main


@dataclass(frozen=True)
class Done:
    """How a command ended: what `subprocess.run` gives with `capture_output=True`."""

    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def out(self) -> str:
        return self.stdout.decode()

    @property
    def err(self) -> str:
        return self.stderr.decode()


def digitry(*arguments: object, stdin: bytes = b"", **environment: str) -> Done:
    """Run `digitry …` as a process does that has no terminal."""
    out, err, given = (
        io.TextIOWrapper(io.BytesIO(content), encoding="utf-8") for content in (b"", b"", stdin)
    )
    with (
        mock.patch.object(sys, "argv", ["digitry", *map(str, arguments)]),
        mock.patch.object(sys, "stdin", given),
        mock.patch.dict(os.environ, {"NO_COLOR": "1", **environment}),
        redirect_stdout(out),
        redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        # As Python has it: printed, each place once; pytest would raise them.
        warnings.simplefilter("default")
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.showwarning = _printed
        try:
            main()
        except SystemExit as end:
            code = end.code
    for stream in (out, err):
        stream.flush()
    return Done(int(code or 0), *(s.buffer.getvalue() for s in (out, err)))  # type: ignore[attr-defined]


def _printed(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object
) -> None:
    sys.stderr.write(warnings.formatwarning(message, category, filename, lineno))
