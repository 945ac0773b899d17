"""The reader: image -> places of numbers -> lines -> characters -> text, joined."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import islice
from operator import or_
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from digitry.errors import ImageError, UsageError
from digitry.model import artifact, versions
from digitry.model.load import SHIPPED, calibration_path, load_model
from digitry.reading import decode, glyph, image, lines, network
from digitry.reading.alone import Alone, alone
from digitry.reading.boxes import Box as BoxOnCut
from digitry.reading.budget import Budget
from digitry.reading.classes import DIGITS, UNREADABLE
from digitry.reading.classifier import Classifier, threshold_for
from digitry.reading.find import Place, find
from digitry.reading.ink import lift
from digitry.reading.pattern import READABLE
from digitry.reading.pattern import compile as compile_pattern
from digitry.reading.pieces import Piece, pieces
from digitry.reading.result import Box, Digit, Line, Mark, Reading, Word
from digitry.reading.rows import joined, rows

Layout = Literal["auto", "single", "line", "page"]
LAYOUTS: tuple[Layout, ...] = ("auto", "single", "line", "page")

CHUNK = 64
"""Images that `read_many` prepares before it asks the networks once for all of them."""

SURE_POLARITY = 0.5
"""Below this certainty both polarities are tried, and the better reading is taken."""

UPRIGHT = 0.8
"""A page whose digits are read with less than this mean confidence is also read on its sides."""

SMALLEST = 8
"""Pixels. Ink that is less high and wide, and refused, is refused as too small."""

FEWEST = 3
"""Digits. Of fewer, nobody knows which way up they stand."""

TURN_FOR = 0.12
"""A page is turned if its digits are read with so much more confidence."""

SPECK, DIRT = 0.3, 0.2
"""What is so much smaller than a digit is no writing beside it; and a single digit is dirt that is so much
smaller than the largest one that was read with confidence."""

LEGIBLE = 0.75
"""Of the digits of a line one must be read with such confidence; letters are hardly ever."""

FOUND, CLEAR = 0.78, 0.9
"""A line is a number if the finder is so sure of its place, or its digits are read with such confidence."""

DEFAULT_MARK = 0.5
"""Marks with less confidence are refused."""

SURE_ALONE = 0.995
"""All the ink of a picture is one digit if the model is so sure of that; nothing else is asked."""

SMALL_PICTURE = 128 * 128
"""Pixels. Pictures of several digits are mostly larger."""

SMALL_LINE = 512 * 512
"""Pixels. Larger pictures hold more than one line."""

NONE = np.zeros(11)
EMPTY = np.zeros((glyph.SIZE, glyph.SIZE), np.float32)

LEAST = 1e-5
"""Keeps logarithms finite."""

WEIGHT_LINE = np.array([0.6] * 10 + [0.5])
WEIGHT_GLYPH = np.array([0.8] * 10 + [0.5])
"""How much the line network and the glyph model count for one digit that stands free, and for its being no
digit.

