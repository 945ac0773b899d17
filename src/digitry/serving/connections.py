"""What stands before every request: how many connections there may be, how large and slow a head.

uvicorn with httptools is the fastest well-kept server for ASGI that was measured, and bounds none of
these. `GuardedProtocol` adds the bounds in its documented place, the class given as `http=`. It stands
on asyncio's protocol methods, on httptools' callbacks, and on two methods of uvicorn
(`UVICORN_METHODS`); tests/serving/test_connections.py proves over sockets that they are still called.

A connection waits until the head of a request is complete; then it works until the answer is sent.
Where room is short, the connection that has waited longest is closed, so silent ones shut nobody out.
"""

import asyncio
import functools
from collections.abc import Sequence
from http import HTTPStatus
from typing import ClassVar, cast

import uvicorn
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from digitry.errors import UnavailableError
from digitry.serving.addresses import Network, is_among, source_of
from digitry.serving.guard import HEADERS, Limits
from digitry.serving.metrics import Metrics
from digitry.serving.problems import Problem, busy

UVICORN_METHODS = ("on_response_complete", "send_400_response")

TURNED_AWAY_SECONDS = 1.0
"""How long a connection that gets no place may take to ask; it is answered when it does."""


class Door:
    """The connections of one server: who has a place, and who must give it up.

    Args:
        limits: see `Limits`.
        metrics: where connections and refusals are counted.
        proxies: reverse proxies; the bound for one address does not hold for them.
    """

    def __init__(self, limits: Limits, metrics: Metrics, proxies: Sequence[Network] = ()) -> None:
        self.limits = limits
        self.metrics = metrics
        self.proxies = proxies
        # Source -> its connections, in the order in which they came.
        self._here: dict[str, set[GuardedProtocol]] = {}
        self._total = 0
        # Source -> its waiting connections, and all of them; the one that waits longest comes first.
        self._waiting: dict[str, dict[GuardedProtocol, None]] = {}
        self._all_waiting: dict[GuardedProtocol, None] = {}

    def enter(self, connection: "GuardedProtocol", address: str) -> Problem | None:
        """Give a new connection a place, or return why it gets none; it waits from now on."""
        refusal = None
        source = source_of(address)
        bounded = not is_among(address, self.proxies)
        if bounded and len(self._here.get(source, ())) >= self.limits.connections_per_address:
            longest = next(iter(self._waiting.get(source, ())), None)
            if longest is not None:
                self._close(longest)
            else:
                refusal = Problem(
                    "too-many-connections",
                    f"at most {self.limits.connections_per_address} connections from one address",
                    headers={"Retry-After": "1"},
                )
        if self._total >= self.limits.connections:
            longest = next(iter(self._all_waiting), None)
            if longest is None:
                return busy("too many connections are at work; try again in a second")
            self._close(longest)
        connection.source = source
        self._here.setdefault(source, set()).add(connection)
        self._total += 1
        self.metrics.connections.set(self._total)
        self.wait(connection)
        return refusal

    def wait(self, connection: "GuardedProtocol") -> None:
        """Let a connection be closed where room is short: it waits for a request."""
        if connection.source is not None:
            self._waiting.setdefault(connection.source, {})[connection] = None
            self._all_waiting[connection] = None

    def work(self, connection: "GuardedProtocol") -> None:
        """Keep a connection whatever comes: a request of it is worked on."""
        if self._all_waiting.pop(connection, connection) is None:
            waiting = self._waiting[cast("str", connection.source)]
            del waiting[connection]
            if not waiting:
                del self._waiting[cast("str", connection.source)]

    def leave(self, connection: "GuardedProtocol") -> None:
        """Free the place of a connection, if it has one."""
        if connection.source is None:
            return
        self.work(connection)
        here = self._here[connection.source]
        here.remove(connection)
        if not here:
            del self._here[connection.source]
        self._total -= 1
        connection.source = None
        self.metrics.connections.set(self._total)

    def _close(self, connection: "GuardedProtocol") -> None:
        self.metrics.refused_connections.labels("made-room").inc()
        self.leave(connection)
        connection.abort()


