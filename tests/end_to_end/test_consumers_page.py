"""The consumers' page: its example comes to the numbers of the API, and of the read tables in every unkind order."""

from __future__ import annotations

import asyncio
import importlib
import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from running import ENVIRONMENT, Running, stack

from aggregates.database import open_database
from projections import engagement
from projections.engagement.queries import engagement as engagement_of
from projections.engagement.queries import tiers as tiers_of
from projections.engagement.tables import create_tables
from schemas import codec
from schemas.codec import decode, encode
from schemas.topics import TIERS, WINDOWS, new_topics

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "schemas"))
own_broker: Any = importlib.import_module("own_broker")

EXAMPLE = ROOT / "docs" / "examples" / "consume_panes.py"
GOLDEN = Path(codec.__file__).parent / "golden"
PARTITIONS = 2
FIRST, LAST = "2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z"
START, END = (int(datetime.fromisoformat(time).timestamp()) * 1000 for time in (FIRST, LAST))
MINUTES_5, HOUR = 300_000, 3_600_000
LINE = re.compile(r"^(\S+) +posts (\S+)  engagements (\S+)  rate by followers (\S+)$", re.MULTILINE)


def example(address: str) -> tuple[dict[str, tuple[int, int, str]], int]:
    """Posts, engagements and rate by brand or tier, and the active members, as the example prints them."""
    ran = subprocess.run(
        [sys.executable, str(EXAMPLE), "acme", FIRST, LAST],
        capture_output=True, text=True, timeout=120, check=False, env={**ENVIRONMENT, "GROUNDSWELL_KAFKA": address},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    rows = {name: (int(posts), int(number), rate) for name, posts, number, rate in LINE.findall(ran.stdout)}
    (active,) = re.findall(r"^active members (\d+)$", ran.stdout, re.MULTILINE)
    return rows, int(active)


def shown(answer: Any) -> tuple[int, int, str]:
    """The same of an answer's row, as its JSON has it."""
    rate = answer["rate_by_followers"]
    return answer["posts"], answer["engagements"], "none" if rate is None else f"{rate:.9f}"


# Against a stack


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("consumers")
    (directory / "brand.yaml").write_text("{brand: acme, plan: pro, timezone: UTC, currency: EUR}")
    profiles = [
        {"member_id": f"m{n}", "followers": 400 * (n + 1), "occurred_at": "2026-03-01T08:00:00Z"} for n in range(6)
    ]
    interactions = [
        {"member_id": f"m{n % 6}", "kind": kind, "surface": "member_post", "quantity": 1 if kind == "post" else n + 1,
         "post_id": f"p{n}", "occurred_at": f"2026-03-0{1 + n % 3}T{8 + n:02}:0{n}:00Z"}
        for n in range(9) for kind in ("post", "like", "share")
    ]  # fmt: skip
    for name, rows in {"profiles": profiles, "interactions": interactions}.items():
        filled = ({"brand_id": "acme", "platform": "x", "event_id": str(at), **row} for at, row in enumerate(rows))
        (directory / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in filled))
    with stack(directory / "stack") as up:
        up.run("apply", str(directory / "brand.yaml"))
        for name in ("profiles", "interactions"):
            up.run("publish", name, str(directory / f"{name}.jsonl"))
        up.run("wait")
        yield up


def test_the_example_prints_what_the_api_answers(running: Running) -> None:
    window = ("acme", "--window", "24h", "--as-of", LAST)
    brand, tiers = running.json("engagement", *window), running.json("tiers", *window)
    rows, active = example(running.json("status")["settings"]["kafka"])
    assert brand["posts"] == 3
    assert (rows.pop("acme"), active) == (shown(brand), brand["active_members"])
    expected = {row["tier"]: shown(row) for row in tiers["tiers"]}
    assert {"nano", "micro"} <= rows.keys()
    assert rows == {tier: row for tier, row in expected.items() if tier in rows or any(row[:2])}


