"""The database goes away and comes back: calls say so soon, and the same batch again is stored once."""

from __future__ import annotations

import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import psycopg_pool
import pytest
import sqlalchemy as sa
from account_cases import NOON
from eventsourcing import persistence
from ledger_batches import SOURCE, batch, buy, partition

import aggregates.ledger_store
from aggregates import ledger_postgres
from aggregates.database import Exclusive, Lock, Unavailable, is_unavailable, open_database
from aggregates.ledger import Fenced, Ledger
from aggregates.ledger_postgres import LOCK_APPEND

Opened = Callable[[], Ledger]
SOON = 7.0
"""Seconds; a call is to fail in about five."""


@pytest.fixture
def stopped(postgresql_server: Any) -> Iterator[Callable[[], None]]:
    """Stops the server; it runs again after the test."""
    yield postgresql_server.stop
    postgresql_server.ensure_postgres_running()


def fails_soon(call: Callable[[], object]) -> None:
    started = time.monotonic()
    with pytest.raises(Unavailable):
        call()
    assert time.monotonic() - started < SOON


def test_while_the_server_is_stopped_calls_say_so_and_afterwards_all_goes_on(on_postgresql, postgresql_server, stopped):
    ledger = on_postgresql()
    ledger.take(SOURCE, "w", 0)
    ledger.consume(batch(0, 5, buy(3)))
    stopped()
    never_connected = on_postgresql()
    fails_soon(lambda: ledger.consume(batch(5, 8, buy(6))))
    fails_soon(lambda: ledger.consume(batch(5, 8, buy(6))))
    fails_soon(lambda: ledger.take(SOURCE, "w", 0))
    fails_soon(lambda: never_connected.position(SOURCE))
    postgresql_server.ensure_postgres_running()
    ledger.consume(batch(5, 8, buy(6)))
    assert ledger.account("acme", "ann").balance_at(NOON).active == 20
    assert never_connected.position(SOURCE) == 8


def test_a_server_that_ends_in_the_middle_of_a_transaction_leaves_nothing_behind(
    on_postgresql, postgresql_server, stopped
):
    ledger = on_postgresql()
    ledger.take(SOURCE, "w", 0)
    move = ledger.store.move

    def stops(*arguments: Any) -> None:
        move(*arguments)
        stopped()

    ledger.store.move = stops  # type: ignore[method-assign]
    fails_soon(lambda: ledger.consume(batch(0, 5, buy(3))))
    ledger.store.move = move  # type: ignore[method-assign]
    postgresql_server.ensure_postgres_running()
    assert ledger.position(SOURCE) == 0
    ledger.consume(batch(0, 5, buy(3)))
    assert ledger.account("acme", "ann").balance_at(NOON).active == 10


def test_a_writer_that_stops_in_the_middle_of_a_transaction_does_not_keep_its_locks(on_postgresql):
    """Frozen after it moved the position: the server ends its session, and the next owner goes on."""
    frozen, heir = on_postgresql(), on_postgresql()
    frozen.take(SOURCE, "frozen", 0)
    move, tries = frozen.store.move, []

    def freezes(*arguments: Any) -> None:
        """Thaws only when the next owner has the source."""
        move(*arguments)
        while not tries or not tries[-1]:
            try:
                tries.append(heir.take(SOURCE, "heir", 0) == 0)
            except Unavailable:
                tries.append(False)

    frozen.store.move = freezes  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="server closed the connection"):
        frozen.consume(batch(0, 5, buy(3), writer="frozen"))
    assert len(tries) <= 3
    frozen.store.move = move  # type: ignore[method-assign]
    with pytest.raises(Fenced):
        frozen.consume(batch(0, 5, buy(3), writer="frozen"))
    heir.consume(batch(0, 5, buy(3), writer="heir"))


