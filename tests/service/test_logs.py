"""The log of a role: a line that comes over and over is said once in some seconds, and none is lost the first time."""

from __future__ import annotations

import logging
import re
import socket
import subprocess
import sys
from collections import Counter

import pytest
import structlog

from service import logs
from service.logs import Sparing


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1_000.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    return now


def said(sparing: Sparing, text: str, *arguments: object) -> str | None:
    record = logging.LogRecord("aiokafka", logging.ERROR, "", 0, text, arguments, None)
    return record.getMessage() if sparing.filter(record) else None


def test_a_line_is_said_once_and_then_with_how_often_it_came(clock):
    sparing = Sparing()
    assert said(sparing, "no node %s", 1) == "no node 1"
    assert [said(sparing, "no node %s", 1) for _ in range(1_200)] == [None] * 1_200
    clock[0] += logs.QUIET_SECONDS
    assert said(sparing, "no node %s", 1) == "no node 1 (1,200 more of it since it was said)"
    clock[0] += logs.QUIET_SECONDS
    assert said(sparing, "no node %s", 1) == "no node 1"


def test_whatever_differs_in_a_word_is_said(clock):
    sparing = Sparing()
    assert said(sparing, "no node %s", 1) == "no node 1"
    assert said(sparing, "no node %s", 2) == "no node 2"
    assert said(sparing, "no node %s: 100 %% gone", 1) == "no node 1: 100 % gone"
    assert said(sparing, "100 % gone") == "100 % gone"


def test_it_keeps_few_lines_in_mind(clock):
    sparing = Sparing()
    for number in range(logs.KINDS - 1):
        said(sparing, f"old {number}")
    clock[0] += logs.QUIET_SECONDS
    said(sparing, "new")
    said(sparing, "newer")
    assert said(sparing, "new") is None
    assert len(sparing._said) == 2


def test_an_event_of_ours_is_spared_too(clock):
    sparing = Sparing()
    assert sparing(None, "warning", {"event": "waiting", "n": 1}) == {"event": "waiting", "n": 1}
    with pytest.raises(structlog.DropEvent):
        sparing(None, "warning", {"event": "waiting", "n": 1})
    assert sparing(None, "warning", {"event": "waiting", "n": 2}) == {"event": "waiting", "n": 2}
    clock[0] += logs.QUIET_SECONDS
    assert sparing(None, "warning", {"event": "waiting", "n": 1}) == {"event": "waiting", "n": 1, "unsaid": 1}
    assert sparing(None, "info", {"event": "on"}) == sparing(None, "info", {"event": "on"}) == {"event": "on"}


CLIENT = """
import asyncio, sys
from aiokafka import AIOKafkaProducer
from service import logs
logs.for_a_role()

async def knock():
    for _ in range(200):
        client = AIOKafkaProducer(bootstrap_servers=sys.argv[1])
        try:
            await client.start()
        except Exception:
            await client.stop()

asyncio.run(knock())
"""


def test_a_client_whose_broker_is_away_says_so_once():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        done = subprocess.run([sys.executable, "-c", CLIENT, address], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = Counter(re.sub(r"^[\d :,-]+", "", line) for line in done.stderr.splitlines())
    assert any("Unable connect" in line for line in lines)
    assert set(lines.values()) == {1}, lines
