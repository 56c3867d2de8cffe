"""The whole path through the command line and HTTP: a share and a purchase become points, standings and rates."""

from __future__ import annotations

import json
import signal
import sqlite3
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from running import Running, command, free_port, stack, until

DEFINITIONS = """
brand: acme
plan: free
timezone: Europe/Paris
currency: EUR
points: {expire_after: 365d, negative_balance: allow}
---
campaign: spring
brand: acme
version: 1
starts_at: 2026-03-01T00:00:00Z
ends_at: 2026-04-01T00:00:00Z
earn:
  - {rule: share, on: interaction, kind: [share], surface: [brand_post], points: 10,
     tier_multiplier: {nano: 3, micro: 2}, caps: {per_day: 50}}
  - {rule: spend, on: purchase, per_minor: 100, points: 1}
  - {rule: bring-a-friend, on: referral, points: 500}
"""
MARCH = "2026-03-0{}T08:00:00Z"
PROFILES = [{"event_id": "f1", "occurred_at": MARCH.format(1), "member_id": "ann", "platform": "x", "followers": 500}]


def ann_on_x(event_id: str, day: int, kind: str, surface: str, quantity: int = 1) -> dict[str, Any]:
    """What Ann's followers do on her post, or what she does on the brand's."""
    return {
        "event_id": event_id,
        "occurred_at": MARCH.format(day),
        "member_id": "ann",
        "kind": kind,
        "surface": surface,
        "quantity": quantity,
        "platform": "x",
        "post_id": "p1" if surface == "member_post" else "brand-1",
    }


INTERACTIONS = [
    ann_on_x("i1", 2, "share", "brand_post"),
    ann_on_x("i2", 2, "post", "member_post"),
    ann_on_x("i3", 2, "like", "member_post", 50),
    ann_on_x("i4", 2, "share", "brand_post"),
]
BUY = {"member_id": "bob", "order_id": "o1", "currency": "EUR"}
PURCHASES = [
    {**BUY, "event_id": "b1", "occurred_at": MARCH.format(3), "kind": "completed", "amount_minor": 12345,
     "referrer_id": "ann"},
    {**BUY, "event_id": "b2", "occurred_at": MARCH.format(4), "kind": "refunded", "amount_minor": 2345},
]  # fmt: skip


def write(directory: Path, name: str, rows: list[dict[str, Any]]) -> str:
    file = directory / f"{name}.jsonl"
    file.write_text("".join(json.dumps({"brand_id": "acme", **row}) + "\n" for row in rows))
    return str(file)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("input")
    (directory / "programs.yaml").write_text(DEFINITIONS)
    return {
        "programs": str(directory / "programs.yaml"),
        "profiles": write(directory, "profiles", PROFILES),
        "interactions": write(directory, "interactions", INTERACTIONS),
        "purchases": write(directory, "purchases", PURCHASES),
    }


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, files: dict[str, str]):
    with stack(tmp_path_factory.mktemp("stack")) as up:
        up.run("apply", files["programs"])
        for kind in ("profiles", "interactions", "purchases"):
            up.run("publish", kind, files[kind])
        up.run("wait")
        yield up


def get(running: Running, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{running.port}{path}", timeout=10) as answer:
        return json.load(answer)


def post(running: Running, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{running.port}{path}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}},
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_shares_pay_by_tier_until_the_cap_and_a_friends_purchase_pays_the_referrer(running):
    balance = running.json("balance", "acme", "ann", "--as-of", "2026-03-05T00:00:00Z")
    assert (balance["active"], balance["pending"]) == (30 + 20 + 500, 0)


def test_a_partial_refund_reverses_what_the_net_does_not_earn(running):
    balance = running.json("balance", "acme", "bob", "--as-of", "2026-03-05T00:00:00Z")
    assert (balance["active"], balance["reversed"]) == (100, 23)


def test_the_json_of_a_command_is_the_http_body(running):
    asked = "?as_of=2026-03-05T00:00:00Z"
    assert running.json("balance", "acme", "ann", "--as-of", "2026-03-05T00:00:00Z") == get(
        running, f"/v1/brands/acme/members/ann/balance{asked}"
    )
    assert running.json("standings", "acme", "spring") == get(running, "/v1/brands/acme/campaigns/spring/standings")


