"""Reads as of a date say the same with snapshots of the past as without, whatever comes late and whenever."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_stream import BRANDS, CAMPAIGNS, HOUR, START, Stream, long_stream, streams
from sqlalchemy import Connection, Engine, func, select

from aggregates.database import open_database
from projections.projection import Held
from projections.queries.books import brand_books, liability
from projections.queries.holdings import Cut, held
from projections.queries.standings import points_scores
from projections.registry import LEDGER
from projections.statements import PROJECTION
from projections.upkeep import snapshots, snapshotting
from projections.upkeep.digest import snapshot
from projections.upkeep.rebuild import Rebuild
from projections.upkeep.runner import Runner, kept, prepare, store

END = START + 62 * HOUR


def answers(conn: Connection, at: int) -> list[Any]:
    """What each brand's reads say as of an instant."""
    cut = Cut(as_of=at)
    found: list[Any] = []
    for brand in BRANDS:
        found += [held(conn, brand, at, cut), brand_books(conn, brand, at, cut), liability(conn, brand, at, cut)]
        found += [sorted(points_scores(conn, brand, campaign, at)) for campaign in CAMPAIGNS]
    return found


def taken(conn: Connection) -> int:
    ready = select(func.count()).select_from(snapshots.SNAPSHOTS).where(snapshots.SNAPSHOTS.c.ready)
    return int(conn.execute(ready).scalar_one())


