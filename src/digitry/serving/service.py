"""What all routes share: the service, checks of input, reading within its limits, and refusals."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from digitry.corrections.store import Corrections
from digitry.errors import ImageError
from digitry.model.artifact import Artifact
from digitry.reading.template import Template
from digitry.serving import forms, metrics, schema
from digitry.serving.dispatch import Readers
from digitry.serving.explain import Explainer
from digitry.serving.guard import Limits
from digitry.serving.problems import KINDS, TYPE, Problem
from digitry.workers.answer import PicturedReading
from digitry.workers.pool import has_pages

READING = ["GET", "HEAD"]


@dataclass(frozen=True)
class Service:
    """The objects that the routes use."""

    readers: Readers
    store: Corrections
    model: Artifact
    explainer: Explainer
    limits: Limits
    metrics: metrics.Metrics
    templates: Mapping[str, Template]


M = TypeVar("M", bound=BaseModel)


def validated(kind: type[M], fields: Mapping[str, Any]) -> M:
    """Return the checked fields of a form.

    Raises:
        Problem: a field is missing or not valid.
    """
    try:
        return kind.model_validate(dict(fields))
    except ValidationError as error:
        raise Problem("invalid-option", first_fault(error.errors())) from error


def first_fault(errors: Sequence[Any]) -> str:
    """Return what is wrong with the first field that is not valid."""
    fault = errors[0]
    place = ".".join(str(part) for part in fault["loc"] if part not in ("query", "body", "path"))
    return f"{place}: {fault['msg']}" if place else str(fault["msg"])


def service_of(request: Request) -> Service:
    """Return the service of a request."""
    service: Service = request.app.state.service
    return service


async def pages_in(service: Service, content: bytes, name: str | None) -> list[int | None]:
    """Return the numbers of the pages of a document; [None] for any other image.

    Raises:
        ImageError: the document cannot be opened, or that takes too long.
        UnavailableError: every worker is busy.
    """
    if not has_pages(content):
        return [None]
    async with _in_time(service, name):
        count = await service.readers.count_pages(content, name=name)
    return [None] if count == 1 else [*range(1, count + 1)]


async def read_image(
    service: Service,
    content: bytes,
    name: str | None,
    options: schema.ReadOptions,
    *,
    glyphs: bool = False,
    crops: bool = False,
    template: Mapping[str, Any] | None = None,
    strips: bool = False,
    page: int | None = None,
) -> PicturedReading:
    """Return what was read from an image, or a page of a document, within the time limit of the service.

    Raises:
        ImageError: the image cannot be read, or takes too long.
        UsageError: the pattern, the template or the region makes no sense.
        UnavailableError: every worker is busy.
    """
    async with _in_time(service, name):
        pictured = await service.readers.read(
            content,
            name=name,
            layout=options.layout,
            max_error=options.max_error,
            glyphs=glyphs,
            crops=crops,
            strips=strips,
            picture=options.picture,
            pattern=options.pattern,
            region=options.region,
            template=template,
            page=page,
        )
    service.metrics.reading(pictured.reading)
    return pictured


@asynccontextmanager
async def _in_time(service: Service, name: str | None) -> AsyncIterator[None]:
    """Limit the time of the block, and count an image that cannot be read.

    Raises:
        ImageError: the block raised it, or took too long.
    """
    try:
        async with asyncio.timeout(service.limits.read_seconds):
            yield
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


def options_of(given: schema.ReadOptions, body: forms.Sent) -> schema.ReadOptions:
    """Return the options of a request: those in its query, and those in its body.

    Raises:
        Problem: one is not valid, or is in both.
    """
    asked = given.model_dump(include=given.model_fields_set)
    if twice := asked.keys() & body.options.keys():
        raise Problem("invalid-option", f"{min(twice)}: is in the query and in the body")
    return validated(schema.ReadOptions, {**asked, **body.options})


def template_of(service: Service, name: str | None, body: forms.Sent) -> dict[str, Any] | None:
    """Return the template of a request, packed: one of the service's, or the one that was sent.

    Raises:
        Problem: the service has no template of this name, or there are two.
    """
    if name is None:
        return body.template
    if body.template is not None:
        raise Problem("invalid-option", "template: give a name or a file, not both")
    if name not in service.templates:
        raise Problem("invalid-option", "template: no template of this name; see /v1/templates")
    return service.templates[name].packed()


def check_model(service: Service, name: str | None) -> None:
    """Check that a model is served here.

    Raises:
        Problem: it is not.
    """
    # `reader` means the version that is served, whichever it is; `reader@2` means exactly version 2.
    own = service.model.metadata.name
    if name not in (None, own, own.partition("@")[0], service.model.reference):
        raise Problem("invalid-option", "this model is not served here; see /v1/models")


def refusals(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """Return the description of refusals for OpenAPI; every route may answer `invalid-option`."""
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
