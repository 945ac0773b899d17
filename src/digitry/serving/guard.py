"""The middleware in front of every route: host names, origins, tokens, body limits, load.

Plain ASGI. The middleware receives the whole body, within its limits, before a route sees the request.
So no route waits for a slow client or gets more than the limit. When too many requests are being worked
on, a new one is refused at once: no queue grows without limit.
"""

import asyncio
import contextlib
import hmac
import ipaddress
import logging
import socket
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, fields

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from digitry.errors import UsageError
from digitry.serving.guesses import Guesses
from digitry.serving.metrics import Metrics
from digitry.serving.origins import Origins, answer_headers, asks
from digitry.serving.problems import Problem, busy

log = logging.getLogger("digitry.serving")

READING = frozenset(["GET", "HEAD", "OPTIONS"])
OPEN = frozenset(["/", "/healthz", "/readyz", "/docs"])
"""Paths that need no token: the web page and the health checks. `/page/*` needs none either."""

SMALL_BYTES = 64 << 10
"""Up to this size a body is received even when the service is busy: that keeps the connection."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; "
    "base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
"""Headers of every answer, except those that the route sets itself."""

_BUSY = busy().response()
"""Built once, because under overload most answers are this one."""

_RAW = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of one request, of one client, and of all requests together.

    Attributes:
        body_bytes: size of one body.
        body_seconds: time in which one body must arrive, refused or not.
        discarded_bytes: how much of a refused body is read and thrown away, so that its sender gets
            to reading the answer.
        buffered_bytes: size of all bodies in memory at the same time.
        files: files in one form.
        form_fields: other fields in one form.
        pages: pages of all images of one request together.
        pixels: pixels of one image; checked before decoding.
        at_once: requests that are worked on or wait for a worker; more get 503.
        read_seconds: time to read one image, including the wait for a worker.
        head_bytes: size of the request line and headers.
        head_fields: headers of one request.
        head_seconds: time in which a head must arrive; also the time a new connection may stay idle.
        idle_seconds: time that an idle connection is kept open after an answer.
        answer_seconds: time in which a client must read what is sent.
        pipelined: requests that one connection may send before their answers.
        connections: open connections. For one more, the connection that has waited longest for a
            request is closed.
        connections_per_address: the same for one IPv4 address or one IPv6 /64 network.
        guesses: wrong tokens from one address within `guess_seconds`.
        guess_seconds: how long a wrong token counts.
    """

    body_bytes: int = 10 << 20
    body_seconds: float = 20.0
    discarded_bytes: int = 128 << 20
    buffered_bytes: int = 256 << 20
    files: int = 64
    form_fields: int = 32
    pages: int = 64
    pixels: int = 50_000_000
    at_once: int = 16
    read_seconds: float = 10.0
    head_bytes: int = 16 << 10
    head_fields: int = 100
    head_seconds: float = 10.0
    idle_seconds: int = 5
    answer_seconds: float = 20.0
    pipelined: int = 100
    connections: int = 900
    connections_per_address: int = 512
    guesses: int = 10
    guess_seconds: float = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) <= 0:
                raise UsageError(f"the limit {field.name} must be greater than 0")


class Hosts:
    """The host names that the service accepts; the protection against DNS rebinding.

    DNS rebinding needs a name that an attacker controls, so any IP address is safe to accept when the
    service listens beyond loopback.

    Args:
        names: host names without ports; `localhost` and the loopback addresses are always accepted.
        addresses: whether every IP address is accepted.
    """

    LOOPBACK = frozenset(["localhost", "127.0.0.1", "::1"])

    def __init__(self, names: Iterable[str] = (), *, addresses: bool = False) -> None:
        self.names = self.LOOPBACK | {name.lower().strip("[]") for name in names}
        if addresses:
            self.names |= {socket.gethostname().lower()}
        self.addresses = addresses

    def allow(self, header: str) -> bool:
        """Return whether a Host header names this service."""
        name = header.lower()
        if name.startswith("["):
            name, bracket, rest = name[1:].partition("]")
            if not bracket or (rest and not _is_port(rest)):
                return False
        else:
            name, colon, port = name.partition(":")
            if colon and not port.isdigit():
                return False
        if name in self.names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self.addresses


