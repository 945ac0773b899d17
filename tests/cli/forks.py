"""Runs `digitry …` in a fork of this process for each line of standard input: a process of its own, but
without the second in which one imports the command line.

A line is a JSON object: the words of the command, its environment, whether its standard output is the
full disk or a pipe that nobody reads, and whether Python buffers it. The answer is a line, too: the
exit code and what was written to standard error.
"""

import io
import json
import os
import sys
import tempfile

# What `digitry read` imports when it begins; nothing of it starts a thread.
import cv2  # noqa: F401
import onnxruntime  # noqa: F401

import digitry.reading.reader  # noqa: F401
from digitry.cli.main import main


def output(kind: str) -> int:
    if kind == "full":
        return os.open("/dev/full", os.O_WRONLY)
    ours, theirs = os.pipe()
    os.close(ours)
    return theirs


def become(words: list[str], kind: str, buffered: bool, errors: int) -> None:
    """Have the streams that Python opens for a command."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output(kind), 1)
    os.dup2(errors, 2)
    raw = io.FileIO(1, "w", closefd=False)
    stream = io.BufferedWriter(raw) if buffered else raw
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = io.TextIOWrapper(stream, encoding="utf-8", write_through=not buffered)
    sys.argv = ["digitry", *words]


for line in sys.stdin:
    asked = json.loads(line)
    with tempfile.TemporaryFile() as errors:
        child = os.fork()
        if child == 0:
            os.environ.clear()
            os.environ.update(asked["environment"])
            become(asked["words"], asked["output"], asked["buffered"], errors.fileno())
            # Ends as `python -m digitry` does: the last flush is Python's own.
            main()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        errors.seek(0)
        print(json.dumps([code, errors.read().decode()]), flush=True)
