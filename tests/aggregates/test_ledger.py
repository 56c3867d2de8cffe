"""The ledger on both databases: positions and their owners, fences, budgets, and what a failed write leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from account_cases import NOON
from eventsourcing.persistence import IntegrityError, OperationalError
from ledger_batches import SOURCE, batch, buy, limited, partition

from aggregates.database import Unavailable
from aggregates.events import PurchaseRecorded
from aggregates.ledger import Batch, Decided, Fenced, Ledger, Source, account_id, brand_aggregate
from aggregates.program_events import BrandDefined

Opened = Callable[[], Ledger]


@pytest.fixture
def ledger(opened: Opened) -> Ledger:
    made = opened()
    made.take(SOURCE, "w", 0)
    return made


def points(ledger: Ledger, member: str = "ann") -> int:
    return ledger.account("acme", member).balance_at(NOON).active


def test_events_and_position_are_stored_together(ledger, opened):
    assert ledger.position(SOURCE) == 0
    ledger.consume(batch(0, 5, buy(3)))
    ledger.consume(batch(5, 9))
    fresh = opened()
    assert fresh.position(SOURCE) == 9
    assert points(fresh) == 10
    (recorded,) = fresh.notifications(0, 10)
    assert isinstance(recorded.event, PurchaseRecorded)
    assert (recorded.originator, recorded.event.origin.offset) == (account_id("acme", "ann"), 3)
    ((originator, version, event),) = fresh.events.get(account_id("acme", "ann"))
    assert (originator, version, event) == (account_id("acme", "ann"), 1, recorded.event), "the library reads it too"


def test_a_source_that_nobody_took_has_no_position_and_cannot_be_written(ledger):
    other = partition(1)
    assert ledger.position(other) is None
    with pytest.raises(Fenced, match="epoch/1: w has not taken it"):
        ledger.consume(batch(0, 5, buy(3), source=other))
    assert ledger.take(other, "w", 40) == 40
    assert ledger.take(other, "w", 7) == 40, "only a new source starts where it is told"


def test_who_takes_a_source_fences_its_owner_at_once(ledger, opened):
    ledger.consume(batch(0, 5, buy(3)))
    heir = opened()
    assert heir.take(SOURCE, "heir", 0) == 5
    with pytest.raises(Fenced, match="heir owns it, not w"):
        ledger.consume(batch(5, 8, buy(6)))
    heir.consume(batch(5, 7, buy(6), writer="heir"))
    with pytest.raises(Fenced, match="at offset 7, this batch was built on 5"):
        ledger.consume(batch(5, 8, buy(6)))
    with pytest.raises(Fenced):
        ledger.consume(batch(7, 9, buy(8)))
    assert len(heir.notifications(0, 10)) == 2


def test_an_overlapping_redelivery_is_not_counted_twice(ledger):
    ledger.consume(batch(0, 5, buy(3)))
    with pytest.raises(Fenced, match="at offset 5, this batch was built on 0"):
        ledger.consume(batch(0, 8, buy(3), buy(6)))
    with pytest.raises(Fenced):
        ledger.consume(batch(4, 8, buy(6)))
    assert points(ledger) == 10


def test_a_source_that_comes_back_to_its_owner_goes_on(ledger, opened):
    ledger.consume(batch(0, 5, buy(3), number=1))
    other = opened()
    other.take(SOURCE, "other", 0)
    other.consume(batch(5, 8, buy(6), writer="other", number=1))
    assert ledger.take(SOURCE, "w", 0) == 8
    with pytest.raises(Fenced):
        ledger.consume(batch(0, 5, buy(3), number=1))  # built before it was taken again
    ledger.consume(batch(8, 9, buy(8), number=1))
    assert ledger.take(SOURCE, "w", 0) == 9
    with pytest.raises(Fenced, match="taken anew"):
        ledger.consume(batch(8, 9, buy(8), number=1))
    assert points(ledger) == 30
    with pytest.raises(Fenced):
        other.consume(batch(9, 10, writer="other", number=2))


def test_positions_of_another_creation_of_the_topic_are_not_taken_for_this_one(ledger):
    ledger.consume(batch(0, 500, buy(3)))
    anew = Source(SOURCE.topic, "another epoch", 0)
    assert ledger.position(anew) is None
    ledger.take(anew, "w", 0)
    ledger.consume(batch(0, 2, buy(1), source=anew))
    assert (ledger.position(SOURCE), ledger.position(anew)) == (500, 2)


@pytest.mark.parametrize("stored", [False, True])
def test_after_a_write_that_broke_off_the_same_batch_again_is_stored_once(ledger, opened, stored):
    ledger.consume(batch(0, 5, buy(3)))
    writing = ledger.store.writing

    @contextmanager
    def breaks_off(**how: Any) -> Iterator[Any]:
        with writing(**how) as cursor:
            yield cursor
            if not stored:
                raise OperationalError("the connection broke off")
        raise OperationalError("the connection broke off after the commit")

    ledger.store.writing = breaks_off  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="broke off"):
        ledger.consume(batch(5, 8, buy(6)))
    assert opened().position(SOURCE) == (8 if stored else 5)
    ledger.store.writing = writing  # type: ignore[method-assign]
    ledger.consume(batch(5, 8, buy(6)))
    ledger.consume(batch(8, 9, buy(8)))
    assert points(ledger) == 30
    assert [v.originator_version for v in ledger.events.get(account_id("acme", "ann"))] == [1, 2, 3]


def test_a_lost_acknowledgement_is_told_from_another_owner(ledger, opened):
    ledger.consume(batch(0, 5, buy(3), number=1))
    ledger.consume(batch(0, 5, buy(3), number=1))  # the same writer and batch again: it was stored
    assert len(ledger.notifications(0, 10)) == 1
    with pytest.raises(Fenced):
        ledger.consume(batch(0, 5, buy(3), number=2))
    with pytest.raises(Fenced):
        opened().consume(batch(0, 5, buy(3), writer="other", number=1))


def test_after_a_failed_write_no_decision_survives_in_memory(ledger):
    ledger.consume(batch(0, 5, buy(3)))
    write = ledger.store.write

    def fails(*_: Any) -> Any:
        raise ValueError("a defect")

    ledger.store.write = fails  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="a defect"):
        ledger.consume(batch(5, 8, buy(6)))
    ledger.store.write = write  # type: ignore[method-assign]
    ledger.consume(batch(5, 8, buy(6)))
    assert points(ledger) == 20
    assert [v.originator_version for v in ledger.events.get(account_id("acme", "ann"))] == [1, 2]


def test_an_account_that_somebody_else_wrote_is_an_error_and_not_the_database_being_away(ledger, opened):
    ledger.consume(batch(0, 5, buy(3)))
    intruder = opened()
    intruder.take(partition(1), "x", 0)
    intruder.consume(batch(0, 5, buy(4), source=partition(1), writer="x"))
    with pytest.raises(IntegrityError):
        ledger.consume(batch(5, 8, buy(6)))
    assert ledger.position(SOURCE) == 5
    ledger.consume(batch(5, 8, buy(6)))  # decided again on what is stored
    assert points(ledger) == 30


def test_many_accounts_are_read_again_after_a_restart(ledger, opened):
    members = [f"m{n}" for n in range(1_200)]
    ledger.consume(batch(0, 1_200, *(buy(n, member) for n, member in enumerate(members))))
    fresh = opened()
    fresh.take(SOURCE, "fresh", 0)
    again = [buy(1_200 + n, member) for n, member in enumerate(members)]
    fresh.consume(batch(1_200, 2_400, *again, writer="fresh"))
    assert {points(fresh, member) for member in ("m0", "m499", "m500", "m1199")} == {20}


def spends_meanwhile(ledger: Ledger, spend: Callable[[], None]) -> None:
    """The other partition spends right after this one has read the budget, once."""
    read = ledger.store.spent
    waiting = [spend]

    def spent(campaigns: Any) -> Any:
        seen = read(campaigns)
        while waiting:
            waiting.pop()()
        return seen

    ledger.store.spent = spent  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("budget", "ann", "dan", "decided"),
    [(25, 5, 0, 2), (30, 10, 0, 2), (40, 10, 10, 1), (20, 0, 0, 2), (1_000, 10, 10, 1)],
)
def test_a_budget_is_never_overspent_by_two_partitions(ledger, opened, budget, ann, dan, decided):
    other, of = opened(), limited(budget)
    other.take(partition(1), "other", 0)
    bob_and_cid = buy(1, "bob", of), buy(2, "cid", of)
    spends_meanwhile(ledger, lambda: other.consume(batch(0, 9, *bob_and_cid, source=partition(1), writer="other")))
    decide, tries = ledger.decide, []

    def counted(one: Batch) -> Decided:
        tries.append(1)
        return decide(one)

    ledger.decide = counted  # type: ignore[method-assign]
    ledger.consume(batch(0, 9, buy(1, "ann", of), buy(2, "dan", of)))
    earned = {m: ledger.account("acme", m).earned for m in ("bob", "cid", "ann", "dan")}
    assert earned == {"bob": 10, "cid": 10, "ann": ann, "dan": dan}
    assert other.store.spent([("acme", "spring")]) == {("acme", "spring"): sum(earned.values())}
    assert len(tries) == decided, "decided again only where that changes something"


def test_two_definitions_at_the_same_time_do_not_both_become_version_one(ledger, opened):
    event = BrandDefined("acme", 1, 0, "{}", NOON)
    assert ledger.append({brand_aggregate("acme"): [event]}, {brand_aggregate("acme"): 0}) == 1
    with pytest.raises(IntegrityError):
        opened().append({brand_aggregate("acme"): [event]}, {brand_aggregate("acme"): 0})
    assert list(ledger.history(brand_aggregate("acme"))) == [event]
    ledger.consume(batch(0, 1, buy(0)))
    assert ledger.last_notification() == 2, "the refused one left no gap"


def test_notifications_come_in_pages_without_gaps(ledger):
    assert ledger.last_notification() == 0
    ledger.consume(batch(0, 100, *(buy(n, f"m{n % 7}") for n in range(40))))
    pages = [ledger.notifications(after, 7) for after in range(0, 40, 7)]
    assert [r.id for page in pages for r in page] == list(range(1, 41))
    assert [r.id for r in ledger.notifications(30, 7, stop=33)] == [31, 32, 33]
    assert ledger.last_notification() == 40


def test_another_kind_of_database_is_refused_by_name():
    with pytest.raises(ValueError, match="mysql is no database of ours"):
        Ledger("mysql://localhost/x")
