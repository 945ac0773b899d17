"""Measure how the reader reads handwriting that is held out of its training, from pictures.

    python benchmarks/handwriting.py --data-dir DATA [--count 300] [--mistakes FOLDER] [--record]
    python benchmarks/handwriting.py --data-dir DATA --write FOLDER

DATA holds the packs of handwriting. All hands are held out of training: UNIPEN's writers, one document of
LECTAUREP. A picture goes the whole way, as a user's does: bytes, ink, lines, characters.

- registers: grey scans of numbers and amounts, as they were cut out of LECTAUREP's pages, with rulings and
  neighbours. Of one transcription five at the most.
- strings, digits: UNIPEN's pen strokes, drawn with pens of several widths, dark on light paper.
- letters, words: UNIPEN's letters and words, and windows of LECTAUREP's text; none has a digit. Letters
  that look like a digit (`O`, `l`, ...) are left out.

Strings are read with the layout `line`, single digits with `single`, and everything again with `auto`. The
first share counts a picture as right if its digits and marks are, spaces left aside, and other signs (a
bracket, a currency) are `?` or not read; the second if its digits are. Of what has no digit the first share
counts pictures that are refused (nothing was read, or any character was refused), the second those where no
digit at all was accepted. With `--write` nothing is read: the pictures are written to a folder, with a
manifest for `reading.py --rival`; strings of marks or letters alone are left out.
"""

import argparse
import csv
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

import _compare
import _record
import lines
from digitry.errors import ImageError
from digitry.model.load import load_model
from digitry.reading.reader import Layout, Reader
from digitry.reading.result import Reading
from digitry.training.data import handwriting
from digitry.training.data.handwriting import Samples
from digitry.training.data.packs import PACKS
from digitry.training.writing.hands import from_strokes
from digitry.training.writing.real import labels_of, stroke_strip

Gray = npt.NDArray[np.uint8]
VERSIONS = ("digitry", "numpy", "opencv-python-headless", "onnxruntime")
NAMES = ("unipen_digits", "unipen_strings", "unipen_letters", "unipen_words", "lectaurep_strings",
         "lectaurep_text")  # fmt: skip
PAPER, PEN = 236, 200
"""Grey of drawn paper, and how much darker ink is."""


@dataclass(frozen=True)
class Picture:
    """One picture and what stands in it.

    Attributes:
        gray: (h, w) uint8, dark on light.
        text: its digits and marks; empty where there is no digit.
        labels: the same as classes of the line network.
        layout: how it is read when this is told.
    """

    gray: Gray
    text: str
    labels: tuple[int, ...]
    layout: Layout


def held(samples: Samples) -> Samples:
    """Return the samples of hands that are held out."""
    return handwriting.split(samples)[1]


