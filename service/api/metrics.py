"""The metrics of the API process, each declared once with a sentence on what it means."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Counter, Gauge, Histogram, generate_latest
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
PANES_BEHIND: Final = Gauge(
    "groundswell_engagement_behind_records",
    "Records of a pane topic that the engagement tables do not include yet.",
    ("topic", "partition"),
)
DATABASE_UP: Final = Gauge("groundswell_database_up", "1 when the positions could be read for this scrape, else 0.")
LIVE_READERS: Final = Gauge("groundswell_live_readers", "Readers of live events that are connected.")
LIVE_DROPPED: Final = Counter(
    "groundswell_live_dropped", "Readers of live events that were dropped, being slower than what happened."
)


def page(reads: Reads) -> bytes:
    """The text a scrape gets, with the positions as they are now."""
    try:
        last, positions = reads.positions()
        behind = reads.panes_behind()
    except SQLAlchemyError:
        DATABASE_UP.set(0)
    else:
        DATABASE_UP.set(1)
        LEDGER_POSITION.set(last)
        for name, position in positions.items():
            PROJECTION_POSITION.labels(name).set(position)
        for (topic, partition), records in behind.items():
            PANES_BEHIND.labels(topic, str(partition)).set(records)
    return generate_latest(REGISTRY)


def install(app: FastAPI) -> None:
    """Count and time every request by its route's pattern, never by its raw path."""
    app.add_middleware(_Measured)


class _Measured:
    """Counts each answer as it begins: one that streams may go on for days."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started = time.perf_counter()
        is_counted = False

        def count(status: int) -> None:
            nonlocal is_counted
            is_counted = True
            route = getattr(scope.get("route"), "path", "none")
            REQUESTS.labels(route, scope["method"], str(status)).inc()
            SECONDS.labels(route).observe(time.perf_counter() - started)

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                count(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, counted)
        except Exception:
            if not is_counted:
                count(500)
            raise
