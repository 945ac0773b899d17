"""`digitry serve` and `digitry corrections`: what they listen on, what they refuse, how they stop."""

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib import error, request

import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from ..waiting import PATIENCE_S, until
from .in_process import Done, digitry

SAMPLES = Path(__file__).parents[2] / "samples"
PNG = {"Content-Type": "image/png"}
PROGRAM = [sys.executable, "-m", "digitry"]


class Service:
    """A service as a user starts it."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.db = folder / "corrections.db"
        self.process = subprocess.Popen(
            [*PROGRAM, "serve", "--port", "0", "--db", str(self.db), "--workers", "1", *words],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": ""},
        )
        assert self.process.stderr is not None
        self.greeting = self.process.stderr.readline()
        assert "http://" in self.greeting, self.greeting
        self.url = self.greeting.split()[1].rstrip("/")

    def get(self, path: str, body: bytes | None = None, **headers: str) -> Any:
        asked = request.Request(self.url + path, body, headers)
        with request.urlopen(asked, timeout=PATIENCE_S) as answer:
            return json.loads(answer.read())

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE_S)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("service"))
    yield service
    if service.process.poll() is None:
        service.stop()


def correct(service: Service, label: str) -> dict[str, Any]:
    content = (SAMPLES / "digit-3.png").read_bytes()
    image = {"Content-Type": "image/png"}
    (digit,) = service.get("/v1/read", content, **image)["readings"][0]["digits"]
    parts = {"box": ",".join(map(str, digit["box"])), "label": label, "author": "Ada"}
    body = b"".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in parts.items()
    )
    body += b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    body += content + b"\r\n--b--\r\n"
    kept: dict[str, Any] = service.get(
        "/v1/corrections", body, **{"Content-Type": "multipart/form-data; boundary=b"}
    )
    return kept


def test_it_prints_its_url_its_model_and_its_store(service: Service) -> None:
    assert service.url.startswith("http://127.0.0.1:")
    assert "model reader, 1 worker;" in service.greeting
    assert str(service.db) in service.greeting
    assert service.get("/readyz") == {"status": "ready"}


def test_service_and_command_line_give_the_same_reading(service: Service) -> None:
    path = SAMPLES / "form.png"
    (answer,) = service.get("/v1/read", path.read_bytes(), **{"Content-Type": "image/png"})[
        "readings"
    ]
    (printed,) = json.loads(digitry("read", "--format", "json", path).stdout)
    for key in ("text", "confidence", "digits", "lines", "rejected", "inverted", "model"):
        assert answer[key] == printed[key], key


def test_corrections_go_from_the_service_to_a_folder_and_back(
    service: Service, tmp_path: Path
) -> None:
    kept = correct(service, "8")
    db = ["--db", str(service.db)]
    (row,) = json.loads(digitry("corrections", "list", "--format", "json", *db).stdout)
    assert row == kept
    shown = digitry("corrections", "show", kept["id"], "--pictures", tmp_path / "p", *db)
    assert json.loads(shown.stdout) == kept
    assert (tmp_path / "p" / "glyph.png").exists()
    stats = json.loads(digitry("corrections", "stats", "--format", "json", *db).stdout)
    assert stats["confusions"] == [[3, "8", 1]]
    assert digitry("corrections", "export", tmp_path / "out", *db).returncode == 0
    assert (tmp_path / "out" / "train" / "8" / f"{kept['id']}.png").exists()
    other = ["--db", str(tmp_path / "other.db")]
    done = digitry("corrections", "import", tmp_path / "out", *other)
    assert done.out == "1 added, 0 already there\n"
    assert digitry("corrections", "delete", kept["id"], *db).out == "1 deleted\n"
    assert digitry("corrections", "delete", kept["id"], *db).returncode == 3
    assert "0 corrections, 0 undone" in digitry("corrections", "stats", *db).out


def test_no_answer_waits_for_a_delayed_acknowledgement(service: Service) -> None:
    line = HTTPConnection(service.url.removeprefix("http://"), timeout=PATIENCE_S)
    quick = 0
    # With Nagle's algorithm each answer waits 40 ms for the acknowledgement of its head, but for the
    # first few of a connection. A busy machine answers some requests late, but not all.
    for _ in range(1000):
        started = time.perf_counter()
        line.request("GET", "/v1/models")
        line.getresponse().read()
        quick += time.perf_counter() - started < 0.03
        if quick == 40:
            break
    line.close()
    assert quick == 40


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Run `digitry serve …`, which must end with an error before it serves."""

    def served(*_: object, **__: object) -> None:
        raise AssertionError("it serves")

    monkeypatch.setattr("digitry.serving.server.run", served)

    def serve(*words: object) -> Done:
        done = digitry("serve", *words)
        assert done.out == ""
        assert done.err.count("\n") == 1
        return done

    return serve


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.org"])
def test_an_address_beyond_loopback_needs_a_token(host: str, refused: Callable[..., Done]) -> None:
    done = refused("--host", host)
    assert done.returncode == 2
    assert "--token" in done.err


def test_a_port_in_use_is_reported(service: Service, refused: Callable[..., Done]) -> None:
    port = service.url.rpartition(":")[2]
    done = refused("--port", port)
    assert done.returncode == 4
    assert f"port {port}" in done.err


