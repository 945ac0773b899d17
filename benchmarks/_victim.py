"""What benchmarks/attack.py attacks, and how it sees whether that survived: a service, a command."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from service import Service

ROOT = Path(__file__).parents[1]
SAMPLE = (ROOT / "samples" / "phone-number.jpg").read_bytes()
WAIT_S = 30.0
"""Nothing is waited for longer."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attack.

    Attributes:
        name: of the attack.
        fault: what went wrong, or nothing.
        seconds: until its answer; of a command, its processor time.
        megabytes: peak of the largest process.
        drawing: peak of a process that was started to draw a PDF, if it is the largest so far.
    """

    name: str
    fault: str
    seconds: float
    megabytes: float
    drawing: float = 0.0


# --- a service -------------------------------------------------------------------------------------


class Victim(Service):
    """A service, how much memory it has taken, and whether it is well.

    Args:
        folder: where it keeps its corrections; by default a new one.
    """

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(2, folder)
        if self.process.stderr is not None:
            # What it logs must not fill the pipe.
            threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def workers(self) -> list[int]:
        """Return the processes that it has started."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split() if peak_mb(int(pid)) > 60]

    def peak_mb(self) -> float:
        """Return the peak of the largest of its processes."""
        return max(map(peak_mb, [self.process.pid, *self.workers()]))

    def get(self, path: str) -> tuple[int, bytes]:
        """Ask for a path and return the status and the answer."""
        return self._asked("GET", path, None, {})

    def post(self, path: str, body: bytes, kind: str = "image/png") -> tuple[int, bytes]:
        """Send a body and return the status and the answer."""
        return self._asked("POST", path, body, {"Content-Type": kind})

    def _asked(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        with contextlib.closing(line):
            line.request(method, path, body, headers)
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

    def correct(self, label: str) -> tuple[int, bytes]:
        """Correct the first digit of the sample."""
        box = json.loads(self.post("/v1/read", SAMPLE, "image/jpeg")[1])["readings"][0]["digits"][
            0
        ]["box"]
        body = b""
        for name, value in {"box": ",".join(map(str, box)), "label": label}.items():
            body += (
                f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            )
        body += (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n'
            b"Content-Type: image/jpeg\r\n\r\n" + SAMPLE + b"\r\n--b--\r\n"
        )
        return self.post("/v1/corrections", body, "multipart/form-data; boundary=b")

    def illness(self, patience: float = 10) -> str:
        """Return why it is not well, or nothing: it is alive and reads a page."""
        if self.process.poll() is not None:
            return f"the service has ended ({self.process.returncode})"
        if self.get("/healthz")[0] != 200:
            return "/healthz is not 200"
        until = time.monotonic() + patience
        while True:
            status, body = self.post("/v1/read", SAMPLE, "image/jpeg")
            if status == 200 and json.loads(body)["readings"][0]["text"]:
                return ""
            if time.monotonic() > until:
                return f"a sample is answered with {status}"
            time.sleep(0.1)


def peak_mb(pid: int) -> float:
    """Return the peak of a process, or 0 where the system does not show it."""
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
        return int(found[1]) / 1000 if found else 0.0
    return 0.0


def untyped(status: int, body: bytes) -> str:
    """Return what is wrong with an answer, or nothing: a reading, or a problem with a type and no 500."""
    if status in (200, 201):
        return ""
    if status >= 500 and status not in (503, 507):
        return f"answered with {status}: {body[:100]!r}"
    try:
        problem = json.loads(body)
    except ValueError:
        return f"{status} has no JSON: {body[:100]!r}"
    return "" if problem.get("type") and problem.get("title") else f"{status} has no type"


def no_fault(status: int, body: bytes) -> str:
    """Return what is wrong with an answer, or nothing: any status but a fault of the service."""
    return f"answered with {status}: {body[:80]!r}" if status >= 500 and status != 503 else ""


# --- a command -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: exit code, what it said on stderr, processor seconds, and peak in MB."""

    code: int
    said: str
    seconds: float
    megabytes: float

    def fault(self, *codes: int) -> str:
        """Return what is wrong with it, or nothing: one of these codes, and no traceback."""
        if self.code in codes and "Traceback" not in self.said:
            return ""
        return f"exit code {self.code}: {self.said.strip()[-150:]}"


RUN = """
import resource, sys
from pathlib import Path
from digitry.cli.main import main
peaks = sys.argv.pop(1)
try:
    main()
finally:
    status = Path("/proc/self/status")
    own = status.read_text().split("VmHWM:")[1].split()[0] if status.exists() else 0
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    Path(peaks).write_text(str(max(int(own), children)))
"""
# The peak that wait4 gives is inherited from us, who start the command and hold what attacks it.


def command(words: Sequence[str], *, wait: float = WAIT_S, output: str = os.devnull) -> Ended:
    """Run digitry; it is killed if it takes longer than `wait`."""
    with (
        tempfile.TemporaryFile("w+") as said,
        tempfile.NamedTemporaryFile("r") as peaks,
        Path(output).open("w") as out,
    ):
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, peaks.name, *words], stdout=out, stderr=said
        )
        watch = threading.Timer(wait, process.kill)
        watch.start()
        _, status, used = os.wait4(process.pid, 0)
        watch.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        seconds = used.ru_utime + used.ru_stime
        megabytes = int(peaks.read() or 0) / 1000
        return Ended(process.returncode, said.read(), seconds, megabytes)


