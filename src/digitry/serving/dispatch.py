"""The readers of the service: worker processes, which the event loop talks to."""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

from digitry.errors import DigitryError, UnavailableError
from digitry.reading.recognise import Layout
from digitry.workers import messages
from digitry.workers.answer import PicturedReading, answered, counted
from digitry.workers.pool import WorkerPool, blamed, is_grown
from digitry.workers.supervisor import MAX_ANSWER, Cause, Health, Worker
from digitry.workers.worker import Item, packed

T = TypeVar("T")

_AHEAD = 2
"""Images sent to one worker at a time: the one that it reads, and the next."""

_POLL_S = 0.02
"""Pause between two requests to the pool while a worker is missing."""


class Readers(Protocol):
    """Reads images."""

    def health(self) -> Health:
        """Return the state of the workers."""

    async def read(
        self,
        content: bytes,
        *,
        name: str | None,
        layout: Layout,
        max_error: float | None,
        glyphs: bool,
        crops: bool,
        strips: bool = False,
        picture: bool = False,
        pattern: str | None = None,
        template: Mapping[str, Any] | None = None,
        page: int | None = None,
    ) -> PicturedReading:
        """Read one image, or one page of a document; see `digitry.workers.answer.read_with_pictures`.

        Raises:
            DigitryError: the image cannot be read, crashed its worker, or took too long.
        """

    async def count_pages(self, content: bytes, *, name: str | None) -> int:
        """Return the number of pages of a document.

        Raises:
            DigitryError: as for `read`.
        """

    def close(self) -> None:
        """Release all workers."""


class PoolReaders:
    """Reads in the worker processes of a pool.

    The event loop owns the sockets of the workers, because threads that wait for workers are scheduled
    late next to a busy loop. Each worker gets one request ahead, so that it does not idle until the loop
    has handled its last answer. Images wait in one queue until a worker has room. A worker that is lost
    gets no more requests.

    Args:
        pool: the workers; closed together with this object.
        wait_s: seconds that an image may wait for a free worker.
    """

    def __init__(self, pool: WorkerPool, *, wait_s: float = 5.0) -> None:
        self._pool, self._wait_s = pool, wait_s
        self._waiting: deque[_Job] = deque()
        self._connections: list[_Connection] = []
        self._missing = asyncio.Event()
        self._opener: asyncio.Task[None] | None = None

    def health(self) -> Health:
        """Return the state of the workers."""
        return self._pool.health()

    async def read(
        self,
        content: bytes,
        *,
        name: str | None = None,
        page: int | None = None,
        **options: Any,
    ) -> PicturedReading:
        """Read one image; see `digitry.workers.answer.read_with_pictures`."""
        return await self._answer(Item(name or "<bytes>", content, page=page), options, answered)

    async def count_pages(self, content: bytes, *, name: str | None) -> int:
        """Return the number of pages of a document."""
        return await self._answer(Item(name or "<bytes>", content), {"count": True}, counted)

    async def _answer(
        self,
        item: Item,
        options: dict[str, Any],
        decode: Callable[[Mapping[str, Any], str], T | DigitryError],
    ) -> T:
        """Return a worker's answer for one image.

        Args:
            item: the image.
            options: what the worker is asked.
            decode: turns the answer into the result.

        Raises:
            DigitryError: the image cannot be read, its worker was lost, or none became free in time.
        """
        loop = asyncio.get_running_loop()
        if self._opener is None or self._opener.done():
            self._missing = asyncio.Event()
            self._opener = loop.create_task(self._connect_all())
        request = messages.framed(packed([item], options))
        job = _Job(item.source, request, decode, loop.create_future(), loop.time() + self._wait_s)
        self._waiting.append(job)
        self._send()
        try:
            await asyncio.wait([job.answer], timeout=self._wait_s)
            # An image that has been sent to a worker has its own time limit.
            if not job.begun:
                job.give_up()
            found: T | DigitryError = await job.answer
        finally:
            job.answer.cancel()
        if isinstance(found, DigitryError):
            raise found
        return found

    def close(self) -> None:
        """Stop the workers."""
        if self._opener is not None:
            self._opener.cancel()
        self._pool.close()

    async def _connect_all(self) -> None:
        """Connect to every ready worker of the pool, as long as the loop runs."""
        try:
            while True:
                self._missing.clear()
                while len(self._connections) < self._pool.size:
                    if not await self._connect_one():
                        await asyncio.sleep(_POLL_S)
                await self._missing.wait()
        finally:
            for connection in list(self._connections):
                connection.abandon()
            self._connections.clear()

    async def _connect_one(self) -> bool:
        try:
            worker = self._pool.lend()
        except DigitryError:
            # No worker can be started; the supervisor keeps trying, and /readyz says why.
            return False
        if worker is None:
            return False
        end = worker.socket.dup()
        end.setblocking(False)
        connection = _Connection(worker, self._send, self._lost)
        try:
            await asyncio.get_running_loop().create_connection(lambda: connection, sock=end)
        except BaseException:
            end.close()
            self._pool.give_back(worker)
            raise
        if not connection.ended:
            self._connections.append(connection)
            self._send()
        return True

    def _send(self) -> None:
        """Send waiting images to the workers with the fewest pending ones."""
        while self._waiting:
            connection = min(self._connections, key=lambda one: len(one.pending), default=None)
            if connection is None or len(connection.pending) >= _AHEAD:
                return
            job = self._waiting.popleft()
            if not job.answer.done():
                connection.send(job)

    def _lost(self, connection: "_Connection", orphans: "list[_Job]") -> None:
        """Queue the images of a lost worker again, for another worker."""
        if connection in self._connections:
            self._connections.remove(connection)
        for job in reversed(orphans):
            job.begun = False
            if asyncio.get_running_loop().time() > job.until:
                job.give_up()
            else:
                self._waiting.appendleft(job)
        self._pool.give_back(connection.worker)
        self._missing.set()
        self._send()


