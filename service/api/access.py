"""Who may use which route: the one table of it, the gate in front of all routes, and the check at each."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any, Final, NamedTuple
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, Depends, FastAPI, Request, Response, Security
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from service import api_keys
from service.api import errors, sessions
from service.api.params import only_known
from service.api.rate_limit import SECOND_NS, RateLimit
from service.api_keys import EVERY_BRAND, NOBODYS, Key, Keys
from service.instants import now_ms
from service.problems import Refusal, Unusable
from service.settings import Settings

log: Final = logging.getLogger(__name__)
KEY: Final = "groundswell.key"
"""Where a request's key stands in its scope."""
UNTIL: Final = "groundswell.until"
"""Where the end of a session of the console stands (epoch ms)."""
CHALLENGE: Final = 'Bearer realm="groundswell"'
CONSOLE: Final = "/console"
"""Below it people come with a cookie, for which they sign in."""
LOGIN: Final = f"{CONSOLE}/login"
BEARER: Final = HTTPBearer(auto_error=False, description="An API key of `groundswell keys create`.")


class Whose(Enum):
    """Of which brand a route's key has to be."""

    PATH = "the brand in the path"
    BODY = "the brands that its body or its query names; the route itself looks"
    OPERATOR = "every brand"


class Need(NamedTuple):
    """What a route asks of a key."""

    scope: api_keys.Scope
    whose: Whose = Whose.PATH


_READ: Final = Need(api_keys.Scope.READ)
_REDEEM: Final = Need(api_keys.Scope.REDEEM)
_ADMIN: Final = Need(api_keys.Scope.ADMIN)
_PUBLISH: Final = Need(api_keys.Scope.REDEEM, Whose.BODY)
_BRAND: Final = "/v1/brands/{brand}"
_MEMBER: Final = f"{_BRAND}/members/{{member}}"
_CAMPAIGN: Final = f"{_BRAND}/campaigns/{{campaign}}"

NEEDS: Final[Mapping[str, Need | None]] = {
    "GET /": None,
    "GET /healthz": None,
    "GET /readyz": None,
    "GET /metrics": Need(api_keys.Scope.READ, Whose.OPERATOR),
    f"GET {_MEMBER}/balance": _READ,
    f"GET {_MEMBER}/statement": _READ,
    f"GET {_MEMBER}/explanation": _READ,
    f"GET {_MEMBER}/effects": _READ,
    f"GET {_MEMBER}/tier": _READ,
    f"GET {_MEMBER}/engagement": _READ,
    f"GET {_MEMBER}/posts": _READ,
    f"POST {_MEMBER}/simulate": _READ,
    "GET /v1/events": Need(api_keys.Scope.READ, Whose.BODY),
    f"GET {_BRAND}/campaigns": _READ,
    f"GET {_CAMPAIGN}/standings": _READ,
    f"GET {_CAMPAIGN}/report": _READ,
    f"GET {_BRAND}/engagement": _READ,
    f"GET {_BRAND}/tiers": _READ,
    f"GET {_BRAND}/ambassadors": _READ,
    f"GET {_BRAND}/books": _READ,
    f"GET {_BRAND}/liability": _READ,
    "POST /v1/activity/interactions": _PUBLISH,
    "POST /v1/activity/purchases": _PUBLISH,
    "POST /v1/activity/profiles": _PUBLISH,
    "POST /v1/activity/enrolments": _PUBLISH,
    f"POST {_MEMBER}/redemptions": _REDEEM,
    f"POST {_MEMBER}/redemptions/{{redemption}}/cancel": _REDEEM,
    f"PUT {_CAMPAIGN}/members/{{member}}": _REDEEM,
    f"DELETE {_CAMPAIGN}/members/{{member}}": _REDEEM,
    f"POST {_MEMBER}/adjustments": _ADMIN,
    f"POST {_CAMPAIGN}/settlement": _ADMIN,
}
"""Method and path of every route → what it asks of a key; None: it is open to everybody."""

OPEN: Final = frozenset(
    {"/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json", LOGIN}
    | {name.partition(" ")[2] for name, need in NEEDS.items() if need is None}
)
"""Paths that need no key: how the process is, and what the API is like. Whatever else there may be needs one."""


def include(app: FastAPI, routes: APIRouter) -> None:
    """Add routes, each of which asks for a key as `NEEDS` says, and takes no parameter that it does not have. Raises
    LookupError for one that is not there."""
    needs = [NEEDS[name] for name in names_of(routes)]
    guards: list[Any] = [Depends(_authorized)]
    if None not in needs:  # those who run it may add what they like to the addresses that they watch
        guards.append(Depends(only_known))
    documented: dict[int | str, dict[str, Any]] = {}
    if app.state.keys is not None and None not in needs:
        guards.append(Security(BEARER))
        documented = {
            401: errors.described("The API key is missing, unknown or revoked"),
            403: errors.described("The API key is of another brand, or of a smaller scope: see `code`"),
            429: errors.described("The API key has used up its rate"),
        }
    app.include_router(routes, dependencies=guards, responses=documented)


def names_of(routes: APIRouter) -> list[str]:
    """Method and path of each route, as `NEEDS` has them. Raises LookupError for what is no ordinary route."""
    found = []
    for route in routes.routes:
        if not isinstance(route, APIRoute):
            raise LookupError(f"{route} is no route whose key could be checked")
        found += [f"{method} {route.path}" for method in sorted(route.methods or ())]
    return found


def install(app: FastAPI, settings: Settings) -> None:
    """Put the gate in front of everything that the application has, and may have later."""
    limit = RateLimit(settings.requests_per_second)
    app.add_middleware(KeyGate, keys=app.state.keys, limit=limit, secret=settings.signing_key)