def test_every_entry_names_its_source_rule_and_version(running):
    entries = running.json("statement", "acme", "ann")["entries"]
    assert [(e["rule"], e["points"], e["campaign"], e["campaign_version"]) for e in entries] == [
        ("share", 30, "spring", 1), ("share", 20, "spring", 1), ("bring-a-friend", 500, "spring", 1),
    ]  # fmt: skip
    assert entries[0]["source"]["topic"] == "members.activity.v1"
    assert entries[0]["source"]["event_id"] == "i1"
    told = running.json("explain", "acme", "ann", entries[1]["entry_id"])
    assert "per_day" in json.dumps(told) or "cap_day" in json.dumps(told)


def test_standings_rates_and_tiers_come_out_exactly(running):
    standings = running.json("standings", "acme", "spring")
    assert [(e["rank"], e["member_id"], e["tier"], e["score"]) for e in standings["entries"]] == [
        (1, "ann", "nano", 550), (2, "bob", "unknown", 100),
    ]  # fmt: skip
    report = running.json("engagement", "acme", "--window", "all")
    assert (report["posts"], report["rate_by_followers"], report["per_post"]) == (1, 0.1, 50)
    assert report["counts"]["brand_post"]["share"] == 2
    assert (report["revenue_minor"], report["refunds_minor"], report["referred_revenue_minor"]) == (12345, 2345, 10000)
    tiers = {row["tier"]: row for row in running.json("tiers", "acme", "--window", "all")["tiers"]}
    assert (tiers["nano"]["members"], tiers["nano"]["rate_by_followers"]) == (1, 0.1)


def test_the_same_input_again_changes_no_digest(running, files):
    before = running.digests()
    assert list(before)[:3] == ["balances", "statements", "standings"]
    for kind in ("profiles", "interactions", "purchases"):
        running.run("publish", kind, files[kind])
    running.run("apply", files["programs"])
    running.run("wait")
    assert running.digests() == before


def test_verification_names_a_row_that_was_changed_by_hand(running):
    running.run("replay", "verify")
    with sqlite3.connect(running.directory / "groundswell.db", timeout=30) as db:
        (entry,) = db.execute("SELECT entry_id FROM statements WHERE member='bob' AND points > 0").fetchone()
        db.execute("UPDATE statements SET points = points + 1 WHERE entry_id = ?", (entry,))
    db.close()
    told = running.run("replay", "verify", code=1)
    assert entry in told
    assert "124" in told
    with sqlite3.connect(running.directory / "groundswell.db", timeout=30) as db:
        db.execute("UPDATE statements SET points = points - 1 WHERE entry_id = ?", (entry,))
    db.close()
    running.run("replay", "verify")


def test_every_read_model_is_rebuilt_while_it_serves_and_the_one_before_can_be_had_back(running, files):
    before = running.digests()
    for more in ((), ("--rollback",)):
        report = running.json("replay", "rebuild", "all", *more)
        assert {one["name"] for one in report["projections"]} == set(before)
        assert report["swapped"]
        running.run("publish", "interactions", files["interactions"])
        running.run("wait")
        assert running.digests() == before
        running.run("replay", "verify")


def test_a_redemption_spends_once_however_often_it_is_asked(running):
    path = "/v1/brands/acme/members/ann/redemptions"
    status, first = post(running, path, {"points": 100}, Idempotency_Key="key-1")
    assert status == 201
    assert post(running, path, {"points": 100}, Idempotency_Key="key-1") == (201, first)
    status, reused = post(running, path, {"points": 7}, Idempotency_Key="key-1")
    assert (status, reused["code"]) == (409, "idempotency_key_reused")
    status, refused = post(running, path, {"points": 10_000}, Idempotency_Key="key-2")
    assert (status, refused["code"]) == (422, "insufficient_points")
    assert post(running, path, {"points": 1})[0] == 400
    running.run("wait")
    assert running.json("balance", "acme", "ann")["spent"] == 100
    assert running.json("replay", "verify")["projections"]


def test_what_cannot_be_read_is_a_dead_letter_that_can_be_listed(running, tmp_path):
    rows = [
        {**PURCHASES[0], "event_id": "x1", "brand_id": "nobody"},
        {**PURCHASES[0], "event_id": "x2", "currency": "USD"},
    ]
    running.run("publish", "purchases", write(tmp_path, "bad", rows))
    running.run("wait")
    letters = running.json("dlt", "list")
    found = letters["dead_letters"]
    assert {letter["reason"] for letter in found} == {"unknown_brand", "wrong_currency"}


