"""How well a line network reads what its training has not seen, by kind.

    python benchmarks/lines.py --model lines.onnx --data-dir DATA [--count 500] [--mistakes FOLDER]

DATA holds MNIST's training part and the packs of handwriting. All sets are of hands that are held out of
training: MNIST's writers, UNIPEN's writers, one document of LECTAUREP. The first share counts a
strip as right if its digits are, the second if its marks are, too; lines without digits are right if no
digit is read. The network is read greedily, at one size: a floor for what a search makes of it.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from digitry.reading.classes import BLANK, CLASSES, OTHER
from digitry.reading.lines import HEIGHT
from digitry.training.writing import sources as where
from digitry.training.writing.hands import Hands, Ink
from digitry.training.writing.paper import Sheet, edges
from digitry.training.writing.real import Real, set_in
from digitry.training.writing.strings import Written
from digitry.training.writing.strips import Sources, by_width, stacked

Line = tuple[npt.NDArray[np.float32], tuple[int, ...]]
Read = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.int64]]
"""From (n, 1, 32, width) float32 to (n, columns), the likeliest class of each column."""


class Labelled(Protocol):
    """What has the labels of its characters."""

    @property
    def labels(self) -> tuple[int, ...]: ...


Strip = TypeVar("Strip", bound=Labelled)

TALL = 22
"""Of real writing on its strip, pixels."""


@dataclass(frozen=True)
class Score:
    """How many lines of a set are right."""

    digits: float
    whole: float
    count: int
    wrong: tuple[tuple[int, str], ...]
    """The place and the reading of each that is not right in its digits."""


def sets(sources: Sources, count: int, seed: int = 0) -> dict[str, list[Line]]:
    """Return the lines of each kind, of hands that are held out."""
    rng = np.random.default_rng(seed)
    mnist, strokes = sources.hands[0], sources.hands[1]
    singles = [alone(mnist, i) for i in rng.integers(len(mnist.glyphs), size=count)]
    pens = [alone(strokes, i) for i in rng.integers(len(strokes.glyphs), size=count)]
    stretched = [square(mnist, i) for i in rng.integers(len(mnist.glyphs), size=count)]
    made = {
        "mnist 28x28": singles,
        "mnist 16x16 stretched": stretched,
        "unipen digits": pens,
        "mnist strings -4..8": [string(mnist, 5, rng) for _ in range(count)],
        "one with borders": [bordered(line, rng) for line in singles[: count // 2]],
        "strings with borders": [bordered(string(mnist, 3, rng), rng) for _ in range(count // 2)],
    }
    real = [(strip, strip.ink) for strip in sources.real if strip.labels]
    # LECTAUREP comes first in the sources; a pen's strips have more columns.
    scans = [strip for strip, ink in real if ink.shape[0] == 64]
    drawn = [strip for strip, ink in real if ink.shape[0] != 64]
    made["lectaurep strings"] = [lined(strip) for strip in some(scans, count, rng)]
    made["unipen strings"] = [lined(strip) for strip in some(drawn, count, rng)]
    letters = sources.others.letters
    made["letters"] = [
        (in_middle(_sized(letters[i], 20), 36), ()) for i in rng.integers(len(letters), size=count)
    ]
    made["words and text"] = [
        (set_in(strip, TALL).astype(np.float32) / 255, ())
        for strip in some(sources.text, count, rng)
    ]
    return made


def some(strips: Sequence[Strip], count: int, rng: np.random.Generator) -> list[Strip]:
    """Return some strips; of one transcription five at the most."""
    taken: dict[tuple[int, ...], int] = {}
    chosen = []
    for place in rng.permutation(len(strips)):
        strip = strips[place]
        if strip.labels and taken.get(strip.labels, 0) >= 5:
            continue
        taken[strip.labels] = taken.get(strip.labels, 0) + 1
        chosen.append(strip)
    return chosen[:count]


def lined(strip: Real) -> Line:
    """Return a real strip at the usual size."""
    return set_in(strip, TALL).astype(np.float32) / 255, strip.labels


def alone(hands: Hands, place: int) -> Line:
    """Return a digit as MNIST has it, 20 pixels tall, on a strip of 36 columns."""
    scale = 20 / float(hands.em[place])
    glyph = _scaled(hands.glyphs[place], scale, scale)
    return in_middle(glyph, 36), (int(hands.labels[place]),)


def square(hands: Hands, place: int) -> Line:
    """Return a digit stretched to 16x16, thresholded, and scaled up to 22 pixels."""
    small = cv2.resize(hands.glyphs[place], (16, 16), interpolation=cv2.INTER_AREA)
    _, small = cv2.threshold(small, 100, 255, cv2.THRESH_BINARY)
    large = cv2.resize(small, (TALL, TALL), interpolation=cv2.INTER_LINEAR)
    return in_middle(np.asarray(large, np.uint8), 36), (int(hands.labels[place]),)


def string(hands: Hands, length: int, rng: np.random.Generator) -> Line:
    """Return digits with gaps of -4 to 8 pixels between their ink, as `strings.py` makes them."""
    ink = np.zeros((HEIGHT, 40 * length + 24), np.uint8)
    x, labels = 10, []
    for place in rng.integers(len(hands.glyphs), size=length):
        glyph = hands.glyphs[place]
        if labels:
            x += int(rng.integers(-4, 9))
        top = (HEIGHT - glyph.shape[0]) // 2
        area = ink[top : top + glyph.shape[0], x : x + glyph.shape[1]]
        np.maximum(area, glyph, out=area)
        x += glyph.shape[1]
        labels.append(int(hands.labels[place]))
    return ink[:, : x + 10].astype(np.float32) / 255, tuple(labels)


def bordered(line: Line, rng: np.random.Generator) -> Line:
    """Return a line between the borders of a cell."""
    strip, labels = line
    room = 8
    ink = np.pad(np.rint(strip * 255).astype(np.uint8), ((0, 0), (room, room)))
    inked = np.flatnonzero((ink > 60).any(axis=0))
    rows = np.flatnonzero((ink > 60).any(axis=1))
    written = Written(
        ink, labels, ((int(inked[0]), int(inked[-1]) + 1),), int(rows[0]), int(rows[-1]) + 1, 2.0
    )
    sheet = Sheet(ink.shape[1], rng)
    edges(sheet, written, rng)
    return np.maximum(ink, sheet.finished()).astype(np.float32) / 255, labels


def in_middle(glyph: Ink, width: int) -> npt.NDArray[np.float32]:
    """Return a glyph in the middle of a strip, (32, width) float32."""
    glyph = glyph[:HEIGHT, :width]
    strip = np.zeros((HEIGHT, width), np.float32)
    y, x = (HEIGHT - glyph.shape[0]) // 2, (width - glyph.shape[1]) // 2
    strip[y : y + glyph.shape[0], x : x + glyph.shape[1]] = glyph / np.float32(255)
    return strip


def _sized(glyph: Ink, tall: float) -> Ink:
    scale = tall / max(glyph.shape)
    return _scaled(glyph, scale, scale)


def _scaled(glyph: Ink, wide: float, tall: float) -> Ink:
    size = (max(2, round(glyph.shape[1] * wide)), max(2, round(glyph.shape[0] * tall)))
    return np.asarray(cv2.resize(glyph, size, interpolation=cv2.INTER_AREA), np.uint8)


def best_path(row: npt.NDArray[np.int64]) -> tuple[int, ...]:
    """Return what CTC's best path says."""
    keep = np.diff(row, prepend=BLANK) != 0
    return tuple(int(label) for label in row[keep] if label != BLANK)


