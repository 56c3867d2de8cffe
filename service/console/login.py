"""The page on which one signs in to the console, where API keys are asked for."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qs

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from markupsafe import escape

from service.api import sessions
from service.api.access import CONSOLE, LOGIN
from service.api_keys import Keys
from service.console.shell import MARK, STYLE
from service.instants import now_ms
from service.problems import Unusable
from service.settings import Settings

log = structlog.get_logger()
routes = APIRouter(include_in_schema=False)
PAGE: Final = """<!doctype html>
<html lang="en-US"><head><meta charset="utf-8"><title>Sign in · Groundswell</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,"><style>{style}
main {{ max-width: 26rem; margin: 12vh auto 0; padding: 0 20px; }} main svg {{ width: 40px; color: var(--accent); }}
form {{ display: grid; gap: 12px; margin: 20px 0; }}
label {{ font-weight: 600; }}
input, button {{ font: inherit; padding: 10px 12px; border-radius: 6px; border: 1px solid var(--line);
  color: var(--ink); background: var(--surface); }}
button {{ background: var(--accent); color: var(--on-accent); cursor: pointer; }}
[role=alert] {{ color: var(--bad); margin-top: 12px; }}</style></head>
<body><main>{mark}<h1>Groundswell</h1>{alert}
<form method="post" action="{action}"><input type="hidden" name="to" value="{to}">
<label for="key">API key</label>
<input id="key" name="key" type="password" autocomplete="current-password" required autofocus aria-describedby="about">
<button>Sign in</button></form>
<p id="about">A brand’s key shows that brand: <code>groundswell keys create --brand acme --scope read</code>. Operators
see every brand, and Audit, with one of <code>--brand '*' --scope admin</code>. One stays signed in for {hours} hours,
or until the key is revoked.</p>{out}</main></body></html>
"""
OUT: Final = f'<form method="post" action="{LOGIN}"><button name="out" value="1">Sign out</button></form>'
_PAGE: Final = re.compile(rf"{CONSOLE}/[a-z]+(\?[!-\[\]-~]*)?")
"""A page here and what it is asked: neither another host nor a way out of the console."""
UNKNOWN: Final = "There is no such API key, or it was revoked."
UNREADABLE: Final = "The API keys cannot be read; the log of the API says why."


@routes.get(LOGIN)
async def ask(request: Request) -> Response:
    """Ask for a key, if keys are asked for at all."""
    if request.app.state.keys is None:
        return RedirectResponse(CONSOLE)
    to = page_of(request.query_params.get("to", ""))
    return _page(200, to, out=OUT if sessions.COOKIE in request.cookies else "")


@routes.post(LOGIN)
async def sign_in(request: Request) -> Response:
    """Open the console for a browser, or close it."""
    keys: Keys | None = request.app.state.keys
    settings: Settings = request.app.state.settings
    if keys is None:
        return RedirectResponse(CONSOLE, 303)
    form = parse_qs((await request.body()).decode("utf-8", "replace"))
    if "out" in form:
        answer = _page(200)
        answer.delete_cookie(sessions.COOKIE, path=CONSOLE)
        return answer
    to = page_of(form.get("to", [""])[0])
    try:
        key = keys.authenticate(form.get("key", [""])[0].strip())
    except Unusable as error:
        log.error("nobody gets in", why=str(error))
        return _page(503, to, UNREADABLE)
    if key is None:
        log.warning("refused at the console: no such key")
        return _page(401, to, UNKNOWN)
    log.info("signed in to the console", key=key.id)
    opened = RedirectResponse(to, 303)
    cookie = sessions.issue(settings.signing_key, key, now_ms())
    opened.set_cookie(
        sessions.COOKIE,
        cookie,
        max_age=sessions.SECONDS,
        path=CONSOLE,
        secure="https" in (request.url.scheme, request.headers.get("x-forwarded-proto")),
        httponly=True,
        samesite="lax",
    )
    return opened


def page_of(address: str) -> str:
    """The page of the console to go on to: what was asked for before the sign-in, if it is one, else the first."""
    return address if _PAGE.fullmatch(address) else CONSOLE


def _page(status: int, to: str = CONSOLE, alert: str = "", out: str = "") -> Response:
    said = f'<p role="alert">{alert}</p>' if alert else ""
    hours = sessions.SECONDS // 3_600
    content = PAGE.format(style=STYLE, mark=MARK, alert=said, action=LOGIN, hours=hours, out=out, to=escape(to))
    return HTMLResponse(content, status, {"Cache-Control": "no-store"})
