"""What the routes work with: the service, its checks of input, its documented refusals."""

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
    """What the routes work with."""

    readers: Readers
    store: Corrections
    model: Artifact
    explainer: Explainer
    limits: Limits
    metrics: metrics.Metrics


def validated(kind: type[schema.CorrectionIn], fields: Mapping[str, str]) -> schema.CorrectionIn:
    """Return the checked fields of a form.

    Raises:
        Problem: one of them is missing or not valid.
    """
    try:
        return TypeAdapter(kind).validate_python(dict(fields))
    except ValidationError as error:
        raise Problem("invalid-option", first_fault(error.errors())) from error


def first_fault(errors: Sequence[Any]) -> str:
    """Return what is wrong with the first field that did not pass."""
    fault = errors[0]
    place = ".".join(str(part) for part in fault["loc"] if part not in ("query", "body", "path"))
    return f"{place}: {fault['msg']}" if place else str(fault["msg"])


def service_of(request: Request) -> Service:
    """Return the service that a request reached."""
    service: Service = request.app.state.service
    return service


def refusals(*kinds: str) -> dict[int | str, dict[str, Any]]:
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
