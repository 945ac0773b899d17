"""Those who read for the service: a pool of processes that may be killed, or threads of this one."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from digitry.errors import DigitryError, UnavailableError
from digitry.reading.reader import Layout, Reader
from digitry.workers.answer import Examined, examine
from digitry.workers.pool import Loan, WorkerPool

_AHEAD = 2
"""Images that a worker has before it: the one that it reads, and the next."""


class Readers(Protocol):
    """Those who read: a pool of worker processes, or a reader in this one."""

    def ready(self) -> bool:
        """Tell whether an image would be read now."""

    async def examine(
        self,
        content: bytes,
        *,
        name: str | None,
        layout: Layout,
        max_error: float | None,
        glyphs: bool,
        crops: bool,
    ) -> Examined:
        """Read one image; see `digitry.serving.examine.examine`.

        Raises:
            DigitryError: it cannot be read, or killed its reader, or took too long.
        """

    def close(self) -> None:
        """Let go of what reading needs."""


class LocalReaders:
    """Reads in threads of this process: for tests and for trusted images.

    Args:
        reader: with the model.
        threads: images at one time.
    """

    def __init__(self, reader: Reader, *, threads: int = 2) -> None:
        self._reader = reader
        self._threads = ThreadPoolExecutor(threads, "reader")

    def ready(self) -> bool:
        """Tell whether an image would be read now."""
        return True

    async def examine(self, content: bytes, **options: Any) -> Examined:
        """Read one image; see `digitry.serving.examine.examine`."""
        work = partial(examine, self._reader, content, **options)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class PoolReaders:
    """Reads in the processes of a pool.

    Args:
        pool: of workers; closed with this.
        workers: how many it has.
        wait_s: seconds that an image may wait for a free one.
    """

    def __init__(self, pool: WorkerPool, *, workers: int, wait_s: float = 5.0) -> None:
        self._pool, self._workers, self._wait_s = pool, workers, wait_s
        self._jobs: asyncio.Queue[_Job] | None = None
        self._runners: list[asyncio.Task[None]] = []
        self._closed = False

    def ready(self) -> bool:
        """Tell whether an image would be read now."""
        return not self._closed

    async def examine(self, content: bytes, **options: Any) -> Examined:
        """Read one image; see `digitry.serving.examine.examine`."""
        job = _Job(content, options, asyncio.get_running_loop().create_future())
        self._queue().put_nowait(job)
        try:
            await asyncio.wait([job.answer], timeout=self._wait_s)
            # One that has begun has a limit of its own.
            if not job.answer.done() and not job.begun:
                raise UnavailableError("all readers are busy", remedy="try again later")
            found = await job.answer
        finally:
            job.answer.cancel()
        if isinstance(found, DigitryError):
            raise found
        return found

    def close(self) -> None:
        """End the workers."""
        self._closed = True
        for runner in self._runners:
            runner.cancel()
        self._pool.close()

    def _queue(self) -> "asyncio.Queue[_Job]":
        """Give the queue of this event loop, with those who serve it."""
        if self._jobs is None or all(runner.done() for runner in self._runners):
            self._jobs = asyncio.Queue()
            self._runners = [
                asyncio.create_task(self._serve(self._jobs)) for _ in range(self._workers)
            ]
        return self._jobs

    async def _serve(self, jobs: "asyncio.Queue[_Job]") -> None:
        """Let one worker read what waits, one after the other, for as long as the loop runs."""
        while (loan := self._pool.lend()) is None:
            await asyncio.sleep(0.05)
        try:
            await asyncio.gather(*[self._lane(loan, jobs) for _ in range(_AHEAD)])
        finally:
            loan.give_back()

    async def _lane(self, loan: Loan, jobs: "asyncio.Queue[_Job]") -> None:
        while True:
            job = await jobs.get()
            if job.answer.done():
                continue
            job.begun = True
            options = dict(job.options)
            name = options.pop("name") or "<bytes>"
            try:
                found: Any = await loan.examine(job.content, name, **options)
            except Exception as error:  # noqa: BLE001 (the next image is to be read all the same)
                if not job.answer.done():
                    job.answer.set_exception(error)
            else:
                if not job.answer.done():
                    job.answer.set_result(found)


@dataclass
class _Job:
    content: bytes
    options: Mapping[str, Any]
    answer: "asyncio.Future[Examined | DigitryError]"
    begun: bool = False
