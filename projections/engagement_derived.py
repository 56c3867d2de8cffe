"""What follows from the panes and makes long windows cheap: roll-ups by hour and day, and when members were active.

A roll-up gets what a pane row has now less what it had before: whole numbers, so the order in which panes come does
not matter, and a value that changes no row changes no roll-up.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, Select, Table, and_, case, func, literal, or_, select, union_all
from sqlalchemy.dialects import postgresql, sqlite

from aggregates.engagement import HOUR
from projections.engagement_tables import ACTIVE, COUNTER_COLUMNS, KEY, ROLLUPS
from projections.rates import DAY_MS

_COLUMNS: Final = tuple(column.name for column in ROLLUPS.columns)


def roll_up(conn: Connection, table: Table, staged: Table) -> None:
    """Add to the roll-ups what `staged` changes of the panes of 5 minutes in `table`, which is still as it was."""
    hours = _hours(table, staged).cte("hours")
    day = hours.c.starts_at - hours.c.starts_at % DAY_MS
    sums = {name: func.sum(hours.c[name]) for name in COUNTER_COLUMNS}
    days = _grouped({**hours.c, "length_ms": literal(DAY_MS), "starts_at": day, **sums})
    insert = sqlite.insert if conn.dialect.name == "sqlite" else postgresql.insert
    statement: Any = insert(ROLLUPS).from_select(_COLUMNS, union_all(select(hours), days))
    conn.execute(
        statement.on_conflict_do_update(
            index_elements=list(ROLLUPS.primary_key.columns),
            set_={name: ROLLUPS.c[name] + statement.excluded[name] for name in COUNTER_COLUMNS},
        )
    )


def _hours(table: Table, staged: Table) -> Select[Any]:
    """By hour, the sums of what rows of `staged` change: those that are new, or newer than what stands."""
    now, before = staged.c, table.c
    joined = staged.outerjoin(table, and_(*(before[key] == now[key] for key in KEY)))
    sums = {
        name: func.sum(now[name] * (1 - now.apart) - func.coalesce(before[name] * (1 - before.apart), 0))
        for name in COUNTER_COLUMNS
    }
    hour = now.starts_at - now.starts_at % HOUR
    changed = _grouped({**now, "length_ms": literal(HOUR), "starts_at": hour, **sums})
    return changed.select_from(joined).where(
        now.length_ms < HOUR, or_(before.stamp.is_(None), now.stamp > before.stamp)
    )


def _grouped(values: dict[str, Any]) -> Select[Any]:
    """A select of the roll-ups' columns with these values, grouped by all but the counters."""
    keys = [values[name] for name in _COLUMNS if name not in COUNTER_COLUMNS and name != "length_ms"]
    return select(*(values[name].label(name) for name in _COLUMNS)).group_by(*keys)


def note_active(conn: Connection, staged: Table) -> None:
    """Widen the time in which the members of `staged` are known to have panes."""
    keys = [staged.c[name] for name in ("scope", "brand", "campaign", "member", "platform")]
    seen = (
        select(*keys, func.min(staged.c.starts_at), func.max(staged.c.starts_at))
        .where(staged.c.scope.in_(("member", "campaign_member")))
        .group_by(*keys)
    )
    insert = sqlite.insert if conn.dialect.name == "sqlite" else postgresql.insert
    statement: Any = insert(ACTIVE).from_select(list(ACTIVE.columns), seen)
    known, new = ACTIVE.c, statement.excluded
    earlier, later = new.first_at < known.first_at, new.last_at > known.last_at
    conn.execute(
        statement.on_conflict_do_update(
            index_elements=list(ACTIVE.primary_key.columns),
            set_={
                "first_at": case((earlier, new.first_at), else_=known.first_at),
                "last_at": case((later, new.last_at), else_=known.last_at),
            },
            where=or_(earlier, later),
        )
    )
