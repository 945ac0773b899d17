"""If a worker is lost, the pool goes on, and only the image that caused the loss fails."""

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from digitry.errors import ImageError, ModelError, UnavailableError, UsageError
from digitry.reading.reader import Reader
from digitry.reading.result import Reading
from digitry.workers.pool import BATCH, WorkerPool, groups
from digitry.workers.worker import Item

from ..waiting import PATIENCE_S, until
from .test_supervisor import asleep

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits are proved on Linux")


@pytest.fixture(scope="module")
def pool(model: Path) -> Iterator[WorkerPool]:
    with WorkerPool(model, workers=2, wall_s=PATIENCE_S, cpu_s=60) as made:
        yield made


def without_time(reading: Reading) -> dict[str, object]:
    return {key: value for key, value in reading.to_dict().items() if key != "ms"}


def endless() -> bytes:
    """An image that takes over 0.1 s to decode: 48 million pixels."""
    stream = io.BytesIO()
    Image.linear_gradient("L").resize((8000, 6000)).save(stream, "PNG")
    return stream.getvalue()


def test_workers_and_reader_give_the_same_reading(
    pool: WorkerPool, model: Path, digits: list[bytes]
) -> None:
    reader = Reader(model)
    for index, content in enumerate(digits[:8]):
        answer = pool.read(content, f"{index}.png", layout="single")
        assert isinstance(answer, Reading)
        expected = reader.read(content, name=f"{index}.png", layout="single")
        assert without_time(answer) == without_time(expected)


def test_rows_do_not_depend_on_the_batch(pool: WorkerPool, digits: list[bytes]) -> None:
    items = [Item(f"{index}.png", content, index) for index, content in enumerate(digits)]
    together = pool.rows(items)
    alone = [pool.rows([item]).lines[0] for item in items]
    assert list(together.lines) == alone


def test_a_bad_image_gives_an_error_as_its_answer(pool: WorkerPool, digits: list[bytes]) -> None:
    answer = pool.read(b"hello", "bad.png")
    assert isinstance(answer, ImageError)
    assert str(answer).startswith("bad.png: is not an image")
    rows = pool.rows([Item("a", digits[0]), Item("b", digits[1][:50]), Item("c", digits[2])])
    assert len(rows.lines) == 3
    assert [index for index, _ in rows.failed] == [1]


def test_several_threads_share_the_pool(pool: WorkerPool, digits: list[bytes]) -> None:
    answers: dict[int, object] = {}

    def ask(index: int) -> None:
        answers[index] = pool.read(digits[index], str(index))

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(isinstance(answers[i], Reading) and answers[i].source == str(i) for i in range(16))


def test_the_wall_clock_time_is_limited(
    model: Path, digits: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asleep(tmp_path, monkeypatch)
    with WorkerPool(model, workers=1, wall_s=3) as pool:
        answer = pool.read(b"MARK", "slow.png")
        assert isinstance(answer, ImageError)
        assert "took too long: more than 3 s" in str(answer)
        assert isinstance(pool.read(digits[0]), Reading)


def test_the_processor_time_is_limited(model: Path) -> None:
    with WorkerPool(model, workers=1, wall_s=PATIENCE_S, cpu_s=0.1) as pool:
        answer = pool.read(endless(), "slow.png")
        assert isinstance(answer, ImageError)
        assert "more than 0.1 s of processor time" in str(answer)


def test_the_memory_is_limited(model: Path, digits: list[bytes]) -> None:
    with WorkerPool(model, workers=1, wall_s=PATIENCE_S, cpu_s=60, memory_bytes=40 << 20) as pool:
        answer = pool.read(endless(), "large.png")
        assert isinstance(answer, ImageError)
        assert "memory" in str(answer)
        assert isinstance(pool.read(digits[0]), Reading)


def test_a_crashed_worker_is_replaced_at_once(model: Path, digits: list[bytes]) -> None:
    with WorkerPool(model, workers=2, wall_s=PATIENCE_S) as pool:
        for pid in pool.pids():
            os.kill(pid, signal.SIGSEGV)
        answers = [pool.read(digits[0], "a.png") for _ in range(4)]
        died = [answer for answer in answers if isinstance(answer, ImageError)]
        assert all("crashed its worker process (SIGSEGV)" in str(answer) for answer in died)
        assert isinstance(answers[-1], Reading)


def test_only_the_image_that_crashes_a_batch_fails(
    model: Path, digits: list[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A decoder that crashes on a marked image, like a fault in C code.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal\n"
        "import digitry.reading.image as image\n"
        "load = image._from_bytes\n"
        "def crash(content, *rest):\n"
        "    if content.startswith(b'CRASH'): os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    return load(content, *rest)\n"
        "image._from_bytes = crash\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    items = [Item(str(index), content) for index, content in enumerate(digits)]
    with WorkerPool(model, workers=1, wall_s=PATIENCE_S) as pool:
        before = pool.rows(items)
        rows = pool.rows([*items[:7], Item("bad", b"CRASH"), *items[7:]])
    assert rows.failed == ((7, "crashed its worker process (SIGSEGV)"),)
    assert (*rows.lines[:7], *rows.lines[8:]) == before.lines


def test_a_busy_pool_is_an_error(model: Path, digits: list[bytes]) -> None:
    with WorkerPool(model, workers=1, wall_s=PATIENCE_S) as pool:
        loan = until(pool.lend)
        assert isinstance(pool.read(digits[0], wait_s=0.01), UnavailableError)
        pool.give_back(loan)


def test_workers_end_with_their_parent(model: Path) -> None:
    code = (
        "import sys, os; from digitry.workers.pool import WorkerPool\n"
        "pool = WorkerPool(sys.argv[1], workers=2)\n"
        "print(*pool.pids(), flush=True); os.kill(os.getpid(), 9)"
    )
    import subprocess

    run = subprocess.run([sys.executable, "-c", code, str(model)], stdout=subprocess.PIPE)
    pids = [int(pid) for pid in run.stdout.split()]
    assert len(pids) == 2

    def gone(pid: int) -> bool:
        stat = Path(f"/proc/{pid}/stat")
        with suppress(FileNotFoundError, ProcessLookupError):
            return ") Z" in stat.read_text()
        return True

    until(lambda: all(gone(pid) for pid in pids))


def test_a_worker_cannot_write_files(pool: WorkerPool) -> None:
    def most_bytes() -> list[str]:
        limits = Path(f"/proc/{pool.pids()[0]}/limits").read_text()
        sizes = next(line for line in limits.splitlines() if line.startswith("Max file size"))
        return sizes.split()[3:5]

    # A worker that has just replaced another one is still starting.
    until(lambda: most_bytes() == ["0", "0"])


def test_a_model_that_cannot_be_run_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        WorkerPool(tmp_path / "none.onnx")
    with pytest.raises(UsageError):
        WorkerPool(workers=0)


def test_batches_are_runs_of_small_images() -> None:
    small, large = Item("s", b"x"), Item("l", bytes(100_000))
    found = [len(group) for group in groups([small, small, large, *[small] * (BATCH + 1)])]
    assert found == [2, 1, BATCH, 1]
