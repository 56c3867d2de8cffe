"""A campaign's marker in the ledger: it is stored once, behind all that stands before it in its partition."""

from __future__ import annotations

from account_cases import NOON
from ledger_batches import BRAND, SOURCE, batch, buy, partition

from aggregates.activity import MARKER, Activity
from aggregates.ledger import Ledger, Source, marker_aggregate
from aggregates.program_events import MarkerPassed


def marker(offset: int, campaign: str = "spring") -> Activity:
    value = {"event_id": f"closing-{campaign}", "occurred_at": NOON, "brand_id": "acme", "campaign_id": campaign}
    return Activity(MARKER, offset, value, BRAND, (), False, (), "unknown", None, False)


def stored(ledger: Ledger) -> list[int]:
    """Offsets behind the events of the ledger, in its order."""
    return [recorded.event.origin.offset for recorded in ledger.notifications(0, 100)]  # type: ignore[union-attr]


def test_what_stands_before_a_marker_is_stored_before_it_though_it_comes_in_one_batch(opened):
    ledger = opened()
    ledger.take(SOURCE, "w", 0)
    ledger.consume(batch(0, 9, buy(0, "bob"), buy(1), marker(2), buy(3, "bob"), marker(4, "club"), buy(5), buy(6)))
    assert stored(ledger) == [0, 1, 2, 3, 4, 5, 6]
    assert ledger.account("acme", "ann").balance_at(NOON).active == 30
    (event,) = ledger.history(marker_aggregate("acme", "spring", 0))
    assert isinstance(event, MarkerPassed)
    assert (event.brand, event.campaign, event.origin.partition, event.origin.offset) == ("acme", "spring", 0, 2)


def test_a_marker_that_the_partition_has_passed_changes_nothing_even_in_a_log_made_anew(opened):
    ledger = opened()
    anew = Source(SOURCE.topic, "another epoch", 0)
    for source in (SOURCE, anew):
        ledger.take(source, "w", 0)
        ledger.consume(batch(0, 3, marker(0), buy(1), source=source))
    assert stored(ledger) == [0, 1, 1]


def test_each_partition_has_a_marker_of_its_own(opened):
    ledger = opened()
    for number in range(3):
        ledger.take(partition(number), "w", 0)
        ledger.consume(batch(0, 9, marker(number + 1), source=partition(number)))
    found = [r.event.origin for r in ledger.notifications(0, 100) if isinstance(r.event, MarkerPassed)]
    assert [(origin.partition, origin.offset) for origin in found] == [(0, 1), (1, 2), (2, 3)]


def test_a_batch_with_a_marker_whose_acknowledgement_was_lost_is_stored_once(opened):
    ledger = opened()
    ledger.take(SOURCE, "w", 0)
    again = batch(0, 9, buy(0), marker(1), buy(2))
    ledger.consume(again)
    ledger.consume(again)
    assert stored(ledger) == [0, 1, 2]


def test_a_marker_that_comes_twice_in_one_batch_is_stored_once(opened):
    ledger = opened()
    ledger.take(SOURCE, "w", 0)
    ledger.consume(batch(0, 9, buy(0), marker(1), marker(2), buy(3)))
    assert stored(ledger) == [0, 1, 3]
