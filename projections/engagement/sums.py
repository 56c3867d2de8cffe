"""Which rows a read covers, and the sums of their counters: in SQL, and exact whatever their size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, FromClause, Select, Table, func, select, union_all
from sqlalchemy.exc import OperationalError

from aggregates.engagement import TIER_SCOPES
from projections.engagement.tables import COUNTER_COLUMNS, ENGAGEMENT, ROLLUPS, TIERS, is_apart
from projections.rates import COUNTERS, GROUP_PANE_MS, Bounds, cover

Counters = dict[str, int]
"""Every counter of `COUNTERS` with its sum."""


class Part(NamedTuple):
    """Rows of one table that a read sums, for each value of `keys` that occurs."""

    table: FromClause
    keys: Sequence[ColumnElement[Any]]
    where: Sequence[ColumnElement[bool]]

    def select(self, sums: Iterable[ColumnElement[Any]]) -> Select[Any]:
        """The sums of this part."""
        return select(*self.keys, *sums).where(*self.where).group_by(*self.keys)


Sums = list[tuple[tuple[Any, ...], Counters]]
"""Values of the keys, and the sums of their rows."""

_HALF: Final = 32
_MASK: Final = (1 << _HALF) - 1


def group_totals(
    conn: Connection, scope: str, brand: str, campaign: str | None, platform: str | None, held: Bounds
) -> dict[str, Counters]:
    """The sums over a window of `brand` or `campaign` (tier ''), or of their tiers, by tier; of what there is.

    Whole days and hours come from the roll-ups, the ragged ends from panes. What the roll-ups leave out, because it
    is too large, is summed beside them.
    """
    table = TIERS if scope in TIER_SCOPES else ENGAGEMENT
    parts, rolled = [], []
    for length, *ends in cover(held):
        within = Bounds(*ends)
        source = table if length == GROUP_PANE_MS else ROLLUPS
        where = panes_of(source, scope, brand, campaign, platform, within)
        if source is ROLLUPS:
            where.append(ROLLUPS.c.length_ms == length)
            rolled.append(within)
        parts.append(Part(source, (source.c.tier,), where))
    if rolled:
        within = Bounds(rolled[0].start, rolled[-1].end)
        few = select(table).where(is_apart(table)).cte("apart").prefix_with("MATERIALIZED")  # so by their own index
        parts.append(Part(few, (few.c.tier,), panes_of(few, scope, brand, campaign, platform, within)))
    found: dict[str, Counters] = {}
    for (tier,), counters in _merged(conn, parts):
        known = found.setdefault(str(tier), dict.fromkeys(COUNTERS, 0))
        for name, value in counters.items():
            known[name] += value
    return found


def panes_of(
    table: FromClause, scope: str, brand: str, campaign: str | None, platform: str | None, held: Bounds
) -> list[ColumnElement[bool]]:
    """Conditions for the rows of a scope that a window holds; they name what is empty too, for one range of the key."""
    conditions = [table.c.scope == scope, table.c.brand == brand, table.c.campaign == (campaign or "")]
    if table is ENGAGEMENT:
        conditions.append(table.c.tier == "")
        if scope in ("brand", "campaign"):
            conditions.append(table.c.member == "")
    if held.start is not None:
        conditions.append(table.c.starts_at >= held.start)
    if held.end is not None:
        conditions.append(table.c.starts_at < held.end)
    if platform is not None:
        conditions.append(table.c.platform == platform)
    return conditions


def member_panes(brand: str, campaign: str | None, platform: str | None, held: Bounds) -> list[ColumnElement[bool]]:
    """Conditions for the panes of members, of the whole brand or for one campaign, that a window holds."""
    scope = "campaign_member" if campaign else "member"
    return panes_of(ENGAGEMENT, scope, brand, campaign, platform, held)


def totals(conn: Connection, table: Table, keys: Sequence[ColumnElement[Any]], *where: ColumnElement[bool]) -> Sums:
    """The sums of all counters over the panes that meet `where`, for each value of `keys` that occurs.

    Without keys it is one row, of zeros when no pane meets it.
    """
    return _merged(conn, [Part(table, keys, where)])


def _merged(conn: Connection, parts: Sequence[Part]) -> Sums:
    """The sums of each part, one after the other, asked in one statement.

    SQLite's sum fails beyond 64 bits; it is then asked in halves, which cannot.
    """
    try:
        return _summed(conn, parts)
    except OperationalError as problem:
        if "integer overflow" not in str(problem.orig):
            raise
        return _summed_in_halves(conn, parts)


def _summed(conn: Connection, parts: Sequence[Part]) -> Sums:
    selects = [part.select(func.sum(part.table.c[name]) for name in COUNTER_COLUMNS) for part in parts]
    width = len(parts[0].keys)
    return [
        (tuple(row[:width]), {name: int(value or 0) for name, value in zip(COUNTERS, row[width:], strict=True)})
        for row in conn.execute(union_all(*selects))
    ]


def _summed_in_halves(conn: Connection, parts: Sequence[Part]) -> Sums:
    """The same, each counter as two sums of 32 bits. It takes 2.5 times as long, so it is for after an overflow."""
    selects = []
    for part in parts:
        columns = [part.table.c[name] for name in COUNTER_COLUMNS]
        high = [func.sum(column.op(">>")(_HALF)) for column in columns]
        selects.append(part.select([*high, *(func.sum(column.op("&")(_MASK)) for column in columns)]))
    width = len(parts[0].keys)
    middle = width + len(COUNTER_COLUMNS)
    return [
        (
            tuple(row[:width]),
            {
                name: (int(above or 0) << _HALF) + int(below or 0)
                for name, above, below in zip(COUNTERS, row[width:middle], row[middle:], strict=True)
            },
        )
        for row in conn.execute(union_all(*selects))
    ]


def series_totals(
    conn: Connection, brand: str, campaign: str | None, length_ms: int, start: int | None
) -> dict[tuple[int, str], Counters]:
    """The sums of a brand, or a campaign of it, from `start` on by hour or day (UTC) and platform; of what there is.

    `length_ms` is that of a roll-up, and `start` a multiple of it. What the roll-ups leave out is summed beside them.
    """
    scope = "campaign" if campaign else "brand"
    held = Bounds(start, None)
    rolled = [*panes_of(ROLLUPS, scope, brand, campaign, None, held), ROLLUPS.c.length_ms == length_ms]
    few = select(ENGAGEMENT).where(is_apart(ENGAGEMENT)).cte("apart").prefix_with("MATERIALIZED")
    begin = few.c.starts_at - few.c.starts_at % length_ms
    parts = [
        Part(ROLLUPS, (ROLLUPS.c.starts_at, ROLLUPS.c.platform), rolled),
        Part(few, (begin, few.c.platform), panes_of(few, scope, brand, campaign, None, held)),
    ]
    found: dict[tuple[int, str], Counters] = {}
    for (at, platform), counters in _merged(conn, parts):
        known = found.setdefault((int(at), str(platform)), dict.fromkeys(COUNTERS, 0))
        for name, value in counters.items():
            known[name] += value
    return found
