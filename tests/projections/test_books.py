"""The books: zero at every position and instant, tied out with the members' balances, whatever the database."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_stream import BRANDS, HOUR, START, Stream, long_stream, streams
from sqlalchemy import Connection, Engine

from aggregates.database import open_database
from aggregates.definitions import content_of
from aggregates.events import BrandDefined
from aggregates.parsing import parse
from projections import books, queries
from projections.answers.books import BrandBooks, Liability
from projections.balances import Totals
from projections.lots import LOTS
from projections.queries.books import brand_books, liability, trial_balance
from projections.queries.holdings import Cut, held
from projections.registry import LEDGER
from projections.upkeep.digest import snapshot
from projections.upkeep.runner import Runner, prepare

INSTANTS = st.integers(-2, 60).map(lambda hours: START + hours * HOUR)


@contextmanager
def built(stream: Stream) -> Iterator[Connection]:
    with tempfile.TemporaryDirectory() as directory:
        engine = open_database(f"sqlite:///{Path(directory) / 'books.db'}")
        fill(engine, stream)
        with snapshot(engine) as conn:
            yield conn
        engine.dispose()


def fill(engine: Engine, stream: Stream) -> None:
    prepare(engine, LEDGER)
    Runner(engine, stream.source, LEDGER).catch_up()


def accounts(found: BrandBooks) -> dict[str, int]:
    return {account.account: account.points for account in found.accounts}


@settings(max_examples=15)
@given(streams(), INSTANTS)
def test_the_books_are_zero_and_tie_out_at_every_position_and_instant(stream: Stream, at: int) -> None:
    with built(stream) as conn:
        for position in range(len(stream.events) * 2 + 1):
            for brand in BRANDS:
                found = brand_books(conn, brand, at, Cut(position=position))
                assert found.total == 0
                assert found.balanced, found.tie_out


@settings(max_examples=10)
@given(streams(), INSTANTS)
def test_what_is_kept_and_what_is_added_up_say_the_same_at_every_position(stream: Stream, at: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        engine = open_database(f"sqlite:///{Path(directory) / 'books.db'}")
        prepare(engine, LEDGER)
        runner = Runner(engine, stream.source, LEDGER, page=1)
        while runner.step():
            if runner.position <= 3:  # the definitions
                continue
            with snapshot(engine) as conn:
                assert trial_balance(conn) == 0
                for brand in BRANDS:
                    kept = brand_books(conn, brand, at)
                    assert kept.balanced, kept.tie_out
                    assert kept == brand_books(conn, brand, at, Cut(position=runner.position))
                    assert held(conn, brand, at) == held(conn, brand, at, Cut(position=runner.position))
        engine.dispose()


@settings(max_examples=30)
@given(streams(), st.none() | INSTANTS, st.none() | INSTANTS)
def test_the_books_are_the_sum_of_the_members_balances(stream: Stream, as_of: int | None, known_at: int | None) -> None:
    """Both by effective and by recorded time: what a member's balance says then, all of them add up to."""
    now = START + 20 * HOUR
    with built(stream) as conn:
        for brand in BRANDS:
            found = brand_books(conn, brand, now if as_of is None else as_of, Cut(as_of, known_at))
            members = [
                queries.balance(conn, brand, member, now, as_of, known_at)
                for of, member in stream.members
                if of == brand
            ]
            said = {line.what: line.books for line in found.tie_out}
            for name in (*Totals._fields, "expired", "pending", "active"):
                assert said[name] == sum(getattr(member, name) for member in members), name
            assert found.balanced


@settings(max_examples=30)
@given(streams(), INSTANTS)
def test_the_accounts_hold_what_plain_dictionaries_say(stream: Stream, at: int) -> None:
    with built(stream) as conn:
        for brand in BRANDS:
            of_brand = [member for (name, _), member in stream.members.items() if name == brand]
            dated = [member.dated(at) for member in of_brand]
            found = accounts(brand_books(conn, brand, at))
            assert found[books.MEMBER] == sum(active + debt for active, _, _, debt in dated)
            assert found[books.PENDING] == sum(pending for _, pending, _, _ in dated)
            assert found[books.EXPIRED] == sum(expired for _, _, expired, _ in dated)
            assert found[books.REDEEMED] == sum(member.spent for member in of_brand)
            assert found[books.DEBT] == -sum(debt for *_, debt in dated)
            assert found[books.ADJUSTED] == -sum(member.adjusted for member in of_brand)
            assert found[books.ISSUED] + found[books.PRIZES] == -sum(member.earned for member in of_brand)


def test_postgresql_and_sqlite_keep_the_same_books(
    sqlite_engine: Callable[[], Engine], postgresql_engine: Callable[[], Engine]
) -> None:
    stream = long_stream(160)
    answers = []
    for engine in (sqlite_engine(), postgresql_engine()):
        fill(engine, stream)
        with snapshot(engine) as conn:
            answers.append([read(conn, brand, *cut) for brand in BRANDS for cut in cuts(stream)])
    assert answers[0] == answers[1]
    assert all(found.balanced and any(account.points for account in found.accounts) for found, _ in answers[0])


