"""Rebuild of the engagement tables: built beside those that serve, compared with them, and swapped; and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import engagement_model as model
import pytest
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import OperationalError

from aggregates.database import open_database
from projections import engagement
from projections.engagement import rebuild
from projections.engagement.digest import DIGESTED, compare, digest_rows
from projections.engagement.kept import kept
from projections.engagement.rebuild import Behind, Build, go_back
from projections.engagement.tables import METADATA, VERSIONS, create_tables
from projections.upkeep.digest import ProjectionDigest, digest_of, of_canonical, snapshot
from projections.upkeep.rebuild import NothingToGoBackTo
from projections.upkeep.verify import Verified
from schemas.topics import TIERS, WINDOWS

Fresh = Callable[[], Engine]
Records = Sequence[Mapping[str, Any]]

PANES = [
    model.pane(
        scope,
        model.BASE + hour * model.HOUR,
        stamp=10 * hour + place,
        counters={"member_post.like": hour + 1, "member_post.post": 1},
        partition=place % 2,
        member=f"m{hour}" if scope == "member" else "",
    )
    for hour in range(40)
    for place, scope in enumerate(("brand", "campaign", "member"))
]
OF_TIERS = [
    *(model.profile(f"m{n}", "micro" if n % 2 else "nano", stamp=n, tok=100 * n) for n in range(30)),
    *(model.pane("brand_tier", model.BASE + n * model.HOUR, stamp=n, counters={"purchases": n}) for n in range(20)),
]

ALL = {(WINDOWS, 0): len(PANES) + 9, (TIERS, 0): len(OF_TIERS)}


def apply(engine: Engine, topic: str, records: Records, end: int | None = None) -> None:
    """Read on, up to the record before `end`."""
    with engine.begin() as conn:
        start = engagement.position(conn, topic, 0)
        stop = len(records) if end is None else end
        engagement.apply(conn, topic, 0, start, stop, list(records[start:stop]))


@pytest.fixture
def serving(fresh: Fresh) -> Engine:
    """A database with all of the records in its tables."""
    engine = fresh()
    with engine.begin() as conn:
        if conn.dialect.name == "postgresql":
            for schema in (rebuild.NEXT, rebuild.OLD):
                conn.execute(text(f"DROP SCHEMA IF EXISTS {schema} CASCADE"))
        create_tables(conn)
    apply(engine, WINDOWS, PANES)
    apply(engine, TIERS, OF_TIERS)
    return engine


@pytest.fixture
def build(serving: Engine) -> Iterator[Callable[[], Build]]:
    """Makes a build, as a process does that is started."""
    made: list[Build] = []
    read = open_database(address(serving), read_only=True)

    def started() -> Build:
        made.append(Build(address(serving), serving, read))
        return made[-1]

    yield started
    for one in made:
        one.close()
    read.dispose()


def address(engine: Engine) -> str:
    return engine.url.set(drivername=engine.url.get_backend_name()).render_as_string(hide_password=False)


def digests(engine: Engine) -> list[ProjectionDigest]:
    """The kept digests; the rows add up to them."""
    with snapshot(engine) as conn:
        for source in DIGESTED:
            assert kept(conn, source.name) == of_canonical(digest_rows(conn, source.name))
        return [digest_of(conn, source) for source in DIGESTED]


def compared(engine: Engine, work: Build) -> dict[str, Verified]:
    with snapshot(engine) as live, snapshot(work.engine) as built:
        return {source.name: compare(live, built, source) for source in DIGESTED}


def whole(work: Build) -> Build:
    work.start(ALL)
    apply(work.engine, WINDOWS, PANES)
    apply(work.engine, TIERS, OF_TIERS)
    return work


def indexes(engine: Engine) -> set[str | None]:
    there = inspect(engine)
    return {index["name"] for table in METADATA.sorted_tables for index in there.get_indexes(table.name)}


def test_builds_of_topics_that_are_gone_are_forgotten(serving: Engine, build: Callable[[], Build]) -> None:
    with closing(whole(build())) as work:
        work.swap()
    with closing(build()) as work:
        work.start(ALL)
        apply(work.engine, WINDOWS, PANES, 50)
    before = digests(serving)
    rebuild.forget(serving, address(serving))
    with pytest.raises(NothingToGoBackTo, match="nothing that served before"):
        go_back(serving)
    with closing(build()) as work:
        assert work.start(ALL) == {}
    assert digests(serving) == before
    rebuild.forget(serving, address(serving))


def test_damage_is_named_mended_and_can_be_had_back(serving: Engine, build: Callable[[], Build]) -> None:
    before, had = digests(serving), indexes(serving)
    with serving.begin() as conn:
        damage = (
            "UPDATE engagement SET member_post_like = member_post_like + 7 WHERE scope = 'member' AND member = 'm3'"
        )
        conn.execute(text(damage))
    with closing(whole(build())) as work:
        found = compared(serving, work)
        assert [name for name, one in found.items() if not one.same] == ["engagement"]
        first = found["engagement"].first
        assert first is not None
        assert (first.key["member"], first.column, first.stored, first.rebuilt) == ("m3", "member_post_like", 11, 4)
        assert [event.source for event in first.events] == ["members.activity.v1:0:32"]
        work.swap()
    assert digests(serving) == before
    assert indexes(serving) == had
    for _ in range(2):
        go_back(serving)
        with pytest.raises(AssertionError):
            digests(serving)
        go_back(serving)
        assert digests(serving) == before
        assert indexes(serving) == had


def test_an_interrupted_build_goes_on_where_it_was(serving: Engine, build: Callable[[], Build]) -> None:
    before = digests(serving)
    with closing(build()) as work:
        assert work.start(ALL) == {}
        apply(work.engine, WINDOWS, PANES, 50)
    with closing(build()) as work:
        assert work.start(ALL) == {(WINDOWS, 0): 50}
        with pytest.raises(Behind):
            work.swap()
    assert digests(serving) == before
    with closing(build()) as work:
        assert work.start({(WINDOWS, 0): 49}) == {}, "it has gone further"
    with closing(whole(build())) as work:
        assert all(one.same for one in compared(serving, work).values())
        work.swap()
    assert digests(serving) == before


def test_who_keeps_the_tables_up_goes_on_after_the_swap(serving: Engine, build: Callable[[], Build]) -> None:
    more = [*PANES, model.pane("brand", model.BASE, stamp=999, counters={"purchases": 5}, partition=0)]
    with closing(whole(build())) as work:
        apply(serving, WINDOWS, more)
        with pytest.raises(Behind):
            work.swap()
        apply(work.engine, WINDOWS, more)
        work.swap()
    before = digests(serving)
    apply(serving, WINDOWS, [*more, model.pane("brand", model.BASE, stamp=1000, counters={"purchases": 6})])
    assert digests(serving) != before


def test_a_swap_on_postgresql_reads_the_last_records_while_whoever_keeps_the_tables_up_waits(
    serving: Engine, build: Callable[[], Build]
) -> None:
    more = [*PANES, model.pane("brand", model.BASE, stamp=999, counters={"purchases": 5}, partition=0)]
    asked: list[Mapping[tuple[str, int], int]] = []
    with closing(whole(build())) as work:
        apply(serving, WINDOWS, more)

        def catch_up(now: Mapping[tuple[str, int], int]) -> None:
            asked.append(now)
            with serving.connect() as conn:
                conn.execute(text("SET LOCAL lock_timeout = 100"))
                with pytest.raises(OperationalError, match="lock timeout"):
                    engagement.apply(conn, WINDOWS, 0, len(more), len(more) + 1, [])
            apply(work.engine, WINDOWS, more)

        if serving.dialect.name == "sqlite":
            with pytest.raises(Behind):
                work.swap(catch_up)
            assert asked == []
            return
        before = digests(serving)
        work.swap(catch_up)
    assert asked == [{**ALL, (WINDOWS, 0): len(more)}]
    assert digests(serving) == before


def test_each_rebuild_takes_the_place_of_the_one_before(serving: Engine, build: Callable[[], Build]) -> None:
    before = digests(serving)
    for _ in range(3):
        with closing(whole(build())) as work:
            work.swap()
        assert digests(serving) == before


def test_there_is_nothing_to_go_back_to_without_a_rebuild_or_of_another_version(
    serving: Engine, build: Callable[[], Build]
) -> None:
    with pytest.raises(NothingToGoBackTo, match="nothing that served before"):
        go_back(serving)
    with closing(whole(build())) as work:
        work.swap()
    old = f"{VERSIONS.name}__old" if serving.dialect.name == "sqlite" else f"{rebuild.OLD}.{VERSIONS.name}"
    with serving.begin() as conn:
        conn.execute(text(f"UPDATE {old} SET version = 1"))
    with pytest.raises(NothingToGoBackTo, match="version 1 only"):
        go_back(serving)
