"""Measure the service: capacity, latency and overload; --plain adds a plain FastAPI + Keras service.

    python benchmarks/service.py [--seconds 5] [--workers 1,2] [--overload 5] [--plain] [--record]

Capacity is measured in a closed loop: four connections a worker, each of which sends the next request
when it has its answer. Overload is an open loop: requests arrive at random (Poisson) times at a multiple
of the capacity, whether earlier ones are answered or not, as from independent users; a closed loop would
hide stalls. It prints the goodput (answers with 200), the latency of the refusals (503), the memory of
the service before and after, and the time until it answers with 200 again.

The client runs on the same machine, so the numbers are lower than with a client elsewhere. The plain
service is like one from a tutorial: one process, `Image.open`, resize to 28x28, `model.predict`.
"""

import argparse
import asyncio
import io
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import numpy as np
import uvloop
from PIL import Image

import _record
from digitry.model.load import load_model
from digitry.training.writing import pen as strokes

PLAIN = """
import io, os, sys
os.environ.setdefault("KERAS_BACKEND", "torch")
import keras, numpy as np, uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image
model = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(),
    keras.layers.Dense(128, "relu"), keras.layers.Dense(128, "relu"),
    keras.layers.Dense(10, "softmax")])
app = FastAPI()
@app.post("/v1/read")
def read(file: UploadFile):
    image = Image.open(io.BytesIO(file.file.read())).convert("L").resize((28, 28))
    scores = model.predict(np.asarray(image)[None] / 255.0, verbose=0)
    return {"digit": int(scores.argmax())}
print("digitry: http://127.0.0.1:%s/" % sys.argv[1], file=sys.stderr, flush=True)
uvicorn.run(app, port=int(sys.argv[1]), log_level="error")
"""


class Service:
    """A service in its own process; `workers` None starts the plain one.

    Its corrections lie in a new folder, which is made within `folder` if that is given.
    """

    def __init__(self, workers: int | None, folder: Path | None = None) -> None:
        self.folder = tempfile.TemporaryDirectory(dir=folder)
        if workers is None:
            words = ["-c", PLAIN, "8791"]
        else:
            words = ["-m", "digitry", "serve", "--port", "0", "--workers", str(workers),
                     "--db", f"{self.folder.name}/corrections.db"]  # fmt: skip
        self.process = subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr or ():
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                self.port = int(found[1])
                break

    def seconds(self) -> dict[str, float]:
        """Return the CPU time of the service and of its workers so far."""
        pids = subprocess.run(
            ["ps", "-o", "pid=", "-p", str(self.process.pid), "--ppid", str(self.process.pid)],
            capture_output=True, text=True, check=True,
        ).stdout.split()  # fmt: skip
        found = {"service": 0.0, "workers": 0.0}
        for pid in map(int, pids):
            user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
            who = "service" if pid == self.process.pid else "workers"
            found[who] += (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
        return found

    def megabytes(self) -> float:
        """Return the resident memory of the service and its workers."""
        found = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(self.process.pid), "--ppid", str(self.process.pid)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return sum(map(int, found.stdout.split())) / 1024

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        self.folder.cleanup()


class Line(asyncio.Protocol):
    """One connection of a minimal HTTP client: it sends whole requests and reads only the status."""

    def __init__(self) -> None:
        self.transport: asyncio.WriteTransport | None = None
        self._waiting: asyncio.Future[int] | None = None
        self._received = b""
        self.last = False

    async def ask(self, request: bytes) -> int:
        self._waiting, self._received = asyncio.get_running_loop().create_future(), b""
        if self.transport is None or self.transport.is_closing():
            raise ConnectionError
        self.transport.write(request)
        return await self._waiting

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, gap, body = self._received.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.I) if gap else None
        if self._waiting is None or not length or len(body) < int(length[1]):
            return
        self.last = b"connection: close" in head.lower()
        self._waiting.set_result(int(head[9:12]))
        self._waiting = None

    def connection_lost(self, _: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionError())