class GuardedProtocol(HttpToolsProtocol):
    """One connection of uvicorn's, within the limits of its door."""

    door: ClassVar[Door]
    source: str | None = None
    """Under which it is counted; None: it has no place."""

    _line: asyncio.Transport
    _timer: asyncio.TimerHandle | None = None
    _turned_away: Problem | None = None
    _refusal: Problem | None = None
    _refused = False
    _was_closing = False
    # Since when it waits for a whole head; None while a request is worked on.
    _waits_since: float | None = None
    # Since when the client takes nothing of its answers.
    _stuck_since: float | None = None
    # Requests whose head is here and whose answer is not sent.
    _working = 0
    # Between two messages, in a head, or in a body.
    _in_head = False
    _in_body = False
    _messages = 0
    _head_bytes = 0
    _head_fields = 0
    _body_came = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place, or refuse."""
        self._line = cast("asyncio.Transport", transport)
        super().connection_made(self._line)
        peer = transport.get_extra_info("peername")
        self._turned_away = self.door.enter(self, str(peer[0]) if peer else "local")
        if self._turned_away is not None and self.source is None:
            self._refuse(self._turned_away)
            return
        self._waits_since = self.loop.time()
        wait = self.door.limits.head_seconds if self._turned_away is None else TURNED_AWAY_SECONDS
        self._timer = self.loop.call_later(wait, self._check)

    def connection_lost(self, exc: Exception | None) -> None:
        """Free the place."""
        self.door.leave(self)
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Hand on what came in pieces that are not larger than what a head may still take."""
        if self._turned_away is not None:
            self._refuse(self._turned_away)
        limit = self.door.limits.head_bytes
        start = 0
        while start < len(data) and not self._refused and not self._line.is_closing():
            size = limit - self._head_bytes
            self._feed(data[start : start + size] if start or size < len(data) else data)
            start += size
            if self._head_bytes >= limit:
                if self._in_body and not self._working:
                    # It has its answer already.
                    self._line.close()
                else:
                    self._refuse(_head_too_large(limit))

    def _feed(self, piece: bytes) -> None:
        began, between = self._messages, not (self._in_head or self._in_body)
        super().data_received(piece)
        # A head that begins within a piece, behind the end of another message, is charged from the
        # next piece on: httptools does not say where in the piece it began. A piece of a body in which
        # there is nothing of the body is a head, too: fields behind the last chunk, notes on a chunk.
        begun = self._messages - began
        if self._in_body:
            self._head_bytes = 0 if self._body_came else self._head_bytes + len(piece)
            self._body_came = False
        elif self._in_head and (begun == 0 or (begun == 1 and between)):
            self._head_bytes += len(piece)

    # --- callbacks of httptools ---------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A head begins."""
        self._messages += 1
        self._head_bytes = self._head_fields = 0
        self._in_head = True
        if not self._working:
            self._waits_since = self.loop.time()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a field of the head; too many end the reading of it."""
        self._head_fields += 1
        if self._head_fields > self.door.limits.head_fields:
            self._refusal = _too_many_fields(self.door.limits.head_fields)
            raise ValueError("too many header fields")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A request is here; its body may still come."""
        self._in_head, self._in_body = False, True
        if self._working >= self.door.limits.pipelined:
            # What could be said now would be taken for the answer to an earlier request.
            self._refused = True
            self.door.metrics.refused_connections.labels("too-many-pipelined").inc()
            self.abort()
            raise ValueError("too many requests at once")
        super().on_headers_complete()
        self._body_came = True
        self._working += 1
        self._waits_since = None
        self.door.work(self)

    def on_body(self, body: bytes) -> None:
        """Some of the body is here."""
        self._body_came = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The body is here."""
        self._in_body = False
        self._head_bytes = 0
        super().on_message_complete()

    # --- what uvicorn and asyncio say ---------------------------------------------------------------

    def on_response_complete(self) -> None:
        """An answer is sent; without another request the connection waits again."""
        self._working -= 1
        super().on_response_complete()
        if not self._working:
            self._waits_since = self.loop.time()
            self.door.wait(self)

    def send_400_response(self, msg: str) -> None:
        """Refuse what httptools could not read, or what a callback stopped."""
        self._refuse(self._refusal or _malformed())

    def pause_writing(self) -> None:
        """The client does not take its answers."""
        self._stuck_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client takes its answers again."""
        self._stuck_since = None
        super().resume_writing()

    # --- the end of a connection --------------------------------------------------------------------

    def abort(self) -> None:
        """Close at once; what was not sent is dropped."""
        self._line.abort()

    def _refuse(self, problem: Problem) -> None:
        """Say why, once, and close."""
        if self._refused:
            return
        self._refused = True
        self.door.metrics.refused_connections.labels(problem.kind).inc()
        self._line.write(_answer(problem.kind, problem.detail, problem.headers.get("Retry-After")))
        self._line.close()

    def _check(self) -> None:
        """Close what is overdue, and come again when something may be."""
        now = self.loop.time()
        limits = self.door.limits
        if self._stuck_since is not None and now >= self._stuck_since + limits.answer_seconds:
            self.door.metrics.refused_connections.labels("answer-not-taken").inc()
            self.abort()
            return
        if self._line.is_closing():
            # The last answer had the time of one more check to leave.
            if self._was_closing:
                self.abort()
                return
            self._was_closing = True
        elif self._turned_away is not None:
            self._refuse(self._turned_away)
        elif self._waits_since is not None and now >= self._waits_since + limits.head_seconds:
            if self._in_head:
                self._refuse(_head_too_slow(limits.head_seconds))
            else:
                # Nothing was asked, so nothing is answered.
                self._line.close()
        due = now + limits.head_seconds
        if self._waits_since is not None and not self._line.is_closing():
            due = self._waits_since + limits.head_seconds
        if self._stuck_since is not None:
            due = min(due, self._stuck_since + limits.answer_seconds)
        self._timer = self.loop.call_at(due, self._check)