EACH = """
import contextlib, json, os, re, sys
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from digitry.errors import DigitryError
{setup}
def used():
    # Of this process, and of those that it has started and that have ended.
    return sum(os.times()[:4])
def drawn():
    return getrusage(RUSAGE_CHILDREN).ru_maxrss / 1000
largest = 0
for path in sys.argv[1:]:
    # The peak so far is forgotten, so each file has its own.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    started, said = used(), ""
    try:
        {act}
    except DigitryError as error:
        said = str(error)
    except Exception as error:
        said = f"untyped {{type(error).__name__}}: {{error}}"
    seconds, status = used() - started, Path("/proc/self/status")
    peak = re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1] if status.exists() else 0
    drawing, largest = drawn() * (drawn() > largest), drawn()
    print(json.dumps([said, seconds, int(peak) / 1000, drawing]), flush=True)
"""


def each(paths: Sequence[Path], setup: str, act: str) -> Iterator[tuple[Path, Outcome]]:
    """Do the same with every file, in as few processes as survive it.

    Args:
        paths: the files; `act` knows each as `path`.
        setup: lines that run once in each process.
        act: one expression; a typed error is a good answer, and stands in the outcome's name.

    Yields:
        A file and its outcome, whose `name` is what was said about it. A file that takes longer than
        `WAIT_S`, or that ends the process, is at fault, and the rest goes to a new process.
    """
    left = list(paths)
    while left:
        process = subprocess.Popen(
            [sys.executable, "-c", EACH.format(setup=setup, act=act), *map(str, left)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        try:
            while left:
                watch = threading.Timer(WAIT_S, process.kill)
                watch.start()
                line = process.stdout.readline() if process.stdout else ""
                watch.cancel()
                path = left.pop(0)
                if not line:
                    code = process.wait()
                    late = f"took more than {WAIT_S:g} s" if code == -signal.SIGKILL else ""
                    yield path, Outcome("", late or f"ended the process ({code})", WAIT_S, 0)
                    break
                said, seconds, megabytes, drawing = json.loads(line)
                fault = said if said.startswith("untyped") else ""
                yield path, Outcome(said, fault, seconds, megabytes, drawing)
        finally:
            process.kill()
            process.wait()


# --- a disk ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(megabytes: int) -> Iterator[Path | None]:
    """Mount a disk of a few megabytes; None where that is not permitted."""
    with tempfile.TemporaryDirectory() as folder:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder]
        try:
            mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            mounted = False
        if not mounted:
            yield None
            return
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=False)


def fill(disk: Path) -> Path:
    """Write a file until a disk is full, and return it."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while stream.write(bytes(1 << 16)):
            pass
    return path
