"""Measure how many real images are read right, by kind and layout.

    python benchmarks/reading.py MANIFEST... [--model reader] [--mistakes FILE] [--authors] [--record]
    python benchmarks/reading.py MANIFEST... --turned [--record]
    python benchmarks/reading.py MANIFEST... --rival tesseract [--record]
    python benchmarks/reading.py MANIFEST... --rival rapidocr --rival-python PYTHON [--record]

A manifest is a CSV file with the columns `file` and `label`, and optionally `kind`, `layout` (single,
line, grid, auto), `notes` and `repo`. The images are in the folder of the manifest, or in `images/` there.
How a reading is compared with its label, see `_compare.py`; labels in words are passed over. The note
`multiset` means that the order of the digits does not count. Images with the note `28x28` are counted
separately: such a drawing and a photo are different tasks. `repo` (owner/name) says who wrote or
collected an image.

With `--baseline MODEL` (a model trained on plain MNIST, such as the run folder of `dense-128-128`) each
single digit is read in three ways: resized to 28x28 and divided by 255, as the classic programs do; the
same with the right polarity; and by digitry.

A single digit is read as one, lines as a page; what is not read with the layout `auto` is read so again.
A single digit is right if its value is right; a page is right if every character on every line is right.
`digits` counts the images whose digits are right, in their order, whatever else was read. Images without
digits (their label is `?`) count beside another program alone: right is one of which no digit is read.
The character error rate is the edit distance to the label over its length. The expected calibration error
(ECE, 15 bins) compares the confidence of a reading with whether its best guess is right, refused or not.

With `--authors` the images are also counted by author, because images of one author are alike: the mean
over authors, the authors with the lowest share, and how far the mean moves if one author is left out (the
jackknife, Efron 1982).

With `--turned` the images of several digits are read in the layout `auto`, upright and turned by quarters.
An image counts if its digits are right.

With `--rival` the same images are read by another program, as it comes, and only its digits are counted,
as letters for digits would make no sense here. `rapidocr` runs in a Python of its own (`--rival-python`;
`peers/rapidocr_read.py`): a single digit or one line is read as a whole crop, any other image after its
own search for lines. `tesseract` is a program of the system (`peers/tesseract_read.py`).
"""

import argparse
import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import _compare
import _record
from digitry.errors import ImageError
from digitry.model.load import load_model
from digitry.reading import image
from digitry.reading.classifier import Classifier
from digitry.reading.reader import Layout, Reader
from digitry.reading.result import Digit, Reading
from digitry.training.evaluation.calibration import binned, gap


@dataclass(frozen=True)
class Case:
    path: Path
    label: _compare.Label
    kind: str
    layout: str
    author: str

    @property
    def group(self) -> str:
        count = {"single": "one digit", "auto": "any number of digits"}
        several = count.get(self.layout, "several digits")
        return f"{self.kind}, {several if _compare.digits(self.label.text) else 'no digit'}"

    @property
    def read_as(self) -> Layout:
        """The layout to read it with."""
        if self.layout in ("single", "auto"):
            return self.layout
        return "page"


def cases(manifest: Path) -> list[Case]:
    found = []
    with manifest.open(newline="") as stream:
        rows = csv.DictReader(stream)
        trials = _compare.TRIALS in (rows.fieldnames or ())
        for row in rows:
            folder = manifest.parent / "images"
            path = (folder if folder.is_dir() else manifest.parent) / row["file"]
            notes = row.get("notes") or ""
            kind = row.get("kind") or manifest.parent.name
            label = _compare.Label.of(row["label"], trials=trials, any_order="multiset" in notes)
            if label.is_comparable:
                found.append(
                    Case(
                        path,
                        label,
                        "28x28 drawing" if "28x28" in notes else kind,
                        row.get("layout") or "single",
                        (row.get("repo") or "").partition("/")[0],
                    )
                )
    return found


def said(reading: Reading | None) -> str:
    """Return what was read; a refused digit is not right."""
    return "" if reading is None else reading.text


