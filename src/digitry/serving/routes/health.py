"""Routes for whoever watches the service: health, readiness, metrics."""

from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool

from digitry.corrections.store import StoreError
from digitry.serving import metrics, schema
from digitry.serving.problems import Problem
from digitry.serving.service import Service, refusals, service_of


def add_health(app: FastAPI) -> None:
    """Add the routes for whoever watches."""

    @app.get("/healthz", summary="Liveness check", response_model=schema.StatusOut)
    async def healthz() -> Any:
        return {"status": "ok"}

    @app.get(
        "/readyz",
        summary="Readiness check: whether images are read and corrections kept now",
        response_model=schema.StatusOut,
        responses=refusals("not-ready"),
    )
    async def readyz(request: Request) -> Any:
        service = service_of(request)
        faults = [service.readers.health().fault(), await run_in_threadpool(_store_fault, service)]
        if any(faults):
            detail = "; ".join(fault for fault in faults if fault)
            raise Problem("not-ready", detail, headers={"Retry-After": "1"})
        return {"status": "ready"}

    @app.get("/metrics", summary="Counters for Prometheus", response_class=Response)
    async def counters(request: Request) -> Response:
        service = service_of(request)
        text = service.metrics.text(service.readers.health())
        return Response(text, headers={"Content-Type": metrics.CONTENT_TYPE})


def _store_fault(service: Service) -> str | None:
    """Return why no correction would be kept now; None if one would be. No path is told."""
    try:
        service.store.check_writable()
    except StoreError as error:
        return f"the store of corrections: {error.what}"
    return None
