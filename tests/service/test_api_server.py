"""The api role as a process: on loopback without keys, on every address with them, and never open without."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving import serving

from service.api import sessions
from service.api_keys import Key, Keys, Scope
from service.broker import kafka
from service.embedded.stack import free_port
from service.problems import MEDIA_TYPE
from service.settings import Settings


@contextmanager
def role(settings: Settings, log: Path, **more: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`groundswell api` and its port; what it logs is in `log`."""
    port = free_port()
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GROUNDSWELL_")}
    said = {"KAFKA": settings.kafka, "DATABASE": settings.database, "SECRET": "very-secret", "PORT": str(port),
            "DATA_DIR": str(log.parent / "none"), **more}  # fmt: skip
    with log.open("wb") as out:
        environment = {**plain, **{f"GROUNDSWELL_{name}": value for name, value in said.items()}}
        process = subprocess.Popen([sys.executable, "-m", "service", "api"], stdout=out, stderr=out, env=environment)
        try:
            yield process, port
        finally:
            process.terminate()
            try:
                process.wait(20)
            finally:
                process.kill()


def answering(process: subprocess.Popen[bytes], port: int) -> httpx.Client:
    """A client of a role that has begun to answer."""
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}")
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None
        assert time.monotonic() < deadline
        try:
            assert client.get("/healthz").status_code == 200
            return client
        except httpx.TransportError:
            time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_good_end(settings: Settings, tmp_path: Path, number: signal.Signals):
    with role(settings, tmp_path / "api.log") as (process, port):
        answering(process, port).close()
        process.send_signal(number)
        assert process.wait(20) == 0
    assert "Traceback" not in (tmp_path / "api.log").read_text()


def test_with_keys_it_listens_where_it_is_told_and_asks_for_them(settings: Settings, tmp_path: Path):
    keys = Keys(tmp_path / "keys.json")
    _, token = keys.create("acme", Scope.REDEEM, "2026-03-01T00:00:00.000Z")
    log = tmp_path / "api.log"
    path = "/v1/brands/acme/members/ann/redemptions"
    with role(settings, log, HOST="0.0.0.0", API_KEYS_FILE=str(keys.path)) as (process, port):
        client = answering(process, port)
        assert client.post(path, json={"points": 1}, headers={"Idempotency-Key": "k1"}).status_code == 401
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "k1"}
        assert client.post(path, json={"points": 1}, headers=headers).json()["code"] == "unavailable"
        client.close()
    lines = log.read_text()
    assert f"event=listening host=0.0.0.0 port={port} keys=" in lines
    assert "event=audit" in lines
    assert "command=redeem brand=acme member=ann" in lines
    assert token not in lines
    assert token.split("_", 2)[2] not in lines


def test_without_keys_it_says_that_it_is_on_loopback_only(settings: Settings, tmp_path: Path):
    log = tmp_path / "api.log"
    with role(settings, log) as (process, port):
        client = answering(process, port)
        assert client.get("/v1/brands/acme/members/ann/balance").status_code == 200
        client.close()
    assert "host=127.0.0.1" in log.read_text()
    assert "loopback only" in log.read_text()


def test_without_keys_it_does_not_listen_anywhere_else(settings: Settings, tmp_path: Path):
    log = tmp_path / "api.log"
    with role(settings, log, HOST="0.0.0.0") as (process, _):
        assert process.wait(30) == 2
    (line,) = log.read_text().splitlines()
    assert "without API keys the API listens on loopback only" in line


