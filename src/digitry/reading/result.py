"""The results of reading, as frozen dataclasses that convert to JSON and back."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from digitry.plain import Plain
from digitry.reading.classes import MARKS

REJECTED = "?"
"""The character for a refused digit in a text."""


@dataclass(frozen=True, slots=True)
class Box(Plain):
    """A rectangle on the upright image, in pixels: left, top, width, height."""

    plain_as_list: ClassVar[bool] = True

    x: int
    y: int
    w: int
    h: int

    @property
    def right(self) -> int:
        """The first column to the right of the box, in pixels."""
        return self.x + self.w

    @property
    def bottom(self) -> int:
        """The first row below the box, in pixels."""
        return self.y + self.h

    def union(self, other: "Box") -> "Box":
        """Return the smallest box that contains both."""
        x, y = min(self.x, other.x), min(self.y, other.y)
        return Box(x, y, max(self.right, other.right) - x, max(self.bottom, other.bottom) - y)

    def to_list(self) -> list[int]:
        """Return `[x, y, w, h]`, as in JSON."""
        return [self.x, self.y, self.w, self.h]


@dataclass(frozen=True, slots=True)
class Digit(Plain):
    """One digit that was found.

    Attributes:
        value: 0 to 9, or None if the reader refuses it.
        confidence: calibrated probability in [0, 1] that the best guess is right; also for a refused
            digit.
        box: its box on the upright image.
        line: index of its line, from the top, from 0.
        alternatives: (value, probability) of the likeliest digits, best first.
        reason: why it was refused, or None.
    """

    value: int | None
    confidence: float
    box: Box
    line: int
    alternatives: tuple[tuple[int, float], ...]
    reason: str | None = None

    @property
    def text(self) -> str:
        """The digit as a character; `?` if refused."""
        return REJECTED if self.value is None else str(self.value)


@dataclass(frozen=True, slots=True)
class Mark(Plain):
    """A point, comma, dash, slash or colon in a number.

    Attributes:
        text: `.`, `,`, `-`, `/` or `:`.
        confidence: calibrated probability in [0, 1].
        box: its box on the upright image.
        line: index of its line.
    """

    text: str
    confidence: float
    box: Box
    line: int


@dataclass(frozen=True, slots=True)
class Word(Plain):
    """Digits and marks that stand together: a number, a date, the content of a cell.

    Attributes:
        text: its characters; `?` for a refused one.
        confidence: probability in [0, 1] that all of them are right.
        box: the union of their boxes.
        line: index of its line.
    """

    text: str
    confidence: float
    box: Box
    line: int


@dataclass(frozen=True, slots=True)
class Line(Plain):
    """The words at one height of a page, from left to right.

    Attributes:
        text: its words, joined by a space; `?` for a refused digit.
        confidence: probability in [0, 1] that all of its characters are right.
        box: the union of their boxes.
    """

    text: str
    confidence: float
    box: Box


@dataclass(frozen=True)
class Reading(Plain):
    """The result of reading one image.

    The characters of its words, in order, are its digits and marks: see `characters`.

    Attributes:
        source: the path, or `<bytes>`, `<array>`, `<image>`, `-` for standard input.
        text: the lines joined by a newline, words by a space; `?` for a refused digit.
        confidence: probability in [0, 1] that all digits are right; 0 without digits.
        rejected: whether nothing was read or any digit was refused.
        reason: the reason if rejected, or None.
        width: of the upright image, in pixels.
        height: of the upright image, in pixels.
        inverted: whether the ink was lighter than the paper.
        turned: by how many degrees, counter-clockwise, the image was turned to read it: 0, 90, 180, 270.
            Its size and all boxes are those of the turned image.
        lines: what was found, from top to bottom.
        words: the words of all lines, each from left to right.
        digits: the digits of all words, in order, with those that were refused.
        marks: the marks of all words, in order.
        model: name of the model that read it.
        ms: time of the whole reading, in milliseconds.
    """

    source: str
    text: str
    confidence: float
    rejected: bool
    reason: str | None
    width: int
    height: int
    inverted: bool
    turned: int
    lines: tuple[Line, ...]
    words: tuple[Word, ...]
    digits: tuple[Digit, ...]
    marks: tuple[Mark, ...]
    model: str
    ms: float

    def __repr__(self) -> str:
        """Return one line: source, text, confidence or reason."""
        note = self.reason if self.rejected else f"{self.confidence:.3f}"
        return f"<Reading of {self.source}: {self.text!r}, {note}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the picture with boxes if the source is a file, and a table."""
        return str(_render().to_html(self))

    def annotate(self, path: str | Path, source: Any = None) -> None:
        """Write the picture with the reading drawn on it; the ending of the name decides the format.

        Args:
            path: of the file to write.
            source: the image that was read; None = the file that `self.source` names.

        Raises:
            ImageError: the source cannot be read, or is not the image that was read.
            UsageError: Pillow has no format of that ending.
            DigitryError: the file cannot be written.
        """
        _render().write_annotated(self, Path(path), source)

    def show(self, source: Any = None) -> None:
        """Show the picture with the reading drawn on it: in the notebook, or in a viewer of pictures.

        Args:
            source: the image that was read; None = the file that `self.source` names.

        Raises:
            ImageError: the source cannot be read, or is not the image that was read.
        """
        _render().show(self, source)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Reading":
        """Rebuild a reading from its plain form, also from one that was stored before there were words.

        Such a form has no `turned`, `words` or `marks`: no page was turned then, there were no marks, and
        each line was one word.

        Raises:
            ValueError: a field is missing, or its value is not of the annotated type.
        """
        before = {"turned": 0, "words": _lines_as_words(data.get("lines")), "marks": ()}
        return super().from_dict({**before, **data})

    def characters(self) -> Iterator[tuple[int, Digit | Mark]]:
        """Yield every digit and mark in reading order, each with the index of its word."""
        digits, marks = iter(self.digits), iter(self.marks)
        for index, word in enumerate(self.words):
            for character in word.text:
                one = next(marks if character in MARKS else digits, None)
                if one is not None:
                    yield index, one


