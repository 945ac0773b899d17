"""Measure the speed and memory of bulk reading: many small images, against `read_many` in one process.

    python benchmarks/bulk.py [--images 100000] [--workers N] [--memory 1000000] [--ray] [--record]

The images are digits drawn by our own code: PNG files of 28x28 pixels in one tar. Goals: N local
workers reach at least 0.9 x N of the rate of `Reader.read_many`; a worker takes less than 400 MB, and
no more at the end than near the beginning; N workers on Ray reach at least 0.8 of the local rate. In
the run for memory, one image in a hundred is cut and five claim 3,600 million pixels: the list of
failed inputs must be exactly these.
"""

import argparse
import io
import itertools
import json
import os
import shutil
import struct
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

import _record
from digitry.bulk import inputs
from digitry.bulk.job import BulkJob, Progress
from digitry.bulk.run import run
from digitry.model.load import load_model
from digitry.reading.reader import Reader
from digitry.training.writing import pen

DIFFERENT = 2000


def pictures() -> list[bytes]:
    """Return PNG files of digits, all different."""
    rng = np.random.default_rng(0)
    made = []
    for index in range(DIFFERENT):
        symbol = str(index % 10)
        lines = pen.wobble(pen.strokes_of(symbol, pen.pick_hand(symbol, rng)), rng, 0.5)
        ink = pen.draw(lines, 19, 2.2, rng)[:26, :26]
        page = np.zeros((28, 28), np.float32)
        page[1 : 1 + ink.shape[0], 1 : 1 + ink.shape[1]] = ink
        stream = io.BytesIO()
        Image.fromarray((255 * page).astype(np.uint8)).save(stream, "PNG")
        made.append(stream.getvalue())
    return made


def bomb() -> bytes:
    """Return a PNG file of some hundred bytes that claims 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(60_001))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def planted(count: int) -> tuple[set[int], set[int]]:
    """Return which images of a long run are cut, and which claim too many pixels."""
    return set(range(50, count, 100)), {int(count * share) for share in (0.1, 0.3, 0.5, 0.7, 0.9)}


def name_of(index: int) -> str:
    return f"{index // 1000:05d}/{index:08d}.png"


def packed(path: Path, images: list[bytes], count: int, broken: bool = False) -> Path:
    """Write `count` images to a tar, repeating them; with `broken`, those of `planted` are broken."""
    cut, bombs = planted(count) if broken else (set(), set())
    with tarfile.open(path, "w") as archive:
        for index, content in enumerate(itertools.islice(itertools.cycle(images), count)):
            if index in cut:
                content = content[: len(content) // 2]
            elif index in bombs:
                content = bomb()
            header = tarfile.TarInfo(name_of(index))
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return path


def children() -> Iterator[int]:
    """Yield the process ids of the workers."""
    for task in Path("/proc/self/task").iterdir():
        # A thread may end during this loop.
        with suppress(OSError):
            yield from map(int, (task / "children").read_text().split())


def resident(pid: int | str, what: str = "VmRSS") -> float:
    """Return the memory of a process, in MB; 0 if it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next((int(x.split()[1]) / 1000 for x in text.splitlines() if x.startswith(what)), 0.0)


def processor_seconds() -> float:
    """Return the CPU time of this process and of the workers that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class Memory:
    """Notes the memory of the workers and of this process at each shard."""

    def __init__(self) -> None:
        self.points: list[tuple[int, float, float]] = []

    def __call__(self, progress: Progress) -> None:
        """Note the memory at this shard."""
        worker = max((resident(pid) for pid in children()), default=0.0)
        self.points.append((progress.images, worker, resident("self")))


def main() -> None:
    """Run the measurements and print one JSON object."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--images", type=int, default=100_000)
    options.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options.add_argument(
        "--memory", type=int, default=0, help="images in the run for memory; 0 = no such run"
    )
    options.add_argument("--ray", action="store_true", help="measure Ray on this machine, too")
    options.add_argument("--model", default="reader")
    options.add_argument("--record", action="store_true", help="save records")
    given = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="digitry-bulk-"))
    try:
        result = measured(folder, given)
        print(json.dumps(result, indent=2))
        if given.record:
            record(result, given)
    finally:
        shutil.rmtree(folder)