def test_posts_come_through_the_whole_path_and_verification_covers_what_is_derived(running: Running) -> None:
    found = running.json("posts", "acme", "m0", "--window", "all")
    assert [(one["post_id"], one["engagements"], one["rate_by_followers"]) for one in found["posts"]] == [
        ("p6", 14, 0.035),
        ("p0", 2, 0.005),
    ]
    assert found["posts"][0]["last_activity"] == "2026-03-01T14:00:00Z"
    later = running.json("posts", "acme", "m0", "--window", "1h", "--as-of", "2026-03-01T15:00:00Z")
    assert [one["post_id"] for one in later["posts"]] == ["p6"]
    running.run("replay", "verify")


# Against records that no kind worker would write in this order


def pane(rng: random.Random, scope: str, stamp: int) -> dict[str, Any]:
    """A partial of any partition, segment and epoch, near the window's ends or within."""
    length = HOUR if scope == "member" else MINUTES_5
    starts_at = rng.choice([START - length, START, START + 7 * HOUR, END - length, END])
    counters = {name: rng.randint(-2, 90) for name in ("member_post.like", "member_post.share", "self.like")}
    return {
        "scope": scope, "brand_id": rng.choice(["acme", "acme", "other"]), "campaign_id": "",
        "tier": rng.choice(["nano", "macro"]) if scope == "brand_tier" else "",
        "member_id": f"m{rng.randint(1, 9)}" if scope == "member" else "", "platform": rng.choice(["x", "tok"]),
        "post_id": "", "starts_at": starts_at, "length_ms": length, "segment": rng.choice([-1, 0, 4]),
        "partition": rng.randrange(PARTITIONS), "epoch": rng.choice(["", "e1", "e2"]), "stamp": stamp,
        "counters": {**counters, "member_post.post": rng.randint(1, 3), "rate_ppb": rng.randint(0, 10**8)},
    }  # fmt: skip


def unkind(seed: int) -> list[tuple[str, int, bytes]]:
    """Topic, partition and value: newer before older, repeated, and with values of every released version."""
    rng = random.Random(seed)
    panes = [pane(rng, scope, stamp) for stamp in range(60) for scope in ("brand", "member", "brand_tier")]
    rng.shuffle(panes)
    panes += rng.choices(panes, k=40)
    sent = [
        (TIERS if one["scope"] == "brand_tier" else WINDOWS, one["partition"], encode("EngagementPane", one))
        for one in panes
    ]
    old = [(TIERS, 0, (GOLDEN / f"{name}.avro").read_bytes()) for name in ("EngagementPane.1", "MemberTier.1")]
    return [*old, *sent, (TIERS, 1, (GOLDEN / "MemberTier.2.avro").read_bytes())]


async def publish(address: str, records: list[tuple[str, int, bytes]]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_topics(
            [NewTopic(**one) for one in new_topics(PARTITIONS) if one["name"] in (WINDOWS, TIERS)]
        )
    finally:
        await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=address) as producer:
        for topic, partition, value in records:
            await producer.send(topic, value, partition=partition)
        await producer.flush()


@pytest.fixture
def broker_of_its_own() -> Iterator[str]:
    with own_broker.running() as address:
        yield address


def test_the_example_merges_partials_as_the_read_tables_do(broker_of_its_own: str, tmp_path: Path) -> None:
    records = unkind(7)
    asyncio.run(publish(broker_of_its_own, records))
    engine = open_database(f"sqlite:///{tmp_path}/read.db")
    with engine.begin() as conn:
        create_tables(conn)
        for topic in (WINDOWS, TIERS):
            for number in range(PARTITIONS):
                values = [decode(value)[1] for to, at, value in records if (to, at) == (topic, number)]
                engagement.apply(conn, topic, number, 0, len(values), values)
        brand = engagement_of(conn, "acme", "24h", 0, END)
        tiers = tiers_of(conn, "acme", "24h", 0, (("nano", 0), ("macro", 100_000)), END)
    engine.dispose()
    rows, active = example(broker_of_its_own)
    assert (rows.pop("acme"), active) == (shown(brand.model_dump(mode="json")), brand.active_members)
    assert rows == {row.tier: shown(row.model_dump(mode="json")) for row in tiers.tiers if row.tier in rows}
    assert rows.keys() == {"nano", "macro"}
