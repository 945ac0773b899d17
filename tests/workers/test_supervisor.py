"""Lost workers are replaced, in every state and for every cause, and the cause is reported."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from digitry.errors import DigitryError, ImageError, ModelError, UnavailableError
from digitry.reading.result import Reading
from digitry.workers import supervisor
from digitry.workers.pool import WorkerPool
from digitry.workers.supervisor import Cause, State, Supervisor, Worker
from digitry.workers.worker import Item

from ..waiting import PATIENCE_S, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits are proved on Linux")


def workers(pool: WorkerPool) -> list[Worker]:
    return pool._supervisor.workers()


def in_state(pool: WorkerPool, state: State) -> Worker:
    found: Worker = until(
        lambda: next((worker for worker in workers(pool) if worker.state is state), None)
    )
    return found


def whole(pool: WorkerPool) -> bool:
    return pool.health().states[State.READY] == pool.size


def marked(folder: Path, monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    """Make workers that are started later run an action on images that begin with MARK."""
    (folder / "sitecustomize.py").write_text(
        "import os, signal, time\n"
        "import digitry.reading.image as image\n"
        "load, held = image._from_bytes, []\n"
        "def marked(content, *rest):\n"
        f"    if content.startswith(b'MARK'): {action}\n"
        "    return load(content.removeprefix(b'MARK'), *rest)\n"
        "image._from_bytes = marked\n"
    )
    monkeypatch.syspath_prepend(str(folder))


def asleep(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marked(folder, monkeypatch, "time.sleep(600)")


@pytest.mark.parametrize("state", [State.STARTING, State.READY, State.BUSY, State.DYING])
def test_a_worker_killed_in_any_state_is_replaced(
    state: State,
    model: Path,
    digits: list[bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    asleep(tmp_path, monkeypatch)
    answers: list[object] = []
    with (
        caplog.at_level(logging.INFO, "digitry"),
        WorkerPool(model, workers=1, wall_s=PATIENCE_S) as pool,
    ):
        if state is State.STARTING:
            os.kill(in_state(pool, State.READY).process.pid, signal.SIGKILL)
        thread = threading.Thread(target=lambda: answers.append(pool.read(b"MARK")))
        if state is State.BUSY:
            thread.start()
        if state is State.DYING:
            # The socket is closed and the process goes on, so it is killed.
            in_state(pool, State.READY).hung_up()
        worker = in_state(pool, state)
        os.kill(worker.process.pid, signal.SIGKILL)
        until(lambda: worker.state is State.GONE)
        until(lambda: whole(pool))
        assert isinstance(pool.read(digits[0]), Reading)
        if state is State.BUSY:
            thread.join()
            assert "crashed its worker process (SIGKILL)" in str(answers)
        lost = State.READY if state is State.DYING else state
        assert pool.health().losses[lost, Cause.CRASHED] == 1
    assert f"a worker was lost while {lost.value}" in caplog.text


def test_a_process_that_outlives_its_socket_is_killed(model: Path) -> None:
    with WorkerPool(model, workers=1, wall_s=PATIENCE_S) as pool:
        worker = in_state(pool, State.READY)
        os.kill(worker.process.pid, signal.SIGSTOP)
        worker.hung_up()
        until(lambda: worker.state is State.GONE)
        until(lambda: whole(pool))


def test_workers_killed_repeatedly_while_starting_are_replaced(
    model: Path, digits: list[bytes]
) -> None:
    answers: list[object] = []
    with WorkerPool(model, workers=2, wall_s=PATIENCE_S) as pool:
        threads = [
            threading.Thread(target=lambda: answers.append(pool.read(digits[0]))) for _ in range(10)
        ]
        for thread in threads:
            thread.start()
        for _ in range(3):
            for pid in pool.pids():
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.15)
        for thread in threads:
            thread.join(PATIENCE_S)
        until(lambda: whole(pool))
        assert isinstance(pool.read(digits[0]), Reading)
        # Only images that were being read fail: at most two in each round.
        failed = [answer for answer in answers if not isinstance(answer, Reading)]
        assert len(answers) == 10
        assert len(failed) <= 6
        assert all(isinstance(answer, ImageError) for answer in failed)


def test_only_ready_workers_are_taken(model: Path) -> None:
    with WorkerPool(model, workers=1, wall_s=PATIENCE_S) as pool:
        pid = in_state(pool, State.READY).process.pid
        os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        # Even if the supervisor has not noticed yet.
        assert pool.lend() is None
        until(lambda: whole(pool))


def test_failed_starts_are_retried_with_growing_pauses(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: object) -> subprocess.Popen[bytes]:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(supervisor, "_process", full)
    monkeypatch.setattr(supervisor, "GIVE_UP", 4)
    made = Supervisor({"wall_s": 1}, 1)
    try:
        started = time.monotonic()
        with pytest.raises(UnavailableError, match="could not be started"):
            made.take()
        # The pauses between four starts are 0.1, 0.2 and 0.4 s.
        assert time.monotonic() - started > 0.65
        assert "cannot start a process (Resource temporarily" in str(made.health().fault())
    finally:
        made.close()
    for pause in ("0.1", "0.2", "0.4", "0.8"):
        assert f"another one starts in {pause} s" in caplog.text


def test_a_model_that_changes_while_in_use_is_reported(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(model.read_bytes())
    with WorkerPool(path, workers=1, wall_s=PATIENCE_S) as pool:
        path.unlink()
        worker = in_state(pool, State.READY)
        os.kill(worker.process.pid, signal.SIGKILL)
        until(lambda: worker.state is State.GONE)
        with pytest.raises(ModelError):
            pool.rows([Item("a", b"x")])
        assert isinstance(pool.read(b"x"), DigitryError)
        fault = str(pool.health().fault())
        assert "no worker is ready" in fault
        assert str(tmp_path) not in fault
        # The file is restored, and the workers start again.
        path.write_bytes(model.read_bytes())
        until(lambda: whole(pool))


def test_a_worker_that_holds_too_much_memory_is_replaced(
    model: Path, digits: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked(tmp_path, monkeypatch, "held.append(bytearray(int(content[4:8]) << 20))")
    with WorkerPool(model, workers=1, wall_s=PATIENCE_S, cpu_s=60, memory_bytes=400 << 20) as pool:
        first = pool.pids()
        # A fifth may be held; the next request can still use the full amount.
        pool.read(b"MARK0080")
        assert isinstance(pool.read(digits[0]), Reading)
        assert pool.pids() == first
        pool.read(b"MARK0300")
        until(lambda: pool.pids() != first and whole(pool))
        assert pool.health().losses == {(State.READY, Cause.GROWN): 1}
        # In the old worker this would not have fitted next to the memory that it held.
        assert "memory" not in str(pool.read(b"MARK0350"))
        until(lambda: whole(pool))
        assert "memory" in str(pool.read(b"MARK0600"))


def test_ordinary_images_do_not_replace_a_worker(model: Path) -> None:
    samples = sorted((Path(__file__).parents[2] / "samples").glob("*.[jp][pn]g"))
    with WorkerPool(model, workers=1, wall_s=PATIENCE_S, cpu_s=60) as pool:
        first = pool.pids()
        for path in samples:
            assert isinstance(pool.read(path.read_bytes()), Reading)
        assert samples
        assert pool.pids() == first


def test_closing_leaves_no_process_and_no_thread(model: Path) -> None:
    with WorkerPool(model, workers=2, wall_s=PATIENCE_S) as pool:
        pids = pool.pids()
        os.kill(pids[0], signal.SIGKILL)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not [thread for thread in threading.enumerate() if "supervisor" in thread.name]
    assert isinstance(pool.read(b"x"), UnavailableError)
