"""`replay rederive` on a whole stack: from topics and from the archive, candidates, and that it writes nothing."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from running import Running, command, stack

from schemas.topics import ACTIVITY
from service.broker import kafka
from service.feeds.simulation import definitions
from streams.archive import Archive
from streams.archive.files import encode_run
from streams.connection import Brokers

SIMULATION = ("simulate", "--seed", "4", "--members", "60", "--days", "6")
BRAND, CAMPAIGN = "wavecrest", "spring-tide-6d"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with stack(tmp_path_factory.mktemp("stack")) as up:
        up.run(*SIMULATION)
        up.run("redeem", BRAND, member_with_points(up), "5")
        up.run("wait", "--timeout", "120")
        yield up


def member_with_points(up: Running) -> str:
    up.run("wait", "--timeout", "120")
    return next(e["member_id"] for e in up.json("standings", BRAND, CAMPAIGN)["entries"])


@pytest.fixture(scope="module")
def archive(running: Running, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("archive") / "activity"
    running.run("archive", "create", str(directory))
    return directory


def database(running: Running) -> str:
    return str(running.directory / "groundswell.db")


def forbid_writes(running: Running) -> list[str]:
    """Triggers that refuse any change of the ledger and of the read-state."""
    with sqlite3.connect(database(running)) as file:
        tables = [
            name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if name.startswith(("stored_", "ledger_", "stream_", "balances", "statements", "standings"))
        ]  # fmt: skip
        made = [f"forbid_{what}_{table}" for table in tables for what in ("INSERT", "UPDATE", "DELETE")]
        for name in made:
            _, what, table = name.split("_", 2)
            file.execute(
                f"CREATE TRIGGER {name} BEFORE {what} ON {table} BEGIN SELECT RAISE(ABORT, 'somebody writes'); END"
            )
    return made


def test_the_log_in_the_topics_and_in_an_archive_gives_every_decision_again_and_nothing_is_written(running, archive):
    ends = asyncio.run(kafka.log_ends(brokers(running), ACTIVITY))
    before = running.digests()
    triggers = forbid_writes(running)
    try:
        for source in ("topics", str(archive), str(running.directory / "archive")):
            found = running.json("replay", "rederive", "--from", source)
            assert (found["causes"], found["missing"], found["divergences"]) == ({}, [], [])
            assert found["records"] == sum(ends.values())
            assert found["decisions"] > 100
    finally:
        with sqlite3.connect(database(running)) as file:
            for name in triggers:
                file.execute(f"DROP TRIGGER {name}")
    assert "Every decision is the one that the ledger has." in " ".join(running.run("replay", "rederive").split())
    assert running.digests() == before
    assert asyncio.run(kafka.log_ends(brokers(running), ACTIVITY)) == ends


def brokers(running: Running) -> Brokers:
    return Brokers(json.loads((running.directory / "stack.json").read_text())["kafka"])


def test_an_archive_without_its_beginning_says_what_is_missing_and_ends_with_1(running, archive, tmp_path):
    whole = Archive(archive)
    tail = Archive(tmp_path)
    runs = []
    for source in whole.sources():
        records = [record for block in whole.read(source) for record in block]
        cut = len(records) // 2 if source.partition == 1 else 0
        runs.append(encode_run(source.partition, cut, records[cut:]))
    tail.append(ACTIVITY, whole.epoch, whole.partitions, runs)
    found = running.json("replay", "rederive", "--from", str(tmp_path), code=1)
    (gone,) = found["missing"]
    assert (gone["partition"], gone["start"]) == (1, 0)
    assert gone["end"] == runs[1].start
    assert gone["decisions"] > 0
    assert {one["partition"] for one in found["divergences"]} <= {1}
    assert set(found["causes"]) <= {"missing_input", "follows"}
    said = " ".join(running.run("replay", "rederive", "--from", str(tmp_path), code=1).split())
    assert f"partition 1 begins at offset {gone['end']}" in said


def test_an_archive_with_a_file_gone_is_no_archive(running, archive, tmp_path):
    for path in archive.iterdir():
        if path.is_file() and path.name != "000001-0.avro":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    done = running.run("replay", "rederive", "--from", str(tmp_path), code=2)
    assert done == ""
    assert running.run("replay", "rederive", "--from", str(tmp_path / "nowhere"), code=2) == ""


def test_a_stored_grant_that_was_written_over_is_named_with_its_record(running, archive):
    with sqlite3.connect(database(running)) as file:
        number, state = file.execute(
            "SELECT rowid, state FROM stored_events WHERE topic = 'account.purchase-recorded.1' AND "
            "instr(CAST(state AS TEXT), '\"grants\":[{') LIMIT 1"
        ).fetchone()
        event = json.loads(state)
        event["grants"][0]["points"] += 1_000
        file.execute("UPDATE stored_events SET state = ? WHERE rowid = ?", (json.dumps(event).encode(), number))
    try:
        found = running.json("replay", "rederive", "--from", str(archive), code=1)
    finally:
        with sqlite3.connect(database(running)) as file:
            file.execute("UPDATE stored_events SET state = ? WHERE rowid = ?", (state, number))
    (first, *_) = (one for one in found["divergences"] if one["cause"] == "code_change")
    assert (first["event_id"], first["field"]) == (event["origin"]["event_id"], "grants[0].points")
    assert first["recorded_points"] - first["derived_points"] == 1_000


def candidate(directory: Path, **changes: str) -> str:
    text = definitions(6)
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    file = directory / "candidate.yaml"
    file.write_text(text.split("---\n")[1])
    return str(file)


def test_a_candidate_of_the_same_rules_changes_nothing(running, tmp_path):
    found = running.json("replay", "rederive", "--candidate", candidate(tmp_path))
    (campaign,) = found["campaigns"]
    assert campaign["paid"] == campaign["would"] > 0
    assert found["commands"] == []
    entries = running.json("standings", BRAND, CAMPAIGN, "--limit", "1000")["entries"]
    (standings,) = found["standings"]
    assert standings["retroactive"] is True
    assert [(e["rank"], e["member_id"], e["score"], e["paid"]) for e in standings["entries"]] == [
        (e["rank"], e["member_id"], e["score"], e["score"]) for e in entries
    ]


def test_a_candidate_that_pays_twice_as_much_is_added_up_by_tier_day_and_member(running, tmp_path):
    twice = candidate(tmp_path, a=("per_minor: 100, points: 1", "per_minor: 100, points: 2"))
    found: Any = running.json("replay", "rederive", "--candidate", twice, code=1)
    (campaign,) = found["campaigns"]
    with sqlite3.connect(database(running)) as file:
        (bought,) = file.execute("SELECT SUM(points) FROM statements WHERE rule = 'spend'").fetchone()
    assert abs(campaign["would"] - campaign["paid"] - bought) < 60  # halves of a refunded euro
    for by in ("tiers", "days", "members"):
        assert sum(one["paid"] for one in found[by]) == campaign["paid"]
        assert sum(one["would"] for one in found[by]) == campaign["would"]
    printed = running.run("replay", "rederive", "--candidate", twice, "--top", "3", code=1)
    assert "Nothing of this is paid" in " ".join(printed.split())


def test_a_campaign_that_nobody_defined_gets_its_standings_over_the_past(running, tmp_path):
    file = tmp_path / "new.yaml"
    file.write_text(
        f"campaign: cheers\nbrand: {BRAND}\nstarts_at: 2026-03-01T00:00:00Z\nends_at: 2026-03-05T00:00:00Z\n"
        "earn: [{rule: like, on: interaction, kind: [like], points: 1}]\nstandings: interactions\nprizes: {1: 50}\n"
    )
    found = running.json("replay", "rederive", "--candidate", str(file), "--from", "topics", code=1)
    (standings,) = found["standings"]
    assert (standings["metric"], standings["retroactive"]) == ("interactions", True)
    scores = [entry["score"] for entry in standings["entries"]]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0
    assert standings["entries"][0]["prize"] == 50
    assert {entry["paid"] for entry in standings["entries"]} == {0}
    file.write_text("campaign: x\nbrand: nobody\nstarts_at: 0\nends_at: 1\nearn: []\n")
    assert running.run("replay", "rederive", "--candidate", str(file), code=2) == ""


def test_until_derives_what_was_on_the_log_by_then(running):
    assert running.json("replay", "rederive", "--until", "2020-01-01T00:00:00Z")["records"] == 0
    assert running.run("replay", "rederive", "--until", "yesterday", code=2) == ""


QUESTIONS = [
    ("engagement", BRAND, "--window", "all"),
    ("tiers", BRAND, "--window", "all"),
    ("standings", BRAND, CAMPAIGN, "--limit", "1000"),
]


def test_what_was_known_at_an_instant_is_read_from_a_directory_of_its_own(running, tmp_path):
    answers = [running.json(*question) for question in QUESTIONS]
    known = datetime.now(UTC).isoformat()
    file = tmp_path / "more.jsonl"
    like = {"event_id": "l", "occurred_at": "2026-03-02T00:00:00Z", "brand_id": BRAND, "member_id": "m00001"}
    like |= {"surface": "member_post", "kind": "like", "quantity": 5, "platform": "x", "post_id": "p", "followers": 10}
    file.write_text(
        json.dumps(like) + "\n" + json.dumps({**like, "event_id": "p", "kind": "post", "quantity": 1}) + "\n"
    )
    running.run("publish", "interactions", str(file))
    running.run("wait")
    now = [running.json(*question) for question in QUESTIONS]
    assert [one == other for one, other in zip(answers, now, strict=True)] == [False, False, False]
    then = tmp_path / "then"
    made = running.json("replay", "known-at", known, str(then))
    assert made["missing"] == 0
    for question, answer in zip(QUESTIONS, answers, strict=True):
        done = command(*question, "--json", "--data-dir", str(then))
        assert json.loads(done.stdout) == answer, done.stderr
    brand = tmp_path / "brand.yaml"
    brand.write_text("brand: another\ncurrency: EUR\n")
    member = (BRAND, "m00001")
    before = (then / "groundswell.db").read_bytes()
    for writes in (
        ("publish", "interactions", str(file)), ("apply", str(brand)), ("simulate", "--members", "2", "--days", "1"),
        ("settle", BRAND, "spring-tide"), ("redeem", *member, "5"), ("adjust", *member, "5", "--reason", "x"),
        ("cancel", *member, "abc"), ("wait",), ("dlt", "list"), ("replay", "verify"),
    ):  # fmt: skip
        refused = command(*writes, "--data-dir", str(then))
        assert (refused.returncode, "was made by `replay known-at`" in refused.stderr) == (2, True), refused.stderr
    assert (then / "groundswell.db").read_bytes() == before
    assert running.run("replay", "known-at", known, str(then), code=2) == ""


def test_a_campaign_applied_today_gets_standings_over_the_past_that_pay_nothing(running, tmp_path):
    """The last test here: it applies a definition."""
    file = tmp_path / "late.yaml"
    file.write_text(
        f"campaign: late\nbrand: {BRAND}\nstarts_at: 2026-03-01T00:00:00Z\nends_at: 2026-03-05T00:00:00Z\n"
        "earn: [{rule: like, on: interaction, kind: [like], points: 1}]\n"
    )
    running.run("apply", str(file))
    running.run("wait")
    balances = running.digests()["balances"]
    assert running.json("standings", BRAND, "late")["entries"] == []
    running.run("standings", BRAND, "late", "--retroactive", code=1)
    found = running.json("replay", "standings", BRAND, "late", "--top", "1000")
    assert (found["retroactive"], found["final"], found["metric"]) == (True, False, "points")
    assert len(found["entries"]) > 3
    path = f"/v1/brands/{BRAND}/campaigns/late/standings?retroactive=true&limit=1000"
    with urllib.request.urlopen(f"http://127.0.0.1:{running.port}{path}", timeout=10) as answer:
        assert json.load(answer) == found
    page = running.json("standings", BRAND, "late", "--retroactive", "--limit", "2", "--cursor", "2")
    assert (page["entries"], page["next_cursor"]) == (found["entries"][2:4], "4")
    running.run("standings", BRAND, "late", "--retroactive", "--as-of", "2026-03-02T00:00:00Z", code=2)
    assert running.digests()["balances"] == balances
    running.run("replay", "rederive")
    running.run("replay", "standings", BRAND, "nothing", code=2)
