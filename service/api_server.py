"""The api role: the HTTP API as a process of its own, on loopback unless there are API keys."""

from __future__ import annotations

import uvicorn

from service.api import create_app
from service.problems import Unusable
from service.settings import Settings

LOOPBACK = "127.0.0.1"


def run(settings: Settings) -> int:
    """Serve until a signal; the exit code. Raises `Unusable` when the port is taken."""
    config = uvicorn.Config(create_app(settings), host=LOOPBACK, port=settings.port, log_level="warning")
    server = uvicorn.Server(config)
    try:
        socket = config.bind_socket()
    except SystemExit:
        raise Unusable(f"port {settings.port} cannot be used: set GROUNDSWELL_PORT to another") from None
    server.run(sockets=[socket])
    return 0