@dataclass
class _Job:
    """An image to be read.

    Attributes:
        name: the name of the image.
        request: the message for the worker.
        decode: turns a worker's answer into the result.
        answer: the result, or a DigitryError.
        until: when to stop waiting for a worker, on the loop's clock.
        begun: whether it was sent to a worker.
    """

    name: str
    request: bytes
    decode: Callable[[Mapping[str, Any], str], Any]
    answer: "asyncio.Future[Any]"
    until: float
    begun: bool = False

    def settle(self, found: Any) -> None:
        if not self.answer.done():
            self.answer.set_result(found)

    def give_up(self) -> None:
        self.settle(UnavailableError("all workers are busy", remedy="try again later"))


class _Connection(asyncio.Protocol):
    """The connection to one worker, which answers in the order of requests.

    Args:
        worker: taken from the pool.
        free: called when the worker has room for another request.
        lost: called once when the worker is lost, with the images that it had not begun.
    """

    def __init__(
        self,
        worker: Worker,
        free: Callable[[], None],
        lost: "Callable[[_Connection, list[_Job]], None]",
    ) -> None:
        self.worker = worker
        self.pending: deque[_Job] = deque()
        self.ended = False
        self._free, self._lost = free, lost
        self._received = bytearray()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def send(self, job: _Job) -> None:
        job.begun = True
        self.pending.append(job)
        if len(self.pending) == 1:
            self.worker.begin()
        if self._transport is not None:
            self._transport.write(job.request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            while (message := messages.first(self._received, MAX_ANSWER)) is not None:
                self._hear(message)
        except (DigitryError, OSError, ValueError, LookupError, TypeError):
            # Not a valid answer: the worker cannot be trusted any more.
            self.worker.kill(Cause.CRASHED)
            self.connection_lost(None)
        self._free()

    def connection_lost(self, error: Exception | None) -> None:
        if self.ended:
            return
        culprit = self.pending.popleft() if self.pending else None
        self.worker.hung_up()
        if culprit is not None:
            # The exit status says why, but the process may not have ended yet.
            death = asyncio.get_running_loop().run_in_executor(None, self.worker.loss)
            death.add_done_callback(
                lambda done: culprit.settle(blamed(culprit.name, done.result()))
            )
        self._end()

    def abandon(self) -> None:
        """Release the worker because the loop ends; kill it if an answer is still pending."""
        if self.pending:
            self.worker.kill(Cause.STOPPED)
        self.pending.clear()
        self._end()

    def _hear(self, message: bytes) -> None:
        if self.ended:
            return
        notes, row = message.split(b"\n")
        job = self.pending[0]
        job.settle(job.decode(json.loads(row), job.name))
        self.pending.popleft()
        # The time limit of the next image starts now.
        if self.pending:
            self.worker.begin()
        else:
            self.worker.done()
        if is_grown(notes):
            self.worker.kill(Cause.GROWN)
            self._end()

    def _end(self) -> None:
        self.ended = True
        if self._transport is not None:
            self._transport.abort()
        orphans = list(self.pending)
        self.pending.clear()
        self._lost(self, orphans)