def guessed(reading: Reading | None) -> str:
    """Return what would have been read without refusals."""
    if reading is None:
        return ""
    words = [""] * len(reading.words)
    for index, one in reading.characters():
        words[index] += str(one.alternatives[0][0]) if isinstance(one, Digit) else one.text
    lines: list[list[str]] = [[] for _ in reading.lines]
    for word, text in zip(reading.words, words, strict=True):
        lines[word.line].append(text)
    return "\n".join(" ".join(line) for line in lines)


RIVALS = {"rapidocr": "RapidOCR", "tesseract": "Tesseract"}


def by_rival(name: str, python: str, found: list[Case]) -> list[str]:
    """Return what another program reads in images, in order."""
    asked = "".join(
        json.dumps(
            {
                "path": str(case.path),
                "layout": case.layout,
                "whole": case.layout in ("single", "line"),
            }
        )
        + "\n"
        for case in found
    )
    script = Path(__file__).parent / "peers" / f"{name}_read.py"
    done = subprocess.run(
        [python, str(script)], input=asked, stdout=subprocess.PIPE, text=True, check=True
    )
    return [json.loads(line)["text"] for line in done.stdout.splitlines()]


def rival_version(name: str, python: str) -> str:
    """Return the version of another program."""
    command = {
        "tesseract": ["tesseract", "--version"],
        "rapidocr": [python, "-c", "import importlib.metadata as m; print(m.version('rapidocr'))"],
    }[name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0].split()[-1]


def rival(
    name: str, python: str, reader: Reader, found: list[Case], *, data: dict[str, str] | None
) -> None:
    """Print how many images have their digits read right by another program and by digitry.

    Args:
        name: one of RIVALS.
        python: the Python that runs it.
        reader: digitry's.
        found: the images.
        data: name -> sha256, for a record; None = no record.
    """
    texts = by_rival(name, python, found)
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for case, text in zip(found, texts, strict=True):
        try:
            own = said(reader.read(case.path, layout=case.read_as))
        except ImageError:
            own = ""
        hits = (1, case.label.same_digits(text), case.label.same_digits(own))
        for group in (case.group, "all"):
            counts[group] = [a + int(b) for a, b in zip(counts[group], hits, strict=True)]
    print(f"{'digits right':<34}{'images':>8}{RIVALS[name]:>10}{reader.name:>10}")
    total = counts.pop("all")
    for group, (count, theirs, ours) in [*sorted(counts.items()), ("all", total)]:
        print(f"{group:<34}{count:>8}{100 * theirs / count:>9.1f}%{100 * ours / count:>9.1f}%")
    if data is None:
        return
    version = rival_version(name, python)
    _record.write(
        f"rival-{name}",
        table="Other programs on the same images",
        what=f"{RIVALS[name]} {version}: {total[1]} of {total[0]} images",
        metric="digits read right, whole; digitry "
        + f"{total[2]}; "
        + ", ".join(f"{group} {row[1]} of {row[0]}" for group, row in sorted(counts.items())),
        unit="%",
        values=[total[1] / total[0]],
        data=data,
        versions=VERSIONS,
        extra={
            "program": f"{RIVALS[name]} {version}",
            "groups": {
                group: {"images": row[0], "digits_right": row[1], "digitry_digits_right": row[2]}
                for group, row in sorted(counts.items())
            },
        },
    )


QUARTERS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180,
            270: Image.Transpose.ROTATE_270}  # fmt: skip


