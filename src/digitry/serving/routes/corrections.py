"""Routes that store, list, show and undo corrections."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from digitry.corrections.correction import Correction
from digitry.serving import forms, schema
from digitry.serving.problems import Problem
from digitry.serving.service import (
    check_model,
    read_image,
    refusals,
    service_of,
    template_of,
    validated,
)

router = APIRouter(tags=["corrections"])
_REFUSED = refusals("store-unavailable", "store-full")


def _correction_body() -> dict[str, Any]:
    fields = schema.CorrectionIn.model_json_schema()
    binary = {"type": "string", "format": "binary"}
    fields["properties"] |= {"file": binary, "reference": binary}
    fields["required"] = ["file", *fields["required"]]
    return {"required": True, "content": {"multipart/form-data": {"schema": fields}}}


@router.post(
    "/v1/corrections",
    summary="Correct a digit of an image",
    response_model=schema.CorrectionOut,
    status_code=201,
    responses={
        200: {
            "model": schema.CorrectionOut,
            "description": "The same correction is already stored",
        },
        **_REFUSED,
        **refusals(
            "body-too-slow",
            "body-too-large",
            "unsupported-media-type",
            "no-such-digit",
            "busy",
        ),
    },
    openapi_extra={"requestBody": _correction_body()},
)
async def correct(request: Request) -> Response:
    """Send the image, the box of the digit as returned by `/v1/read`, and the correct label.

    The image is read again with the given options, so that the service stores only what it has read
    itself. It stores the digit's picture, encoded again, without the rest of the image or its
    metadata. The correction is on disk before the answer is sent.
    """
    service = service_of(request)
    parts = await forms.form(request, service.limits)
    if sum(part.is_file and part.name == "file" for part in parts) != 1:
        raise Problem("malformed-request", "send exactly one image, as a file in a part named file")
    body = forms.in_form(parts)
    said = validated(schema.CorrectionIn, body.options)
    check_model(service, said.model)
    template = template_of(service, said.template, body)
    ((_, content),) = body.images
    options = schema.ReadOptions.model_validate(
        {"layout": said.layout, "max_error": said.max_error, "pattern": said.pattern}
    )
    pictured = await read_image(
        service, content, None, options, glyphs=True, crops=True, template=template, page=said.page
    )
    box = [int(part) for part in said.box.split(",")]
    found = [
        index for index, digit in enumerate(pictured.reading.digits) if digit.box.to_list() == box
    ]
    if not found:
        raise Problem("no-such-digit", "set box to the x,y,w,h of a digit from /v1/read")
    digit = pictured.reading.digits[found[0]]
    correction = Correction(
        label=said.label,
        glyph=pictured.glyphs[found[0]],
        crop=pictured.crops[found[0]],
        read_value=digit.value,
        best_guess=digit.alternatives[0][0],
        confidence=digit.confidence,
        reason=digit.reason,
        model=pictured.reading.model,
        author=said.author,
    )
    kept, new = await run_in_threadpool(service.store.add, correction)
    service.metrics.corrections.labels("kept" if new else "known").inc()
    return JSONResponse(
        kept.to_dict(),
        201 if new else 200,
        headers={"Location": f"/v1/corrections/{kept.id}"},
    )


@router.get(
    "/v1/corrections",
    summary="List corrections, newest first",
    response_model=schema.CorrectionsOut,
    responses=_REFUSED,
)
async def listed(request: Request, options: Annotated[schema.ListOptions, Query()]) -> Any:
    """Undone corrections are listed only if `undone` is true."""
    store = service_of(request).store
    rows = await run_in_threadpool(store.list, **options.model_dump())
    return {"corrections": [row.to_dict() for row in rows]}


@router.get(
    "/v1/corrections/{id}",
    summary="Show one correction",
    response_model=schema.CorrectionOut,
    responses={**_REFUSED, **refusals("not-found")},
)
async def one(request: Request, id: schema.Id) -> Any:
    """An undone correction is shown, too."""
    return (await _kept(request, id)).to_dict()


@router.get(
    "/v1/corrections/{id}/{picture}",
    summary="Show the picture of a corrected digit",
    response_class=Response,
    responses={
        200: {"content": {"image/png": {}}, "description": "PNG"},
        **_REFUSED,
        **refusals("not-found"),
    },
)
async def picture(
    request: Request, id: schema.Id, picture: Literal["glyph.png", "crop.png"]
) -> Response:
    """`glyph.png` is the network's input, `crop.png` the digit's place on the page."""
    correction = await _kept(request, id)
    content = correction.glyph if picture == "glyph.png" else correction.crop
    return Response(content, media_type="image/png")


@router.delete(
    "/v1/corrections/{id}",
    summary="Undo a correction",
    response_model=schema.CorrectionOut,
    responses={**_REFUSED, **refusals("not-found")},
)
async def undo(request: Request, id: schema.Id) -> Any:
    """It is no longer listed or used for training. Undoing it again changes nothing."""
    service = service_of(request)
    correction = await run_in_threadpool(service.store.undo, id)
    if correction is None:
        raise Problem("not-found", "there is no correction with this id")
    service.metrics.corrections.labels("undone").inc()
    return correction.to_dict()


async def _kept(request: Request, id: str) -> Correction:
    correction = await run_in_threadpool(service_of(request).store.get, id)
    if correction is None:
        raise Problem("not-found", "there is no correction with this id")
    return correction
