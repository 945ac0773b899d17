"""Measure how many images without digits are refused, and how many real digits are refused with them.

    python benchmarks/negatives.py [--count 1000] [--seed 0] [--model reader] [--sheet FILE] [--record]

`_signs.py` and `_sights.py` draw the images, the same ones for one seed: letters of four scripts, print,
words, signs, shapes, doodles, blank paper, textures, things, stains, forms and noise. They share no
stroke, pen, paper or light with training; but training shows some Greek letters and kana, too, as people
drew them (Omniglot). Signs that look like a digit in some handwriting are left out; `_signs.py` lists them.

Each image is read as a single digit and with the layout `auto`. It is refused if nothing was read or any
digit was refused (`rejected`); `silent` is stricter: no digit at all was accepted. The cost of refusing
is measured, too: of the real single digits whose best guess is right (manifests as in reading.py; default:
those in DIGITRY_TEST_DATA), the share that is refused.
"""

import argparse
import csv
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import _record
import _sights
import _signs
from digitry.model.load import load_model
from digitry.reading.reader import Reader
from digitry.reading.recognise import Layout
from digitry.reading.result import Reading

LAYOUTS: tuple[Layout, ...] = ("single", "auto")
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)


def _sign(table: dict[str, str]) -> Callable[[np.random.Generator], np.ndarray]:
    def draw(rng: np.random.Generator) -> np.ndarray:
        text = table[str(rng.choice(list(table)))]
        height = float(np.exp(rng.uniform(np.log(18), np.log(220))))
        return _sights.written(_signs.ink_of(_signs.strokes_of(text), height, rng), rng)

    return draw


def _shape(rng: np.random.Generator) -> np.ndarray:
    height = float(np.exp(rng.uniform(np.log(18), np.log(220))))
    kind = int(rng.integers(len(_signs.SHAPES) + 6))
    if kind < len(_signs.SHAPES):
        strokes = _signs.strokes_of(list(_signs.SHAPES.values())[kind])
    else:
        strokes = _signs.star(rng) if kind % 2 else _signs.spiral(rng)
    return _sights.written(_signs.ink_of(strokes, height, rng), rng)


def _doodle(rng: np.random.Generator) -> np.ndarray:
    height = float(np.exp(rng.uniform(np.log(24), np.log(200))))
    return _sights.written(_signs.ink_of(_signs.doodle(rng), height, rng), rng)


def _word(rng: np.random.Generator) -> np.ndarray:
    return _sights.written(_signs.word(str(rng.choice(_signs.WORDS)), rng), rng)


def _type(rng: np.random.Generator) -> np.ndarray:
    size = int(np.exp(rng.uniform(np.log(20), np.log(160))))
    font = ImageFont.load_default(size)
    sheet = Image.new("L", (3 * size, 3 * size))
    letter = str(rng.choice(list(_signs.PRINTED)))
    ImageDraw.Draw(sheet).text((size, size), letter, fill=255, font=font)
    ink = np.asarray(sheet, np.float32) / 255
    if rng.random() < 0.4:
        ink = cv2.warpAffine(
            ink,
            cv2.getRotationMatrix2D((1.5 * size, 1.5 * size), rng.uniform(-12, 12), 1),
            ink.shape,
        )
    return _sights.written(ink, rng)


KINDS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "Latin letters": _sign(_signs.LATIN),
    "Greek letters": _sign(_signs.GREEK),
    "Cyrillic letters": _sign(_signs.CYRILLIC),
    "Chinese and kana": _sign(_signs.CHARACTERS),
    "type": _type,
    "words": _word,
    "signs": _sign(_signs.SIGNS),
    "shapes": _shape,
    "doodles": _doodle,
    "blank paper": _sights.blank,
    "empty forms": _sights.form,
    "stains": _sights.stain,
    "textures": _sights.texture,
    "things": _sights.thing,
    "noise": _sights.noise,
}


