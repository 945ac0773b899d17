"""Measure how many strings of touching and overlapping digits are read whole.

    python benchmarks/strings.py --data-dir MNIST [--count 1000] [--length 5] [--between ink]
        [--pattern '\\d{5}']

Each string is a row of digits from MNIST's test part, 28 pixels high, with random gaps of -4 to 8 pixels.
The gap is between the ink of two digits: four in ten touch or overlap. With `--between images` the gap is
between MNIST's images, whose digits have margins of 4 pixels or more: few touch. Where ink overlaps, the
darker pixel counts. The picture is black on white with a margin of 12 pixels. A string is right if the
picture, read as one line, gives exactly this string, spaces left aside: a mark is an error here. The share
of strings whose digits are right, marks or not, is printed, too. With `--pattern` the reader is told what
each string looks like.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import _compare
import _record
from digitry.model.load import load_model
from digitry.reading.reader import Reader
from digitry.reading.result import Reading
from digitry.training.data.dataset import Split
from digitry.training.datasets import load_dataset

MARGIN = 12


def string(
    split: Split, length: int, between: str, rng: np.random.Generator
) -> tuple[np.ndarray, str, list[int]]:
    """Return a picture, its text, and the gaps between its digits in pixels."""
    page = np.zeros((28 + 2 * MARGIN, 28 * length + 9 * length + 2 * MARGIN), np.uint8)
    x, text, gaps = MARGIN, "", []
    for index in rng.integers(len(split), size=length):
        digit = split.images[index]
        if between == "ink":
            columns = np.flatnonzero(digit.any(axis=0))
            digit = digit[:, columns[0] : columns[-1] + 1]
        if text:
            gaps.append(int(rng.integers(-4, 9)))
            x += gaps[-1]
        place = page[MARGIN : MARGIN + 28, x : x + digit.shape[1]]
        np.maximum(place, digit, out=place)
        x += digit.shape[1]
        text += str(split.labels[index])
    return 255 - page[:, : x + MARGIN], text, gaps


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--length", type=int, default=5)
    parser.add_argument("--between", choices=("ink", "images"), default="ink")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="reader")
    parser.add_argument("--pattern")
    parser.add_argument("--mistakes", type=Path, help="save the first mistakes as one picture")
    parser.add_argument("--record", action="store_true", help="save a record")
    arguments = parser.parse_args()
    dataset = load_dataset("mnist", data_dir=arguments.data_dir)
    split = dataset.test
    rng = np.random.default_rng(arguments.seed)
    made = [string(split, arguments.length, arguments.between, rng) for _ in range(arguments.count)]
    reader = Reader(arguments.model)
    if arguments.pattern is not None:
        reader = reader.within(arguments.pattern)
    right, digits_right, lengths, wrong = 0, 0, Counter[int](), []
    readings = reader.read_many([picture for picture, _, _ in made], layout="line")
    for (picture, text, gaps), reading in zip(made, readings, strict=True):
        said = "".join(reading.text.split()) if isinstance(reading, Reading) else ""
        digits_right += _compare.digits(said) == text
        if said == text:
            right += 1
        else:
            lengths[len(said) - len(text)] += 1
            wrong.append((picture, text, said, min(gaps)))
    share = right / len(made)
    print(f"{right} of {len(made)} strings read whole: {100 * share:.1f}%")
    print(
        f"{digits_right} of {len(made)} right in their digits: {100 * digits_right / len(made):.1f}%"
    )
    print("the others have this many characters too many: strings", dict(sorted(lengths.items())))
    if arguments.mistakes:
        rows = wrong[:60]
        sheet = Image.new("RGB", (900, 66 * -(-len(rows) // 4)), "#444")
        draw = ImageDraw.Draw(sheet)
        for index, (picture, text, said, gap) in enumerate(rows):
            x, y = index % 4 * 225, index // 4 * 66
            sheet.paste(Image.fromarray(picture), (x, y + 12))
            draw.text((x, y), f"{text} > {said} gap {gap}", fill="#fff")
        sheet.save(arguments.mistakes)
    if arguments.record:
        _record.write(
            f"reading-strings-{arguments.between}{'-pattern' * (arguments.pattern is not None)}",
            table="Reading real images",
            what=f"{arguments.count} strings of {arguments.length} MNIST test digits, "
            f"gaps from -4 to 8 pixels between their {arguments.between}"
            + (f", within `{arguments.pattern}`" if arguments.pattern else ""),
            metric="read right, whole",
            unit="%",
            values=[share],
            data={
                "mnist": dataset.sha256,
                f"model {reader.name}": load_model(arguments.model).sha256,
            },
            versions=("digitry", "numpy", "opencv-python-headless", "onnxruntime"),
            extra={
                "seed": arguments.seed,
                "digits right": digits_right / len(made),
                "lengths off": {str(k): v for k, v in lengths.items()},
            },
        )


if __name__ == "__main__":
    main()
