"""Answers that a client has already are not sent again, and long ones are sent compressed."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

GZIP_BYTES: Final = 1_000
"""From this size on a body is compressed for who accepts that."""
GZIP_LEVEL: Final = 4
"""A tenth larger than at the highest level, in a third of the time."""
_JSON: Final = b"application/json"
_NONE: Final = re.compile(rb"q\s*=\s*0(\.0*)?")
"""The weight of a coding that is not accepted."""
Header = tuple[bytes, bytes]


def install(app: FastAPI) -> None:
    """Do so for every route."""
    app.add_middleware(Conditional)


class Conditional:
    """Gives the JSON answer of a GET an `ETag`, and a 304 to who names it in `If-None-Match`.

    The tag is made of the body, before it is packed: answers depend on the position and on the time, and both decide
    what is in it. Starlette's own middleware for compression took as long as the whole of a small answer's way here.
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
    return start["status"] == 200 and (b"content-type", _JSON) in start["headers"]


async def _answer(scope: Scope, start: Message, message: Message, send: Send) -> None:
    body: bytes = message["body"]
    tag = b'"%s"' % blake2b(body, digest_size=12).hexdigest().encode()
    headers: list[Header] = [*start["headers"], (b"etag", b"W/" + tag), (b"cache-control", b"private, no-cache")]
    asked, packing = _listed(scope, b"if-none-match"), _listed(scope, b"accept-encoding")
    status = 200
    if asked and _names(asked, tag):
        status, body, headers = 304, b"", _without(headers, b"content-length", b"content-type")
    elif len(body) >= GZIP_BYTES:
        headers.append((b"vary", b"Accept-Encoding"))
        if _takes_gzip(packing):
            body = gzip.compress(body, GZIP_LEVEL, mtime=0)
            headers = [*_without(headers, b"content-length"), (b"content-length", b"%d" % len(body))]
            headers.append((b"content-encoding", b"gzip"))
    await send({**start, "status": status, "headers": headers})
    await send({**message, "body": body})


def _without(headers: Iterable[Header], *names: bytes) -> list[Header]:
    return [header for header in headers if header[0] not in names]


def _listed(scope: Scope, name: bytes) -> list[bytes]:
    """What a header lists, on one line or on several."""
    return [one.strip() for header, value in scope["headers"] if header == name for one in value.split(b",")]


def _names(asked: Iterable[bytes], tag: bytes) -> bool:
    """Whether `If-None-Match` names a tag; a weak one and a strong one are the same here."""
    return any(one == b"*" or one.removeprefix(b"W/") == tag for one in asked)


def _takes_gzip(accepted: Iterable[bytes]) -> bool:
    """Whether `Accept-Encoding` lets an answer be packed (RFC 9110, 12.5.3): by name, or else by `*`; q=0 is a no."""
    takes = {}
    for one in accepted:
        coding, *parameters = (part.strip() for part in one.lower().split(b";"))
        takes[coding] = not any(_NONE.fullmatch(parameter) for parameter in parameters)
    return takes.get(b"gzip", takes.get(b"x-gzip", takes.get(b"*", False)))