def test_an_endless_head_is_refused(service: Service) -> None:
    port = int(service.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as line:
        line.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                line.sendall(b"x" * 65536)
    assert service.get("/healthz") == {"status": "ok"}


def test_a_proxy_must_be_an_address(tmp_path: Path, refused: Callable[..., Done]) -> None:
    done = refused("--port", 0, "--proxy", "everybody", "--db", tmp_path / "c.db")
    assert done.returncode == 2
    assert "--proxy" in done.err


def children(service: Service) -> list[int]:
    tasks = Path(f"/proc/{service.process.pid}/task")
    if not (tasks / str(service.process.pid) / "children").exists():
        pytest.skip("this system does not list children")
    return [int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()]


def test_a_killed_worker_costs_one_answer_and_is_replaced(service: Service) -> None:
    for child in children(service):
        os.kill(child, signal.SIGKILL)
    content = (SAMPLES / "digit-3.png").read_bytes()
    seen = []
    for _ in range(4):
        try:
            answer = service.get("/v1/read", content, **{"Content-Type": "image/png"})
            seen.append(answer["readings"][0]["text"])
        except error.HTTPError as refused:
            seen.append(str(refused.code))
            refused.close()
    assert seen.count("422") <= 1
    assert seen[1:] == ["3"] * 3


@pytest.mark.slow
def test_it_recovers_from_a_minute_of_random_kills_under_load(tmp_path: Path) -> None:
    service = Service(tmp_path, "--workers", "2")
    content = (SAMPLES / "digit-3.png").read_bytes()
    rng, statuses = random.Random(1), Counter[int]()
    stopped = threading.Event()

    def ask() -> int:
        try:
            service.get("/v1/read", content, **PNG)
        except error.HTTPError as refused:
            refused.close()
            return refused.code
        return 200

    def keep_asking() -> None:
        while not stopped.is_set():
            statuses[ask()] += 1

    def workers() -> dict[str, int]:
        with request.urlopen(service.url + "/metrics", timeout=PATIENCE_S) as answer:
            text = answer.read().decode()
        return {
            state: int(float(count))
            for state, count in re.findall(r'digitry_workers\{state="(\w+)"\} (\S+)', text)
        }

    def recovered(since: float) -> float:
        while True:
            states = workers()
            if states["ready"] + states["busy"] == 2 and ask() == 200:
                return time.monotonic() - since
            assert time.monotonic() < since + 60, states
            time.sleep(0.02)

    threads = [threading.Thread(target=keep_asking) for _ in range(4)]
    for thread in threads:
        thread.start()
    took: list[float] = []
    kills = 0
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            # One to four times, so that starting and dying workers are killed, too.
            for _ in range(rng.randint(1, 4)):
                for pid in rng.sample(pids := children(service), rng.randint(0, len(pids))):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        kills += 1
                time.sleep(rng.uniform(0, 0.4))
            took.append(recovered(time.monotonic()))
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
        with request.urlopen(service.url + "/metrics", timeout=PATIENCE_S) as answer:
            losses = sorted(
                re.findall(r"digitry_worker_losses_total\S+ \S+", answer.read().decode())
            )
        service.process.send_signal(signal.SIGTERM)
        logged = service.process.communicate(timeout=PATIENCE_S)[1]
    print(
        f"\n{kills} kills, {len(took)} recoveries, the longest {max(took):.2f} s; {dict(statuses)}"
    )
    print(*losses, sep="\n")
    assert logged.count("a worker was lost while") >= kills / 2
    assert set(statuses) <= {200, 422, 503}
    assert statuses[422] <= kills
    assert max(took) <= 5, took


def test_it_answers_pending_requests_and_exits_with_0(tmp_path: Path) -> None:
    service = Service(tmp_path)
    content = (SAMPLES / "sheet.jpg").read_bytes()
    answers: list[str] = []
    stopped = threading.Event()

    def keep_asking() -> None:
        while not stopped.is_set():
            try:
                answer = service.get("/v1/read", content, **{"Content-Type": "image/jpeg"})
                answers.append("read" if answer["readings"] else "lost")
            except error.HTTPError as refused:
                answers.append(str(refused.code))
                refused.close()
            except (ConnectionRefusedError, error.URLError) as gone:
                # Not accepted, so not lost.
                refused_us = isinstance(getattr(gone, "reason", gone), ConnectionRefusedError)
                answers.append("refused" if refused_us else f"lost {gone}")
                return
            except OSError as lost:
                answers.append(f"lost {lost}")
                return

    threads = [threading.Thread(target=keep_asking) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: answers.count("read") >= 2)
    assert service.stop() == 0
    stopped.set()
    for thread in threads:
        thread.join()
    lost = [answer for answer in answers if answer.startswith("lost")]
    assert not lost, lost


@pytest.mark.parametrize("stops", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_stop_under_load_loses_no_accepted_request(stops: int, tmp_path: Path) -> None:
    content = (SAMPLES / "digit-3.png").read_bytes()
    answered = 0
    for stop in range(stops):
        service = Service(tmp_path / str(stop))
        port = int(service.url.rpartition(":")[2])
        sent: list[tuple[float, int | None]] = []

        def ask(port: int = port, sent: list[tuple[float, int | None]] = sent) -> None:
            with contextlib.closing(
                HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
            ) as connection:
                while True:
                    try:
                        connection.request("POST", "/v1/read", content, PNG)
                    except OSError:
                        return  # The service has stopped listening.
                    at = time.monotonic()
                    try:
                        answer = connection.getresponse()
                        answer.read()
                    except (OSError, HTTPException):
                        sent.append((at, None))
                        return
                    sent.append((at, answer.status))

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        until(lambda sent=sent: len(sent) > 10)
        # A different moment of a request each time.
        time.sleep(1.1 + 0.013 * stop)
        stopped = time.monotonic()
        assert service.stop() == 0
        for thread in threads:
            thread.join()
        # A request that is still on its way is not yet accepted.
        before = [status for at, status in sent if at < stopped - 1]
        assert set(before) <= {200, 503}, before
        answered += len(before)
    assert answered > stops
