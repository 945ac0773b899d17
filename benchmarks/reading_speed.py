"""Measure the time of each stage of reading, and compare the whole with its lower limit.

    python benchmarks/reading_speed.py [--record]

Our own code draws the images: a 28x28 digit as PNG, a 640x480 photo of a line of five digits as JPEG,
and a 12-megapixel JPEG page of 300 digits. The network and OpenCV run on one thread. Each number is the
median of several runs. The limit is what no reader can avoid: to decode the file, and to run the network
on as many glyphs as there are digits. `read_many` gets 2,000 files of 28x28 pixels from memory.
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

import _record
from digitry.model.load import load_model
from digitry.reading import glyph, image, segment
from digitry.reading.classifier import Classifier
from digitry.reading.ink import lift
from digitry.reading.reader import Reader
from digitry.training.synthetic import pen


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


def stages(content: bytes, layout: str, classifier: Classifier, repeats: int) -> dict[str, float]:
    loaded = image.load(content)
    ink = lift(loaded.gray)

    def segmented() -> list[segment.Piece]:
        if layout == "single":
            piece = segment.single(ink)
            return [] if piece is None else [piece]
        return [cluster.whole for line in segment.lines(ink) for cluster in line]

    pieces = segmented()
    glyphs = glyph.normalise([piece.ink for piece in pieces])
    return {
        "decode": median_ms(lambda: image.load(content), repeats),
        "polarity": median_ms(lambda: image.light_on_dark(loaded.gray), repeats),
        "ink": median_ms(lambda: lift(loaded.gray), repeats),
        "segment": median_ms(segmented, repeats),
        "glyphs": median_ms(lambda: glyph.normalise([p.ink for p in pieces]), repeats),
        "network": median_ms(lambda: classifier.probabilities(glyphs), repeats),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--record", action="store_true", help="save a record of each measurement")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    reader = Reader()
    model = load_model("reader")
    classifier = Classifier(model)
    cases = {
        "28x28": (encoded(255 - page(28, 28, 1, 1, 20), "PNG"), "single", 1, 200),
        "640x480": (encoded(page(480, 640, 1, 5, 70), "JPEG"), "auto", 5, 40),
        "12-megapixel": (encoded(page(3000, 4000, 15, 20, 110), "JPEG"), "page", 300, 7),
    }
    for name, (content, layout, digits, repeats) in cases.items():
        parts = stages(content, layout, classifier, repeats)
        whole = median_ms(lambda c=content, o=layout: reader.read(c, layout=o), repeats)
        few = np.zeros((digits, 28, 28), np.float32)
        limit = parts["decode"] + median_ms(lambda g=few: classifier.probabilities(g), repeats)
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
                metric=f"median; decode and network alone: {limit:.3g} ms",
                unit="ms",
                values=[whole],
                data={"model reader": model.sha256},
                versions=("digitry", "numpy", "pillow", "opencv-python-headless", "onnxruntime"),
                extra={"stages in ms": parts, "limit in ms": limit},
            )
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


if __name__ == "__main__":
    main()
