"""The whole list of attacks against a service of its own and against the command line, as one table.

    python benchmarks/attack.py [--only images,requests] [--mutants 100] [--record]

Each attack is tried on a fresh `digitry serve` on this machine, or given to `digitry read`, to what loads
models, or to what walks archives. It is survived if its answer is a reading or a typed error that comes
in time, and if right afterwards the service is alive and reads a sample page. Memory is the peak of the
largest process: of the service, of one of its workers, or of the command. Everything is bounded in
count and in time; what attacks is drawn by our own code.
"""

import argparse
import contextlib
import http.client
import importlib.util
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import _record
from _floods import FLOODS, flood
from _targets import read_archive
from digitry.errors import DigitryError
from digitry.model import artifact
from digitry.model.load import load_model
from digitry.reading.classifier import Classifier
from service import Service

ROOT = Path(__file__).parents[1]
SAMPLE = (ROOT / "samples" / "phone-number.jpg").read_bytes()
READ_S = 3.0
"""Two seconds are a worker's; replacing one that was killed comes on top."""
COMMAND_S = 3.0
"""Of processor time for one picture in `digitry read`, beyond what it takes to start."""
WAIT_S = 30.0
MOST_MB = 300


def makers(name: str) -> ModuleType:
    """Load a module of the tests, whose hostile files are used here, too."""
    spec = importlib.util.spec_from_file_location(Path(name).stem, ROOT / "tests" / name)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attack.

    Attributes:
        name: of the attack.
        fault: what went wrong, or nothing.
        seconds: until its answer.
        megabytes: peak of the largest process.
    """

    name: str
    fault: str
    seconds: float
    megabytes: float


Attack = tuple[str, Callable[[], str]]
"""A name, and what tries it and returns what went wrong, or nothing."""


class Victim(Service):
    """A service, how much memory it has taken, and whether it is well."""

    def __init__(self) -> None:
        super().__init__(2)
        if self.process.stderr is not None:
            # What it logs must not fill the pipe.
            threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def workers(self) -> list[int]:
        """Return the processes that it has started."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split() if _peak_mb(int(pid)) > 60]

    def peak_mb(self) -> float:
        """Return the peak of the largest of its processes."""
        return max(map(_peak_mb, [self.process.pid, *self.workers()]))

    def post(self, path: str, body: bytes, kind: str = "image/png") -> tuple[int, bytes]:
        """Send one request and return its status and answer."""
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        with contextlib.closing(line):
            line.request("POST", path, body, {"Content-Type": kind})
            answer = line.getresponse()
            return answer.status, answer.read()

    def raw(self, content: bytes, *, wait: float = WAIT_S) -> tuple[int, bytes]:
        """Send bytes and return the status, 0 where the line is closed without one, and the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait) as line:
            received = b""
            # The service may hang up before all is sent: that is an answer, too.
            with contextlib.suppress(ConnectionError):
                line.sendall(content)
            with contextlib.suppress(ConnectionError):
                while chunk := line.recv(1 << 16):
                    received += chunk
        head, _, body = received.partition(b"\r\n\r\n")
        found = re.match(rb"HTTP/1\.1 (\d+)", head)
        return (int(found[1]) if found else 0), body

    def illness(self, patience: float = 10) -> str:
        """Return why it is not well, or nothing: it is alive and reads a page."""
        if self.process.poll() is not None:
            return f"the service has ended ({self.process.returncode})"
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        with contextlib.closing(line):
            line.request("GET", "/healthz")
            if line.getresponse().status != 200:
                return "/healthz is not 200"
        until = time.monotonic() + patience
        while True:
            status, body = self.post("/v1/read", SAMPLE, "image/jpeg")
            if status == 200 and json.loads(body)["readings"][0]["text"]:
                return ""
            if time.monotonic() > until:
                return f"a sample is answered with {status}"
            time.sleep(0.1)


def _peak_mb(pid: int) -> float:
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
        return int(found[1]) / 1000 if found else 0.0
    return 0.0


def untyped(status: int, body: bytes) -> str:
    """Return what is wrong with an answer, or nothing: a reading, or a problem with a type and no 500."""
    if status == 200:
        return ""
    if status >= 500 and status != 503:
        return f"answered with {status}: {body[:100]!r}"
    try:
        problem = json.loads(body)
    except ValueError:
        return f"{status} has no JSON: {body[:100]!r}"
    return "" if problem.get("type") and problem.get("title") else f"{status} has no type"


# --- the attacks -----------------------------------------------------------------------------------


def pictures(mutants: int) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Name every hostile picture, with what makes it."""
    hostile, header = makers("workers/test_hostile.py"), makers("reading/test_header.py")
    for name in FLOODS:
        yield name, lambda name=name: flood(name)
    yield from hostile.BOMBS.items()
    yield "EXIF in 300 segments", lambda: header.MANY_EXIF
    yield (
        "EXIF tags that share a block",
        lambda: header.with_segments(header.EXIF + header.SHARED_BLOCK[:65_000]),
    )
    yield "TIFF tags", lambda: header.TIFF_TAGS
    ground = header.GIF_GROUND
    yield "GIF comment", lambda: header.GIF[:ground] + header.COMMENT + header.GIF[ground:]
    for side in (30_000, 46_336):
        yield f"TIFF tile of {side:,}", lambda side=side: header.tiled(side, side)
    seeds = hostile.seeds()
    for name, content in seeds.items():
        yield name, lambda content=content: content
        yield f"{name}, cut", lambda content=content: content[: 2 * len(content) // 3]
    chance, contents = random.Random(5), list(seeds.values())
    for number in range(mutants):
        content = hostile.mutated(contents[number % len(contents)], contents, chance)
        yield f"mutant {number}", lambda content=content: content


def images(victim: Victim, mutants: int) -> Iterator[Attack]:
    """Post every hostile picture."""
    for name, make in pictures(mutants):
        content = make()
        yield name, lambda content=content: untyped(*victim.post("/v1/read", content))


def command(words: list[str]) -> tuple[int, str, float, float]:
    """Run digitry: exit code, what it complains of, seconds of processor time, and peak in MB."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "digitry", *words], stdout=subprocess.DEVNULL, stderr=said
        )
        watch = threading.Timer(WAIT_S, process.kill)
        watch.start()
        _, status, used = os.wait4(process.pid, 0)
        watch.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        return (
            process.returncode,
            said.read(),
            used.ru_utime + used.ru_stime,
            used.ru_maxrss / 1000,
        )


def reads() -> Iterator[Outcome]:
    """Give floods and bombs to `digitry read`, one process each."""
    started = command(["read", "--quiet", str(ROOT / "samples" / "digit-3.png")])[2]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture"
        for name, make in pictures(0):
            path.write_bytes(make())
            code, said, seconds, megabytes = command(["read", "--quiet", str(path)])
            seconds = max(0.0, seconds - started)
            fault = "" if code in (0, 1, 3) and "Traceback" not in said else f"exit {code}: {said}"
            if not fault and seconds > COMMAND_S:
                fault = f"took {seconds:.1f} s"
            yield Outcome(name, fault, seconds, megabytes)


def models() -> Iterator[Attack]:
    """Load every hostile model; the costly ones are refused by what their graph would cost."""
    made, costs = makers("model/test_artifact.py"), makers("model/test_onnx_cost.py")

    def load(content: bytes) -> str:
        try:
            Classifier(artifact.parse(content, source="hostile"))
        except DigitryError:
            return ""
        return "was accepted"

    for number, (change, why) in enumerate(made.HOSTILE):
        model = made.tiny()
        change(model)
        content = made.with_facts(model)
        yield f"model {number}: {why}", lambda content=content: load(content)
    for name, content in {
        "no model": b"hello" * 1000,
        "nested 100,000 deep": b"\x3a\x80\x80\x01" * 100_000,
        "cut": made.with_facts(made.tiny())[:-500],
    }.items():
        yield name, lambda content=content: load(content)
    nodes, last = [costs.UNSQUEEZE], "image"
    for place in range(1500):
        weights = "first" if place == 0 else "more"
        made_node = costs.helper.make_node("Conv", [last, weights], [f"x{place}"], pads=[1] * 4)
        nodes, last = [*nodes, made_node], f"x{place}"
    floats = costs.floats
    graph = costs.graph_of(
        *nodes, axis=costs.AXIS, first=floats(64, 1, 3, 3), more=floats(64, 64, 3, 3)
    )

    def cost() -> str:
        try:
            costs.check_cost(graph)
        except DigitryError:
            return ""
        return "was accepted"

    yield "1,500 convolutions", cost


def archives() -> Iterator[Attack]:
    """Walk every hostile archive: a member or a reason for each, and nothing raised."""
    made = makers("bulk/test_archives.py")

    def walk(content: bytes) -> str:
        try:
            read_archive(content)
        except DigitryError:
            return ""
        return ""

    for kind in ("TARS", "ZIPS"):
        for name, (content, _) in getattr(made, f"HOSTILE_{kind}").items():
            yield f"{kind.lower()[:-1]}: {name}", lambda content=content: walk(content)


def requests(victim: Victim) -> Iterator[Attack]:
    """Ask for what nobody should ask for, in odd ways."""
    host = b"Host: 127.0.0.1\r\nConnection: close\r\n"
    kinds = ("", "text/plain", "image/png; x=y", "multipart/form-data", "application/json", "a/b/c")
    bodies = (b"", b"\0" * 1000, b"{}", b"[" * 100_000, b'{"image": "' + b"A" * 50_000 + b'"}')
    for kind in kinds:
        for body in bodies:
            yield (
                f"{kind or 'no type'}, {body[:8]!r}",
                lambda kind=kind, body=body: untyped(*victim.post("/v1/read", body, kind)),
            )
    for query in (
        "?layout=evil",
        "?layout=page&layout=",
        "?%00",
        "?max_error=nan",
        "?max_error=1e999",
    ):
        yield query, lambda query=query: untyped(*victim.post(f"/v1/read{query}", SAMPLE))
    lines = (
        b"GET /../../etc/passwd", b"GET //evil.example/", b"DELETE /v1/read", b"PUT /", b"BREW /coffee",
        b"GET http://evil.example/", b"POST /v1/corrections", b"GET /v1/corrections/-1", b"GET /%ff%00",
    )  # fmt: skip
    for line in lines:
        content = line + b" HTTP/1.1\r\n" + host + b"\r\n"
        yield line.decode(), lambda content=content: _no_fault(*victim.raw(content))
    for name in (b"evil.example", b"127.0.0.1.evil.example", b"", b"a@127.0.0.1"):
        content = b"GET /v1/info HTTP/1.1\r\nConnection: close\r\nHost: " + name + b"\r\n\r\n"
        yield f"Host {name.decode()}", lambda content=content: _no_fault(*victim.raw(content))


def _no_fault(status: int, body: bytes) -> str:
    return f"answered with {status}: {body[:80]!r}" if status >= 500 and status != 503 else ""


def connections(victim: Victim) -> Iterator[Attack]:
    """Hold connections open, and begin heads that never end."""

    def held(begin: bytes, count: int) -> str:
        with contextlib.ExitStack() as lines:
            for _ in range(count):
                with contextlib.suppress(OSError):
                    line = socket.create_connection(("127.0.0.1", victim.port), timeout=2)
                    lines.enter_context(line)
                    line.sendall(begin)
            # All but ours come from this address, too; a service that is full says so, and lives.
            return "" if victim.process.poll() is None else "the service has ended"

    get = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    yield "40 silent lines", lambda: held(b"", 40)
    yield "40 slow heads", lambda: held(get + b"X-Slow: ", 40)
    yield (
        "40 slow bodies",
        lambda: held(get.replace(b"GET", b"POST") + b"Content-Length: 9\r\n\r\nx", 40),
    )
    yield "300 lines at once", lambda: held(get, 300)
    for name, content in {
        "endless head": get + b"X: " + b"a" * 5_000_000,
        "endless URL": b"GET /" + b"a" * 5_000_000,
        "10,000 headers": get + b"X: y\r\n" * 10_000 + b"\r\n",
        "1,000 requests ahead": (get + b"\r\n") * 1000 + get + b"Connection: close\r\n\r\n",
        "junk": os.urandom(10_000),
        "a length that lies": get.replace(b"GET", b"POST") + b"Content-Length: -5\r\n\r\n",
        "two lengths": get + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    }.items():
        yield name, lambda content=content: _no_fault(*victim.raw(content))


def overload(victim: Victim) -> Iterator[Attack]:
    """Ask for far more than it can do at once."""

    def crowd() -> str:
        with ThreadPoolExecutor(48) as pool:
            answers = list(
                pool.map(lambda _: victim.post("/v1/read", SAMPLE, "image/jpeg"), range(200))
            )
        faults = [fault for status, body in answers if (fault := untyped(status, body))]
        good = sum(status == 200 for status, _ in answers)
        return faults[0] if faults else "" if good else "nothing was read"

    yield "200 pages from 48 lines", crowd


def kills(victim: Victim) -> Iterator[Attack]:
    """End workers while they wait and while they read."""

    def kill(how: signal.Signals, *, busy: bool, everyone: bool) -> str:
        with ThreadPoolExecutor(4) as pool:
            asked = [
                pool.submit(victim.post, "/v1/read", SAMPLE, "image/jpeg") for _ in range(4 * busy)
            ]
            time.sleep(0.01)
            for pid in victim.workers()[: None if everyone else 1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, how)
            return next((fault for one in asked if (fault := untyped(*one.result()))), "")

    for how in (signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP):
        for busy in (False, True):
            for everyone in (False, True):
                name = f"{how.name}, {'all' if everyone else 'one'}, {'busy' if busy else 'idle'}"
                yield name, lambda h=how, b=busy, e=everyone: kill(h, busy=b, everyone=e)


# --- trying them -----------------------------------------------------------------------------------


def tried(attacks: Iterable[Attack], victim: Victim | None, limit: float) -> Iterator[Outcome]:
    """Try attacks one after the other; after each one the service must be well."""
    for name, attack in attacks:
        started = time.monotonic()
        try:
            fault = attack()
        except Exception as error:  # noqa: BLE001 (whatever it is, it is the finding)
            fault = f"{type(error).__name__}: {error}"
        seconds = time.monotonic() - started
        if not fault and seconds > limit:
            fault = f"took {seconds:.1f} s"
        fault = fault or (victim.illness() if victim else "")
        yield Outcome(name, fault, seconds, victim.peak_mb() if victim else _peak_mb(os.getpid()))


SERVED = ("images", "requests", "connections", "overload", "kills")
GROUPS = (*SERVED, "read", "models", "archives")


def outcomes(group: str, mutants: int) -> Iterator[Outcome]:
    """Try one group, the service anew for each."""
    if group == "read":
        yield from reads()
        return
    if group not in SERVED:
        yield from tried({"models": models, "archives": archives}[group](), None, READ_S)
        return
    victim = Victim()
    try:
        attacks = {
            "images": lambda: images(victim, mutants), "requests": lambda: requests(victim),
            "connections": lambda: connections(victim), "overload": lambda: overload(victim),
            "kills": lambda: kills(victim),
        }[group]  # fmt: skip
        patient = group in ("overload", "connections", "kills")
        yield from tried(attacks(), victim, WAIT_S if patient else READ_S)
    finally:
        victim.stop()


def main() -> None:
    """Try everything, print the table, and perhaps save a record; exit code 1 if anything fell."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--only", default=",".join(GROUPS), help="groups, by comma")
    options.add_argument("--mutants", type=int, default=100, help="pictures damaged at random")
    options.add_argument("--record", action="store_true", help="save a record")
    given = options.parse_args()
    rows: list[dict[str, object]] = []
    print(f"{'attacks':<14}{'tried':>6}{'survived':>10}{'worst s':>9}{'worst MB':>10}")
    for group in given.only.split(","):
        found = list(outcomes(group, given.mutants))
        fell = [one for one in found if one.fault or (group == "read" and one.megabytes > MOST_MB)]
        slowest = max(found, key=lambda one: one.seconds)
        largest = max(one.megabytes for one in found)
        print(
            f"{group:<14}{len(found):>6}{len(found) - len(fell):>10}{slowest.seconds:>9.2f}"
            f"{largest:>10.0f}  slowest: {slowest.name}", flush=True,
        )  # fmt: skip
        for one in fell:
            print(f"    {one.name}: {one.fault or f'{one.megabytes:.0f} MB'}"[:200], flush=True)
        rows.append({
            "group": group, "tried": len(found), "survived": len(found) - len(fell),
            "worst_s": round(slowest.seconds, 2), "slowest": slowest.name,
            "worst_mb": round(largest, 1), "fell": [one.name for one in fell],
        })  # fmt: skip
    total, well = (sum(int(str(row[key])) for row in rows) for key in ("tried", "survived"))
    if given.record:
        _record.write(
            "attack",
            table="Attacks",
            what="attacks survived, of all that were tried on the service and the command line",
            metric="share survived",
            unit="%",
            values=[100 * well / total],
            data={"model reader": load_model("reader").sha256},
            versions=("digitry", "numpy", "pillow", "opencv-python-headless", "onnxruntime"),
            extra={"groups": rows},
        )
    sys.exit(0 if well == total else 1)


if __name__ == "__main__":
    main()
