"""Reads that say why: what led to each movement of a member's points, and what paid nothing."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, or_, select

from aggregates.refusals import Refusal
from projections.answers import Explained, Explanation, Unpaid, iso
from projections.queries import NotFound, brand_definition, entry_of, read_position, source_of, until
from projections.refusals import REFUSALS
from projections.statements import STATEMENTS

_R, _S = REFUSALS.table, STATEMENTS.table


def explain(
    conn: Connection,
    brand: str,
    member: str,
    entry_id: str | None = None,
    as_of: int | None = None,
    known_at: int | None = None,
) -> Explanation:
    """Every entry of a member (or one of them and what takes it back) with its cause, and what paid nothing.

    Only what had occurred by `as_of` and was recorded by `known_at` (epoch ms). Raises `NotFound`.
    """
    brand_definition(conn, brand, 0)
    where: list[ColumnElement[bool]] = [_S.c.brand == brand, _S.c.member == member, *until(_S, as_of, known_at)]
    if entry_id is not None:
        where.append(or_(_S.c.entry_id == entry_id, _S.c.reverses == entry_id))
    rows = conn.execute(select(_S).where(*where).order_by(_S.c.seq, _S.c.entry_id)).all()
    if entry_id is not None and all(row.entry_id != entry_id for row in rows):
        raise NotFound("unknown_entry", f"`{brand}/{member}` has no statement entry `{entry_id}`{by(as_of, known_at)}.")
    unpaid = () if entry_id is not None else _unpaid(conn, brand, member, as_of, known_at)
    return Explanation(
        brand=brand,
        member_id=member,
        entries=tuple(map(explained, rows)),
        unpaid=unpaid,
        position=read_position(conn),
    )


def by(as_of: int | None, known_at: int | None) -> str:
    """The times of a read in words, to end a sentence with; empty for everything."""
    occurred = "" if as_of is None else f" that had occurred by {iso(as_of)}"
    recorded = "" if known_at is None else f" that was recorded by {iso(known_at)}"
    return " and".join(part for part in (occurred, recorded) if part)


def explained(row: Any) -> Explained:
    """A statement row with everything that led to it; `row` has the columns as attributes."""
    happened = msgspec.json.decode(row.detail)
    return Explained(
        entry=entry_of(row),
        tier_followers=happened.pop("tier_followers", None),
        happened=happened,
        tier=row.tier,
        entitled=row.entitled,
        limited_by=row.limited_by or None,
        reverses=row.reverses or None,
        debt=row.debt,
        shortfall=row.shortfall,
        takes=msgspec.json.decode(row.takes),
    )


def _unpaid(conn: Connection, brand: str, member: str, as_of: int | None, known_at: int | None) -> tuple[Unpaid, ...]:
    where = (_R.c.brand == brand, _R.c.member == member, *until(_R, as_of, known_at))
    return tuple(map(unpaid, conn.execute(select(_R).where(*where).order_by(_R.c.seq, _R.c.campaign, _R.c.rule))))


def unpaid(row: Any) -> Unpaid:
    """A row of a reward that was not paid, with the sentence a person reads; `row` has the columns as attributes."""
    name = row.reason.upper()
    return Unpaid(
        event_id=row.event_id,
        record_type=row.record_type,
        occurred_at=iso(row.occurred_at),
        campaign=row.campaign or None,
        campaign_version=row.campaign_version or None,
        rule=row.rule or None,
        tier=row.tier,
        reason=row.reason,
        sentence=Refusal[name].sentence if name in Refusal.__members__ else row.reason,
        source=source_of(row),
    )
