"""Request bodies to images and form fields; parsed in memory, with limits on the number of parts."""

import asyncio
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from digitry.serving.guard import Limits
from digitry.serving.problems import Problem

IMAGE_TYPES = ("image/", "application/octet-stream")
LONGEST_NAME = 200


class _Parser(MultiPartParser):
    # The body is already in memory and limited in size: no part needs a temporary file.
    spool_max_size = 1 << 30


async def images(request: Request, limits: Limits) -> list[tuple[str | None, bytes]]:
    """Return the images of a request, each with its name or None.

    Raises:
        Problem: the body is not made of images, or has too many parts.
    """
    kind = _media_type(request)
    if kind == "multipart/form-data":
        parts = await form(request, limits)
        if any(not part.is_file or part.name != "file" for part in parts) or not parts:
            raise Problem("malformed-request", "send each image as a file in a part named file")
        return [(_plain_name(part.filename), part.content) for part in parts]
    if kind and not kind.startswith(IMAGE_TYPES):
        raise Problem(
            "unsupported-media-type",
            "send multipart/form-data with parts named file, or one image with its "
            "Content-Type, such as image/png",
        )
    if not kind:
        raise Problem("unsupported-media-type", "add a Content-Type, such as image/png")
    return [(None, await request.body())]


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a form."""

    name: str
    content: bytes
    is_file: bool
    filename: str | None = None


async def form(request: Request, limits: Limits) -> list[Part]:
    """Return the parts of a form, in order.

    Raises:
        Problem: the body is not a form, or has too many parts.
    """
    if _media_type(request) != "multipart/form-data":
        raise Problem("unsupported-media-type", "send multipart/form-data")
    parser = _Parser(
        request.headers,
        _pieces(await request.body()),
        max_files=limits.files,
        max_fields=limits.form_fields,
        max_part_size=4096,
    )
    try:
        parsed = await parser.parse()
    except MultiPartException as error:
        if "Too many" in error.message:
            raise Problem("too-many-parts", error.message) from error
        raise Problem("malformed-request", error.message) from error
    except (KeyError, ValueError, LookupError) as error:
        # The parser does not handle a missing boundary or an unknown charset.
        raise Problem("malformed-request", "the multipart body cannot be parsed") from error
    parts = []
    for name, value in parsed.multi_items():
        if isinstance(value, UploadFile):
            parts.append(Part(name, await value.read(), True, value.filename))
        else:
            parts.append(Part(name, value.encode(errors="replace"), False))
    await parsed.close()
    return parts


async def _pieces(body: bytes) -> AsyncGenerator[bytes, None]:
    """Yield a body in pieces, so that other requests are served in between."""
    for start in range(0, len(body), 1 << 16):
        yield body[start : start + (1 << 16)]
        await asyncio.sleep(0)


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _plain_name(name: str | None) -> str | None:
    """Return the last part of a file's path, without control characters."""
    plain = re.sub(r"[\x00-\x1f\x7f]", "", re.split(r"[\\/]", name or "")[-1]).strip()
    return plain[:LONGEST_NAME] or None
