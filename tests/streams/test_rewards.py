"""Batches on their way into the ledger: chunks that come while it is busy are its next batch, no more changes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregates.activity import Activity
from aggregates.definitions import Brand, Campaign
from aggregates.events import to_stored
from aggregates.ledger import Ledger, Source
from aggregates.parsing import parse
from schemas.topics import ACTIVITY
from streams import rewards
from streams.commits import Commits
from streams.rewards import Rewards

CAMPAIGN = {
    "campaign": "spring",
    "brand": "acme",
    "starts_at": 0,
    "ends_at": 10**12,
    "budget": 40,
    "earn": [{"rule": "spend", "on": "purchase", "per_minor": 100, "points": 1, "caps": {"total": 25}}],
}
SOURCE = Source(ACTIVITY, "e1", 0)
RECORDS = 60


def purchase(offset: int) -> Activity:
    """One point for one of three members."""
    brand, campaign = parse({"brand": "acme", "currency": "EUR"}, "test"), parse(CAMPAIGN, "test")
    assert isinstance(brand, Brand)
    assert isinstance(campaign, Campaign)
    value = {"event_id": f"e{offset}", "occurred_at": offset, "brand_id": "acme", "member_id": f"m{offset % 3}"}
    value |= {"order_id": f"o{offset}", "kind": "completed", "amount_minor": 100, "currency": "EUR"}
    value |= {"campaign_id": None, "referrer_id": None}
    return Activity("Purchase", offset, value, brand, (campaign,), False, (), "unknown", None, False)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    made.migrate()
    yield made
    made.close()


def stored(ledger: Ledger) -> list[tuple[str, tuple[str, bytes]]]:
    """Every event with the account that it is of."""
    return [(one.originator, to_stored(one.event)) for one in ledger.notifications(0, 10_000)]


def submit(target: Rewards, start: int, end: int) -> None:
    """One chunk; every fifth offset is of no meaning for points."""
    target.submit([purchase(offset) for offset in range(start, end) if offset % 5], end)


def test_chunks_that_come_while_the_ledger_is_busy_are_one_batch(ledger: Ledger) -> None:
    with Commits(ledger) as commits:
        ledger.take(SOURCE, "w", 0)
        busy = threading.Event()
        commits.deciding.submit(busy.wait)
        target = Rewards(ledger, SOURCE, 0, "w", lambda: 7, commits)
        for start in range(0, RECORDS, 3):
            submit(target, start, start + 3)
        assert target.position == RECORDS
        busy.set()
        asyncio.run(target.settle())
        submit(target, RECORDS, RECORDS + 1)
        asyncio.run(target.settle())
    owned = ledger.store.owner(SOURCE.name)
    assert owned is not None
    assert (owned.position, owned.batch) == (RECORDS + 1, 2), "one batch of all that waited, and one for the last"


def test_a_batch_of_several_chunks_has_a_limit(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewards, "MOST_ACTIVITIES", 10)
    with Commits(ledger) as commits:
        ledger.take(SOURCE, "w", 0)
        busy = threading.Event()
        commits.deciding.submit(busy.wait)
        target = Rewards(ledger, SOURCE, 0, "w", lambda: 7, commits)
        for start in range(0, 25, 5):  # four activities each
            submit(target, start, start + 5)
        busy.set()
        asyncio.run(target.settle())
    owned = ledger.store.owner(SOURCE.name)
    assert owned is not None
    assert (owned.position, owned.batch) == (25, 3)


@settings(max_examples=30)
@given(
    cuts=st.sets(st.integers(1, RECORDS - 1)),
    settled=st.sets(st.integers(1, RECORDS)),
    before=st.integers(0, RECORDS // 2),
)
def test_however_it_is_cut_and_whenever_it_waits_the_ledger_holds_the_same(
    tmp_path_factory: pytest.TempPathFactory, cuts: set[int], settled: set[int], before: int
) -> None:
    directory = tmp_path_factory.mktemp("ledgers")
    plain, cut = (Ledger(f"sqlite:///{directory / name}.db") for name in ("plain", "cut"))
    for one in (plain, cut):
        one.migrate()
        one.take(SOURCE, "w", 0)
    submit(Rewards(plain, SOURCE, 0, "w", lambda: 7), 0, RECORDS)

    async def in_pieces() -> None:
        with Commits(cut) as commits:
            first = Rewards(cut, SOURCE, 0, "w", lambda: 7, commits)
            submit(first, 0, before)
            await first.settle()
            cut.take(SOURCE, "w", 0)  # started over: what is folded again was stored before
            target = Rewards(cut, SOURCE, before, "w", lambda: 7, commits)
            edges = [0, *sorted(cuts), RECORDS]
            for start, end in pairwise(edges):
                submit(target, start, end)
                if end in settled:
                    await target.settle()
            await target.settle()

    asyncio.run(in_pieces())
    assert stored(cut) == stored(plain)
    for one in (plain, cut):
        one.close()
