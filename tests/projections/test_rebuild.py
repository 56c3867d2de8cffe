"""Rebuild: a read model is built beside the one that serves, compared with it, and swapped; and back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_stream import Stream, long_stream, streams
from sqlalchemy import Engine, inspect, select
from sqlalchemy import text as sql

from aggregates.database import open_database
from aggregates.ledger import Recorded
from projections import balances
from projections.balances import BALANCES
from projections.projection import Projection
from projections.registry import LEDGER
from projections.statements import STATEMENTS
from projections.upkeep.digest import snapshot
from projections.upkeep.rebuild import Busy, NothingToGoBackTo, Rebuild, Swapped, go_back
from projections.upkeep.runner import DIGESTS, NEXT, POSITIONS, Kept, NewerProjection, Runner, digest_of, kept, prepare
from projections.upkeep.shadows import has_keys

Fresh = Callable[[], Engine]
SOME = LEDGER[:3]


def reading(engine: Engine) -> Engine:
    return open_database(engine.url.render_as_string(hide_password=False), read_only=True)


@contextmanager
def rebuild(
    engine: Engine, stream: Stream, projections: tuple[Projection, ...] = LEDGER, page: int = 50, held: int = 90
) -> Iterator[Rebuild]:
    read = reading(engine)
    try:
        yield Rebuild(engine, read, stream.source, lambda: stream.events[-1].id, projections, page=page, held=held)
    finally:
        read.dispose()


def swapped(engine: Engine, stream: Stream, projections: tuple[Projection, ...] = LEDGER) -> list[Swapped]:
    with rebuild(engine, stream, projections) as work:
        work.build()
        return work.swap()


def filled(engine: Engine, stream: Stream, stop: int | None = None) -> Engine:
    prepare(engine, LEDGER)
    Runner(engine, stream.source, LEDGER, page=25).catch_up(stop)
    return engine


def state(engine: Engine) -> dict[str, Kept]:
    """What is kept of the read models that serve; their rows add up to it."""
    with snapshot(engine) as conn:
        stored = {projection.name: kept(conn)[projection.name] for projection in LEDGER}
        assert {p.name: digest_of(conn, p) for p in LEDGER} == {name: one.digest for name, one in stored.items()}
    return stored


def test_a_damaged_read_model_is_named_mended_and_can_be_had_back(fresh: Fresh) -> None:
    stream = long_stream(120)
    engine = filled(fresh(), stream)
    before = state(engine)
    table = STATEMENTS.table
    entry = stream.grants[0][2].entry_id
    with engine.begin() as conn:
        conn.execute(table.update().where(table.c.entry_id == entry).values(points=table.c.points + 1_000))
    with rebuild(engine, stream) as work:
        work.build()
        compared = work.compare()
        assert [name for name, one in compared.items() if not one.same] == ["statements"]
        found = compared["statements"].first
        assert found is not None
        assert (found.key["entry_id"], found.column, found.events_total) == (entry, "points", 1)
        result = work.swap()
    assert [one.projection for one in result] == list(LEDGER)
    assert all(one.before == one.after for one in result)
    assert state(engine) == before
    go_back(engine, [projection for projection in LEDGER if projection.name == "statements"])
    with pytest.raises(AssertionError):
        state(engine)
    go_back(engine, [projection for projection in LEDGER if projection.name == "statements"])
    assert state(engine) == before


def test_what_serves_has_its_indexes_after_any_number_of_rebuilds(fresh: Fresh) -> None:
    stream = long_stream(20)
    engine = filled(fresh(), stream)

    def indexes() -> set[tuple[str, tuple[str | None, ...], bool]]:
        where = f"{engine.dialect.name}_where"
        return {
            (table, tuple(index["column_names"]), where in index.get("dialect_options", {}))
            for table in ("statements", "lots")
            for index in inspect(engine).get_indexes(table)
            if not index["unique"]
        }

    first = indexes()
    assert {partial for table, _, partial in first if table == "lots"} == {True}
    assert {columns for table, columns, partial in first if table == "statements" and partial} == {("brand", "member")}
    for _ in range(3):
        swapped(engine, stream)
        assert indexes() == first
        with engine.connect() as conn:
            assert all(has_keys(conn, projection) for projection in LEDGER)
    assert {"statements", "statements__old"} <= set(inspect(engine).get_table_names())
    prepare(engine, LEDGER)
    assert state(engine)["statements"].position == stream.events[-1].id


def test_those_who_keep_it_up_go_on_over_swap_and_rollback(fresh: Fresh, sqlite_engine: Fresh) -> None:
    stream = long_stream(300)
    engine = filled(fresh(), stream, stream.events[60].id)
    stop, failed = threading.Event(), list[BaseException]()

    def project() -> None:
        runner = Runner(engine, stream.source, LEDGER, page=3)
        try:
            while not stop.is_set() or runner.step():
                runner.step()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=project)
    thread.start()
    try:
        for _ in range(3):
            with rebuild(engine, stream) as work:
                work.build()
                assert all(one.same for one in work.compare().values())
                patiently(work.swap)
        patiently(lambda: go_back(engine, LEDGER))
    finally:
        stop.set()
        thread.join(120)
    assert not failed
    assert state(engine) == state(filled(sqlite_engine(), stream))


def patiently(swap: Callable[[], object]) -> None:
    for _ in range(50):
        try:
            swap()
        except Busy:
            continue
        return
    pytest.fail("never swapped")


def test_a_runner_does_not_go_on_from_a_digest_that_a_swap_has_mended(fresh: Fresh) -> None:
    stream = long_stream(90)
    engine, half = filled(fresh(), stream, stop=30), stream.events[len(stream.events) // 2].id
    with engine.begin() as conn:
        conn.execute(DIGESTS.update().where(DIGESTS.c.name == "balances").values(digest="0" * 32))
    runner = Runner(engine, stream.source, LEDGER, page=25)
    runner.catch_up(half)  # it knows the wrong one now
    swapped(engine, stream)
    runner.catch_up()
    state(engine)


def test_a_runner_that_meets_tables_of_another_shape_says_whose_they_are(fresh: Fresh) -> None:
    stream = long_stream(90)
    engine = filled(fresh(), stream, stop=30)
    runner = Runner(engine, stream.source, LEDGER, page=25)
    assert runner.step(60)  # it knows what is there
    with engine.begin() as conn:  # as a rebuild of a newer release swaps it
        conn.execute(POSITIONS.update().where(POSITIONS.c.name == "balances").values(version=POSITIONS.c.version + 1))
        conn.execute(DIGESTS.update().where(DIGESTS.c.name == "balances").values(version=DIGESTS.c.version + 1))
        conn.execute(sql("ALTER TABLE balances RENAME COLUMN shortfall TO other"))
    with pytest.raises(NewerProjection, match="balances"):
        runner.catch_up()


def test_a_runner_says_what_is_wrong_where_nobody_moved_anything(fresh: Fresh) -> None:
    stream = long_stream(90)
    engine = filled(fresh(), stream, stop=30)
    runner = Runner(engine, stream.source, LEDGER, page=25)
    with engine.begin() as conn:
        conn.execute(sql("ALTER TABLE balances RENAME COLUMN shortfall TO other"))
    with pytest.raises(Exception, match="shortfall"):
        runner.catch_up()


def test_readers_see_one_build_whole(fresh: Fresh) -> None:
    stream = long_stream(200)
    engine = filled(fresh(), stream)
    with engine.begin() as conn:  # so that the two are told from one another
        conn.execute(BALANCES.table.update().values(shortfall=-7))
    stop, seen, failed = threading.Event(), set[tuple[int, int]](), list[BaseException]()
    read = reading(engine)

    def look() -> None:
        try:
            while not stop.is_set():
                with read.connect() as conn:
                    position = kept(conn)["balances"].position
                    rows = conn.execute(select(BALANCES.table.c.shortfall)).scalars().all()
                    assert position == stream.events[-1].id
                    seen.add((len(rows), rows.count(-7)))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        with rebuild(engine, stream) as work:
            work.build()
            patiently(work.swap)
        for _ in range(4):
            patiently(lambda: go_back(engine, LEDGER))
    finally:
        stop.set()
        thread.join(60)
        read.dispose()
    assert not failed
    (count,) = {rows for rows, _ in seen}
    assert count > 0
    assert {damaged for _, damaged in seen} <= {0, count}


def again(stream: Stream) -> list[Recorded]:
    """The same once more: what a log says that was sent again after the horizon of duplicates."""
    return [recorded._replace(id=recorded.id + 1_000) for recorded in stream.events]


@settings(max_examples=15, deadline=None)
@given(streams(), st.integers(1, 30), st.integers(1, 90), st.lists(st.integers(0, 60), max_size=2), st.booleans())
def test_rebuilt_is_live_for_any_page_and_interruption(
    tmp_path_factory: pytest.TempPathFactory, stream: Stream, page: int, held: int, stops: list[int], twice: bool
) -> None:
    engine = open_database(f"sqlite:///{tmp_path_factory.mktemp('rebuild') / 'models.db'}")
    if twice:
        stream.events += again(stream)
    filled(engine, stream)
    before = state(engine)
    for stop in sorted(stops):
        with rebuild(engine, stream, page=page, held=held) as work:
            built = work.build(stop)
            assert all(one.position <= stop for one in built.values())
    with rebuild(engine, stream, page=page, held=held) as work:
        work.build()
        assert all(one.same for one in work.compare().values())
        work.swap()
    assert state(engine) == before
    engine.dispose()


def test_a_build_that_stops_at_a_position_stays_beside_what_serves(fresh: Fresh, sqlite_engine: Fresh) -> None:
    stream = long_stream(100)
    engine = filled(fresh(), stream)
    before, stop = state(engine), stream.events[50].id
    with rebuild(engine, stream) as work:
        built = work.build(stop)
    assert built == state(filled(sqlite_engine(), stream, stop))
    assert state(engine) == before
    with rebuild(engine, stream) as work:  # one that has gone further starts anew
        assert {one.position for one in work.build(stream.events[20].id).values()} == {stream.events[20].id}
    assert {one.after for one in swapped(engine, stream)} == set(before.values())


def test_a_newer_version_is_built_while_the_older_serves(fresh: Fresh) -> None:
    stream = long_stream(60)
    engine = filled(fresh(), stream)
    old_runner = Runner(engine, stream.source, LEDGER)
    newer = replace(balances.PROJECTION, version=balances.PROJECTION.version + 1)
    with rebuild(engine, stream, (newer,)) as work:
        work.build()
        assert state(engine)["balances"].version == balances.PROJECTION.version
        assert work.compare() == {}
        (one,) = work.swap()
    assert one.before is not None
    assert (one.before.version, one.after.version) == (balances.PROJECTION.version, newer.version)
    with pytest.raises(NewerProjection, match="balances"):
        old_runner.step()
    with pytest.raises(NothingToGoBackTo, match=f"version {balances.PROJECTION.version} only"):
        go_back(engine, [newer])
    with rebuild(engine, stream) as work, pytest.raises(NewerProjection, match="of a newer release serves"):
        work.build()
    prepare(engine, (newer, *LEDGER[1:]))
    with engine.connect() as conn:
        assert kept(conn)["balances"].position == stream.events[-1].id


def test_going_back_without_a_rebuild_is_refused(sqlite_engine: Fresh) -> None:
    engine = filled(sqlite_engine(), long_stream(10))
    with pytest.raises(NothingToGoBackTo, match="balances: there is nothing that served before"):
        go_back(engine, SOME)


def test_an_open_transaction_keeps_a_swap_away_and_nothing_happens(postgresql_engine: Fresh) -> None:
    stream = long_stream(40)
    engine = filled(postgresql_engine(), stream)
    read = reading(engine)
    with rebuild(engine, stream) as work:
        work.build()
        with read.connect() as conn:
            conn.execute(select(BALANCES.table)).all()
            with pytest.raises(Busy, match="still open"):
                work.swap()
            assert kept(conn)["balances"].position == stream.events[-1].id
        assert len(work.swap()) == len(LEDGER)
    read.dispose()


class Stopped(Exception):
    """What ends a build at a moment of the test's choice."""


