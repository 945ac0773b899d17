"""One image to its reading and, on request, to pictures of its digits.

This runs in a worker process: untrusted bytes come in, plain JSON and our own PNGs go out.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from digitry.errors import DigitryError, ImageError, UsageError
from digitry.reading import image
from digitry.reading.decoding import NO_MEMORY
from digitry.reading.reader import Reader
from digitry.reading.recognise import Layout
from digitry.reading.render import jpeg, png
from digitry.reading.result import Box, Reading, reading_from
from digitry.reading.template import unpacked

PICTURE_SIDE = 1600
"""Longer side of the picture of a page, in pixels, at most."""

MARGIN = 0.25
"""Paper around a digit in its crop, as a share of its longer side: enough for a person to judge."""


@dataclass(frozen=True, slots=True)
class PicturedReading:
    """A reading, and the requested pictures.

    Attributes:
        reading: the result of reading the image.
        glyphs: for each digit the PNG of its 28x28 glyph, ink light on dark; empty if not requested.
        crops: for each digit the grey PNG of its place on the page; empty if not requested.
        picture: the upright page as a grey JPEG; empty if not requested.
        strips: for each line the PNG of what the line network saw, ink light on dark; empty if not
            requested.
        lines: the line network that read it.
    """

    reading: Reading
    glyphs: tuple[bytes, ...] = ()
    crops: tuple[bytes, ...] = ()
    picture: bytes = b""
    strips: tuple[bytes, ...] = ()
    lines: str = ""


def read_with_pictures(
    reader: Reader,
    content: bytes | image.PageOf,
    *,
    name: str | None = None,
    layout: Layout = "auto",
    max_error: float | None = None,
    glyphs: bool = False,
    crops: bool = False,
    picture: bool = False,
    pattern: str | None = None,
    region: str | None = None,
    template: Mapping[str, Any] | None = None,
    strips: bool = False,
) -> PicturedReading:
    """Return the reading of one image, and pictures of its digits.

    Args:
        reader: reads the image.
        content: bytes of an image file, or a page of a document.
        name: the name of the image in the reading.
        layout, max_error: see `Reader`.
        glyphs, crops, picture: whether to add these pictures.
        pattern, region: see `Reader`.
        template: of a form, as `Template.packed` returns it.
        strips: whether to add the pictures of the lines, and none of the others.

    Raises:
        ImageError: the image cannot be read.
        UsageError: an option is not valid.
    """
    if max_error is not None:
        reader = reader.accepting(max_error)
    if pattern is not None:
        reader = reader.within(pattern)
    if region is not None:
        reader = reader.at(region)
    if template is not None:
        reader = reader.on_form(unpacked(template))
    if strips:
        reading, inks = reader.examine_lines(content, layout=layout, name=name)
        return PicturedReading(
            reading, strips=tuple(png(ink) for ink in inks), lines=reader.lines.reference
        )
    if not (glyphs or crops or picture):
        return PicturedReading(reader.read(content, layout=layout, name=name))
    reading, seen = reader.examine(content, layout=layout, name=name)
    pictures = tuple(png(np.rint(glyph * 255).astype(np.uint8)) for glyph in seen)
    if not (crops or picture):
        return PicturedReading(reading, pictures)
    page = image.load(content, max_pixels=reader.max_pixels, name=name).turned(reading.turned)
    cuts = tuple(png(_cut(page, digit.box)) for digit in reading.digits) if crops else ()
    return PicturedReading(
        reading, pictures, cuts, jpeg(page.gray, PICTURE_SIDE) if picture else b""
    )


def fault(error: Exception) -> DigitryError:
    """Return the error to report for an image that could not be read.

    Only decoding should fail. Any other exception, and running out of memory, is reported for the image.
    """
    if isinstance(error, DigitryError):
        return error
    if isinstance(error, MemoryError) or "memory" in str(error).lower():
        return ImageError(NO_MEMORY, remedy="shrink it")
    return ImageError(f"cannot be read ({type(error).__name__})", remedy="please report this")


def answer(
    reader: Reader, content: bytes | image.PageOf, *, count: bool = False, **options: Any
) -> dict[str, Any]:
    """Return the result or the error of `read_with_pictures` as JSON: the answer of a worker.

    Args:
        reader, content: see `read_with_pictures`.
        count: whether to only count the pages of the content.
        options: the other arguments of `read_with_pictures`.
    """
    try:
        if count:
            return {"status": "ok", "pages": image.count_pages(content, name=options.get("name"))}
        found = read_with_pictures(reader, content, **options)
    except Exception as failure:  # noqa: BLE001 (the error is the answer)
        error = fault(failure)
        usage = isinstance(error, UsageError)
        # Of an option: which one, and where in it. A place in an image is its name, which the caller knows.
        what = f"{error.where}: {error.what}" if usage and error.where else error.what
        return {"status": "failed", "usage": usage, "reason": what, "remedy": error.remedy}
    return {
        "status": "ok",
        **found.reading.to_dict(),
        "glyphs": [b64encode(picture).decode() for picture in found.glyphs],
        "crops": [b64encode(picture).decode() for picture in found.crops],
        "picture": b64encode(found.picture).decode(),
        "strips": [b64encode(picture).decode() for picture in found.strips],
        "line_network": found.lines,
    }


def counted(row: Mapping[str, Any], name: str) -> int | DigitryError:
    """Return the number of pages, or the error, that `answer` encoded."""
    if row["status"] != "ok":
        return ImageError(row["reason"], where=name, remedy=row["remedy"])
    return int(row["pages"])


def answered(row: Mapping[str, Any], name: str) -> PicturedReading | DigitryError:
    """Return the result or the error that `answer` encoded.

    Args:
        row: the answer of a worker.
        name: the name of the image.
    """
    if row["status"] != "ok":
        if row["usage"]:
            return UsageError(row["reason"], remedy=row["remedy"])
        return ImageError(row["reason"], where=name, remedy=row["remedy"])
    glyphs, crops, strips = (tuple(map(b64decode, row[k])) for k in ("glyphs", "crops", "strips"))
    picture = b64decode(row["picture"])
    return PicturedReading(reading_from(row), glyphs, crops, picture, strips, row["line_network"])


def _cut(page: image.Page, box: Box) -> npt.NDArray[np.uint8]:
    margin = MARGIN * max(box.w, box.h)
    height, width = page.gray.shape
    left = max(0, int((box.x - margin) * page.scale))
    top = max(0, int((box.y - margin) * page.scale))
    right = min(width, int((box.right + margin) * page.scale) + 1)
    bottom = min(height, int((box.bottom + margin) * page.scale) + 1)
    return page.gray[top:bottom, left:right]
