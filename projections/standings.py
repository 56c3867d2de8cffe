"""The points each member has from each campaign: what standings by points rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sqlalchemy import Index

from aggregates.events import Grant, Reversal
from projections.movements import movements
from projections.projection import Held, Projection, ReadTable, fold_of, number, read_table, text

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
_OF_CAMPAIGN: Final = (Grant, Reversal)


def folds_into(events: Sequence[Recorded], held: Held) -> None:
    """Grants less reversals. A member whose points were all reversed stays, with zero; one never paid has no row."""
    rows = held.setdefault(STANDINGS.name, {})
    for movement in movements(events):
        entry = movement.entry
        if isinstance(entry, _OF_CAMPAIGN):
            key = movement.brand, entry.campaign, movement.member
            row = rows.get(key)
            if row is None:
                rows[key] = [*key, movement.points]
            else:
                row[-1] += movement.points


fold: Final = fold_of(folds_into, STANDINGS)
PROJECTION = Projection("standings", 1, (STANDINGS,), fold, folds_into)