def negatives(count: int, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield `count` images with their kind, each kind equally often; each depends on its index only."""
    for index in range(count):
        kind = index % len(KINDS)
        name = list(KINDS)[kind]
        rng = np.random.default_rng([0xD161, seed, kind, index // len(KINDS)])
        yield name, KINDS[name](rng)


@dataclass
class Tally:
    """The results for the images of one kind, in one layout."""

    images: int = 0
    refused: int = 0
    silent: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    confidences: list[float] = field(default_factory=list)
    """The lowest confidence among the digits of each image that was not refused."""

    def add(self, reading: Reading) -> None:
        self.images += 1
        self.refused += reading.rejected
        self.silent += all(digit.value is None for digit in reading.digits)
        if reading.rejected:
            self.reasons[str(reading.reason).split(" ")[0]] += 1
        else:
            self.confidences.append(min(digit.confidence for digit in reading.digits))


@dataclass
class Digits:
    """The results for real single digits."""

    images: int = 0
    right: int = 0
    """Images whose best guess is right, accepted or not."""
    refused: list[tuple[str, str, float]] = field(default_factory=list)
    """File, reason and confidence of each of these that was refused."""
    wrong: int = 0
    """Images that were accepted with a wrong digit."""
    confidences: list[float] = field(default_factory=list)


def real_digits(reader: Reader, manifests: list[Path]) -> dict[str, Digits]:
    found: dict[str, Digits] = defaultdict(Digits)
    for manifest in manifests:
        folder = manifest.parent / "images"
        with manifest.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        rows = [row for row in rows if (row.get("layout") or "single") == "single"]
        paths = [(folder if folder.is_dir() else manifest.parent) / row["file"] for row in rows]
        for row, path, reading in zip(
            rows, paths, reader.read_many(paths, layout="single"), strict=True
        ):
            small = "28x28" in (row.get("notes") or "")
            group = found["28x28 drawing" if small else row.get("kind") or manifest.parent.name]
            group.images += 1
            digits = reading.digits if isinstance(reading, Reading) else ()
            if len(digits) != 1:
                continue
            right = str(digits[0].alternatives[0][0]) == row["label"]
            group.right += right
            group.wrong += not right and digits[0].value is not None
            if right and digits[0].value is None:
                group.refused.append((path.name, str(digits[0].reason), digits[0].confidence))
            elif right:
                group.confidences.append(digits[0].confidence)
    return found


def contact_sheet(pictures: list[tuple[str, np.ndarray]], path: Path, columns: int) -> None:
    cell = 92
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * cell, rows * (cell + 12)), (60, 64, 70))
    draw = ImageDraw.Draw(sheet)
    for index, (note, picture) in enumerate(pictures):
        x, y = index % columns * cell, index // columns * (cell + 12)
        small = Image.fromarray(np.ascontiguousarray(picture))
        small.thumbnail((cell - 4, cell - 4))
        sheet.paste(small, (x + 2, y + 12))
        draw.text((x + 2, y), note[:16], fill=(230, 230, 230))
    sheet.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "manifests", nargs="*", type=Path, help="default: those in DIGITRY_TEST_DATA"
    )
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="reader")
    parser.add_argument("--sheet", type=Path, help="only save the first images of each kind")
    parser.add_argument("--accepted", type=Path, help="save what was not refused as one picture")
    parser.add_argument("--record", action="store_true", help="save records")
    arguments = parser.parse_args()
    if arguments.sheet:
        contact_sheet(list(negatives(20 * len(KINDS), arguments.seed)), arguments.sheet, len(KINDS))
        return
    data = os.environ.get("DIGITRY_TEST_DATA")
    if not arguments.manifests and data:
        arguments.manifests = [Path(data, "photos/manifest.csv"), Path(data, "scans/labels.csv")]
    reader = Reader(arguments.model)
    tallies = {layout: {kind: Tally() for kind in KINDS} for layout in LAYOUTS}
    accepted: list[tuple[str, np.ndarray]] = []
    for kind, picture in negatives(arguments.count, arguments.seed):
        for layout in LAYOUTS:
            reading = reader.read(picture, layout=layout)
            tallies[layout][kind].add(reading)
            if not reading.rejected:
                note = f"{layout[0]} {reading.text} {reading.confidence:.2f}".replace("\n", "|")
                accepted.append((note, picture))
    for layout, by_kind in tallies.items():
        report(layout, by_kind)
    digits = real_digits(reader, arguments.manifests)
    if digits:
        report_digits(digits)
    thresholds(tallies, digits)
    if arguments.accepted:
        contact_sheet(accepted, arguments.accepted, 14)
    if arguments.record:
        record(arguments.model, reader, tallies, digits)


def total(by_kind: dict[str, Tally]) -> Tally:
    every = Tally()
    for tally in by_kind.values():
        every.images += tally.images
        every.refused += tally.refused
        every.silent += tally.silent
        every.reasons += tally.reasons
        every.confidences += tally.confidences
    return every


def report(layout: str, by_kind: dict[str, Tally]) -> None:
    print(f"{layout:<20}{'images':>7}{'refused':>9}{'silent':>9}  reasons")
    for kind, tally in [*by_kind.items(), ("all", total(by_kind))]:
        if tally.images:
            reasons = ", ".join(f"{name} {count}" for name, count in tally.reasons.most_common())
            print(
                f"{kind:<20}{tally.images:>7}{100 * tally.refused / tally.images:>8.1f}%"
                f"{100 * tally.silent / tally.images:>8.1f}%  {reasons}"
            )
    print()


def report_digits(digits: dict[str, Digits]) -> None:
    print(f"{'real single digits':<20}{'images':>7}{'right':>7}{'refused':>9}{'wrong':>7}")
    for group, tally in digits.items():
        print(
            f"{group:<20}{tally.images:>7}{tally.right:>7}{len(tally.refused):>9}{tally.wrong:>7}"
        )
        for name, reason, confidence in tally.refused:
            print(f"    {name}: {reason}, confidence {confidence:.2f}")
    right = sum(tally.right for tally in digits.values())
    lost = sum(len(tally.refused) for tally in digits.values())
    print(f"refused though right: {lost} of {right}, {100 * lost / max(right, 1):.2f}%\n")


def thresholds(tallies: dict[Layout, dict[str, Tally]], digits: dict[str, Digits]) -> None:
    """Print the shares for other thresholds; only those above the reader's own have an effect."""
    right = sum(tally.right for tally in digits.values())
    lost = sum(len(tally.refused) for tally in digits.values())
    sure = np.array([c for tally in digits.values() for c in tally.confidences])
    print(f"{'threshold':<12}{'refused, single':>16}{'refused, auto':>15}{'digits lost':>15}")
    for threshold in THRESHOLDS:
        shares = []
        for layout in LAYOUTS:
            every = total(tallies[layout])
            more = sum(confidence < threshold for confidence in every.confidences)
            shares.append(100 * (every.refused + more) / max(every.images, 1))
        gone = 100 * (lost + int((sure < threshold).sum())) / right if right else float("nan")
        print(f"{threshold:<12}{shares[0]:>15.1f}%{shares[1]:>14.1f}%{gone:>14.2f}%")


def record(
    model: str,
    reader: Reader,
    tallies: dict[Layout, dict[str, Tally]],
    digits: dict[str, Digits],
) -> None:
    versions = ("digitry", "numpy", "pillow", "opencv-python-headless", "onnxruntime")
    data = {f"model {reader.name}": load_model(model).sha256}
    for layout, by_kind in tallies.items():
        every = total(by_kind)
        _record.write(
            f"refused-{layout}",
            table="Knowing when not to know",
            what=f"{every.images} drawn images of no digit, layout `{layout}`",
            metric="refused, all or in part; "
            f"no digit accepted at all: {100 * every.silent / every.images:.1f}%",
            unit="%",
            values=[every.refused / every.images],
            data=data,
            versions=versions,
            extra={
                kind: {
                    "images": tally.images,
                    "refused": tally.refused,
                    "silent": tally.silent,
                    "reasons": dict(tally.reasons),
                }
                for kind, tally in by_kind.items()
            },
        )
    right = sum(tally.right for tally in digits.values())
    if right:
        _record.write(
            "refused-readable",
            table="Knowing when not to know",
            what=f"{right} real single digits whose best guess is right",
            metric="refused",
            unit="%",
            values=[sum(len(tally.refused) for tally in digits.values()) / right],
            data=data,
            versions=versions,
            extra={
                group: {
                    "images": tally.images,
                    "right": tally.right,
                    "refused": len(tally.refused),
                    "wrong": tally.wrong,
                }
                for group, tally in digits.items()
            },
        )


if __name__ == "__main__":
    main()