def test_the_console_is_for_those_who_have_signed_in(settings: Settings, tmp_path: Path):
    keys = Keys(tmp_path / "keys.json")
    at = "2026-03-01T00:00:00.000Z"
    operator, token = keys.create("*", Scope.ADMIN, at)
    others = [keys.create("acme", Scope.ADMIN, at)[1], keys.create("*", Scope.REDEEM, at)[1]]
    with role(settings, tmp_path / "api.log", API_KEYS_FILE=str(keys.path)) as (process, port):
        client = answering(process, port)
        page = client.get("/", follow_redirects=True)
        assert (page.url.path, page.status_code) == ("/console/login", 200)
        assert "API key" in page.text
        assert client.post("/console/audit").status_code == 401
        assert upgraded(port, "")[0] == 401

        assert client.post("/console/login", data={"key": "gsk_a_b"}).status_code == 401
        assert not client.cookies
        for one in others:
            assert client.post("/console/login", data={"key": one}).status_code == 303
            assert "Audit is for operators" in client.get("/console/audit").text
        assert client.post("/console/login", data={"key": token}).status_code == 303
        cookie = client.cookies["groundswell_console"]
        assert token.split("_", 2)[2] not in cookie
        assert "Engagement over time" in client.get("/console", follow_redirects=True).text
        assert upgraded(port, cookie)[0] == 101
        for forged in (
            cookie[:-1] + ("0" if cookie[-1] != "0" else "1"),
            cookie.replace(operator.id, "0" * 12),
            "",
            "..",
            "é",
        ):
            assert upgraded(port, forged)[0] == 401
            forger = {"Cookie": f"groundswell_console={forged}".encode()}
            found = httpx.get(f"http://127.0.0.1:{port}/console/audit", headers=forger)
            assert found.headers["location"] == "/console/login?to=%2Fconsole%2Faudit"

        assert client.get("/v1/brands/acme/tiers").status_code == 401, "a cookie is for the console alone"
        assert "Sign out" in client.get("/console/login").text
        behind_tls = client.post("/console/login", data={"key": token}, headers={"X-Forwarded-Proto": "https"})
        assert "Secure" in behind_tls.headers["set-cookie"]
        keys.revoke(operator.id, at)
        answer = client.get("/console/member?brand=acme&member=ann")
        assert answer.headers["location"] == "/console/login?to=%2Fconsole%2Fmember%3Fbrand%3Dacme%26member%3Dann"
        client.post("/console/login", data={"out": "1"})
        assert not client.cookies
        keys.path.write_bytes(b"{")
        closed = client.post("/console/login", data={"key": token})
        assert (closed.status_code, str(tmp_path) in closed.text) == (503, False)
        client.close()


SOCKET = "/console/_nicegui_ws/socket.io/?EIO=4&transport=websocket"


def upgraded(port: int, cookie: str, path: str = SOCKET) -> tuple[int, str | None, bytes]:
    """Status, media type and body of the answer to a browser that asks for a websocket, such as the console's."""
    with socket.create_connection(("127.0.0.1", port), 10) as link:
        head = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: groundswell_console={cookie}\r\n\r\n"
        )
        link.sendall(head.encode())
        answer = HTTPResponse(link)
        answer.begin()
        return answer.status, answer.headers["Content-Type"], b"" if answer.status == 101 else answer.read()


def test_a_websocket_where_there_is_none_gets_a_problem(shared_settings: Settings):
    with serving(shared_settings) as client:
        for path in ("/v1/brands/acme/campaigns", "/healthz", "/nowhere"):
            status, media_type, body = upgraded(client.base_url.port or 0, "", path)
            assert (status, media_type) == (404, MEDIA_TYPE)
            assert f"No websocket is at {path};".encode() in body


@given(st.text(), st.integers(0, 2**40))
def test_no_cookie_can_be_made_without_the_secret(text: str, now_ms: int):
    key = Key("aa", "*", Scope.ADMIN, "", "0" * 64)
    keys = Keys(Path("nowhere"))
    keys.all = lambda: {"aa": key}  # type: ignore[method-assign]
    good = sessions.issue(b"secret", key, now_ms)
    assert sessions.session_of(b"secret", keys, good, now_ms) == (key, now_ms + sessions.SECONDS * 1_000)
    assert sessions.session_of(b"another", keys, good, now_ms) is None
    assert sessions.session_of(b"", keys, sessions.issue(b"", key, now_ms), now_ms) is None
    assert sessions.session_of(b"secret", keys, good, now_ms + sessions.SECONDS * 1_000) is None
    assert sessions.session_of(b"secret", keys, text, now_ms) is None
    assert (sessions.session_of(b"secret", keys, good + text, now_ms) is None) == bool(text)


# Readiness


def test_who_hammers_readiness_has_kafka_asked_once_a_second(
    shared_settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    asked, missing = [], kafka.Contact.missing

    async def counted(contact: kafka.Contact) -> list[str]:
        asked.append(time.monotonic())
        return await missing(contact)

    monkeypatch.setattr(kafka.Contact, "missing", counted)
    with serving(shared_settings) as client:
        said = {client.get("/readyz").status_code for _ in range(50)}
        deadline = time.monotonic() + 20
        while len(asked) < 2:
            client.get("/readyz")
            assert time.monotonic() < deadline
    assert said == {503}
    assert asked[1] - asked[0] >= 1.0
