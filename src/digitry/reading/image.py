"""Load a file, bytes, an array or a picture as upright grey pages; a header is checked before any pixel.

A `Page` is grey, 8 bits, rotated as EXIF says, with transparency on white or black, and reduced to
working size.
"""

import base64
import binascii
import io
import os
import re
import stat
import sys
import urllib.parse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from digitry import files
from digitry.errors import ImageError
from digitry.reading import arrays, decoding, documents
from digitry.reading.confined import Document, Drawer
from digitry.reading.decoding import (
    MAX_BYTES,
    WORKING_PIXELS,
    check_size,
    decoded_from,
    from_picture,
    grey_bytes,
    shortened,
    shrink,
    translated,
)

MAX_PIXELS = decoding.MAX_PIXELS


@dataclass(frozen=True, slots=True)
class Page:
    """One upright grey image.

    Attributes:
        gray: (h, w) uint8, 0 = black, at working size.
        width, height: size of the upright image, in pixels.
        source: its name in readings.
    """

    gray: npt.NDArray[np.uint8] = field(repr=False)
    width: int
    height: int
    source: str

    @property
    def scale(self) -> float:
        """Working pixels per pixel of the image, at most 1."""
        return float(self.gray.shape[1] / self.width)

    def turned(self, degrees: int) -> "Page":
        """Return the page turned counter-clockwise, as `Reading.turned` says it was read.

        Args:
            degrees: 0, 90, 180 or 270.
        """
        gray = np.ascontiguousarray(np.rot90(self.gray, degrees // 90))
        across = degrees % 180 != 0
        width, height = (self.height, self.width) if across else (self.width, self.height)
        return Page(gray, width, height, self.source)


@dataclass(frozen=True, slots=True)
class PageOf:
    """One page of a document, as a source for `load`.

    Attributes:
        source: a path, bytes, or a data URL.
        number: of the page, from 1; None = its only page.
        document: the PDF as it was opened to count its pages.
    """

    source: Any = field(repr=False)
    number: int | None
    document: Document | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """Its name in readings: that of the document, and `#page=2` if it has several pages."""
        name = name_of(self.source)
        return name if self.number is None else f"{name}#page={self.number}"


def load(source: Any, *, max_pixels: int = MAX_PIXELS, name: str | None = None) -> Page:
    """Return the upright grey page of an image.

    Args:
        source: one of these:
            - a path to an image, or to a page of a document: `scan.pdf#page=2`;
            - the bytes of an image file, an open file, or a data URL;
            - a PIL image: the frame at which it stands;
            - an array (h, w), (h, w, 3) RGB or (h, w, 4) RGBA of integers, booleans or floats, nested
              lists, a tensor, or anything with `__array__`; `digitry.reading.arrays` says what is guessed;
            - a `PageOf`, or a `Page`.
        max_pixels: larger images are refused before any pixel is decoded.
        name: its name in readings; default: the path, or `<bytes>`, `<file>`, `<array>`, `<image>`.

    Raises:
        ImageError: it is not an image, is damaged, too large, of an unsupported format, or a document of
            several pages.
    """
    page = document = None
    if isinstance(source, PageOf):
        document, name = source.document, name or source.name
        source, page = source.source, source.number
    if isinstance(source, Page):
        return source if name is None else replace(source, source=name)
    label = name or name_of(source)
    if isinstance(source, np.ndarray):
        return _from_array(source, label, max_pixels)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _from_bytes(bytes(source), label, max_pixels, page, document)
    if is_data_url(source):
        return _from_bytes(_from_data_url(source, label), label, max_pixels, page, document)
    if isinstance(source, (str, os.PathLike)):
        return _from_path(source, label, max_pixels, page, document)
    if _is_pil(source):
        width, height = source.size
        check_size(width, height, label, max_pixels)
        with translated(label, max_pixels):
            return Page(*from_picture(source, label), label)
    if callable(getattr(source, "read", None)):
        return _from_bytes(_content(source, label), label, max_pixels, page, document)
    if isinstance(source, (list, tuple)) or hasattr(source, "__array__"):
        return _from_array(arrays.as_array(source, label), label, max_pixels)
    raise ImageError(
        f"cannot read an image from {type(source).__name__}",
        remedy="give a path, bytes, an open file, an array or a PIL image",
    )


def pages_of(sources: Iterable[Any]) -> Iterator[Any]:
    """Yield sources, each document with several pages as one `PageOf` for each of its pages.

    One process opens all PDFs, in turn. A source that cannot be opened is yielded, too: loading it says
    why.
    """
    drawer = Drawer()
    for source in sources:
        if callable(getattr(source, "read", None)) and not _is_pil(source):
            # An open file can be read only once.
            try:
                source = _content(source, name_of(source))
            except ImageError:
                yield source
                continue
        document = Document(drawer)
        try:
            count = count_pages(source, document=document)
        except ImageError:
            count = 1
        if count > 1:
            yield from (PageOf(source, number, document) for number in range(1, count + 1))
        else:
            yield PageOf(source, None, document) if document.is_tried else source


def count_pages(source: Any, *, name: str | None = None, document: Document | None = None) -> int:
    """Return how many pages a source has: those of a PDF or a TIFF; 1 for everything else.

    Args:
        source: see `load`.
        name: what errors call it.
        document: if it is a PDF, stays open to be drawn.

    Raises:
        ImageError: the document cannot be opened, or has too many pages.
    """
    label = name or name_of(source)
    if is_data_url(source):
        source = _from_data_url(source, label)
    if isinstance(source, (bytes, bytearray, memoryview)):
        kind = documents.kind_of(bytes(source[: documents.HEAD_BYTES]))
        if kind not in ("pdf", "tiff") or len(source) > MAX_BYTES:
            return 1
        with translated(label, MAX_PIXELS):
            return documents.page_count(io.BytesIO(source), kind, label, document)
    if not isinstance(source, (str, os.PathLike)):
        return 1
    try:
        path = Path(source)
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            return 1
        with path.open("rb") as stream:
            kind = documents.kind_of(stream.read(documents.HEAD_BYTES))
            stream.seek(0)
            with translated(label, MAX_PIXELS):
                return documents.page_count(stream, kind, label, document)
    except (OSError, ValueError):
        # A missing file, or a path to one page.
        return 1


def light_on_dark(gray: npt.NDArray[np.uint8]) -> tuple[bool, float]:
    """Return whether the ink is lighter than the paper, and how certain that is.

    First a wide median removes gradients of light. Paper is at the border and covers most of the image,
    so three votes decide: the share of border pixels and of all pixels on the dark side of Otsu's
    threshold, and the skewness of the values.

    Args:
        gray: (h, w) uint8.

    Returns:
        The answer, and its certainty from 0 (a tie) to 1.
    """
    small = shrink(gray, 128 * 128)
    window = min(max(3, round(0.7 * min(small.shape))) | 1, 255)
    padded = cv2.copyMakeBorder(small, *(window // 2,) * 4, cv2.BORDER_REFLECT)
    paper = cv2.medianBlur(padded, window)[
        window // 2 : window // 2 + small.shape[0], window // 2 : window // 2 + small.shape[1]
    ]
    relief = small.astype(np.float32) - paper
    spread = float(np.sqrt((relief**2).mean()))
    if spread < 0.5:
        return bool(small.mean() < 128), 0.0
    skew = float((relief**3).mean()) / spread**3
    flat = np.clip(relief * 0.5 + 128, 0, 255).astype(np.uint8)
    threshold, _ = cv2.threshold(flat, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    dark = flat <= threshold
    border = np.concatenate((dark[0], dark[-1], dark[1:-1, 0], dark[1:-1, -1]))
    vote = 0.45 * (2 * border.mean() - 1) + 0.25 * (2 * dark.mean() - 1) + 0.3 * np.tanh(skew)
    return bool(vote > 0), float(min(1.0, abs(vote)))


def name_of(source: Any) -> str:
    """Return what readings call a source."""
    if isinstance(source, Page):
        return source.source
    if isinstance(source, PageOf):
        return source.name
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "<bytes>"
    if is_data_url(source):
        return "<data URL>"
    if isinstance(source, (str, os.PathLike)):
        return os.fsdecode(source)
    if _is_pil(source):
        return "<image>"
    if callable(getattr(source, "read", None)):
        given = getattr(source, "name", None)
        return given if isinstance(given, str) else "<file>"
    return "<array>"


def is_data_url(source: object) -> bool:
    """Return whether a source is the text of a data URL."""
    return isinstance(source, str) and source[:5].lower() == "data:"


def _content(stream: Any, name: str) -> bytes:
    """Return the rest of an open file."""
    try:
        content = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ImageError(
            f"cannot be read ({shortened(str(error))})", where=name, remedy="open the file again"
        ) from error
    if not isinstance(content, (bytes, bytearray)):
        raise ImageError("is open as text", where=name, remedy='open it with mode "rb"')
    if not content:
        raise ImageError(
            "is empty, or was read to its end",
            where=name,
            remedy="give a complete image file; seek(0) goes back to its start",
        )
    return bytes(content)


def _from_data_url(url: str, name: str) -> bytes:
    """Return the content of a data URL (RFC 2397)."""
    head, comma, body = url.partition(",")
    if not comma:
        raise ImageError(
            "has no comma before its data",
            where=shortened(url),
            remedy="write data:image/png;base64,…",
        )
    if not head.lower().replace(" ", "").endswith(";base64"):
        return urllib.parse.unquote_to_bytes(body)
    try:
        return from_base64(body)
    except ValueError as error:
        raise ImageError(
            "is not valid base64", where=name, remedy="encode the bytes of an image file"
        ) from error


def from_base64(text: str) -> bytes:
    """Return the bytes of base64 text, as browsers, JSON and URLs write it; white space is ignored.

    Raises:
        ValueError: it is not base64.
    """
    plain = "".join(urllib.parse.unquote(text).split()).replace("-", "+").replace("_", "/")
    plain = plain.rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error


_URL = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}(?!/)", re.I)


def _refused_path(source: "str | os.PathLike[str]", error: OSError) -> ImageError:
    """Return the error for a path that cannot be opened."""
    text = os.fsdecode(source)
    if match := _URL.match(text):
        # A URL that became a Path has only one slash left.
        return ImageError(
            "is a URL; images are read from this machine only",
            where=shortened(f"{match[1]}://{text[match.end() :]}"),
            remedy="download the file, or use digitry bulk",
        )
    if len(text) > 256 and re.fullmatch(r"[A-Za-z0-9+/=\s_-]+", text):
        return ImageError(
            "is not a path, but may be base64",
            where=shortened(text),
            remedy="write data:image/png;base64, before it",
        )
    return ImageError(
        f"cannot be opened ({error.strerror})", where=shortened(text), remedy="check the path"
    )


_PAGE = re.compile(r"(.+)#page=([1-9][0-9]{0,5})", re.S)


def _from_path(
    source: "str | os.PathLike[str]",
    name: str,
    max_pixels: int,
    page: int | None,
    document: Document | None,
) -> Page:
    try:
        path = Path(source)
        if page is None and not path.exists() and (match := _PAGE.fullmatch(os.fsdecode(source))):
            path, page = Path(match[1]), int(match[2])
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            # A pipe or a device, which may never end.
            content = files.read_bytes(path, MAX_BYTES)
            return _from_bytes(content, name, max_pixels, page, document)
        stream = path.open("rb")
    except OSError as error:
        raise _refused_path(source, error) from error
    except ValueError as error:
        raise ImageError(
            "is not a path", where=repr(shortened(name)), remedy="check the path"
        ) from error
    # The file is not read into memory here; only some decoders do that.
    with stream:
        pixels = decoded_from(
            stream, status.st_size, name, max_pixels, page, held=False, document=document
        )
    return Page(*pixels, name)


def _from_bytes(
    content: bytes, name: str, max_pixels: int, page: int | None, document: Document | None
) -> Page:
    pixels = decoded_from(
        io.BytesIO(content), len(content), name, max_pixels, page, held=True, document=document
    )
    return Page(*pixels, name)


def _from_array(array: npt.NDArray[Any], name: str, max_pixels: int) -> Page:
    array = arrays.one_image(array, name)
    height, width = array.shape[:2]
    check_size(width, height, name, max_pixels)
    pixels = grey_bytes(np.ascontiguousarray(arrays.eight_bits(array, name)))
    return Page(shrink(pixels, WORKING_PIXELS), width, height, name)


def _is_pil(source: object) -> bool:
    # If the caller has a PIL image, Pillow is imported already; otherwise do not import it here.
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(source, module.Image)
