"""Readers in processes of their own, which may be killed: whatever an image does, it does it there.

A decoder is C code fed by strangers. So each worker is a fresh interpreter with one reader, and, once
that is loaded, with limits: on its address space, on the processor time for each request, on files
(none may be written). A watchdog in the parent limits the time on the clock. A worker that dies or is
late is replaced, and the image that did it gets an error of its own. A worker gets bytes and answers
with JSON: it never sees a path, and the parent never unpickles what it says.
"""

import asyncio
import itertools
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from digitry.errors import DigitryError, ImageError, ModelError, UnavailableError, UsageError
from digitry.model.load import load_model
from digitry.reading.image import NO_MEMORY
from digitry.reading.result import Reading
from digitry.workers import messages
from digitry.workers.worker import OUT_OF_MEMORY, Full, Item, as_line, failed_row, packed

if TYPE_CHECKING:
    from digitry.reading.reader import Layout
    from digitry.workers.answer import Examined

WALL_S, CPU_S = 2.0, 2.0
MEMORY_BYTES = 1 << 30
"""Address space that one request may take beyond what the loaded reader has."""

BATCH = 64
SMALL_BYTES = 32 << 10
"""Small images are read together, as `read_many` does; a larger one gains nothing by company."""

START_S = 60.0
MAX_ANSWER = 64 << 20
_TICK_S = 0.05
_START = "import sys; from digitry.workers.worker import serve; serve(int(sys.argv[1]))"


@dataclass(frozen=True, slots=True)
class Rows:
    """The answers to some items, each one JSON object in one line of UTF-8.

    Attributes:
        lines: one for each item, in order: a Reading with offset, status and reason, without `ms`.
        rejected: how many of them were read, but not accepted.
        failed: (index, reason) of each that could not be read.
    """

    lines: tuple[bytes, ...]
    rejected: int
    failed: tuple[tuple[int, str], ...]


