"""The end of every test here: log, ledger, panes, dead letters and read models, all against what they must be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import psycopg
from deployment import SECRET, WAIT_SECONDS, Deployment, finished
from model import Model, Written, modelled, tier_of, written
from redecide import PAGE, differences, redecide

from aggregates.events import PurchaseRecorded, RefundRecorded
from aggregates.ledger import Ledger

SHOWN = 5
"""Differences that a failure shows."""


def assert_exact(deployment: Deployment, report: list[str]) -> None:
    """Wait until all is done, then compare everything."""
    deployment.run("wait", "--timeout", str(WAIT_SECONDS))
    started = time.monotonic()
    ends = deployment.ends()
    for store in ("ledger", "readstate"):
        deployment.until(lambda name=store: deployment.positions(name) == ends, 10, f"the {store} is at the end")
    assert_books_balance(deployment.database)
    with deployment.command("replay", "verify") as verifying:
        model, log = asyncio.run(modelled(deployment.kafka.bootstrap))
        found = asyncio.run(written(deployment.kafka.bootstrap))
        assert_panes(model, found)
        assert_letters(model, found)
        assert_ledger(deployment, model, log)
        finished(verifying)
    report.append(
        f"exact: {sum(map(len, log.values()))} records, {model.duplicates} duplicates, {len(found.panes)} panes in "
        f"{found.records} records, {len(found.letters)} dead letters ({found.repeated_letters} repeated), "
        f"{found.gone_back['members']} members' tiers that went back for a while; compared in "
        f"{time.monotonic() - started:.0f} s"
    )


def assert_ledger(deployment: Deployment, model: Model, log: dict[int, list[Any]]) -> None:
    """Every account's events are those of an undisturbed run, and every record derived from them is on the log."""
    ledger = Ledger(deployment.database)
    clean = redecide(log, SECRET.encode(), deployment.directory / "undisturbed.db")
    try:
        different = list(differences(ledger, clean))
        assert not different, f"{len(different)} accounts differ:\n" + "\n".join(different[:SHOWN])
        assert set(model.referrals) == derived(ledger), "a referral was lost, or came from nowhere"
    finally:
        ledger.close()
        clean.close()


def assert_books_balance(database: str) -> None:
    """The trial balance of every brand is zero, over books that are not empty."""
    with psycopg.connect(database) as db:
        sums = dict(db.execute("SELECT brand, SUM(points)::bigint FROM books GROUP BY brand").fetchall())
    assert sums
    assert not any(sums.values()), sums


def assert_panes(model: Model, found: Written) -> None:
    """Every pane and every member's tier is what the model counted."""
    assert not found.gone_back["panes"], f"{found.gone_back} records are older than one before them of their key"
    wrong = [
        f"{key}: counted {dict(model.panes.get(key, {}))}, written {dict(found.panes.get(key, {}))}"
        for key in _either(model.panes, found.panes)
        if dict(model.panes.get(key, {})) != dict(found.panes.get(key, {}))
    ]
    assert not wrong, f"{len(wrong)} of {len(model.panes)} panes differ:\n" + "\n".join(wrong[:SHOWN])
    assert found.members == {
        key: (tier_of(key[0], max(platforms.values())), platforms) for key, platforms in model.profiles.items()
    }


def assert_letters(model: Model, found: Written) -> None:
    """Exactly the records that must be refused are in the dead letters, each with its reason."""
    missing = sorted(model.letters.keys() - found.letters.keys())
    unfounded = sorted(found.letters.keys() - model.letters.keys())
    assert not missing, f"{len(missing)} dead letters are missing: {missing[:SHOWN]}"
    assert not unfounded, f"{len(unfounded)} dead letters should not be: {unfounded[:SHOWN]}"
    other = {at: (why, found.letters[at]) for at, why in model.letters.items() if why != found.letters[at]}
    assert {why for why, _ in other.values()} <= {"undecodable"}, list(other.items())[:SHOWN]


def derived(ledger: Ledger) -> set[str]:
    """Ids of the records that the ledger's purchases and refunds must have put on referrers' keys."""
    ids, after = set(), 0
    while page := ledger.notifications(after, PAGE):
        for recorded in page:
            event: Any = recorded.event
            is_due = isinstance(event, PurchaseRecorded) and event.referral == "due"
            if is_due or (isinstance(event, RefundRecorded) and event.referrer_id is not None):
                buyer = recorded.originator.split("/", 1)[1]
                digest = blake2b(f"{buyer}\0{event.origin.event_id}".encode(), digest_size=16).hexdigest()
                ids.add(f"referral:{digest}")
        after = page[-1].id
    return ids


def _either(one: Iterable[Any], other: Iterable[Any]) -> list[Any]:
    return sorted({*one, *other})
