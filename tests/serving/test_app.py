"""The API: readings equal to the library's, typed refusals, and limits."""

import base64
import contextlib
import io
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from digitry.corrections.store import Corrections
from digitry.errors import ImageError, UsageError
from digitry.model.artifact import Artifact
from digitry.reading.reader import Reader
from digitry.serving.app import create_app
from digitry.serving.guard import Hosts, Limits
from digitry.workers.supervisor import Cause, Health, State

from ..waiting import PATIENCE_S, until
from .conftest import Running, drawn, png
from .local import LocalReaders


def problem(response: Any) -> str:
    """Return the kind of a refusal after checking that it is complete."""
    assert response.headers["content-type"] == "application/problem+json"
    content = response.json()
    assert content["status"] == response.status_code
    assert content["title"] and content["detail"]
    return str(content["type"].removeprefix("urn:digitry:problem:"))


def timeless(reading: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in reading.items() if key != "ms"}


def raw(client: TestClient, content: bytes, **options: Any) -> Any:
    return client.post(
        "/v1/read", content=content, params=options, headers={"content-type": "image/png"}
    )


# --- readings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["auto", "single", "line", "page"])
def test_service_and_library_give_the_same_reading(
    layout: Any, client: TestClient, reader: Reader
) -> None:
    content = png(drawn("4071"))
    response = raw(client, content, layout=layout)
    assert response.status_code == 200
    (reading,) = response.json()["readings"]
    assert timeless(reading) == timeless(reader.read(content, layout=layout).to_dict())


def test_several_images_are_read_in_order_under_their_names(client: TestClient) -> None:
    texts = ["12", "7", "305"]
    files = [("file", (f"folder\\{text}.png", png(drawn(text)))) for text in texts]
    readings = client.post("/v1/read", files=files).json()["readings"]
    assert [reading["source"] for reading in readings] == [f"{text}.png" for text in texts]
    assert [reading["text"] for reading in readings] == texts


def test_a_bad_image_among_several_is_reported_and_the_others_are_read(client: TestClient) -> None:
    files = [("file", ("a.png", png(drawn("1")))), ("file", ("b.png", b"junk"))]
    answer = client.post("/v1/read", files=files).json()
    assert [reading["source"] for reading in answer["readings"]] == ["a.png"]
    assert [(one["index"], one["source"]) for one in answer["failed"]] == [(1, "b.png")]


def test_glyphs_are_the_input_of_the_network(client: TestClient, reader: Reader) -> None:
    content = png(drawn("58"))
    assert "glyph" not in raw(client, content).json()["readings"][0]["digits"][0]
    digits = raw(client, content, glyphs=True).json()["readings"][0]["digits"]
    _, seen = reader.examine(content)
    for digit, glyph in zip(digits, seen, strict=True):
        picture = base64.b64decode(digit["glyph"].removeprefix("data:image/png;base64,"))
        shown = np.asarray(Image.open(io.BytesIO(picture)))
        assert np.array_equal(shown, np.rint(glyph * 255).astype(np.uint8))


def test_max_error_refuses_digits_as_in_the_library(client: TestClient, reader: Reader) -> None:
    content = png(drawn("4071"))
    response = raw(client, content, max_error=0.01)
    try:
        expected = reader.accepting(0.01).read(content).to_dict()
    except UsageError:
        assert problem(response) == "invalid-option"
    else:
        assert timeless(response.json()["readings"][0]) == timeless(expected)


def test_models_are_listed_with_their_metadata(client: TestClient, model: Artifact) -> None:
    (one,) = client.get("/v1/models").json()["models"]
    assert one["name"] == model.metadata.name
    assert one["sha256"] == model.sha256
    assert "source" not in one


def test_explain_weights_are_on_the_digit(client: TestClient, reader: Reader) -> None:
    reading, (glyph,) = reader.examine(drawn("0"), layout="single")
    pixels = np.rint(glyph * 255).astype(int).ravel().tolist()
    answer = client.post(
        "/v1/explain", json={"glyph": pixels, "value": reading.digits[0].alternatives[0][0]}
    )
    weights = np.array(answer.json()["weights"])
    assert weights.shape == (28, 28)
    assert weights.min() >= 0 and 0 < weights.max() <= 1
    # The hole and the ink of a 0 are important; a far corner is not.
    assert weights[8:20, 8:20].mean() > weights[:3, :3].mean()