def turned(reader: Reader, found: list[Case], *, data: dict[str, str] | None) -> None:
    """Print how many images of several digits have their digits read right, upright and turned.

    Args:
        reader: digitry's.
        found: the images; those of one digit are left out, because nothing shows how they stand.
        data: name -> sha256, for a record; None = no record.
    """
    several = [case for case in found if case.layout not in ("single", "auto")]
    right = dict.fromkeys((0, *QUARTERS), 0)
    for case in several:
        gray = Image.fromarray(image.load(case.path).gray)
        for degrees in right:
            shown = gray.transpose(QUARTERS[degrees]) if degrees else gray
            right[degrees] += case.label.same_digits(said(reader.read(shown)))
    for degrees, count in right.items():
        print(f"turned by {degrees:>3} degrees: {count} of {len(several)} with their digits right")
    if data is not None:
        on_a_side = [right[degrees] / len(several) for degrees in QUARTERS]
        _record.write(
            "reading-turned",
            table="Reading real images",
            what=f"{len(several)} images of several digits, turned by 90, 180 and 270 degrees",
            metric=f"digits right, whole; upright {right[0]}; turned "
            + ", ".join(f"{right[degrees]}" for degrees in QUARTERS),
            unit="%",
            values=on_a_side,
            data=data,
            versions=VERSIONS,
            extra={"right": {str(degrees): count for degrees, count in right.items()}},
        )


VERSIONS = ("digitry", "numpy", "pillow", "opencv-python-headless", "onnxruntime")
WAYS = ("resized to 28x28, divided by 255", "the same, polarity set right", "digitry")


def baseline(model: str, reader: Reader, found: list[Case], *, record: bool) -> None:
    """Print how many single digits the classic way and digitry read right."""
    trained = load_model(model)
    classifier = Classifier(trained)
    total, right = 0, [0] * len(WAYS)
    groups: dict[str, list[int]] = defaultdict(lambda: [0] * (1 + len(WAYS)))
    for case in found:
        if case.layout != "single":
            continue
        page = image.load(case.path)
        small = np.asarray(Image.fromarray(page.gray).resize((28, 28)), np.float32) / 255
        upright = small if image.light_on_dark(page.gray)[0] else 1 - small
        said = classifier.probabilities(np.stack([small, upright])).argmax(axis=1).astype(str)
        read = [*said, reader.read(page.gray, layout="single").text]
        hits = [text == case.label.text for text in read]
        groups[case.group] = [a + b for a, b in zip(groups[case.group], [1, *hits], strict=True)]
        total, right = total + 1, [a + b for a, b in zip(right, hits, strict=True)]
    print(f"{'one digit':<34}{'images':>8}{'resized':>9}{'polarity':>10}{'digitry':>9}")
    for group, (count, *hits) in [*sorted(groups.items()), ("all", [total, *right])]:
        print(f"{group:<34}{count:>8}" + "".join(f"{100 * hit / count:>8.1f}%" for hit in hits))
    if record:
        for index, way in enumerate(WAYS):
            _record.write(
                f"baseline-{index}",
                table="The classic way on the same single digits",
                what=f"{way}: {right[index]} of {total} images",
                metric="read right; "
                + ", ".join(
                    f"{group.split(',')[0]} {hits[index + 1]} of {hits[0]}"
                    for group, hits in sorted(groups.items())
                ),
                unit="%",
                values=[right[index] / total],
                data={
                    f"model {trained.metadata.name}": trained.sha256,
                    f"model {reader.name}": load_model("reader").sha256,
                },
                versions=("digitry", "numpy", "pillow", "onnxruntime"),
                extra=dict(sorted(groups.items())),
            )


def by_author(hits: list[tuple[str, bool]], *, data: dict[str, str] | None) -> None:
    """Print the share of images that are read right, by author.

    Args:
        hits: (author, whether the whole image is read right) of each image.
        data: name -> sha256, for a record; None = no record.
    """
    authors: dict[str, list[bool]] = defaultdict(list)
    for author, hit in hits:
        authors[author].append(hit)
    if len(authors) < 2:
        print("the manifests name no authors (column `repo`)")
        return
    shares = {author: float(np.mean(found)) for author, found in authors.items()}
    values = np.array(list(shares.values()))
    count = len(values)
    # Leaving one author out in turn.
    means = (values.sum() - values) / (count - 1)
    error = float(np.sqrt((count - 1) * np.mean((means - means.mean()) ** 2)))
    pooled = np.array([hit for _, hit in hits])
    print(
        f"{count} authors, {len(hits)} images: mean over authors {100 * values.mean():.1f}% "
        f"(standard error {100 * error:.1f}), over images {100 * pooled.mean():.1f}%; "
        f"leaving one author out: {100 * means.min():.1f}% to {100 * means.max():.1f}%"
    )
    for author in sorted(shares, key=lambda name: (shares[name], name))[:5]:
        found = authors[author]
        print(f"    {author:<28}{sum(found):>4} /{len(found):>4}{100 * shares[author]:>8.1f}%")
    if data is not None:
        _record.write(
            "reading-authors",
            table="Reading real images",
            what=f"{count} authors, {len(hits)} images of all kinds: mean and spread over authors",
            metric="read right, whole",
            unit="%",
            values=values.tolist(),
            data=data,
            versions=VERSIONS,
            extra={
                "over_images": float(pooled.mean()),
                "jackknife_standard_error": error,
                "least_without_one_author": float(means.min()),
                "most_without_one_author": float(means.max()),
                # Without the authors' names.
                "right_of_images_by_author": sorted(
                    [sum(found), len(found)] for found in authors.values()
                ),
            },
        )