Chosen on hands that the line network's training held out, for digits right, letters refused, and a mean
confidence that is the share of digits that are right."""

COLUMNS_SHARE, COLUMNS_LEAST = 1 / 16, 60_000
"""What one page may ask of the line network, in columns: for each pixel, and for the smallest page."""


@dataclass(frozen=True, slots=True)
class _Said:
    """One character, and what is known of it.

    Attributes:
        value: what the line says.
        p: (10,) how probable each digit is; zeros for a mark.
        confidence: that it is `value`.
        box: on the page, in pixels of the working page.
        glyph: (28, 28) float32, or None for a mark.
    """

    value: str
    p: npt.NDArray[np.float64]
    confidence: float
    box: Box
    piece: Piece | None = field(repr=False)
    glyph: npt.NDArray[np.float32] | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Line:
    """A place that was read."""

    place: Place
    said: tuple[_Said, ...]
    words: tuple[tuple[int, int], ...]
    fits: bool
    legible: bool = True


@dataclass(frozen=True, slots=True)
class _View:
    """One way to see a page.

    Attributes:
        gray: (h, w) uint8, dark on light, turned.
        inverted: whether its ink was light.
        turned: by how many quarters counter-clockwise it was turned.
        lines: what was read; none before it is.
    """

    gray: npt.NDArray[np.uint8] = field(repr=False)
    inverted: bool
    turned: int = 0
    lines: tuple[_Line, ...] = ()

    @property
    def merit(self) -> float:
        """How good this way to see the page is: the mean confidence of its digits, those found for sure."""
        scores = [said.confidence for line in self.lines for said in line.said]
        # Large writing counts more: specks are read as something, too.
        weights = [
            line.place.height * (line.place.score or 1) for line in self.lines for _ in line.said
        ]
        return float(np.average(scores, weights=weights)) if sum(weights) > 0 else -1.0

    @property
    def stands(self) -> bool:
        """Whether it is read as a page that stands upright is: surely, in numbers of several digits."""
        count = sum(len(line.said) for line in self.lines)
        return self.merit >= UPRIGHT and count >= FEWEST and count >= 2 * len(self.lines)

    @property
    def doubtful(self) -> bool:
        """Whether the page may lie on its side: little of it is read with confidence."""
        return self.merit < UPRIGHT and sum(len(line.said) for line in self.lines) >= FEWEST


@dataclass(frozen=True, slots=True)
class _Sheet:
    """How the working page lies on the image."""

    shape: tuple[int, ...]
    page: image.Page
    turned: int

    @property
    def width(self) -> int:
        """Of the image as it was turned, pixels."""
        return self.page.height if self.turned % 2 else self.page.width

    @property
    def height(self) -> int:
        """Of the image as it was turned, pixels."""
        return self.page.width if self.turned % 2 else self.page.height

    def full_size(self, box: Box) -> Box:
        """Return a box of the working page in pixels of the image."""
        across, down = self.width / self.shape[1], self.height / self.shape[0]
        x, y = math.floor(box.x * across), math.floor(box.y * down)
        x, y = min(max(x, 0), self.width - 1), min(max(y, 0), self.height - 1)
        right = min(math.ceil(box.right * across), self.width)
        bottom = min(math.ceil(box.bottom * down), self.height)
        return Box(x, y, max(right - x, 1), max(bottom - y, 1))

    def cause(self, box: Box) -> str | None:
        """Return what about its ink made a digit hard to know, where that can be told."""
        if max(box.h, box.w) < SMALLEST:
            return "too small"
        edge = box.x <= 0 or box.y <= 0 or box.right >= self.width or box.bottom >= self.height
        return "cut off" if edge else None


def _views(page: image.Page) -> list[_View]:
    """Return a page under both polarities where it is not plain which one holds."""
    inverted, certainty = image.light_on_dark(page.gray)
    sides = [inverted] if certainty >= SURE_POLARITY else [inverted, not inverted]
    return [_View(255 - page.gray if side else page.gray, side) for side in sides]


def _turned(view: _View, quarters: int) -> _View:
    gray = np.ascontiguousarray(np.rot90(view.gray, quarters))
    return _View(gray, view.inverted, quarters)


def _best(views: Sequence[_View]) -> _View:
    return max(views, key=lambda view: view.merit)


def _whole(gray: npt.NDArray[np.uint8]) -> tuple[Place, Alone] | None:
    """Return all the ink of a page as the place of one digit; None where there is none."""
    found = alone(lift(gray))
    return None if found is None else (_place_of(found), found)


def _place_of(found: Alone) -> Place:
    box = found.box
    height = max(float(box.h - 2), (box.w - 2) / 1.5, 2.0)
    middle = box.y + box.h / 2
    return Place((box.x + 1, middle), (max(box.right - 1, box.x + 2), middle), height, 0.0)


def on_page(box: BoxOnCut, cut: lines.Cut) -> Box:
    """Return the upright box around a box of a cut, on the page."""
    corners = np.array([(x, y, 1.0) for x in (box.start, box.end) for y in (box.top, box.bottom)])
    at = corners @ cut.to_page.T
    low, high = np.floor(at.min(axis=0)), np.ceil(at.max(axis=0))
    x, y = int(low[0]), int(low[1])
    return Box(x, y, max(int(high[0]) - x, 1), max(int(high[1]) - y, 1))


def around(boxes: Sequence[Box]) -> Box:
    """Return the smallest box that holds them all."""
    return reduce(Box.union, boxes)


def _as_one(seen: Sequence[decode.Strip], whole: Alone | None) -> decode.Line:
    """Return a line as one digit, whatever it says."""
    p = decode.single([strip.scores for strip in seen])
    rows_, columns = seen[0].ink.shape
    box, surest = BoxOnCut(0, columns, 0, rows_), 0
    if whole is None:
        # Where the digit stands among rulings and its neighbours' ink.
        line = decode.decode(seen)
        if line.characters:
            box = reduce(or_, (character.box for character in line.characters))
            surest = line.strip
    alternatives = tuple((DIGITS[k], float(p[k])) for k in np.argsort(-p).tolist())
    one = decode.Character(alternatives[0][0], alternatives[0][1], box, alternatives)
    word = decode.Word(one.value, one.confidence, 0, 1, box)
    return decode.Line(one.value, one.confidence, (one,), (word,), surest, None)


def _may_be_one(gray: npt.NDArray[np.uint8]) -> tuple[Place, Alone] | None:
    """Return all the ink of a small picture as one digit, if it hangs together as one does."""
    if gray.size > SMALL_PICTURE:
        return None
    ink = lift(gray)
    whole = alone(ink)
    if whole is None or whole.cut:
        return None
    outside = int(ink.mask.sum()) - int(
        ink.mask[whole.box.y : whole.box.bottom, whole.box.x : whole.box.right].sum()
    )
    inside = (whole.ink > 0) & (
        ink.mask[whole.box.y : whole.box.bottom, whole.box.x : whole.box.right] > 0
    )
    count, _, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8))
    largest = int(stats[1:, cv2.CC_STAT_AREA].max(initial=0))
    if outside > 0 or count < 2 or largest < 0.9 * int(inside.sum()):
        return None
    if whole.box.w > 1.2 * whole.box.h:
        return None
    return _place_of(whole), whole


def _own(whole: Alone, cut: lines.Cut) -> Piece:
    """Return all the ink of a page as the piece of its one character."""
    return Piece(whole.ink, True, BoxOnCut(0, cut.ink.shape[1], 0, cut.ink.shape[0]))


def _may_be_alone(view: _View) -> bool:
    """Return whether a page may hold just one digit, which the finder did not see as a whole."""
    return view.merit < UPRIGHT or sum(len(line.said) for line in view.lines) <= 1


def _besides(view: _View, box: Box) -> bool:
    """Return whether writing of about its size stands beside a box, by what the finder saw."""
    return any(
        line.place.score >= FOUND
        and line.place.height > SPECK * box.h
        and (
            line.place.length > 1.5 * box.w
            or not box.x < line.place.middle[0] < box.right
            or not box.y < line.place.middle[1] < box.bottom
        )
        for line in view.lines
    )


def _writing(found: Sequence[_Line], threshold: float) -> list[_Line]:
    """Return the lines that are numbers; where none is, the one that is the nearest to it."""
    kept = [line for line in found if _is_number(line, threshold, alone=len(found) == 1)]
    if kept or not found:
        sure = [line.place.height for line in kept if _clarity(line) >= CLEAR]
        small = DIRT * max(sure, default=0.0)
        kept = [line for line in kept if line.place.height > small or len(line.said) > 1]
        # What stands right beside a number belongs to it, however hard it is to read.
        return [
            line
            for line in found
            if line in kept or any(_continues(line.place, other.place) for other in kept)
        ]
    said = [line for line in found if line.said]
    if not said:
        return []
    # It is shown, so that people see what was looked at; but nothing of it is believed.
    nearest = max(said, key=lambda line: line.place.score)
    return [nearest if len(nearest.said) == 1 else replace(nearest, legible=False)]


def _continues(place: Place, other: Place) -> bool:
    """Return whether a place stands close beside another one, as digits of one number do."""
    height = min(place.height, other.height)
    gap = max(place.start[0], other.start[0]) - min(place.end[0], other.end[0])
    level = abs(place.middle[1] - other.middle[1]) < 0.5 * height
    return bool(level and gap < height and max(place.height, other.height) < 1.6 * height)


def _is_number(line: _Line, threshold: float, *, alone: bool) -> bool:
    digits = [said for said in line.said if said.glyph is not None]
    read = [said for said in digits if said.confidence >= threshold and said.p[10] < 0.5]
    least = 0.0 if alone and len(digits) == 1 else LEGIBLE
    if not read or max(said.confidence for said in read) < least:
        return False
    # What the finder is not sure of, such as the grain of wood, must be read with more confidence.
    return line.place.score >= FOUND or line.place.score == 0 or _clarity(line) >= CLEAR


def _clarity(line: _Line) -> float:
    """Return the mean confidence of the digits of a line; 0 without any."""
    found = [said.confidence for said in line.said if said.glyph is not None]
    return float(np.mean(found)) if found else 0.0


class Reader:
    """Reads images with one model; safe to share between calls, holds no state of theirs.

    The networks of the package find numbers, and read each line as a whole. The model is asked about each
    digit by itself. What the shipped model says is weighed against what the line says; any other model
    alone decides what a digit is.

    Args:
        model: the name of a shipped model (`reader`, `reader@shipped`, `reader@2`: see
            `digitry.model.load.load_model`), a .onnx file, a run folder, or a loaded model.
        layout: `single` (one digit), `line`, `page` (lines from top to bottom), or `auto`.
        max_error: share of the accepted digits that may be wrong, in (0, 1); the threshold for
            refusing follows from the model's own risk-coverage curve. None refuses only what is more
            likely wrong than right.
        pattern: what each line must look like, e.g. `\\d{4}` or `\\d\\d/\\d\\d/\\d{4}`; see
            `digitry.reading.pattern`. A line that cannot be read so is read freely, and refused.
        max_pixels: larger images are refused.
        threads: threads in the networks.

    Raises:
        ModelError: the model is missing, damaged, or not ours.
        UsageError: an argument makes no sense.
    """

    def __init__(
        self,
        model: str | Path | artifact.Artifact = "reader",
        layout: Layout = "auto",
        *,
        max_error: float | None = None,
        pattern: str | None = None,
        max_pixels: int = image.MAX_PIXELS,
        threads: int = 1,
    ) -> None:
        self.layout = _checked(layout)
        self.pattern = None if pattern is None else compile_pattern(pattern, READABLE)
        self.max_pixels = max_pixels
        loaded = model if isinstance(model, artifact.Artifact) else load_model(model)
        self._classifier = Classifier(loaded, threads=threads)
        self.name = self._classifier.metadata.name
        self._weighs = self.name.partition("@")[0] in SHIPPED
        self.threshold = threshold_for(self._classifier.metadata, max_error)
        self._finder = network.shipped("finder", threads=threads)
        self._lines = network.shipped("lines", threads=threads)

    def read(
        self, source: Any, *, layout: Layout | None = None, name: str | None = None
    ) -> Reading:
        """Read one image.

        Args:
            source: a path, bytes, a NumPy array or a PIL image; see `digitry.reading.image.load`.
            layout: in place of the reader's own.
            name: what the reading calls the source.

        Raises:
            ImageError: the image cannot be read.
        """
        return self.examine(source, layout=layout, name=name)[0]

    def examine(
        self, source: Any, *, layout: Layout | None = None, name: str | None = None
    ) -> tuple[Reading, npt.NDArray[np.float32]]:
        """Read one image, and return also what the model saw.

        Args:
            source, layout, name: as for `read`.

        Returns:
            The reading, and (len(digits), 28, 28) float32 in [0, 1], ink = 1: the glyph of each digit.

        Raises:
            ImageError: the image cannot be read.
        """
        layout = self.layout if layout is None else _checked(layout)
        started = time.perf_counter()
        page = image.load(source, max_pixels=self.max_pixels, name=name)
        return self._read_page(page, layout, started)

    def probabilities(self, glyphs: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Ask the model about glyphs.

        Args:
            glyphs: (n, 28, 28) float32 in [0, 1], ink = 1.

        Returns:
            (n, classes) float64, calibrated; 10 digits, and with most models one for no digit.
        """
        return self._classifier.probabilities(glyphs)

    def accepting(self, max_error: float | None) -> "Reader":
        """Return a reader with another share of errors, on the same networks.

        Args:
            max_error: see `Reader`.

        Raises:
            UsageError: it makes no sense, or the model never came to it.
        """
        other = copy(self)
        other.threshold = threshold_for(self._classifier.metadata, max_error)
        return other

    def read_many(
        self, sources: Iterable[Any], *, layout: Layout | None = None
    ) -> Iterator[Reading | ImageError]:
        """Read many images, in order, one result for each source.

        An image that cannot be read gives its error in its place, and the others go on. Sources are
        taken as they are needed; `ms` of each reading is its share of its chunk.
        """
        layout = self.layout if layout is None else _checked(layout)
        remaining = iter(sources)
        while chunk := list(islice(remaining, CHUNK)):
            started = time.perf_counter()
            loaded: list[image.Page | ImageError] = []
            for source in chunk:
                try:
                    loaded.append(image.load(source, max_pixels=self.max_pixels))
                except ImageError as error:
                    loaded.append(error)
            pages = [page for page in loaded if isinstance(page, image.Page)]
            readings = iter(self._read_each(pages, layout, started))
            for page in loaded:
                yield page if isinstance(page, ImageError) else next(readings)

    def _read_each(
        self, pages: Sequence[image.Page], layout: Layout, started: float
    ) -> list[Reading | ImageError]:
        """Read pages together; where one of them is refused, each by itself."""
        try:
            return [reading for reading, _ in self._read_pages(pages, layout, started)]
        except ImageError:
            pass
        results: list[Reading | ImageError] = []
        for page in pages:
            try:
                results.append(self._read_page(page, layout, time.perf_counter())[0])
            except ImageError as error:
                results.append(error)
        return results

    def _read_page(
        self, page: image.Page, layout: Layout, started: float
    ) -> tuple[Reading, npt.NDArray[np.float32]]:
        try:
            return self._read_pages([page], layout, started)[0]
        except ImageError as error:
            raise ImageError(error.what, where=page.source, remedy=error.remedy) from None

    def _read_pages(
        self, pages: Sequence[image.Page], layout: Layout, started: float
    ) -> list[tuple[Reading, npt.NDArray[np.float32]]]:
        """Read every page upright, and those that are hardly readable so on their sides, too.

        Raises:
            ImageError: a page has too much ink to be writing. It names no source.
        """
        views = [_views(page) for page in pages]
        best = [_best(seen) for seen in self._seen(views, layout)]
        if layout != "single":
            aside = [i for i, view in enumerate(best) if view.doubtful]
            turned = [[_turned(best[i], k) for k in (1, 2, 3)] for i in aside]
            for i, seen in zip(aside, self._seen(turned, layout), strict=True):
                other = _best(seen)
                if other.merit > best[i].merit + TURN_FOR and other.stands:
                    best[i] = other
        ms = 1000 * (time.perf_counter() - started) / max(len(pages), 1)
        return [
            self._reading(page, view, layout, ms) for page, view in zip(pages, best, strict=True)
        ]

    def _seen(self, views: Sequence[Sequence["_View"]], layout: Layout) -> list[list["_View"]]:
        """Return views of pages with their lines; the networks are asked once for all of them."""
        flat = [view for seen in views for view in seen]
        if layout == "single":
            flat = self._singles(flat)
        else:
            if layout == "auto":
                flat = self._sure_singles(flat, [_may_be_one(view.gray) for view in flat])
            left = [i for i, view in enumerate(flat) if not view.lines]
            for i, view in zip(left, self._pages([flat[i] for i in left], layout), strict=True):
                flat[i] = view
        again = iter(flat)
        return [[next(again) for _ in seen] for seen in views]

    def _singles(self, views: Sequence["_View"]) -> list["_View"]:
        """Return views as one digit: all the ink, or what the finder takes for a digit."""
        wholes = [_whole(view.gray) for view in views]
        found = self._sure_singles(views, wholes)
        for i, view in self._alone(
            found, wholes, [i for i, view in enumerate(found) if not view.lines]
        ):
            found[i] = view
        doubtful = [i for i, view in enumerate(found) if view.merit < CLEAR]
        places = [self._places(found[i].gray, "single") for i in doubtful]
        asked = [(i, part) for i, part in zip(doubtful, places, strict=True) if part]
        read = self._read_places(
            [found[i] for i, _ in asked], [part for _, part in asked], [None] * len(asked), True
        )
        for (i, _), line in zip(asked, read, strict=True):
            other = replace(found[i], lines=(line,))
            if other.merit > found[i].merit:
                found[i] = other
        return found

    def _sure_singles(
        self, views: Sequence["_View"], wholes: Sequence[tuple[Place, Alone] | None]
    ) -> list["_View"]:
        """Return views, those with their line whose ink the model is sure is one digit."""
        asked = [(i, whole) for i, whole in enumerate(wholes) if whole is not None]
        glyphs = glyph.normalise([found.ink for _, (_, found) in asked])
        result = list(views)
        rows_ = zip(asked, glyphs, self.probabilities(glyphs), strict=True)
        for (i, (place, found)), shown, p_glyph in rows_:
            p = p_glyph if len(p_glyph) > 10 else np.append(p_glyph, 0.0)
            best = int(p[:10].argmax())
            if p[best] < SURE_ALONE:
                continue
            said = _Said(str(best), p, float(p[best]), found.box, None, shown)
            result[i] = replace(result[i], lines=(_Line(place, (said,), ((0, 1),), True),))
        return result

    def _alone(
        self,
        views: Sequence["_View"],
        wholes: Sequence[tuple[Place, Alone] | None],
        which: Sequence[int],
    ) -> list[tuple[int, "_View"]]:
        """Return some of the views with all their ink read as one digit."""
        asked = [(i, whole) for i in which if (whole := wholes[i]) is not None]
        read = self._read_places(
            [views[i] for i, _ in asked],
            [[place] for _, (place, _) in asked],
            [found for _, (_, found) in asked],
            True,
        )
        return [
            (i, replace(views[i], lines=(line,))) for (i, _), line in zip(asked, read, strict=True)
        ]

    def _pages(self, views: Sequence["_View"], layout: Layout) -> list["_View"]:
        """Return views with the lines that the finder finds; or with one digit, if that reads better."""
        places = [self._places(view.gray, layout) for view in views]
        made = iter(self._read_places(views, places, [None] * sum(map(len, places)), False))
        found = [
            replace(view, lines=tuple(islice(made, len(part))))
            for view, part in zip(views, places, strict=True)
        ]
        which = [i for i, view in enumerate(found) if _may_be_alone(view)]
        wholes = [_whole(view.gray) if i in which else None for i, view in enumerate(found)]
        for i, view in self._alone(found, wholes, which):
            if view.merit > found[i].merit and not _besides(found[i], view.lines[0].said[0].box):
                found[i] = view
        for i, view in self._as_lines(found):
            if view.merit > found[i].merit:
                found[i] = view
        return found

    def _as_lines(self, views: Sequence["_View"]) -> list[tuple[int, "_View"]]:
        """Return the small ones of the views that are hardly readable, read as one line from end to end."""
        asked = [
            (i, place)
            for i, view in enumerate(views)
            if view.merit < UPRIGHT
            and view.gray.size <= SMALL_LINE
            and (place := lines.whole(view.gray)) is not None
        ]
        read = self._read_places(
            [views[i] for i, _ in asked],
            [[place] for _, place in asked],
            [None] * len(asked),
            False,
        )
        return [
            (i, replace(views[i], lines=(line,)))
            for (i, _), line in zip(asked, read, strict=True)
            if line.said
        ]

    def _places(self, gray: npt.NDArray[np.uint8], layout: Layout) -> list[Place]:
        found = find(gray, self._finder)
        if layout == "single":
            largest = max(found, key=lambda place: place.score * place.height, default=None)
            return [] if largest is None else [largest]
        if layout == "line" or self.pattern is not None:
            found = [place for row in rows(found) for place in joined([found[k] for k in row])]
        budget = Budget(gray.size, share=COLUMNS_SHARE, least=COLUMNS_LEAST)
        for place in found:
            budget.spend(lines.CUT * place.length / place.height)
        return found

    def _read_places(
        self,
        views: Sequence["_View"],
        places: Sequence[Sequence[Place]],
        wholes: Sequence[Alone | None],
        as_one: bool,
    ) -> list[_Line]:
        """Return what the lines of several views say, one after the other."""
        flat = [place for part in places for place in part]
        cuts = [
            lines.cut(view.gray, place)
            for view, part in zip(views, places, strict=True)
            for place in part
        ]
        strips = self._strips(cuts)
        read = self._said(cuts, strips, wholes, as_one)
        return [_Line(place, *one) for place, one in zip(flat, read, strict=True)]

    def _strips(self, cuts: Sequence[lines.Cut]) -> list[list[decode.Strip]]:
        """Return the strips of each line, more of them where the first do not say the same."""
        strips = lines.seen(cuts, self._lines)
        unsure = [i for i, seen in enumerate(strips) if not decode.is_plain(seen)]
        more = lines.seen([cuts[i] for i in unsure], self._lines, lines.TALL_MORE)
        for i, seen in zip(unsure, more, strict=True):
            strips[i] += seen
        return strips

    def _said(
        self,
        cuts: Sequence[lines.Cut],
        strips: Sequence[Sequence[decode.Strip]],
        wholes: Sequence[Alone | None],
        as_one: bool,
    ) -> list[tuple[tuple[_Said, ...], tuple[tuple[int, int], ...], bool]]:
        """Return what each line says: characters, words, and whether it fits the pattern."""
        if as_one:
            read = [_as_one(seen, whole) for seen, whole in zip(strips, wholes, strict=True)]
        else:
            read = [decode.decode(seen, pattern=self.pattern) for seen in strips]
        inks = [
            pieces(cut, line, seen[line.strip]) if whole is None else [_own(whole, cut)]
            for cut, line, seen, whole in zip(cuts, read, strips, wholes, strict=True)
        ]
        wanted = [
            piece
            for line, ink in zip(read, inks, strict=True)
            for character, piece in zip(line.characters, ink, strict=True)
            if character.value in DIGITS or character.value == UNREADABLE
        ]
        glyphs = glyph.normalise([piece.ink for piece in wanted])
        asked = zip(glyphs, self.probabilities(glyphs), strict=True)
        found = []
        for cut, line, whole, ink in zip(cuts, read, wholes, inks, strict=True):
            said = []
            for character, piece in zip(line.characters, ink, strict=True):
                box = on_page(piece.box, cut) if whole is None else whole.box
                if character.value not in DIGITS and character.value != UNREADABLE:
                    said.append(_Said(character.value, NONE, character.confidence, box, None, None))
                    continue
                shown, p_glyph = next(asked)
                p = self._weighed(character, p_glyph, piece.free, alone=len(line.characters) == 1)
                value = character.value
                if self.pattern is None or value not in DIGITS or not line.fits:
                    value = str(int(p[:10].argmax()))
                said.append(_Said(value, p, float(p[int(value)]), box, piece, shown))
            words = tuple((word.first, word.past) for word in line.words)
            found.append((tuple(said), words, line.fits is not False))
        return found

    def _weighed(
        self,
        character: decode.Character,
        p_glyph: npt.NDArray[np.float64],
        free: bool,
        alone: bool,
    ) -> npt.NDArray[np.float64]:
        """Return how probable each digit is, and that it is none, (11,), from what both say."""
        if not self._weighs:
            return p_glyph if len(p_glyph) > 10 else np.append(p_glyph, 0.0)
        p_line = np.zeros(11)
        for value, p in character.alternatives:
            if value in DIGITS:
                p_line[int(value)] += p
        p_line[10] = max(1.0 - p_line[:10].sum(), 0.0)
        if not (free and alone):
            # Among neighbours and rulings the line knows better than the glyph.
            return p_line
        mixed = WEIGHT_LINE * np.log(p_line + LEAST) + WEIGHT_GLYPH * np.log(p_glyph + LEAST)
        p = np.exp(mixed - mixed.max())
        result: npt.NDArray[np.float64] = p / p.sum()
        return result

    def _reading(
        self, page: image.Page, view: "_View", layout: Layout, ms: float
    ) -> tuple[Reading, npt.NDArray[np.float32]]:
        sheet = _Sheet(view.gray.shape, page, view.turned)
        kept = view.lines if layout == "single" else _writing(view.lines, self.threshold)
        found: list[Line] = []
        words: list[Word] = []
        digits: list[Digit] = []
        marks: list[Mark] = []
        glyphs: list[npt.NDArray[np.float32]] = []
        for row in rows([line.place for line in kept]):
            number = len(found)
            in_row: list[Word] = []
            for line in (kept[k] for k in row):
                texts, boxes = [], []
                for said in line.said:
                    box = sheet.full_size(said.box)
                    boxes.append(box)
                    if said.glyph is None and said.confidence >= DEFAULT_MARK:
                        marks.append(Mark(said.value, round(said.confidence, 6), box, number))
                        texts.append(said.value)
                        continue
                    digit = self._digit(said, box, number, line, sheet)
                    digits.append(digit)
                    glyphs.append(EMPTY if said.glyph is None else said.glyph)
                    texts.append(digit.text)
                for first, past in line.words:
                    confidence = math.prod(said.confidence for said in line.said[first:past])
                    box = around(boxes[first:past])
                    text = "".join(texts[first:past])
                    in_row.append(Word(text, round(confidence, 6), box, number))
            if in_row:
                words += in_row
                confidence = math.prod(word.confidence for word in in_row)
                text = " ".join(word.text for word in in_row)
                found.append(Line(text, round(confidence, 6), around([w.box for w in in_row])))
        reason = next((digit.reason for digit in digits if digit.reason), None)
        if not digits:
            reason = "blank" if not view.lines else "not a digit"
        reading = Reading(
            source=page.source,
            text="\n".join(line.text for line in found),
            confidence=round(math.prod(line.confidence for line in found), 6) if digits else 0.0,
            rejected=reason is not None,
            reason=reason,
            width=sheet.width,
            height=sheet.height,
            inverted=view.inverted,
            turned=view.turned * 90,
            lines=tuple(found),
            words=tuple(words),
            digits=tuple(digits),
            marks=tuple(marks),
            model=self.name,
            ms=round(ms, 3),
        )
        return reading, np.array(glyphs, np.float32).reshape(-1, glyph.SIZE, glyph.SIZE)

    def _digit(self, said: _Said, box: Box, number: int, line: _Line, sheet: "_Sheet") -> Digit:
        values = np.argsort(-said.p[:10])[:3].tolist()
        best = int(said.value) if said.value in DIGITS else values[0]
        if best != values[0]:
            # A pattern has overruled the networks: what the pattern asks for comes first.
            values = [best, *(value for value in values if value != best)][:3]
        reason = None
        if said.glyph is None:
            reason = f"ambiguous {said.value}"
        elif said.p[10] > said.confidence:
            reason = "not a digit"
        elif said.confidence < self.threshold or not line.legible:
            reason = f"ambiguous {best}/{values[1]}"
        if reason is not None:
            reason = sheet.cause(box) or reason
        elif not line.fits and self.pattern is not None:
            reason = f"does not fit {self.pattern.text}"
        return Digit(
            value=best if reason is None else None,
            confidence=round(said.confidence, 6),
            box=box,
            line=number,
            alternatives=tuple((value, round(float(said.p[value]), 6)) for value in values),
            reason=reason,
        )