def measured(folder: Path, given: argparse.Namespace) -> dict[str, object]:
    """Return the results of the measurements that were asked for."""
    images = pictures()
    archive = packed(folder / "in.tar", images, given.images)
    started = time.perf_counter()
    shards = sum(1 for _ in inputs.plan([str(archive)], 2048))
    result: dict[str, object] = {
        "images": given.images,
        "workers": given.workers,
        "planned_per_second": round(given.images / (time.perf_counter() - started)),
        "shards": shards,
    }
    import cv2

    cv2.setNumThreads(1)
    reader = Reader(given.model, threads=1)
    sample = list(itertools.islice(itertools.cycle(images), 6400))
    list(reader.read_many(sample[:640]))
    started, computed = time.perf_counter(), time.process_time()
    list(reader.read_many(sample))
    single = len(sample) / (time.perf_counter() - started)
    single_cpu = (time.process_time() - computed) / len(sample)
    result["single_per_second"] = round(single, 1)

    def job(name: str, **changes: object) -> BulkJob:
        settings: dict[str, object] = {
            "inputs": [str(archive)],
            "out": folder / name,
            "format": "parquet",
            "workers": given.workers,
            "model": given.model,
            **changes,
        }
        return BulkJob(**settings)  # type: ignore[arg-type]

    memory = Memory()
    before = processor_seconds()
    local = run(job("local"), progress=memory)
    # The CPU time of one process as a share of that of bulk reading: the rest is the cost of
    # processes and tables. Unlike the rates, it hardly changes on a busy machine.
    whole = (processor_seconds() - before) / given.images
    result["share_of_processor_time"] = round(single_cpu / whole, 3)
    result["local_per_second"] = local.images_per_second
    result["share_of_cores"] = round(local.images_per_second / (single * given.workers), 3)
    result["worker_mb"] = round(max(worker for _, worker, _ in memory.points), 1)
    result["parent_mb"] = round(max(parent for _, _, parent in memory.points), 1)
    if given.ray:
        cluster = run(job("ray", engine="ray"))
        result["ray_per_second"] = cluster.images_per_second
        result["ray_of_local"] = round(cluster.images_per_second / local.images_per_second, 3)
        names = sorted(path.name for path in (folder / "local" / "rows").iterdir())
        result["same_files"] = all(
            (folder / "local" / "rows" / name).read_bytes()
            == (folder / "ray" / "rows" / name).read_bytes()
            for name in names
        )
    if given.memory:
        long = packed(folder / "long.tar", images, given.memory, broken=True)
        memory = Memory()
        report = run(job("memory", inputs=[str(long)]), progress=memory)
        early = next(point for point in memory.points if point[0] >= 10_000)
        late = memory.points[-1]
        result["memory_images"] = given.memory
        result["memory_failed"] = report.failed
        cut, bombs = planted(given.memory)
        rows = (folder / "memory" / "failed.jsonl").read_text(encoding="utf-8").splitlines()
        listed = sorted(json.loads(row)["source"].rpartition("!")[2] for row in rows)
        result["failed_are_exactly_those_planted"] = [
            source.rpartition("/")[2] for source in listed
        ] == sorted(name_of(index).rpartition("/")[2] for index in cut | bombs)
        result["memory_images_per_second"] = report.images_per_second
        result["worker_mb_early_late"] = [round(early[1], 1), round(late[1], 1)]
        result["parent_mb_early_late"] = [round(early[2], 1), round(late[2], 1)]
    return result


def record(result: dict[str, object], given: argparse.Namespace) -> None:
    """Write one record for each result."""
    claims = [
        (
            "bulk-local",
            f"`digitry bulk` of {given.images:,} packed 28x28 PNG files, {given.workers} workers",
            "rate, as a share of that of as many single processes",
            "x",
            result["share_of_cores"],
        )
    ]
    if given.ray:
        claims.append(
            (
                "bulk-ray",
                f"the same on Ray, {given.workers} workers",
                "rate, as a share of local",
                "x",
                result["ray_of_local"],
            )
        )
    if given.memory:
        exact = result["failed_are_exactly_those_planted"]
        claims.append(
            (
                "bulk-memory",
                f"`digitry bulk` of {given.memory:,} images, 1% broken and 5 bombs among them; "
                f"the list of failed inputs is {'exactly' if exact else 'NOT'} these",
                "largest worker",
                "MB",
                result["worker_mb_early_late"][1],  # type: ignore[index]
            )
        )
    for name, what, metric, unit, value in claims:
        _record.write(
            name,
            table="Bulk",
            what=what,
            metric=metric,
            unit=unit,
            values=[float(value)],  # type: ignore[arg-type]
            data={f"model {given.model}": load_model(given.model).sha256},
            versions=("digitry", "numpy", "pyarrow", "onnxruntime"),
            extra=result,
        )


if __name__ == "__main__":
    main()