class WorkerPool:
    """Some killable readers; may be used from several threads at once.

    Args:
        model: the name of a shipped model, a .onnx file, or a run folder.
        layout: of images for which no other is given.
        workers: processes.
        max_error: as for `Reader`.
        max_pixels: larger images are refused.
        wall_s: seconds on the clock that one request may take.
        cpu_s: seconds of processor time that one request may take.
        memory_bytes: address space that one request may take beyond what the loaded reader has.

    Raises:
        ModelError: the model is missing, damaged, or not ours.
        UsageError: a number makes no sense.
        UnavailableError: this system has no POSIX processes and limits.
    """

    def __init__(
        self,
        model: str | Path = "reader",
        layout: "Layout" = "auto",
        workers: int = 2,
        *,
        max_error: float | None = None,
        max_pixels: int | None = None,
        wall_s: float = WALL_S,
        cpu_s: float = CPU_S,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        if os.name != "posix":
            raise UnavailableError(
                "killable workers need Linux or macOS",
                remedy="use WSL, or `digitry read` in one process",
            )
        if workers < 1 or wall_s <= 0 or cpu_s <= 0 or memory_bytes < 1:
            raise UsageError(
                f"{workers} workers with {wall_s:g} s, {cpu_s:g} s of computing and "
                f"{memory_bytes} bytes make no sense",
                remedy="give positive numbers",
            )
        self.artifact = load_model(model)
        """The model that the workers read with."""
        self.wall_s, self.cpu_s = wall_s, cpu_s
        self._config = {
            # A name, as it stands now: a worker that is started later must not read with another
            # version, if one is promoted meanwhile.
            "model": str(model) if self.artifact.version is None else self.artifact.reference,
            "sha256": self.artifact.fingerprint,
            "layout": layout,
            "max_error": max_error,
            "max_pixels": max_pixels,
            "cpu_s": cpu_s,
            "memory_bytes": memory_bytes,
        }
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._workers: set[_Worker] = set()
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for _ in range(workers):
            self._idle.put(self._started())
        threading.Thread(target=self._watch, name="digitry-watchdog", daemon=True).start()
        # The first answer tells whether the model can be run at all; better here than in a request.
        first = self._idle.get()
        try:
            first.wait_until_ready()
        except DigitryError:
            self.close()
            raise
        self._idle.put(first)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(
        self,
        content: bytes,
        name: str = "<bytes>",
        *,
        layout: "Layout | None" = None,
        wait_s: float | None = None,
    ) -> Reading | DigitryError:
        """Read one image; an error is given, not raised, because it is an answer like another.

        Args:
            content: the bytes of an image file.
            name: what the reading calls the source.
            layout: in place of the pool's own.
            wait_s: seconds to wait for a free worker; None = until there is one.

        Returns:
            The reading; ImageError where the image cannot be read, or made its worker crash or take
            too long; UnavailableError where no worker became free in time.
        """
        row = self._one(content, name, layout, wait_s, full=True)
        if isinstance(row, DigitryError):
            return row
        if row["status"] == "ok":
            return Reading.from_dict(row)
        return ImageError(row["reason"], where=name, remedy=row.get("remedy"))

    def lend(self) -> "Loan | None":
        """Lend a free worker to an event loop, if there is one."""
        try:
            return Loan(self, self._idle.get_nowait())
        except queue.Empty:
            return None

    def rows(self, items: Sequence[Item], *, layout: "Layout | None" = None) -> Rows:
        """Read some images to the rows of a table; the same images always give the same bytes.

        Small images that come together are read together. Where such a group kills its worker, its
        images are read again one by one, and only the culprit fails.
        """
        lines: list[bytes] = []
        failed: list[tuple[int, str]] = []
        rejected = 0
        for group in groups(items):
            for answer in self._answers(group, layout):
                notes = json.loads(answer[0])
                failed += [(len(lines) + index, reason) for index, reason in notes["failed"]]
                rejected += notes["rejected"]
                lines += answer[1:]
        return Rows(tuple(lines), rejected, tuple(failed))

    def pids(self) -> list[int]:
        """Give the process ids of the workers that are running now."""
        with self._lock:
            return [worker.process.pid for worker in self._workers]

    def close(self) -> None:
        """End the workers; requests under way fail."""
        self._closed.set()
        with self._lock:
            for worker in self._workers:
                worker.stop()
            self._workers.clear()

    def _one(
        self, content: bytes, name: str, layout: "Layout | None", wait_s: float | None, full: Full
    ) -> dict[str, Any] | DigitryError:
        try:
            answer = self._ask([Item(name, content)], layout, wait_s, full=full)
        except _DiedError as death:
            return _culprit(death, name)
        except UnavailableError as error:
            return error
        row: dict[str, Any] = json.loads(answer[-1])
        return row

    def _answers(self, group: list[Item], layout: "Layout | None") -> Iterator[list[bytes]]:
        try:
            yield self._ask(group, layout, None)
            return
        except _DiedError as death:
            if len(group) == 1:
                yield self._failed(group[0], str(death))
                return
        for item in group:
            yield from self._answers([item], layout)

    def _ask(
        self,
        items: list[Item],
        layout: "Layout | None",
        wait_s: float | None,
        *,
        full: Full = False,
    ) -> list[bytes]:
        """Put one request to the next free worker: a line of notes, then one for each item."""
        request = packed(items, layout, full)
        try:
            worker = self._idle.get(timeout=wait_s)
        except queue.Empty:
            raise UnavailableError("all readers are busy", remedy="try again later") from None
        try:
            self.check_open()
            return _split(worker.ask(request, self.wall_s), len(items))
        except (_DiedError, DigitryError) as error:
            # An answer of one line alone asks for the items one by one; that worker is well.
            if not worker.alive():
                worker = self.replaced(worker)
            if isinstance(error, _DiedError):
                raise self.explained(error) from None
            raise
        finally:
            self._idle.put(worker)

    def check_open(self) -> None:
        """Raise UnavailableError if the pool was closed."""
        if self._closed.is_set():
            raise UnavailableError("the readers were stopped", remedy="start them again")

    def explained(self, death: "_DiedError") -> "_DiedError":
        """Give the same with our limits in its words."""
        return _DiedError(str(death).format(wall_s=f"{self.wall_s:g}", cpu_s=f"{self.cpu_s:g}"))

    def replaced(self, worker: "_Worker") -> "_Worker":
        """Give the worker to go on with in place of one that is gone."""
        worker.stop()
        with self._lock:
            self._workers.discard(worker)
        return worker if self._closed.is_set() else self._started()

    def take_back(self, worker: "_Worker") -> None:
        """Put a worker that was lent among the free ones."""
        self._idle.put(worker)

    def _failed(self, item: Item, reason: str) -> list[bytes]:
        row = failed_row(item.name, item.offset, reason, self.artifact.metadata.name)
        return [as_line({"rejected": 0, "failed": [[0, reason]]}), as_line(row)]

    def _started(self) -> "_Worker":
        worker = _Worker(self._config)
        with self._lock:
            self._workers.add(worker)
        return worker

    def _watch(self) -> None:
        while not self._closed.wait(_TICK_S):
            with self._lock:
                workers = list(self._workers)
            for worker in workers:
                worker.kill_if_late()


class Loan:
    """A worker of a pool in the hands of an event loop, which waits for it without a thread.

    Threads that wait for workers beside a busy event loop get their turn late, and an event loop that
    hears of an answer late is late with the next request; workers stood idle for a third of the time.
    So one request may be sent ahead: answers come in the order of requests.

    Args:
        pool: whose it is.
        worker: one of its free ones.
    """

    def __init__(self, pool: WorkerPool, worker: "_Worker") -> None:
        self._pool, self._worker = pool, worker
        self._pending: deque[asyncio.Future[bytes]] = deque()
        self._line: asyncio.WriteTransport | None = None
        self._opening = asyncio.Lock()
        self._gone = self._ended = False

    async def examine(
        self, content: bytes, name: str, *, layout: "Layout", **wanted: Any
    ) -> "Examined | DigitryError":
        """Read one image as `WorkerPool.read` does, and give pictures of its digits.

        Args:
            content, name, layout: as for `WorkerPool.read`.
            wanted: max_error, glyphs, crops of `digitry.workers.answer`.
        """
        from digitry.workers.answer import answered

        request = messages.framed(packed([Item(name, content)], layout, wanted))
        while True:
            try:
                self._pool.check_open()
                line = self._line or await self._opened()
                worker = self._worker
                answer = _split(await self._answer(line, request), 1)
                return answered(json.loads(answer[-1]), name)
            except _BystanderError:
                continue
            except _DiedError as death:
                found = death if str(death) else await asyncio.to_thread(worker.death)
                return _culprit(self._pool.explained(found), name)
            except DigitryError as error:
                return error

    def give_back(self) -> None:
        """End the loan. A worker that still owes an answer, which nobody waits for, is replaced."""
        self._ended = True
        if self._line is not None:
            self._line.abort()
        if self._pending or self._gone:
            self._worker = self._pool.replaced(self._worker)
        self._pool.take_back(self._worker)

    async def _opened(self) -> asyncio.WriteTransport:
        async with self._opening:
            if self._line is None:
                if self._gone:
                    self._worker = await asyncio.to_thread(self._pool.replaced, self._worker)
                    self._gone = False
                await asyncio.to_thread(self._worker.wait_until_ready)
                self._line, _ = await asyncio.get_running_loop().create_connection(
                    lambda: _Exchange(self._hear, self._lose), sock=self._worker.end()
                )
            return self._line

    def _answer(self, line: asyncio.WriteTransport, request: bytes) -> "asyncio.Future[bytes]":
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._pending.append(answer)
        if len(self._pending) == 1:
            self._worker.limit(self._pool.wall_s)
        line.write(request)
        return answer

    def _hear(self, message: bytes) -> None:
        answer = self._pending.popleft()
        # The clock of the next one starts when the worker turns to it.
        self._worker.limit(self._pool.wall_s if self._pending else None)
        if not answer.done():
            answer.set_result(message)

    def _lose(self) -> None:
        if self._ended:
            return
        self._line, self._gone = None, True
        self._worker.limit(None)
        errors: Iterator[Exception] = itertools.chain(
            [_DiedError()], itertools.repeat(_BystanderError())
        )
        for answer, error in zip(self._pending, errors, strict=False):
            if not answer.done():
                answer.set_exception(error)
        self._pending.clear()


class _BystanderError(Exception):
    """The worker is gone, but for another image's sake."""


class _Exchange(asyncio.Protocol):
    """Takes answers from a line as they come."""

    def __init__(self, hear: Callable[[bytes], None], lose: Callable[[], None]) -> None:
        self._hear, self._lose = hear, lose
        self._received = bytearray()
        self._line: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._line = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            while (message := messages.first(self._received, MAX_ANSWER)) is not None:
                self._hear(message)
        except OSError:
            if self._line is not None:
                self._line.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._lose()


def groups(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Cut items into those that are read together: runs of small ones; each larger one alone."""
    group: list[Item] = []
    for item in items:
        if len(item.content) > SMALL_BYTES:
            if group:
                yield group
            yield [item]
            group = []
            continue
        group.append(item)
        if len(group) == BATCH:
            yield group
            group = []
    if group:
        yield group


def failed_line(name: str, offset: int | None, reason: str, model: str) -> bytes:
    """Give the row of an input that never reached a worker."""
    return as_line(failed_row(name, offset, reason, model))


class _DiedError(Exception):
    """A worker is gone, or could not answer; the text says why, for `str.format` with the limits."""


def _culprit(death: _DiedError, name: str) -> ImageError:
    return ImageError(str(death), where=name, remedy="open it elsewhere and save it again")


def _split(answer: bytes, items: int) -> list[bytes]:
    """Give the lines of an answer: one of notes, and one for each item."""
    lines = answer.split(b"\n")
    if len(lines) != items + 1:
        raise _DiedError("cannot be read together with others")
    return lines


class _Worker:
    """One process and our end of the line to it; used by one thread at a time."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        ours, theirs = socket.socketpair()
        self.late = False
        self._deadline = float("inf")
        self._clock = threading.Lock()
        self._ready = False
        self._sha256 = config["sha256"]
        self._source = config["model"]
        self._line = ours
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # Ctrl-C is for the parent, which then hangs up; a worker ends when the line does.
                start_new_session=True,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                    "OMP_NUM_THREADS": "1",
                    "OPENBLAS_NUM_THREADS": "1",
                },
            )
        with suppress(OSError):
            self._line.sendall(messages.framed(json.dumps(config).encode()))

    def alive(self) -> bool:
        return self.process.poll() is None and not self.late

    def wait_until_ready(self) -> None:
        if self._ready:
            return
        self.limit(START_S)
        try:
            self._line.setblocking(True)
            answer = json.loads(messages.receive(self._line, bytearray(), MAX_ANSWER))
        except (EOFError, OSError) as error:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(1.0)
            raise UnavailableError(
                "a worker process could not be started", remedy="look whether memory is short"
            ) from error
        finally:
            self.limit(None)
        if answer.get("error"):
            raise ModelError(answer["error"], where=self._source)
        if answer["sha256"] != self._sha256:
            raise ModelError(
                "was changed while it was in use", where=self._source, remedy="start again"
            )
        self._ready = True

    def ask(self, request: bytes, wall_s: float) -> bytes:
        try:
            self.wait_until_ready()
            self._line.setblocking(True)
            self.limit(wall_s)
            self._line.sendall(messages.framed(request))
            answer = messages.receive(self._line, bytearray(), MAX_ANSWER)
        except (EOFError, OSError) as error:
            self.limit(None)
            raise self.death() from error
        self.limit(None)
        if self.late:
            raise self.death()
        return answer

    def end(self) -> socket.socket:
        """Give our end of the line to an event loop, which closes it when it is done."""
        line = self._line.dup()
        line.setblocking(False)
        return line

    def kill_if_late(self) -> None:
        # Under one lock with the end of a request: never is a worker killed for one that has ended.
        with self._clock:
            if self._deadline < time.monotonic():
                self.late = True
                self.process.kill()

    def limit(self, seconds: float | None) -> None:
        with self._clock:
            self._deadline = float("inf") if seconds is None else time.monotonic() + seconds

    def stop(self) -> None:
        self.process.kill()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5.0)
        self._line.close()

    def death(self) -> _DiedError:
        """Say why the process has ended."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)
        status = self.process.poll()
        if self.late:
            return _DiedError("takes longer than {wall_s} s to read")
        if status in (-signal.SIGPROF, -signal.SIGXCPU):
            return _DiedError("takes more than {cpu_s} s of computing to read")
        if status == OUT_OF_MEMORY:
            return _DiedError(NO_MEMORY)
        if status is not None and status < 0:
            return _DiedError(f"crashed its reader ({signal.Signals(-status).name})")
        return _DiedError("crashed its reader")