@pytest.mark.parametrize("synced", [False, True], ids=["active", "idle, its clock stopped by a flush"])
def test_a_writer_that_is_frozen_in_the_middle_of_a_trip_is_ended_by_who_waits_for_it(
    on_postgresql, postgresql_address, synced
):
    """The server has a statement of a pipeline and waits for the next: no timeout of its own ends that."""
    ledger = on_postgresql()
    ledger.take(SOURCE, "w", 0)
    with psycopg.connect(postgresql_address) as frozen:
        frozen.execute("SET idle_in_transaction_session_timeout = '4s'")
        frozen.commit()
        frozen.pgconn.enter_pipeline_mode()
        frozen.pgconn.send_query_params(b"BEGIN", None)
        frozen.pgconn.send_query_params(b"%s" % LOCK_APPEND.replace("%s", str(int(Lock.APPEND))).encode(), None)
        if synced:
            frozen.pgconn.pipeline_sync()
        frozen.pgconn.send_flush_request()
        frozen.pgconn.flush()
        time.sleep(0.5)
        tries = []
        for _ in range(2):
            try:
                ledger.consume(batch(0, 5, buy(3)))
            except Unavailable:
                tries.append(Unavailable)
            else:
                tries.append(None)
        assert tries == [Unavailable, None]
        frozen.close()


def test_a_writer_that_is_frozen_in_the_middle_of_its_rows_is_ended_by_who_waits_for_it(on_postgresql, monkeypatch):
    """The server has the first row and waits for the next: no timeout of its own ends that."""
    monkeypatch.setattr(ledger_postgres, "FEW", 0)
    frozen, heir, another = on_postgresql(), on_postgresql(), on_postgresql()
    frozen.take(SOURCE, "frozen", 0)
    another.take(partition(1), "another", 0)
    bought = batch(0, 5, buy(3), source=partition(1), writer="another")
    write = frozen.store.write
    tries: list[type[Exception] | None] = []

    def attempt(call: Callable[[], object]) -> None:
        try:
            call()
        except Unavailable:
            tries.append(Unavailable)
        else:
            tries.append(None)

    class Freezing(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            yield self[0]
            for _ in range(2):
                attempt(lambda: another.consume(bought))  # waits for the lock of the order
            attempt(lambda: heir.take(SOURCE, "heir", 0))
            yield from self[1:]

    frozen.store.write = lambda rows, tracking=None: write(Freezing(rows), tracking)  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="terminating connection"):
        frozen.consume(batch(0, 5, buy(3), writer="frozen"))
    assert tries == [Unavailable, None, None]
    frozen.store.write = write  # type: ignore[method-assign]
    with pytest.raises(Fenced):
        frozen.consume(batch(0, 5, buy(3), writer="frozen"))
    heir.consume(batch(0, 5, buy(3), writer="heir"))
    assert another.position(partition(1)) == heir.position(SOURCE) == 5


def test_a_server_that_never_answers_is_given_up():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        ledger = Ledger(f"postgresql://someone:hidden@127.0.0.1:{silent.getsockname()[1]}/x")
        started = time.monotonic()
        with pytest.raises(Unavailable, match="is away") as caught:
            ledger.position(SOURCE)
        assert time.monotonic() - started < SOON
        ledger.close()
    assert "hidden" not in str(caught.value)


def test_a_lock_goes_with_the_server(postgresql_address, postgresql_server, stopped):
    lock = Exclusive(postgresql_address, Lock.PROJECT)
    assert lock.acquire()
    stopped()
    assert not lock.is_held()
    with pytest.raises(psycopg.OperationalError) as caught:
        lock.acquire()
    assert is_unavailable(caught.value)
    postgresql_server.ensure_postgres_running()
    assert lock.acquire()
    lock.release()