def score(lines: Sequence[Line], read: Read) -> Score:
    """Return how many lines are read right."""
    indexed = [(strip, (index,)) for index, (strip, _) in enumerate(lines)]
    digits, whole, wrong = 0, 0, []
    for group in by_width(indexed, 8192):
        batch = stacked(group)
        for row, (index,) in zip(read(batch.strips / np.float32(255)), batch.labels, strict=True):
            said, meant = best_path(row), lines[index][1]
            if [c for c in said if c < 10] == [c for c in meant if c < 10]:
                digits += 1
            else:
                wrong.append((index, said_as_text(said)))
            whole += [c for c in said if c < OTHER] == [c for c in meant if c < OTHER]
    return Score(digits / len(lines), whole / len(lines), len(lines), tuple(wrong))


def said_as_text(labels: Sequence[int]) -> str:
    """Return labels as text, other writing as `?`."""
    return "".join(CLASSES[label] if label < OTHER else "?" for label in labels)


def sheet(lines: Sequence[Line], found: Score, path: Path, most: int = 120) -> None:
    """Draw the lines that are read wrong, with what was read and what is meant."""
    rows, x = [], 0
    row = np.full((54, 1300), 60, np.uint8)
    for index, said in found.wrong[:most]:
        strip, labels = lines[index]
        width = min(strip.shape[1], 1290)
        title = f"{said_as_text(labels)}>{said}"
        if x + max(width, 7 * len(title)) > 1300:
            rows.append(row)
            row, x = np.full((54, 1300), 60, np.uint8), 0
        row[18:50, x : x + width] = 255 - strip[:, :width] * 255
        cv2.putText(row, title, (x, 13), 0, 0.38, 255, 1, cv2.LINE_AA)
        x += max(width, 7 * len(title)) + 8
    cv2.imwrite(str(path), np.concatenate([*rows, row]))


def main() -> None:
    import onnxruntime

    from digitry.training import load_dataset

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--mistakes", type=Path, help="a folder for pictures of the mistakes")
    arguments = parser.parse_args()
    split = load_dataset("mnist", data_dir=arguments.data_dir).train
    handwriting_dir = arguments.data_dir
    held = where.load(split.images, split.labels, handwriting_dir, held=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(arguments.model), options, providers=["CPUExecutionProvider"]
    )

    def read(strips: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        result = session.run(None, {"strips": strips})[0]
        return np.asarray(result).argmax(-1)

    for name, lines in sets(held, arguments.count).items():
        found = score(lines, read)
        print(f"{name:24s} {found.count:5d}  {100 * found.digits:5.1f}%  {100 * found.whole:5.1f}%")
        if arguments.mistakes:
            arguments.mistakes.mkdir(parents=True, exist_ok=True)
            sheet(lines, found, arguments.mistakes / f"{name.replace(' ', '-')}.png")


if __name__ == "__main__":
    main()
