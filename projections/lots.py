"""What is left of every lot of points: the part of a balance that time turns from pending to active to expired."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sqlalchemy import Index
from sqlalchemy import text as text_clause

from aggregates.events import PointsAdjusted
from projections.movements import movements
from projections.projection import Held, Projection, ReadTable, fold_of, number, read_table, text

if TYPE_CHECKING:
    from aggregates.ledger import Recorded

_SOME: Final = text_clause("points_left <> 0")

LOTS = ReadTable(
    read_table(
        "lots",
        text("brand", key=True),
        text("member", key=True),
        text("lot", key=True),
        text("campaign"),
        number("granted"),
        number("points_left"),
        number("active_at"),
        number("expires_at", optional=True),
        Index(
            "lots_by_expiry",
            "brand",
            "expires_at",
            "active_at",
            "points_left",
            sqlite_where=_SOME,
            postgresql_where=_SOME,
        ),
    ),
    sums=("granted", "points_left"),
    new_where="granted",
)


_GRANTED, _LEFT = LOTS.columns.index("granted"), LOTS.columns.index("points_left")


def folds_into(events: Sequence[Recorded], held: Held) -> None:
    """A row for every lot, less what was taken. A take finds its lot's row there: the points came in before it."""
    rows = held.setdefault(LOTS.name, {})
    for movement in movements(events):
        brand, member, lot = movement.brand, movement.member, movement.lot
        if lot is not None:
            key = brand, member, lot.entry_id
            row = rows.get(key)
            if row is None:
                campaign = "" if isinstance(lot, PointsAdjusted) else lot.campaign
                rows[key] = [*key, campaign, lot.points, lot.points, lot.active_at, lot.expires_at]
            else:
                row[_GRANTED] += lot.points
                row[_LEFT] += lot.points
        for take in movement.takes:
            key = brand, member, take.lot
            row = rows.get(key)
            if row is None:
                rows[key] = [*key, "", 0, -take.points, 0, None]
            else:
                row[_LEFT] -= take.points


fold: Final = fold_of(folds_into, LOTS)
PROJECTION = Projection("lots", 4, (LOTS,), fold, folds_into)
