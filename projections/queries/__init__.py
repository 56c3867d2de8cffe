"""Typed reads of definitions, of one member's points and of commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Table, and_, bindparam, or_, select

from aggregates.definitions import Brand, Campaign
from aggregates.ledger_store import LAST_NOTIFICATION
from aggregates.parsing import from_content
from aggregates.programs import brand_in_force, campaign_in_force
from projections import registry
from projections.answers import Balance, Entry, EntrySource, Statement, iso
from projections.balances import NOTHING_HELD, Holding, judge
from projections.programs import BRAND, CAMPAIGN, PROGRAMS
from projections.queries.holdings import members_hold
from projections.statements import STATEMENTS, holding_of
from projections.upkeep.runner import positions

MAX_DIGITS: Final = 18
"""Of a number in a cursor: it fits into 64 bits."""
_S, _P = STATEMENTS.table, PROGRAMS.table
_OF_SUBJECT: Final = tuple(_P.c[name] == bindparam(name) for name in ("brand", "subject", "subject_id"))
_DEFINED: Final = select(_P.c.version).where(*_OF_SUBJECT).limit(1)
_VERSIONS: Final = select(_P.c.content).where(*_OF_SUBJECT).order_by(_P.c.version)


class NotFound(Exception):
    """Something named in a read does not exist; `code` says what."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def ledger_position(conn: Connection) -> int:
    """The greatest notification id of the ledger itself."""
    found = conn.exec_driver_sql(LAST_NOTIFICATION[conn.dialect.name]).scalar()
    return int(found or 0)


def read_position(conn: Connection) -> int:
    """The ledger position that every read model of the ledger includes."""
    return min(positions(conn, registry.LEDGER).values())


# Definitions


def brand_exists(conn: Connection, brand: str) -> bool:
    """Whether any version of the brand is defined."""
    return _is_defined(conn, brand, BRAND, brand)


def campaign_exists(conn: Connection, brand: str, campaign: str) -> bool:
    """Whether any version of the campaign is defined."""
    return _is_defined(conn, brand, CAMPAIGN, campaign)


def _is_defined(conn: Connection, brand: str, subject: str, subject_id: str) -> bool:
    return conn.execute(_DEFINED, {"brand": brand, "subject": subject, "subject_id": subject_id}).first() is not None


def brand_definition(conn: Connection, brand: str, at: int) -> Brand:
    """The brand's version in force at `at`. Raises `NotFound`."""
    versions = [v for v in _definitions(conn, brand, BRAND, brand) if isinstance(v, Brand)]
    if not versions:
        raise NotFound("unknown_brand", f"There is no brand `{brand}`.")
    return brand_in_force(versions, at)


def campaign_definition(conn: Connection, brand: str, campaign: str, at: int) -> Campaign:
    """The version of the campaign that is `shown` at an instant. Raises `NotFound`."""
    versions = [v for v in _definitions(conn, brand, CAMPAIGN, campaign) if isinstance(v, Campaign)]
    if not versions:
        if not brand_exists(conn, brand):
            raise NotFound("unknown_brand", f"There is no brand `{brand}`.")
        raise NotFound("unknown_campaign", f"Brand `{brand}` has no campaign `{campaign}`.")
    return shown(versions, at)


def shown(versions: Sequence[Campaign], at: int) -> Campaign:
    """The version in force at `at`, or the first one before that, a draft only where there is nothing else."""
    return campaign_in_force(versions, at) or min(versions, key=lambda v: (v.draft, v.effective_at))


def definition_contents(conn: Connection, brand: str) -> list[str]:
    """Every version of a brand and its campaigns, as canonical JSON, in the order they were accepted."""
    table = PROGRAMS.table
    query = select(table.c.content).where(table.c.brand == brand).order_by(table.c.seq)
    return list(conn.execute(query).scalars())


def _definitions(conn: Connection, brand: str, subject: str, subject_id: str) -> list[Brand | Campaign]:
    found = conn.execute(_VERSIONS, {"brand": brand, "subject": subject, "subject_id": subject_id})
    return [from_content(content) for content in found.scalars()]


