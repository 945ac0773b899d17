"""The whole list of attacks against a service of its own and against the command line, as one table.

    python benchmarks/attack.py [--only images,requests] [--mutants 100] [--minutes 8] [--record]

    images       hostile pictures, posted to `digitry serve`
    requests     odd requests
    connections  connections that are silent, slow, endless or many
    overload     far more requests than it can answer
    kills        its workers, ended in every state
    read         the same pictures, read in a process without a worker, and by `digitry read`
    models       hostile model files
    archives     hostile archives, read by `digitry bulk`
    disk         a full disk under the service and under commands (as root, who may mount one)

Each attack on a service is tried on a fresh one on this machine. It is survived if its answer is a
reading or a typed error that comes in time, and if right afterwards the service is alive and reads a
sample page. A command has to end in time, with its exit code and without a traceback. Memory is the peak
of the largest process: of the service, of one of its workers, of the command, or of the process that
draws its PDFs. All is bounded in count and in time: what is not tried within `--minutes` has not been
survived.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import _hostile
import _record
from _victim import (
    ROOT,
    SAMPLE,
    WAIT_S,
    Outcome,
    Victim,
    command,
    each,
    fill,
    no_fault,
    small_disk,
    untyped,
)
from digitry.model.load import load_model

READ_S = 3.0
"""For one request: a worker may draw a PDF for two seconds, and its end has to be noticed."""
FILE_S = 3.0
"""Of processor time for one file in a process without limits; with that of the one that draws PDFs."""
MOST_MB = 300
DRAWING_MB = 1_400
"""Of the process that draws PDFs: its limit, what an earlier PDF may have left, and its code."""
DISK_MB = 16

Attack = tuple[str, Callable[[], str]]
"""A name, and what tries it and returns what went wrong, or nothing."""


# --- attacks on a service --------------------------------------------------------------------------


def images(victim: Victim, mutants: int) -> Iterator[Attack]:
    """Post every hostile picture."""
    for name, make in _hostile.pictures(mutants):
        content = make()
        yield name, lambda content=content: untyped(*victim.post("/v1/read", content))


def requests(victim: Victim) -> Iterator[Attack]:
    """Ask for what nobody should ask for, in odd ways."""
    host = b"Host: 127.0.0.1\r\nConnection: close\r\n"
    kinds = ("", "text/plain", "image/png; x=y", "multipart/form-data", "application/json", "a/b/c")
    bodies = (
        b"", b"\0" * 1000, b"{}", b"[" * 100_000, b'{"image": "' + b"A" * 50_000 + b'"}',
        bytes(30 << 20),
    )  # fmt: skip
    for kind in kinds:
        for body in bodies:
            yield (
                f"{kind or 'no type'}, {len(body):,} bytes {body[:2]!r}",
                lambda kind=kind, body=body: untyped(*victim.post("/v1/read", body, kind)),
            )
    queries = (
        "?layout=evil", "?layout=page&layout=", "?%00", "?max_error=nan", "?max_error=1e999",
    )  # fmt: skip
    for query in queries:
        yield query, lambda query=query: untyped(*victim.post(f"/v1/read{query}", SAMPLE))
    lines = (
        b"GET /../../etc/passwd", b"GET //evil.example/", b"DELETE /v1/read", b"PUT /", b"BREW /coffee",
        b"GET http://evil.example/", b"POST /v1/corrections", b"GET /v1/corrections/-1", b"GET /%ff%00",
    )  # fmt: skip
    for line in lines:
        content = line + b" HTTP/1.1\r\n" + host + b"\r\n"
        yield line.decode(), lambda content=content: no_fault(*victim.raw(content))
    for name in (b"evil.example", b"127.0.0.1.evil.example", b"", b"a@127.0.0.1"):
        content = b"GET /v1/info HTTP/1.1\r\nConnection: close\r\nHost: " + name + b"\r\n\r\n"
        yield f"Host {name.decode()}", lambda content=content: no_fault(*victim.raw(content))


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
    post = get.replace(b"GET", b"POST")
    yield "40 silent lines", lambda: held(b"", 40)
    yield "40 slow heads", lambda: held(get + b"X-Slow: ", 40)
    yield "40 slow bodies", lambda: held(post + b"Content-Length: 9\r\n\r\nx", 40)
    yield "300 lines at once", lambda: held(get, 300)
    for name, content in {
        "endless head": get + b"X: " + b"a" * 5_000_000,
        "endless URL": b"GET /" + b"a" * 5_000_000,
        "10,000 headers": get + b"X: y\r\n" * 10_000 + b"\r\n",
        "1,000 requests ahead": (get + b"\r\n") * 1000 + get + b"Connection: close\r\n\r\n",
        "junk": os.urandom(10_000),
        "a length that lies": post + b"Content-Length: -5\r\n\r\n",
        "two lengths": get + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    }.items():
        yield name, lambda content=content: no_fault(*victim.raw(content))


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


def tried(victim: Victim, attacks: Iterable[Attack], limit: float) -> Iterator[Outcome]:
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
        yield Outcome(name, fault or victim.illness(), seconds, victim.peak_mb())


def served(group: Callable[[Victim], Iterator[Attack]], limit: float) -> Iterator[Outcome]:
    """Try the attacks of one group on a service of its own."""
    victim = Victim()
    try:
        yield from tried(victim, group(victim), limit)
    finally:
        victim.stop()


# --- attacks on commands ---------------------------------------------------------------------------


def read() -> Iterator[Outcome]:
    """Read every hostile picture in a process without limits, then all of them in one `digitry read`."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for number, (name, make) in enumerate(_hostile.pictures(0)):
            path = Path(folder) / f"{number:03}.png"
            path.write_bytes(make())
            paths[path] = name
        # The models are loaded before the first file, whose time this is not.
        setup = "import digitry, numpy\ndigitry.read(numpy.full((64, 64), 255, numpy.uint8))"
        for path, outcome in each(list(paths), setup, "digitry.read(path)"):
            yield bounded(outcome, paths[path])
        ended = command(["read", "--quiet", folder], wait=2 * WAIT_S)
        megabytes = ended.megabytes
        yield Outcome(f"{len(paths)} in one command", ended.fault(1), ended.seconds, megabytes)


