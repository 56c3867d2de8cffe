"""The metrics of the API process, each declared once with a sentence on what it means."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Counter, Gauge, Histogram, generate_latest
from sqlalchemy.exc import SQLAlchemyError

if TYPE_CHECKING:
    from service.reads import Reads

MEDIA_TYPE: Final = CONTENT_TYPE_LATEST

REQUESTS: Final = Counter(
    "groundswell_http_requests", "HTTP requests answered, by route, method and status.", ("route", "method", "status")
)
SECONDS: Final = Histogram(
    "groundswell_http_request_seconds", "Seconds from a request's first byte to its answer, by route.", ("route",)
)
LEDGER_POSITION: Final = Gauge(
    "groundswell_ledger_position", "Last notification id of the ledger: how many events it has decided."
)
PROJECTION_POSITION: Final = Gauge(
    "groundswell_projection_position", "Last notification id that a read model includes.", ("projection",)
)
DATABASE_UP: Final = Gauge("groundswell_database_up", "1 when the positions could be read for this scrape, else 0.")


def page(reads: Reads) -> bytes:
    """The text a scrape gets, with the positions as they are now."""
    try:
        last, positions = reads.positions()
    except SQLAlchemyError:
        DATABASE_UP.set(0)
    else:
        DATABASE_UP.set(1)
        LEDGER_POSITION.set(last)
        for name, position in positions.items():
            PROJECTION_POSITION.labels(name).set(position)
    return generate_latest(REGISTRY)


def install(app: FastAPI) -> None:
    """Count and time every request by its route's pattern, never by its raw path."""

    @app.middleware("http")
    async def measured(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        started = time.perf_counter()
        status = 500
        try:
            response = await call_next(request)
            status = response.status_code
            return response
        finally:
            route = getattr(request.scope.get("route"), "path", "none")
            REQUESTS.labels(route, request.method, str(status)).inc()
            SECONDS.labels(route).observe(time.perf_counter() - started)
