"""Measure how forms are read: 20 hands that are held out of training, photographed askew.

    python benchmarks/forms.py --data-dir DATA [--each 2] [--mistakes FOLDER] [--record]

DATA holds MNIST and the packs of handwriting. The sample forms (`samples/forms`) are filled in by UNIPEN's
and MNIST's held-out writers who wrote every digit, each with his own digits; points and commas are dots of
the pen. Our camera sees the sheet on a table: turned by up to 20 degrees, in one of six photos by a quarter
or half, from the side, a little bent, under uneven light.

A field is right if it is not refused, and its text is what was written; empty fields that may be empty
count, too. A photo of another form, of the blank back of a sheet, or of a page of numbers is right if it is
refused as a whole.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

import _record
from digitry.errors import ImageError
from digitry.reading import image, template
from digitry.reading.reader import Reader
from digitry.reading.result import FormReading
from digitry.reading.template import Field, Template
from digitry.training.data import handwriting
from digitry.training.data.packs import PACKS
from digitry.training.datasets import load_dataset
from digitry.training.writing.hands import Hands, Ink, cut_to_ink, draw_strokes
from digitry.training.writing.sources import hands_of

FORMS = Path(__file__).parents[1] / "samples" / "forms"
sys.path.insert(0, str(FORMS.parent))
import draw as camera  # noqa: E402 (a file of the samples)

Gray = npt.NDArray[np.uint8]
Hand = Mapping[int, Sequence[Ink]]
"""The digits that somebody wrote, by their value."""

VERSIONS = ("digitry", "numpy", "opencv-python-headless", "onnxruntime")
NAMES = ("slip", "exam")
HANDS = 20
CANVAS = (1500, 1500)
"""Rows and columns of a photo; the sheet fills most of it."""

WIDEST = 1.9
"""Some of UNIPEN's pictures of a 0 show two of them, or four: those so many times as wide as high."""

CELLS = {"account": 8, "student": 7}
"""Fields with a cell for each digit."""


@dataclass(frozen=True)
class Filled:
    """A photo of a form, and what stands in its fields."""

    gray: Gray
    values: Mapping[str, str]
    hand: str


def writers(data_dir: Path) -> dict[str, Hand]:
    """Return the digits of 20 held-out hands that wrote every digit: by their name and the digit."""
    rng = np.random.default_rng(0)
    unipen = handwriting.split(handwriting.load_digits("unipen_digits", data_dir))[1]
    found: dict[str, Hand] = {}
    for hand in sorted(set(unipen.hands.tolist())):
        pen = rng.uniform(0.06, 0.13)
        drawn: dict[int, list[Ink]] = {}
        for i in np.flatnonzero(unipen.hands == hand).tolist():
            ink = cut_to_ink(draw_strokes(unipen.drawings.strokes(i), 64, pen * 64))
            if ink is not None and ink.shape[1] < WIDEST * ink.shape[0]:
                drawn.setdefault(int(unipen.labels[i]), []).append(ink)
        if len(drawn) == 10:
            found[hand] = drawn
    mnist = load_dataset("mnist", data_dir=data_dir).train
    digits = handwriting.split(handwriting.mnist_digits(mnist.images, mnist.labels, data_dir))[1]
    hands: Hands = hands_of(digits, rng)
    for writer in rng.permutation(sorted(hands.by_writer)).tolist():
        places = hands.by_writer[writer]
        if len(places) == 10 and len(found) < HANDS:
            found[f"mnist/{writer}"] = {
                digit: [hands.glyphs[i] for i in at.tolist()] for digit, at in places.items()
            }
    return found


def value_of(field: Field, rng: np.random.Generator) -> str:
    """Return a text for a field of the sample forms; empty for some that may be empty."""
    if field.empty and rng.random() < 0.3:
        return ""
    count = {"account": 8, "student": 7, "reference": 9, "copies": 1}.get(field.name)
    if count is not None:
        return "".join(map(str, rng.integers(0, 10, count)))
    if field.name == "date":
        return f"{rng.integers(1, 32):02d}.{rng.integers(1, 13):02d}.20{rng.integers(20, 30)}"
    if field.name == "amount":
        return f"{rng.integers(1, 10 ** int(rng.integers(1, 5)))}.{rng.integers(0, 100):02d}"
    return str(rng.integers(0, 21 if field.name != "total" else 201))