def test_a_build_that_fails_after_any_page_goes_on_and_counts_what_came_twice(fresh: Fresh) -> None:
    stream = long_stream(150)
    stream.events += again(stream)
    engine = filled(fresh(), stream)
    before, pages = state(engine), 0

    def told(_reached: int, _end: int) -> None:
        nonlocal pages
        pages += 1
        if pages % 4 == 0:
            raise Stopped

    for _ in range(40):
        with rebuild(engine, stream, page=20, held=60) as work:
            try:
                work.build(told=told)
            except Stopped:
                continue
            assert all(one.same for one in work.compare().values())
            work.swap()
            break
    assert pages > 8
    assert state(engine) == before
    assert before["statements"].digest.rows == stream.movements


_BUILDER = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
from ledger_stream import long_stream
from aggregates.database import open_database
from projections.upkeep.rebuild import Rebuild
from projections.registry import LEDGER
stream = long_stream(400)
url = {url!r}
work = Rebuild(open_database(url), open_database(url, read_only=True), stream.source, lambda: stream.events[-1].id,
               LEDGER, page=5, held=40)
print("begun", flush=True)
work.build(told=lambda at, end: print(at, flush=True))
"""


def test_a_killed_rebuild_goes_on_where_it_was(fresh: Fresh) -> None:
    stream = long_stream(400)
    engine = filled(fresh(), stream)
    before, reached = state(engine), 0
    url = engine.url.set(drivername=engine.url.get_backend_name()).render_as_string(hide_password=False)
    here = Path(__file__).parent
    code = _BUILDER.format(tests=str(here), root=str(here.parents[1]), url=url)
    for pages in (6, 12):
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=here)
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
        for _ in range(pages):
            assert int(child.stdout.readline()) > reached
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        with engine.connect() as conn:
            positions = {kept(conn)[p.name + NEXT].position for p in LEDGER}
        assert reached < max(positions) < stream.events[-1].id
        reached = min(positions)
    with rebuild(engine, stream) as work:
        told: list[int] = []
        work.build(told=lambda at, _end: told.append(at))
        assert told[0] > reached
        work.swap()
    assert state(engine) == before