def models() -> Iterator[Outcome]:
    """Load every hostile model; the costly ones are refused by what their graph would cost."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for number, (name, content) in enumerate(_hostile.models()):
            path = Path(folder) / f"{number:03}.onnx"
            path.write_bytes(content)
            paths[path] = name
        setup = (
            "from digitry.model.load import load_model\n"
            "from digitry.reading.classifier import Classifier"
        )
        for path, outcome in each(list(paths), setup, "Classifier(load_model(path))"):
            accepted = "" if outcome.name or outcome.fault else "was accepted"
            yield bounded(outcome, paths[path], accepted)


def bounded(outcome: Outcome, name: str, fault: str = "") -> Outcome:
    """Return the outcome of a file by its name, at fault beyond the bounds."""
    fault = outcome.fault or fault
    if not fault and outcome.seconds > FILE_S:
        fault = f"took {outcome.seconds:.1f} s"
    if not fault and outcome.megabytes > MOST_MB:
        fault = f"took {outcome.megabytes:.0f} MB"
    if not fault and outcome.drawing > DRAWING_MB:
        fault = f"took {outcome.drawing:.0f} MB to draw"
    return Outcome(name, fault, outcome.seconds, max(outcome.megabytes, outcome.drawing))


def archives() -> Iterator[Outcome]:
    """Read all hostile archives, and an honest one behind them, by one `digitry bulk`."""
    with tempfile.TemporaryDirectory() as given:
        folder = Path(given)
        names = []
        for name, content in _hostile.archives():
            names.append(name)
            (folder / name).write_bytes(content)
        (folder / "zz honest.zip").write_bytes(_hostile.honest_zip(SAMPLE))
        inputs = [str(path) for path in sorted(folder.iterdir())]
        out = folder / "rows"
        words = ["bulk", *inputs, "--out", str(out), "--format", "jsonl", "--workers", "1"]
        ended = command([*words, "--quiet"], wait=2 * WAIT_S)
        yield Outcome("all in one command", ended.fault(1), ended.seconds, ended.megabytes)
        failed = _sources(out.glob("failed.jsonl"))
        for name in names:
            known = any(name in source for source in failed)
            yield Outcome(name, "" if known else "no row says what is wrong with it", 0.0, 0.0)
        honest = sum("zz honest" in source for source in _sources(out.rglob("*.jsonl")))
        fault = "" if honest == 3 else f"{honest} of 3 images were read"
        yield Outcome("an honest archive behind them", fault, 0.0, 0.0)


def _sources(paths: Iterable[Path]) -> list[str]:
    lines = chain.from_iterable(path.read_text().splitlines() for path in paths)
    return [json.loads(line)["source"] for line in lines]


# --- a full disk -----------------------------------------------------------------------------------


def disk() -> Iterator[Outcome]:
    """Fill the disk under a service, and under commands that write."""
    words = ["read", str(ROOT / "samples" / "digit-3.png")]
    if Path("/dev/full").exists():
        ended = command(words, output="/dev/full")
        yield Outcome("standard output", ended.fault(3), ended.seconds, ended.megabytes)
    with small_disk(DISK_MB) as place:
        if place is None:
            print("disk: not tried: only root may mount a small disk", flush=True)
            return
        victim = Victim(place)
        try:
            yield from tried(victim, under_service(victim, place), READ_S)
            filler = fill(place)
            yield from under_commands(place)
            filler.unlink()
        finally:
            victim.stop()


def under_service(victim: Victim, place: Path) -> Iterator[Attack]:
    """Correct on a full disk, and again with room: nothing confirmed is lost, nothing else is said."""

    def status(expected: int, found: int, body: bytes) -> str:
        return untyped(found, body) or ("" if found == expected else f"answered with {found}")

    def room() -> str:
        (place / "filler").unlink()
        return status(201, *victim.correct("9"))

    def full() -> str:
        fill(place)
        return status(507, *victim.correct("8"))

    def kept() -> str:
        listed = json.loads(victim.get("/v1/corrections")[1])["corrections"]
        labels = sorted(row["label"] for row in listed)
        # A second label for the same digit takes the place of the first.
        return "" if "9" in labels and "8" not in labels else f"kept {labels}"

    yield "a correction while there is room", lambda: status(201, *victim.correct("7"))
    yield "a correction on a full disk", full
    yield "/readyz on a full disk", lambda: status(503, *victim.get("/readyz"))
    yield "a correction with room again", room
    yield "/readyz with room again", lambda: status(200, *victim.get("/readyz"))
    yield "what was confirmed is there", kept


def under_commands(place: Path) -> Iterator[Outcome]:
    """Let commands write to a full disk: one line and exit code 3, and nothing half written."""
    digit = str(ROOT / "samples" / "digit-3.png")
    commands = {
        "pictures": ["read", digit, "--quiet", "--annotate", str(place / "pictures")],
        "rows": ["bulk", digit, "--quiet", "--workers", "1", "--out", str(place / "rows")],
        "a model": ["export", "reader", "--to", "onnx", "--out", str(place / "model.onnx")],
        "a run": [
            "train", "dense-128", "--quiet", "--data", "uci", "--epochs", "1",
            "--out", str(place / "run"),
        ],
        "a store": ["corrections", "list", "--db", str(place / "new.db")],
    }  # fmt: skip
    for name, words in commands.items():
        ended = command(words, wait=2 * WAIT_S)
        fault = ended.fault(3)
        written = [path for path in place.rglob("*") if path.suffix in (".onnx", ".parquet", ".h5")]
        if not fault and any(not path.stat().st_size for path in written):
            fault = "left an empty file"
        yield Outcome(f"{name} on a full disk", fault, ended.seconds, ended.megabytes)


# --- the table -------------------------------------------------------------------------------------


def groups(mutants: int) -> dict[str, Callable[[], Iterator[Outcome]]]:
    """Return every group by its name."""
    return {
        "images": lambda: served(lambda victim: images(victim, mutants), READ_S),
        "requests": lambda: served(requests, READ_S),
        "connections": lambda: served(connections, WAIT_S),
        "overload": lambda: served(overload, WAIT_S),
        "kills": lambda: served(kills, WAIT_S),
        "read": read,
        "models": models,
        "archives": archives,
        "disk": disk,
    }


def until(group: Callable[[], Iterator[Outcome]], deadline: float) -> Iterator[Outcome]:
    """Yield the outcomes of a group until it is too late; what is left has not been survived."""
    if time.monotonic() < deadline:
        for outcome in group():
            yield outcome
            if time.monotonic() > deadline:
                break
        else:
            return
    yield Outcome("the rest", "not tried: no time left", 0.0, 0.0)


def main() -> None:
    """Try everything, print the table, and perhaps save a record; exit code 1 if anything fell."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--only", help="groups, by comma; default: all")
    options.add_argument("--mutants", type=int, default=100, help="pictures damaged at random")
    options.add_argument("--minutes", type=float, default=8, help="after which no attack begins")
    options.add_argument("--record", action="store_true", help="save a record")
    given = options.parse_args()
    known = groups(given.mutants)
    wanted = given.only.split(",") if given.only else list(known)
    if unknown := set(wanted) - set(known):
        options.error(f"no such group: {', '.join(sorted(unknown))}")
    deadline = time.monotonic() + 60 * given.minutes
    rows: list[dict[str, object]] = []
    print(f"{'attacks':<14}{'tried':>6}{'survived':>10}{'worst s':>9}{'worst MB':>10}", flush=True)
    for group in wanted:
        found = list(until(known[group], deadline))
        if not found:
            continue
        fell = [one for one in found if one.fault]
        slowest = max(found, key=lambda one: one.seconds)
        largest = max(one.megabytes for one in found)
        print(
            f"{group:<14}{len(found):>6}{len(found) - len(fell):>10}{slowest.seconds:>9.2f}"
            f"{largest:>10.0f}  slowest: {slowest.name}", flush=True,
        )  # fmt: skip
        for one in fell:
            print(f"    {one.name}: {one.fault}"[:200], flush=True)
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
            values=[well / total],
            data={"model reader": load_model("reader").sha256},
            versions=("digitry", "numpy", "pillow", "opencv-python-headless", "onnxruntime"),
            extra={"groups": rows},
        )
    sys.exit(0 if well == total else 1)


if __name__ == "__main__":
    main()