def written(
    text: str,
    field: Field,
    shape: tuple[int, int],
    hand: Hand,
    rng: np.random.Generator,
) -> Gray:
    """Return a text in a box, in one hand: (h, w) uint8, 255 = ink."""
    ink = np.zeros(shape, np.uint8)
    height, width = shape
    x, y, w, h = np.array(field.box) * [width, height, width, height]
    size = h * rng.uniform(0.5, 0.68)
    gap = size * rng.uniform(0.12, 0.3)
    cells = CELLS.get(field.name)
    if not cells:
        # People write smaller where a box gets narrow; a little too late, sometimes.
        size *= min(1.0, w * rng.uniform(0.85, 1.02) / (len(text) * (0.75 * size + gap) + 0.2 * h))
        gap = min(gap, 0.3 * size)
    base = y + h * rng.uniform(0.78, 0.88)
    at = x + rng.uniform(0.08, 0.3) * h
    for number, char in enumerate(text):
        if char == ".":
            radius = size * rng.uniform(0.05, 0.08)
            middle = (round((at + radius) * 16), round((base - radius) * 16))
            cv2.circle(ink, middle, round(radius * 16), 255, -1, cv2.LINE_AA, 4)
            at += 2 * radius + gap
            continue
        glyphs = hand[int(char)]
        glyph = glyphs[int(rng.integers(len(glyphs)))]
        tall = size * rng.uniform(0.9, 1.08)
        scale = tall / max(glyph.shape[0], 0.7 * glyph.shape[1])
        target = (max(2, round(glyph.shape[1] * scale)), max(2, round(glyph.shape[0] * scale)))
        shown = cv2.resize(glyph, target, interpolation=cv2.INTER_CUBIC)
        if cells:
            at = x + w * (number + 0.5) / cells - shown.shape[1] / 2 + rng.normal(0, 0.04) * h
        top = round(base + rng.normal(0, 0.03) * size) - shown.shape[0]
        left = round(at)
        place = ink[max(top, 0) : top + shown.shape[0], left : left + shown.shape[1]]
        np.maximum(place, shown[-place.shape[0] :, : place.shape[1]], out=place)
        at += shown.shape[1] + gap
    return ink


def seen(writing: Gray, printed: Gray, rng: np.random.Generator) -> Gray:
    """Return a photo of a sheet on a table, askew: (h, w) uint8.

    Args:
        writing: (h, w) uint8, 255 = ink.
        printed: (h, w) uint8, 255 = print.
        rng: how the camera is held.
    """
    height, width = writing.shape
    # The sheet is bent: a soft wave across it.
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    bend = rng.uniform(0, 0.004) * max(height, width)
    wave = np.sin(columns / width * np.pi * rng.uniform(0.5, 1.5) + rng.uniform(0, 6))
    rows += np.float32(bend) * wave.astype(np.float32)
    bent = [cv2.remap(part, columns, rows, cv2.INTER_LINEAR) for part in (writing, printed)]
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [width, height] / 2
    corners = corners / np.abs(corners).max() * rng.uniform(0.30, 0.42) * min(CANVAS)
    corners *= 1 + rng.uniform(-0.07, 0.07, (4, 2))
    turn = np.deg2rad(rng.uniform(-20, 20))
    if rng.random() < 1 / 6:
        turn += np.pi / 2 * rng.integers(1, 4)
    spin = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    middle = np.array(CANVAS[::-1]) / 2 + rng.uniform(-40, 40, 2)
    frame = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    warp = cv2.getPerspectiveTransform(frame, (corners @ spin + middle).astype(np.float32))
    size = CANVAS[::-1]
    laid = [cv2.warpPerspective(part, warp, size, flags=cv2.INTER_AREA) for part in bent]
    photo = taken(laid[0], laid[1], rng)
    there = cv2.warpPerspective(np.ones((height, width), np.float32), warp, size)
    stripes = rng.uniform(0.6, 1.3, (int(rng.integers(20, 200)), 3)).astype(np.float32)
    table = cv2.resize(stripes, size, interpolation=cv2.INTER_CUBIC) * rng.uniform(30, 120)
    mixed = photo * there + np.clip(table, 0, 255) * (1 - there)
    return np.asarray(np.clip(mixed, 0, 255), np.uint8)


def taken(writing: Gray, printed: Gray, rng: np.random.Generator) -> Gray:
    """Return a phone's photo of ink and print, by the camera of the samples: (h, w) uint8."""
    shape = writing.shape
    page = camera.paper(shape, (0.94, 0.94, 0.92), rng, float(rng.uniform(0.3, 1.2)))
    page = camera.inked(page, printed / np.float32(255), (0, 0, 0), 1.0)
    pen = (camera.BLUE_PEN, camera.BLACK_PEN, camera.PENCIL)[int(rng.integers(3))]
    page = camera.inked(page, writing / np.float32(255), pen, float(rng.uniform(0.75, 0.95)))
    light = camera.shadow(
        shape, float(rng.uniform(0, 360)), float(rng.uniform(0.3, 0.7)),
        float(rng.uniform(0.05, 0.4)), float(rng.uniform(0.02, 0.3)),
    )  # fmt: skip
    photo = camera.photographed(
        page, rng, light, tilt=0.0, blur=float(rng.uniform(0.5, 1.2)),
        noise=float(rng.uniform(0.005, 0.02)),
    )  # fmt: skip
    return np.asarray(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), np.uint8)


