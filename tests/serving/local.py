"""Readers in threads of this process, in place of worker processes."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from digitry.reading.image import PageOf, count_pages
from digitry.reading.reader import Reader
from digitry.workers.answer import PicturedReading, read_with_pictures
from digitry.workers.supervisor import Health, State


class LocalReaders:
    """Reads in threads of this process.

    Args:
        reader: reads the images.
        threads: how many images are read at the same time.
    """

    def __init__(self, reader: Reader, *, threads: int = 2) -> None:
        self._reader = reader
        self._size = threads
        self._threads = ThreadPoolExecutor(threads, "reader")

    def health(self) -> Health:
        """Return the state of the workers: threads are always ready."""
        return Health({**dict.fromkeys(State, 0), State.READY: self._size}, {}, None)

    async def read(
        self, content: bytes, *, page: int | None = None, **options: Any
    ) -> PicturedReading:
        """Read one image; see `digitry.workers.answer.read_with_pictures`."""
        source: bytes | PageOf = content
        if page is not None:
            source = PageOf(content, page)
            options["name"] = f"{options.get('name') or '<bytes>'}#page={page}"
        work = partial(read_with_pictures, self._reader, source, **options)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def count_pages(self, content: bytes, *, name: str | None) -> int:
        """Return the number of pages of a document."""
        work = partial(count_pages, content, name=name)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
