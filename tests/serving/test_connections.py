"""Limits on connections, heads and wrong tokens, without effect on other clients.

All tests use real local sockets and the server configuration of `digitry serve`.
"""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import pytest

from digitry.corrections.store import Corrections
from digitry.errors import UsageError
from digitry.model.artifact import Artifact
from digitry.reading.reader import Reader
from digitry.serving import guard, server
from digitry.serving.addresses import is_among, proxies_of, source_of
from digitry.serving.app import create_app
from digitry.serving.guard import Limits
from digitry.serving.guesses import SOURCES, Guesses

from ..waiting import PATIENCE_S
from .conftest import Running, drawn, png
from .local import LocalReaders

HERE, THERE = "127.0.0.1", "127.0.0.2"
GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
SLOW = b"POST /v1/read HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\nx"
"""A request whose body never ends, so that its connection keeps working."""

CHUNKED = SLOW[: SLOW.index(b"Content-Length")] + b"Transfer-Encoding: chunked\r\n\r\n"

Start = Callable[..., Running]


@pytest.fixture
def start(reader: Reader, model: Artifact, store: Corrections) -> Iterator[Start]:
    """Return a function that starts a service with given limits."""
    with ExitStack() as running:

        def with_limits(
            *, token: str | None = None, proxies: tuple[str, ...] = (), **limits: float
        ) -> Running:
            # A slow machine reaches only the limits that a test is about.
            patient = dict.fromkeys(("head_seconds", "body_seconds", "read_seconds"), PATIENCE_S)
            app = create_app(
                LocalReaders(reader), store, model=model, token=token,
                limits=Limits(**{**patient, **limits}),  # type: ignore[arg-type]
            )  # fmt: skip
            service = Running(app, proxies=proxies)
            running.callback(service.stop)
            return service

        yield with_limits


@pytest.fixture
def lines() -> Iterator[ExitStack]:
    """Close the connections of a test at its end."""
    with ExitStack() as held:
        yield held


def dial(
    lines: ExitStack, service: Running, source: str = HERE, first: bytes = b""
) -> socket.socket:
    line = socket.create_connection(
        (HERE, service.port), timeout=PATIENCE_S, source_address=(source, 0)
    )
    lines.enter_context(line)
    if first:
        line.sendall(first)
    return line


