"""A page and a template to the reading of a form: laid over the blank form, cut into fields, read.

What is printed on the blank form is taken away from each field before it is read: the frame of a box is no
1, and a printed label is no digit. What is left says whether somebody wrote into the field.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from digitry.errors import ImageError, UsageError
from digitry.reading import image
from digitry.reading.align import Aligner, Alignment, Matrix, as_it_is, corners_of
from digitry.reading.assemble import Seen, Terms, reading_of
from digitry.reading.confidence import Trust
from digitry.reading.field_ink import (
    PRINT_FOUND,
    Frame,
    flattened,
    ink_of,
    inside,
    is_written,
    own_ink,
    rulings,
    settled,
    warped,
    without_print,
)
from digitry.reading.recognise import Recogniser
from digitry.reading.result import Box, Digit, FieldReading, FormReading, Line, Mark, Reading, Word
from digitry.reading.template import Field, Template
from digitry.reading.view import View, best

Gray = npt.NDArray[np.uint8]

P = TypeVar("P", Word, Digit, Mark)

LEAST_SURE = 0.6
"""A text that is right with less probability is refused, however sure each of its digits is: one too many
may have been left out."""

TOGETHER = 64
"""Fields that the networks are asked about at once."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A field, cut out of the page.

    Attributes:
        what: which one.
        gray: (h, w) uint8, dark on light, the box with a margin, without what is printed.
        to_page: (3, 3) float64, from pixels of `gray` to those of the working page.
        written: whether there is ink in the box that is not printed.
        doubt: why the field cannot be read, or None.
    """

    what: Field
    gray: Gray = field(repr=False)
    to_page: Matrix = field(repr=False)
    written: bool
    doubt: str | None = None


@dataclass(frozen=True)
class Form:
    """A template, ready to read pages.

    Attributes:
        template: the fields.
        aligner: lays pages over the blank form; None = boxes are shares of each page as it is.
    """

    template: Template
    aligner: Aligner | None

    def aligned(self, page: image.Page) -> tuple[Gray, Alignment, bool]:
        """Return the page dark on light, how the form lies on it, and whether its ink was light.

        Raises:
            ImageError: it does not look like the form. It names no source.
        """
        if self.aligner is None:
            light = image.light_on_dark(page.gray)[0]
            gray = 255 - page.gray if light else page.gray
            return gray, as_it_is(gray), light
        # Paper is light: what a dark table beside it says about the picture counts for nothing.
        problem: ImageError | None = None
        for light in (False, True):
            gray = 255 - page.gray if light else page.gray
            try:
                return gray, self.aligner.align(gray), light
            except ImageError as error:
                problem = problem or error
        assert problem is not None  # noqa: S101 (there is one side at least)
        raise problem

    def read(
        self, page: image.Page, networks: Recogniser, trust: Trust, model: str
    ) -> tuple[FormReading, Seen]:
        """Read a page, and return also what the reading was made of.

        Args:
            page: shows the form.
            networks: what reads the fields.
            trust: what makes probabilities, and what is accepted.
            model: the name of the model.

        Raises:
            ImageError: it does not look like the form, or has too much ink to be writing. It names no
                source.
        """
        started = time.perf_counter()
        gray, alignment, inverted = self.aligned(page)
        cuts = [self._cut(gray, alignment, one) for one in self.template.fields]
        read = _read_cuts(cuts, networks, trust, model)
        made = _Assembled(page, gray.shape)
        for cut, found in zip(cuts, read, strict=True):
            made.add(cut, corners_of(alignment.to_page, cut.what.box), found)
        ms = 1000 * (time.perf_counter() - started)
        return made.reading(self.template.name, alignment.agreement, inverted, model, ms), made.seen

    def _cut(self, gray: Gray, alignment: Alignment, one: Field) -> Cut:
        """Cut a field out of the page, and take away what is printed."""
        frame = Frame.around(one, self.template.fields, alignment)
        if not inside(corners_of(alignment.to_page, one.box), gray.shape):
            return Cut(one, gray[:1, :1], np.eye(3), False, "outside the picture")
        seen = frame.seen(gray, frame.to_page)
        if self.aligner is None:
            ink = ink_of(seen)[0]
            own, _ = own_ink(ink & ~rulings(ink), frame)
            return Cut(one, seen, frame.to_page, is_written(own, frame))
        rows, columns = self.aligner.shape
        to_blank = np.diag([float(columns), float(rows), 1.0]) @ frame.to_share
        blank = ink_of(warped(self.aligner.gray, to_blank, frame.shape))[0]
        moved, found = settled(blank, ink_of(seen)[1], frame.stray)
        if found is not None and found < PRINT_FOUND:
            return Cut(one, seen, frame.to_page, True, f"its place is not sure ({found:.0%})")
        to_page = frame.to_page @ np.array([[1, 0, moved[0]], [0, 1, moved[1]], [0, 0, 1.0]])
        seen = flattened(frame.seen(gray, to_page), blank, frame)
        cleaned, own, doubt = without_print(seen, blank, frame)
        return Cut(one, cleaned, to_page, is_written(own, frame), doubt)


def form_of(template: Template) -> Form:
    """Return a template ready to read pages; its reference picture is decoded.

    Raises:
        UsageError: the reference picture cannot be read, or shows too little print.
    """
    if template.reference is None:
        return Form(template, None)
    return Form(template, _aligner(template.reference))


@lru_cache(4)
def _aligner(reference: bytes) -> Aligner:
    try:
        page = image.load(reference, name="reference")
    except ImageError as error:
        raise UsageError(error.what, where="reference", remedy=error.remedy) from error
    return Aligner(page.gray, "reference")


def _read_cuts(
    cuts: Sequence[Cut], networks: Recogniser, trust: Trust, model: str
) -> list[tuple[Reading, Seen] | None]:
    """Return what stands in each field; None where nothing is written, or its place is not sure."""
    groups: dict[tuple[str | None, str], list[int]] = {}
    for index, cut in enumerate(cuts):
        if cut.written and cut.doubt is None:
            groups.setdefault((cut.what.pattern, cut.what.layout), []).append(index)
    read: list[tuple[Reading, Seen] | None] = [None] * len(cuts)
    for group in groups.values():
        one = cuts[group[0]].what
        asked = replace(networks, pattern=one.compiled)
        terms = Terms(trust, one.compiled, model, single=one.layout == "single")
        for start in range(0, len(group), TOGETHER):
            part = group[start : start + TOGETHER]
            seen = asked.seen([[View(cuts[i].gray, False)] for i in part], one.layout)
            for i, views in zip(part, seen, strict=True):
                height, width = cuts[i].gray.shape
                sheet = image.Page(cuts[i].gray, width, height, one.name)
                read[i] = reading_of(sheet, best(views), terms, 0.0)
    return read


class _Assembled:
    """The reading of a form, put together field by field."""

    def __init__(self, page: image.Page, shape: tuple[int, ...]) -> None:
        self.page = page
        self.scale = np.array([page.width / shape[1], page.height / shape[0]])
        self.fields: list[FieldReading] = []
        self.lines: list[Line] = []
        self.words: list[Word] = []
        self.digits: list[Digit] = []
        self.marks: list[Mark] = []
        self.seen = Seen()

    def add(self, cut: Cut, corners: Matrix, found: tuple[Reading, Seen] | None) -> None:
        """Add a field, and what was read in it."""
        one = cut.what
        at = tuple((round(float(x)), round(float(y))) for x, y in corners * self.scale)
        if found is None or not found[0].digits:
            # Nobody may take a field that was not read for an empty one.
            why = cut.doubt or ("not a digit" if cut.written else "empty")
            rejected = why != "empty" or not one.empty
            self.fields.append(FieldReading(one.name, "", 0.0, rejected, why, at, ()))
            return
        reading, seen = found
        first = len(self.lines)

        def at_line(part: P) -> P:
            return replace(part, box=self._box(part.box, cut.to_page), line=first + part.line)

        self.lines += [replace(one, box=self._box(one.box, cut.to_page)) for one in reading.lines]
        self.words += map(at_line, reading.words)
        self.digits += map(at_line, reading.digits)
        self.marks += map(at_line, reading.marks)
        self.seen += seen
        text = _text(reading.text, one.pattern)
        reason = reading.reason or _misfit(text, reading, one)
        lines = tuple(range(first, len(self.lines)))
        self.fields.append(
            FieldReading(one.name, text, reading.confidence, reason is not None, reason, at, lines)
        )

    def reading(
        self, template: str, aligned: float | None, inverted: bool, model: str, ms: float
    ) -> FormReading:
        """Return the reading of the form."""
        rejected = [one for one in self.fields if one.rejected]
        read = [one.confidence for one in self.fields if one.lines]
        return FormReading(
            source=self.page.source,
            text="\n".join(line.text for line in self.lines),
            confidence=round(math.prod(read), 6) if read else 0.0,
            rejected=bool(rejected),
            reason="; ".join(f"{one.name}: {one.reason}" for one in rejected) or None,
            width=self.page.width,
            height=self.page.height,
            inverted=inverted,
            turned=0,
            lines=tuple(self.lines),
            words=tuple(self.words),
            digits=tuple(self.digits),
            marks=tuple(self.marks),
            model=model,
            ms=round(ms, 3),
            template=template,
            aligned=aligned,
            fields=tuple(self.fields),
        )

    def _box(self, box: Box, to_page: Matrix) -> Box:
        """Return the upright box on the image around a box on a cut."""
        at = corners_of(to_page, (box.x, box.y, box.w, box.h)) * self.scale
        limit = [self.page.width - 1, self.page.height - 1]
        x, y = np.clip(np.floor(at.min(axis=0)), 0, limit).astype(int).tolist()
        right, bottom = np.ceil(at.max(axis=0)).astype(int).tolist()
        return Box(
            x,
            y,
            max(min(right, self.page.width) - x, 1),
            max(min(bottom, self.page.height) - y, 1),
        )


def _misfit(text: str, reading: Reading, one: Field) -> str | None:
    """Return why a text that was read without doubt is not that of its field, or None."""
    if one.layout in ("single", "line") and len(reading.lines) > 1:
        return "holds several lines"
    if one.layout == "line" and one.compiled and not one.compiled.matches("".join(text.split())):
        return f"does not fit {one.pattern}"
    if reading.confidence < LEAST_SURE:
        return f"unsure ({reading.confidence:.0%})"
    return None


def _text(text: str, pattern: str | None) -> str:
    """Return the text of a field: without gaps where its pattern has none."""
    return text if pattern is None or " " in pattern else "".join(text.split())
