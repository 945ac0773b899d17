"""Those who read for the service: a pool of processes that may be killed, or threads of this one."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

from digitry.errors import DigitryError, UnavailableError
from digitry.reading.reader import Layout, Reader
from digitry.serving.examine import Examined, examine
from digitry.serving.workers import WorkerPool


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
        self._pool = pool
        self._wait_s = wait_s
        # What waits, waits here, where it can be told after a while that nobody has become free.
        self._free = asyncio.Semaphore(workers)
        self._threads = ThreadPoolExecutor(workers, "reader")
        self._closed = False

    def ready(self) -> bool:
        """Tell whether an image would be read now."""
        return not self._closed

    async def examine(self, content: bytes, **options: Any) -> Examined:
        """Read one image; see `digitry.serving.examine.examine`."""
        name = options.pop("name") or "<bytes>"
        work = partial(self._pool.examine, content, name, wait_s=self._wait_s, **options)
        try:
            async with asyncio.timeout(self._wait_s):
                await self._free.acquire()
        except TimeoutError:
            raise UnavailableError("all readers are busy", remedy="try again later") from None
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._free.release()
        if isinstance(found, DigitryError):
            raise found
        return found

    def close(self) -> None:
        """End the workers."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._pool.close()
