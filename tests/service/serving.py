"""The API over a real database, on a port of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
from fastapi import FastAPI

from service.api.server import Server
from service.settings import Settings


@contextmanager
def running(settings: Settings, install: Callable[[FastAPI], None] = lambda _: None) -> Iterator[tuple[Server, int]]:
    """The server, with what `install` adds to its application, and the free port that it serves on."""
    server = Server(settings, 0, log_level="error", install=install)
    bound = server.bind()
    port = bound.getsockname()[1]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    try:
        yield server, port
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def serving(settings: Settings, install: Callable[[FastAPI], None] = lambda _: None) -> Iterator[httpx.Client]:
    """A client of the API, served by uvicorn on a free port, with what `install` adds to it."""
    with (
        running(settings, install) as (_, port),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client,
    ):
        yield client
