"""What is left of every lot of points: the part of a balance that time turns from pending to active to expired."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sqlalchemy import Index
from sqlalchemy import text as text_clause

from aggregates.events import PointsAdjusted
from projections.movements import movements
from projections.projection import Changes, Coalesced, Projection, ReadTable, number, read_table, text

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
)


def fold(events: Sequence[Recorded]) -> Changes:
    """A row for every lot, less what was taken. A take finds its lot's row there: the points came in before it."""
    rows = Coalesced(LOTS)
    for movement in movements(events):
        owner = {"brand": movement.brand, "member": movement.member}
        lot = movement.lot
        if lot is not None:
            held = {"granted": lot.points, "points_left": lot.points}
            dates = {"active_at": lot.active_at, "expires_at": lot.expires_at}
            campaign = "" if isinstance(lot, PointsAdjusted) else lot.campaign
            rows.add({**owner, "lot": lot.entry_id, "campaign": campaign, **held, **dates})
        for take in movement.takes:
            held = {"granted": 0, "points_left": -take.points}
            rows.add({**owner, "lot": take.lot, "campaign": "", **held, "active_at": 0, "expires_at": None})
    return rows.changes()


PROJECTION = Projection("lots", 3, (LOTS,), fold)
