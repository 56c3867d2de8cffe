"""Several writers on one ledger at the same time: budgets, the order of notifications, and who makes the tables."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from ledger_batches import batch, buy, limited, partition

from aggregates.database import Exclusive, Lock
from aggregates.ledger import Fenced, Ledger, Recorded

Opened = Callable[[], Ledger]
WRITERS = 3
DEADLINE = 60


def together(*work: Callable[[], Any]) -> list[Any]:
    """Run each in a thread, all starting at once; their results."""
    start = threading.Barrier(len(work))

    def run(one: Callable[[], Any]) -> Any:
        start.wait(DEADLINE)
        return one()

    with ThreadPoolExecutor(len(work)) as threads:
        return [future.result(DEADLINE) for future in [threads.submit(run, one) for one in work]]


def writer(opened: Opened, number: int, batches: int, size: int, of: Any) -> Callable[[], None]:
    """Writes so many batches of a partition, each record of another member."""
    ledger, source, name = opened(), partition(number), f"w{number}"
    position = ledger.take(source, name, 0)

    def write() -> None:
        for start in range(position, position + batches * size, size):
            bought = [buy(offset, f"{name}-{offset}", of) for offset in range(start, start + size)]
            ledger.consume(batch(start, start + size, *bought, writer=name, source=source))

    return write


def test_a_reader_who_polls_sees_every_notification_once_and_in_order(opened):
    expected = WRITERS * 30 * 20
    done = threading.Event()
    reader = opened()

    def read() -> list[Recorded]:
        seen: list[Recorded] = []
        while len(seen) < expected:
            ended = done.is_set()
            page = reader.notifications(len(seen), 37)
            assert [r.id for r in page] == list(range(len(seen) + 1, len(seen) + len(page) + 1))
            seen += page
            assert page or not ended, "what was written before is not there"
        return seen

    def write(number: int) -> Callable[[], None]:
        return writer(opened, number, 30, 20, limited(1_000_000))

    with ThreadPoolExecutor(1) as reading:
        seen = reading.submit(read)
        together(*(write(number) for number in range(WRITERS)))
        done.set()
        events = seen.result(DEADLINE)
    assert len({r.originator for r in events}) == expected
    for number in range(WRITERS):
        offsets = [r.event.origin.offset for r in events if r.event.origin.partition == number]
        assert offsets == sorted(offsets)


@pytest.mark.parametrize("budget", [1_234, 3_995])
def test_writers_at_the_same_time_never_overspend_a_budget(opened, budget):
    wanted = WRITERS * 20 * 10 * 10
    together(*(writer(opened, number, 20, 10, limited(budget)) for number in range(WRITERS)))
    events = [r.event for r in opened().notifications(0, 10_000)]
    granted = [grant.points for event in events for grant in event.grants]
    assert sum(granted) == budget < wanted
    assert opened().store.spent([("acme", "spring")]) == {("acme", "spring"): budget}
    assert sorted(granted)[0] == budget % 10 or budget % 10 == 0
    assert sum(points < 10 for points in granted) <= 1, "one grant is cut to what is left"
    assert len(events) == WRITERS * 20 * 10


def test_two_who_take_a_source_by_turns_write_every_record_once(opened):
    """A rebalance in which the owner before goes on writing: what it writes late is fenced."""
    end = 600

    def owner(name: str) -> Callable[[], int]:
        ledger = opened()

        def work() -> int:
            fenced = number = 0
            position = ledger.take(partition(0), name, 0)
            while position < end:
                number += 1
                bought = [buy(offset, f"m{offset}") for offset in range(position, position + 5)]
                try:
                    ledger.consume(
                        batch(position, position + 5, *bought, writer=name, source=partition(0), number=number)
                    )
                    position += 5
                except Fenced:
                    fenced += 1
                    position = ledger.take(partition(0), name, 0)
            return fenced

        return work

    together(owner("a"), owner("b"))
    events = opened().notifications(0, 10_000)
    assert [r.event.origin.offset for r in events] == list(range(end))


def test_processes_that_migrate_at_the_same_time_make_the_tables_once(address):
    for _ in range(3):
        ledgers = [Ledger(address) for _ in range(4)]
        together(*(ledger.migrate for ledger in ledgers))
        ledgers[0].take(partition(0), "w", 0)
        assert ledgers[1].position(partition(0)) == 0
        for ledger in ledgers:
            ledger.close()


@pytest.fixture
def locks(address: str) -> Iterator[Callable[[], Exclusive]]:
    made: list[Exclusive] = []

    def lock() -> Exclusive:
        made.append(Exclusive(address, Lock.PROJECT))
        return made[-1]

    yield lock
    for one in made:
        one.release()


def test_only_one_has_a_lock_until_it_lets_go(locks):
    first, second = locks(), locks()
    assert not first.is_held()
    assert first.acquire()
    assert first.is_held()
    assert not second.acquire()
    assert not second.is_held()
    first.release()
    assert not first.is_held()
    assert second.acquire()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(first.acquire, wait=True)
        second.release()
        assert waiting.result(DEADLINE)
    assert first.is_held()
