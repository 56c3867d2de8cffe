"""The double entry: every movement of points as debits and credits of a brand's accounts, which add up to zero.

| account | holds | sign |
|---|---|---|
| `issued` | points that rules and prizes paid | - |
| `adjusted` | points that people added, less those they took | - |
| `members` | what lots hold: what the brand owes its members | + |
| `debt` | what members owe: taken from them when their lots could not give it | - |
| `redeemed` | points spent, less those given back | + |
| `reversed` | points that were to be taken back | + |
| `shortfall` | the part of those that could not be | - |

Each leg is taken from its own field of the event (`members` from the lots taken from, `reversed` from the points), so
that an event which does not balance shows. Expired points stay in `members` here: dates decide, so it is a read that
moves them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from projections import movements as moved
from projections.movements import Movement, movements
from projections.projection import Changes, Coalesced, Projection, ReadTable, number, read_table, text

if TYPE_CHECKING:
    from aggregates.ledger import Recorded

ISSUED: Final = "issued"
ADJUSTED: Final = "adjusted"
MEMBERS: Final = "members"
DEBT: Final = "debt"
REDEEMED: Final = "redeemed"
REVERSED: Final = "reversed"
SHORTFALL: Final = "shortfall"

_OTHER_SIDE: Final = {
    moved.EARNED: ISSUED,
    moved.PRIZE: ISSUED,
    moved.ADJUSTED: ADJUSTED,
    moved.REVERSED: REVERSED,
    moved.REDEEMED: REDEEMED,
    moved.CANCELLED: REDEEMED,
}

BOOKS = ReadTable(
    read_table("books", text("brand", key=True), text("account", key=True), number("points")), sums=("points",)
)


def legs(movement: Movement) -> list[tuple[str, int]]:
    """Account and signed points of each side of a movement."""
    came_in = 0 if movement.lot is None else movement.lot.points
    return [
        (MEMBERS, came_in - sum(take.points for take in movement.takes)),
        (DEBT, -movement.debt),
        (_OTHER_SIDE[movement.kind], movement.shortfall - movement.points),
        (SHORTFALL, -movement.shortfall),
    ]


def fold(events: Sequence[Recorded]) -> Changes:
    """What these events add to each account of each brand."""
    rows = Coalesced(BOOKS)
    for movement in movements(events):
        for account, points in legs(movement):
            rows.add({"brand": movement.brand, "account": account, "points": points})
    return rows.changes()


PROJECTION = Projection("books", 2, (BOOKS,), fold)
