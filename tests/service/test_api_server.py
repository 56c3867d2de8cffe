"""The api role as a process: on loopback without keys, on every address with them, and never open without."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from service.access import Keys, Scope
from service.settings import Settings
from service.stack import free_port


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