# --- refusals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "unreadable-image"),
        (b"junk", "unreadable-image"),
        (png(drawn("1"))[:200], "unreadable-image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unreadable-image"),
    ],
)
def test_files_that_are_not_images_are_refused(
    content: bytes, kind: str, client: TestClient
) -> None:
    response = raw(client, content)
    assert response.status_code == 422
    assert problem(response) == kind


@pytest.mark.parametrize(
    "options",
    [
        {"layout": "diagonal"},
        {"max_error": 0},
        {"max_error": "nan"},
        {"max_error": 2},
        {"model": "/etc/passwd"},
        {"url": "http://example.com/x.png"},
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], client: TestClient) -> None:
    response = raw(client, png(drawn("1")), **options)
    assert response.status_code == 422
    assert problem(response) == "invalid-option"
    assert "/etc" not in response.text


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "a/b"])
def test_unsupported_media_types_are_refused(kind: str, client: TestClient) -> None:
    response = client.post("/v1/read", content=b"x", headers={"content-type": kind})
    assert (response.status_code, problem(response)) == (415, "unsupported-media-type")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"junk",
        b"--b\r\n\r\nx\r\n--b--",
        b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
        b"--b\r\n" + b"A: b\r\n" * 2000 + b"\r\nx\r\n--b--\r\n",
        b"--b\r\nContent-Disposition: form-data; name=file\r\n\r\nx\r\n--b--\r\n",
        2 * b'--b\r\nContent-Disposition: form-data; name=other; filename="a"\r\n\r\nx\r\n'
        + b"--b--\r\n",
        b"\r\n" * 400_000,
    ],
    ids=range(8),
)
def test_broken_forms_are_refused(body: bytes, client: TestClient) -> None:
    for kind in ("multipart/form-data; boundary=b", "multipart/form-data"):
        response = client.post("/v1/read", content=body, headers={"content-type": kind})
        assert response.status_code == 400, response.text
        assert problem(response) == "malformed-request"


def test_too_many_parts_are_refused(client: TestClient) -> None:
    files = [("file", (f"{n}.png", b"x")) for n in range(Limits().files + 1)]
    response = client.post("/v1/read", files=files)
    assert (response.status_code, problem(response)) == (413, "too-many-parts")
    fields = {f"field{n}": "x" for n in range(Limits().form_fields + 1)}
    response = client.post("/v1/read", data=fields, files=files[:1])
    assert (response.status_code, problem(response)) == (413, "too-many-parts")


def test_unknown_paths_and_methods_are_refused(client: TestClient) -> None:
    assert problem(client.get("/nothing")) == "not-found"
    assert problem(client.get("/page/../web.py")) == "not-found"
    assert problem(client.get("/page/..%2fweb.py")) == "not-found"
    assert problem(client.put("/v1/read")) == "method-not-allowed"


def test_no_route_takes_a_url_or_a_path(client: TestClient) -> None:
    schema = json.dumps(client.get("/openapi.json").json())
    for word in ('"format": "uri"', '"format": "path"', '"name": "url"', '"name": "path"'):
        assert word not in schema


# --- hosts, origins, tokens ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["evil.com", "evil.com:80", "127.0.0.1.evil.com", "localhost.evil.com", "localhost:x", "[::1",
     "[::1]x", "192.168.0.1", "localhost@evil.com", " "],
)  # fmt: skip
def test_a_foreign_host_name_is_refused(host: str, client: TestClient) -> None:
    response = client.get("/healthz", headers={"host": host})
    assert (response.status_code, problem(response)) == (421, "foreign-host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:80", "[::1]:8000"])
def test_loopback_host_names_are_accepted(host: str, client: TestClient) -> None:
    assert client.get("/healthz", headers={"host": host}).status_code == 200