class KeyGate:
    """Answers 401 to whoever brings no good key, and 429 to a key that asks too often; 403 to pages of other places
    where there are no keys."""

    def __init__(self, app: ASGIApp, keys: Keys | None, limit: RateLimit, secret: bytes) -> None:
        self._app = app
        self._keys = keys
        self._limit = limit
        self._secret = secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with its key."""
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        refused: Response
        try:
            if self._keys is None:
                _check_it_is_from_here(scope)
                scope[KEY] = NOBODYS
            elif _is_of_console(scope):
                scope[KEY], scope[UNTIL] = self._signed_in(self._keys, scope)
            elif scope["path"] not in OPEN:
                scope[KEY] = self._admitted(self._keys, _token(scope))
            if scope["type"] == "websocket" and not _is_of_console(scope):
                raise Refusal("not_found", f"No websocket is at {scope['path']}; the routes are described at /docs.")
        except Refusal as no:
            refused = errors.problem(no.code, no.detail, no.headers)
            if self._keys is not None and _is_of_console(scope) and scope.get("method") == "GET":
                refused = RedirectResponse(f"{LOGIN}?{urlencode({'to': _address(scope)})}", 303)
        except Unusable as error:
            log.error("nobody gets in: %s", error)
            refused = errors.problem(
                "unavailable", "The API keys cannot be read; the log of the API says why.", {"Retry-After": "1"}
            )
        else:
            return await self._app(scope, receive, send)
        await refused(scope, receive, send)

    def _signed_in(self, keys: Keys, scope: Scope) -> sessions.Session:
        """The session of who has opened the console. Raises `Refusal`."""
        cookie = HTTPConnection(scope).cookies.get(sessions.COOKIE, "")
        session = sessions.session_of(self._secret, keys, cookie, now_ms())
        if session is None:
            raise Refusal("key_required", f"Sign in at {LOGIN}.", headers={"WWW-Authenticate": CHALLENGE})
        return session

    def _admitted(self, keys: Keys, token: str) -> Key:
        """The key that may go on. Raises `Refusal`."""
        if not token:
            raise _key_required()
        key = keys.authenticate(token)
        if key is None:
            raise Refusal(
                "invalid_key",
                "There is no such API key, or it was revoked.",
                headers={"WWW-Authenticate": f'{CHALLENGE}, error="invalid_token"'},
            )
        wait_ns = self._limit.wait_ns(key.id, time.monotonic_ns())
        if wait_ns:
            raise Refusal(
                "too_many_requests",
                f"The API key {key.id} has asked as often as it may; wait, and ask again.",
                headers={"Retry-After": str(-(-wait_ns // SECOND_NS))},
            )
        return key


def _check_it_is_from_here(scope: Scope) -> None:
    """Raises `Refusal` for what a page of another place has a browser on this machine ask.

    Without keys whoever reaches loopback is trusted, and a browser does for any page: by a name of that page's own that
    leads to this machine (the `Host` is that name), or by sending something without seeing the answer (the `Origin`).
    """
    for name, value in scope["headers"]:
        reads = scope.get("method") in _ONLY_READ
        if name == b"host" and not _is_here(f"//{value.decode('latin-1')}"):
            said = "Host"
        elif name == b"origin" and not reads and not _is_here(value.decode("latin-1")):
            said = "Origin"
        else:
            continue
        raise Refusal(
            "foreign_page",
            f"{said}: without API keys only this machine is served, under localhost or 127.0.0.1; make keys with "
            "`groundswell keys create` to serve others.",
        )


_ONLY_READ: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Of a websocket there is no method: it can send as well."""


def _is_here(address: str) -> bool:
    """Whether the host of an address, or of an origin, is a name of loopback."""
    try:
        host = urlsplit(address).hostname or ""
        return api_keys.is_loopback(host) or host.endswith(".localhost")
    except ValueError:
        return False


def _is_of_console(scope: Scope) -> bool:
    path: str = scope["path"]
    if path == LOGIN and scope.get("method") in ("GET", "POST"):  # any other goes past the form, to the console
        return False
    return path == CONSOLE or path.startswith(f"{CONSOLE}/")


def _address(scope: Scope) -> str:
    """What was asked for: the sign-in goes on to it when it is a page of the console."""
    path, query = scope["path"], scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path


def _token(scope: Scope) -> str:
    """The token of the one `Authorization: Bearer` header; empty without."""
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(given) != 1:
        return ""
    kind, _, token = given[0].decode("latin-1").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _key_required() -> Refusal:
    return Refusal(
        "key_required",
        "Send an API key with it: `Authorization: Bearer KEY`.",
        headers={"WWW-Authenticate": CHALLENGE},
    )


async def _authorized(request: Request) -> None:
    """Let a request go on to its route. Raises `Refusal` when the key is not of its scope or brand."""
    need = NEEDS[f"{request.method} {request.scope['route'].path}"]
    if need is None:
        return
    key: Key | None = request.scope.get(KEY)
    if key is None:  # the gate took the path for an open one
        raise _key_required()
    if not key.scope.has(need.scope):
        raise Refusal(
            "insufficient_scope",
            f"This needs a key of scope {need.scope}, and {key.id} is of scope {key.scope}.",
            headers={"WWW-Authenticate": f'{CHALLENGE}, error="insufficient_scope", scope="{need.scope}"'},
        )
    if need.whose is Whose.PATH:
        key.check(request.path_params["brand"])
    elif need.whose is Whose.OPERATOR:
        key.check(EVERY_BRAND)


async def _key(request: Request) -> Key:
    key: Key = request.scope[KEY]
    return key


KeyOf = Annotated[Key, Depends(_key)]
