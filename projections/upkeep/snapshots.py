"""What the statements add up to at instants of the past, kept, so that a read as of a date begins at the one before it.

A snapshot of a brand at an instant is derived from the statement rows of what had occurred by then, whatever is there
of them. One that a later row belongs into is forgotten in that row's transaction, and taken anew when it is due; so a
read is exact with any snapshots, or none. They are no read models: no digest has them, and no build does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from sqlalchemy import Boolean, Column, Connection, Index, Table, delete, func, select

from projections.projection import METADATA, number, read_table, text
from projections.upkeep.rows import ask

SNAPSHOTS: Final = read_table(
    "snapshots", number("at", key=True), text("brand", key=True), Column("ready", Boolean, nullable=False)
)
"""One that is not ready is being taken: it is there so that a row which comes meanwhile forgets it."""

MOVED: Final = read_table(
    "snapshot_movements",
    text("brand", key=True),
    number("at", key=True),
    text("kind", key=True),
    number("points"),
    number("debt"),
    number("shortfall"),
)
"""What the statement rows of each kind add up to."""

LEFT: Final = Table(
    "snapshot_lots",
    METADATA,
    text("brand"),
    number("at"),
    number("active_at"),
    number("expires_at", optional=True),
    number("points"),
    Index("snapshot_lots_of", "brand", "at"),
)
"""What lots held, by their dates; `active_at` is 0 where it had passed."""

UNPLACED: Final = Table(
    "snapshot_unplaced",
    METADATA,
    text("brand"),
    number("at"),
    text("member"),
    text("lot"),
    number("points"),
    Index("snapshot_unplaced_of", "brand", "at"),
)
"""What had been taken from lots that came later: it is in `LEFT` as taken from points that never expire."""

SCORED: Final = read_table(
    "snapshot_scores",
    text("brand", key=True),
    text("campaign", key=True),
    number("at", key=True),
    text("member", key=True),
    number("points"),
)
"""Each member's points from a campaign, as standings count them; of campaigns that moved since the snapshot before."""

TABLES: Final = (SNAPSHOTS, MOVED, LEFT, UNPLACED, SCORED)


def latest(conn: Connection, brand: str, as_of: int) -> int | None:
    """The instant of a brand's last snapshot up to `as_of` (epoch ms); None: there is none."""
    of_brand = (SNAPSHOTS.c.brand == brand, SNAPSHOTS.c.at <= as_of, SNAPSHOTS.c.ready)
    found: int | None = conn.execute(select(func.max(SNAPSHOTS.c.at)).where(*of_brand)).scalar_one()
    return found


def latest_scores(conn: Connection, brand: str, campaign: str, as_of: int) -> int | None:
    """The instant of the last snapshot up to `as_of` that has a campaign's scores."""
    of_campaign = (SCORED.c.brand == brand, SCORED.c.campaign == campaign, SCORED.c.at <= as_of)
    found: int | None = conn.execute(select(func.max(SCORED.c.at)).where(*of_campaign)).scalar_one()
    return found


_REACHED: Final = f"SELECT DISTINCT brand FROM {SNAPSHOTS.name} WHERE at >= ?"


def forget(conn: Connection, occurred: Iterable[tuple[str, int]]) -> Callable[[], None]:
    """Ask for the snapshots that movements belong into, each a brand and when it occurred, in their transaction; the
    answer forgets them."""
    first: dict[str, int] = {}
    for brand, at in occurred:
        first[brand] = min(at, first.get(brand, at))
    found = ask(conn, _REACHED, [min(first.values())]) if first else list

    def forget_them() -> None:
        for (brand,) in found():
            if brand in first:
                drop_from(conn, brand, first[brand])

    return forget_them


def drop_from(conn: Connection, brand: str, at: int) -> None:
    """Forget a brand's snapshots at `at` and later. The first statement waits for one that is just being written."""
    for table in TABLES:
        conn.execute(delete(table).where(table.c.brand == brand, table.c.at >= at))


def forget_all(conn: Connection) -> None:
    """Forget every snapshot: other statements serve from now on."""
    for table in TABLES:
        conn.execute(delete(table))


def of(table: Table, brand: str, at: int) -> list[Any]:
    """Conditions for a snapshot's rows."""
    return [table.c.brand == brand, table.c.at == at]
