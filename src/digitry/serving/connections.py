"""Limits on connections and request heads: how many, how large, how slow.

uvicorn with httptools was the fastest maintained ASGI server that we measured, but it has none of
these limits. `GuardedProtocol` adds them where uvicorn documents it: the class given as `http=`. It
relies on asyncio's protocol methods, on httptools' callbacks, and on two methods of uvicorn
(`UVICORN_METHODS`); tests/serving/test_connections.py proves over sockets that they are still called.

A connection is waiting until the head of a request is complete, then working until the answer is sent.
When a limit is reached, the connection that has waited longest is closed, so idle connections cannot
block new clients.
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

REJECTED_SECONDS = 1.0
"""Time in which a rejected connection may send a request; the refusal is its answer."""


class ConnectionRegistry:
    """The open connections of one server, and which of them to close when a limit is reached.

    Args:
        limits: see `Limits`.
        metrics: counts connections and refusals.
        proxies: reverse proxies; the limit for one address does not apply to them.
    """

    def __init__(self, limits: Limits, metrics: Metrics, proxies: Sequence[Network] = ()) -> None:
        self.limits = limits
        self.metrics = metrics
        self.proxies = proxies
        # Source -> its open connections.
        self._open: dict[str, set[GuardedProtocol]] = {}
        self._total = 0
        # Waiting connections, by source and all together; the one that has waited longest is first.
        self._waiting: dict[str, dict[GuardedProtocol, None]] = {}
        self._all_waiting: dict[GuardedProtocol, None] = {}

    def add(self, connection: "GuardedProtocol", address: str) -> Problem | None:
        """Add a new connection as waiting, and return why it is rejected, or None.

        A connection rejected because of its address is still added, to be told why when it asks.
        """
        refusal = None
        source = source_of(address)
        bounded = not is_among(address, self.proxies)
        if bounded and len(self._open.get(source, ())) >= self.limits.connections_per_address:
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
                return busy("too many connections are working; try again in a second")
            self._close(longest)
        connection.source = source
        self._open.setdefault(source, set()).add(connection)
        self._total += 1
        self.metrics.connections.set(self._total)
        self.mark_waiting(connection)
        return refusal

    def mark_waiting(self, connection: "GuardedProtocol") -> None:
        """Mark a connection as waiting for a request; it may be closed to free a place."""
        if connection.source is not None:
            self._waiting.setdefault(connection.source, {})[connection] = None
            self._all_waiting[connection] = None

    def mark_working(self, connection: "GuardedProtocol") -> None:
        """Mark a connection as working on a request; it is not closed to free a place."""
        if self._all_waiting.pop(connection, connection) is None:
            waiting = self._waiting[cast("str", connection.source)]
            del waiting[connection]
            if not waiting:
                del self._waiting[cast("str", connection.source)]

    def remove(self, connection: "GuardedProtocol") -> None:
        """Remove a connection, if it was added."""
        if connection.source is None:
            return
        self.mark_working(connection)
        same_source = self._open[connection.source]
        same_source.remove(connection)
        if not same_source:
            del self._open[connection.source]
        self._total -= 1
        connection.source = None
        self.metrics.connections.set(self._total)

    def _close(self, connection: "GuardedProtocol") -> None:
        self.metrics.refused_connections.labels("made-room").inc()
        self.remove(connection)
        connection.abort()


class GuardedProtocol(HttpToolsProtocol):
    """A uvicorn connection that enforces the limits of its registry."""

    registry: ClassVar[ConnectionRegistry]
    source: str | None = None
    """The client under which the connection is counted; None if it is not in the registry."""

    _raw_transport: asyncio.Transport
    _timer: asyncio.TimerHandle | None = None
    _rejection: Problem | None = None
    _refusal: Problem | None = None
    _refused = False
    _was_closing = False
    # Start of the wait for a complete head; None while a request is being worked on.
    _waits_since: float | None = None
    # When the client stopped reading its answers.
    _blocked_since: float | None = None
    # Requests whose head is complete and whose answer is not yet sent.
    _working = 0
    # Both False between two messages.
    _in_head = False
    _in_body = False
    _messages = 0
    _head_bytes = 0
    _head_fields = 0
    _body_came = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection, or refuse it."""
        self._raw_transport = cast("asyncio.Transport", transport)
        super().connection_made(self._raw_transport)
        peer = transport.get_extra_info("peername")
        self._rejection = self.registry.add(self, str(peer[0]) if peer else "local")
        if self._rejection is not None and self.source is None:
            self._refuse(self._rejection)
            return
        self._waits_since = self.loop.time()
        wait = self.registry.limits.head_seconds if self._rejection is None else REJECTED_SECONDS
        self._timer = self.loop.call_later(wait, self._check)

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the connection from the registry."""
        self.registry.remove(self)
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass data on in pieces no larger than the rest of the head's limit."""
        if self._rejection is not None:
            self._refuse(self._rejection)
        limit = self.registry.limits.head_bytes
        start = 0
        while start < len(data) and not self._refused and not self._raw_transport.is_closing():
            size = limit - self._head_bytes
            self._feed(data[start : start + size] if start or size < len(data) else data)
            start += size
            if self._head_bytes >= limit:
                if self._in_body and not self._working:
                    # The answer is already sent.
                    self._raw_transport.close()
                else:
                    self._refuse(_head_too_large(limit))

    def _feed(self, piece: bytes) -> None:
        began, between = self._messages, not (self._in_head or self._in_body)
        super().data_received(piece)
        # A head that begins inside a piece, after another message, is counted from the next piece on:
        # httptools does not say where in the piece it began. A piece of a body without body bytes is
        # counted as a head, too: chunk extensions, and trailers after the last chunk.
        begun = self._messages - began
        if self._in_body:
            self._head_bytes = 0 if self._body_came else self._head_bytes + len(piece)
            self._body_came = False
        elif self._in_head and (begun == 0 or (begun == 1 and between)):
            self._head_bytes += len(piece)

    # --- callbacks of httptools ---------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Start counting a new head."""
        self._messages += 1
        self._head_bytes = self._head_fields = 0
        self._in_head = True
        if not self._working:
            self._waits_since = self.loop.time()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header field, and stop parsing at the limit."""
        self._head_fields += 1
        if self._head_fields > self.registry.limits.head_fields:
            self._refusal = _too_many_fields(self.registry.limits.head_fields)
            raise ValueError("too many header fields")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Mark the connection as working; the body may still follow."""
        self._in_head, self._in_body = False, True
        if self._working >= self.registry.limits.pipelined:
            # A refusal sent now would be taken for the answer to an earlier request.
            self._refused = True
            self.registry.metrics.refused_connections.labels("too-many-pipelined").inc()
            self.abort()
            raise ValueError("too many requests at once")
        super().on_headers_complete()
        self._body_came = True
        self._working += 1
        self._waits_since = None
        self.registry.mark_working(self)

    def on_body(self, body: bytes) -> None:
        """Note that body bytes arrived."""
        self._body_came = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the body is complete."""
        self._in_body = False
        self._head_bytes = 0
        super().on_message_complete()

    # --- callbacks of uvicorn and asyncio -----------------------------------------------------------

    def on_response_complete(self) -> None:
        """Mark the connection as waiting again if no other request is left."""
        self._working -= 1
        super().on_response_complete()
        if not self._working:
            self._waits_since = self.loop.time()
            self.registry.mark_waiting(self)

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that httptools could not parse or that a callback stopped."""
        self._refuse(self._refusal or _malformed())

    def pause_writing(self) -> None:
        """Note that the client has stopped reading its answers."""
        self._blocked_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Note that the client reads its answers again."""
        self._blocked_since = None
        super().resume_writing()

    # --- the end of a connection --------------------------------------------------------------------

    def abort(self) -> None:
        """Close at once and drop what is not yet sent."""
        self._raw_transport.abort()

    def _refuse(self, problem: Problem) -> None:
        """Send the refusal, once, and close."""
        if self._refused:
            return
        self._refused = True
        self.registry.metrics.refused_connections.labels(problem.kind).inc()
        self._raw_transport.write(
            _answer(problem.kind, problem.detail, problem.headers.get("Retry-After"))
        )
        self._raw_transport.close()

    def _check(self) -> None:
        """Close the connection if it is overdue, and schedule the next check."""
        now = self.loop.time()
        limits = self.registry.limits
        if self._blocked_since is not None and now >= self._blocked_since + limits.answer_seconds:
            self.registry.metrics.refused_connections.labels("answer-not-taken").inc()
            self.abort()
            return
        if self._raw_transport.is_closing():
            # The last answer had until this check to be sent.
            if self._was_closing:
                self.abort()
                return
            self._was_closing = True
        elif self._rejection is not None:
            self._refuse(self._rejection)
        elif self._waits_since is not None and now >= self._waits_since + limits.head_seconds:
            if self._in_head:
                self._refuse(_head_too_slow(limits.head_seconds))
            else:
                # There is no request to answer.
                self._raw_transport.close()
        due = now + limits.head_seconds
        if self._waits_since is not None and not self._raw_transport.is_closing():
            due = self._waits_since + limits.head_seconds
        if self._blocked_since is not None:
            due = min(due, self._blocked_since + limits.answer_seconds)
        self._timer = self.loop.call_at(due, self._check)


def protocol_class(registry: ConnectionRegistry) -> type[GuardedProtocol]:
    """Return the protocol class for uvicorn, bound to a registry.

    Raises:
        UnavailableError: this version of uvicorn lacks a method that the limits rely on.
    """
    if not all(hasattr(HttpToolsProtocol, name) for name in UVICORN_METHODS):
        raise UnavailableError(
            f"uvicorn {uvicorn.__version__} is not supported",
            remedy="pip install --upgrade 'digitry[serve]'",
        )
    return type("GuardedProtocol", (GuardedProtocol,), {"registry": registry})


# --- refusals --------------------------------------------------------------------------------------


def _head_too_large(most: int) -> Problem:
    return Problem("head-too-large", f"request line and headers may have at most {most:,} bytes")


def _too_many_fields(most: int) -> Problem:
    return Problem("head-too-large", f"a request may have at most {most} headers")


def _head_too_slow(seconds: float) -> Problem:
    return Problem("head-too-slow", f"the headers must arrive within {seconds:g} s")


def _malformed() -> Problem:
    return Problem("malformed-request", "the request is not valid HTTP/1.1")


@functools.lru_cache(maxsize=32)
def _answer(kind: str, detail: str, retry_after: str | None) -> bytes:
    """Return a refusal as the bytes of an HTTP response."""
    headers = {**HEADERS, "Connection": "close"}
    if retry_after is not None:
        headers["Retry-After"] = retry_after
    response: Response = Problem(kind, detail, headers=headers).response()
    lines = [f"HTTP/1.1 {response.status_code} {HTTPStatus(response.status_code).phrase}".encode()]
    lines += [name + b": " + value for name, value in response.raw_headers]
    return b"\r\n".join([*lines, b"", bytes(response.body)])
