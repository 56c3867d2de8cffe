"""Kept digests: at every moment what the rows add up to, however they came there; and told when they are not."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_stream import Stream, long_stream, streams
from sqlalchemy import Engine

from aggregates.database import open_database
from projections.registry import LEDGER
from projections.standings import STANDINGS
from projections.statements import STATEMENTS
from projections.upkeep.rows import Digest
from projections.upkeep.runner import DIGESTS, Runner, digest_of, kept, prepare
from projections.upkeep.verify import verify

Fresh = Callable[[], Engine]


def both(engine: Engine) -> tuple[dict[str, Digest], dict[str, Digest]]:
    """The kept digests, and those of the rows as they are."""
    with engine.connect() as conn:
        stored = kept(conn)
        return {p.name: stored[p.name].digest for p in LEDGER}, {p.name: digest_of(conn, p) for p in LEDGER}


@settings(max_examples=25)
@given(streams(), st.integers(1, 12), st.lists(st.integers(0, 60), max_size=3))
def test_after_every_interruption_they_are_what_the_rows_add_up_to(stream: Stream, page: int, stops: list[int]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        engine = open_database(f"sqlite:///{Path(directory) / 'models.db'}")
        prepare(engine, LEDGER)
        for stop in [*sorted(stops), None]:
            Runner(engine, stream.source, LEDGER, page=page).catch_up(stop)
            stored, added_up = both(engine)
            assert stored == added_up
        engine.dispose()


def test_both_databases_keep_the_same_for_any_page(sqlite_engine: Fresh, postgresql_engine: Fresh) -> None:
    stream = long_stream(300)
    found = []
    for engine, page in ((sqlite_engine(), 7), (postgresql_engine(), 41)):
        prepare(engine, LEDGER)
        Runner(engine, stream.source, LEDGER, page=page).catch_up()
        stored, added_up = both(engine)
        assert stored == added_up
        found.append(stored)
    assert found[0] == found[1]
    assert found[0]["statements"].rows == stream.movements


def test_an_entry_that_comes_twice_adds_up_once_more(fresh: Fresh) -> None:
    stream = long_stream(60)
    again = [recorded._replace(id=recorded.id + 1_000) for recorded in stream.events]
    stream.events += again
    engine = fresh()
    prepare(engine, LEDGER)
    Runner(engine, stream.source, LEDGER, page=25).catch_up()
    stored, added_up = both(engine)
    assert stored == added_up
    assert stored["statements"].rows == stream.movements


def test_a_hand_changed_row_is_told_from_the_kept_digest(fresh: Fresh) -> None:
    stream = long_stream(60)
    engine = fresh()
    prepare(engine, LEDGER)
    Runner(engine, stream.source, LEDGER).catch_up()
    table = STANDINGS.table
    with engine.begin() as conn:
        conn.execute(table.update().values(points=table.c.points + 1))
    found = next(one for one in verify(engine, stream.source).projections if one.name == "standings")
    assert not found.same
    assert found.kept == found.rebuilt != found.digest


def test_a_hand_changed_kept_digest_is_told_from_the_rows(sqlite_engine: Fresh) -> None:
    stream = long_stream(60)
    engine = sqlite_engine()
    prepare(engine, LEDGER)
    Runner(engine, stream.source, LEDGER).catch_up()
    with engine.begin() as conn:
        conn.execute(DIGESTS.update().where(DIGESTS.c.name == "lots").values(digest=f"{1:032x}"))
    report = verify(engine, stream.source)
    assert [one.name for one in report.projections if not one.same] == ["lots"]
    assert all(one.differing == 0 for one in report.projections)


@pytest.mark.parametrize("name", ["standings", "statements"])
def test_a_database_from_before_there_were_any_gets_them_from_its_rows(name: str, sqlite_engine: Fresh) -> None:
    stream = long_stream(60)
    engine = sqlite_engine()
    prepare(engine, LEDGER)
    Runner(engine, stream.source, LEDGER).catch_up()
    before, _ = both(engine)
    with engine.begin() as conn:
        conn.execute(DIGESTS.delete().where(DIGESTS.c.name == name))
    prepare(engine, LEDGER)
    assert both(engine)[0] == before


def test_only_what_is_volatile_is_left_out(sqlite_engine: Fresh) -> None:
    engine, stream = sqlite_engine(), long_stream(30)
    prepare(engine, LEDGER)
    Runner(engine, stream.source, LEDGER).catch_up()
    statements = next(p for p in LEDGER if p.name == "statements")
    for column in STATEMENTS.columns:
        with engine.begin() as conn:
            before = digest_of(conn, statements)
            conn.exec_driver_sql(f"UPDATE statements SET {column} = {column} || '9'")
            assert (digest_of(conn, statements) == before) == (column in STATEMENTS.volatile), column
