"""What follows from the panes and makes long windows cheap: roll-ups by hour and day, and when members were active.

A roll-up gets what a pane row has now less what it had before: whole numbers, so the order in which panes come does
not matter, and a value that changes no row changes no roll-up.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from operator import add, itemgetter, sub
from typing import Any, Final

from sqlalchemy import Connection, Insert, Table, case, func, or_, select, true

from aggregates.database import insert_into
from aggregates.engagement import HOUR
from projections.engagement.tables import ACTIVE, COLUMNS, COUNTER_COLUMNS, COUNTERS_AT, ROLLUPS, Row
from projections.rates import DAY_MS

_LENGTH, _START, _APART = map(COLUMNS.index, ("length_ms", "starts_at", "apart"))
_GROUP: Final = itemgetter(*map(COLUMNS.index, ("scope", "brand", "campaign", "tier", "platform")))
_NOTHING: Final = (0,) * len(COUNTER_COLUMNS)


def rolled_up(before: Mapping[Row, Row], came: Mapping[Row, Row]) -> list[Row]:
    """What rows of panes, by key, add to the roll-ups of those of 5 minutes when they come in the place of `before`.

    Also zeros: whether something was counted before it was taken back must not show in which roll-ups there are.
    """
    sums: dict[Row, list[int]] = {}
    for key, row in came.items():
        if row[_LENGTH] >= HOUR:
            continue
        was, start = before.get(key), row[_START]
        more = _NOTHING if row[_APART] else row[COUNTERS_AT:]
        if was is not None and not was[_APART]:
            more = tuple(map(sub, more, was[COUNTERS_AT:]))
        for length in (HOUR, DAY_MS):
            group = (_GROUP(row), length, start - start % length)
            known = sums.get(group)
            sums[group] = [*more] if known is None else [*map(add, known, more)]
    return [
        (scope, brand, campaign, length, start, tier, platform, *counters)
        for ((scope, brand, campaign, tier, platform), length, start), counters in sums.items()
    ]


def roll_up(conn: Connection, staged: Table) -> None:
    """Add the rows of `staged` to the roll-ups."""
    conn.execute(_adding(conn.dialect.name, staged))


@cache
def _adding(dialect: str, staged: Table) -> Insert:
    columns = [column.name for column in ROLLUPS.columns]
    statement: Any = insert_into(dialect, ROLLUPS).from_select(columns, select(staged).where(true()))
    added: Insert = statement.on_conflict_do_update(
        index_elements=list(ROLLUPS.primary_key.columns),
        set_={name: ROLLUPS.c[name] + statement.excluded[name] for name in COUNTER_COLUMNS},
    )
    return added


def note_active(conn: Connection, staged: Table) -> None:
    """Widen the time in which the members of `staged` are known to have panes."""
    conn.execute(_widening(conn.dialect.name, staged))


@cache
def _widening(dialect: str, staged: Table) -> Insert:
    keys = [staged.c[name] for name in ("scope", "brand", "campaign", "member", "platform")]
    seen = (
        select(*keys, func.min(staged.c.starts_at), func.max(staged.c.starts_at))
        .where(staged.c.scope.in_(("member", "campaign_member")))
        .group_by(*keys)
    )
    statement: Any = insert_into(dialect, ACTIVE).from_select(list(ACTIVE.columns), seen)
    known, new = ACTIVE.c, statement.excluded
    earlier, later = new.first_at < known.first_at, new.last_at > known.last_at
    widened: Insert = statement.on_conflict_do_update(
        index_elements=list(ACTIVE.primary_key.columns),
        set_={
            "first_at": case((earlier, new.first_at), else_=known.first_at),
            "last_at": case((later, new.last_at), else_=known.last_at),
        },
        where=or_(earlier, later),
    )
    return widened
