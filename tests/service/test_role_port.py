"""A worker's small port: alive says nothing of lag, ready says what is missing."""

from __future__ import annotations

import socket
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from service.embedded.stack import free_port
from service.problems import Unusable
from service.roles import role_port
from service.roles.role_port import RolePort


def asked(port: int, path: str) -> tuple[int, str]:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as refused:
        return refused.code, refused.read().decode()


def test_metrics_liveness_and_readiness(monkeypatch):
    number, missing = free_port(), ["partitions are being recovered"]
    port = RolePort(number, lambda: missing[0])
    try:
        assert asked(number, "/healthz") == (200, "alive\n")
        assert asked(number, "/readyz") == (503, "partitions are being recovered\n")
        missing[0] = ""
        assert asked(number, "/readyz") == (200, "ready\n")
        status, text = asked(number, "/metrics")
        assert status == 200
        assert "process_cpu_seconds_total" in text
        assert asked(number, "/elsewhere")[0] == 404
        monkeypatch.setattr(role_port, "STALLED_SECONDS", -1.0)
        assert asked(number, "/healthz") == (503, "stalled\n")
    finally:
        port.close()


def test_a_role_may_say_what_it_does_and_brings_its_metrics_up_to_date():
    refreshed = []
    port = RolePort(0, lambda: "", ready=lambda: "standing by", refresh=lambda: refreshed.append(True))
    assert port.answer("/readyz")[::2] == (200, b"standing by\n")
    assert not refreshed
    assert port.answer("/metrics")[0] == 200
    assert refreshed == [True]


def test_a_port_in_use_is_named():
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        number = taken.getsockname()[1]
        with pytest.raises(Unusable, match=f"GROUNDSWELL_METRICS_PORT: port {number}"):
            RolePort(number, lambda: "")


def test_without_a_port_nothing_is_served():
    RolePort(0, lambda: "").close()
