"""Routes for monitoring: liveness, readiness, metrics."""

from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from digitry.corrections.database import StoreError
from digitry.serving import metrics, schema
from digitry.serving.problems import Problem
from digitry.serving.service import Service, refusals, service_of

router = APIRouter()


@router.get("/healthz", summary="Liveness check", response_model=schema.StatusOut)
async def healthz() -> Any:
    """The process answers; workers and store are not looked at."""
    return {"status": "ok"}


@router.get(
    "/readyz",
    summary="Readiness check: a worker is ready and corrections can be stored",
    response_model=schema.StatusOut,
    responses=refusals("not-ready"),
)
async def readyz(request: Request) -> Any:
    """Otherwise the answer is 503 and says what is missing."""
    service = service_of(request)
    faults = [service.readers.health().fault(), await run_in_threadpool(_store_fault, service)]
    if any(faults):
        detail = "; ".join(fault for fault in faults if fault)
        raise Problem("not-ready", detail, headers={"Retry-After": "1"})
    return {"status": "ready"}


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
async def counters(request: Request) -> Response:
    """Requests, images, corrections, refusals and the state of the workers."""
    service = service_of(request)
    text = service.metrics.text(service.readers.health())
    return Response(text, headers={"Content-Type": metrics.CONTENT_TYPE})


def _store_fault(service: Service) -> str | None:
    """Return why corrections cannot be stored now, without any path; None if they can."""
    try:
        service.store.check_writable()
    except StoreError as error:
        return f"the store of corrections: {error.what}"
    return None