class Guard:
    """The middleware.

    Args:
        app: the application behind it.
        limits: see `Limits`.
        hosts: see `Hosts`.
        origins: see `Origins`.
        token: the token that a client must send, or None.
        metrics: counts the requests.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Limits,
        hosts: Hosts,
        origins: Origins,
        token: str | None,
        metrics: Metrics,
    ) -> None:
        self.app = app
        self.limits = limits
        self.hosts = hosts
        self.origins = origins
        self.token = token
        self.metrics = metrics
        self.working = 0
        self.buffered = 0
        self.guesses = Guesses(limits.guesses, limits.guess_seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it to the application."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        started = time.perf_counter()
        answer, body = _Answer(send), _Body(receive)
        try:
            refusal = await self._passed(scope, body, answer)
            if refusal is not None:
                await self._refuse(refusal, scope, body, answer)
        except _DisconnectError:
            pass
        except Exception:
            # An unexpected error is logged, and its text is not shown to the client.
            log.exception("%s %s failed", scope["method"], scope["path"])
            if answer.status is None:
                internal = Problem("internal", "an unexpected error; the service has logged it")
                await internal.response()(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - started
            self.metrics.request(scope, answer.status or 499, seconds)

    async def _passed(self, scope: Scope, body: "_Body", answer: "_Answer") -> ASGIApp | None:
        """Return the refusal of a request, or None if the application has answered it."""
        try:
            return await self._pass(scope, body, answer)
        except Problem as problem:
            # Its traceback holds what was received of the body, so it must not outlive this function.
            return problem.response()

    async def _refuse(
        self, refusal: ASGIApp, scope: Scope, body: "_Body", answer: "_Answer"
    ) -> None:
        """Send a refusal; then read and discard the rest of the body before the connection closes.

        A connection that is closed with bytes unread is reset, and its client, which still sends, may
        never see the answer.
        """
        if body.complete:
            await refusal(scope, body, answer)
            return

        async def unfinished(message: Message) -> None:
            is_body = message["type"] == "http.response.body"
            await answer({**message, "more_body": True} if is_body else message)

        await refusal(scope, body, unfinished)
        await body.discard(self.limits)
        await answer({"type": "http.response.body", "body": b""})

    async def _pass(self, scope: Scope, receive: "_Body", answer: "_Answer") -> ASGIApp | None:
        headers = Headers(scope=scope)
        origin = self.origins.allowed(headers)
        asked = asks(scope["method"], headers)
        if self.origins.names:
            answer.more = [(b"vary", b"Origin")]
        if origin is not None:
            # Refusals have these headers, too: the page must see why.
            answer.more += answer_headers(origin, headers, asked=asked)
        self._check_host(headers)
        if origin is not None and asked:
            return Response(status_code=204)
        self._check_sender(scope, headers, origin)
        works = scope["method"] == "POST"
        # A small body has already arrived. Receiving it keeps the connection; a new one costs more.
        if works and self.working >= self.limits.at_once and not _is_small(headers):
            return _BUSY
        held = 0
        try:
            parts: list[bytes] = []
            async for part in self._body(headers, receive):
                held += len(part)
                self.buffered += len(part)
                if self.buffered > self.limits.buffered_bytes:
                    raise busy("too many large bodies at once; try again in a second")
                parts.append(part)
            if not works:
                await self.app(scope, _replay(b"".join(parts), receive), answer)
                return None
            # Checked again: other requests may have started while this body arrived.
            if self.working >= self.limits.at_once:
                return _BUSY
            self.working += 1
            self.metrics.working.set(self.working)
            try:
                await self.app(scope, _replay(b"".join(parts), receive), answer)
            finally:
                self.working -= 1
                self.metrics.working.set(self.working)
            return None
        finally:
            self.buffered -= held

    def _check_host(self, headers: Headers) -> None:
        named = headers.getlist("host")
        if len(named) != 1 or not self.hosts.allow(named[0]):
            raise Problem("foreign-host", "use an address of the service, or add --allow-host NAME")

    def _check_sender(self, scope: Scope, headers: Headers, origin: str | None) -> None:
        if scope["method"] not in READING and origin is None:
            foreign = Problem(
                "foreign-origin",
                "only the service's own web page may send this, and those of --allow-origin",
            )
            if any(o.partition("://")[2] != headers["host"] for o in headers.getlist("origin")):
                raise foreign
            if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
                raise foreign
        if self.token is None or scope["path"] in OPEN or scope["path"].startswith("/page/"):
            return
        kind, _, shown = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and shown:
            client = scope.get("client")
            self._check_token(shown.strip(), self.token, client[0] if client else "local")
        else:
            raise _token_needed()

    def _check_token(self, shown: str, token: str, address: str) -> None:
        # After too many wrong tokens the right one is refused, too: guessing on tells nothing.
        if wait := self.guesses.wait(address):
            raise Problem(
                "too-many-guesses",
                f"{self.limits.guesses} wrong tokens from this address; try again in {wait} s",
                headers={"Retry-After": str(wait)},
            )
        if not hmac.compare_digest(shown.encode(), token.encode()):
            self.guesses.count(address)
            raise _token_needed()

    async def _body(self, headers: Headers, receive: "_Body") -> AsyncIterator[bytes]:
        limit = self.limits.body_bytes
        too_large = Problem(
            "body-too-large",
            f"a body may have at most {limit:,} bytes",
            headers={"Connection": "close"},
        )
        promised = headers.get("content-length", "0")
        if not promised.isdigit():
            raise Problem("malformed-request", "Content-Length is not a number")
        if int(promised) > limit:
            raise too_large
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise Problem("unsupported-media-type", "send the body uncompressed")
        size = 0
        while True:
            try:
                async with receive.timeout(self.limits):
                    message = await receive()
            except TimeoutError:
                raise Problem(
                    "body-too-slow",
                    f"the body must arrive within {self.limits.body_seconds:g} s",
                    headers={"Connection": "close"},
                ) from None
            if message["type"] == "http.disconnect":
                raise _DisconnectError
            part = message.get("body", b"")
            size += len(part)
            if size > limit:
                raise too_large
            if part:
                yield part
            if not message.get("more_body", False):
                return


class _DisconnectError(Exception):
    """The client disconnected before sending the whole body."""


class _Body:
    """A `receive` that knows when the request arrived, and whether its body is complete."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._started = time.monotonic()
        self.complete = False

    async def __call__(self) -> Message:
        message = await self._receive()
        self.complete = not message.get("more_body", False)
        return message

    def timeout(self, limits: Limits) -> asyncio.Timeout:
        """Return what ends a wait when the body should be here."""
        return asyncio.timeout(self._started + limits.body_seconds - time.monotonic())

    async def discard(self, limits: Limits) -> None:
        """Read the rest of the body, within the limits, and drop it."""
        size = 0
        with contextlib.suppress(TimeoutError):
            async with self.timeout(limits):
                while not self.complete and size <= limits.discarded_bytes:
                    size += len((await self()).get("body", b""))


class _Answer:
    """A `send` that adds our headers and remembers the status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None
        self.more: list[tuple[bytes, bytes]] = []
        """Further headers of this answer."""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = list(message.get("headers", ()))
            set_already = {name.lower() for name, _ in own}
            more = (header for header in _RAW if header[0] not in set_already)
            message = {**message, "headers": [*own, *more, *self.more]}
        await self._send(message)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the whole body first, then what `receive` gives."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _token_needed() -> Problem:
    return Problem(
        "token-needed",
        "send the header Authorization: Bearer TOKEN",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _is_small(headers: Headers) -> bool:
    length = headers.get("content-length", "")
    return length.isdigit() and int(length) <= SMALL_BYTES


def _is_port(text: str) -> bool:
    return text.startswith(":") and text[1:].isdigit()
