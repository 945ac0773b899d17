"""A file that digitry saves is whole or as it was before."""

import os
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from digitry import files
from digitry.errors import DigitryError, ModelError


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    files.write_text(path, "old")
    with pytest.raises(ValueError, match="out of ideas"), files.replacing(path) as temporary:
        temporary.write_text("half of the new")
        raise ValueError("out of ideas")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_an_error_about_the_new_content_names_the_file_itself(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    with pytest.raises(ModelError) as caught, files.replacing(target) as temporary:
        raise ModelError("has weights that are not finite", where=temporary, remedy="train again")
    assert str(caught.value) == f"{target}: has weights that are not finite; train again"
    assert list(tmp_path.iterdir()) == []


def test_a_new_file_has_the_rights_of_any_new_file(tmp_path: Path) -> None:
    files.write_bytes(tmp_path / "ours", b"x")
    (tmp_path / "theirs").write_bytes(b"x")
    ours, theirs = (stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "theirs"))
    assert ours == theirs


def test_missing_folders_are_made(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a" / "b" / "c.txt", "deep")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "deep"


def test_the_temporary_name_keeps_the_suffix(tmp_path: Path) -> None:
    with files.replacing(tmp_path / "model.keras") as temporary:
        assert temporary.suffix == ".keras"
        assert temporary.parent == tmp_path


def test_where_nothing_can_be_written_one_line_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DigitryError, match="cannot be written"):
        files.write_text(tmp_path / "file" / "below", "x")


def test_a_kill_at_any_moment_leaves_one_whole_version(tmp_path: Path) -> None:
    path = tmp_path / "state"
    files.write_bytes(path, b"0" * 300_000)
    code = (
        "import sys\nfrom pathlib import Path\nfrom digitry import files\n"
        "print('go', flush=True)\n"
        "for i in range(10**9):\n"
        "    files.write_bytes(Path(sys.argv[1]), str(i % 10).encode() * 300_000)\n"
    )
    for trial in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.01 + 0.007 * trial)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        content = path.read_bytes()
        assert len(content) == 300_000
        assert len(set(content)) == 1


def test_reading_stops_at_the_limit(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b"x" * 5000)
    assert len(files.read_bytes(tmp_path / "long", 100)) == 101
    assert len(files.read_bytes(Path("/dev/zero"), 1000)) == 1001


HOLDER = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from digitry import files
with files.alone(Path(sys.argv[1]), seconds=60):
    print("in", flush=True)
    time.sleep(600)
"""


def test_who_does_not_want_to_wait_is_told_who_is_there_and_comes_in_when_he_is_gone(
    tmp_path: Path,
) -> None:
    lock = tmp_path / ".lock"
    words = [sys.executable, "-c", HOLDER, str(lock)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "in\n"
        with (
            pytest.raises(files.InUseError, match="in use by another digitry") as error,
            files.alone(lock, seconds=0),
        ):
            pytest.fail("both are in")
        assert str(error.value).startswith(f"{tmp_path}: ")
        # However it ends, its lock ends with it.
        other.kill()
        other.wait()
        with files.alone(lock, seconds=60):
            pass


def test_threads_wait_for_each_other(tmp_path: Path) -> None:
    inside, most = [], []

    def work(number: int) -> None:
        with files.alone(tmp_path / ".lock", seconds=60):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.01)
            inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))
    assert most == [1] * 8


@pytest.mark.parametrize("number", files.NO_LOCKS)
def test_where_the_file_system_has_no_locks_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def none(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("filelock.FileLock.acquire", none)
    with files.alone(tmp_path / ".lock", seconds=0):
        pass


def test_a_lock_that_cannot_be_made_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError), files.alone(tmp_path / "file" / ".lock", seconds=0):
        pass
