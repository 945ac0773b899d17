"""Routes for whoever watches the service: health, readiness, metrics."""

from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool

from digitry.serving import metrics, schema
from digitry.serving.problems import Problem
from digitry.serving.service import refusals, service_of

# --- what watches over the service -----------------------------------------------------------------


def add_health(app: FastAPI) -> None:
    """Add the routes for whoever watches."""

    @app.get("/healthz", summary="Tell that it lives", response_model=schema.StatusOut)
    async def healthz() -> Any:
        return {"status": "ok"}

    @app.get(
        "/readyz",
        summary="Tell whether it can do its work",
        response_model=schema.StatusOut,
        responses=refusals("busy"),
    )
    async def readyz(request: Request) -> Any:
        service = service_of(request)
        if not service.readers.ready():
            raise Problem("busy", "the readers are not ready yet", headers={"Retry-After": "1"})
        await run_in_threadpool(service.store.ping)
        return {"status": "ready"}

    @app.get("/metrics", summary="Counters for Prometheus", response_class=Response)
    async def counters(request: Request) -> Response:
        return Response(
            service_of(request).metrics.text(), headers={"Content-Type": metrics.CONTENT_TYPE}
        )