@dataclass(frozen=True, slots=True)
class FieldReading(Plain):
    """The content of one field of a form.

    Attributes:
        name: of the field.
        text: what was read; `?` for a refused character, empty for an empty field.
        confidence: probability in [0, 1] that the text is right; 0 where nothing was read.
        rejected: whether the text must not be used: a character was refused, it does not fit the
            pattern, the field is empty and may not be, or its place on the picture is not sure.
        reason: why it is rejected; `empty` also for a field that may be empty; otherwise None.
        corners: of the field on the image, (x, y) in pixels: left upper, right upper, right lower, left
            lower.
        lines: the indices of its lines in the reading of the form.
    """

    name: str
    text: str
    confidence: float
    rejected: bool
    reason: str | None
    corners: tuple[tuple[int, int], ...]
    lines: tuple[int, ...]


FORM_COLUMNS = ("source", "status", "rejected", "reason", "confidence")
"""Columns of a table of forms before those of the fields, which cannot have these names."""


@dataclass(frozen=True)
class FormReading(Reading):
    """The result of reading a form by its template: a reading whose lines are in fields.

    All boxes are on the image as it is; `turned` is 0. `rejected` says whether any field is rejected, and
    `reason` which ones are, and why; `confidence` is that of all fields together.

    Attributes:
        template: the name of the template.
        aligned: share of the blank form's print that was found at its place, in [0, 1]; None where the
            template has no reference picture.
        fields: one for each field of the template, in its order.
    """

    template: str
    aligned: float | None
    fields: tuple[FieldReading, ...]

    def __repr__(self) -> str:
        """Return one line: source, and the fields with their texts."""
        inside = ", ".join(
            f"{one.name}={one.text!r}{' (refused)' if one.rejected else ''}" for one in self.fields
        )
        return f"<FormReading of {self.source}: {inside}>"

    @property
    def values(self) -> dict[str, str | None]:
        """The texts by the names of their fields; None for a rejected one."""
        return {one.name: None if one.rejected else one.text for one in self.fields}


def reading_from(data: Mapping[str, Any]) -> Reading:
    """Rebuild a reading, or the reading of a form, from its plain form.

    Raises:
        ValueError: a field is missing, or its value is not of the annotated type.
    """
    return (FormReading if "template" in data else Reading).from_dict(data)


def _render() -> Any:
    """Return the module that draws readings; imported only when it is used, because it imports this one."""
    return import_module("digitry.reading.render")


def _lines_as_words(lines: Any) -> Any:
    # Lines of another type are refused when the reading is built, not here.
    if not isinstance(lines, (list, tuple)):
        return ()
    return [
        {**line, "line": index} for index, line in enumerate(lines) if isinstance(line, Mapping)
    ]
