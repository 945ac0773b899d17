"""Routes that store, list, show and undo corrections."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from digitry.corrections.correction import Correction, LineCorrection, checked_text
from digitry.errors import UsageError
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
from digitry.workers.answer import PicturedReading

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
    summary="Correct a digit or a line of an image",
    response_model=schema.CorrectionOut | schema.LineCorrectionOut,
    status_code=201,
    responses={
        200: {
            "model": schema.CorrectionOut | schema.LineCorrectionOut,
            "description": "The same correction is already stored",
        },
        **_REFUSED,
        **refusals(
            "body-too-slow",
            "body-too-large",
            "unsupported-media-type",
            "no-such-digit",
            "no-such-line",
            "busy",
        ),
    },
    openapi_extra={"requestBody": _correction_body()},
)
async def correct(request: Request) -> Response:
    """Send the image, and of a digit its box and the correct `label`; or of a line its box and the `text`.

    Boxes are those that `/v1/read` returned. The image is read again with the given options, so that the
    service stores only what it has read itself. It stores the picture of the digit or line, encoded
    again, without the rest of the image or its metadata. The correction is on disk before the answer is
    sent.
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
        {
            "layout": said.layout,
            "max_error": said.max_error,
            "pattern": said.pattern,
            "region": said.region,
        }
    )
    if (said.label is None) == (said.text is None):
        raise Problem("invalid-option", "send label, of a digit, or text, of a line")
    try:
        text = None if said.text is None else checked_text(said.text)
    except UsageError as error:
        raise Problem("invalid-option", f"{error.what}; {error.remedy}") from error
    digit = text is None
    pictured = await read_image(
        service, content, None, options,
        glyphs=digit, crops=digit, strips=not digit, template=template, page=said.page,
    )  # fmt: skip
    box = [int(part) for part in said.box.split(",")]
    kept: Correction | LineCorrection
    if text is None:
        kept, new = await run_in_threadpool(service.store.add, _of_digit(pictured, box, said))
    else:
        line = _of_line(pictured, box, text, said.author)
        kept, new = await run_in_threadpool(service.store.add_line, line)
    service.metrics.corrections.labels("kept" if new else "known").inc()
    return JSONResponse(
        kept.to_dict(),
        201 if new else 200,
        headers={"Location": f"/v1/corrections/{kept.id}"},
    )


def _of_digit(pictured: PicturedReading, box: list[int], said: schema.CorrectionIn) -> Correction:
    found = [
        index for index, digit in enumerate(pictured.reading.digits) if digit.box.to_list() == box
    ]
    if not found:
        raise Problem("no-such-digit", "set box to the x,y,w,h of a digit from /v1/read")
    digit = pictured.reading.digits[found[0]]
    return Correction(
        label=said.label or "",
        glyph=pictured.glyphs[found[0]],
        crop=pictured.crops[found[0]],
        read_value=digit.value,
        best_guess=digit.alternatives[0][0],
        confidence=digit.confidence,
        reason=digit.reason,
        model=pictured.reading.model,
        author=said.author,
    )


def _of_line(pictured: PicturedReading, box: list[int], text: str, author: str) -> LineCorrection:
    lines = pictured.reading.lines
    found = [index for index, line in enumerate(lines) if line.box.to_list() == box]
    if not found:
        raise Problem("no-such-line", "set box to the x,y,w,h of a line from /v1/read")
    line = lines[found[0]]
    x, y, w, h = box
    return LineCorrection(
        text=text,
        strip=pictured.strips[found[0]],
        read_text=line.text[:400],
        confidence=line.confidence,
        box=(x, y, w, h),
        model=pictured.lines,
        author=author,
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
    chosen = options.model_dump()
    rows: Sequence[Correction | LineCorrection]
    if chosen.pop("lines"):
        if chosen.pop("label") is not None:
            raise Problem("invalid-option", "label lists digits; leave it out with lines")
        rows = await run_in_threadpool(store.lines, **chosen)
    else:
        rows = await run_in_threadpool(store.list, **chosen)
    return {"corrections": [row.to_dict() for row in rows]}


@router.get(
    "/v1/corrections/{id}",
    summary="Show one correction",
    response_model=schema.CorrectionOut | schema.LineCorrectionOut,
    responses={**_REFUSED, **refusals("not-found")},
)
async def one(request: Request, id: schema.Id) -> Any:
    """An undone correction is shown, too."""
    return (await _kept(request, id)).to_dict()


@router.get(
    "/v1/corrections/{id}/{picture}",
    summary="Show the picture of a corrected digit or line",
    response_class=Response,
    responses={
        200: {"content": {"image/png": {}}, "description": "PNG"},
        **_REFUSED,
        **refusals("not-found"),
    },
)
async def picture(
    request: Request, id: schema.Id, picture: Literal["glyph.png", "crop.png", "strip.png"]
) -> Response:
    """Of a digit `glyph.png`, the network's input, and `crop.png`, its place; of a line `strip.png`."""
    correction = await _kept(request, id)
    if isinstance(correction, LineCorrection) != (picture == "strip.png"):
        raise Problem("not-found", "this correction has no such picture")
    if isinstance(correction, LineCorrection):
        content = correction.strip
    else:
        content = correction.glyph if picture == "glyph.png" else correction.crop
    return Response(content, media_type="image/png")


@router.delete(
    "/v1/corrections/{id}",
    summary="Undo a correction",
    response_model=schema.CorrectionOut | schema.LineCorrectionOut,
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


async def _kept(request: Request, id: str) -> Correction | LineCorrection:
    correction = await run_in_threadpool(service_of(request).store.get, id)
    if correction is None:
        raise Problem("not-found", "there is no correction with this id")
    return correction