@settings(max_examples=60, deadline=None)
@given(
    streams(),
    st.lists(st.integers(1, 12), min_size=1, max_size=6),
    st.lists(st.integers(0, 40), max_size=6),
    st.integers(1, 9),
    st.integers(1, 4),
)
def test_with_snapshots_or_without_a_read_as_of_a_date_is_the_same(
    stream: Stream, pages: list[int], untils: list[int], interval: int, enough: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        engine = open_database(f"sqlite:///{Path(directory) / 'past.db'}")
        prepare(engine, LEDGER)
        for n in range(12):
            Runner(engine, stream.source, LEDGER, page=pages[n % len(pages)]).step()
            until = START + untils[n % len(untils)] * HOUR if untils else END
            while snapshotting.step(engine, engine, until, interval * HOUR, enough):
                pass
        Runner(engine, stream.source, LEDGER).catch_up()
        instants = [START + hours * HOUR + odd for hours in range(-1, 45, 4) for odd in (-1, 0)]
        with snapshot(engine) as conn:
            with_them = [answers(conn, at) for at in instants]
        with engine.begin() as conn:
            snapshots.forget_all(conn)
        with snapshot(engine) as conn:
            assert with_them == [answers(conn, at) for at in instants]
        engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> Engine:
    fresh: Callable[[], Engine] = request.getfixturevalue(f"{request.param}_engine")
    made = fresh()
    prepare(made, LEDGER)
    return made


def read_only(engine: Engine) -> Engine:
    return open_database(engine.url.render_as_string(hide_password=False), read_only=True)


def filled(engine: Engine, stream: Stream) -> None:
    Runner(engine, stream.source, LEDGER).catch_up()
    while snapshotting.step(engine, engine, END, 6 * HOUR, 3):
        pass


def test_snapshots_are_taken_where_much_happened_and_are_what_reads_begin_with(engine: Engine) -> None:
    filled(engine, long_stream(60))
    with snapshot(engine) as conn:
        assert taken(conn) >= 10
        honest = answers(conn, END)
        assert snapshots.latest_scores(conn, BRANDS[0], CAMPAIGNS[0], END) is not None
    with engine.begin() as conn:  # which shows only when they are read
        conn.execute(snapshots.SCORED.update().values(points=snapshots.SCORED.c.points + 1))
        conn.execute(snapshots.MOVED.update().values(shortfall=snapshots.MOVED.c.shortfall + 1))
        conn.execute(snapshots.LEFT.update().values(points=snapshots.LEFT.c.points + 1))
    with snapshot(engine) as conn:
        assert all(one != said for one, said in zip(answers(conn, END), honest, strict=True) if one)


def test_a_row_of_before_a_snapshot_forgets_it_and_those_after_it(engine: Engine) -> None:
    stream = long_stream(60)
    filled(engine, stream)
    late = START + 20 * HOUR
    stream.reward(BRANDS[0], "ann", 7, CAMPAIGNS[0], late, 0, None)
    Runner(engine, stream.source, LEDGER).catch_up()
    with snapshot(engine) as conn:
        of = {brand: snapshots.latest(conn, brand, END) for brand in BRANDS}
        assert (of[BRANDS[0]] or 0) < late < (of[BRANDS[1]] or 0)
        later = [conn.execute(select(func.max(table.c.at)).where(table.c.brand == BRANDS[0])).scalar() or 0 for table in
                 (snapshots.MOVED, snapshots.LEFT, snapshots.SCORED)]  # fmt: skip
        assert max(later) < late


@pytest.mark.parametrize(("hours", "stays"), [(20, False), (40, True)])
def test_a_row_that_comes_while_a_snapshot_is_taken(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, hours: int, stays: bool
) -> None:
    stream, rows = long_stream(60), snapshotting._rows
    Runner(engine, stream.source, LEDGER).catch_up()

    def meanwhile(conn: Connection, brand: str, at: int) -> Any:
        found = rows(conn, brand, at)
        stream.reward(brand, "ann", 7, CAMPAIGNS[0], START + hours * HOUR, 0, None)
        Runner(engine, stream.source, LEDGER).catch_up()
        return found

    monkeypatch.setattr(snapshotting, "_rows", meanwhile)
    reading = read_only(engine)
    assert snapshotting.take(engine, reading, BRANDS[0], START + 30 * HOUR) is stays
    reading.dispose()
    with snapshot(engine) as conn:
        assert taken(conn) == int(stays)


def test_a_snapshot_waits_for_rows_that_are_being_written(postgresql_engine: Callable[[], Engine]) -> None:
    engine, stream = postgresql_engine(), long_stream(60)
    prepare(engine, LEDGER)
    Runner(engine, stream.source, LEDGER).catch_up()
    stream.reward(BRANDS[0], "ann", 700, CAMPAIGNS[0], START + 20 * HOUR, 0, None)
    with snapshot(engine) as conn:
        there = kept(conn)[PROJECTION.name]
    work: Held = {}
    PROJECTION.hold(stream.source(there.position, 9), work)
    with ThreadPoolExecutor(1) as thread:
        with engine.begin() as conn:
            store(conn, {PROJECTION: work}, {PROJECTION: there}, stream.events[-1].id)
            taking = thread.submit(snapshotting.take, engine, engine, BRANDS[0], START + 30 * HOUR)
            with pytest.raises(TimeoutError):
                taking.result(0.5)
        assert taking.result(30)
    with snapshot(engine) as conn:
        with_it = points_scores(conn, BRANDS[0], CAMPAIGNS[0], START + 31 * HOUR)
    with engine.begin() as conn:
        snapshots.forget_all(conn)
    with snapshot(engine) as conn:
        assert sorted(with_it) == sorted(points_scores(conn, BRANDS[0], CAMPAIGNS[0], START + 31 * HOUR))


def test_one_that_was_announced_and_never_taken_is_none_and_is_taken_anew(engine: Engine) -> None:
    Runner(engine, long_stream(60).source, LEDGER).catch_up()
    at = START + 30 * HOUR
    with engine.begin() as conn:
        conn.execute(snapshots.SNAPSHOTS.insert().values(brand=BRANDS[0], at=at, ready=False))
    with snapshot(engine) as conn:
        assert snapshots.latest(conn, BRANDS[0], END) is None
    assert snapshotting.take(engine, engine, BRANDS[0], at)
    with snapshot(engine) as conn:
        assert snapshots.latest(conn, BRANDS[0], END) == at


def test_a_swap_of_statements_forgets_all(engine: Engine) -> None:
    stream = long_stream(60)
    filled(engine, stream)
    reading = read_only(engine)
    rebuild = Rebuild(engine, reading, stream.source, lambda: stream.events[-1].id, [PROJECTION])
    rebuild.build()
    with snapshot(engine) as conn:
        assert taken(conn) > 0
    rebuild.swap()
    with snapshot(engine) as conn:
        assert taken(conn) == 0
        assert conn.execute(select(func.count()).select_from(snapshots.LEFT)).scalar_one() == 0
    reading.dispose()
