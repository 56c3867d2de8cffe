"""A campaign is settled while workers and the projector are killed: by what stood before its markers, and paid once."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from comparison import assert_exact
from deployment import Deployment, drawn, finished
from model import read_all
from redecide import PAGE

from aggregates.ledger import Ledger
from schemas.codec import DecodeError, decode
from schemas.topics import ACTIVITY

EVENTS = int(os.environ.get("SIDE_EVENTS") or 18_000)
BRAND, CAMPAIGN = "acme", "short"
PRIZES = {1: 5000, 2: 3000, 3: 1000}


def test_a_settlement_under_kills_goes_by_the_log_and_pays_once(deployment, report):
    seed, rnd = drawn()
    report.append(f"seed {seed}")
    events = deployment.workload(seed, EVENTS)
    deployment.workers.scale(2)
    deployment.publish(events, EVENTS // 3)
    settling = deployment.command("settle", BRAND, CAMPAIGN, "--timeout", "120")
    deployment.publish(events, EVENTS // 3)
    for _ in range(3):
        time.sleep(rnd.uniform(0, 2))  # the instants are what is random here
        deployment.projectors.kill(0)
        deployment.workers.kill(rnd.randrange(2))
    deployment.publish(events)
    finished(settling)
    assert_exact(deployment, report)

    scores = points_before(deployment, asyncio.run(markers(deployment.kafka.bootstrap)))
    kept = json.loads(deployment.run("standings", BRAND, CAMPAIGN, "--settled", "--limit", "1000", "--json"))
    assert kept["final"]
    assert {place["member_id"]: place["score"] for place in kept["entries"]} == scores
    won = prizes_of(deployment)
    assert won == {member: Counter({points: 1}) for member, points in due(scores).items()}, scores
    digests = deployment.run("digest", "--json")
    deployment.run("settle", BRAND, CAMPAIGN)
    deployment.run("wait")
    assert deployment.run("digest", "--json") == digests, "settled twice"
    report.append(f"{len(scores)} places, {len(won)} prizes; worker exits: {dict(deployment.workers.reasons())}")


async def markers(bootstrap: str) -> dict[int, int]:
    """Partition → the offset of the campaign's first marker in it."""
    found: dict[int, int] = {}
    for partition, records in (await read_all(bootstrap, ACTIVITY)).items():
        for record in records:
            try:
                kind, value = decode(record.value)
            except DecodeError:
                continue
            if kind == "CampaignClosing" and value["campaign_id"] == CAMPAIGN:
                found.setdefault(partition, record.offset)
    return found


def account_events(deployment: Deployment) -> Iterator[tuple[str, Any]]:
    """Member and event of each account of the brand, in the ledger's order."""
    ledger, after = Ledger(deployment.database), 0
    try:
        while page := ledger.notifications(after, PAGE):
            for recorded in page:
                if recorded.originator.startswith(f"account:{BRAND}/"):
                    yield recorded.originator.split("/", 1)[1], recorded.event
            after = page[-1].id
    finally:
        ledger.close()


def points_before(deployment: Deployment, before: dict[int, int]) -> dict[str, int]:
    """Each member's points of the campaign from the records before its markers."""
    scores: Counter[str] = Counter()
    for member, event in account_events(deployment):
        if event.origin.offset > before[event.origin.partition]:
            continue
        for entry in getattr(event, "grants", ()):
            if entry.campaign == CAMPAIGN:
                scores[member] += entry.points
        for entry in getattr(event, "reversals", ()):
            if entry.campaign == CAMPAIGN:
                scores[member] -= entry.points
    return dict(scores)


def due(scores: dict[str, int]) -> dict[str, int]:
    """Who wins what: equal scores share a rank, and no score wins nothing."""
    ranks = {member: 1 + sum(other > score for other in scores.values()) for member, score in scores.items()}
    return {member: PRIZES[rank] for member, rank in ranks.items() if rank in PRIZES and scores[member] > 0}


def prizes_of(deployment: Deployment) -> dict[str, Counter[int]]:
    """Member → how often each prize was paid."""
    won: dict[str, Counter[int]] = {}
    for member, event in account_events(deployment):
        if type(event).__name__ == "PrizeAwarded" and event.campaign == CAMPAIGN:
            won.setdefault(member, Counter())[event.points] += 1
    return won
