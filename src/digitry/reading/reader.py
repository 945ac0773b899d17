"""Joins the stages of reading: image -> places of numbers -> lines -> characters -> text."""

import time
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from digitry.errors import ImageError, UsageError
from digitry.model import artifact, versions
from digitry.model.line_network import NAME as LINES
from digitry.model.line_network import LineNetwork, load_lines
from digitry.model.line_network import calibration_path as lines_calibration_path
from digitry.model.load import SHIPPED, calibration_path, load_model
from digitry.reading import glyph, image, network
from digitry.reading import lines as strips
from digitry.reading.assemble import Seen, Terms, glyphs_of, reading_of
from digitry.reading.classifier import Classifier
from digitry.reading.confidence import trust_for
from digitry.reading.pattern import READABLE
from digitry.reading.pattern import compile as compile_pattern
from digitry.reading.recognise import LAYOUTS, Layout, Recogniser
from digitry.reading.region import RegionLike, cut, on_whole, region_of
from digitry.reading.result import FormReading, Reading
from digitry.reading.view import Said, View, best, opposite, reads_turned, turned, views_of

if TYPE_CHECKING:
    from digitry.reading.form import Form
    from digitry.reading.template import Template

CHUNK = 64
"""Images that `read_many` prepares before it asks the networks once for all of them."""


