"""Reads a form: lays the page over the blank form, cuts out the fields, reads each."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from digitry.errors import ImageError, UsageError
from digitry.reading import image
from digitry.reading.align import Aligner, Alignment, Matrix, as_it_is, corners_of
from digitry.reading.assemble import Seen, Terms, reading_of
from digitry.reading.confidence import Trust
from digitry.reading.field import Cut, cut_out
from digitry.reading.recognise import Recogniser
from digitry.reading.result import Box, Digit, FieldReading, FormReading, Line, Mark, Reading, Word
from digitry.reading.template import Field, Template
from digitry.reading.view import View, best

Gray = npt.NDArray[np.uint8]

P = TypeVar("P", Word, Digit, Mark)

LEAST_SURE = 0.75
"""A text that is right with less probability is refused, however sure each of its digits is: one too many
may have been left out."""

TOGETHER = 64
"""How many fields are read in one batch."""


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
        # Try dark ink first: a dark table beside the paper can make the picture look inverted.
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
        """Read a page, and return the reading and the data that it was made from.

        Args:
            page: shows the form.
            networks: read the fields.
            trust: the calibration, and the thresholds for refusing.
            model: the name of the model.

        Raises:
            ImageError: it does not look like the form, or has too much ink to be writing. It names no
                source.
        """
        started = time.perf_counter()
        gray, alignment, inverted = self.aligned(page)
        fields = self.template.fields
        cuts = [cut_out(gray, alignment, one, fields, self.aligner) for one in fields]
        read = _read_cuts(cuts, networks, trust, model)
        made = _Assembled(page, gray.shape)
        for cut, found in zip(cuts, read, strict=True):
            made.add(cut, corners_of(alignment.to_page, cut.what.box), found)
        ms = 1000 * (time.perf_counter() - started)
        return made.reading(self.template.name, alignment.agreement, inverted, model, ms), made.seen


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
    """Return the reading of each field; None if it is empty, or its place is not sure."""
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
            # A field that was not read must not look like an empty one.
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
    """Return why a text cannot be that of its field, or None."""
    if one.layout in ("single", "line") and len(reading.lines) > 1:
        return "holds several lines"
    if one.layout == "line" and one.compiled and not one.compiled.matches("".join(text.split())):
        return f"does not fit {one.pattern}"
    if reading.confidence < LEAST_SURE:
        return f"unsure ({reading.confidence:.0%})"
    return None


def _text(text: str, pattern: str | None) -> str:
    """Return the text of a field, without spaces if its pattern has none."""
    return text if pattern is None or " " in pattern else "".join(text.split())
