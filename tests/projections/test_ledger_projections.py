"""What the ledger's read models hold: compared with plain dictionaries, whatever the pages and the database."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_stream import START, Stream, long_stream, streams
from sqlalchemy import Engine, func, select

from aggregates.database import open_database
from projections.balances import BALANCES, Holding, LotLeft, Totals, judge
from projections.lots import LOTS
from projections.outcomes import OUTCOMES
from projections.queries.settlement import settled_places, unsettled
from projections.refusals import REFUSALS
from projections.registry import DIGESTED, LEDGER
from projections.standings import STANDINGS
from projections.statements import STATEMENTS, holding_of
from projections.upkeep.digest import DigestReport, digest, snapshot
from projections.upkeep.runner import Runner, prepare


@contextmanager
def built(stream: Stream, page: int) -> Iterator[Engine]:
    with tempfile.TemporaryDirectory() as directory:
        engine = open_database(f"sqlite:///{Path(directory) / 'models.db'}")
        fill(engine, stream, page)
        yield engine
        engine.dispose()


def fill(engine: Engine, stream: Stream, page: int) -> None:
    prepare(engine, LEDGER)
    Runner(engine, stream.source, LEDGER, page=page).catch_up()


def digests(engine: Engine) -> DigestReport:
    with snapshot(engine) as conn:
        return digest(conn, DIGESTED)


@settings(max_examples=40)
@given(streams(), st.integers(1, 50))
def test_totals_lots_and_standings_are_what_plain_dictionaries_say(stream: Stream, page: int) -> None:
    with built(stream, page) as engine, snapshot(engine) as conn:
        totals = {(row.brand, row.member): tuple(row)[2:] for row in conn.execute(select(BALANCES.table))}
        lots = {(row.brand, row.member, row.lot): row.points_left for row in conn.execute(select(LOTS.table))}
        scores = {tuple(row)[:3]: row.points for row in conn.execute(select(STANDINGS.table))}
        movements = conn.execute(select(func.count()).select_from(STATEMENTS.table)).scalar_one()
    expected = {
        key: (m.earned, m.adjusted, m.reversed, m.spent, m.debt, m.shortfall)
        for key, m in stream.members.items()
        if m.lots or m.adjusted
    }
    assert totals == expected
    assert lots == {(*key, lot): held.left for key, m in stream.members.items() for lot, held in m.lots.items()}
    assert scores == stream.standings
    assert movements == stream.movements


@settings(max_examples=30)
@given(streams(), st.integers(1, 7))
def test_any_page_size_gives_the_same_digests(stream: Stream, page: int) -> None:
    with built(stream, page) as small, built(stream, 1000) as large:
        assert digests(small) == digests(large)


def test_sqlite_and_postgresql_give_the_same_digests(
    sqlite_engine: Callable[[], Engine], postgresql_engine: Callable[[], Engine]
) -> None:
    stream = long_stream(400)
    one, other = sqlite_engine(), postgresql_engine()
    fill(one, stream, 37)
    fill(other, stream, 150)
    assert digests(one) == digests(other)
    assert [p.name for p in digests(one).projections][:3] == ["balances", "statements", "standings"]
    assert all(p.rows for p in digests(one).projections)


@settings(max_examples=40)
@given(streams(), st.integers(-5, 60))
def test_a_balance_is_the_fold_of_the_members_statement(stream: Stream, hours: int) -> None:
    at = START + hours * 3_600_000
    with built(stream, 10) as engine, snapshot(engine) as conn:
        for (brand, member), model in stream.members.items():
            of_member = (STATEMENTS.table.c.brand == brand, STATEMENTS.table.c.member == member)
            rows = conn.execute(select(STATEMENTS.table).where(*of_member)).mappings().all()
            found = holding_of([dict(row) for row in rows])
            assert found.totals == Totals(
                model.earned, model.adjusted, model.reversed, model.spent, model.debt, model.shortfall
            )
            judged = judge(found, at)
            assert judged == model.dated(at)
            assert sum(judged[:3]) == model.earned + model.adjusted - model.reversed - model.spent


@settings(max_examples=30)
@given(streams(), st.integers(1, 9))
def test_settled_standings_are_kept_as_they_were_whatever_comes_after(stream: Stream, page: int) -> None:
    with built(stream, page) as engine, engine.connect() as conn:
        for (brand, campaign), places in stream.settled.items():
            found = settled_places(conn, brand, campaign, 0, 10)
            assert [(p.member_id, p.rank, p.score, p.prize) for p in found] == [
                (place.member, place.rank, place.score, place.prize or None) for place in places
            ]
            assert settled_places(conn, brand, campaign, 1, 1) == found[1:2]
        assert unsettled(conn) == []


def test_points_on_hold_are_pending_even_when_they_expire_as_the_hold_ends() -> None:
    for debt in (0, 4):
        holding = Holding(Totals(debt=debt), [LotLeft(10, active_at=100, expires_at=50)])
        assert judge(holding, 60) == (-debt, 10, 0, debt)
        assert judge(holding, 100) == (-debt, 0, 10, debt)


def test_debt_lowers_what_is_active_below_zero() -> None:
    assert judge(Holding(Totals(debt=30), [LotLeft(10, 8, None)]), 5) == (-30, 10, 0, 30)
    assert judge(Holding(Totals(debt=30), [LotLeft(10, 8, None)]), 8) == (-20, 0, 0, 20)


def test_commands_and_unpaid_rewards_keep_their_reasons(sqlite_engine: Callable[[], Engine]) -> None:
    stream = Stream()
    stream.reward("acme", "ann", 20, "spring", START, 1, None)
    stream.redeem("acme", "ann", 5, START + 10**9)
    stream.redeem("acme", "ann", 500, START + 10**9)
    engine = sqlite_engine()
    fill(engine, stream, 10)
    with snapshot(engine) as conn:
        outcomes = {(row.points, row.reason) for row in conn.execute(select(OUTCOMES.table))}
        reasons = {(row.rule, row.reason) for row in conn.execute(select(REFUSALS.table))}
    assert outcomes == {(5, ""), (500, "insufficient_points")}
    assert reasons == {("spend", "cap_day"), ("", "self_referral")}


@pytest.mark.parametrize("column", ["seq", "recorded_at", "source_topic", "source_partition", "source_offset"])
def test_what_differs_between_runs_of_one_log_is_in_no_digest(column: str, sqlite_engine: Callable[[], Engine]) -> None:
    engine = sqlite_engine()
    fill(engine, long_stream(30), 10)
    before = digests(engine)
    with engine.begin() as conn:
        conn.execute(STATEMENTS.table.update().values({column: "7" if column == "source_topic" else 7}))
    assert digests(engine) == before