def guarded(door: Door) -> type[GuardedProtocol]:
    """Return the class that uvicorn makes connections of, bound to a door.

    Raises:
        UnavailableError: this uvicorn has other methods than the guard stands on.
    """
    if not all(hasattr(HttpToolsProtocol, name) for name in UVICORN_METHODS):
        raise UnavailableError(
            f"uvicorn {uvicorn.__version__} is not supported",
            remedy="install digitry[serve] anew, with the versions that it asks for",
        )
    return type("GuardedProtocol", (GuardedProtocol,), {"door": door})


# --- refusals --------------------------------------------------------------------------------------


def _head_too_large(most: int) -> Problem:
    return Problem("head-too-large", f"address and headers may have {most:,} bytes")


def _too_many_fields(most: int) -> Problem:
    return Problem("head-too-large", f"at most {most} headers are taken")


def _head_too_slow(seconds: float) -> Problem:
    return Problem("head-too-slow", f"the headers must be here within {seconds:g} s")


def _malformed() -> Problem:
    return Problem("malformed-request", "this is not HTTP/1.1")


@functools.lru_cache(maxsize=32)
def _answer(kind: str, detail: str, retry_after: str | None) -> bytes:
    """Return a refusal as it goes over the line."""
    headers = {**HEADERS, "Connection": "close"}
    if retry_after is not None:
        headers["Retry-After"] = retry_after
    response: Response = Problem(kind, detail, headers=headers).response()
    lines = [f"HTTP/1.1 {response.status_code} {HTTPStatus(response.status_code).phrase}".encode()]
    lines += [name + b": " + value for name, value in response.raw_headers]
    return b"\r\n".join([*lines, b"", bytes(response.body)])
