"""The page and the HTTP API: what a request asks, handed to readers and the store; what they say, as JSON.

No route takes an address, a path of this machine or a model file. Images are decoded where `readers`
does it, and are not kept unless somebody corrects what was read.
"""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from digitry import __version__, artifact, shelf
from digitry.artifact import Artifact
from digitry.errors import DigitryError, ImageError, ModelError, UnavailableError, UsageError
from digitry.serving import bodies, inference, metrics, schema
from digitry.serving.corrections import Correction, Corrections, StoreError, StoreFullError
from digitry.serving.examine import Examined
from digitry.serving.guard import Guard, Hosts, Limits
from digitry.serving.problems import KINDS, TYPE, Problem, busy
from digitry.serving.readers import Readers

PAGE = {
    "index.html": "text/html; charset=utf-8",
    "docs.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""Files of the page beside its modules, with their types."""

READING = ["GET", "HEAD"]


@dataclass(frozen=True)
class Service:
    """What the routes work with."""

    readers: Readers
    store: Corrections
    model: Artifact
    glyph_model: inference.GlyphModel
    limits: Limits
    metrics: metrics.Metrics


def create_app(
    readers: Readers,
    store: Corrections,
    *,
    model: Artifact | None = None,
    limits: Limits | None = None,
    hosts: Hosts | None = None,
    token: str | None = None,
) -> FastAPI:
    """Build the service as an ASGI application.

    Args:
        readers: who reads the images; closed when the application ends.
        store: where corrections are kept; closed when the application ends.
        model: what the readers read with; the shipped one if None.
        limits: see `Limits`.
        hosts: the names under which it may be called; this machine's loopback if None.
        token: what every client must show, or None.

    Raises:
        ModelError: the model is missing or damaged.
    """
    model = artifact.load("reader") if model is None else model
    limits = limits or Limits()
    counted = metrics.Metrics()
    service = Service(readers, store, model, inference.GlyphModel(model), limits, counted)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        readers.close()
        store.close()

    app = FastAPI(
        title="digitry",
        version=__version__,
        description="Reads handwritten digits from images, and keeps what people correct.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses=_refusals("malformed-request", "token-needed", "foreign-origin", "foreign-host"),
        license_info={"name": "Apache-2.0"},
    )
    app.state.service = service
    app.add_middleware(Guard, limits=limits, hosts=hosts or Hosts(), token=token, metrics=counted)
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(DigitryError, _on_error)
    _add_reading(app)
    _add_corrections(app)
    _add_watching(app)
    _add_page(app)
    inference.add_routes(app, service.glyph_model, ready=readers.ready)
    return app


# --- reading ---------------------------------------------------------------------------------------


def _add_reading(app: FastAPI) -> None:
    @app.post(
        "/v1/read",
        summary="Read the digits in one image or several",
        response_model=schema.ReadingsOut,
        responses=_refusals(
            "body-too-slow", "body-too-large", "unsupported-media-type", "unreadable-image", "busy"
        ),
        openapi_extra={"requestBody": _images_body()},
        tags=["reading"],
    )
    async def read(request: Request, options: Annotated[schema.ReadOptions, Query()]) -> Response:
        """Send images as multipart parts named `file`, or one image as the body itself.

        Among several images, those that cannot be read stand in `failed`, and the others are read.
        If none can be, the answer is 422.
        """
        service = _service(request)
        _check_model(service, options.model)
        images = await bodies.images(request, service.limits)
        readings: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        for index, (name, content) in enumerate(images):
            try:
                examined = await _examined(service, content, name, options, glyphs=options.glyphs)
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
        loaded = _service(request).model
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
        responses=_refusals("body-too-large", "unsupported-media-type", "busy"),
        tags=["reading"],
    )
    async def explain(request: Request, question: schema.ExplainIn) -> Any:
        """Squares of the glyph are wiped out or filled; the fall of the probability is the weight."""
        model = _service(request).glyph_model
        return {"weights": await run_in_threadpool(model.weights, question.glyph, question.value)}


async def _examined(
    service: Service,
    content: bytes,
    name: str | None,
    options: schema.ReadOptions,
    *,
    glyphs: bool = False,
    crops: bool = False,
) -> Examined:
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
        return f"{name}@{shelf.default_number(name) or shelf.SHIPPED}"
    except ModelError:
        return None


def _check_model(service: Service, name: str | None) -> None:
    # `reader` is whichever version is read with here; `reader@2` is that one.
    own = service.model.metadata.name
    if name not in (None, own, own.partition("@")[0], service.model.reference):
        raise Problem("invalid-option", "no such model is served here; see /v1/models")


# --- corrections -----------------------------------------------------------------------------------