def on_paper(ink: Gray) -> Gray:
    """Return ink, 255 = ink, on light paper with a margin of half its height."""
    margin = max(12, ink.shape[0] // 2)
    return (PAPER - np.pad(ink, margin).astype(np.float32) * (PEN / 255)).astype(np.uint8)


def registers(data_dir: Path | None) -> Iterator[Picture]:
    """Yield the strings of LECTAUREP's document."""
    strings = held(handwriting.load_strings("lectaurep_strings", data_dir))
    for index in range(len(strings)):
        text = str(strings.texts[index]).replace(" ", "")
        yield Picture(strings.drawings.raw(index), text, labels_of(text), "line")


def strings(data_dir: Path | None, rng: np.random.Generator) -> Iterator[Picture]:
    """Yield UNIPEN's strings."""
    found = held(handwriting.load_strings("unipen_strings", data_dir))
    for index in np.flatnonzero(found.complete).tolist():
        drawn = stroke_strip(found.drawings.strokes(index), rng)
        if drawn is not None:
            text = str(found.texts[index]).replace(" ", "")
            yield Picture(on_paper(drawn.ink), text, labels_of(text), "line")


def digits(data_dir: Path | None, count: int, rng: np.random.Generator) -> list[Picture]:
    """Return some of UNIPEN's digits."""
    found = held(handwriting.load_digits("unipen_digits", data_dir))
    chosen = rng.permutation(len(found))[:count].tolist()
    hands = from_strokes(
        [found.drawings.strokes(i) for i in chosen],
        found.labels[chosen],
        np.zeros(len(chosen), np.int64),
        rng,
    )
    return [
        Picture(on_paper(glyph), str(label), (int(label),), "single")
        for glyph, label in zip(hands.glyphs, hands.labels, strict=True)
    ]


def others(name: str, data_dir: Path | None, count: int, rng: np.random.Generator) -> list[Picture]:
    """Return some writing without digits."""
    found = held(handwriting.load_other(name, data_dir))
    if found.pack == "unipen_letters":
        letters = [label.isalpha() for label in found.labels.tolist()]
        found = handwriting.take(found, np.flatnonzero(~found.looks_like_digit & np.array(letters)))
    drawings = found.drawings
    layout: Layout = "single" if found.pack == "unipen_letters" else "line"
    return [
        Picture(drawings.raw(i) if drawings.dark_ink else on_paper(drawings.raw(i)), "", (), layout)
        for i in rng.permutation(len(found))[:count].tolist()
    ]


def sets(data_dir: Path | None, count: int, seed: int) -> dict[str, list[Picture]]:
    """Return the pictures of each kind."""
    rng = np.random.default_rng(seed)
    scans = [one for one in registers(data_dir) if _compare.digits(one.text)]
    drawn = [one for one in strings(data_dir, rng) if _compare.digits(one.text)]
    return {
        "registers": lines.some(scans, count, rng),
        "strings": lines.some(drawn, count, rng),
        "digits": digits(data_dir, count, rng),
        "letters": others("unipen_letters", data_dir, count, rng),
        "words": others("unipen_words", data_dir, count, rng),
        "text": others("lectaurep_text", data_dir, count, rng),
    }


def right(picture: Picture, reading: Reading | None) -> tuple[bool, bool]:
    """Return the two answers that the shares count; see the top."""
    if not picture.text:
        accepted = [] if reading is None else [d for d in reading.digits if d.value is not None]
        return reading is None or reading.rejected, not accepted
    text = "" if reading is None else "".join(reading.text.split())
    # What has no class of its own, such as a bracket, is right as `?`, or not read.
    known = "0123456789" + _compare.MARKS
    meant = "".join(re.escape(c) if c in known else r"\?*" for c in picture.text)
    digits = _compare.digits(text) == _compare.digits(picture.text)
    return re.fullmatch(meant, text) is not None, digits


def read(reader: Reader, picture: Picture, layout: Layout) -> Reading | None:
    """Return the reading; None where the picture is refused as a whole."""
    try:
        return reader.read(picture.gray, layout=layout)
    except ImageError:
        return None


def save(wrong: Sequence[tuple[Picture, str]], folder: Path, name: str) -> None:
    """Save pictures that are not right, named by what is meant and what was read."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, (picture, said) in enumerate(wrong[:40]):
        plain = "".join(c if c.isalnum() else "_" for c in f"{picture.text}-read-{said}")
        Image.fromarray(picture.gray).save(folder / f"{name}-{index:02d}-{plain[:60]}.png")


def write(kinds: Mapping[str, Sequence[Picture]], folder: Path) -> None:
    """Write the pictures to a folder, with a manifest; what has no digit is labelled `?`."""
    folder.mkdir(parents=True)
    with (folder / "manifest.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(("file", "label", "kind", "layout"))
        for name, pictures in kinds.items():
            for index, picture in enumerate(pictures):
                # Of letters that stand in a label nothing is compared.
                said = "".join(c for c in picture.text if not c.isalpha()) if picture.text else "?"
                if picture.text and not _compare.digits(said):
                    continue
                file = f"{name}-{index:03d}.png"
                Image.fromarray(picture.gray).save(folder / file)
                rows.writerow((file, said, f"held-out {name}", picture.layout))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--count", type=int, default=300, help="of each kind, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="reader")
    parser.add_argument("--mistakes", type=Path, help="a folder for pictures of the mistakes")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="only write the pictures")
    parser.add_argument("--record", action="store_true", help="save a record for each kind")
    arguments = parser.parse_args()
    kinds = sets(arguments.data_dir, arguments.count, arguments.seed)
    if arguments.write:
        write(kinds, arguments.write)
        return
    reader = Reader(arguments.model)
    print(f"{'':<12}{'pictures':>9}{'right':>9}{'digits':>9}{'in auto':>10}{'digits':>9}")
    for name, pictures in kinds.items():
        hits: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
        wrong = []
        for picture in pictures:
            for told, layout in (("told", picture.layout), ("auto", "auto")):
                reading = read(reader, picture, layout)
                hits[told].append(right(picture, reading))
                if told == "told" and not hits[told][-1][0]:
                    wrong.append((picture, "" if reading is None else reading.text))
        shares = [
            100 * float(np.mean([hit[k] for hit in hits[told]])) for told in hits for k in (0, 1)
        ]
        print(f"{name:<12}{len(pictures):>9}" + "".join(f"{share:>8.1f}%" for share in shares))
        if arguments.mistakes:
            save(wrong, arguments.mistakes, name)
        if arguments.record:
            layout, without = pictures[0].layout, not pictures[0].text
            _record.write(
                f"handwriting-{name}",
                table="Reading handwriting that is held out of training",
                what=f"{name}: {len(pictures)} pictures, layout `{layout}`",
                metric=f"{'refused' if without else 'read right, whole'}; "
                f"{shares[2]:.1f}% with the layout `auto`; "
                f"{'no digit accepted' if without else 'digits alone'}: {shares[1]:.1f}%",
                unit="%",
                values=[shares[0] / 100],
                data={
                    **{pack: PACKS[pack].sha256 for pack in NAMES},
                    f"model {reader.name}": load_model(arguments.model).sha256,
                },
                versions=VERSIONS,
                extra={"seed": arguments.seed, "right": hits},
            )


if __name__ == "__main__":
    main()
