"""The library's traps: that each is there, and that the ledger does not fall into it.

A test of the first half that fails tells that a new version of the library has mended something. Where the second half
of a trap is a test of its own elsewhere, its name stands in `docs/decisions/0010-traps-of-the-event-store.md`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import psycopg
import pytest
from account_cases import NOON
from eventsourcing.application import AggregateNotFoundError, Application, LRUCache, ProcessingEvent
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import IntegrityError, OperationalError, Tracking
from eventsourcing.projection import EventSourcedProjection
from ledger_batches import SOURCE, batch, buy
from psycopg.conninfo import conninfo_to_dict

from aggregates.ledger import Ledger, account_id

Opened = Callable[[], Ledger]


class Purse(Aggregate):
    """An account as the library's documentation would have it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.points = 0

    @staticmethod
    def create_id(name: str) -> UUID:
        return uuid5(NAMESPACE_URL, name)

    @event("Earned")
    def earn(self, points: int) -> None:
        self.points += points


class Stock(EventSourcedProjection[Any]):
    """Takes batches of offsets, ten points each, with the library's own tracking."""

    name = "stock"

    def policy(self, domain_event: Any, processing_event: ProcessingEvent[Any]) -> None:
        try:
            purse: Purse = self.repository.get(Purse.create_id("ann"))
        except AggregateNotFoundError:
            purse = Purse("ann")
        for _ in domain_event:
            purse.earn(10)
        processing_event.collect_events(purse)

    def points(self) -> int:
        return self.repository.get(Purse.create_id("ann")).points


def stock_settings(address: str, **more: str) -> dict[str, str]:
    if address.startswith("sqlite"):
        file = address.removeprefix("sqlite:///")
        return {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": file, **more}
    found = conninfo_to_dict(address)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": str(found["dbname"]),
        "POSTGRES_HOST": str(found["host"]),
        "POSTGRES_PORT": str(found.get("port", 5432)),
        "POSTGRES_USER": str(found["user"]),
        "POSTGRES_PASSWORD": str(found.get("password", "none")),
        **more,
    }


@contextmanager
def stock(address: str, **more: str) -> Iterator[Stock]:
    made = Stock(stock_settings(address, **more))
    try:
        yield made
    finally:
        made.close()


def points(ledger: Ledger) -> int:
    return ledger.account("acme", "ann").balance_at(NOON).active


def tables(address: str) -> set[str]:
    if address.startswith("sqlite"):
        connection = sqlite3.connect(address.removeprefix("sqlite:///"))
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        connection.close()
    else:
        with psycopg.connect(address) as session:
            found = session.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return {name for (name,) in found}


def test_stock_tracking_counts_an_overlapping_redelivery_twice(address):
    with stock(address) as library:
        library.process_event(range(5), Tracking("log", 5))
        library.process_event(range(3, 8), Tracking("log", 8))
        assert library.points() == 100, "eight records of ten points, and the trap"


def test_stock_database_functions_lose_the_position(postgresql_address):
    with stock(postgresql_address, POSTGRES_ENABLE_DB_FUNCTIONS="y") as library:
        library.process_event(range(5), Tracking("log", 5))
        assert library.points() == 50
        assert library.recorder.max_tracking_id("log") is None, "events without their position"


def test_no_setting_of_the_library_in_the_environment_reaches_the_ledger(address, monkeypatch):
    settings = {
        "CREATE_TABLE": "y", "IS_SNAPSHOTTING_ENABLED": "y", "AGGREGATE_CACHE_MAXSIZE": "10",
        "POSTGRES_ENABLE_DB_FUNCTIONS": "y", "COMPRESSOR_TOPIC": "zlib", "PERSISTENCE_MODULE": "eventsourcing.popo",
        "SQLITE_DBNAME": ":memory:", "SINGLE_ROW_TRACKING": "n",
    }  # fmt: skip
    for key, value in settings.items():
        monkeypatch.setenv(key, value)
        monkeypatch.setenv(f"LEDGER_{key}", value)
    ledger = Ledger(address)
    assert tables(address) == set(), "tables are made by `migrate` alone"
    ledger.migrate()
    ledger.take(SOURCE, "w", 0)
    ledger.consume(batch(0, 5, buy(1), buy(3)))
    assert (ledger.position(SOURCE), points(ledger)) == (5, 20)
    assert ledger.snapshots is None
    assert not any("snapshot" in name for name in tables(address)), "nothing is written twice"
    assert b'"origin"' in next(ledger.store.histories([account_id("acme", "ann")]))[3], "not compressed"
    ledger.close()


