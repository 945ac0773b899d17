"""Whoever kills a save, and whatever the disk does: old or new, never else."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from digitry import files
from digitry.errors import DigitryError
from digitry.model import artifact
from digitry.model.artifact import Metadata
from digitry.model.load import load_model

SCRIPT = Path(__file__).with_name("save_loops.py")
FIRST_MS, LAST_MS = 1, 60


def whole_artifact(folder: Path) -> None:
    assert load_model(folder / "model.onnx").metadata.temperature in (1.0, 2.0)


def whole_formats(folder: Path) -> None:
    from digitry.training.network import keras_check

    assert load_model(folder / "model.onnx").metadata.name in ("1", "2")
    for name in ("model.keras", "model.h5"):
        # The gate walks the whole file: configuration, and every weight.
        keras_check.checked((folder / name).read_bytes(), Path(name).suffix)


def whole_checkpoint(folder: Path) -> None:
    from digitry.training.loop import checkpoint

    found = checkpoint.load(folder / "checkpoint.npz")
    assert set(found.arrays["weights"]) == {found.facts["epoch"]}


CHECKS: dict[str, Callable[[Path], None]] = {
    "artifact": whole_artifact,
    "formats": whole_formats,
    "checkpoint": whole_checkpoint,
}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kind", CHECKS)
def test_a_hundred_kills_of_a_save_leave_one_whole_version(kind: str, tmp_path: Path) -> None:
    chance = random.Random(kind)
    command = [sys.executable, str(SCRIPT), kind, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(100):
            process.stdin.write("\n")
            child = int(process.stdout.readline())
            time.sleep(chance.uniform(FIRST_MS, LAST_MS) / 1000)
            os.kill(child, signal.SIGKILL)
            assert process.stdout.readline() == "gone\n"
            CHECKS[kind](tmp_path)
        process.stdin.close()


@pytest.mark.parametrize("call", ["open", "fsync"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT])
def test_a_failing_disk_gives_one_line_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    path = tmp_path / "state"
    files.write_text(path, "old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(DigitryError, match="cannot be written") as raised:
            files.write_text(path, "new")
    assert os.strerror(code) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


def test_a_failing_rename_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    files.write_text(path, "old")

    def fail(*_: object) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(DigitryError, match="Permission denied"):
            files.write_text(path, "new")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_a_file_that_does_not_fit_leaves_the_old_one(tmp_path: Path) -> None:
    # A real limit of the system, in a process of its own: no file may grow beyond 100 kB.
    path = tmp_path / "model.onnx"
    loaded = load_model("reader")
    artifact.save(path, loaded.onnx, Metadata(name="old", labels=loaded.metadata.labels))
    code = (
        "import resource, sys, signal; from pathlib import Path; from digitry import errors\n"
        "from digitry.model import artifact; from digitry.model.load import load_model\n"
        "import onnx; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "loaded = load_model('reader')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: artifact.save(Path(sys.argv[1]), loaded.onnx, loaded.metadata)\n"
        "except errors.DigitryError as error: print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert "cannot be written (File too large)" in run.stdout
    assert load_model(path).metadata.name == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
