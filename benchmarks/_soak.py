"""Read mixed images for an hour in one process: memory, open files and threads must not grow.

    python benchmarks/_soak.py [--minutes 60] [--record]

It reads sample pages, small digits and, one in a hundred, broken files in turn. It notes the resident
memory each minute and fits a line; the first tenth of the time is warm-up and is left out. Goal: less
than 1 MB an hour, and no more open files and threads at the end than after the warm-up.
"""

import argparse
import io
import itertools
import json
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

import _record
from digitry.errors import ImageError
from digitry.model.load import load_model
from digitry.reading.reader import Reader
from digitry.training.writing import pen

SAMPLES = Path(__file__).parents[1] / "samples"


def resident_mb() -> float:
    """Return the resident memory of this process, in MB."""
    text = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if "VmRSS" in line) / 1000


def open_files() -> int:
    """Return the number of open files."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def contents() -> list[bytes]:
    """Return a hundred images: one broken, ten whole pages, the rest single small digits."""
    rng = np.random.default_rng(0)
    pages = [path.read_bytes() for path in sorted(SAMPLES.glob("*.jpg"))]
    made: list[bytes] = []
    for index in range(100):
        if index % 10 == 0:
            made.append(pages[index // 10 % len(pages)])
            continue
        ink = pen.draw(pen.strokes_of(str(index % 10), 1), 20, 2.4, rng)[:26, :26]
        page = np.zeros((28, 28), np.float32)
        page[1 : 1 + ink.shape[0], 1 : 1 + ink.shape[1]] = ink
        stream = io.BytesIO()
        Image.fromarray((255 * page).astype(np.uint8)).save(stream, "PNG")
        made.append(stream.getvalue())
    made[37] = made[37][:60]
    return made


def main() -> None:
    """Read for the given time and print one JSON object."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=60)
    options.add_argument("--record", action="store_true", help="save a record")
    given = options.parse_args()
    reader = Reader()
    end = time.monotonic() + 60 * given.minutes
    started = noted = time.monotonic()
    interval = min(60.0, 60 * given.minutes / 40)
    points: list[tuple[float, float, int, int]] = []
    images = failed = 0
    for content in itertools.cycle(contents()):
        try:
            reader.read(content)
        except ImageError:
            failed += 1
        images += 1
        now = time.monotonic()
        if now - noted >= interval:
            noted = now
            hours = (now - started) / 3600
            points.append((hours, resident_mb(), open_files(), threading.active_count()))
        if now >= end:
            break
    warm = points[max(1, len(points) // 10) :]
    slope = float(np.polyfit([hours for hours, *_ in warm], [mb for _, mb, *_ in warm], 1)[0])
    result = {
        "minutes": given.minutes,
        "images": images,
        "failed": failed,
        "mb_first_last": [round(warm[0][1], 2), round(warm[-1][1], 2)],
        "mb_an_hour": round(slope, 3),
        "open_files_first_last": [warm[0][2], warm[-1][2]],
        "threads_first_last": [warm[0][3], warm[-1][3]],
    }
    print(json.dumps(result, indent=2))
    if given.record:
        record(result)


def record(result: dict[str, object]) -> None:
    """Write the record."""
    _record.write(
        "soak",
        table="Bulk",
        what=f"{result['minutes']:g} minutes of mixed reading in one process, "
        f"{result['images']:,} images, 1% of them broken",
        metric="growth of memory an hour, after the warm-up",
        unit="MB",
        values=[float(result["mb_an_hour"])],  # type: ignore[arg-type]
        data={"model reader": load_model("reader").sha256},
        versions=("digitry", "numpy", "pillow", "opencv-python-headless", "onnxruntime"),
        extra=result,
    )


if __name__ == "__main__":
    main()