def right_untold(reader: Reader, case: Case) -> bool:
    """Return whether an image is read right with the layout `auto`."""
    try:
        return case.label.errors(said(reader.read(case.path, layout="auto"))) == 0
    except ImageError:
        return False


def in_a_row(text: str) -> str:
    """Return a text in one row, lines joined by a bar."""
    return text.replace("\n", "|")


def contact_sheet(wrong: list[tuple[Case, str, str]], path: Path) -> None:
    cell, columns = 150, 8
    rows = -(-len(wrong) // columns)
    sheet = Image.new("RGB", (columns * cell, max(1, rows) * (cell + 26)), (70, 74, 80))
    draw = ImageDraw.Draw(sheet)
    for index, (case, text, note) in enumerate(wrong):
        x, y = index % columns * cell, index // columns * (cell + 26)
        try:
            picture = Image.fromarray(image.load(case.path).gray)
        except ImageError:
            picture = Image.new("L", (8, 8))
        factor = (cell - 6) / max(picture.size)
        size = tuple(max(1, round(side * factor)) for side in picture.size)
        sheet.paste(picture.resize(size), (x + 3, y + 24))
        draw.text((x + 3, y), in_a_row(case.label.text)[:22], fill=(120, 230, 140))
        draw.text((x + 3, y + 11), f"{in_a_row(text)[:18] or '-'} {note}", fill=(255, 160, 140))
    sheet.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "manifests", nargs="*", type=Path, help="default: those in DIGITRY_TEST_DATA"
    )
    parser.add_argument("--model", default="reader")
    parser.add_argument("--layout", help="layout of all images; default: as the manifest says")
    parser.add_argument("--mistakes", type=Path, help="save the mistakes as one picture")
    parser.add_argument("--record", action="store_true", help="save a record for each group")
    parser.add_argument("--baseline", metavar="MODEL", help="only compare with the classic way")
    parser.add_argument("--list", action="store_true", help="list every mistake")
    parser.add_argument("--authors", action="store_true", help="count by author, too")
    parser.add_argument("--rival", choices=tuple(RIVALS), help="only compare with this program")
    parser.add_argument("--rival-python", metavar="PYTHON", help="a Python that has rapidocr")
    parser.add_argument("--turned", action="store_true", help="only turned by quarters")
    parser.add_argument("--count", type=int, help="of each manifest, so many images at most")
    arguments = parser.parse_args()

    folder = os.environ.get("DIGITRY_TEST_DATA")
    if not arguments.manifests and folder:
        arguments.manifests = [
            Path(folder, "photos/manifest.csv"),
            Path(folder, "scans/labels.csv"),
        ]
    if not arguments.manifests:
        sys.exit("reading.py: give a manifest, or set DIGITRY_TEST_DATA to a folder of test data")
    reader = Reader(arguments.model)
    every = [case for path in arguments.manifests for case in cases(path)[: arguments.count]]
    if not arguments.rival:
        # What has no digit is `negatives.py`'s and `handwriting.py`'s.
        every = [case for case in every if _compare.digits(case.label.text)]
    if arguments.baseline:
        baseline(arguments.baseline, reader, every, record=arguments.record)
        return
    data = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in arguments.manifests
    }
    data[f"model {reader.name}"] = load_model(arguments.model).sha256
    if arguments.turned:
        turned(reader, every, data=data if arguments.record else None)
        return
    if arguments.rival:
        if arguments.rival == "rapidocr" and not arguments.rival_python:
            parser.error("--rival needs --rival-python, the path of a Python with rapidocr")
        rival(
            arguments.rival,
            arguments.rival_python or sys.executable,
            reader,
            every,
            data=data if arguments.record else None,
        )
        return
    groups: dict[str, list[tuple[bool, bool, int, int, bool, float, bool]]] = defaultdict(list)
    untold: dict[str, int] = defaultdict(int)
    never: dict[str, set[str]] = defaultdict(lambda: set("0123456789"))
    authored: list[tuple[str, bool]] = []
    wrong: list[tuple[Case, str, str]] = []
    for case in every:
        layout = arguments.layout or case.read_as
        try:
            reading = reader.read(case.path, layout=layout)
        except ImageError as error:
            print(error, file=sys.stderr)
            reading = None
        text = said(reading)
        distance = case.label.errors(text)
        digits = case.label.same_digits(text)
        refused = reading is None or reading.rejected
        sure = 0.0 if reading is None else reading.confidence
        known = case.label.errors(guessed(reading)) == 0
        groups[case.group].append(
            (distance == 0, digits, distance, len(case.label.text), refused, sure, known)
        )
        never[case.group] -= set(case.label.text)
        if layout != "auto":
            untold[case.group] += right_untold(reader, case)
        if case.author:
            authored.append((case.author, distance == 0))
        if distance:
            note = "" if reading is None else f"{reading.confidence:.2f} {reading.reason or ''}"
            wrong.append((case, text, note))

    figures = {}
    print(f"{'images':<34}{'right':>12}{'share':>9}{'digits':>9}{'CER':>8}{'refused':>9}{'ECE':>8}")
    for group, rows in sorted(groups.items()):
        right, digits, distance, length, refused, sure, known = (
            np.array(column) for column in zip(*rows, strict=True)
        )
        off = gap(binned(sure, known))
        figures[group] = {
            "images": len(rows),
            "right": int(right.sum()),
            "share": float(right.mean()),
            "digits_right": int(digits.sum()),
            "character_error_rate": float(distance.sum() / length.sum()),
            "refused": int(refused.sum()),
            "expected_calibration_error": off,
        }
        if group in untold:
            figures[group]["right_in_auto"] = untold[group]
        print(
            f"{group:<34}{right.sum():>6} /{len(rows):>4}{100 * right.mean():>8.1f}%"
            f"{100 * digits.mean():>8.1f}%{100 * distance.sum() / length.sum():>7.1f}%"
            f"{refused.sum():>9}{off:>8.3f}"
            + (f"   {untold[group]} in `auto`" if group in untold else "")
        )
    print(f"{sum(map(len, groups.values()))} images, model {reader.name}")
    if arguments.list:
        for case, text, note in wrong:
            label, seen = in_a_row(case.label.text), in_a_row(text) or "-"
            print(f"{case.path.name}: {label} read as {seen} ({note.strip()})")
    if arguments.mistakes:
        contact_sheet(wrong, arguments.mistakes)
    if arguments.authors:
        by_author(authored, data=data if arguments.record else None)
    if arguments.record:
        for group, figure in figures.items():
            lacking = f", no {' or '.join(sorted(never[group]))} among them" if never[group] else ""
            _record.write(
                "reading-" + re.sub(r"\W+", "-", group),
                table="Reading real images",
                what=f"{group}: {figure['right']} of {figure['images']} images{lacking}",
                metric="read right, whole"
                + (f"; {untold[group]} with the layout `auto`" if group in untold else ""),
                unit="%",
                values=[figure["share"]],
                data=data,
                versions=VERSIONS,
                extra=figure,
            )


if __name__ == "__main__":
    main()
