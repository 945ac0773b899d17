"""Request bodies to images and form fields; parsed in memory, with limits on the number of parts."""

import asyncio
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from digitry.reading.image import from_base64, is_data_url
from digitry.serving import schema
from digitry.serving.guard import Limits
from digitry.serving.problems import Problem

IMAGE_TYPES = ("image/", "application/octet-stream", "application/pdf")
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
        # The name of a single file does not matter: every client has its own habit.
        alone = len(parts) == 1 and parts[0].is_file
        if not parts or not (alone or all(p.is_file and p.name == "file" for p in parts)):
            raise Problem("malformed-request", "send each image as a file in a part named file")
        return [(_plain_name(part.filename), part.content) for part in parts]
    if kind == "application/json":
        return _in_json(await request.body(), limits)
    if kind and not kind.startswith(IMAGE_TYPES):
        raise Problem(
            "unsupported-media-type",
            "send multipart/form-data with parts named file, one image with its Content-Type, such "
            "as image/png, or JSON with base64",
        )
    if not kind:
        raise Problem("unsupported-media-type", "add a Content-Type, such as image/png")
    return [(None, await request.body())]


def _in_json(body: bytes, limits: Limits) -> list[tuple[str | None, bytes]]:
    """Return the images of a JSON body, each base64 or a data URL.

    Raises:
        Problem: the body is not as `schema.ReadIn` says, or has too many images.
    """
    try:
        said = schema.ReadIn.model_validate_json(body)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        detail = f"{place}: {fault['msg']}" if place else str(fault["msg"])
        raise Problem("malformed-request", detail) from error
    texts = [said.image] if said.image is not None else said.images or []
    if not texts or (said.image is not None and said.images):
        raise Problem("malformed-request", "send either image or images, as base64 or data URLs")
    if len(texts) > limits.files:
        raise Problem("too-many-parts", f"send at most {limits.files} images")
    return [(None, _from_text(text)) for text in texts]


def _from_text(text: str) -> bytes:
    body = text.partition(",")[2] if is_data_url(text) else text
    try:
        return from_base64(body)
    except ValueError as error:
        raise Problem("malformed-request", "an image is not valid base64") from error


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
