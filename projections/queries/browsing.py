"""What a person needs to find their way: which brands and members there are, how far the data goes, and lots."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, func, select

from projections import rates
from projections.balances import BALANCES, NOTHING_HELD, LotLeft
from projections.engagement.sums import series_totals
from projections.engagement.tables import ENGAGEMENT, MEMBERS
from projections.engagement.tables import POSITIONS as CONSUMED
from projections.lots import LOTS
from projections.programs import BRAND, PROGRAMS
from projections.queries import read_position
from projections.queries.holdings import members_hold
from projections.rates import GROUP_PANE_MS

_B, _L, _P = BALANCES.table, LOTS.table, PROGRAMS.table
_AFTER_EVERY_TEXT = "\U0010ffff"


class Bucket(NamedTuple):
    """What happened on one platform in one hour or day (UTC)."""

    starts_at: int
    """Epoch milliseconds."""
    platform: str
    engagements: int
    posts: int
    reach: int


class Lot(NamedTuple):
    """Points that came in together: what is left of them, and between which instants it can be spent (epoch ms)."""

    lot: str
    """The statement entry that brought them in."""
    campaign: str | None
    granted: int
    left: int
    active_at: int
    expires_at: int | None
    """First instant at which they are expired; None: never."""


def brands(conn: Connection) -> list[str]:
    """Every brand with a definition, by id."""
    query = select(_P.c.brand).where(_P.c.subject == BRAND).group_by(_P.c.brand).order_by(_P.c.brand)
    return list(conn.execute(query).scalars())


def reached(conn: Connection) -> tuple[int, int]:
    """What moves when anything that is shown changes: the read models' position, and the records of panes consumed."""
    consumed = conn.execute(select(func.sum(CONSUMED.c.position))).scalar_one()
    return read_position(conn), int(consumed or 0)


def last_activity(conn: Connection, brand: str) -> int | None:
    """The end of a brand's latest pane of five minutes (epoch ms); None when nothing has happened."""
    pane = ENGAGEMENT.c
    ids = (pane.scope == "brand", pane.brand == brand, pane.campaign == "", pane.tier == "", pane.member == "")
    latest = conn.execute(select(func.max(pane.starts_at)).where(*ids)).scalar_one()
    return None if latest is None else int(latest) + GROUP_PANE_MS


def series(conn: Connection, brand: str, campaign: str | None, length_ms: int, start: int | None) -> list[Bucket]:
    """A brand's, or a campaign's, engagement by hour or day and platform, from `start` on, in order of time."""
    sums = series_totals(conn, brand, campaign, length_ms, start)
    return [
        Bucket(at, platform, rates.engagements(counters), rates.posts(counters), rates.reach(counters))
        for (at, platform), counters in sorted(sums.items())
        if platform
    ]


def find_members(conn: Connection, brand: str, prefix: str, limit: int) -> list[str]:
    """The first members, by id, whose id begins so: those with a profile or any points."""
    found: set[str] = set()
    for table in (MEMBERS, _B):
        within = (table.c.brand == brand, table.c.member >= prefix, table.c.member < prefix + _AFTER_EVERY_TEXT)
        found |= set(
            conn.execute(select(table.c.member).where(*within).order_by(table.c.member).limit(limit)).scalars()
        )
    return sorted(found)[:limit]


def lots(conn: Connection, brand: str, member: str, at: int) -> list[Lot]:
    """A member's lots with anything in them at `at` (epoch ms); the first to expire first, unlimited ones last."""
    query = select(_L).where(_L.c.brand == brand, _L.c.member == member, _L.c.points_left != 0)
    rows = conn.execute(query).all()
    holding = members_hold(conn, brand, [member]).get(member, NOTHING_HELD)
    left = [LotLeft(row.points_left, row.active_at, row.expires_at) for row in rows]
    found = [
        Lot(row.lot, row.campaign or None, row.granted, row.points_left - paid, row.active_at, row.expires_at)
        for row, paid in zip(rows, holding._replace(lots=left).paid_off_by(at), strict=True)
        if row.points_left > paid
    ]
    return sorted(found, key=lambda one: (one.expires_at is None, one.expires_at or 0, one.active_at, one.lot))