def blank_of(form: Template) -> Gray:
    """Return the print of a form: (h, w) uint8, 255 = print."""
    return 255 - image.load(form.reference).gray


def photos(form: Template, hands: Mapping[str, Hand], each: int, seed: int) -> Iterator[Filled]:
    """Yield photos of a form, some by each hand."""
    printed = blank_of(form)
    for number, (name, hand) in enumerate(hands.items()):
        for again in range(each):
            rng = np.random.default_rng([seed, number, again])
            values = {field.name: value_of(field, rng) for field in form.fields}
            ink = np.zeros_like(printed)
            for field in form.fields:
                np.maximum(ink, written(values[field.name], field, ink.shape, hand, rng), out=ink)
            yield Filled(seen(ink, printed, rng), values, name)


def strangers(other: Template, hands: Mapping[str, Hand]) -> Iterator[Gray]:
    """Yield photos that do not show a form: another form filled in, empty sheets, pages of numbers."""
    yield from (one.gray for one in photos(other, hands, 1, 5))
    printed = blank_of(other)
    for number, hand in enumerate(hands.values()):
        rng = np.random.default_rng([6, number])
        ink = np.zeros_like(printed)
        if number % 2:
            for field in other.fields:
                text = "".join(map(str, rng.integers(0, 10, 2)))
                np.maximum(ink, written(text, field, ink.shape, hand, rng), out=ink)
        yield seen(ink, np.zeros_like(printed), rng)


def score(
    reader: Reader, form: Template, cases: Iterator[Filled], mistakes: Path | None
) -> Counter[str]:
    """Return how many fields are right, refused and wrong, and why they were refused."""
    counts: Counter[str] = Counter()
    for number, case in enumerate(cases):
        try:
            reading = cast("FormReading", reader.read(case.gray))
        except ImageError as error:
            counts["refused"] += len(form.fields)
            counts["refused: the whole form"] += len(form.fields)
            print(f"  {form.name} {number} {case.hand}: {error.what}")
            save(mistakes, f"{form.name}-{number}-whole", case.gray)
            continue
        for field in reading.fields:
            meant = case.values[field.name]
            right = not field.rejected and field.text == meant
            kind = "right" if right else "refused" if field.rejected else "wrong"
            counts[kind] += 1
            if not right:
                reason = (field.reason or "").partition(" ")[0]
                counts[f"{kind}: {reason}"] += 1
                print(
                    f"  {form.name} {number} {case.hand} {field.name}: {meant!r} read {field.text!r}, "
                    f"{kind}, {field.confidence:.3f} {field.reason or ''}"
                )
                save(mistakes, f"{form.name}-{number}-{field.name}-{kind}", case.gray)
    return counts


def save(folder: Path | None, name: str, gray: Gray) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{name.replace(' ', '-')}.png"), gray)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--each", type=int, default=2, help="photos of each form by each hand")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mistakes", type=Path, help="a folder for photos of the mistakes")
    parser.add_argument("--record", action="store_true", help="save a record for each form")
    arguments = parser.parse_args()
    hands = writers(arguments.data_dir)
    forms = {name: template.load(FORMS / f"{name}.toml") for name in NAMES}
    plain = Reader()
    for name, form in forms.items():
        reader = plain.on_form(form)
        cases = photos(form, hands, arguments.each, arguments.seed)
        counts = score(reader, form, cases, arguments.mistakes)
        total = counts["right"] + counts["refused"] + counts["wrong"]
        others = [one for other in forms if other != name for one in strangers(forms[other], hands)]
        refused = 0
        for gray in others:
            try:
                reader.read(gray)
            except ImageError:
                refused += 1
        print(
            f"{name}: {len(hands)} hands, {total} fields: {counts['right'] / total:.2%} right, "
            f"{counts['refused']} refused, {counts['wrong']} wrong; of {len(others)} photos of "
            f"something else {refused} refused"
        )
        print("  ", {key: count for key, count in counts.items() if ":" in key})
        if arguments.record:
            _record.write(
                f"forms-{name}",
                table="Reading forms",
                what=f"{name}: {total} fields on {total // len(form.fields)} photos by {len(hands)} "
                "hands that are held out of training",
                metric=f"fields right; {counts['refused']} refused, {counts['wrong']} wrong without "
                f"a warning; {refused} of {len(others)} photos of something else refused",
                unit="%",
                values=[counts["right"] / total],
                data={name: PACKS[name].sha256 for name in ("unipen_digits", "mnist_writers")},
                versions=VERSIONS,
                extra={"seed": arguments.seed, "counts": counts},
            )


if __name__ == "__main__":
    main()