def read(
    source: Any,
    *,
    layout: Layout = "auto",
    model: str | Path = "reader",
    max_error: float | None = None,
) -> Reading:
    """Read one image; the model is loaded once and kept for the next call.

    Args:
        source: a path, the bytes of an image file, a NumPy array or a PIL image.
        layout: `single`, `line`, `page` or `auto`.
        model: the name of a shipped model, a .onnx file, or a run folder.
        max_error: see `Reader`.

    Raises:
        ImageError: the image cannot be read.
        ModelError: the model is missing, damaged, or not ours.
    """
    return _reader(str(model), max_error).read(source, layout=layout)


def recognize_digit(source: Any, *, model: str | Path = "reader") -> int:
    """Return the one digit in an image, the best guess however unsure.

    Args:
        source: a path, the bytes of an image file, a NumPy array or a PIL image.
        model: the name of a shipped model, a .onnx file, or a run folder.

    Raises:
        ImageError: the image cannot be read, or there is no ink in it.
    """
    reading = read(source, layout="single", model=model)
    if not reading.digits:
        raise ImageError(
            "has no ink in it", where=reading.source, remedy="give a picture of a digit"
        )
    return reading.digits[0].alternatives[0][0]


def single_glyph(source: Any) -> npt.NDArray[np.float32]:
    """Return the glyph of an image of one digit, as a model would see it.

    Args:
        source: a path, the bytes of an image file, a NumPy array or a PIL image.

    Returns:
        (28, 28) float32 in [0, 1], ink = 1; all zero where there is no ink.

    Raises:
        ImageError: the image cannot be read.
    """
    _, glyphs = _reader("reader", None).examine(source, layout="single")
    return glyphs[0] if len(glyphs) else EMPTY


_readers: dict[tuple[str, object, float | None], Reader] = {}


def _reader(model: str, max_error: float | None) -> Reader:
    # One reader a model: building a session costs more than a hundred readings. A file that has been
    # written anew is another model.
    key = (model, _stamp(model), max_error)
    if key not in _readers:
        if len(_readers) >= 4:
            _readers.clear()
        _readers[key] = Reader(model, max_error=max_error)
    return _readers[key]


def _stamp(model: str) -> object:
    # Of a name: which of the user's versions it means may change under us.
    means = versions.stamp(model) if model in SHIPPED else None
    return means, _file_stamp(_file_of(model)), _file_stamp(calibration_path(model))


def _file_of(model: str) -> Path | None:
    path = Path(model)
    if model in SHIPPED:
        return None
    return path / "model.onnx" if path.is_dir() else path


def _file_stamp(path: Path | None) -> object:
    try:
        facts = None if path is None else path.stat()
    except OSError:
        facts = None
    return None if facts is None else (facts.st_mtime_ns, facts.st_size, facts.st_ino)


def _checked(layout: Layout) -> Layout:
    if layout not in LAYOUTS:
        raise UsageError(f"no layout is called {layout!r}", remedy=f"choose: {', '.join(LAYOUTS)}")
    return layout