def _add_corrections(app: FastAPI) -> None:
    refused = _refusals("store-unavailable", "store-full")

    @app.post(
        "/v1/corrections",
        summary="Say what a digit of an image is",
        response_model=schema.CorrectionOut,
        status_code=201,
        responses={
            200: {"model": schema.CorrectionOut, "description": "It was said before"},
            **refused,
            **_refusals(
                "body-too-slow",
                "body-too-large",
                "unsupported-media-type",
                "no-such-digit",
                "busy",
            ),
        },
        openapi_extra={"requestBody": _correction_body()},
        tags=["corrections"],
    )
    async def correct(request: Request) -> Response:
        """Send the image, the box of the digit as `/v1/read` gave it, and what the digit is.

        The image is read again here, with the options that are given, so that what is kept is what
        this service saw. Only the digit's own picture is kept, packed anew, without the rest of the
        image or its metadata. When the answer comes, the correction is on the disk.
        """
        service = _service(request)
        form = await bodies.form(request, service.limits)
        files = [part.content for part in form if part.is_file and part.name == "file"]
        fields = {part.name: part.content.decode() for part in form if not part.is_file}
        if len(files) != 1 or len(form) != len(fields) + 1:
            raise Problem("malformed-request", "send one image, as a part named file")
        said = _validated(schema.CorrectionIn, fields)
        _check_model(service, said.model)
        options = schema.ReadOptions.model_validate(
            {"layout": said.layout, "max_error": said.max_error}
        )
        examined = await _examined(service, files[0], None, options, glyphs=True, crops=True)
        box = [int(part) for part in said.box.split(",")]
        found = [
            index
            for index, digit in enumerate(examined.reading.digits)
            if digit.box.to_list() == box
        ]
        if not found:
            raise Problem("no-such-digit", "give box as x,y,w,h of a digit that /v1/read found")
        digit = examined.reading.digits[found[0]]
        correction = Correction(
            label=said.label,
            glyph=examined.glyphs[found[0]],
            crop=examined.crops[found[0]],
            read_value=digit.value,
            best_guess=digit.alternatives[0][0],
            confidence=digit.confidence,
            reason=digit.reason,
            model=examined.reading.model,
            author=said.author,
        )
        kept, new = await run_in_threadpool(service.store.add, correction)
        service.metrics.corrections.labels("kept" if new else "known").inc()
        return JSONResponse(
            kept.to_dict(),
            201 if new else 200,
            headers={"Location": f"/v1/corrections/{kept.id}"},
        )

    @app.get(
        "/v1/corrections",
        summary="List corrections, the newest first",
        response_model=schema.CorrectionsOut,
        responses=refused,
        tags=["corrections"],
    )
    async def listed(request: Request, options: Annotated[schema.ListOptions, Query()]) -> Any:
        store = _service(request).store
        rows = await run_in_threadpool(store.list, **options.model_dump())
        return {"corrections": [row.to_dict() for row in rows]}

    @app.get(
        "/v1/corrections/{id}",
        summary="Give one correction",
        response_model=schema.CorrectionOut,
        responses={**refused, **_refusals("not-found")},
        tags=["corrections"],
    )
    async def one(request: Request, id: schema.Id) -> Any:
        return (await _kept(request, id)).to_dict()

    @app.get(
        "/v1/corrections/{id}/{picture}",
        summary="Give the picture of a corrected digit",
        response_class=Response,
        responses={
            200: {"content": {"image/png": {}}, "description": "PNG"},
            **refused,
            **_refusals("not-found"),
        },
        tags=["corrections"],
    )
    async def picture(
        request: Request, id: schema.Id, picture: Literal["glyph.png", "crop.png"]
    ) -> Response:
        correction = await _kept(request, id)
        content = correction.glyph if picture == "glyph.png" else correction.crop
        return Response(content, media_type="image/png")

    @app.delete(
        "/v1/corrections/{id}",
        summary="Undo a correction",
        response_model=schema.CorrectionOut,
        responses={**refused, **_refusals("not-found")},
        tags=["corrections"],
    )
    async def undo(request: Request, id: schema.Id) -> Any:
        """It stands in no list any more and is not trained on; undoing twice changes nothing."""
        service = _service(request)
        correction = await run_in_threadpool(service.store.undo, id)
        if correction is None:
            raise Problem("not-found", "there is no such correction")
        service.metrics.corrections.labels("undone").inc()
        return correction.to_dict()


async def _kept(request: Request, id: str) -> Correction:
    correction = await run_in_threadpool(_service(request).store.get, id)
    if correction is None:
        raise Problem("not-found", "there is no such correction")
    return correction


# --- what watches over the service -----------------------------------------------------------------


