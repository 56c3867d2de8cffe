"""The api role: the HTTP API as a process of its own, on loopback unless there are API keys."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import uvicorn

from aggregates.database import open_database
from service import heartbeats
from service.problems import Unusable
from service.settings import Settings

LOOPBACK = "127.0.0.1"


@contextlib.asynccontextmanager
async def beating(settings: Settings) -> AsyncIterator[None]:
    """Says every second in the database that the API works, and at the end that it has stopped."""
    engine = open_database(settings.database)

    async def beat() -> None:
        while True:
            await asyncio.to_thread(heartbeats.beat, engine, "api")
            await asyncio.sleep(heartbeats.EVERY_SECONDS)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await asyncio.to_thread(heartbeats.leave, engine, "api")
        engine.dispose()


def run(settings: Settings) -> int:
    """Serve until a signal; the exit code. Raises `Unusable` when the port is taken."""
    from service.api import create_app

    config = uvicorn.Config(create_app(settings), host=LOOPBACK, port=settings.port, log_level="warning")
    server = uvicorn.Server(config)
    try:
        socket = config.bind_socket()
    except SystemExit:
        raise Unusable(f"port {settings.port} cannot be used: set GROUNDSWELL_PORT to another") from None
    server.run(sockets=[socket])
    return 0
