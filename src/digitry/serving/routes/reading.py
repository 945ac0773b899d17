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

# --- reading ---------------------------------------------------------------------------------------


def add_reading(app: FastAPI) -> None:
    """Add the routes that read, list models and explain."""

    @app.post(
        "/v1/read",
        summary="Read the digits in one image or several",
        response_model=schema.ReadingsOut,
        responses=refusals(
            "body-too-slow", "body-too-large", "unsupported-media-type", "unreadable-image", "busy"
        ),
        openapi_extra={"requestBody": images_body()},
        tags=["reading"],
    )
    async def read(request: Request, options: Annotated[schema.ReadOptions, Query()]) -> Response:
        """Send images as multipart parts named `file`, or one image as the body itself.

        Among several images, those that cannot be read stand in `failed`, and the others are read.
        If none can be, the answer is 422.
        """
        service = service_of(request)
        check_model(service, options.model)
        images = await forms.images(request, service.limits)
        readings: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        for index, (name, content) in enumerate(images):
            try:
                examined = await examined_image(
                    service, content, name, options, glyphs=options.glyphs
                )
            except ImageError as error:
                detail = error.what + (f"; {error.remedy}" if error.remedy else "")
                failed.append({"index": index, "source": name or "<bytes>", "detail": detail})
            else:
                readings.append(_reading_json(examined))
        if not readings:
            raise Problem("unreadable-image", failed[0]["detail"], members={"failed": failed})
        return JSONResponse({"readings": readings, **({"failed": failed} if failed else {})})

    @app.get(
        "/v1/models",
        summary="List the models that this service reads with",
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
        summary="Show which parts of a glyph decided",
        response_model=schema.ExplainedOut,
        responses=refusals("body-too-large", "unsupported-media-type", "busy"),
        tags=["reading"],
    )
    async def explain(request: Request, question: schema.ExplainIn) -> Any:
        """Squares of the glyph are wiped out or filled; the fall of the probability is the weight."""
        explainer = service_of(request).explainer
        return {
            "weights": await run_in_threadpool(explainer.weights, question.glyph, question.value)
        }


async def examined_image(
    service: Service,
    content: bytes,
    name: str | None,
    options: schema.ReadOptions,
    *,
    glyphs: bool = False,
    crops: bool = False,
) -> Examined:
    """Return what was read on an image, within the time that the service allows.

    Raises:
        ImageError: it cannot be read, or takes too long.
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
            )
    except TimeoutError:
        service.metrics.images.labels("failed").inc()
        raise ImageError(
            f"took longer than {service.limits.read_seconds:g} s", where=name, remedy="shrink it"
        ) from None
    except ImageError:
        service.metrics.images.labels("failed").inc()
        raise
    service.metrics.reading(examined.reading)
    return examined


def _reading_json(examined: Examined) -> dict[str, Any]:
    content = examined.reading.to_dict()
    for digit, glyph in zip(content["digits"], examined.glyphs, strict=False):
        digit["glyph"] = "data:image/png;base64," + base64.b64encode(glyph).decode()
    return content


def _default_now(loaded: Artifact) -> str | None:
    """Give the version that the plain name of a model means now; None where that cannot be told."""
    if loaded.version is None:
        return None
    name = loaded.reference.partition("@")[0]
    try:
        return f"{name}@{versions.default_number(name) or versions.SHIPPED}"
    except ModelError:
        return None


def check_model(service: Service, name: str | None) -> None:
    """Refuse the name of a model that is not served here.

    Raises:
        Problem: it is another model.
    """
    # `reader` is whichever version is read with here; `reader@2` is that one.
    own = service.model.metadata.name
    if name not in (None, own, own.partition("@")[0], service.model.reference):
        raise Problem("invalid-option", "no such model is served here; see /v1/models")


def images_body() -> dict[str, Any]:
    """Return how OpenAPI describes a body of images."""
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
            "image/png": {"schema": binary},
            "image/jpeg": {"schema": binary},
            "application/octet-stream": {"schema": binary},
        },
    }
