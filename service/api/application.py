"""The HTTP API as one application: its routes stand beside it, what a read answers is made in `service/reads/`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from service import heartbeats
from service.api import (
    access,
    activity,
    audit,
    books,
    caching,
    campaigns,
    commands,
    engagement,
    errors,
    events,
    members,
    metrics,
    operations,
    quick,
    reports,
    schema,
)
from service.api.gathered import Gathering
from service.api.live import LiveEvents
from service.api.positions import Positions
from service.api.publishing import Publishing
from service.api_keys import Keys
from service.broker import kafka
from service.commands import Commands
from service.reads import Reads

if TYPE_CHECKING:
    from service.settings import Settings

SUBJECTS = (
    *(members, campaigns, commands, activity, engagement, books, reports, events),
    operations,
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
    app.state.readiness = operations.Readiness(settings, app.state.kafka)
    for subject in SUBJECTS:
        access.include(app, subject.routes)
    quick.install(app)
    errors.install(app)
    access.install(app, settings)
    audit.install(app)
    caching.install(app)
    metrics.install(app)
    schema.install(app)
    return app
