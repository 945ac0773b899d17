"""Measure the time of each stage of reading, and compare the whole with its lower limit.

    python benchmarks/reading_speed.py [PICTURE...] [--record]

Our own code draws the images: a 28x28 digit as PNG, a 640x480 photo of a line of five digits as JPEG,
and a 12-megapixel JPEG page of 300 digits. The network and OpenCV run on one thread. Each number is the
median of several runs. The limit is what no reader can avoid: to decode the file, and to run the glyph
model on as many glyphs as there are digits. `read_many` gets 2,000 files of 28x28 pixels from memory.
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import _record
from digitry.model.load import load_model
from digitry.reading import decode, glyph, image, lines, network
from digitry.reading.find import find
from digitry.reading.pieces import pieces
from digitry.reading.reader import Reader
from digitry.reading.recognise import Layout
from digitry.training.writing import pen


def page(height: int, width: int, rows: int, columns: int, size: int) -> np.ndarray:
    """Return a page with rows of digits, (height, width) uint8, lit from the left."""
    rng = np.random.default_rng(0)
    light = np.linspace(235, 190, width)[None].repeat(height, axis=0)
    paper = light + rng.normal(0, 2, (height, width))
    for row in range(rows):
        for column in range(columns):
            symbol = str(int(rng.integers(10)))
            lines = pen.wobble(pen.strokes_of(symbol, int(rng.integers(4))), rng, 0.6)
            ink = pen.draw(lines, size, max(1.5, 0.08 * size), rng)
            y = round((row + 0.5) * height / rows - ink.shape[0] / 2)
            x = round((column + 0.5) * width / columns - ink.shape[1] / 2)
            place = paper[y : y + ink.shape[0], x : x + ink.shape[1]]
            place *= 1 - 0.8 * ink
    return paper.clip(0, 255).astype(np.uint8)


def encoded(gray: np.ndarray, format: str) -> bytes:
    stream = io.BytesIO()
    picture = Image.fromarray(gray)
    (picture.convert("RGB") if format == "JPEG" else picture).save(stream, format, quality=90)
    return stream.getvalue()


def median_ms(work: Callable[[], object], repeats: int) -> float:
    work()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds)


def stages(content: bytes, layout: Layout, reader: Reader, repeats: int) -> dict[str, float]:
    gray = image.load(content).gray
    finder, line_network = network.shipped("finder"), network.shipped("lines")
    places = find(gray, finder)
    if layout == "single":
        places = places[:1]
    cuts = [lines.cut(gray, place) for place in places]
    seen = lines.seen(cuts, line_network)
    read = [decode.decode(strips) for strips in seen]

    def glyphs() -> np.ndarray:
        found = [
            piece.ink
            for cut, line, strips in zip(cuts, read, seen, strict=True)
            for piece in pieces(cut, line, strips[line.strip])
        ]
        return glyph.normalise(found)

    made = glyphs()
    return {
        "decode": median_ms(lambda: image.load(content), repeats),
        "polarity": median_ms(lambda: image.light_on_dark(gray), repeats),
        "find": median_ms(lambda: find(gray, finder), repeats),
        "cut": median_ms(lambda: [lines.cut(gray, place) for place in places], repeats),
        "lines": median_ms(lambda: lines.seen(cuts, line_network), repeats),
        "text": median_ms(lambda: [decode.decode(strips) for strips in seen], repeats),
        "glyphs": median_ms(glyphs, repeats),
        "glyph model": median_ms(lambda: reader.probabilities(made), repeats),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", nargs="*", type=Path, metavar="PICTURE")
    parser.add_argument("--record", action="store_true", help="save a record of each measurement")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    reader = Reader()
    model = load_model("reader")
    cases: dict[str, tuple[bytes, Layout, int, int]] = {
        "28x28": (encoded(255 - page(28, 28, 1, 1, 20), "PNG"), "single", 1, 200),
        "640x480": (encoded(page(480, 640, 1, 5, 70), "JPEG"), "auto", 5, 40),
        "12-megapixel": (encoded(page(3000, 4000, 15, 20, 110), "JPEG"), "page", 300, 7),
    }
    for name, (content, layout, digits, repeats) in cases.items():
        parts = stages(content, layout, reader, repeats)
        whole = median_ms(lambda c=content, o=layout: reader.read(c, layout=o), repeats)
        few = np.zeros((digits, 28, 28), np.float32)
        limit = parts["decode"] + median_ms(lambda g=few: reader.probabilities(g), repeats)
        found = len(reader.read(content, layout=layout).digits)
        print(
            f"{name}: {whole:.2f} ms for {found} digits, {whole / limit:.1f} x the limit {limit:.2f} ms"
        )
        print("   " + ", ".join(f"{stage} {ms:.2f}" for stage, ms in parts.items()))
        if arguments.record:
            _record.write(
                f"speed-read-{name}",
                table="Speed",
                what=f"reading a {name} image with {found} digit{'s' * (found > 1)}, one core",
                metric=f"median; decode and glyph model alone: {limit:.3g} ms",
                unit="ms",
                values=[whole],
                data={"model reader": model.sha256},
                versions=("digitry", "numpy", "pillow", "opencv-python-headless", "onnxruntime"),
                extra={"stages in ms": parts, "limit in ms": limit},
            )
    if arguments.pictures:
        named(arguments.pictures, reader, model.sha256, arguments.record)
    small = [cases["28x28"][0]] * 2000
    rates = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in reader.read_many(small, layout="single"):
            pass
        rates.append(len(small) / (time.perf_counter() - started))
    print(f"read_many: {statistics.median(rates):.0f} files of 28x28 pixels a second")
    if arguments.record:
        _record.write(
            "speed-read-many",
            table="Speed",
            what="28x28 PNG files by `read_many`, one core",
            metric="median of five runs",
            unit="images/s",
            values=[statistics.median(rates)],
            data={"model reader": model.sha256},
            versions=("digitry", "numpy", "pillow", "opencv-python-headless", "onnxruntime"),
            extra={"rates": rates},
        )


def named(pictures: list[Path], reader: Reader, sha256: str, record: bool) -> None:
    """Measure the time to read each of some pictures, and record the longest."""
    taken = {path.name: median_ms(lambda p=path: reader.read(p), 3) for path in pictures}
    for name, ms in taken.items():
        print(f"{name}: {ms:.0f} ms")
    if record:
        _record.write(
            "speed-read-pictures",
            table="Speed",
            what=f"the slowest of {len(taken)} crowded pages: {', '.join(taken)}",
            metric="median of three, one core",
            unit="ms",
            values=[max(taken.values())],
            data={"model reader": sha256},
            versions=("digitry", "numpy", "pillow", "opencv-python-headless", "onnxruntime"),
            extra={"ms": taken},
        )


if __name__ == "__main__":
    main()
