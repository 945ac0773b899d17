"""UNIPEN's train_r01_v07 -> digits and strings as pen strokes, letters and words as images.

The form, as the files of the repository show it: a statement begins with a dot in the first column
and goes on to the next such line. `data/<category>/<contributor>/…/<name>.dat` holds `.INCLUDE` of
files under `include/`, which hold the ink, and `.SEGMENT` lines, which say what is written where:

    .INCLUDE <contributor>/<name>.doc
    .INCLUDE <contributor>/data/<name>.dat
    .SEGMENT CHARACTER 12-14 OK "7"

The numbers count components: runs of points after `.PEN_DOWN` or `.PEN_UP`, from 0; a `.PEN_UP`
without points is none. `.COORD` names the numbers of a point, `X Y` if it is missing; y points up.

What the published packs do that this module can only guess: the order of their samples (that of some
folder listing; here: sorted), which samples are `suspect` (here: quality BAD, fewer than 4 points, or
more than 4 strokes), which letters were drawn by lot (at most 420 a class, as here), which words (14 a
file, as here), and the pen that letters and words are drawn with.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from digitry.errors import DataError
from digitry.training.data.handwriting_sources.clone import WHOLE, ragged, read_file
from digitry.training.data.packs import Array

Points = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]

MAX_FILE = 64 << 20
MAX_INCLUDES = 64
"""Of one file, nested ones too."""
FARTHEST = 1e7
"""A coordinate beyond it is damaged."""

LETTERS_A_CLASS = 420
WORDS_A_FILE = 14
LOOK_LIKE_DIGITS = frozenset("!()/BDGILOQSTZ[\\]bgijloqstyz{|}")
"""Characters that, alone, many hands write as they write a digit."""

_STRING = re.compile(r"[0-9 \-()=/.,:$+%!'<>*@#;]*")
_WORD = re.compile(r"[A-Za-z.,'\-]{2,15}")
_KEYWORD = re.compile(r"[A-Z_0-9]+")
_SEGMENT = re.compile(r'\s*(\S+)\s+(\S+)\s+(?:([^\s"]+)\s+)?"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPES = {"t": " ", "n": " "}


@dataclass(frozen=True, eq=False)
class Segment:
    """Something written, with its label.

    Attributes:
        level: of the hierarchy: CHARACTER, WORD, TEXT, …
        first: its first component.
        last: its last component.
        quality: OK, BAD, ? or empty.
        label: what is written.
    """

    level: str
    first: int
    last: int
    quality: str
    label: str


@dataclass(eq=False)
class Recording:
    """What a file and its includes hold.

    Attributes:
        components: (k, 2) float64 points, x and y, y up; None for a run with the pen lifted.
        segments: in the order of the file.
        writer: the last `.WRITER_ID`; empty if there is none.
        damaged: statements that could not be read, and includes that are not there.
    """

    components: list[Points | None] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    writer: str = ""
    damaged: int = 0

    def strokes(self, segment: Segment) -> list[Points]:
        """Return the strokes of a segment; none if it names components that are not there."""
        if not 0 <= segment.first <= segment.last < len(self.components):
            return []
        span = self.components[segment.first : segment.last + 1]
        return [points for points in span if points is not None]


@dataclass(frozen=True, eq=False)
class Sample:
    """A segment with its strokes and its place in the data set.

    Attributes:
        strokes: (k, 2) int16 each, y down, in 0..1000; see `scaled`.
        segment: what was read from the file.
        category: the folder under `data`: 1a, 1b, …
        contributor: the folder under the category.
        writer: `<contributor>/<writer>`.
        file: the data file, relative to the clone.
        key: as good as random, and the same on any machine; what a choice goes by.
    """

    strokes: list[npt.NDArray[np.int16]]
    segment: Segment
    category: str
    contributor: str
    writer: str
    file: str
    key: bytes


# --- the form -------------------------------------------------------------------------------------


def read(path: Path, include: Path) -> Recording:
    """Read a file of UNIPEN and what it includes.

    Args:
        path: the file.
        include: the folder that `.INCLUDE` paths begin at.

    Raises:
        DataError: it cannot be read, is too large, or includes files without end.
    """
    recording = Recording()
    _read(path, include.resolve(), recording, _State())
    return recording


@dataclass
class _State:
    """What goes on from one statement to the next."""

    width: int = 2
    x: int = 0
    y: int = 1
    includes: int = 0


def _read(path: Path, include: Path, recording: Recording, state: _State) -> None:
    text = "\n" + read_file(path, MAX_FILE).decode("latin-1").replace("\r\n", "\n").replace(
        "\r", "\n"
    )
    for statement in text.split("\n.")[1:]:
        match = _KEYWORD.match(statement)
        if match is None:
            continue
        keyword, rest = match[0], statement[match.end() :]
        if keyword in ("PEN_DOWN", "PEN_UP"):
            _add(recording, rest, keyword == "PEN_DOWN", state)
        elif keyword == "SEGMENT":
            segment = _segment(rest)
            if segment is None:
                recording.damaged += 1
            else:
                recording.segments.append(segment)
        elif keyword == "INCLUDE":
            state.includes += 1
            if state.includes > MAX_INCLUDES:
                raise DataError("includes files without end", where=path)
            target = (include / rest.strip()).resolve()
            # A path from a file must not lead out of the folder.
            if target.is_relative_to(include) and target.is_file():
                _read(target, include, recording, state)
            else:
                recording.damaged += 1
        elif keyword == "COORD":
            names = rest.split()
            if "X" in names and "Y" in names:
                state.width, state.x, state.y = len(names), names.index("X"), names.index("Y")
        elif keyword == "WRITER_ID":
            recording.writer = rest.strip().partition("\n")[0].strip()


def _add(recording: Recording, rest: str, down: bool, state: _State) -> None:
    """Add a component, if the statement has points."""
    numbers = rest.split()
    if not numbers:
        return
    try:
        values = np.array([float(number) for number in numbers])
    except ValueError:
        values = np.array([np.nan])
    if not (np.abs(values) < FARTHEST).all():
        recording.damaged += 1
        values = np.zeros(0)
    count = len(values) // state.width
    points = values[: count * state.width].reshape(count, state.width)[:, [state.x, state.y]]
    # Unreadable points keep their place in the count: segments name components by number.
    recording.components.append(points if down and len(points) else None)


def _segment(rest: str) -> Segment | None:
    match = _SEGMENT.match(rest)
    span = re.fullmatch(r"(\d{1,7})(?:-(\d{1,7}))?", match[2]) if match else None
    if match is None or span is None:
        # Spans of parts of components (`3:12-4:2`) are not in the categories that are read.
        return None
    label = re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), match[4])
    first = int(span[1])
    return Segment(
        match[1], first, int(span[2] or first), match[3] or "", re.sub(r"\s+", " ", label)
    )


# --- samples --------------------------------------------------------------------------------------


def scaled(strokes: list[Points]) -> list[npt.NDArray[np.int16]] | None:
    """Return strokes with y down, at 0 in x and y, the longest side 1000; None if they have no size.

    A point that repeats the one before it is left out.

    Args:
        strokes: (k, 2) float64 each, y up.
    """
    kept = []
    for points in strokes:
        moved = np.ones(len(points), bool)
        moved[1:] = (np.diff(points, axis=0) != 0).any(axis=1)
        kept.append(points[moved] * (1, -1))
    if not kept:
        return None
    whole = np.concatenate(kept)
    low = whole.min(axis=0)
    side = float((whole.max(axis=0) - low).max())
    if not 0 < side < np.inf:
        return None
    return [np.rint((points - low) * (1000 / side)).astype(np.int16) for points in kept]


def samples(clone: Path, categories: tuple[str, ...]) -> Iterator[Sample | int]:
    """Walk through the segments of categories, files in sorted order.

    Yields:
        Samples; and for each file a number: how many of its statements or segments are damaged.
    """
    for category in categories:
        folder = clone / "data" / category
        if not folder.is_dir():
            raise DataError(f"has no folder data/{category}", where=clone, remedy=WHOLE)
        for path in sorted(folder.rglob("*.dat")):
            yield from _of_file(path, clone, category)


def _of_file(path: Path, clone: Path, category: str) -> Iterator[Sample | int]:
    recording = read(path, clone / "include")
    contributor = path.relative_to(clone / "data" / category).parts[0]
    # Some contributors name their files by the writer, and the writer nowhere else.
    writer = f"{contributor}/{recording.writer or path.stem}"
    file = path.relative_to(clone).as_posix()
    damaged = recording.damaged
    for number, segment in enumerate(recording.segments):
        strokes = scaled(recording.strokes(segment))
        if strokes is None:
            damaged += 1
            continue
        key = hashlib.sha256(f"{file}#{number}".encode()).digest()
        yield Sample(strokes, segment, category, contributor, writer, file, key)
    yield damaged


def _sorted_out(
    clone: Path, categories: tuple[str, ...], wanted: re.Pattern[str]
) -> tuple[list[Sample], int]:
    """Return the samples whose label matches wholly, and the number of damaged ones."""
    found, damaged = [], 0
    for one in samples(clone, categories):
        if isinstance(one, int):
            damaged += one
        elif wanted.fullmatch(one.segment.label):
            found.append(one)
    return found, damaged


def _by_lot(found: list[Sample], group: list[tuple[str, ...]], most: int) -> list[Sample]:
    """Return at most so many samples of each group, chosen by their keys, in the order given."""
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, name in enumerate(group):
        groups[name].append(index)
    kept: list[int] = []
    for members in groups.values():
        kept += sorted(members, key=lambda index: found[index].key)[:most]
    return [found[index] for index in sorted(kept)]


def _names(found: list[Sample]) -> dict[str, Array]:
    return {
        "writers": np.array([one.writer for one in found], "U"),
        "contributors": np.array([one.contributor for one in found], "U"),
    }


def _stroke_arrays(found: list[Sample]) -> dict[str, Array]:
    strokes = [points for one in found for points in one.strokes]
    return {
        "points": np.concatenate(strokes) if strokes else np.zeros((0, 2), np.int16),
        "stroke_offsets": _offsets([len(points) for points in strokes]).astype(np.int32),
        "sample_offsets": _offsets([len(one.strokes) for one in found]).astype(np.int32),
    }


def _offsets(lengths: list[int]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(np.array(lengths, np.int64))]).astype(np.int64)


# --- packs ----------------------------------------------------------------------------------------


def digits(clone: Path) -> tuple[dict[str, Array], int]:
    """Build `unipen_digits`: category 1a."""
    found, damaged = _sorted_out(clone, ("1a",), re.compile("[0-9]"))
    suspect = [
        one.segment.quality == "BAD" or sum(map(len, one.strokes)) < 4 or len(one.strokes) > 4
        for one in found
    ]
    return {
        "labels": np.array([int(one.segment.label) for one in found], np.uint8),
        **_names(found),
        **_stroke_arrays(found),
        "suspect": np.array(suspect, bool),
    }, damaged


def strings(clone: Path) -> tuple[dict[str, Array], int]:
    """Build `unipen_strings`: words and texts with two digits or more and no letter."""
    found, damaged = _sorted_out(clone, ("7", "8"), _STRING)
    numbers = [re.sub(r"\D", "", one.segment.label) for one in found]
    found = [one for one, number in zip(found, numbers, strict=True) if len(number) > 1]
    numbers = [number for number in numbers if len(number) > 1]
    labels = [one.segment.label for one in found]
    return {
        "labels": np.array(labels, "U"),
        "digits": np.array(numbers, "U"),
        "digits_only": np.array(
            [
                label.replace(" ", "") == number
                for label, number in zip(labels, numbers, strict=True)
            ],
            bool,
        ),
        **_names(found),
        **_stroke_arrays(found),
    }, damaged


def letters(clone: Path) -> tuple[dict[str, Array], int]:
    """Build `unipen_letters`: at most 420 of each character of 1b, 1c and 1d, drawn at 64x64."""
    found, damaged = _sorted_out(clone, ("1b", "1c", "1d"), re.compile("[!-/:-~]"))
    found = _by_lot(found, [(one.category, one.segment.label) for one in found], LETTERS_A_CLASS)
    found.sort(key=lambda one: (one.category, one.segment.label))
    labels = [one.segment.label for one in found]
    return {
        "images": np.array([_letter(one) for one in found], np.uint8).reshape(-1, 64, 64),
        "labels": np.array(labels, "U"),
        "looks_like_digit": np.array([label in LOOK_LIKE_DIGITS for label in labels], bool),
        "category": np.array([one.category for one in found], "U"),
        **_names(found),
    }, damaged


def words(clone: Path) -> tuple[dict[str, Array], int]:
    """Build `unipen_words`: at most 14 words of a file of category 7, drawn at a height of 48."""
    found, damaged = _sorted_out(clone, ("7",), _WORD)
    found = _by_lot(found, [(one.file,) for one in found], WORDS_A_FILE)
    pictures = [_word(one) for one in found]
    kept = [index for index, picture in enumerate(pictures) if 24 <= picture.shape[1] <= 480]
    found, pictures = [found[index] for index in kept], [pictures[index] for index in kept]
    return {
        **ragged(pictures),
        "labels": np.array([one.segment.label for one in found], "U"),
        **_names(found),
    }, damaged


# --- drawing --------------------------------------------------------------------------------------

_PEN = 3.0
"""Width of the pen, in pixels."""
_FINE = 4
"""Drawn so many times larger, then made smaller: smooth edges."""


def _letter(sample: Sample) -> Bytes:
    """Draw a letter so that its ink is 52 pixels long at its longest, in the middle of 64x64."""
    return draw(sample.strokes, 52 - _PEN, 64, 64)


def _word(sample: Sample) -> Bytes:
    """Draw a word so that its ink is 40 pixels high, with 4 pixels around it."""
    size = np.concatenate(sample.strokes).max(axis=0)
    # A word that is a flat line would be endless; the caller leaves it out by its width.
    side = min((40 - _PEN) * 1000 / max(1, int(size[1])), 2000.0)
    width = round(int(size[0]) * side / 1000 + _PEN) + 8
    return draw(sample.strokes, side, 48, width)


def draw(strokes: list[npt.NDArray[np.int16]], side: float, height: int, width: int) -> Bytes:
    """Draw strokes with a round pen in the middle of a picture.

    Args:
        strokes: (k, 2) int16 each, y down, in 0..1000.
        side: pixels that 1000 becomes.
        height: of the picture.
        width: of the picture.

    Returns:
        (height, width) uint8 in 16 steps, ink = 255.
    """
    whole = np.concatenate(strokes)
    middle = (whole.max(axis=0) + whole.min(axis=0)) / 2
    page = Image.new("L", (width * _FINE, height * _FINE))
    pen = ImageDraw.Draw(page)
    radius = _PEN * _FINE / 2
    for points in strokes:
        placed = ((points - middle) * (side / 1000) + (width / 2, height / 2)) * _FINE
        path = [(float(x), float(y)) for x, y in placed]
        if len(path) > 1:
            pen.line(path, fill=255, width=round(2 * radius), joint="curve")
        for x, y in (path[0], path[-1]):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    small = np.asarray(page.resize((width, height), Image.Resampling.BOX))
    return (np.rint(small / 17) * 17).astype(np.uint8)
