"""The ledger application on a real SQLite file: positions, fences, budgets and what a failed write leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from account_cases import NOON, brand, campaign
from eventsourcing.persistence import OperationalError

from aggregates.activity import Activity
from aggregates.events import BrandDefined, PurchaseRecorded
from aggregates.ledger import Batch, Fenced, Ledger, Source, account_id, brand_aggregate
from aggregates.ledger_store import SQLiteLedgerRecorder

SOURCE = Source("members.activity.v1", "epoch", 0)
BRAND = brand()
SPRING = campaign("[{rule: spend, on: purchase, per_minor: 100, points: 1}]")
LIMITED = campaign("[{rule: spend, on: purchase, per_minor: 100, points: 1}]", "budget: 25")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return another(tmp_path, migrate=True)


def another(directory: Path, *, migrate: bool = False) -> Ledger:
    """A second process on the same file."""
    made = Ledger(f"sqlite:///{directory / 'ledger.db'}")
    if migrate:
        made.migrate()
    return made


def buy(offset: int, member: str = "ann", of: Any = SPRING) -> Activity:
    """A purchase of 10.00 EUR."""
    value = {
        "event_id": f"e{offset}", "occurred_at": NOON, "brand_id": "acme", "member_id": member,
        "order_id": f"o{offset}", "kind": "completed", "amount_minor": 1000, "currency": "EUR", "campaign_id": None,
        "referrer_id": None,
    }  # fmt: skip
    return Activity("Purchase", offset, value, BRAND, (of,), False, (), "unknown", None, False)


def batch(start: int | None, end: int, *activities: Activity, writer: str = "w", source: Source = SOURCE) -> Batch:
    return Batch(source, start, end, activities, NOON + 1, writer, end)


def test_events_and_position_are_stored_together(ledger, tmp_path):
    assert ledger.position(SOURCE) is None
    ledger.consume(batch(None, 5, buy(3)))
    ledger.consume(batch(5, 9))
    fresh = another(tmp_path)
    assert fresh.position(SOURCE) == 9
    assert fresh.account("acme", "ann").balance_at(NOON).active == 10
    (recorded,) = fresh.notifications(0, 10)
    assert isinstance(recorded.event, PurchaseRecorded)
    assert (recorded.originator, recorded.event.origin.offset) == (account_id("acme", "ann"), 3)


def test_a_stale_owner_is_fenced_and_writes_nothing(ledger, tmp_path):
    ledger.consume(batch(None, 5, buy(3)))
    zombie = another(tmp_path)
    ledger.consume(batch(5, 8, buy(6)))
    with pytest.raises(Fenced, match="at offset 8, this batch was built on 5"):
        zombie.consume(batch(5, 7, buy(6), writer="zombie"))
    with pytest.raises(Fenced):
        zombie.consume(batch(None, 7, buy(6), writer="zombie"))
    assert len(ledger.notifications(0, 10)) == 2


def test_positions_of_another_creation_of_the_topic_are_not_taken_for_this_one(ledger):
    ledger.consume(batch(None, 500, buy(3)))
    anew = Source(SOURCE.topic, "another epoch", 0)
    assert ledger.position(anew) is None
    ledger.consume(batch(None, 2, buy(1), source=anew))
    assert (ledger.position(SOURCE), ledger.position(anew)) == (500, 2)


def test_after_a_failed_write_no_decision_survives_in_memory(ledger, monkeypatch):
    ledger.consume(batch(None, 5, buy(3)))
    real = SQLiteLedgerRecorder._insert_events

    def fails(*_: Any, **__: Any) -> Any:
        raise OperationalError("disk I/O error")

    monkeypatch.setattr(SQLiteLedgerRecorder, "_insert_events", fails)
    with pytest.raises(OperationalError):
        ledger.consume(batch(5, 8, buy(6)))
    monkeypatch.setattr(SQLiteLedgerRecorder, "_insert_events", real)
    ledger.consume(batch(5, 8, buy(6)))
    assert ledger.account("acme", "ann").balance_at(NOON).active == 20
    assert [v.originator_version for v in ledger.events.get(account_id("acme", "ann"))] == [1, 2]


def test_a_lost_acknowledgement_is_told_from_another_owner(ledger):
    ledger.consume(batch(None, 5, buy(3)))
    ledger.consume(batch(None, 5, buy(3)))  # the same writer and batch again: it was stored
    assert len(ledger.notifications(0, 10)) == 1
    with pytest.raises(Fenced):
        ledger.consume(batch(None, 5, buy(3), writer="other"))


def test_a_budget_is_never_overspent_by_two_partitions(ledger, tmp_path):
    other_partition = Source(SOURCE.topic, SOURCE.epoch, 1)
    other = another(tmp_path)
    spent_before = ledger.store.spent
    first = True

    def meanwhile(campaigns: Any) -> Any:
        """The other partition spends right after this one has read the budget."""
        nonlocal first
        seen = spent_before(campaigns)
        if first:
            first = False
            other.consume(batch(None, 9, buy(1, "bob", LIMITED), buy(2, "cid", LIMITED), source=other_partition))
        return seen

    ledger.store.spent = meanwhile  # type: ignore[method-assign]
    ledger.consume(batch(None, 9, buy(1, "ann", LIMITED), buy(2, "dan", LIMITED)))
    earned = {m: ledger.account("acme", m).earned for m in ("bob", "cid", "ann", "dan")}
    assert earned == {"bob": 10, "cid": 10, "ann": 5, "dan": 0}
    assert spent_before([("acme", "spring")]) == {("acme", "spring"): 25}


def test_two_definitions_at_the_same_time_do_not_both_become_version_one(ledger, tmp_path):
    event = BrandDefined("acme", 1, 0, "{}", NOON)
    ledger.append({brand_aggregate("acme"): [event]}, {brand_aggregate("acme"): 0})
    with pytest.raises(Exception, match="UNIQUE"):
        another(tmp_path).append({brand_aggregate("acme"): [event]}, {brand_aggregate("acme"): 0})
    assert list(ledger.history(brand_aggregate("acme"))) == [event]


def test_notifications_come_in_pages_without_gaps(ledger):
    ledger.consume(batch(None, 100, *(buy(n, f"m{n % 7}") for n in range(40))))
    pages = [ledger.notifications(after, 7) for after in range(0, 40, 7)]
    assert [r.id for page in pages for r in page] == list(range(1, 41))
    assert ledger.last_notification() == 40
