"""Routes for those who run it: liveness, readiness, metrics, and where the documentation is."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from service import api_errors, condition, metrics
from service.api_params import ReadsOf
from service.problems import Refusal

routes = APIRouter(tags=["operations"])


@routes.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process is alive; says nothing about lag."""
    return {"status": "alive"}


@routes.get("/readyz", responses=api_errors.DOCUMENTED)
async def readyz(request: Request) -> Response:
    """200 once every command works; else 503 with what is missing."""
    missing = await api_errors.in_thread(condition.readiness, request.app.state.settings)
    missing += await request.app.state.kafka.missing()
    if missing:
        raise Refusal("not_ready", "; ".join(missing), missing=missing, headers={"Retry-After": "1"})
    return JSONResponse({"status": "ready"})


@routes.get("/metrics", include_in_schema=False)
def prometheus(reads: ReadsOf) -> Response:
    """Prometheus text format."""
    return Response(metrics.page(reads), media_type=metrics.MEDIA_TYPE)


@routes.get("/", include_in_schema=False)
async def root(request: Request) -> RedirectResponse:
    """The console where there is one, else the documentation."""
    return RedirectResponse(request.app.state.home)