def test_ip_addresses_and_given_names_are_accepted_beyond_loopback() -> None:
    hosts = Hosts(["reader.example.org"], addresses=True)
    assert hosts.allow("192.168.0.7:8000")
    assert hosts.allow("[2001:db8::1]:8000")
    assert hosts.allow("Reader.example.org")
    assert not hosts.allow("evil.com")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.com"},
        {"origin": "null"},
        {"origin": "http://localhost:81"},
        {"origin": "http://localhost.evil.com"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_cross_origin_writes_are_refused(headers: dict[str, str], client: TestClient) -> None:
    for method, path in (("POST", "/v1/read"), ("POST", "/v1/corrections"),
                         ("DELETE", "/v1/corrections/" + 24 * "0")):  # fmt: skip
        response = client.request(method, path, headers=headers)
        assert (response.status_code, problem(response)) == (403, "foreign-origin")
    response = client.get("/v1/models", headers=headers)
    assert "access-control-allow-origin" not in response.headers


def test_the_own_web_page_may_write(client: TestClient) -> None:
    headers = {"origin": "http://localhost", "sec-fetch-site": "same-origin"}
    files = {"file": png(drawn("3"))}
    assert client.post("/v1/read", files=files, headers=headers).status_code == 200


def test_requests_without_the_token_are_refused(
    reader: Reader, model: Artifact, store: Corrections
) -> None:
    app = create_app(LocalReaders(reader), store, model=model, token="let me in")
    with TestClient(app, base_url="http://localhost") as client:
        for path in ("/v1/models", "/metrics", "/v1/corrections", "/v2/models/reader"):
            assert problem(client.get(path)) == "token-needed"
            wrong = {"authorization": "Bearer let me out"}
            assert client.get(path, headers=wrong).status_code == 401
        right = {"authorization": "Bearer let me in"}
        assert client.get("/v1/models", headers=right).status_code == 200
        for path in ("/", "/page/page.js", "/healthz", "/readyz"):
            assert client.get(path).status_code == 200


def test_every_answer_has_the_security_headers(client: TestClient) -> None:
    for path in ("/", "/docs", "/healthz", "/nothing", "/v1/models", "/openapi.json"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"


# --- limits --------------------------------------------------------------------------------------------


@pytest.fixture
def small(reader: Reader, model: Artifact, store: Corrections) -> Iterator[Running]:
    limits = Limits(body_bytes=100_000, body_seconds=0.5)
    running = Running(create_app(LocalReaders(reader), store, model=model, limits=limits))
    yield running
    running.stop()


HEAD = "POST /v1/read HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"


def sent(running: Running, *parts: bytes, pause: float = 0) -> bytes:
    """Send pieces over a socket and return everything that is received."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE_S) as line:
        for part in parts:
            try:
                line.sendall(part)
            except OSError:
                break
            time.sleep(pause)
        answer = b""
        try:
            while part := line.recv(65536):
                answer += part
                if b"\r\n\r\n" in answer and b"}" in answer:
                    break
        except ConnectionResetError:
            pass
        return answer


def test_a_body_that_is_too_large_is_refused(small: Running) -> None:
    honest = HEAD + "Content-Length: 200000\r\n\r\n"
    assert b" 413 " in sent(small, honest.encode())
    chunk = b"%x\r\n" % 60_000 + b"x" * 60_000 + b"\r\n"
    chunked = HEAD + "Transfer-Encoding: chunked\r\n\r\n"
    assert b" 413 " in sent(small, chunked.encode(), chunk, chunk)
    gzipped = HEAD + "Content-Encoding: gzip\r\nContent-Length: 10\r\n\r\n"
    assert b" 415 " in sent(small, gzipped.encode() + b"x" * 10)
    lying = HEAD + "Content-Length: -1\r\n\r\n"
    assert b" 400 " in sent(small, lying.encode())


@pytest.mark.parametrize("how", ["length", "chunks"])
@pytest.mark.parametrize("closing", ["", "Connection: close\r\n"])
def test_a_client_that_sends_far_too_much_can_read_why_it_is_refused(
    small: Running, how: str, closing: str
) -> None:
    # More than the buffers of both sockets: it must be taken, or this client never comes to reading.
    body = bytes(30 << 20)
    head = f"Content-Length: {len(body)}" if how == "length" else "Transfer-Encoding: chunked"
    if how == "chunks":
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    with socket.create_connection(("127.0.0.1", small.port), timeout=PATIENCE_S) as line:
        line.sendall((HEAD + closing + head + "\r\n\r\n").encode() + body)
        answer = b""
        while part := line.recv(65536):
            answer += part
    assert answer.count(b"HTTP/1.1 ") == 1 and b" 413 " in answer
    assert answer.endswith(b"}")


def test_a_refused_body_is_not_read_without_end(
    reader: Reader, model: Artifact, store: Corrections
) -> None:
    limits = Limits(body_bytes=1000, discarded_bytes=1 << 20)
    running = Running(create_app(LocalReaders(reader), store, model=model, limits=limits))
    with socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE_S) as line:
        line.sendall((HEAD + f"Content-Length: {1 << 30}\r\n\r\n").encode())
        with pytest.raises(ConnectionError):
            for _ in range(100):
                line.sendall(bytes(1 << 20))
    running.stop()


def test_a_body_that_is_too_slow_is_cut_off(small: Running) -> None:
    head = (HEAD + "Content-Length: 1000\r\n\r\n").encode()
    assert b" 408 " in sent(small, head, *[b"x"] * 8, pause=0.1)


def test_slow_clients_do_not_hold_up_others(
    reader: Reader, model: Artifact, store: Corrections
) -> None:
    # They are slower than this test is patient: if one held up another, no answer would come.
    limits = Limits(body_seconds=10 * PATIENCE_S)
    running = Running(create_app(LocalReaders(reader), store, model=model, limits=limits))
    with contextlib.ExitStack() as lines:
        for _ in range(60):
            line = lines.enter_context(socket.create_connection(("127.0.0.1", running.port)))
            line.sendall((HEAD + "Content-Length: 1000\r\n\r\n").encode())
        running.wait_for(working=60)
        content = png(drawn("3"))
        length = f"Content-Length: {len(content)}\r\n\r\n"
        assert b" 200 " in sent(running, (HEAD + length).encode() + content)
    running.stop()


class _Waiting(LocalReaders):
    """A reader that waits for its `gate`."""

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        self.gate = threading.Event()
        self.waiting = 0

    async def read(self, content: bytes, **options: Any) -> Any:
        import asyncio

        self.waiting += 1
        while not self.gate.is_set():
            await asyncio.sleep(0.01)
        return await super().read(content, **options)


def test_a_busy_service_refuses_at_once(
    reader: Reader, model: Artifact, store: Corrections
) -> None:
    readers = _Waiting(reader)
    running = Running(create_app(readers, store, model=model, limits=Limits(at_once=2)))
    content = png(drawn("3"))
    whole = (HEAD + f"Content-Length: {len(content)}\r\n\r\n").encode() + content
    answers: list[bytes] = []
    first = [threading.Thread(target=lambda: answers.append(sent(running, whole)))
             for _ in range(2)]  # fmt: skip
    for thread in first:
        thread.start()
    until(lambda: readers.waiting == 2)
    # The first two are not answered before the gate opens, so this is not waited for.
    refused = sent(running, whole)
    assert not answers
    assert b" 503 " in refused and b"retry-after: 1" in refused.lower()
    readers.gate.set()
    for thread in first:
        thread.join()
    assert all(b" 200 " in answer for answer in answers)
    assert b" 200 " in sent(running, whole)
    running.stop()


def test_an_image_that_takes_too_long_is_refused(
    reader: Reader, model: Artifact, store: Corrections
) -> None:
    app = create_app(_Waiting(reader), store, model=model, limits=Limits(read_seconds=0.1))
    with TestClient(app, base_url="http://localhost") as client:
        response = raw(client, png(drawn("3")))
        assert (response.status_code, problem(response)) == (422, "unreadable-image")


class _Failing(LocalReaders):
    """A reader that fails."""

    async def read(self, content: bytes, **options: Any) -> Any:
        if content == b"killed":
            raise ImageError("crashed its worker process (SIGSEGV)")
        raise RuntimeError("secret detail")


def test_a_killed_worker_is_422_and_an_internal_error_is_not_shown(
    reader: Reader, model: Artifact, store: Corrections
) -> None:
    app = create_app(_Failing(reader), store, model=model)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        assert raw(client, b"killed").status_code == 422
        response = raw(client, b"other")
        assert (response.status_code, problem(response)) == (500, "internal")
        assert "secret" not in response.text
        assert client.get("/healthz").status_code == 200


# --- monitoring ----------------------------------------------------------------------------------------


def test_metrics_count_requests_with_few_labels(client: TestClient) -> None:
    raw(client, png(drawn("41")))
    raw(client, b"junk")
    for n in range(50):
        client.get(f"/nothing/{n}")
        client.request(f"VERB{n}", "/")
    text = client.get("/metrics").text
    assert 'digitry_images_total{result="failed"} 1.0' in text
    assert 'digitry_requests_total{method="POST",route="/v1/read",status="200"} 1.0' in text
    assert 'digitry_requests_total{method="GET",route="other",status="404"} 50.0' in text
    assert len(text.splitlines()) < 200


def test_without_its_store_it_reads_but_is_not_ready(
    client: TestClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    from digitry.corrections.database import StoreError

    def gone(*_: Any) -> None:
        raise StoreError("is gone", where="secret place")

    monkeypatch.setattr(app.state.service.store, "check_writable", gone)
    assert client.get("/healthz").status_code == 200
    response = client.get("/readyz")
    assert (response.status_code, problem(response)) == (503, "not-ready")
    assert response.json()["detail"] == "the store of corrections: is gone"
    assert raw(client, png(drawn("3"))).status_code == 200


def test_without_a_worker_it_is_not_ready_and_says_why(
    client: TestClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = {**dict.fromkeys(State, 0), State.STARTING: 1, State.GONE: 1}
    lost = Health(states, {(State.BUSY, Cause.LATE): 2}, "a worker was lost while busy: is slow")
    monkeypatch.setattr(app.state.service.readers, "health", lambda: lost)
    assert client.get("/healthz").status_code == 200
    response = client.get("/readyz")
    assert (response.status_code, problem(response)) == (503, "not-ready")
    assert response.headers["retry-after"] == "1"
    said = "no worker is ready (1 starting, 1 gone); a worker was lost while busy: is slow"
    assert response.json()["detail"] == said
    for _ in range(2):
        text = client.get("/metrics").text
        assert 'digitry_workers{state="gone"} 1.0' in text
        assert 'digitry_worker_losses_total{cause="late",state="busy"} 2.0' in text
    one = Health({**states, State.BUSY: 1}, {}, None)
    monkeypatch.setattr(app.state.service.readers, "health", lambda: one)
    assert client.get("/readyz").json() == {"status": "ready"}


@pytest.mark.parametrize("fault", ["full", "no rights", "locked"])
def test_a_store_that_cannot_be_written_is_not_ready(
    fault: str, client: TestClient, store: Corrections, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.get("/readyz").status_code == 200
    if fault == "full":
        usage = shutil.disk_usage("/")._replace(free=1 << 20)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    elif fault == "no rights":
        monkeypatch.setattr(os, "access", lambda *_: False)
    else:
        # A writer that never finishes.
        monkeypatch.setattr("digitry.corrections.database.BUSY_SECONDS", 0.1)
        other = sqlite3.connect(store.address.removeprefix("sqlite:///"), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
    response = client.get("/readyz")
    if fault == "locked":
        other.close()
    assert (response.status_code, problem(response)) == (503, "not-ready")
    words = {"full": "disk is full", "no rights": "cannot be written", "locked": "locked"}
    assert words[fault] in response.json()["detail"]
    assert raw(client, png(drawn("3"))).status_code == 200


def test_a_disk_that_is_really_full_is_not_ready(reader: Reader, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.name != "posix" or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        app = create_app(LocalReaders(reader), Corrections(str(disk / "corrections.db")))
        with TestClient(app, base_url="http://localhost") as client:
            response = client.get("/readyz")
            assert (response.status_code, problem(response)) == (503, "not-ready")
            assert "disk is full" in response.json()["detail"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_images_that_are_only_read_are_not_stored(client: TestClient, store: Corrections) -> None:
    for _ in range(20):
        raw(client, png(drawn("3")))
    assert store.stats().count == 0