class Client:
    """Sends one request again and again, over connections that are kept open."""

    def __init__(self, port: int, content: bytes) -> None:
        body = (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n'
            b"Content-Type: image/png\r\n\r\n" + content + b"\r\n--b--\r\n"
        )
        self.request = (
            f"POST /v1/read HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        ).encode() + body
        self.port = port
        self.idle: list[Line] = []

    async def ask(self) -> tuple[int, float]:
        """Send the request; return the status (0: no answer) and the seconds."""
        started = time.perf_counter()
        try:
            line = self.idle.pop() if self.idle else await self._connect()
            status = await line.ask(self.request)
        except OSError:
            return 0, time.perf_counter() - started
        if not line.last:
            self.idle.append(line)
        return status, time.perf_counter() - started

    async def _connect(self) -> Line:
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(Line, "127.0.0.1", self.port))[1]


def percentile(values: list[float], share: float) -> float:
    return 1000 * float(np.quantile(values, share)) if values else float("nan")


async def closed(client: Client, connections: int, seconds: float) -> tuple[float, list[float]]:
    """Send requests in a closed loop; return answers a second and the seconds of each."""
    end = time.perf_counter() + seconds
    times: list[float] = []

    async def one() -> None:
        while time.perf_counter() < end:
            status, took = await client.ask()
            if status == 200:
                times.append(took)

    started = time.perf_counter()
    await asyncio.gather(*[one() for _ in range(connections)])
    return len(times) / (time.perf_counter() - started), times


async def open_loop(client: Client, rate: float, seconds: float) -> list[tuple[int, float]]:
    """Send requests at random times, `rate` a second; return the status and seconds of each."""
    rng = random.Random(1)
    tasks: list[asyncio.Task[tuple[int, float]]] = []
    due = started = time.perf_counter()
    while due < started + seconds:
        due += rng.expovariate(rate)
        wait = due - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(client.ask()))
    return list(await asyncio.gather(*tasks))


def pictures() -> dict[str, bytes]:
    """Return the images that are sent: one digit on 28x28, and a line of digits on 640x480."""
    rng = np.random.default_rng(7)
    drawings = {"28x28": ((28, 28), "5", 20, 2.2), "640x480": ((480, 640), "40715", 90, 7.0)}
    found = {}
    for name, (shape, text, height, pen) in drawings.items():
        page = np.zeros(shape, np.float32)
        x = (shape[1] - len(text) * height) // 2
        for symbol in text:
            ink = strokes.draw(strokes.strokes_of(symbol, 1), height, pen, rng, taper=0)
            y = (shape[0] - ink.shape[0]) // 2
            place = page[max(y, 0) :, max(x, 0) :][: ink.shape[0], : ink.shape[1]]
            np.maximum(place, ink[: place.shape[0], : place.shape[1]], out=place)
            x += round(height * 1.05)
        stream = io.BytesIO()
        Image.fromarray((245 - 215 * page).astype(np.uint8)).save(stream, "PNG")
        found[name] = stream.getvalue()
    return found