def test_a_part_that_dies_is_named_and_the_rest_is_stopped(tmp_path):
    with stack(tmp_path) as up:
        import os

        os.kill(up.part("projector"), signal.SIGKILL)
        until(lambda: up.process.poll() is not None, 40)
        assert up.process.returncode == 1
        assert up.process.stdout is not None
        assert "the projector died" in up.process.stdout.read()


def test_a_used_directory_is_refused_until_it_is_set_aside(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with stack(tmp_path):
        again = command("up", "--data-dir", str(tmp_path), "--port", str(free_port()))
        assert (again.returncode, again.stderr.count("\n")) == (2, 1)
        assert "runs on" in again.stderr
    used = command("up", "--data-dir", str(tmp_path), "--port", str(free_port()))
    assert (used.returncode, used.stderr.count("\n")) == (2, 1)
    assert "--fresh" in used.stderr
    with stack(tmp_path, "--fresh") as up:
        assert up.json("digest")["projections"][0]["rows"] == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_port_in_use_is_said_before_anything_starts(tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = command("up", "--data-dir", str(tmp_path), "--port", str(port))
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert f"port {port}" in refused.stderr


def test_a_command_without_a_stack_says_how_to_start_one(tmp_path):
    for arguments in (("wait",), ("balance", "acme", "ann"), ("digest",), ("worker",)):
        refused = command(*arguments, "--data-dir", str(tmp_path))
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
        assert "groundswell up" in refused.stderr


RACE = """
brand: gala
plan: pro
currency: EUR
---
campaign: race
brand: gala
starts_at: 2025-03-01T00:00:00Z
ends_at: 2025-04-01T00:00:00Z
earn: [{rule: share, on: interaction, kind: [share], points: 10}]
standings: interactions
prizes: {1: 500, 2: 300}
"""


def test_a_campaign_that_is_over_is_settled_and_its_prizes_are_paid_once(running: Running, tmp_path: Path) -> None:
    def shares(name: str, by_member: dict[str, int]) -> None:
        rows = [
            {"brand_id": "gala", "event_id": f"{name}-{member}", "occurred_at": "2025-03-10T12:00:00Z",
             "member_id": member, "kind": "share", "surface": "brand_post", "quantity": count, "platform": "x"}
            for member, count in by_member.items()
        ]  # fmt: skip
        running.run("publish", "interactions", write(tmp_path, name, rows))
        running.run("wait")

    (tmp_path / "race.yaml").write_text(RACE)
    running.run("apply", str(tmp_path / "race.yaml"))
    shares("first", {"ann": 3, "bob": 7, "cat": 3, "dan": 1})
    assert running.json("campaigns", "gala")["campaigns"][0]["status"] == "ended"
    assert running.json("standings", "gala", "race")["final"] is False
    running.run("standings", "gala", "race", "--settled", code=1)
    settled = running.json("settle", "gala", "race")
    won = {"bob": 500, "ann": 300, "cat": 300}
    assert {one["member_id"]: one["prize"] for one in settled["prizes"]} == won
    running.run("wait")
    balances = {member: running.json("balance", "gala", member)["active"] for member in ("ann", "bob", "cat", "dan")}
    assert balances == {"ann": 330, "bob": 570, "cat": 330, "dan": 10}
    digests = running.digests()
    again = running.json("settle", "gala", "race")
    running.run("wait")
    assert ({**again, "position": settled["position"]}, running.digests()) == (settled, digests)
    shares("late", {"dan": 9})
    live = get(running, "/v1/brands/gala/campaigns/race/standings")
    assert live["final"] is True
    assert [(one["member_id"], one["score"], one["prize"]) for one in live["entries"]] == [
        ("dan", 10, None), ("bob", 7, 500), ("ann", 3, 300), ("cat", 3, 300)
    ]  # fmt: skip
    kept = get(running, "/v1/brands/gala/campaigns/race/standings?settled=true")["entries"]
    assert [(one["rank"], one["member_id"], one["score"], one["prize"]) for one in kept] == [
        (1, "bob", 7, 500), (2, "ann", 3, 300), (2, "cat", 3, 300), (4, "dan", 1, None)
    ]  # fmt: skip
    assert running.json("campaigns", "gala")["campaigns"][0]["status"] == "settled"
    running.run("replay", "verify")