def _add_watching(app: FastAPI) -> None:
    @app.get("/healthz", summary="Tell that it lives", response_model=schema.StatusOut)
    async def healthz() -> Any:
        return {"status": "ok"}

    @app.get(
        "/readyz",
        summary="Tell whether it can do its work",
        response_model=schema.StatusOut,
        responses=_refusals("busy"),
    )
    async def readyz(request: Request) -> Any:
        service = _service(request)
        if not service.readers.ready():
            raise Problem("busy", "the readers are not ready yet", headers={"Retry-After": "1"})
        await run_in_threadpool(service.store.ping)
        return {"status": "ready"}

    @app.get("/metrics", summary="Counters for Prometheus", response_class=Response)
    async def counters(request: Request) -> Response:
        return Response(
            _service(request).metrics.text(), headers={"Content-Type": metrics.CONTENT_TYPE}
        )


# --- the page --------------------------------------------------------------------------------------


def _add_page(app: FastAPI) -> None:
    folder = resources.files("digitry.serving") / "page"
    types = dict(PAGE)
    types |= {
        file.name: "text/javascript; charset=utf-8"
        for file in folder.iterdir()
        if file.name.endswith(".js")
    }
    # A few small files, read once: no request ever names a path.
    files = {name: (folder / name).read_bytes() for name in types if (folder / name).is_file()}
    tags = {
        name: f'"{hashlib.sha256(content).hexdigest()[:16]}"' for name, content in files.items()
    }

    def give(request: Request, name: str) -> Response:
        if name not in files:
            raise Problem("not-found", "the page has no such file")
        headers = {"ETag": tags[name], "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == tags[name]:
            return Response(status_code=304, headers=headers)
        return Response(files[name], headers={**headers, "Content-Type": types[name]})

    @app.api_route("/", methods=READING, include_in_schema=False)
    async def index(request: Request) -> Response:
        return give(request, "index.html")

    @app.api_route("/docs", methods=READING, include_in_schema=False)
    async def docs(request: Request) -> Response:
        return give(request, "docs.html")

    @app.api_route("/page/{name}", methods=READING, include_in_schema=False)
    async def file(request: Request, name: str) -> Response:
        return give(request, name)

    @app.api_route("/favicon.ico", methods=READING, include_in_schema=False)
    async def icon(request: Request) -> Response:
        return give(request, "icon.svg")


def _validated(kind: type[schema.CorrectionIn], fields: Mapping[str, str]) -> schema.CorrectionIn:
    try:
        return TypeAdapter(kind).validate_python(dict(fields))
    except ValidationError as error:
        raise Problem("invalid-option", _first_fault(error.errors())) from error


# --- refusals --------------------------------------------------------------------------------------


async def _on_problem(request: Request, error: Exception) -> Response:
    if not isinstance(error, Problem):
        raise error
    if request.url.path.startswith("/v2"):
        # What stock clients of the Open Inference Protocol look for.
        error.members["error"] = error.detail
    return error.response()


async def _on_invalid(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    faults = error.errors()
    if faults[0]["loc"][:1] == ("path",):
        return await _on_problem(request, Problem("not-found", "there is no such address"))
    return await _on_problem(request, Problem("invalid-option", _first_fault(faults)))


async def _on_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    kind = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "malformed-request")
    return await _on_problem(
        request, Problem(kind, str(error.detail), headers=dict(error.headers or {}))
    )


async def _on_error(request: Request, error: Exception) -> Response:
    """Turn one of our errors into a refusal; what it says about this machine's paths stays here."""
    if not isinstance(error, DigitryError):
        raise error
    detail = error.what + (f"; {error.remedy}" if error.remedy else "")
    if isinstance(error, StoreFullError):
        problem = Problem("store-full", "the correction was not kept; the disk is full")
    elif isinstance(error, StoreError):
        problem = Problem(
            "store-unavailable",
            "the store of corrections does not answer; reading goes on",
            headers={"Retry-After": "5"},
        )
    elif isinstance(error, ImageError):
        problem = Problem("unreadable-image", detail)
    elif isinstance(error, UnavailableError):
        problem = busy()
    elif isinstance(error, UsageError):
        problem = Problem("invalid-option", detail)
    else:
        raise error
    return await _on_problem(request, problem)


def _first_fault(errors: Sequence[Any]) -> str:
    fault = errors[0]
    place = ".".join(str(part) for part in fault["loc"] if part not in ("query", "body", "path"))
    return f"{place}: {fault['msg']}" if place else str(fault["msg"])


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _refusals(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """Describe refusals for OpenAPI; validation is possible everywhere."""
    found: dict[int | str, dict[str, Any]] = {}
    for kind in (*kinds, "invalid-option"):
        status, title = KINDS[kind]
        found[status] = {
            "description": f"{title} (`{TYPE}{kind}`)",
            "content": {
                "application/problem+json": {"schema": schema.ProblemOut.model_json_schema()}
            },
        }
    return found


def _images_body() -> dict[str, Any]:
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


def _correction_body() -> dict[str, Any]:
    fields = schema.CorrectionIn.model_json_schema()
    fields["properties"]["file"] = {"type": "string", "format": "binary"}
    fields["required"] = ["file", *fields["required"]]
    return {"required": True, "content": {"multipart/form-data": {"schema": fields}}}
