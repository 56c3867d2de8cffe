"""The runner: position and rows move together, once, whoever runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from ledger_stream import Stream, long_stream
from sqlalchemy import Engine, inspect, select

from aggregates.ledger import Recorded
from projections import balances
from projections.balances import BALANCES
from projections.projection import Projection
from projections.registry import DIGESTED, LEDGER
from projections.upkeep.digest import DigestReport, digest, snapshot
from projections.upkeep.runner import NewerProjection, Runner, positions, prepare

Fresh = Callable[[], Engine]


def digests(engine: Engine) -> DigestReport:
    with snapshot(engine) as conn:
        return digest(conn, DIGESTED)


def clean(engine: Engine, stream: Stream) -> DigestReport:
    prepare(engine, LEDGER)
    Runner(engine, stream.source, LEDGER).catch_up()
    return digests(engine)


def test_a_stale_runner_applies_nothing_twice(fresh: Fresh, sqlite_engine: Fresh) -> None:
    stream = long_stream(120)
    engine = fresh()
    prepare(engine, LEDGER)
    first, second = (Runner(engine, stream.source, LEDGER, page=size) for size in (7, 11))
    assert first.position == second.position == 0
    while first.step() + second.step():
        pass
    assert digests(engine) == clean(sqlite_engine(), stream)


def test_two_runners_at_once_do_not_double_apply(fresh: Fresh, sqlite_engine: Fresh) -> None:
    stream = long_stream(200)
    engine = fresh()
    prepare(engine, LEDGER)
    failed: list[BaseException] = []

    def run(size: int) -> None:
        try:
            Runner(engine, stream.source, LEDGER, page=size).catch_up()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(size,)) for size in (5, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    assert digests(engine) == clean(sqlite_engine(), stream)


def test_a_swap_to_a_build_at_the_same_place_is_no_reason_to_stop(postgresql_engine: Fresh) -> None:
    """The runner's page waits for the swap's transaction, and then finds rows of the names that the swap gave."""
    stream = long_stream(40)
    engine = postgresql_engine()
    prepare(engine, LEDGER)
    runner = Runner(engine, stream.source, LEDGER, page=10)
    runner.step()
    with ThreadPoolExecutor(1) as pool, engine.connect() as swap:
        for table in ("projection_positions", "projection_digests"):
            columns = ", ".join(column["name"] for column in inspect(engine).get_columns(table))
            there = columns.replace("name", "'balances'")
            swap.exec_driver_sql(f"UPDATE {table} SET name = 'balances__old' WHERE name = 'balances'")
            swap.exec_driver_sql(f"INSERT INTO {table} SELECT {there} FROM {table} WHERE name = 'balances__old'")
        step = pool.submit(runner.step)
        assert not wait({step}, timeout=0.5).done, "it waits for the swap"
        swap.commit()
        assert step.result(20) > 0
    runner.catch_up()
    with snapshot(engine) as conn:
        assert set(positions(conn, LEDGER).values()) == {stream.events[-1].id}


def test_a_page_that_fails_leaves_neither_rows_nor_position(sqlite_engine: Fresh) -> None:
    stream = long_stream(40)
    engine = sqlite_engine()
    broken = Projection("broken", 1, (BALANCES,), lambda _events: {BALANCES.name: [{"brand": "acme"}]})
    prepare(engine, (*LEDGER, broken))
    with pytest.raises(Exception, match="member"):
        Runner(engine, stream.source, (*LEDGER, broken)).step()
    with snapshot(engine) as conn:
        assert set(positions(conn, LEDGER).values()) == {0}
        assert conn.execute(select(BALANCES.table)).first() is None


def test_it_stops_at_the_position_asked_for_and_goes_on_from_there(sqlite_engine: Fresh) -> None:
    stream = long_stream(60)
    engine = sqlite_engine()
    prepare(engine, LEDGER)
    stop = stream.events[29].id
    runner = Runner(engine, stream.source, LEDGER, page=8)
    reached: list[int] = []
    assert runner.catch_up(stop, reached.append) == 30
    assert runner.position == reached[-1] == stop
    assert Runner(engine, stream.source, LEDGER).catch_up() == len(stream.events) - 30
    assert digests(engine) == clean(sqlite_engine(), stream)


def test_a_projection_that_is_behind_catches_up_beside_the_others(sqlite_engine: Fresh) -> None:
    stream = long_stream(60)
    engine = sqlite_engine()
    prepare(engine, LEDGER)
    Runner(engine, stream.source, LEDGER[1:]).catch_up(stream.events[40].id)
    Runner(engine, stream.source, LEDGER, page=9).catch_up()
    assert digests(engine) == clean(sqlite_engine(), stream)


def test_an_older_version_is_dropped_and_built_anew(sqlite_engine: Fresh) -> None:
    stream = long_stream(30)
    engine = sqlite_engine()
    clean(engine, stream)
    newer = Projection("balances", balances.PROJECTION.version + 1, (BALANCES,), balances.fold)
    prepare(engine, (newer,))
    with snapshot(engine) as conn:
        assert positions(conn, (newer,)) == {"balances": 0}
        assert conn.execute(select(BALANCES.table)).first() is None
    with pytest.raises(NewerProjection, match=f"balances: the database has version {newer.version}"):
        prepare(engine, LEDGER)


def test_preparing_again_keeps_everything(fresh: Fresh) -> None:
    stream = long_stream(30)
    engine = fresh()
    before = clean(engine, stream)
    prepare(engine, LEDGER)
    assert digests(engine) == before


def test_an_empty_ledger_is_nothing_to_do(sqlite_engine: Fresh) -> None:
    engine = sqlite_engine()
    prepare(engine, LEDGER)

    def nothing(_after: int, _limit: int) -> list[Recorded]:
        return []

    assert Runner(engine, nothing, LEDGER).catch_up() == 0
