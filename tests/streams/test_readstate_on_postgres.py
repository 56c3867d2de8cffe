"""The read-state on a real PostgreSQL server: what a process that is frozen in the middle of a save holds up."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy as sa

from aggregates import database
from aggregates.database import is_unavailable, open_database
from aggregates.ledger import Fenced, Source
from streams import readstate

SOURCE = Source("activity", "1", 0)


@pytest.fixture
def engines(postgresql_address: str) -> Iterator[tuple[sa.Engine, sa.Engine]]:
    """Two engines of one database, as two processes have them."""
    made = open_database(postgresql_address), open_database(postgresql_address)
    readstate.create_tables(made[0])
    yield made
    for engine in made:
        engine.dispose()


def test_a_worker_that_is_frozen_in_the_middle_of_a_save_does_not_keep_its_successor(engines, monkeypatch):
    monkeypatch.setattr(database, "AWAY_SECONDS", 1)
    frozen, heir = engines
    state = readstate.take(frozen, SOURCE, "frozen")
    state.close("acme", "spring", 5)
    delta = state.take(0, 10)
    taken = []

    @sa.event.listens_for(frozen, "before_cursor_execute")
    def _freeze(_c: object, _cursor: object, statement: str, *_: object) -> None:
        if "INSERT" in statement and not taken:  # its position is written by now, and locked
            taken.append(readstate.take(heir, SOURCE, "heir"))

    with pytest.raises(sa.exc.DBAPIError) as caught:
        readstate.save(frozen, SOURCE, delta, "frozen", {})
    assert is_unavailable(caught.value)
    assert taken[0].closed == {}
    with pytest.raises(Fenced):
        readstate.save(frozen, SOURCE, delta, "frozen", {})
    readstate.save(heir, SOURCE, taken[0].take(0, 3), "heir", {})


def test_a_worker_that_is_frozen_in_the_middle_of_its_rows_is_ended_by_who_waits_for_it(engines, postgresql_address):
    """The rows of a save go in a pipeline: a server that waits for the rest of it ends nobody by itself."""
    frozen, heir = engines
    readstate.take(frozen, SOURCE, "frozen")
    with psycopg.connect(postgresql_address) as connection:
        connection.pgconn.enter_pipeline_mode()
        connection.pgconn.send_query_params(b"BEGIN", None)
        connection.pgconn.pipeline_sync()
        connection.pgconn.send_query_params(b"UPDATE stream_positions SET position = 7", None)
        connection.pgconn.send_flush_request()
        connection.pgconn.flush()
        time.sleep(0.5)
        with pytest.raises(sa.exc.DBAPIError) as caught:
            readstate.take(heir, SOURCE, "heir")
        assert is_unavailable(caught.value)
        assert readstate.take(heir, SOURCE, "heir").saved == 0
        connection.close()


def test_what_is_loaded_while_another_worker_takes_it_over_is_not_used(engines):
    late, heir = engines

    @sa.event.listens_for(late, "begin")
    def _taken_over(_connection: object) -> None:
        if len(begun := [*begun_before, None]) == 2:  # the transaction that loads
            readstate.take(heir, SOURCE, "heir")
        begun_before[:] = begun

    begun_before: list[None] = []
    with pytest.raises(Fenced, match="while this one loaded it"):
        readstate.take(late, SOURCE, "late")
