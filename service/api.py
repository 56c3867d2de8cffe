"""The HTTP API as one application: its routes stand by subject in `api_*`, what a read answers is made in `reads`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from service import (
    api_access,
    api_activity,
    api_audit,
    api_books,
    api_caching,
    api_campaigns,
    api_commands,
    api_engagement,
    api_errors,
    api_events,
    api_members,
    api_operations,
    api_quick,
    api_reports,
    api_schema,
    heartbeats,
    kafka,
    metrics,
)
from service.access import Keys
from service.api_positions import Positions
from service.commands import Commands
from service.gathered import Gathering
from service.live import LiveEvents
from service.publishing import Publishing
from service.reads import Reads

if TYPE_CHECKING:
    from service.settings import Settings

SUBJECTS = (
    *(api_members, api_campaigns, api_commands, api_activity, api_engagement, api_books, api_reports, api_events),
    api_operations,
)
"""In the order of the documentation."""


def create_app(settings: Settings) -> FastAPI:
    """The API over the database and the Kafka of `settings`; touches neither before the first request."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
        try:
            async with heartbeats.beating(settings.database, "api"):
                yield
        finally:
            await app.state.live.close()
            await app.state.commands.close()
            await app.state.publishing.close()
            await app.state.kafka.close()
            await app.state.positions.close()
            app.state.reads.close()

    app = FastAPI(
        title="Groundswell",
        summary="Loyalty points, campaign standings and engagement by influence tier",
        version="1",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.settings = settings
    app.state.keys = None if settings.api_keys_file is None else Keys(settings.api_keys_file)
    app.state.reads = Reads(settings)
    app.state.gathering = Gathering(app.state.reads)
    app.state.positions = Positions(app.state.reads)
    app.state.commands = Commands(settings)
    app.state.publishing = Publishing(settings, app.state.reads.check_brand)
    app.state.live = LiveEvents(settings)
    app.state.home = "/docs"
    app.state.kafka = kafka.Contact(settings)
    app.state.readiness = api_operations.Readiness(settings, app.state.kafka)
    for subject in SUBJECTS:
        api_access.include(app, subject.routes)
    api_quick.install(app)
    api_errors.install(app)
    api_access.install(app, settings)
    api_audit.install(app)
    api_caching.install(app)
    metrics.install(app)
    api_schema.install(app)
    return app
