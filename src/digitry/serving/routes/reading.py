"""Routes that read images, list models and explain a digit."""

import base64
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from digitry.errors import ImageError, ModelError
from digitry.model import versions
from digitry.model.artifact import Artifact
from digitry.serving import forms, schema
from digitry.serving.problems import Problem
from digitry.serving.service import (
    check_model,
    options_of,
    pages_in,
    read_image,
    refusals,
    service_of,
    template_of,
)
from digitry.workers.answer import PicturedReading

router = APIRouter(tags=["reading"])


def _images_body() -> dict[str, Any]:
    """Return the description of a body of images for OpenAPI."""
    binary = {"type": "string", "format": "binary"}
    return {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "array", "items": binary, "minItems": 1},
                        "template": {**binary, "description": "A template (TOML), or its name."},
                        "reference": {**binary, "description": "The blank form's picture."},
                        **{
                            name: {"type": "string", "description": field.description}
                            for name, field in schema.ReadOptions.model_fields.items()
                            if name != "template"
                        },
                    },
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


@router.post(
    "/v1/read",
    summary="Read the digits in one or more images",
    response_model=schema.ReadingsOut,
    responses=refusals(
        "body-too-slow", "body-too-large", "unsupported-media-type", "unreadable-image", "busy"
    ),
    openapi_extra={"requestBody": _images_body()},
)
async def read(request: Request, options: Annotated[schema.ReadOptions, Query()]) -> Response:
    """Send images as multipart parts named `file`, one image as the body itself, or JSON.

    Options are in the query, or fields of the form or of the JSON. With a template, each image is a form.
    A document gives one reading for each page, whose `source` ends with `#page=2`. If some of several
    images or pages cannot be read, they are listed in `failed`. If none can be read, the answer is 422.
    """
    service = service_of(request)
    body = await forms.sent(request, service.limits)
    options = options_of(options, body)
    check_model(service, options.model)
    template = template_of(service, options.template, body)
    readings: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    left = service.limits.pages

    def fail(index: int, source: str, error: ImageError) -> None:
        detail = error.what + (f"; {error.remedy}" if error.remedy else "")
        failed.append({"index": index, "source": source, "detail": detail})

    for index, (name, content) in enumerate(body.images):
        source = name or "<bytes>"
        try:
            pages = await pages_in(service, content, name)
        except ImageError as error:
            fail(index, source, error)
            continue
        left -= len(pages)
        if left < 0:
            raise Problem(
                "too-many-parts", f"the images have more than {service.limits.pages} pages"
            )
        for page in pages:
            try:
                pictured = await read_image(
                    service, content, name, options, glyphs=options.glyphs, template=template,
                    page=page,
                )  # fmt: skip
            except ImageError as error:
                fail(index, source if page is None else f"{source}#page={page}", error)
            else:
                readings.append(_reading_json(pictured))
    if not readings:
        raise Problem("unreadable-image", failed[0]["detail"], members={"failed": failed})
    return JSONResponse({"readings": readings, **({"failed": failed} if failed else {})})


@router.get(
    "/v1/templates",
    summary="List the templates of this service",
    response_model=schema.TemplatesOut,
)
async def templates(request: Request) -> Any:
    """The forms that `template` of `/v1/read` can name: `digitry serve --template FILE`."""
    return {
        "templates": [
            {
                "name": name,
                "reference": template.reference is not None,
                "fields": [
                    {
                        "name": field.name,
                        "box": field.box,
                        "pattern": field.pattern,
                        "layout": field.layout,
                        "empty": field.empty,
                    }
                    for field in template.fields
                ],
            }
            for name, template in service_of(request).templates.items()
        ]
    }


@router.get(
    "/v1/models",
    summary="List the models of this service",
    response_model=schema.ModelsOut,
)
async def models(request: Request) -> Any:
    """`superseded_by` names a version that became the default after this service was started."""
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


@router.post(
    "/v1/explain",
    summary="Show which parts of a glyph the answer depends on",
    response_model=schema.ExplainedOut,
    responses=refusals("body-too-large", "unsupported-media-type", "busy"),
)
async def explain(request: Request, question: schema.ExplainIn) -> Any:
    """Squares of the glyph are erased or filled; the weight is the drop of the probability."""
    explainer = service_of(request).explainer
    return {"weights": await run_in_threadpool(explainer.weights, question.glyph, question.value)}


def _reading_json(pictured: PicturedReading) -> dict[str, Any]:
    content = pictured.reading.to_dict()
    if pictured.picture:
        picture = base64.b64encode(pictured.picture).decode()
        content["picture"] = "data:image/jpeg;base64," + picture
    for digit, glyph in zip(content["digits"], pictured.glyphs, strict=False):
        digit["glyph"] = "data:image/png;base64," + base64.b64encode(glyph).decode()
    return content


def _default_now(loaded: Artifact) -> str | None:
    """Return the version that the plain name of the model stands for now; None if not known."""
    if loaded.version is None:
        return None
    name = loaded.reference.partition("@")[0]
    try:
        return f"{name}@{versions.default_number(name) or versions.SHIPPED_VERSION}"
    except ModelError:
        return None
