"""Routes for those who run it: liveness, readiness, metrics, and where the documentation is."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from service import condition
from service.api import errors, metrics
from service.api.params import ReadsOf
from service.broker import kafka
from service.problems import Refusal
from service.settings import Settings

READY_SECONDS: Final = 1.0
"""How long an answer about readiness holds: whoever asks more often asks neither database nor Kafka."""

routes = APIRouter(tags=["operations"])


class Readiness:
    """What is missing until every command works, looked up at most once a second. Used within one event loop."""

    def __init__(self, settings: Settings, contact: kafka.Contact) -> None:
        """Nothing is asked before the first question."""
        self._settings = settings
        self._contact = contact
        self._looking = asyncio.Lock()
        self._missing: list[str] = []
        self._until = time.monotonic()

    async def missing(self) -> list[str]:
        """What is missing, a line each; nothing when all is there."""
        async with self._looking:
            if time.monotonic() >= self._until:
                found = await errors.in_thread(condition.readiness, self._settings)
                self._missing = [*found, *await self._contact.missing()]
                self._until = time.monotonic() + READY_SECONDS
            return self._missing


@routes.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process is alive; says nothing about lag."""
    return {"status": "alive"}


@routes.get("/readyz", responses=errors.DOCUMENTED)
async def readyz(request: Request) -> Response:
    """200 once every command works; else 503 with what is missing."""
    missing = await request.app.state.readiness.missing()
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
