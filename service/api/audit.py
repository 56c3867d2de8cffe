"""A line in the log for each request that changes something: whose key, what, for whom, and how it ended."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import api_keys
from service.api.access import KEY, NEEDS
from service.api_keys import Key

log = structlog.get_logger()
READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
LONGEST: Final = 200
"""Characters of one value in the line."""
PROBLEM: Final = 16 * 1024
"""Bytes of a problem document's beginning, in which its code stands."""
CODE: Final = re.compile(rb'"code":"([a-z_]+)"')
_NOTED: Final = "groundswell.audit"


def install(app: FastAPI) -> None:
    """Write the lines; to be installed after the gate, so that what it refuses is in them."""
    app.add_middleware(Audit)


def note(request: Request, **facts: int) -> None:
    """Have more facts in the line of this request."""
    request.scope[_NOTED] = facts


class Audit:
    """Sees every answer on its way out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and write its line before the last of its answer is sent."""
        if scope["type"] != "http" or scope["method"] in READING:
            return await self._app(scope, receive, send)

        answer = _Answer()

        async def watched(message: Message) -> None:
            answer.see(message)
            if answer.is_whole:
                _write(scope, answer)
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            if not answer.is_whole:
                _write(scope, answer)


class _Answer:
    """What is told of an answer."""

    def __init__(self) -> None:
        self.status = 500  # what becomes of a request that ends without one
        self.is_whole = False
        self._said = bytearray()

    def see(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        if self.status >= 400 and len(self._said) < PROBLEM:
            self._said.extend(message.get("body", b""))
        self.is_whole = not message.get("more_body", False)

    def code(self) -> dict[str, str]:
        """The code of a problem document."""
        found = CODE.search(self._said)
        return {"code": found[1].decode()} if found else {}


def _write(scope: Scope, answer: _Answer) -> None:
    """The line, if the route changes something. Of a request that got to none, nobody knows."""
    route = scope.get("route")
    need = None if route is None else NEEDS.get(f"{scope['method']} {route.path}")
    if route is None or (need is not None and need.scope is not api_keys.Scope.READ):
        log.info("audit", **_facts(scope), status=answer.status, **answer.code())


def _facts(scope: Scope) -> dict[str, Any]:
    key: Key | None = scope.get(KEY)
    route = scope.get("route")
    headers: Mapping[bytes, bytes] = dict(scope["headers"])
    facts: dict[str, Any] = {"key": "unknown" if key is None else key.id}
    if route is None:
        facts |= {"command": scope["method"], "path": _shown(scope["path"])}
    else:
        facts |= {"command": route.name}
        facts |= {name: _shown(value) for name, value in scope.get("path_params", {}).items()}
    if b"idempotency-key" in headers:
        facts["idempotency_key"] = _shown(headers[b"idempotency-key"].decode("latin-1"))
    facts.update(scope.get(_NOTED, {}))
    return facts


def _shown(text: str) -> str:
    """A value that somebody sent, on one line, whatever is in it."""
    short = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    return short if short.isprintable() else ascii(short)
