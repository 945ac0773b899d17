"""Read MNIST's test part as image files, with the whole reading pipeline.

    python benchmarks/mnist.py --data-dir MNIST [--model reader] [--stretched] [--record]

Each of the 10,000 test images is written as a PNG file and read as a single digit. It prints the share
whose text is right (a refusal is not right), the share whose best guess is right, the number of
refusals, the expected calibration error of the confidences, and the share whose text is right with the
layout `auto`. Nothing is chosen by these numbers.

With `--stretched` each digit is cut to its ink, stretched to a square of 16x16 pixels, and set in black and
white, as postal codes and forms were scanned in the 1990s; two pixels of paper are left around it.
"""

import argparse
import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import _record
from digitry.model.load import load_model
from digitry.reading.reader import Reader
from digitry.reading.result import Reading
from digitry.training.datasets import load_dataset
from digitry.training.evaluation import calibration


def packed(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def stretched(image: np.ndarray) -> np.ndarray:
    """Return an image of a digit, ink = 255, as 16x16 pixels of black and white with paper around them."""
    rows, columns = (np.flatnonzero((image > 40).any(axis=side)) for side in (1, 0))
    cut = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    small = cv2.resize(cut, (16, 16), interpolation=cv2.INTER_AREA)
    return np.pad(np.where(small > 110, 255, 0).astype(np.uint8), 2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--model", default="reader")
    parser.add_argument("--stretched", action="store_true", help="read them as 16x16 pixels")
    parser.add_argument("--record", action="store_true", help="save a record")
    arguments = parser.parse_args()
    dataset = load_dataset("mnist", data_dir=arguments.data_dir)
    images = list(map(stretched if arguments.stretched else np.asarray, dataset.test.images))
    reader = Reader(arguments.model, layout="single")
    texts, guesses, confidences = [], [], []
    for reading in reader.read_many(map(packed, images)):
        digits = reading.digits if isinstance(reading, Reading) else ()
        texts.append(reading.text if isinstance(reading, Reading) else "")
        guess, confidence = digits[0].alternatives[0] if digits else (-1, 0.0)
        guesses.append(guess)
        confidences.append(confidence)
    labels = dataset.test.labels
    right = float(np.mean(np.array(texts) == labels.astype(str)))
    hits = np.array(guesses) == labels
    refused = sum(text in ("", "?") for text in texts)
    off = calibration.gap(calibration.binned(np.array(confidences), hits))
    print(f"read right           {100 * right:.2f}%, {refused} of {len(labels)} refused")
    print(f"best guess right     {100 * hits.mean():.2f}%")
    print(f"calibration error    {100 * off:.2f}%")
    untold = Reader(arguments.model, layout="auto").read_many(map(packed, images))
    auto = float(
        np.mean(
            [
                isinstance(reading, Reading) and reading.text == str(label)
                for reading, label in zip(untold, labels, strict=True)
            ]
        )
    )
    print(f"right in `auto`      {100 * auto:.2f}%")
    if arguments.record:
        what = "stretched to 16x16, black and white" if arguments.stretched else "as PNG files"
        kind = "stretched-" if arguments.stretched else ""
        for name, metric, value in (
            (
                "text",
                f"read right; {refused} refused; calibration error {100 * off:.2f}%; "
                f"{100 * auto:.2f}% with the layout `auto`",
                right,
            ),
            ("guess", "best guess right", float(hits.mean())),
        ):
            _record.write(
                f"reading-mnist-{kind}{name}",
                table="Reading real images",
                what=f"MNIST's 10,000 test images, {what}",
                metric=metric,
                unit="%",
                values=[value],
                data={
                    "mnist": dataset.sha256,
                    f"model {reader.name}": load_model(arguments.model).sha256,
                },
                versions=("digitry", "numpy", "pillow", "opencv-python-headless", "onnxruntime"),
                extra={"refused": refused, "expected calibration error": off, "auto": auto},
            )


if __name__ == "__main__":
    main()