def test_two_stock_copies_of_one_aggregate_conflict(sqlite_address):
    application: Application[Any] = Application(stock_settings(sqlite_address))
    application.save(Purse("ann"))
    one, two = (application.repository.get(Purse.create_id("ann")) for _ in range(2))
    one.earn(10)
    two.earn(10)
    with pytest.raises(IntegrityError):
        application.save(one, two)
    application.close()


def test_a_batch_has_one_copy_of_an_account(opened):
    ledger = opened()
    ledger.take(SOURCE, "w", 0)
    ledger.consume(batch(0, 2, buy(0), buy(1)))
    heir = opened()
    heir.take(SOURCE, "heir", 0)
    heir.consume(batch(2, 5, buy(2), buy(3), buy(4), writer="heir"))
    assert points(heir) == 50
    assert [one.originator_version for one in heir.events.get(account_id("acme", "ann"))] == [1, 2, 3, 4, 5]


def test_a_stock_cache_keeps_what_was_not_stored_and_cannot_be_emptied(sqlite_address):
    cached = {"AGGREGATE_CACHE_MAXSIZE": "10", "AGGREGATE_CACHE_FASTFORWARD": "n", "DEEPCOPY_FROM_AGGREGATE_CACHE": "n"}
    with stock(sqlite_address, **cached) as library:
        library.process_event(range(5), Tracking("log", 5))
        with pytest.raises(IntegrityError):
            library.process_event(range(5), Tracking("log", 5))  # a redelivery, refused by its position
        assert library.points() == 100, "fifty of them were never stored"
    cache: LRUCache[str, int] = LRUCache(3)
    cache.put("ann", 50)
    cache.clear()
    assert cache.get("ann") == 50


def test_a_refused_batch_leaves_nothing_in_memory(opened):
    ledger = opened()
    ledger.take(SOURCE, "w", 0)
    ledger.consume(batch(0, 5, buy(1), number=1))
    with pytest.raises(Exception, match="at offset 5"):
        ledger.consume(batch(0, 5, buy(1), buy(2), number=2))
    assert not ledger._accounts
    ledger.consume(batch(5, 6, buy(5), number=3))
    assert points(ledger) == 20


def test_the_stock_retry_takes_a_lost_acknowledgement_for_a_conflict(postgresql_address):
    with stock(postgresql_address) as library:
        library.process_event(range(5), Tracking("log", 5))
        recorder = library.recorder
        commits, insert = [], type(recorder)._insert_events

        def loses_the_first(self: Any, *args: Any, **kwargs: Any) -> Any:
            commits.append(1)
            return insert(self, *args, **kwargs)

        get_connection = library.factory.datastore.get_connection  # type: ignore[attr-defined]

        @contextmanager
        def breaks_off_once() -> Iterator[Any]:
            with get_connection() as connection:
                yield connection
            if len(commits) == 1:
                raise OperationalError("the connection broke off after the commit")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(recorder), "_insert_events", loses_the_first)
            patch.setattr(library.factory.datastore, "get_connection", breaks_off_once)
            with pytest.raises(IntegrityError):
                library.process_event(range(5, 8), Tracking("log", 8))
        assert len(commits) == 2, "it tried again by itself"
        assert library.recorder.max_tracking_id("log") == 8, "though it was stored"


def test_stock_applications_share_the_tables_of_one_file_and_cannot_be_subscribed_to(sqlite_address):
    class Other(Application[Any]):
        name = "other"

    with stock(sqlite_address) as library:
        other = Other(stock_settings(sqlite_address))
        other.save(Purse("bob"))
        assert len(library.recorder.select_notifications(1, 10)) == 1, "the event of another application"
        with pytest.raises(NotImplementedError):  # the trap: on SQLite the library has nothing to subscribe to
            library.recorder.subscribe()
        other.close()
