"""What both recorders promise to those who write and read rows: order, ids without gaps, all of a batch or nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from eventsourcing.persistence import IntegrityError
from ledger_batches import SOURCE

from aggregates.ledger import Ledger, Source
from aggregates.ledger_store import BatchTracking, BudgetMoved, BudgetUse, Encoded, LedgerStore, Owned, PositionMoved

SPRING = ("acme", "spring")


@pytest.fixture
def store(opened: Callable[[], Ledger]) -> LedgerStore:
    made = opened().store
    made.take(SOURCE.name, "w", 0)
    return made


def rows(aggregate: str, first: int, last: int) -> list[Encoded]:
    return [(aggregate, version, "a.name.1", f"{aggregate} {version}".encode()) for version in range(first, last + 1)]


def moving(start: int, end: int, number: int = 1, writer: str = "w", **budgets: BudgetUse) -> BatchTracking:
    used = {("acme", campaign): use for campaign, use in budgets.items()}
    return BatchTracking(SOURCE.name, end, start, writer, number, used)


def test_rows_get_the_next_ids_in_their_order(store):
    assert store.write([*rows("b", 1, 2), *rows("a", 1, 1)]) == range(1, 4)
    assert store.write(rows("b", 3, 1_202), moving(0, 9)) == range(4, 1_204)
    assert [(row.id, row.originator, row.version) for row in store.page(0, 5)] == [
        (1, "b", 1), (2, "b", 2), (3, "a", 1), (4, "b", 3), (5, "b", 4),
    ]  # fmt: skip
    assert store.page(1_202, 5)[0].state == b"b 1202"
    assert store.last() == 1_203
    assert store.write([], moving(9, 12, 2)) == range(0)
    assert store.owner(SOURCE.name) == Owned(12, "w", 2)


def test_histories_of_many_aggregates_each_in_the_order_of_its_versions(store):
    names = [f"m{number:04d}" for number in range(1_100)]
    store.write([(name, version, "a.name.1", b"") for version in (1, 2) for name in reversed(names)])
    found = list(store.histories(names[:1_050]))
    assert found == [(name, version, "a.name.1", b"") for name in names[:1_050] for version in (1, 2)]
    assert list(store.histories(["nobody"])) == []


def test_a_row_that_is_there_already_refuses_the_whole_batch_and_leaves_no_gap(store):
    store.write(rows("a", 1, 3), moving(0, 3))
    with pytest.raises(IntegrityError):
        store.write([*rows("b", 1, 5), *rows("a", 3, 4)], moving(3, 9, 2, spring=BudgetUse(0, 10)))
    assert store.owner(SOURCE.name) == Owned(3, "w", 1)
    assert list(store.histories(["b"])) == []
    assert store.spent([SPRING]) == {SPRING: 0}
    assert store.write(rows("a", 4, 4), moving(3, 4, 2)) == range(4, 5)


@pytest.mark.parametrize("built_on", [moving(2, 9), moving(4, 9), moving(3, 9, writer="x")])
def test_a_batch_that_is_built_on_another_position_or_owner_stores_nothing(store, built_on):
    store.write(rows("a", 1, 3), moving(0, 3))
    with pytest.raises(PositionMoved):
        store.write(rows("a", 4, 4), built_on)
    assert (store.last(), store.owner(SOURCE.name)) == (3, Owned(3, "w", 1))


def test_a_budget_moves_only_as_far_as_the_batch_has_room(store):
    store.write([], moving(0, 1, spring=BudgetUse(0, 10)))
    store.write([], moving(1, 2, spring=BudgetUse(4, 5, 6)))  # six others took, and it has room for six
    assert store.spent([SPRING, ("acme", "other")]) == {SPRING: 15, ("acme", "other"): 0}
    with pytest.raises(BudgetMoved):
        store.write(rows("a", 1, 1), moving(2, 3, spring=BudgetUse(4, 5, 10)))
    assert (store.last(), store.spent([SPRING]), store.owner(SOURCE.name)) == (0, {SPRING: 15}, Owned(2, "w", 1))


def test_several_batches_are_stored_together_or_not_at_all(store):
    other = Source("members.activity.v1", "e1", 9)
    store.take(other.name, "w", 5)

    def of_other(end: int, writer: str = "w", number: int = 1, **budgets: BudgetUse) -> BatchTracking:
        used = {("acme", campaign): use for campaign, use in budgets.items()}
        return BatchTracking(other.name, end, 5, writer, number, used)

    both = rows("a", 1, 2)
    with pytest.raises(PositionMoved, match=r"members\.activity\.v1/e1/9 is no longer x's at 5"):
        store.write(both, moving(0, 3, spring=BudgetUse(0, 4, 90)), of_other(8, "x"))
    with pytest.raises(BudgetMoved):  # the one takes what the other has no room for
        store.write(both, of_other(8, spring=BudgetUse(0, 7, 3)), moving(0, 3, spring=BudgetUse(0, 4, 3)))
    assert (store.last(), store.spent([SPRING])) == (0, {SPRING: 0})
    assert (store.owner(SOURCE.name), store.owner(other.name)) == (Owned(0, "w", 0), Owned(5, "w", 0))
    room = {"spring": BudgetUse(0, 7, 90)}
    assert store.write(both, of_other(8, **room), moving(0, 3, spring=BudgetUse(0, 4, 90))) == range(1, 3)
    assert (store.owner(SOURCE.name), store.owner(other.name)) == (Owned(3, "w", 1), Owned(8, "w", 1))
    assert store.spent([SPRING]) == {SPRING: 11}


def test_the_librarys_own_doors_lead_to_the_same_rows(opened):
    ledger = opened()
    ledger.store.write(rows("a", 1, 2))
    recorder = ledger.recorder
    assert recorder.insert_events(recorder.select_events("a", gt=5)) == range(0)
    assert [(one.originator_version, one.state) for one in recorder.select_events("a")] == [(1, b"a 1"), (2, b"a 2")]
    assert [one.id for one in recorder.select_notifications(1, 10)] == [1, 2]
    assert recorder.max_notification_id() == 2


def test_without_its_tables_a_ledger_says_so_and_makes_none(address):
    ledger = Ledger(address)
    with pytest.raises(Exception, match="ledger_positions"):
        ledger.position(SOURCE)
    ledger.migrate()
    ledger.migrate()
    assert ledger.position(SOURCE) is None
    ledger.close()
