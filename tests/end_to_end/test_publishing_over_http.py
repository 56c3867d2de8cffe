"""Publishing over HTTP on a real stack with keys: what is accepted is on disk, can be waited for, and counts once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import httpx
import pytest
import running
from running import Running, stack, until

DEFINITIONS = """
{brand: acme, plan: pro, timezone: UTC, currency: EUR}
---
campaign: always
brand: acme
starts_at: 2020-01-01T00:00:00Z
ends_at: 2040-01-01T00:00:00Z
earn:
  - {rule: share, on: interaction, kind: [share], points: 10}
  - {rule: spend, on: purchase, per_minor: 100, points: 1}
"""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A stack that asks for keys, with a brand."""
    directory = tmp_path_factory.mktemp("published")
    running.ENVIRONMENT["GROUNDSWELL_API_KEYS_FILE"] = str(directory / "keys.json")
    try:
        with stack(directory / "stack") as up:
            file = directory / "definitions.yaml"
            file.write_text(DEFINITIONS)
            up.run("apply", str(file))
            yield up
    finally:
        del running.ENVIRONMENT["GROUNDSWELL_API_KEYS_FILE"]


@pytest.fixture(scope="module")
def client(up: Running) -> Iterator[httpx.Client]:
    """Somebody who publishes for acme; the key is made while the stack runs."""
    token = up.json("keys", "create", "--brand", "acme", "--scope", "redeem")["key"]
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{up.port}", headers=headers, timeout=60) as client:
        yield client


def share(event_id: str, member: str) -> dict[str, Any]:
    return {"event_id": event_id, "occurred_at": "2026-03-02T10:00:00Z", "brand_id": "acme", "member_id": member,
            "surface": "brand_post", "kind": "share", "quantity": 1, "platform": "x"}  # fmt: skip


def active(client: httpx.Client, member: str, position: str) -> int:
    """A member's points in a state that includes a position."""
    answer = client.get(f"/v1/brands/acme/members/{member}/balance", params={"min_position": position})
    assert answer.status_code == 200, answer.text
    return int(answer.json()["active"])


def test_who_publishes_reads_the_own_write_by_its_position(client: httpx.Client):
    answer = client.post("/v1/activity/interactions", json=share("s-1", "ann")).json()
    assert active(client, "ann", answer["position"]) == 10
    order = {"event_id": "o-1", "occurred_at": 1_772_445_600_000, "brand_id": "acme", "member_id": "bob",
             "order_id": "1", "kind": "completed", "amount_minor": 5_990, "currency": "EUR"}  # fmt: skip
    answer = client.post("/v1/activity/purchases", json=[order]).json()
    assert active(client, "bob", answer["records"][0]["position"]) == 59


def test_the_same_batch_again_counts_once(client: httpx.Client):
    batch = [share(f"b-{n}", member) for n in range(10) for member in ("cas", "dan")]
    first = client.post("/v1/activity/interactions", json=batch).json()
    again = client.post("/v1/activity/interactions", json=batch).json()
    assert (first["accepted"], again["accepted"]) == (20, 20)
    assert active(client, "cas", again["position"]) == active(client, "dan", again["position"]) == 100


def test_what_is_accepted_is_in_the_archive(client: httpx.Client, up: Running):
    answer = client.post("/v1/activity/interactions", json=[share(f"a-{n}", f"m{n}") for n in range(50)]).json()
    (says,) = (up.directory / "archive").glob("archived-*.json")
    ends = json.loads(says.read_text())
    for at in answer["position"].split(","):
        partition, offset = at.split(":")
        assert ends[partition] > int(offset)


def test_wait_returns_while_others_go_on_publishing(client: httpx.Client, up: Running):
    stop, sent = Event(), 0

    def publish() -> None:
        nonlocal sent
        while not stop.is_set():
            client.post("/v1/activity/interactions", json=share(f"w-{sent}", f"m{sent % 7}")).raise_for_status()
            sent += 1

    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(publish)
        until(lambda: sent > 3)
        up.run("wait", "--timeout", "30")
        assert not going.done()
        stop.set()
        going.result(20)


def test_a_revoked_key_publishes_nothing_more_and_the_command_line_needs_none(client: httpx.Client, up: Running):
    token = up.run("keys", "create", "--brand", "acme", "--scope", "redeem").strip()
    headers = {"Authorization": f"Bearer {token}"}
    assert client.post("/v1/activity/interactions", json=share("r-1", "eve"), headers=headers).status_code == 200
    up.run("keys", "revoke", token.split("_")[1])
    refused = client.post("/v1/activity/interactions", json=share("r-2", "eve"), headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (401, "invalid_key")
    up.run("adjust", "acme", "eve", "5", "--reason", "by hand")
    up.run("wait")
    assert up.json("balance", "acme", "eve")["active"] == 15
    status = up.json("status")
    assert (status["ready"], status["missing"]) == (True, [])
    assert sum(status["activity"]["ends"].values()) > 0
    until(lambda: (told := up.json("status")["activity"])["positions"] == told["ends"])


def test_a_command_over_http_says_whose_key_asked(client: httpx.Client, up: Running):
    path = "/v1/brands/acme/members/ann/redemptions"
    done = client.post(path, json={"points": 1}, headers={"Idempotency-Key": "k-1"})
    assert done.status_code == 201, done.text
    key_id = client.headers["Authorization"].split("_")[1]
    log = up.directory / "logs" / "api.log"
    until(
        lambda: f"key={key_id} command=redeem brand=acme member=ann idempotency_key=k-1 status=201" in log.read_text()
    )
    assert client.headers["Authorization"].removeprefix("Bearer ") not in log.read_text()
