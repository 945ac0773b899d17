"""Standard output that is full or closed: at most one line on stderr, an exit code, no traceback."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from digitry.corrections.correction import Correction
from digitry.corrections.store import Corrections
from digitry.workers.answer import png

from ..waiting import PATIENCE_S

SAMPLES = Path(__file__).parents[2] / "samples"
FIVE = str(SAMPLES / "digit-5.png")
FULL = Path("/dev/full")

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


def digitry(words: list[str], output: int, *, buffered: bool = True) -> tuple[int, str]:
    """Run the command with its standard output on a descriptor; give the code and stderr."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    if not buffered:
        environment["PYTHONUNBUFFERED"] = "1"
    done = subprocess.run(
        [sys.executable, "-m", "digitry", *words],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        timeout=PATIENCE_S,
    )
    return done.returncode, done.stderr


def full(words: list[str], **options: bool) -> tuple[int, str]:
    with FULL.open("w") as stream:
        return digitry(words, stream.fileno(), **options)


Forked = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def forked() -> Iterator[Forked]:
    """Run the command in a fork of one process that has imported it; give the code and stderr."""
    script = str(Path(__file__).with_name("forks.py"))
    with subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        asking, answering = process.stdin, process.stdout
        assert asking is not None and answering is not None

        def run(words: list[str], output: str, *, buffered: bool = True) -> tuple[int, str]:
            asked = {
                "words": words,
                "output": output,
                "buffered": buffered,
                "environment": dict(os.environ),
            }
            print(json.dumps(asked), file=asking, flush=True)
            code, told = json.loads(answering.readline())
            return code, told

        yield run
        asking.close()


LINE = (
    "digitry: standard output: cannot be written (No space left on device); "
    "free disk space, or redirect the output elsewhere\n"
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with one correction."""
    path = tmp_path_factory.mktemp("store") / "corrections.db"
    picture = png(np.zeros((28, 28), np.uint8))
    corrections = Corrections(str(path))
    corrections.add(
        Correction(
            label="5", glyph=picture, crop=picture, read_value=3, best_guess=3, confidence=0.6,
            reason=None, model="reader", author="",
        )
    )  # fmt: skip
    corrections.close()
    return str(path)


@pytest.mark.parametrize("format", ["text", "json", "jsonl", "csv", "hocr"])
def test_a_full_disk_is_one_line_for_every_format_of_read(format: str, forked: Forked) -> None:
    assert forked(["read", FIVE, "--format", format], "full") == (3, LINE)


def test_a_full_disk_is_one_line_with_and_without_a_buffer(forked: Forked) -> None:
    # Without a buffer the first write fails, within the verb; with one, the last flush.
    for buffered in (True, False):
        assert full(["read", FIVE], buffered=buffered) == (3, LINE)
    assert forked(["read", *[FIVE] * 3, "--format", "json"], "full") == (3, LINE)
    for words in (
        ["--help"],
        ["--version"],
        ["recipes"],
        ["models"],
        ["recipes", "--format", "json"],
    ):
        for buffered in (True, False):
            assert forked(words, "full", buffered=buffered) == (3, LINE), words


def test_a_full_disk_is_one_line_for_long_running_verbs(tmp_path: Path, store: str) -> None:
    out = tmp_path / "out"
    assert full(["evaluate", "reader", "--data", "uci", "--quiet"]) == (3, LINE)
    code, told = full(["bulk", FIVE, "--out", str(out), "--format", "jsonl", "--workers", "1"])
    # A slow machine shows progress before.
    assert (code, told.splitlines(keepends=True)[-1]) == (3, LINE)
    # Only printing failed; the files are written.
    assert (out / "summary.json").is_file()
    assert full(["corrections", "export", str(tmp_path / "export"), "--db", store]) == (3, LINE)
    assert (tmp_path / "export" / "corrections.jsonl").is_file()
    assert full(["corrections", "list", "--db", store, "--format", "json"]) == (3, LINE)


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize(
    "words",
    [
        ["read", FIVE],
        ["read", FIVE, FIVE, "--format", "jsonl"],
        ["read", FIVE, "--format", "hocr"],
        ["recipes"],
        ["--help"],
    ],
)
def test_a_closed_pipe_is_code_1_and_prints_nothing(
    words: list[str], buffered: bool, forked: Forked
) -> None:
    assert forked(words, "closed pipe", buffered=buffered) == (1, "")


def test_a_closed_standard_output_is_one_line() -> None:
    words = f'"{sys.executable}" -m digitry read "{FIVE}"'
    done = subprocess.run(["sh", "-c", f"{words} >&-"], capture_output=True, text=True)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "standard output: cannot be written" in done.stderr


def test_with_a_closed_stderr_standard_output_holds_only_readings() -> None:
    words = f'"{sys.executable}" -m digitry read "{FIVE}" absent.png'
    done = subprocess.run(["sh", "-c", f"{words} 2>&-"], capture_output=True, text=True)
    assert done.returncode == 1
    assert [line.split("\t")[1] for line in done.stdout.splitlines()] == ["5"]


def test_errors_of_other_files_are_not_blamed_on_standard_output(tmp_path: Path) -> None:
    code, told = digitry(["read", FIVE, "--annotate", "/dev/full/x"], subprocess.DEVNULL)
    assert code != 0
    assert "standard output" not in told
    assert "Traceback" not in told
