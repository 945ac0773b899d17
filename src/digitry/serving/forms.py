"""Request bodies to images, options and templates; parsed in memory, with limits on the number of parts."""

import asyncio
import base64
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from digitry.reading.image import from_base64, is_data_url
from digitry.reading.template import MOST_TEXT
from digitry.serving import schema
from digitry.serving.guard import Limits
from digitry.serving.problems import Problem

IMAGE_TYPES = ("image/", "application/octet-stream", "application/pdf")
LONGEST_NAME = 200
_TEMPLATE_PARTS = ("template", "reference")
"""File parts that are no images, where there are others."""


class _Parser(MultiPartParser):
    # The body is already in memory and limited in size: no part needs a temporary file.
    spool_max_size = 1 << 30


@dataclass(frozen=True, slots=True)
class Sent:
    """What the body of a request holds.

    Attributes:
        images: each with its name or None.
        options: options by name, as they were sent.
        template: of a form, as `digitry.reading.template.unpacked` takes it, not checked; or None.
    """

    images: list[tuple[str | None, bytes]]
    options: dict[str, Any]
    template: dict[str, Any] | None = None


async def sent(request: Request, limits: Limits) -> Sent:
    """Return what a request holds.

    Raises:
        Problem: the body is not made of images and options, or has too many parts.
    """
    kind = _media_type(request)
    if kind == "multipart/form-data":
        return in_form(await form(request, limits))
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
    return Sent([(None, await request.body())], {})


def in_form(parts: "list[Part]") -> Sent:
    """Return what the parts of a form hold.

    Raises:
        Problem: no part is an image, or a name is given twice.
    """
    files = [part for part in parts if part.is_file]
    # The name of a single file does not matter: every client has its own habit.
    special = [part for part in files if part.name in _TEMPLATE_PARTS and len(files) > 1]
    pictures = [part for part in files if part not in special]
    fields = [part for part in parts if not part.is_file]
    if not pictures or (len(pictures) > 1 and any(part.name != "file" for part in pictures)):
        raise Problem("malformed-request", "send each image as a file in a part named file")
    once = [part.name for part in special + fields]
    if len(set(once)) < len(once):
        raise Problem("malformed-request", "send template, reference and each option once")
    by_name = {part.name: part.content for part in special}
    return Sent(
        [(_plain_name(part.filename), part.content) for part in pictures],
        {part.name: part.content.decode() for part in fields},
        _template(by_name.get("template"), by_name.get("reference")),
    )


def _template(toml: bytes | None, reference: bytes | None) -> dict[str, Any] | None:
    if toml is None:
        if reference is not None:
            raise Problem("malformed-request", "reference needs a template")
        return None
    if len(toml) > MOST_TEXT:
        raise Problem("invalid-option", f"the template is larger than {MOST_TEXT >> 10} kB")
    try:
        text = toml.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Problem("invalid-option", "the template is not UTF-8 text") from error
    # A worker parses it: nothing that a client sends is parsed without limits on time and memory.
    held = None if reference is None else base64.b64encode(reference).decode()
    return {"toml": text, "reference": held}


def _in_json(body: bytes, limits: Limits) -> Sent:
    """Return what a JSON body holds; images are base64 or data URLs.

    Raises:
        Problem: the body is not as `schema.ReadIn` says, or has too many images.
    """
    try:
        said = schema.ReadIn.model_validate_json(body, strict=True)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        detail = f"{place}: {fault['msg']}" if place else str(fault["msg"])
        known = fault["loc"][:1] in [(name,) for name in schema.ReadOptions.model_fields]
        raise Problem("invalid-option" if known else "malformed-request", detail) from error
    texts = [said.image] if said.image is not None else said.images or []
    if not texts or (said.image is not None and said.images):
        raise Problem("malformed-request", "send either image or images, as base64 or data URLs")
    if len(texts) > limits.files:
        raise Problem("too-many-parts", f"send at most {limits.files} images")
    options = said.model_dump(include=said.model_fields_set - {"image", "images"})
    template = None
    if isinstance(said.template, schema.TemplateIn):
        del options["template"]
        held = said.template.reference
        template = _template(
            said.template.toml.encode(errors="replace"), None if held is None else _from_text(held)
        )
    return Sent([(None, _from_text(text)) for text in texts], options, template)


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
