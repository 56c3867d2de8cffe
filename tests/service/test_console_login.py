"""Signing in to the console: which page one goes on to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

import httpx
import pytest
from serving import serving

from service.api_keys import Keys, Scope
from service.console import login
from service.settings import Settings

ELSEWHERE = [
    "//evil.example/console/member",
    "https://evil.example/console/member",
    "/\\evil.example",
    "/console/\\evil.example",
    "/console//evil.example",
    "/console/../v1/brands",
    "/consoles",
    "console/member",
    "/console/member?brand=\\",
    "/console/member\n//evil.example",
    "/console/member?a=b\r\nSet-Cookie: a=b",
    "/console/member#//evil.example",
    "/console/_nicegui/auto/static/socket.io.js",
    "javascript:alert(1)",
    "",
]


@pytest.fixture(scope="module")
def token(secured: Settings) -> str:
    """An operator's key."""
    assert secured.api_keys_file is not None
    return Keys(secured.api_keys_file).create("*", Scope.ADMIN, "2026-03-01T00:00:00Z")[1]


@pytest.fixture(scope="module")
def client(secured: Settings, token: str) -> Iterator[httpx.Client]:
    """The sign-in, without the pages behind it."""
    with serving(secured, lambda app: app.include_router(login.routes)) as served:
        yield served


@pytest.mark.parametrize("address", ["/console/audit", "/console/member?brand=acme&member=%C3%A9%22%3E"])
def test_one_goes_on_to_the_page_that_was_asked_for_before_the_sign_in(client: httpx.Client, token: str, address: str):
    page = client.get("/console/login", params={"to": address}).text
    (kept,) = re.findall(r'name="to" value="([^"]*)"', page)
    assert unescape(kept) == address
    again = client.post("/console/login", data={"key": "gsk_a_b", "to": address}).text
    assert kept in again
    answer = client.post("/console/login", data={"key": token, "to": address}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, address)


@pytest.mark.parametrize("address", ELSEWHERE)
def test_a_sign_in_leads_nowhere_but_to_the_console(client: httpx.Client, token: str, address: str):
    assert 'name="to" value="/console">' in client.get("/console/login", params={"to": address}).text
    answer = client.post("/console/login", data={"key": token, "to": address}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/console")


@pytest.mark.parametrize(("brand", "scope"), [("acme", Scope.READ), ("acme", Scope.ADMIN), ("*", Scope.REDEEM)])
def test_every_key_opens_the_console_until_it_is_revoked(
    client: httpx.Client, secured: Settings, brand: str, scope: Scope
):
    assert secured.api_keys_file is not None
    keys = Keys(secured.api_keys_file)
    key, token = keys.create(brand, scope, "2026-03-01T00:00:00Z")
    answer = client.post("/console/login", data={"key": token}, follow_redirects=False)
    assert answer.status_code == 303
    cookie = {"Cookie": answer.headers["set-cookie"].partition(";")[0]}
    assert client.get("/console/nothing", headers=cookie).status_code == 404
    keys.revoke(key.id, "2026-03-02T00:00:00Z")
    assert client.get("/console/nothing", headers=cookie, follow_redirects=False).status_code == 303
    assert client.post("/console/login", data={"key": token}).status_code == 401
