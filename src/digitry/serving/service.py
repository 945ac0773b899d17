"""What all routes share: the service, checks of input, and refusals for OpenAPI."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from pydantic import TypeAdapter, ValidationError

from digitry.corrections.store import Corrections
from digitry.model.artifact import Artifact
from digitry.serving import metrics, schema
from digitry.serving.dispatch import Readers
from digitry.serving.explain import Explainer
from digitry.serving.guard import Limits
from digitry.serving.problems import KINDS, TYPE, Problem

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


def validated(kind: type[schema.CorrectionIn], fields: Mapping[str, str]) -> schema.CorrectionIn:
    """Return the checked fields of a form.

    Raises:
        Problem: a field is missing or not valid.
    """
    try:
        return TypeAdapter(kind).validate_python(dict(fields))
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