# Balance and statement


def balance(
    conn: Connection,
    brand: str,
    member: str,
    now_ms: int,
    as_of: int | None = None,
    known_at: int | None = None,
) -> Balance:
    """A member's points at `as_of` (default: now), by what was recorded until `known_at`; zeros for one never seen.

    Raises `NotFound` for an unknown brand.
    """
    brand_definition(conn, brand, now_ms)
    if as_of is None and known_at is None:
        holding = members_hold(conn, brand, [member]).get(member, NOTHING_HELD)
    else:
        rows = conn.execute(select(_S).where(*_of(brand, member), *until(_S, as_of, known_at)))
        holding = holding_of([dict(row._mapping) for row in rows])
    return judged(brand, member, holding, now_ms if as_of is None else as_of, read_position(conn))


def judged(brand: str, member: str, holding: Holding, at: int, position: int) -> Balance:
    """What a member has at an instant (epoch ms)."""
    points, totals = judge(holding, at), holding.totals
    return Balance(
        brand=brand,
        member_id=member,
        active=points.active,
        pending=points.pending,
        spent=totals.spent,
        expired=points.expired,
        reversed=totals.reversed,
        earned=totals.earned,
        adjusted=totals.adjusted,
        debt=points.debt,
        shortfall=totals.shortfall,
        position=position,
    )


def _of(brand: str, member: str) -> tuple[ColumnElement[bool], ...]:
    return (_S.c.brand == brand, _S.c.member == member)


def until(of: Table, as_of: int | None, known_at: int | None) -> list[ColumnElement[bool]]:
    """Conditions for the rows of what had occurred by `as_of` and was recorded by `known_at` (epoch ms)."""
    limits: list[ColumnElement[bool]] = []
    if as_of is not None:
        limits.append(of.c.occurred_at <= as_of)
    if known_at is not None:
        limits.append(of.c.recorded_at <= known_at)
    return limits


def statement(
    conn: Connection,
    brand: str,
    member: str,
    cursor: str | None = None,
    limit: int = 100,
    as_of: int | None = None,
    known_at: int | None = None,
) -> Statement:
    """A page of a member's movements, in the order they were recorded. Raises `NotFound`, also for a bad cursor."""
    brand_definition(conn, brand, as_of or 0)
    where = [*_of(brand, member), *until(_S, as_of, known_at)]
    if cursor is not None:
        seq, _, entry = cursor.partition("-")
        if not seq.isdecimal() or len(seq) > MAX_DIGITS or not entry:
            raise NotFound("invalid_cursor", f"cursor: `{cursor}` is not one that an answer gave.")
        where.append(or_(_S.c.seq > int(seq), and_(_S.c.seq == int(seq), _S.c.entry_id > entry)))
    query = select(_S).where(*where).order_by(_S.c.seq, _S.c.entry_id).limit(limit + 1)
    rows = conn.execute(query).all()
    page = rows[:limit]
    last = page[-1] if len(rows) > limit else None
    return Statement(
        brand=brand,
        member_id=member,
        entries=tuple(entry_of(row) for row in page),
        next_cursor=None if last is None else f"{last.seq}-{last.entry_id}",
        position=read_position(conn),
    )


def source_of(row: Any) -> EntrySource:
    """The record behind a row that has the columns of one as attributes."""
    return EntrySource(
        topic=row.source_topic, partition=row.source_partition, offset=row.source_offset, event_id=row.event_id
    )


def entry_of(row: Any) -> Entry:
    """A statement row as an entry; `row` has the columns as attributes."""
    return Entry(
        entry_id=row.entry_id,
        kind=row.kind,
        points=row.points,
        occurred_at=iso(row.occurred_at),
        recorded_at=iso(row.recorded_at),
        campaign=row.campaign or None,
        campaign_version=row.campaign_version or None,
        rule=row.rule or None,
        source=source_of(row),
        active_at=None if row.active_at is None else iso(row.active_at),
        expires_at=None if row.expires_at is None else iso(row.expires_at),
    )
