"""The reader: image -> ink -> segment -> glyph -> classifier -> search, joined."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from digitry.errors import ImageError, UsageError
from digitry.model import artifact, versions
from digitry.model.load import SHIPPED, calibration_path, load_model
from digitry.reading import glyph, image, segment
from digitry.reading.budget import Budget
from digitry.reading.classifier import Classifier, threshold_for
from digitry.reading.ink import lift
from digitry.reading.pattern import compile as compile_pattern
from digitry.reading.result import Box, Digit, Line, Reading
from digitry.reading.search import Guess, Guesses, best_path, fitting_path, guess

Layout = Literal["auto", "single", "line", "page"]
LAYOUTS: tuple[Layout, ...] = ("auto", "single", "line", "page")

CHUNK = 64
"""Images that `read_many` prepares before it asks the network once for all of them."""

SURE_POLARITY = 0.5
"""Below this certainty both polarities are tried, and the better reading is taken."""

SURE_WHOLE = 0.97
"""A cluster of ink that is so surely one digit is not taken apart: most are, and that saves the time."""

WORK_SHARE = 24
WORK_LEAST = 64 << 20
GLYPH_WORK = 40_000
"""What one page may ask of the network and for taking clusters apart, in pixels that are gone over: for
each pixel of the page, for the smallest page, and what one glyph counts for."""

SMALLEST = 8
"""Pixels. Ink that is less high and wide, and refused, is refused as too small. Of held-out MNIST digits,
scaled down, 99% are guessed right and 96% accepted at 8 pixels, 98% and 88% at 7, 92% and 59% at 6."""


@dataclass(frozen=True, slots=True)
class _View:
    """One way to see a page: its clusters in lines, under one polarity."""

    inverted: bool
    lines: list[list[segment.Cluster]]


class Reader:
    """Reads images with one model; safe to share between calls, holds no state of theirs.

    Args:
        model: the name of a shipped model (`reader`, `reader@shipped`, `reader@2`: see
            `digitry.model.load.load_model`), a .onnx file, a run folder, or a loaded model.
        layout: `single` (one digit), `line`, `page` (lines from top to bottom), or `auto`.
        max_error: share of the accepted digits that may be wrong, in (0, 1); the threshold for
            refusing follows from the model's own risk-coverage curve. None refuses only what is more
            likely wrong than right.
        pattern: what each line must look like, e.g. `\\d{4}`; see `digitry.reading.pattern`. A line
            that cannot be read so is read freely, and refused.
        max_pixels: larger images are refused.
        threads: threads in the network.

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
        self.pattern = None if pattern is None else compile_pattern(pattern)
        self.max_pixels = max_pixels
        loaded = model if isinstance(model, artifact.Artifact) else load_model(model)
        self._classifier = Classifier(loaded, threads=threads)
        self.name = self._classifier.metadata.name
        self.threshold = threshold_for(self._classifier.metadata, max_error)

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
        layout = self.layout if layout is None else _checked(layout)
        started = time.perf_counter()
        page = image.load(source, max_pixels=self.max_pixels, name=name)
        return self._read_page(page, layout, started)[0]

    def examine(
        self, source: Any, *, layout: Layout | None = None, name: str | None = None
    ) -> tuple[Reading, npt.NDArray[np.float32]]:
        """Read one image, and give also what the network saw.

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
        """Ask the network about glyphs.

        Args:
            glyphs: (n, 28, 28) float32 in [0, 1], ink = 1.

        Returns:
            (n, classes) float64, calibrated; 10 digits, and with most models one for no digit.
        """
        return self._classifier.probabilities(glyphs)

    def accepting(self, max_error: float | None) -> "Reader":
        """Return a reader with another share of errors, on the same network.

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
        """Read many images, in order, one result for each image and each page of a document.

        An image that cannot be read gives its error in its place, and the others go on. Sources are
        taken as they are needed; `ms` of each reading is its share of its chunk.
        """
        layout = self.layout if layout is None else _checked(layout)
        remaining = image.pages_of(sources)
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
        """Prepare every page, ask the network about all of them, and put the readings together.

        Raises:
            ImageError: a page has too much ink to be writing. It names no source.
        """
        seen = [_views(page, layout) for page in pages]
        clusters, budgets = [], []
        for page, views in zip(pages, seen, strict=True):
            found = [c for view in views for line in view.lines for c in line]
            budget = Budget(page.gray.size, share=WORK_SHARE, least=WORK_LEAST)
            budget.spend(GLYPH_WORK * len(found))
            clusters += found
            budgets += [budget] * len(found)
        guesses = iter(self._guessed(clusters, budgets))
        results = []
        for page, views in zip(pages, seen, strict=True):
            solved = [
                [self._solved([next(guesses) for _ in line]) for line in view.lines]
                for view in views
            ]
            best = max(range(len(views)), key=lambda index: _merit(solved[index]))
            results.append((page, views[best].inverted, solved[best]))
        ms = 1000 * (time.perf_counter() - started) / max(len(pages), 1)
        return [self._reading(page, inverted, lines, ms) for page, inverted, lines in results]

    def _guessed(
        self, clusters: Sequence[segment.Cluster], budgets: Sequence[Budget]
    ) -> list[Guesses]:
        """Ask the network about clusters as they are, then about the parts of those it is unsure of."""
        wholes = self._guesses([cluster.whole for cluster in clusters])
        found: list[Guesses] = [{(0, 1): whole} for whole in wholes]
        sure = math.inf if self.pattern else math.log(SURE_WHOLE)
        unsure = [
            index
            for index, (cluster, whole) in enumerate(zip(clusters, wholes, strict=True))
            if cluster.spacing > 0 and whole.score < sure
        ]
        parts = []
        for index in unsure:
            budgets[index].spend(segment.cutting_work(clusters[index]))
            parts.append(segment.candidates(clusters[index]))
            budgets[index].spend(GLYPH_WORK * len(parts[-1]))
        pieces = iter(self._guesses([piece for part in parts for piece in part.values()]))
        for index, part in zip(unsure, parts, strict=True):
            found[index] = {run: next(pieces) for run in part}
        return found

    def _guesses(self, pieces: Sequence[segment.Piece]) -> list[Guess]:
        glyphs = glyph.normalise(
            [piece.ink for piece in pieces], [piece.surroundings for piece in pieces]
        )
        rows = zip(pieces, glyphs, self.probabilities(glyphs), strict=True)
        return [guess(*row) for row in rows]

    def _solved(self, clusters: Sequence[Guesses]) -> list[Guess]:
        """Return the digits of one line: the best path, or the best that fits the pattern."""
        if self.pattern is not None:
            fitting = fitting_path(clusters, self.pattern)
            if fitting is not None:
                return fitting
        return [digit for guesses in clusters for digit in best_path(guesses)]

    def _reading(
        self, page: image.Page, inverted: bool, lines: list[list[Guess]], ms: float
    ) -> tuple[Reading, npt.NDArray[np.float32]]:
        digits: list[Digit] = []
        glyphs: list[npt.NDArray[np.float32]] = []
        found: list[Line] = []
        for guesses in lines:
            fits = self.pattern is None or self.pattern.matches(
                "".join(str(guess.value) for guess in guesses)
            )
            kept = [self._digit(guess, page, len(found), fits) for guess in guesses]
            if not self._is_writing(kept, alone=len(lines) == 1):
                continue
            digits += kept
            glyphs += [guess.glyph for guess in guesses]
            text = "".join(digit.text for digit in kept)
            confidence = math.prod(digit.confidence for digit in kept)
            found.append(Line(text, round(confidence, 6), segment.around([d.box for d in kept])))
        reason = next((digit.reason for digit in digits if digit.reason), None)
        if not digits:
            reason = "blank"
        reading = Reading(
            source=page.source,
            text="\n".join(line.text for line in found),
            confidence=round(math.prod(d.confidence for d in digits), 6) if digits else 0.0,
            rejected=reason is not None,
            reason=reason,
            width=page.width,
            height=page.height,
            inverted=inverted,
            lines=tuple(found),
            digits=tuple(digits),
            model=self.name,
            ms=round(ms, 3),
        )
        return reading, np.array(glyphs, np.float32).reshape(-1, glyph.SIZE, glyph.SIZE)

    @staticmethod
    def _is_writing(digits: Sequence[Digit], *, alone: bool) -> bool:
        """Tell a line of digits from a smudge: among other lines, one without any digit is none."""
        return bool(digits) and (alone or any(digit.value is not None for digit in digits))

    def _digit(self, guess: Guess, page: image.Page, line: int, fits: bool) -> Digit:
        values = np.argsort(-guess.probabilities[:10])[:3]
        best = guess.value
        confidence = guess.confidence
        if best != values[0]:
            # A pattern has overruled the network: what the pattern asks for comes first.
            values = np.array([best, *(value for value in values if value != best)][:3])
        reason = None
        if self._classifier.rejects and guess.probabilities[10] > confidence:
            reason = "not a digit"
        elif confidence < self.threshold:
            reason = f"ambiguous {best}/{int(values[1])}"
        if reason is not None:
            reason = _cause(guess.piece) or reason
        elif not fits and self.pattern is not None:
            reason = f"does not fit {self.pattern.text}"
        p = guess.probabilities.tolist()
        return Digit(
            value=best if reason is None else None,
            confidence=round(confidence, 6),
            box=_full_size(guess.piece.box, page),
            line=line,
            alternatives=tuple(
                (int(value), round(confidence if value == best else p[value], 6))
                for value in values
            ),
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
    """Return the glyph of an image of one digit, as the network would see it.

    Args:
        source: a path, the bytes of an image file, a NumPy array or a PIL image.

    Returns:
        (28, 28) float32 in [0, 1], ink = 1; all zero where there is no ink.

    Raises:
        ImageError: the image cannot be read.
    """
    page = image.load(source)
    inverted, _ = image.light_on_dark(page.gray)
    piece = segment.single(lift(255 - page.gray if inverted else page.gray))
    pieces = [] if piece is None else [piece.ink]
    glyphs = glyph.normalise(pieces)
    return glyphs[0] if len(glyphs) else np.zeros((glyph.SIZE, glyph.SIZE), np.float32)


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


def _views(page: image.Page, layout: Layout) -> list[_View]:
    """Segment the page, under both polarities where it is not plain which one holds."""
    inverted, certainty = image.light_on_dark(page.gray)
    sides = [inverted] if certainty >= SURE_POLARITY else [inverted, not inverted]
    return [
        _View(side, _segmented(255 - page.gray if side else page.gray, layout)) for side in sides
    ]


def _segmented(gray: npt.NDArray[np.uint8], layout: Layout) -> list[list[segment.Cluster]]:
    ink = lift(gray)
    if layout != "single":
        lines = segment.lines(ink)
        clusters = [cluster for line in lines for cluster in line]
        if layout == "line":
            return [sorted(clusters, key=lambda cluster: cluster.box.x)] if clusters else []
        if layout == "page" or len(clusters) > 1 or any(c.spacing > 0 for c in clusters):
            return lines
    piece = segment.single(ink)
    return [] if piece is None else [[segment.Cluster(piece)]]


def _merit(lines: list[list[Guess]]) -> float:
    """How good a view is: the mean confidence of its digits; nothing found is worst."""
    scores = [guess.score for line in lines for guess in line]
    return float(np.mean(scores)) if scores else -math.inf


def _cause(piece: segment.Piece) -> str | None:
    """Return what about its ink made a digit hard to know, where that can be told."""
    # The box has a rim of one pixel around the ink.
    if max(piece.box.h, piece.box.w) - 2 < SMALLEST:
        return "too small"
    return "cut off" if piece.cut else None


def _full_size(box: Box, page: image.Page) -> Box:
    """Bring a box from the working page to the pixels of the upright image."""
    across = page.width / page.gray.shape[1]
    down = page.height / page.gray.shape[0]
    x, y = math.floor(box.x * across), math.floor(box.y * down)
    right = min(math.ceil(box.right * across), page.width)
    bottom = min(math.ceil(box.bottom * down), page.height)
    return Box(x, y, right - x, bottom - y)
