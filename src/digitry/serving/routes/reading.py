"""Routes that read images, list models and explain a digit."""

import asyncio
import base64
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from digitry.errors import ImageError, ModelError
from digitry.model import versions
from digitry.model.artifact import Artifact
from digitry.serving import forms, schema
from digitry.serving.problems import Problem
from digitry.serving.service import Service, refusals, service_of
from digitry.workers.answer import Examined
from digitry.workers.pool import has_pages


def add_reading(app: FastAPI) -> None:
    """Add the routes that read images, list models and explain a digit."""

    @app.post(
        "/v1/read",
        summary="Read the digits in one or more images",
        response_model=schema.ReadingsOut,
        responses=refusals(
            "body-too-slow", "body-too-large", "unsupported-media-type", "unreadable-image", "busy"
        ),
        openapi_extra={"requestBody": images_body()},
        tags=["reading"],
    )
    async def read(request: Request, options: Annotated[schema.ReadOptions, Query()]) -> Response:
        """Send images as multipart parts named `file`, one image as the body itself, or JSON.

        A document gives one reading for each page, whose `source` ends with `#page=2`. If some of several
        images or pages cannot be read, they are listed in `failed`. If none can be read, the answer is
        422.
        """
        service = service_of(request)
        check_model(service, options.model)
        images = await forms.images(request, service.limits)
        readings: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        left = service.limits.pages
        for index, (name, content) in enumerate(images):
            pages = await _pages(service, content, name)
            left -= len(pages)
            if left < 0:
                raise Problem(
                    "too-many-parts", f"the images have more than {service.limits.pages} pages"
                )
            for page in pages:
                try:
                    examined = await examined_image(
                        service, content, name, options, glyphs=options.glyphs, page=page
                    )
                except ImageError as error:
                    detail = error.what + (f"; {error.remedy}" if error.remedy else "")
                    source = (name or "<bytes>") + ("" if page is None else f"#page={page}")
                    failed.append({"index": index, "source": source, "detail": detail})
                else:
                    readings.append(_reading_json(examined))
        if not readings:
            raise Problem("unreadable-image", failed[0]["detail"], members={"failed": failed})
        return JSONResponse({"readings": readings, **({"failed": failed} if failed else {})})

    @app.get(
        "/v1/models",
        summary="List the models of this service",
        response_model=schema.ModelsOut,
        tags=["reading"],
    )
    async def models(request: Request) -> Any:
        loaded = service_of(request).model
        facts = loaded.metadata
        now = await run_in_threadpool(_default_now, loaded)
        return {
            "models": [
                {
                    "name": facts.name,
                    "labels": list(facts.labels),
                    "glyph_version": facts.glyph_version,
                    "temperature": facts.temperature,
                    "sha256": loaded.sha256,
                    "bytes": len(loaded.onnx),
                    "created": facts.created,
                    "scores": dict(facts.scores),
                    "default": True,
                    "version": loaded.version,
                    "superseded_by": now if now != loaded.reference else None,
                }
            ]
        }

    @app.post(
        "/v1/explain",
        summary="Show which parts of a glyph the answer depends on",
        response_model=schema.ExplainedOut,
        responses=refusals("body-too-large", "unsupported-media-type", "busy"),
        tags=["reading"],
    )
    async def explain(request: Request, question: schema.ExplainIn) -> Any:
        """Squares of the glyph are erased or filled; the weight is the drop of the probability."""
        explainer = service_of(request).explainer
        return {
            "weights": await run_in_threadpool(explainer.weights, question.glyph, question.value)
        }


async def _pages(service: Service, content: bytes, name: str | None) -> list[int | None]:
    """Return the numbers of the pages of a document; [None] for any other image."""
    if not has_pages(content):
        return [None]
    try:
        async with asyncio.timeout(service.limits.read_seconds):
            count = await service.readers.count_pages(content, name=name)
    except (TimeoutError, ImageError):
        # Reading it says why.
        return [None]
    return [None] if count == 1 else [*range(1, count + 1)]


async def examined_image(
    service: Service,
    content: bytes,
    name: str | None,
    options: schema.ReadOptions,
    *,
    glyphs: bool = False,
    crops: bool = False,
    page: int | None = None,
) -> Examined:
    """Return what was read from an image, or a page of a document, within the time limit of the service.

    Raises:
        ImageError: the image cannot be read, or takes too long.
        UnavailableError: every worker is busy.
    """
    try:
        async with asyncio.timeout(service.limits.read_seconds):
            examined = await service.readers.examine(
                content,
                name=name,
                layout=options.layout,
                max_error=options.max_error,
                glyphs=glyphs,
                crops=crops,
                picture=options.picture,
                page=page,
            )
    except TimeoutError:
        service.metrics.images.labels("failed").inc()
        raise ImageError(
            f"took too long: more than {service.limits.read_seconds:g} s",
            where=name,
            remedy="crop it to the digits, or reduce it",
        ) from None
    except ImageError:
        service.metrics.images.labels("failed").inc()
        raise
    service.metrics.reading(examined.reading)
    return examined


def _reading_json(examined: Examined) -> dict[str, Any]:
    content = examined.reading.to_dict()
    if examined.picture:
        picture = base64.b64encode(examined.picture).decode()
        content["picture"] = "data:image/jpeg;base64," + picture
    for digit, glyph in zip(content["digits"], examined.glyphs, strict=False):
        digit["glyph"] = "data:image/png;base64," + base64.b64encode(glyph).decode()
    return content


def _default_now(loaded: Artifact) -> str | None:
    """Return the version that the plain name of the model stands for now; None if not known."""
    if loaded.version is None:
        return None
    name = loaded.reference.partition("@")[0]
    try:
        return f"{name}@{versions.default_number(name) or versions.SHIPPED}"
    except ModelError:
        return None


def check_model(service: Service, name: str | None) -> None:
    """Check that a model is served here.

    Raises:
        Problem: it is not.
    """
    # `reader` means the version that is served, whichever it is; `reader@2` means exactly version 2.
    own = service.model.metadata.name
    if name not in (None, own, own.partition("@")[0], service.model.reference):
        raise Problem("invalid-option", "this model is not served here; see /v1/models")


def images_body() -> dict[str, Any]:
    """Return the description of a body of images for OpenAPI."""
    binary = {"type": "string", "format": "binary"}
    return {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "array", "items": binary, "minItems": 1}},
                    "additionalProperties": False,
                }
            },
            "application/json": {"schema": schema.ReadIn.model_json_schema()},
            "application/pdf": {"schema": binary},
            "image/png": {"schema": binary},
            "image/jpeg": {"schema": binary},
            "application/octet-stream": {"schema": binary},
        },
    }
