"""Takes the snapshots of the past that are due, each from the one before it: see `projections/upkeep/snapshots.py`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Connection, Engine, Table, case, func, insert, select, update

from projections.programs import PROGRAMS
from projections.queries.books import moved
from projections.queries.holdings import Cut, campaigns, lots_of, unplaced
from projections.queries.standings import points_scores
from projections.statements import PROJECTION, STATEMENTS
from projections.upkeep import snapshots
from projections.upkeep.runner import POSITIONS

INTERVAL_MS: Final = 10 * 86_400_000
"""Snapshots stand at multiples of this."""
ENOUGH: Final = 50_000
"""So many statement rows of a brand, at least, lie between two of its snapshots: fewer are added up quickly."""

_S = STATEMENTS.table


def step(engine: Engine, reading: Engine, until: int, interval_ms: int = INTERVAL_MS, enough: int = ENOUGH) -> int:
    """Take the next snapshot, up to `until` (epoch ms), of every brand that one is due of. Returns how many there were.

    `reading` is a read-only engine of the same database. One process at a time may do this.
    """
    with reading.connect() as conn:
        brands = conn.execute(select(PROGRAMS.table.c.brand).distinct()).scalars().all()
        found = [(brand, due(conn, brand, until, interval_ms, enough)) for brand in brands]
    return sum(take(engine, reading, brand, at) for brand, at in found if at is not None)


def due(conn: Connection, brand: str, until: int, interval_ms: int = INTERVAL_MS, enough: int = ENOUGH) -> int | None:
    """The next instant up to `until` with `enough` rows between it and the brand's last snapshot."""
    named = campaigns(conn, brand)
    last = snapshots.latest(conn, brand, until)
    if last is None:
        times = (
            conn.execute(select(func.min(_S.c.occurred_at)).where(_S.c.brand == brand, _S.c.campaign == one)).scalar()
            for one in named
        )
        last = min((int(at) for at in times if at is not None), default=until) // interval_ms * interval_ms - 1
    of_brand = (_S.c.brand == brand, _S.c.campaign.in_(named))
    rows = 0
    for at in range((last // interval_ms + 1) * interval_ms, until + 1, interval_ms):
        within = (_S.c.occurred_at > max(last, at - interval_ms), _S.c.occurred_at <= at)
        rows += int(conn.execute(select(func.count()).where(*of_brand, *within)).scalar_one())
        if rows >= enough:
            return at
    return None


def take(engine: Engine, reading: Engine, brand: str, at: int) -> bool:
    """Take a brand's snapshot at an instant (epoch ms). False when a row came meanwhile that belongs into it.

    It is announced first, while no statement row is being written: whoever writes one after that finds it.
    """
    with engine.begin() as conn:
        conn.execute(select(POSITIONS.c.position).where(POSITIONS.c.name == PROJECTION.name).with_for_update())
        snapshots.drop_from(conn, brand, at)
        conn.execute(insert(snapshots.SNAPSHOTS).values(brand=brand, at=at, ready=False))
    with reading.connect() as conn:
        rows = _rows(conn, brand, at)
    with engine.begin() as conn:
        announced = (*snapshots.of(snapshots.SNAPSHOTS, brand, at), ~snapshots.SNAPSHOTS.c.ready)
        if conn.execute(update(snapshots.SNAPSHOTS).where(*announced).values(ready=True)).rowcount != 1:
            return False
        for table, found in rows.items():
            if found:
                conn.execute(insert(table), [{"brand": brand, "at": at, **row} for row in found])
    return True


def _rows(conn: Connection, brand: str, at: int) -> dict[Table, list[dict[str, Any]]]:
    cut = Cut(as_of=at)
    before = snapshots.latest(conn, brand, at)
    return {
        snapshots.MOVED: _summed(moved(conn, brand, at, cut)),
        snapshots.LEFT: _left(conn, brand, at, cut),
        snapshots.UNPLACED: [
            {"member": member, "lot": lot, "points": points} for member, lot, points in unplaced(conn, brand, at, cut)
        ],
        snapshots.SCORED: [
            {"campaign": campaign, "member": member, "points": points}
            for campaign in campaigns(conn, brand)
            if campaign and _moved_since(conn, brand, campaign, before, at)
            for member, points in points_scores(conn, brand, campaign, at)
        ],
    }


def _summed(kinds: Iterable[tuple[str, int, int, int]]) -> list[dict[str, Any]]:
    sums: dict[str, list[int]] = {}
    for kind, *values in kinds:
        known = sums.setdefault(kind, [0, 0, 0])
        for place, value in enumerate(values):
            known[place] += value
    return [
        {"kind": kind, "points": points, "debt": debt, "shortfall": given_up}
        for kind, (points, debt, given_up) in sums.items()
    ]


def _left(conn: Connection, brand: str, at: int, cut: Cut) -> list[dict[str, Any]]:
    held = lots_of(conn, brand, at, cut)
    waits = case((held.c.active_at > at, held.c.active_at), else_=0)
    query = select(held.c.expires_at, waits.label("active_at"), func.sum(held.c.points).label("points"))
    found = conn.execute(query.group_by(held.c.expires_at, waits))
    return [{**row._mapping, "points": int(row.points)} for row in found if row.points]


def _moved_since(conn: Connection, brand: str, campaign: str, before: int | None, at: int) -> bool:
    where = [_S.c.brand == brand, _S.c.campaign == campaign, _S.c.occurred_at <= at]
    if before is not None:
        where.append(_S.c.occurred_at > before)
    return conn.execute(select(_S.c.seq).where(*where).limit(1)).first() is not None
