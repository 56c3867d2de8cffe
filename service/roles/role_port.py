"""The small HTTP port of a role without an API: `/metrics`, `/healthz` (alive) and `/readyz` (at work)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from service.problems import Unusable

STALLED_SECONDS = 60.0
"""A role whose event loop has not turned for so long is not alive."""


class RolePort:
    """Serves in a thread. Alive says nothing of lag or of the database: only that the process still turns."""

    def __init__(
        self,
        port: int,
        missing: Callable[[], str],
        *,
        ready: Callable[[], str] = lambda: "ready",
        refresh: Callable[[], None] = lambda: None,
    ) -> None:
        """`missing()` says what a role waits for; empty when it is at work, and then `ready()` says what it does.

        `refresh` is called, in a thread, before metrics are told. Port 0 serves nothing. Raises `Unusable` for a port
        in use.
        """
        self._turned = time.monotonic()
        self._missing = missing
        self._ready = ready
        self._refresh = refresh
        port_of = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, kind, body = port_of.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """A probe every second is nothing to log."""

        self._server: ThreadingHTTPServer | None = None
        if not port:
            return
        try:
            self._server = ThreadingHTTPServer(("0.0.0.0", port), Handler)
        except OSError as error:
            raise Unusable(f"GROUNDSWELL_METRICS_PORT: port {port} cannot be used ({error.strerror})") from None
        threading.Thread(target=self._server.serve_forever, name="role-port", daemon=True).start()

    def turned(self) -> None:
        """The event loop has turned."""
        self._turned = time.monotonic()

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, content type and body for a path."""
        plain = "text/plain; charset=utf-8"
        if path == "/metrics":
            self._refresh()
            return 200, CONTENT_TYPE_LATEST, generate_latest()
        if path == "/healthz":
            still = time.monotonic() - self._turned
            return (200, plain, b"alive\n") if still < STALLED_SECONDS else (503, plain, b"stalled\n")
        if path == "/readyz":
            missing = self._missing()
            return (503 if missing else 200), plain, f"{missing or self._ready()}\n".encode()
        return 404, plain, b"/metrics, /healthz and /readyz are here\n"

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