def test_a_locked_sqlite_file_is_away_for_as_long(sqlite_address, monkeypatch):
    monkeypatch.setattr(aggregates.ledger_store, "BUSY_SECONDS", 1)
    ledger = Ledger(sqlite_address)
    ledger.migrate()
    ledger.take(SOURCE, "w", 0)
    ledger.consume(batch(0, 5, buy(3)))
    other = sqlite3.connect(sqlite_address.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    fails_soon(lambda: ledger.consume(batch(5, 8, buy(6))))
    fails_soon(lambda: ledger.take(SOURCE, "w", 0))
    other.execute("ROLLBACK")
    other.close()
    ledger.consume(batch(5, 8, buy(6)))
    assert ledger.account("acme", "ann").balance_at(NOON).active == 20
    ledger.close()


def test_an_engine_tells_a_stopped_server_from_a_mistake(postgresql_address, postgresql_server, stopped):
    engine = open_database(postgresql_address)

    def caught(statement: str) -> bool:
        with pytest.raises(sa.exc.SQLAlchemyError) as raised, engine.begin() as connection:
            connection.exec_driver_sql(statement)
        return is_unavailable(raised.value)

    assert not caught("SELECT * FROM nowhere")
    assert not caught("SELECT 1 / 0")
    assert caught("SELECT pg_terminate_backend(pg_backend_pid())")
    stopped()
    assert caught("SELECT 1")
    postgresql_server.ensure_postgres_running()
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    engine.dispose()


def test_a_reading_engine_sees_one_snapshot_a_transaction_and_cannot_write(opened, address):
    ledger = opened()
    ledger.take(SOURCE, "w", 0)
    engine = open_database(address, read_only=True)
    query = sa.text("SELECT position FROM ledger_positions")
    with engine.connect() as connection:
        assert connection.execute(query).scalar() == 0
        ledger.consume(batch(0, 5, buy(3)))
        assert connection.execute(query).scalar() == 0
    with engine.connect() as connection:
        assert connection.execute(query).scalar() == 5
    engine.dispose()


def busy() -> sqlite3.OperationalError:
    """As SQLite raises it when another connection has the write lock."""
    first, second = (sqlite3.connect("file:busy?mode=memory&cache=shared", uri=True, timeout=0) for _ in range(2))
    try:
        first.execute("CREATE TABLE IF NOT EXISTS t (a)")
        first.execute("INSERT INTO t VALUES (1)")
        second.execute("INSERT INTO t VALUES (2)")
    except sqlite3.OperationalError as error:
        return error
    finally:
        first.close()
        second.close()
    raise AssertionError("it is not locked")


def wrapped(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (Unavailable("x"), True),
        (psycopg.OperationalError("server closed the connection"), True),
        (psycopg.InterfaceError("the connection is closed"), True),
        (psycopg.errors.AdminShutdown(), True),
        (psycopg.errors.QueryCanceled(), True),
        (psycopg.errors.IdleInTransactionSessionTimeout(), True),
        (psycopg_pool.PoolTimeout(), True),
        (psycopg_pool.PoolClosed(), False),
        (psycopg.errors.UniqueViolation(), False),
        (psycopg.errors.UndefinedTable(), False),
        (psycopg.errors.ProgramLimitExceeded(), False),
        (wrapped(persistence.OperationalError("x"), psycopg.OperationalError()), True),
        (wrapped(persistence.InternalError("x"), psycopg.errors.IdleInTransactionSessionTimeout()), True),
        (wrapped(persistence.InternalError("x"), psycopg.InternalError()), False),
        (wrapped(persistence.OperationalError("x"), sqlite3.OperationalError("no such table: t")), False),
        (persistence.IntegrityError("x"), False),
        (sa.exc.OperationalError("SELECT", {}, psycopg.OperationalError()), True),
        (sa.exc.OperationalError("SELECT", {}, sqlite3.OperationalError("no such table: t")), False),
        (sa.exc.InterfaceError("SELECT", {}, psycopg.InterfaceError()), True),
        (sa.exc.IntegrityError("SELECT", {}, psycopg.errors.UniqueViolation()), False),
        (sa.exc.TimeoutError("the engine's pool is empty"), True),
        (ValueError("x"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_what_says_that_the_database_is_away(error, away):
    assert is_unavailable(error) is away


def test_a_busy_sqlite_file_says_so_in_every_wrapping():
    error = busy()
    assert is_unavailable(error)
    assert is_unavailable(wrapped(persistence.OperationalError(error), error))
    assert is_unavailable(sa.exc.OperationalError("UPDATE", {}, error))
