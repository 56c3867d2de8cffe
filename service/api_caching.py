"""Answers that a client has already are not sent again, and long ones are sent compressed."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

GZIP_BYTES: Final = 1_000
"""From this size on a body is compressed for who accepts that."""
GZIP_LEVEL: Final = 4
"""A tenth larger than at the highest level, in a third of the time."""
_JSON: Final = b"application/json"


def install(app: FastAPI) -> None:
    """Tags under compression: a tag is that of what is said, however it is packed."""
    app.add_middleware(Conditional)
    app.add_middleware(GZipMiddleware, minimum_size=GZIP_BYTES, compresslevel=GZIP_LEVEL)


class Conditional:
    """Gives the JSON answer of a GET an `ETag`, and a 304 to who names it in `If-None-Match`.

    The tag is made of the body: answers depend on the position and on the time, and both decide what is in it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hold the head of an answer back until its body is there."""
        if scope["type"] != "http" or scope["method"] != "GET":
            return await self._app(scope, receive, send)
        head: Message | None = None

        async def conditional(message: Message) -> None:
            nonlocal head
            if message["type"] == "http.response.start" and _is_json(message):
                head = message
                return
            if head is not None:
                start, head = head, None
                if message["type"] == "http.response.body" and not message.get("more_body"):
                    return await _answer(scope, start, message, send)
                await send(start)
            await send(message)

        await self._app(scope, receive, conditional)


def _is_json(start: Message) -> bool:
    return start["status"] == 200 and any(
        name == b"content-type" and value.startswith(_JSON) for name, value in start["headers"]
    )


async def _answer(scope: Scope, start: Message, body: Message, send: Send) -> None:
    tag = f'"{blake2b(body["body"], digest_size=12).hexdigest()}"'
    headers = MutableHeaders(raw=start["headers"])
    headers["etag"] = f"W/{tag}"
    headers["cache-control"] = "private, no-cache"
    asked = Headers(scope=scope).get("if-none-match")
    if asked is not None and _names(asked, tag):
        del headers["content-length"]
        del headers["content-type"]
        start, body = {**start, "status": 304, "headers": headers.raw}, {**body, "body": b""}
    await send(start)
    await send(body)


def _names(asked: str, tag: str) -> bool:
    """Whether `If-None-Match` names a tag; a weak one and a strong one are the same here."""
    return asked.strip() == "*" or any(one.strip().removeprefix("W/") == tag for one in asked.split(","))
