"""Which panes a read covers, and the sums of their counters: in SQL, and exact whatever their size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Table, func, select
from sqlalchemy.exc import OperationalError

from projections.engagement_tables import ENGAGEMENT, column_of
from projections.rates import COUNTERS, Bounds

Counters = dict[str, int]
"""Every counter of `COUNTERS` with its sum."""

_COLUMNS: Final = tuple(column_of(counter) for counter in COUNTERS)
_HALF: Final = 32


def panes_of(
    table: Table, scope: str, brand: str, campaign: str | None, platform: str | None, held: Bounds
) -> list[ColumnElement[bool]]:
    """Conditions for the panes of a scope that a window holds; for a scope without members also that there is none."""
    conditions = [table.c.scope == scope, table.c.brand == brand, table.c.campaign == (campaign or "")]
    if scope in ("brand", "campaign"):
        conditions += [table.c.tier == "", table.c.member == ""]  # completes the key's prefix: one range scan
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
    return [*panes_of(ENGAGEMENT, scope, brand, campaign, platform, held), ENGAGEMENT.c.tier == ""]


def totals(
    conn: Connection, table: Table, keys: Sequence[ColumnElement[Any]], *where: ColumnElement[bool]
) -> list[tuple[tuple[Any, ...], Counters]]:
    """The sums of all counters over the panes that meet `where`, for each value of `keys` that occurs.

    Without keys it is one row, of zeros when no pane meets it. SQLite's sum fails beyond 64 bits; it is then asked in
    halves, which cannot.
    """
    try:
        return _summed(conn, table, keys, where)
    except OperationalError as problem:
        if "integer overflow" not in str(problem.orig):
            raise
        return _summed_in_halves(conn, table, keys, where)


def _summed(
    conn: Connection, table: Table, keys: Sequence[ColumnElement[Any]], where: Sequence[ColumnElement[bool]]
) -> list[tuple[tuple[Any, ...], Counters]]:
    sums = [func.sum(table.c[column]) for column in _COLUMNS]
    found = conn.execute(select(*keys, *sums).where(*where).group_by(*keys))
    width = len(keys)
    return [
        (tuple(row[:width]), {name: int(value or 0) for name, value in zip(COUNTERS, row[width:], strict=True)})
        for row in found
    ]


def _summed_in_halves(
    conn: Connection, table: Table, keys: Sequence[ColumnElement[Any]], where: Sequence[ColumnElement[bool]]
) -> list[tuple[tuple[Any, ...], Counters]]:
    """The same, each counter as two sums of 32 bits. It takes 2.5 times as long, so it is for after an overflow."""
    mask = (1 << _HALF) - 1
    high = [func.sum(table.c[column].op(">>")(_HALF)) for column in _COLUMNS]
    low = [func.sum(table.c[column].op("&")(mask)) for column in _COLUMNS]
    found = conn.execute(select(*keys, *high, *low).where(*where).group_by(*keys))
    width, middle = len(keys), len(keys) + len(_COLUMNS)
    return [
        (
            tuple(row[:width]),
            {
                name: (int(above or 0) << _HALF) + int(below or 0)
                for name, above, below in zip(COUNTERS, row[width:middle], row[middle:], strict=True)
            },
        )
        for row in found
    ]