def answer(line: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of one answer; status 0 if the connection was closed instead."""
    received = b""
    with suppress(ConnectionResetError, BrokenPipeError):
        while b"\r\n\r\n" not in received and (part := line.recv(65536)):
            received += part
        head, _, body = received.partition(b"\r\n\r\n")
        words = head.decode("latin1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (w.partition(": ") for w in words[1:])}
        while len(body) < int(headers.get("content-length", 0)) and (part := line.recv(65536)):
            body += part
        if head:
            return int(words[0].split()[1]), headers, body
    return 0, {}, b""


def refused(line: socket.socket, status: int, kind: str) -> dict[str, str]:
    """Check that the request is refused completely and the connection closed; return the headers."""
    found, headers, body = answer(line)
    assert (found, headers["content-type"]) == (status, "application/problem+json")
    assert json.loads(body)["type"] == f"urn:digitry:problem:{kind}"
    assert json.loads(body)["status"] == status
    assert headers["connection"] == "close"
    assert "default-src 'none'" in headers["content-security-policy"]
    with suppress(ConnectionResetError):
        assert line.recv(1) == b""
    return headers


def read_once(service: Running, source: str = HERE) -> int:
    connection = HTTPConnection(HERE, service.port, timeout=PATIENCE_S, source_address=(source, 0))
    connection.request("POST", "/v1/read", png(drawn("3")), {"Content-Type": "image/png"})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status


def megabytes() -> float:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("this system has no /proc/self/statm")
    return int(statm.read_text().split()[1]) * 4096 / 2**20


# --- connections ---------------------------------------------------------------------------------------


def test_a_thousand_idle_connections_do_not_block_the_service(
    start: Start, lines: ExitStack
) -> None:
    service = start()
    files = server._files_allowed(3000)
    silent = [dial(lines, service) for _ in range(min(1000, (files - 300) // 2))]
    for _ in range(10):
        assert read_once(service) == 200
    assert read_once(service, THERE) == 200
    # The newest are still open and got no answer.
    silent[-1].settimeout(0.05)
    with pytest.raises(TimeoutError):
        silent[-1].recv(1)


def test_at_the_limit_the_connection_that_waited_longest_is_closed(
    start: Start, lines: ExitStack
) -> None:
    service = start(connections_per_address=4)
    first, second, *_ = [dial(lines, service) for _ in range(4)]
    # A connection that has just had an answer is closed last.
    first.sendall(GET)
    assert answer(first)[0] == 200
    newest = dial(lines, service, first=GET)
    assert answer(newest)[0] == 200
    assert answer(second)[0] == 0
    first.sendall(GET)
    assert answer(first)[0] == 200


def test_a_working_connection_is_never_closed_for_a_new_one(start: Start, lines: ExitStack) -> None:
    service = start(connections_per_address=3, connections=6)
    working = dial(lines, service, first=SLOW)
    service.wait_for(working=1)
    others = [dial(lines, service, source) for _ in range(20) for source in (HERE, THERE)]
    # A place is free for the last ones only once all before them have come and gone.
    for line in others[:-5]:
        assert answer(line)[0] == 0
    working.sendall(b"x" * 8)
    assert answer(working)[0] == 422


def test_an_address_at_its_limit_is_refused_and_another_is_served(
    start: Start, lines: ExitStack
) -> None:
    service = start(connections_per_address=3)
    for _ in range(3):
        dial(lines, service, first=SLOW)
    service.wait_for(working=3)
    headers = refused(dial(lines, service, first=GET), 429, "too-many-connections")
    assert headers["retry-after"] == "1"
    # A connection without a request is refused, too, and does not keep its place.
    refused(dial(lines, service), 429, "too-many-connections")
    assert read_once(service, THERE) == 200


def test_when_all_connections_work_a_new_one_gets_busy(start: Start, lines: ExitStack) -> None:
    service = start(connections=4)
    working = [dial(lines, service, f"127.0.0.{n}", SLOW) for n in range(1, 5)]
    service.wait_for(working=4)
    headers = refused(dial(lines, service, "127.0.0.9"), 503, "busy")
    assert headers["retry-after"] == "1"
    working[0].sendall(b"x" * 8)
    assert answer(working[0])[0] == 422
    assert answer(dial(lines, service, "127.0.0.9", GET))[0] == 200


def test_an_idle_connection_is_closed_without_an_answer(start: Start, lines: ExitStack) -> None:
    service = start(head_seconds=0.5)
    started = time.monotonic()
    assert dial(lines, service).recv(1) == b""
    assert time.monotonic() - started > 0.4


def test_empty_lines_do_not_extend_the_time_limit(start: Start, lines: ExitStack) -> None:
    service = start(head_seconds=0.5)
    line = dial(lines, service)
    with pytest.raises(ConnectionError):
        for _ in range(round(PATIENCE_S / 0.05)):
            line.sendall(b"\r\n")
            time.sleep(0.05)


def test_a_kept_connection_is_closed_when_idle(start: Start, lines: ExitStack) -> None:
    service = start(idle_seconds=1)
    started = time.monotonic()
    line = dial(lines, service, first=GET)
    assert answer(line)[0] == 200
    assert line.recv(1) == b""
    assert time.monotonic() - started > 0.8


def test_a_client_that_does_not_read_its_answers_is_disconnected(
    start: Start, lines: ExitStack
) -> None:
    service = start(answer_seconds=0.5, head_seconds=0.3)
    line = dial(lines, service)
    ask = b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with pytest.raises(ConnectionError):
        for _ in range(2000):
            line.sendall(50 * ask)
            time.sleep(0.02)
    assert read_once(service) == 200


# --- heads ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opening", "more"),
    [
        (GET[:-2] + b"X: ", b"x" * 65536),
        (GET[:-2], b"x" * 65536),
        (b"GET /", b"x" * 65536),
        (GET[:-2], b"A: b\r\n" * 10_000),
        (GET[:-2] + b"X: a\r\n", b" b\r\n" * 10_000),
        (GET + GET + GET[:-2] + b"X: ", b"x" * 65536),
        (CHUNKED + b"1\r\nx\r\n0\r\nX: ", b"x" * 65536),
        (CHUNKED + b"1\r\nx\r\n0\r\n", b"A: b\r\n" * 10_000),
        (CHUNKED + b"1\r\nx\r\n1;", b"x" * 65536),
    ],
    ids=[
        "value",
        "name",
        "address",
        "headers",
        "folded",
        "pipelined",
        "trailer",
        "trailers",
        "chunk",
    ],
)
def test_an_endless_head_is_refused_at_the_limit(
    opening: bytes, more: bytes, start: Start, lines: ExitStack
) -> None:
    service = start()
    line = dial(lines, service)
    before, sent, most = megabytes(), 0, 64 << 20
    with suppress(ConnectionError):
        line.sendall(opening)
        while sent < most:
            line.sendall(more)
            sent += len(more)
    # Nothing was received except what the system buffers for a socket.
    assert sent < 16 << 20
    assert megabytes() - before < 24
    found = answer(line)
    while found[0] == 200:
        found = answer(line)
    # The system may drop the answer where more was sent than was read.
    assert found[0] in (431, 400, 0)
    assert read_once(service) == 200


@pytest.mark.parametrize("pieces", [1, 7, 40])
def test_the_limit_of_a_head_is_exact(pieces: int, start: Start, lines: ExitStack) -> None:
    service = start()
    for length, expected in ((Limits().head_bytes, 200), (Limits().head_bytes + 1, 431)):
        head = GET[:-2] + b"X: " + b"x" * (length - len(GET) - 5) + b"\r\n\r\n"
        assert len(head) == length
        line = dial(lines, service)
        step = -(-length // pieces)
        for begin in range(0, length, step):
            line.sendall(head[begin : begin + step])
            time.sleep(0.002)
        if expected == 431:
            refused(line, 431, "head-too-large")
        else:
            # The limit is for each request.
            assert answer(line)[0] == 200
            line.sendall(head)
            assert answer(line)[0] == 200


def test_the_number_of_headers_is_limited(start: Start, lines: ExitStack) -> None:
    service = start()
    most = Limits().head_fields
    for more, expected in ((most - 1, 200), (most, 431)):
        line = dial(lines, service, first=GET[:-2] + b"A: b\r\n" * more + b"\r\n")
        if expected == 431:
            refused(line, 431, "head-too-large")
        else:
            assert answer(line)[0] == 200


@pytest.mark.parametrize("kept", [False, True])
def test_a_slow_head_is_refused(kept: bool, start: Start, lines: ExitStack) -> None:
    service = start(head_seconds=0.6)
    line = dial(lines, service)
    if kept:
        line.sendall(GET)
        assert answer(line)[0] == 200
    started = time.monotonic()
    line.settimeout(0.05)
    for byte in GET * 3:
        line.sendall(bytes([byte]))
        with suppress(TimeoutError):
            if line.recv(1, socket.MSG_PEEK):
                break
    assert time.monotonic() - started > 0.5
    line.settimeout(PATIENCE_S)
    refused(line, 408, "head-too-slow")


def test_a_slow_head_within_the_limit_is_accepted(start: Start, lines: ExitStack) -> None:
    service = start(head_seconds=4)
    line = dial(lines, service)
    time.sleep(2.2)
    for begin in range(0, len(GET), 10):
        line.sendall(GET[begin : begin + 10])
        time.sleep(0.4)
    # 2.2 s of silence and 2 s of sending: each has its own limit.
    assert answer(line)[0] == 200


@pytest.mark.parametrize(
    "junk", [b"junk\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"],
    ids=["words", "tls", "bytes"],
)  # fmt: skip
def test_what_is_not_http_is_refused(junk: bytes, start: Start, lines: ExitStack) -> None:
    refused(dial(lines, start(), first=junk), 400, "malformed-request")


# --- normal clients ------------------------------------------------------------------------------------


def test_one_connection_serves_a_hundred_requests(start: Start) -> None:
    service = start()
    connection = HTTPConnection(HERE, service.port, timeout=PATIENCE_S)
    connection.connect()
    line = connection.sock
    for _ in range(50):
        connection.request("GET", "/v1/models")
        assert connection.getresponse().read()
        connection.request("POST", "/v1/read", png(drawn("3")), {"Content-Type": "image/png"})
        assert b'"3"' in connection.getresponse().read()
    assert connection.sock is line
    connection.close()


def test_pipelined_requests_are_answered_in_order(start: Start, lines: ExitStack) -> None:
    service = start()
    paths = ["/healthz", "/nothing", "/v1/models"] * 33
    line = dial(lines, service)
    line.sendall(
        b"".join(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode() for path in paths)
    )
    received = b""
    while received.count(b"HTTP/1.1 ") < len(paths) or not received.endswith(b"}"):
        part = line.recv(65536)
        assert part
        received += part
    statuses = [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 404, 200] * 33


def test_a_client_that_pipelines_thousands_is_disconnected(start: Start, lines: ExitStack) -> None:
    service = start()
    before = megabytes()
    for _ in range(10):
        line = dial(lines, service)
        with suppress(ConnectionError):
            line.sendall(20_000 * GET)
            while line.recv(65536):
                pass
    assert megabytes() - before < 24
    assert read_once(service) == 200


def test_refusals_are_counted(start: Start, lines: ExitStack) -> None:
    service = start()
    refused(dial(lines, service, first=b"junk\r\n\r\n"), 400, "malformed-request")
    ask = GET.replace(b"/healthz", b"/metrics")
    text = answer(dial(lines, service, first=ask))[2].decode()
    assert 'digitry_refused_connections_total{why="malformed-request"} 1.0' in text
    assert "digitry_connections 1.0" in text


# --- tokens --------------------------------------------------------------------------------------------


def shown(
    lines: ExitStack, service: Running, token: str | None, source: str = HERE, client: str = ""
) -> tuple[int, dict[str, str]]:
    """Ask for the models with a token, and return status and headers."""
    head = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if token is not None:
        head += f"Authorization: Bearer {token}\r\n".encode()
    if client:
        head += f"X-Forwarded-For: {client}\r\n".encode()
    return answer(dial(lines, service, source, head + b"\r\n"))[:2]


def test_wrong_tokens_are_limited_for_each_address(
    start: Start, lines: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(guard, "Guesses", partial(Guesses, clock=lambda: now))
    service = start(token="right", guess_seconds=1.5)
    for _ in range(20):
        assert shown(lines, service, None)[0] == 401, "no token is no guess"
    for guess in range(Limits().guesses):
        # X-Forwarded-For from an untrusted address is ignored.
        assert shown(lines, service, f"wrong{guess}", client=f"10.0.0.{guess}")[0] == 401
    for token in ("wrong", "right"):
        status, headers = shown(lines, service, token)
        assert status == 429
        assert 1 <= int(headers["retry-after"]) <= 2
    assert shown(lines, service, "right", THERE)[0] == 200
    assert answer(dial(lines, service, first=GET))[0] == 200, "what needs no token goes on"
    now = 1.6
    assert shown(lines, service, "right")[0] == 200


def test_behind_a_proxy_wrong_tokens_are_counted_for_each_client(
    start: Start, lines: ExitStack
) -> None:
    service = start(token="right", guesses=2, connections_per_address=1, proxies=(HERE,))
    for _ in range(2):
        # The leftmost address comes from the client itself and is not trusted.
        assert shown(lines, service, "wrong", client="198.51.100.9, 192.0.2.1")[0] == 401
    assert shown(lines, service, "right", client="192.0.2.1")[0] == 429
    assert shown(lines, service, "right", client="192.0.2.2")[0] == 200
    # The limit for one address does not apply to a proxy.
    for _ in range(3):
        dial(lines, service, first=SLOW)
    assert answer(dial(lines, service, first=GET))[0] == 200


def test_the_number_of_remembered_clients_is_limited() -> None:
    now = 0.0
    guesses = Guesses(2, 60, clock=lambda: now)
    for n in range(3 * SOURCES):
        guesses.count(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")
    assert len(guesses) == SOURCES
    guesses.count("::ffff:192.0.2.1")
    now = 20.5
    guesses.count("192.0.2.1")
    assert guesses.wait("192.0.2.1") == 40
    now = 60.0
    assert guesses.wait("192.0.2.1") == 0
    # The window slides: the second guess still counts.
    guesses.count("192.0.2.1")
    assert guesses.wait("192.0.2.1") == 21


# --- addresses and files -------------------------------------------------------------------------------


def test_a_client_is_an_ipv4_address_or_an_ipv6_network() -> None:
    assert source_of("192.0.2.1") == source_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert source_of("2001:db8::1") == source_of("2001:db8::ffff:0:1%eth0")
    assert source_of("2001:db8::1") != source_of("2001:db8:0:1::1")
    assert source_of("testclient") == "testclient"


def test_proxies_are_addresses_or_networks() -> None:
    networks = proxies_of(["127.0.0.1", "172.30.83.0/24", "::1"])
    assert is_among("172.30.83.7", networks) and is_among("::1", networks)
    assert not is_among("172.30.84.7", networks) and not is_among("local", networks)
    with pytest.raises(UsageError, match="everybody is not an address or a network"):
        proxies_of(["everybody"])


def test_connections_are_limited_by_the_number_of_open_files(
    reader: Reader, model: Artifact, store: Corrections, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(LocalReaders(reader), store, model=model)
    monkeypatch.setattr(server, "_files_allowed", lambda _: 256)
    made = server.configured(app).http
    assert made.registry.limits.connections == 256 - server.OTHER_FILES  # type: ignore[union-attr]
