"""One image of a request to its reading and, where asked for, to what the network saw of it.

This is the work of a worker process: bytes of a stranger come in, our own values and pictures go out.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from digitry.errors import DigitryError, ImageError, UsageError
from digitry.reading import image
from digitry.reading.reader import Layout, Reader
from digitry.reading.render import png
from digitry.reading.result import Box, Reading

MARGIN = 0.25
"""Paper around a digit in its picture, as a share of its height: enough for a person to judge by."""


@dataclass(frozen=True, slots=True)
class Examined:
    """A reading, and the pictures that were asked for.

    Attributes:
        reading: what was read.
        glyphs: of each digit the PNG of its 28x28 glyph, ink light on dark; or none.
        crops: of each digit the PNG of its place on the page, grey; or none.
    """

    reading: Reading
    glyphs: tuple[bytes, ...] = ()
    crops: tuple[bytes, ...] = ()


def examine(
    reader: Reader,
    content: bytes,
    *,
    name: str | None = None,
    layout: Layout = "auto",
    max_error: float | None = None,
    glyphs: bool = False,
    crops: bool = False,
) -> Examined:
    """Read one image.

    Args:
        reader: with the model.
        content: bytes of an image file.
        name: what the reading calls it.
        layout, max_error: see `Reader`.
        glyphs, crops: whether to give these pictures.

    Raises:
        ImageError: the image cannot be read.
        UsageError: an option makes no sense.
    """
    if max_error is not None:
        reader = reader.accepting(max_error)
    if not (glyphs or crops):
        return Examined(reader.read(content, layout=layout, name=name))
    reading, seen = reader.examine(content, layout=layout, name=name)
    pictures = tuple(png(np.rint(glyph * 255).astype(np.uint8)) for glyph in seen)
    if not crops:
        return Examined(reading, pictures)
    page = image.load(content, max_pixels=reader.max_pixels, name=name)
    cuts = tuple(png(_cut(page, digit.box)) for digit in reading.digits)
    return Examined(reading, pictures, cuts)


def fault(error: Exception) -> DigitryError:
    """Return what an image is told that could not be read.

    Beyond the decoder nothing should fail; if it does, or memory ends, it is this image's fault.
    """
    if isinstance(error, DigitryError):
        return error
    if isinstance(error, MemoryError) or "memory" in str(error).lower():
        return ImageError(image.NO_MEMORY, remedy="shrink it")
    return ImageError(f"cannot be read ({type(error).__name__})", remedy="please report it")


def answer(reader: Reader, content: bytes, **options: Any) -> dict[str, Any]:
    """Return what `examine` does as JSON, an error likewise: what a worker answers."""
    try:
        found = examine(reader, content, **options)
    except Exception as failure:  # noqa: BLE001 (it is the answer to this image)
        error = fault(failure)
        usage = isinstance(error, UsageError)
        return {"status": "failed", "usage": usage, "reason": error.what, "remedy": error.remedy}
    return {
        "status": "ok",
        **found.reading.to_dict(),
        "glyphs": [b64encode(picture).decode() for picture in found.glyphs],
        "crops": [b64encode(picture).decode() for picture in found.crops],
    }


def answered(row: Mapping[str, Any], name: str) -> Examined | DigitryError:
    """Return what `answer` was made from."""
    if row["status"] != "ok":
        kind = UsageError if row["usage"] else ImageError
        return kind(row["reason"], where=name, remedy=row["remedy"])
    pictures = (tuple(map(b64decode, row[key])) for key in ("glyphs", "crops"))
    return Examined(Reading.from_dict(row), *pictures)


def _cut(page: image.Page, box: Box) -> npt.NDArray[np.uint8]:
    margin = MARGIN * max(box.w, box.h)
    height, width = page.gray.shape
    left = max(0, int((box.x - margin) * page.scale))
    top = max(0, int((box.y - margin) * page.scale))
    right = min(width, int((box.right + margin) * page.scale) + 1)
    bottom = min(height, int((box.bottom + margin) * page.scale) + 1)
    return page.gray[top:bottom, left:right]
