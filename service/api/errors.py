"""How every error of the HTTP API becomes an `application/problem+json` answer with a stable code."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import unquote_to_bytes

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.problems import MEDIA_TYPE, Refusal, Unusable, document

T = TypeVar("T")
log: Final = logging.getLogger(__name__)
MAX_BODY: Final = 64 * 1024
"""Bytes of a request's body; the largest that a route needs is a few."""
MAX_ACTIVITY: Final = 5_000_000
"""Bytes of a body of records to publish."""
TOO_LARGE: Final = f"The body is larger than {MAX_BODY} bytes, which no request here needs."
NO_NUL: Final = "There is a NUL character in the address, and nothing here has one in its name."
NOT_UTF8: Final = "The path is not UTF-8 in percent-encoding, and every name here is."
_TOO_MUCH: Final = f"The body is larger than {MAX_ACTIVITY:,} bytes: send its records in several requests."


class ProblemDocument(BaseModel):
    """What every answer that is not a success looks like (RFC 9457)."""

    type: str = Field(description="Names the kind of problem", examples=["urn:groundswell:problem:unknown_brand"])
    title: str = Field(description="The kind in words", examples=["No such brand"])
    status: int = Field(description="The HTTP status code", examples=[404])
    detail: str = Field(description="What is wrong here, and what to do", examples=["There is no brand `acne`."])
    code: str = Field(description="Stable: match on this", examples=["unknown_brand"])


_PROBLEM: Final = "#/components/schemas/ProblemDocument"
"""Where the API's description has it; see `api_schema`."""


def described(text: str) -> dict[str, Any]:
    """What the documentation says of an answer that is a problem."""
    return {"description": text, "content": {MEDIA_TYPE: {"schema": {"$ref": _PROBLEM}}}}


DOCUMENTED: Final[dict[int | str, dict[str, Any]]] = {
    404: described("Unknown brand or campaign"),
    422: described("Not valid, or refused: see `code`"),
    503: described("Some part does not answer"),
    504: described("`min_position` is not reached yet"),
}


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Run a blocking function off the event loop."""
    return await run_in_threadpool(function, *args)


def problem(code: str, detail: str, headers: dict[str, str] | None = None, **members: Any) -> JSONResponse:
    """A problem answer; its status is that of the code."""
    body = document(code, detail, **members)
    return JSONResponse(body, status_code=body["status"], headers=headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Register the handler of every kind of error."""
    app.add_exception_handler(Refusal, _refusal)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(SQLAlchemyError, _database)
    app.add_exception_handler(Unusable, _unusable)
    app.add_exception_handler(Exception, _defect)
    app.add_middleware(Gate)


class Gate:
    """Turns away what no route should see: a body too large for its route, whatever length it was announced with, and
    an address that is not UTF-8, or has a NUL character, which databases do not take in a text."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on while it is small enough."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            return await problem("invalid_request", NO_NUL)(scope, receive, send)
        if "\ufffd" in scope["path"] and not _is_utf8(scope["raw_path"]):
            return await problem("invalid_request", NOT_UTF8)(scope, receive, send)
        is_activity = scope["path"].startswith("/v1/activity/")
        limit, too_large = (MAX_ACTIVITY, _TOO_MUCH) if is_activity else (MAX_BODY, TOO_LARGE)
        announced = dict(scope["headers"]).get(b"content-length", b"")
        taken = int(announced) if announced.isdigit() else 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b"")) if not announced else 0
            if taken > limit:
                raise HTTPException(413, too_large)  # FastAPI makes a 400 of any other error here
            return message

        if taken > limit:
            return await problem("too_large", too_large)(scope, receive, send)
        await self._app(scope, limited, send)


def _is_utf8(path: bytes) -> bool:
    try:
        unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


async def _refusal(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refusal)
    return problem(error.code, error.detail, error.headers, **error.members)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = [
        {"where": ".".join(str(part) for part in item["loc"]), "message": _words(item)} for item in error.errors()
    ]
    detail = "; ".join(f"{item['where']}: {item['message']}" for item in errors)
    return problem("invalid_request", detail, errors=errors)


def _methods(request: Request) -> list[str]:
    """What an address takes: each method may be a route of its own, and the router names only the first one's."""
    routes = request.app.router.routes
    asked = {name: request.scope[name] for name in ("type", "path", "root_path", "headers", "query_string")}
    return [
        method
        for method in ("GET", "PUT", "POST", "DELETE")
        if any(route.matches({**asked, "method": method})[0] is Match.FULL for route in routes)
    ]


def _words(item: Any) -> str:
    if item["type"] == "string_pattern_mismatch":  # a pattern is not for people
        return "a character is not allowed there: a slash, a control character, or a space at an end"
    return str(item["msg"])


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return problem("not_found", f"Nothing is at {request.url.path}; the routes are described at /docs.")
    if error.status_code == 405:
        methods = ", ".join(_methods(request))
        return problem(
            "method_not_allowed", f"{request.method} is not possible here; {methods} is.", {"Allow": methods}
        )
    if error.status_code == 413:
        return problem("too_large", str(error.detail))
    if error.status_code == 400:  # FastAPI's word for a body that it cannot read
        return problem("invalid_request", str(error.detail))
    body = document("invalid_request", str(error.detail)) | {"status": error.status_code}
    return JSONResponse(body, error.status_code, dict(error.headers or {}), media_type=MEDIA_TYPE)


async def _gone(_request: Request, _error: Exception) -> JSONResponse:
    return problem("invalid_request", "The connection ended before the body did.")  # for the log; nobody reads it


async def _database(_request: Request, error: Exception) -> JSONResponse:
    log.error("the database refused a read: %s", error)
    return problem("unavailable", "The database does not answer this; try again.", {"Retry-After": "1"})


async def _unusable(_request: Request, error: Exception) -> JSONResponse:
    return problem("unavailable", str(error), {"Retry-After": "1"})


async def _defect(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem("internal_error", "This should not have happened; the log of the API has the details.")