class Reader:
    """Reads images with one model. Threads may share it: it keeps nothing of a call.

    The networks of the package find numbers, and read each line as a whole. The model then classifies each
    digit by itself. The result of the shipped model is combined with that of the line network; any other
    model alone decides what a digit is.

    Args:
        model: the name of a shipped model (`reader`, `reader@shipped`, `reader@2`: see
            `digitry.model.load.load_model`), a .onnx file, a run folder, or a loaded model.
        layout: `single` (one digit), `line`, `page` (lines from top to bottom), or `auto`.
        max_error: share of the accepted digits that may be wrong, in (0, 1); the threshold for
            refusing follows from the risk-coverage curve of what decided: the line network, the
            model, or both. None refuses only digits that are more likely wrong than right.
        pattern: what each line must look like, e.g. `\\d{4}` or `\\d\\d/\\d\\d/\\d{4}`; see
            `digitry.reading.pattern`. A line that does not fit is read without the pattern, and refused.
        template: the fields of a form and their places, or its TOML file; see
            `digitry.reading.template`. Every reading is then a `FormReading`, and layouts and patterns
            are those of the template's fields.
        region: the part of each picture that is read: `120,80,400,60` (left, top, width and height in
            pixels of the upright image), four such numbers, or shares such as `10%,20%,50%,30%`. All
            boxes stay those of the whole picture.
        max_pixels: larger images are refused.
        threads: threads in the networks.
        lines: the line network: `lines`, the user's default version of it or the package's;
            `lines@shipped` or `lines@2`; a .onnx file; or a loaded one.

    Raises:
        ModelError: the model is missing, damaged, or not from digitry.
        UsageError: an argument is not valid.
    """

    def __init__(
        self,
        model: str | Path | artifact.Artifact = "reader",
        layout: Layout = "auto",
        *,
        max_error: float | None = None,
        pattern: str | None = None,
        template: "Template | str | Path | None" = None,
        region: RegionLike | None = None,
        max_pixels: int = image.MAX_PIXELS,
        threads: int = 1,
        lines: str | Path | LineNetwork = LINES,
    ) -> None:
        _check_alone(template, pattern, layout, region)
        self.layout = _checked(layout)
        self.region = None if region is None else region_of(region)
        self.pattern = None if pattern is None else compile_pattern(pattern, READABLE)
        self.max_pixels = max_pixels
        loaded = model if isinstance(model, artifact.Artifact) else load_model(model)
        self._classifier = Classifier(loaded, threads=threads)
        self.name = self._classifier.metadata.name
        self.lines = lines if isinstance(lines, LineNetwork) else load_lines(lines)
        self.trust = trust_for(self._classifier.metadata, self.lines.calibration, max_error)
        # A network of the user's fails at once if it cannot be run.
        ours = not isinstance(lines, LineNetwork) and self.lines.version == versions.SHIPPED_VERSION
        self._networks = Recogniser(
            network.shipped("finder", threads=threads, later=True),
            network.Session(self.lines, threads=threads, later=ours),
            self._classifier,
            weighs=self.name.partition("@")[0] in SHIPPED,
            pattern=self.pattern,
        )
        self._form = None if template is None else _form(template)

    def prepare(self) -> None:
        """Make all networks ready now, not when the first picture needs them.

        Raises:
            ModelError: one of them cannot be run.
        """
        self._networks.finder.prepare()
        self._networks.lines.prepare()

    @property
    def template(self) -> "Template | None":
        """The template of the forms that it reads; None if it reads no forms."""
        return None if self._form is None else self._form.template

    def read(
        self,
        source: Any,
        *,
        layout: Layout | None = None,
        name: str | None = None,
        region: RegionLike | None = None,
    ) -> Reading:
        """Read one image.

        Args:
            source: a path, bytes, a NumPy array or a PIL image; see `digitry.reading.image.load`.
            layout: instead of the reader's own.
            name: the name of the source in the reading.
            region: instead of the reader's own.

        Raises:
            ImageError: the image cannot be read.
            ModelError: a network of the package cannot be run; `prepare` says so beforehand.
            UsageError: the region makes no sense, or does not lie on the image.
        """
        reader = self if region is None else self.at(region)
        return reader._read(source, layout, name)[0]

    def examine(
        self, source: Any, *, layout: Layout | None = None, name: str | None = None
    ) -> tuple[Reading, npt.NDArray[np.float32]]:
        """Read one image, and return also what the model saw.

        Args:
            source: as for `read`.
            layout: as for `read`.
            name: as for `read`.

        Returns:
            The reading, and (len(digits), 28, 28) float32 in [0, 1], ink = 1: the glyph of each digit.

        Raises:
            ImageError: the image cannot be read.
        """
        reading, seen = self._read(source, layout, name)
        return reading, glyphs_of(seen.digits)

    def examine_digits(self, source: Any) -> tuple[Reading, Sequence[Said]]:
        """Read one image, and return also the evidence for each of its digits.

        Args:
            source: as for `read`.

        Raises:
            ImageError: the image cannot be read.
        """
        reading, seen = self._read(source, None, None)
        return reading, seen.digits

    def examine_lines(
        self, source: Any, *, layout: Layout | None = None, name: str | None = None
    ) -> tuple[Reading, list[npt.NDArray[np.uint8]]]:
        """Read one image, and return also its lines as the line network sees them.

        Args:
            source, layout, name: as for `read`.

        Returns:
            The reading, and (64, w) uint8 for each of its lines: cut out level, 255 = ink, its digits
            32 pixels high.

        Raises:
            ImageError: the image cannot be read.
        """
        reading, seen = self._read(source, layout, name)
        return reading, [strips.cut(gray, place).ink for gray, place in seen.lines]

    def _read(self, source: Any, layout: Layout | None, name: str | None) -> tuple[Reading, Seen]:
        _check_alone(self.template, None, layout or "auto")
        layout = self.layout if layout is None else _checked(layout)
        started = time.perf_counter()
        page = image.load(source, max_pixels=self.max_pixels, name=name)
        return self._read_page(page, layout, started)

    def probabilities(self, glyphs: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return what the model says about glyphs.

        Args:
            glyphs: (n, 28, 28) float32 in [0, 1], ink = 1.

        Returns:
            (n, classes) float64, calibrated; classes are the digits and, in most models, `not a digit`.
        """
        return self._classifier.probabilities(glyphs)

    def accepting(self, max_error: float | None) -> "Reader":
        """Return a reader with another `max_error` that shares the networks.

        Args:
            max_error: see `Reader`.

        Raises:
            UsageError: it is not in (0, 1), or no threshold of the model's curve has so few errors.
        """
        other = copy(self)
        other.trust = trust_for(self._classifier.metadata, self.lines.calibration, max_error)
        return other

    def within(self, pattern: str | None) -> "Reader":
        """Return a reader with another pattern that shares the networks.

        Args:
            pattern: see `Reader`; None = no pattern.

        Raises:
            UsageError: it is not a valid pattern, or this reader has a template.
        """
        _check_alone(self.template, pattern, "auto")
        other = copy(self)
        other.pattern = None if pattern is None else compile_pattern(pattern, READABLE)
        other._networks = replace(self._networks, pattern=other.pattern)
        return other

    def at(self, region: RegionLike | None) -> "Reader":
        """Return a reader of another part of each picture, on the same networks.

        Args:
            region: see `Reader`; None = the whole picture.

        Raises:
            UsageError: it makes no sense, or this reader has a template.
        """
        _check_alone(self.template, None, "auto", region)
        other = copy(self)
        other.region = None if region is None else region_of(region)
        return other

    def on_form(self, template: "Template | str | Path") -> "Reader":
        """Return a reader of forms that shares the networks.

        Args:
            template: the fields of the form and their places, or its TOML file.

        Raises:
            UsageError: the template is not valid, or this reader has a pattern or a region.
        """
        pattern = None if self.pattern is None else self.pattern.text
        _check_alone(template, pattern, "auto", self.region)
        other = copy(self)
        other._form = _form(template)
        return other

    def read_many(
        self, sources: Iterable[Any], *, layout: Layout | None = None
    ) -> Iterator[Reading | ImageError]:
        """Read many images, in order, one result for each image and each page of a document.

        The result for an image that cannot be read is its error. Sources are taken when they are needed.
        Several images are read together; `ms` of a reading is its share of their time.
        """
        _check_alone(self.template, None, layout or "auto")
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
        """Read pages together; but one by one if one of them is refused, or if they are forms."""
        if self._form is None:
            try:
                return [reading for reading, _ in self._read_pages(pages, layout, started)]
            except (ImageError, UsageError):
                pass
        results: list[Reading | ImageError] = []
        for page in pages:
            try:
                results.append(self._read_page(page, layout, time.perf_counter())[0])
            except ImageError as error:
                results.append(error)
            except UsageError as error:
                # A region that lies on other pictures may not lie on this one.
                results.append(ImageError(error.what, where=error.where, remedy=error.remedy))
        return results

    def _read_page(self, page: image.Page, layout: Layout, started: float) -> tuple[Reading, Seen]:
        try:
            return self._read_pages([page], layout, started)[0]
        except ImageError as error:
            raise ImageError(error.what, where=page.source, remedy=error.remedy) from None

    def _whole(self, view: View, layout: Layout) -> View:
        """Return the full view of a page, with all of its lines, after a quick look at it."""
        return self._networks.seen([[replace(view, lines=())]], layout)[0][0]

    def _read_pages(
        self, pages: Sequence[image.Page], layout: Layout, started: float
    ) -> Sequence[tuple[Reading, Seen]]:
        """Read pages, or the region of each that the reader reads.

        Raises:
            ImageError: see `_read_parts`.
            UsageError: the region does not lie on a page.
        """
        if self.region is None:
            return self._read_parts(pages, layout, started)
        boxes = [self.region.on(page) for page in pages]
        parts = [cut(page, box) for page, box in zip(pages, boxes, strict=True)]
        read = self._read_parts(parts, layout, started)
        return [
            (on_whole(reading, box, page), seen)
            for (reading, seen), box, page in zip(read, boxes, pages, strict=True)
        ]

    def _read_parts(
        self, pages: Sequence[image.Page], layout: Layout, started: float
    ) -> Sequence[tuple[Reading, Seen]]:
        """Read every page upright; those that can hardly be read so on their sides and inverted, too.

        Raises:
            ImageError: a page has too much ink to be writing, or does not look like the form. It names no
                source.
        """
        if self._form is not None:
            return [self._form.read(page, self._networks, self.trust, self.name) for page in pages]
        seen = self._networks.seen([views_of(page) for page in pages], layout)
        chosen = [best(views) for views in seen]
        if layout != "single":
            aside = [i for i, view in enumerate(chosen) if view.doubtful]
            sides = [[turned(chosen[i], quarters) for quarters in (1, 2, 3)] for i in aside]
            for i, views in zip(aside, sides, strict=True):
                if len(seen[i]) == 1:
                    # A dark table around the sheet may have been taken for the paper.
                    views.append(opposite(chosen[i]))
            for i, views in zip(
                aside, self._networks.seen(sides, layout, glance=True), strict=True
            ):
                other = max(views, key=lambda view: view.evidence)
                if reads_turned(other, chosen[i]):
                    chosen[i] = self._whole(other, layout)
        ms = 1000 * (time.perf_counter() - started) / max(len(pages), 1)
        terms = Terms(self.trust, self.pattern, self.name, single=layout == "single")
        return [reading_of(page, view, terms, ms) for page, view in zip(pages, chosen, strict=True)]


@overload
def read(
    source: Any,
    *,
    layout: Layout = "auto",
    model: str | Path = "reader",
    max_error: float | None = None,
    pattern: str | None = None,
    template: None = None,
    region: RegionLike | None = None,
) -> Reading: ...


@overload
def read(
    source: Any,
    *,
    model: str | Path = "reader",
    max_error: float | None = None,
    template: "Template | str | Path",
) -> FormReading: ...


def read(
    source: Any,
    *,
    layout: Layout = "auto",
    model: str | Path = "reader",
    max_error: float | None = None,
    pattern: str | None = None,
    template: "Template | str | Path | None" = None,
    region: RegionLike | None = None,
) -> Reading:
    """Read one image; the model is loaded once and kept for the next call.

    Args:
        source: a path, the bytes of an image file, a NumPy array or a PIL image.
        layout: `single`, `line`, `page` or `auto`.
        model: the name of a shipped model, a .onnx file, or a run folder.
        max_error: see `Reader`.
        pattern: see `Reader`.
        template: the fields of a form and their places, or its TOML file; the reading is then a
            `FormReading`.
        region: see `Reader`.

    Raises:
        ImageError: the image cannot be read, or does not look like the form.
        ModelError: the model is missing, damaged, or not from digitry.
        UsageError: the pattern, the template or the region is not valid.
    """
    reader = _reader(str(model), max_error)
    if region is not None:
        reader = reader.at(region)
    if pattern is not None:
        reader = reader.within(pattern)
    if template is not None:
        reader = reader.on_form(template)
    return reader.read(source, layout=layout)


def recognize_digit(source: Any, *, model: str | Path = "reader") -> int:
    """Return the one digit in an image: the best guess, however uncertain; several digits are an error.

    Args:
        source: a path, the bytes of an image file, a NumPy array or a PIL image.
        model: the name of a shipped model, a .onnx file, or a run folder.

    Raises:
        ImageError: the image cannot be read, holds several digits, or there is no ink in it.
    """
    reader = _reader(str(model), None)
    page = image.load(source, max_pixels=reader.max_pixels)
    several, _ = reader._read_page(page, "auto", time.perf_counter())
    if len(several.digits) > 1 and not several.rejected:
        raise ImageError(
            f"holds {len(several.digits)} digits ({' '.join(several.text.split())})",
            where=several.source,
            remedy="use digitry.read, or crop it to one digit",
        )
    reading, _ = reader._read_page(page, "single", time.perf_counter())
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
    return glyphs[0] if len(glyphs) else np.zeros((glyph.SIZE, glyph.SIZE), np.float32)


_readers: dict[tuple[str, object, float | None], Reader] = {}


def _reader(model: str, max_error: float | None) -> Reader:
    # One reader for each model: building a session costs more than a hundred readings. A file that was
    # written again counts as another model.
    key = (model, _stamp(model), max_error)
    if key not in _readers:
        if len(_readers) >= 4:
            _readers.clear()
        _readers[key] = Reader(model, max_error=max_error)
    return _readers[key]


def _stamp(model: str) -> object:
    # Which of the user's versions a name means may change while this process runs.
    means = versions.stamp(model) if model in SHIPPED else None
    beside = [_file_stamp(path) for path in (calibration_path(model), lines_calibration_path())]
    return means, versions.stamp(LINES), _file_stamp(_file_of(model)), *beside


def _file_of(model: str) -> Path | None:
    path = Path(model)
    if model in SHIPPED:
        return None
    return path / artifact.MODEL_FILE if path.is_dir() else path


def _file_stamp(path: Path | None) -> object:
    try:
        facts = None if path is None else path.stat()
    except OSError:
        facts = None
    return None if facts is None else (facts.st_mtime_ns, facts.st_size, facts.st_ino)


def _check_alone(template: object, pattern: str | None, layout: str, region: object = None) -> None:
    """Check that a template is given without a layout, pattern or region: its fields have their own.

    Raises:
        UsageError: it is not.
    """
    if template is None:
        return
    if region is not None:
        raise UsageError(
            "a template and a region are given",
            remedy="write each place as a field into the template",
        )
    for name, given in (("pattern", pattern is not None), ("layout", layout != "auto")):
        if given:
            raise UsageError(
                f"a template and a {name} are given",
                remedy=f"write the {name} of each field into the template",
            )


def _form(template: "Template | str | Path") -> "Form":
    # Few readers read forms: what forms need is loaded for those alone.
    from digitry.reading.form import form_of
    from digitry.reading.template import Template, load

    if isinstance(template, Template):
        return form_of(template)
    try:
        return form_of(load(template))
    except UsageError as error:
        if error.where == "reference":
            raise UsageError(
                f"its reference picture {error.what}", where=template, remedy=error.remedy
            ) from error
        raise


def _checked(layout: Layout) -> Layout:
    if layout not in LAYOUTS:
        raise UsageError(f"no layout is called {layout!r}", remedy=f"choose: {', '.join(LAYOUTS)}")
    return layout