def cuts(stream: Stream) -> Iterator[tuple[int, Cut]]:
    last = stream.events[-1].id
    for hours in (30, 90, 200):
        at = START + hours * HOUR
        yield from ((at, Cut()), (at, Cut(as_of=at)), (at, Cut(known_at=at)), (at, Cut(at, at + 9 * HOUR, last - 7)))


def read(conn: Connection, brand: str, at: int, cut: Cut) -> tuple[BrandBooks, Liability]:
    return brand_books(conn, brand, at, cut), liability(conn, brand, at, cut)


def test_points_that_went_missing_from_a_lot_show_in_the_books(sqlite_engine: Callable[[], Engine]) -> None:
    engine, stream = sqlite_engine(), Stream()
    stream.define()
    stream.reward("acme", "ann", 30, "spring", START, 0, None)
    fill(engine, stream)
    with engine.begin() as conn:
        conn.execute(LOTS.table.update().values(points_left=20))
    with snapshot(engine) as conn:
        found = brand_books(conn, "acme", START)
    assert (found.total, found.balanced) == (0, False)
    broken = {line.what: (line.books, line.members) for line in found.tie_out if not line.ties}
    assert broken["active"] == (30, 20)


# Liability


def valued(stream: Stream, value: int | None, zone: str = "UTC") -> None:
    points = {} if value is None else {"value_per_1000": value}
    document = {"brand": "acme", "timezone": zone, "currency": "EUR", "points": points}
    stream.put("brand:acme", BrandDefined("acme", 1, 0, content_of(parse(document, "acme")), START))


@settings(max_examples=30)
@given(streams(), INSTANTS)
def test_liability_is_what_the_lots_of_plain_dictionaries_hold_by_month(stream: Stream, at: int) -> None:
    with built(stream) as conn:
        for brand in BRANDS:
            expected: dict[str | None, list[int]] = {}
            debt = 0
            for (name, _), member in stream.members.items():
                left, owed = member.at(at)
                debt += owed if name == brand else 0
                for entry, lot in member.lots.items() if name == brand else ():
                    gone = lot.active_at <= at and lot.expires_at is not None and lot.expires_at <= at
                    if left[entry] and not gone:
                        month = lot.expires_at and f"{datetime.fromtimestamp(lot.expires_at / 1000, UTC):%Y-%m}"
                        expected.setdefault(month, [0, 0])[lot.active_at <= at] += left[entry]
            found = liability(conn, brand, at)
            assert {row.month: [row.pending, row.active] for row in found.months} == expected
            assert (found.outstanding, found.debt) == (sum(map(sum, expected.values())), debt)
            months = [row.month for row in found.months]
            assert months == sorted(months, key=lambda month: (month is None, month))


@pytest.mark.parametrize(
    ("points", "per_1000", "worth"),
    [(1_000, 500, 500), (1, 500, 0), (3, 500, 2), (5, 500, 2), (7, 500, 4), (999, 1, 1), (10, 0, 0), (10, None, None)],
)
def test_the_worth_of_all_points_is_rounded_once_half_to_even(
    points: int, per_1000: int | None, worth: int | None, sqlite_engine: Callable[[], Engine]
) -> None:
    engine, stream = sqlite_engine(), Stream()
    valued(stream, per_1000)
    for n in range(points if points < 10 else 1):  # as many lots: each by itself would round down
        stream.reward("acme", f"m{n}", 1 if points < 10 else points, "spring", START, 0, None)
    fill(engine, stream)
    with snapshot(engine) as conn:
        found = liability(conn, "acme", START)
    assert (found.outstanding, found.value_minor, found.value_per_1000) == (points, worth, per_1000)
    assert found.debt_value_minor == (None if per_1000 is None else 0)


def test_a_month_is_that_of_the_brands_timezone_and_debt_stands_apart(sqlite_engine: Callable[[], Engine]) -> None:
    engine, stream = sqlite_engine(), Stream()
    valued(stream, 500, "America/New_York")
    hours_to_april = (31 * 24) + 2  # 2026-04-01T02:00Z is still March in New York
    stream.reward("acme", "ann", 40, "spring", START, 0, hours_to_april)
    stream.reward("acme", "ann", 60, "spring", START, 0, None)
    stream.reward("acme", "bob", 30, "spring", START, 0, None)
    stream.redeem("acme", "bob", 30, START)
    stream.take_back(2, 30, START, allow_debt=True)
    fill(engine, stream)
    with snapshot(engine) as conn:
        found = liability(conn, "acme", START)
        later = liability(conn, "acme", START + hours_to_april * HOUR)
    assert [(row.month, row.active) for row in found.months] == [("2026-03", 40), (None, 60)]
    assert (found.outstanding, found.value_minor, found.debt, found.debt_value_minor) == (100, 50, 30, 15)
    assert [row.month for row in later.months] == [None]
