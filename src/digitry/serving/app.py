"""The ASGI application: its routes, its middleware, and errors as problem+json.

No route takes a URL, a path on this machine or a model file. `readers` decodes the images. An image
is not stored; only a corrected digit is.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from digitry import __version__
from digitry.corrections.database import StoreError, StoreFullError
from digitry.corrections.store import Corrections
from digitry.errors import DigitryError, ImageError, UnavailableError, UsageError
from digitry.model.artifact import Artifact
from digitry.model.load import load_model
from digitry.reading.template import Template
from digitry.serving import metrics
from digitry.serving.dispatch import Readers
from digitry.serving.explain import Explainer
from digitry.serving.guard import Guard, Hosts, Limits
from digitry.serving.origins import Origins
from digitry.serving.problems import Problem, busy
from digitry.serving.routes import corrections, health, reading
from digitry.serving.routes.page import add_page
from digitry.serving.service import Service, first_fault, refusals


def create_app(
    readers: Readers,
    store: Corrections,
    *,
    model: Artifact | None = None,
    limits: Limits | None = None,
    hosts: Hosts | None = None,
    origins: Origins | None = None,
    token: str | None = None,
    templates: Mapping[str, Template] | None = None,
) -> FastAPI:
    """Return the service as an ASGI application.

    Args:
        readers: read the images; closed when the application ends.
        store: keeps the corrections; closed when the application ends.
        model: the model that the readers use; the shipped one if None.
        limits: see `Limits`.
        hosts: the host names that the service accepts; loopback only if None.
        origins: web pages of other sites that may use the service; none if None.
        token: the token that every client must send, or None.
        templates: the forms that clients can name.

    Raises:
        ModelError: the model is missing or damaged.
    """
    model = load_model("reader") if model is None else model
    limits = limits or Limits()
    counted = metrics.Metrics()
    service = Service(
        readers, store, model, Explainer(model), limits, counted, dict(templates or {})
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        readers.close()
        store.close()

    app = FastAPI(
        title="digitry",
        version=__version__,
        description="Reads handwritten digits from images and stores corrections.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses=refusals("malformed-request", "token-needed", "foreign-origin", "foreign-host"),
        license_info={"name": "Apache-2.0"},
    )
    app.state.service = service
    app.add_middleware(
        Guard,
        limits=limits,
        hosts=hosts or Hosts(),
        origins=origins or Origins(),
        token=token,
        metrics=counted,
    )
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(DigitryError, _on_error)
    for routes in (reading, corrections, health):
        app.include_router(routes.router)
    add_page(app)
    return app


# --- refusals --------------------------------------------------------------------------------------


async def _on_problem(request: Request, error: Exception) -> Response:
    if not isinstance(error, Problem):
        raise error
    return error.response()


async def _on_invalid(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    faults = error.errors()
    if faults[0]["loc"][:1] == ("path",):
        return await _on_problem(request, Problem("not-found", "this path does not exist"))
    return await _on_problem(request, Problem("invalid-option", first_fault(faults)))


async def _on_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    kind = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "malformed-request")
    return await _on_problem(
        request, Problem(kind, str(error.detail), headers=dict(error.headers or {}))
    )


async def _on_error(request: Request, error: Exception) -> Response:
    """Return the refusal for one of our errors; of most without `where`, which may name a local path."""
    if not isinstance(error, DigitryError):
        raise error
    detail = error.what + (f"; {error.remedy}" if error.remedy else "")
    if isinstance(error, StoreFullError):
        problem = Problem("store-full", "the disk is full; the correction was not stored")
    elif isinstance(error, StoreError):
        problem = Problem(
            "store-unavailable",
            "the store of corrections does not answer; reading still works",
            headers={"Retry-After": "5"},
        )
    elif isinstance(error, ImageError):
        problem = Problem("unreadable-image", detail)
    elif isinstance(error, UnavailableError):
        problem = busy()
    elif isinstance(error, UsageError):
        # It stands in an option of the request, never in a file here.
        problem = Problem("invalid-option", str(error))
    else:
        raise error
    return await _on_problem(request, problem)
