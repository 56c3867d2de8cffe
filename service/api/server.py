"""The api role: the HTTP API and the console as a process of its own, on loopback unless there are API keys."""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
from collections.abc import Callable
from typing import Any, Final

import structlog
import uvicorn
from aiokafka.errors import KafkaError
from fastapi import FastAPI

from aggregates.database import is_unavailable
from service import migrate, process
from service.api.application import create_app
from service.api.protocol import Protocol
from service.api_keys import known_keys
from service.broker import kafka, topic_admin
from service.problems import Unusable
from service.settings import Settings

log = structlog.get_logger()
STOP_SECONDS: Final = 12
"""How long requests may take to end when the server stops; the longest, a settlement, waits 10 s."""
STALLED_MS: Final = 30_000
"""A connection whose other end takes nothing for so long is cut: what is written for it would be kept until then."""


class Server(uvicorn.Server):
    """The API. When it stops, live events end first: their readers would stay for ever."""

    def __init__(
        self,
        settings: Settings,
        port: int,
        log_level: str = "warning",
        install: Callable[[FastAPI], None] = lambda _: None,
    ) -> None:
        """`port` 0: a free one; `install`: adds to the application what is served beside the API."""
        self._app = create_app(settings)
        install(self._app)
        super().__init__(
            uvicorn.Config(
                self._app,
                host=settings.host,
                port=port,
                http=Protocol,
                log_level=log_level,
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )

    def bind(self) -> socket.socket:
        """The socket to serve on. Raises OSError when the port is taken, or the address is none of this machine's."""
        family = socket.AF_INET6 if ":" in self.config.host else socket.AF_INET
        bound = socket.create_server((self.config.host, self.config.port), family=family, backlog=self.config.backlog)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # on Linux; connections take it over
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_MS)
        return bound

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what would not end by itself, then the rest."""
        live: Any = self._app.state.live
        live.end()
        await super().shutdown(sockets)


def run(settings: Settings) -> int:
    """Serve until a signal; the exit code. Raises `Unusable` when it must not, or cannot, listen there."""
    from service import console

    keys = known_keys(settings)
    _check(settings)
    server = Server(settings, settings.port, install=console.install)
    try:
        bound = server.bind()
    except OSError as error:
        raise Unusable(
            f"{settings.host}:{settings.port} cannot be used ({error.strerror}): set GROUNDSWELL_PORT to another port"
        ) from None
    _allow_many_connections()
    process.set_up()
    log.info("listening", host=settings.host, port=settings.port, keys=keys)
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn sends itself again, in the end, what has stopped it
        signal.signal(number, lambda _number, _frame: None)
    server.run(sockets=[bound])
    return 0


def _check(settings: Settings) -> None:
    """See that tables and topics are there. Raises `Unusable` when they are not, or the database does not let us in.

    A database that is away, and a Kafka whatever it does, keep nobody from reading what can be read: `/readyz` says so.
    """
    try:
        migrate.check(settings.database)
    except Exception as error:
        if not is_unavailable(error):
            raise
    topic_admin.require(asyncio.run(_missing_topics(settings)))


async def _missing_topics(settings: Settings) -> list[str]:
    try:
        async with asyncio.timeout(kafka.CONTACT_SECONDS):
            return await topic_admin.missing(settings)
    except (Unusable, KafkaError, OSError, TimeoutError):
        return []


def _allow_many_connections() -> None:
    """Every reader of live events has a file of its own, and shells often allow 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 65_536
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