def measured(
    workers: int | None, run: Callable[[Service], Coroutine[object, object, None]]
) -> None:
    service = Service(workers)
    try:
        # The client takes CPU time from the service, so it uses the fastest event loop.
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(service))
    finally:
        service.stop()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5, help="length of each measurement")
    parser.add_argument("--workers", default="1,2", help="numbers of workers, separated by commas")
    parser.add_argument(
        "--overload", type=float, default=5, help="multiple of the capacity; 0 = none"
    )
    parser.add_argument("--plain", action="store_true", help="measure the plain service, too")
    parser.add_argument("--record", action="store_true", help="save a record")
    arguments = parser.parse_args()
    sent = pictures()
    counts: list[int | None] = [int(part) for part in arguments.workers.split(",")]
    rates: dict[tuple[int | None, str], float] = {}
    facts: dict[str, object] = {}
    goodput = 0.0
    for workers in [*counts, *([None] if arguments.plain else [])]:
        title = "plain" if workers is None else f"{workers} worker{'s' if workers > 1 else ''}"

        async def capacity(
            service: Service, workers: int | None = workers, title: str = title
        ) -> None:
            for name, content in sent.items():
                client = Client(service.port, content)
                await closed(client, 2, 0.5)
                rate, times = await closed(client, 4 * (workers or 1), arguments.seconds)
                rates[workers, name] = rate
                line = (
                    f"{rate:7.1f} /s   p50 {percentile(times, 0.5):6.1f} ms   "
                    f"p99 {percentile(times, 0.99):6.1f} ms"
                )
                facts[f"{title}, {name}"] = " ".join(line.split())
                print(f"{title:<10} {name:<8} {line}   {service.megabytes():.0f} MB", flush=True)

        measured(workers, capacity)
    most = max(count for count in counts if count)
    if arguments.overload:

        async def overload(service: Service) -> None:
            client = Client(service.port, sent["28x28"])
            rate = rates[most, "28x28"]
            calm = await open_loop(client, rate / 2, arguments.seconds)
            before = service.megabytes()
            own, theirs = time.process_time(), service.seconds()
            started = time.perf_counter()
            answers = await open_loop(client, arguments.overload * rate, arguments.seconds)
            after = service.megabytes()
            ended = time.perf_counter()
            used = {who: seconds - theirs[who] for who, seconds in service.seconds().items()}
            used["client"] = time.process_time() - own
            while (await client.ask())[0] != 200 and time.perf_counter() < ended + 60:
                pass
            back = time.perf_counter() - ended
            good = [seconds for status, seconds in answers if status == 200]
            busy = [seconds for status, seconds in answers if status == 503]
            other = len(answers) - len(good) - len(busy)
            nonlocal goodput
            goodput = len(good) / (ended - started) / rate
            lines = {
                "asked": f"{len(answers)} in {ended - started:.1f} s",
                "goodput": f"{100 * goodput:.0f}% of capacity",
                "accepted": f"p50 {percentile(good, 0.5):.0f} ms, p99 {percentile(good, 0.99):.0f} ms"
                f" (at half capacity {percentile([s for _, s in calm], 0.99):.0f} ms)",
                "refused (503)": f"{len(busy)}, p50 {percentile(busy, 0.5):.0f} ms, "
                f"p99 {percentile(busy, 0.99):.0f} ms",
                "other": str(other),
                "memory": f"{before:.0f} MB before, {after:.0f} MB after",
                "processor time": ", ".join(f"{who} {s:.1f} s" for who, s in used.items()),
                "recovery": f"{back:.2f} s",
            }
            facts["overload"] = lines
            for name, text in lines.items():
                print(f"  {name:<20} {text}", flush=True)

        print(f"overload, {most} workers, 28x28", flush=True)
        measured(most, overload)
    if arguments.record:
        shared: dict[str, Any] = {
            "table": "The service, with its client on the same machine",
            "data": {"model reader": load_model("reader").sha256},
            "versions": ("digitry", "fastapi", "uvicorn", "onnxruntime"),
            "extra": {"facts": facts, "cores": os.cpu_count(), "seconds": arguments.seconds},
        }
        for name in sent:
            beside = [rates[None, name]] if arguments.plain else []
            plain = "".join(
                f"; a plain FastAPI + Keras service {rate:.0f}, which shrinks each image to one glyph"
                for rate in beside
            )
            _record.write(
                f"service-capacity-{name}",
                what=f"{name}, {most} workers",
                metric=f"answers a second{plain}",
                unit="",
                values=[rates[most, name]],
                **shared,
            )
        if arguments.overload:
            _record.write(
                "service-goodput",
                what=f"asked {arguments.overload:g} times as often as it can answer",
                metric="answers in time, as a share of capacity",
                unit="%",
                values=[goodput],
                **shared,
            )


if __name__ == "__main__":
    main()
