"""The points each member has from each campaign: what standings by points rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy import Index

from aggregates.events import Grant, Reversal
from projections.movements import movements
from projections.projection import Changes, Coalesced, Projection, ReadTable, number, read_table, text

if TYPE_CHECKING:
    from aggregates.ledger import Recorded

STANDINGS = ReadTable(
    read_table(
        "standings",
        text("brand", key=True),
        text("campaign", key=True),
        text("member", key=True),
        number("points"),
        Index("standings_by_points", "brand", "campaign", "points", "member"),
    ),
    sums=("points",),
)
_OF_CAMPAIGN = (Grant, Reversal)


def fold(events: Sequence[Recorded]) -> Changes:
    """Grants less reversals. A member whose points were all reversed stays, with zero; one never paid has no row."""
    rows = Coalesced(STANDINGS)
    for movement in movements(events):
        entry = movement.entry
        if isinstance(entry, _OF_CAMPAIGN):
            rows.add(
                {
                    "brand": movement.brand,
                    "campaign": entry.campaign,
                    "member": movement.member,
                    "points": movement.points,
                }
            )
    return rows.changes()


PROJECTION = Projection("standings", 1, (STANDINGS,), fold)
