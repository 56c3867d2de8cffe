"""Reads of a brand's books: the trial balance at an instant and its tie-out, and what is owed by expiry month."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, func, select, union_all

from aggregates.definitions import Brand
from projections import books
from projections.answers import iso
from projections.answers.books import BookAccount, BrandBooks, ExpiryMonth, Liability, TieOut
from projections.balances import BALANCES, COUNTED, Totals
from projections.queries import brand_definition, read_position
from projections.queries.holdings import EVERYTHING, Cut, Held, held, rows_of
from projections.statements import STATEMENTS
from projections.upkeep import snapshots

_B, _S, _BOOKS = BALANCES.table, STATEMENTS.table, books.BOOKS.table
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def trial_balance(conn: Connection) -> int:
    """The stored accounts of all brands added up: zero."""
    return int(conn.execute(select(func.coalesce(func.sum(_BOOKS.c.points), 0))).scalar_one())


def brand_books(conn: Connection, brand: str, at: int, cut: Cut = EVERYTHING) -> BrandBooks:
    """The trial balance of a brand at `at` (epoch ms), and how it ties out with the balances of its members.

    Of everything, the books and the balances are two read models, folded apart; of a part, both are added up from the
    statements. Raises `NotFound` for an unknown brand.
    """
    brand_definition(conn, brand, at)
    holding, paid = held(conn, brand, at, cut)
    if cut.is_everything:
        stored, totals = _stored(conn, brand), _balances(conn, brand)
    else:
        stored, totals = _added_up(conn, brand, at, cut)
        stored[books.LOTS] = sum(sum(lot[1:]) for lot in holding) + paid
    accounts = _by_date(stored, holding, paid)
    totals = totals._replace(debt=totals.debt - paid)
    return BrandBooks(
        brand=brand,
        at=iso(at),
        accounts=tuple(
            BookAccount(account=name, points=accounts[name], holds=holds) for name, holds in books.CHART.items()
        ),
        total=sum(accounts.values()),
        tie_out=_tie_out(accounts, totals, holding),
        position=read_position(conn) if cut.position is None else cut.position,
    )


def _stored(conn: Connection, brand: str) -> dict[str, int]:
    return {row.account: row.points for row in conn.execute(select(_BOOKS).where(_BOOKS.c.brand == brand))}


def _balances(conn: Connection, brand: str) -> Totals:
    sums = [func.coalesce(func.sum(_B.c[name]), 0) for name in Totals._fields]
    return Totals(*map(int, conn.execute(select(*sums).where(_B.c.brand == brand)).one()))


def moved(conn: Connection, brand: str, at: int, cut: Cut) -> list[tuple[str, int, int, int]]:
    """Kind, points, debt and shortfall of the statement rows that count, added up; a kind may be there twice."""
    since = cut.since(conn, brand, at)
    columns = [func.sum(_S.c[name]).label(name) for name in ("points", "debt", "shortfall")]
    query: Any = select(_S.c.kind, *columns).where(*rows_of(conn, _S, brand, since)).group_by(_S.c.kind)
    if since.after is not None:
        kept = snapshots.MOVED
        before = select(kept.c.kind, kept.c.points, kept.c.debt, kept.c.shortfall)
        query = union_all(query, before.where(*snapshots.of(kept, brand, since.after)))
    return [(kind, int(points), int(debt), int(shortfall)) for kind, points, debt, shortfall in conn.execute(query)]


def _added_up(conn: Connection, brand: str, at: int, cut: Cut) -> tuple[dict[str, int], Totals]:
    """Accounts but the lots, and the totals of all members, of the statement rows that count."""
    accounts: dict[str, int] = {}
    totals = dict.fromkeys(Totals._fields, 0)
    for kind, points, debt, shortfall in moved(conn, brand, at, cut):
        for name, change in (
            (books.OTHER_SIDE[kind], shortfall - points),
            (books.DEBT, -debt),
            (books.SHORTFALL, -shortfall),
        ):
            accounts[name] = accounts.get(name, 0) + change
        total, sign = COUNTED[kind]
        totals[total] += sign * points
        totals["debt"] += debt
        totals["shortfall"] += shortfall
    return accounts, Totals(**totals)


def _by_date(stored: Mapping[str, int], holding: Sequence[Held], paid: int) -> dict[str, int]:
    """Every account of the chart, debt less what lots have `paid` of it by date.

    What the lots hold is split, and what does not fit the dates stays with members.
    """
    accounts = {name: stored.get(name, 0) for name in books.CHART}
    accounts[books.PENDING] = sum(lot.pending for lot in holding)
    accounts[books.EXPIRED] = sum(lot.expired for lot in holding)
    accounts[books.DEBT] += paid
    accounts[books.MEMBER] = stored.get(books.LOTS, 0) - paid - accounts[books.PENDING] - accounts[books.EXPIRED]
    return accounts


def _tie_out(accounts: Mapping[str, int], totals: Totals, holding: Sequence[Held]) -> tuple[TieOut, ...]:
    """Each sum over the members beside what the accounts say of it, and the identity of a balance in sum."""
    active = sum(lot.active for lot in holding) - totals.debt
    pending = sum(lot.pending for lot in holding)
    expired = sum(lot.expired for lot in holding)
    lines = (
        ("earned", -accounts[books.ISSUED] - accounts[books.PRIZES], totals.earned),
        ("adjusted", -accounts[books.ADJUSTED], totals.adjusted),
        ("spent", accounts[books.REDEEMED], totals.spent),
        ("expired", accounts[books.EXPIRED], expired),
        ("reversed", accounts[books.REVERSED] + accounts[books.SHORTFALL], totals.reversed),
        ("shortfall", -accounts[books.SHORTFALL], totals.shortfall),
        ("debt", -accounts[books.DEBT], totals.debt),
        ("pending", accounts[books.PENDING], pending),
        ("active", accounts[books.MEMBER] + accounts[books.DEBT], active),
        (
            "active + pending = earned + adjusted - spent - expired - reversed",
            totals.earned + totals.adjusted - totals.spent - expired - totals.reversed,
            active + pending,
        ),
    )
    return tuple(TieOut(what=what, books=said, members=summed) for what, said, summed in lines)


# Liability


def liability(conn: Connection, brand: str, at: int, cut: Cut = EVERYTHING) -> Liability:
    """The points that a brand owes at `at` (epoch ms), by the month in which they expire in the brand's timezone.

    Raises `NotFound` for an unknown brand.
    """
    definition = brand_definition(conn, brand, at)
    holding, paid = held(conn, brand, at, cut)
    months = _months(holding, definition.timezone)
    outstanding = sum(month.pending + month.active for month in months)
    totals = _balances(conn, brand) if cut.is_everything else _added_up(conn, brand, at, cut)[1]
    debt = totals.debt - paid
    return Liability(
        brand=brand,
        at=iso(at),
        timezone=definition.timezone,
        currency=definition.currency,
        value_per_1000=definition.value_per_1000,
        months=months,
        pending=sum(month.pending for month in months),
        active=sum(month.active for month in months),
        outstanding=outstanding,
        value_minor=worth(definition, outstanding),
        debt=debt,
        debt_value_minor=worth(definition, debt),
        position=read_position(conn),
    )


def _months(holding: Iterable[Held], zone: str) -> tuple[ExpiryMonth, ...]:
    """Soonest first, unlimited last; what is expired is owed no more."""
    sums: dict[str | None, list[int]] = {}
    local = ZoneInfo(zone)
    for lots in holding:
        if lots.pending or lots.active:
            month = None
            if lots.expires_at is not None:
                month = f"{(_EPOCH + timedelta(milliseconds=lots.expires_at)).astimezone(local):%Y-%m}"
            of_month = sums.setdefault(month, [0, 0])
            of_month[0] += lots.pending
            of_month[1] += lots.active
    return tuple(ExpiryMonth(month=month, pending=sums[month][0], active=sums[month][1]) for month in sums)


def worth(brand: Brand, points: int) -> int | None:
    """What points are worth in minor units, the exact quotient rounded half to even; None where nobody said."""
    return None if brand.value_per_1000 is None else round(Fraction(points * brand.value_per_1000, 1000))
