"""The results of reading, as frozen dataclasses that convert to JSON and back."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from digitry.plain import Plain

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
class Line(Plain):
    """A run of digits that belong together, left to right.

    Attributes:
        text: its digits; `?` for a refused digit.
        confidence: probability in [0, 1] that all of its digits are right.
        box: the union of their boxes.
    """

    text: str
    confidence: float
    box: Box


@dataclass(frozen=True, slots=True)
class Reading(Plain):
    """The result of reading one image.

    Attributes:
        source: the path, or `<bytes>`, `<array>`, `<image>`, `-` for standard input.
        text: the lines joined by a newline; `?` for a refused digit.
        confidence: probability in [0, 1] that all digits are right; 0 without digits.
        rejected: whether nothing was read or any digit was refused.
        reason: the reason if rejected, or None.
        width, height: of the upright image, in pixels.
        inverted: whether the ink was lighter than the paper.
        lines, digits: what was found, top to bottom and left to right.
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
    lines: tuple[Line, ...]
    digits: tuple[Digit, ...]
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


def _render() -> Any:
    """Return the module that draws readings, which imports this one: hence by name, when it is used."""
    return import_module("digitry.reading.render")
