"""The double entry: every movement of points as debits and credits of a brand's accounts, which add up to zero.

Points that members hold or that left them count above zero, where they came from and what was given up below. Each leg
is taken from its own field of the event (`lots` from the lots that gave, `reversed` from the points), so that an event
which does not balance shows. Only dates turn what is pending into what members can spend and then into what is
expired, so the rows have one account for all three, `lots`; `books_queries` splits it at an instant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from projections import movements as moved
from projections.movements import Movement, movements
from projections.projection import Held, Projection, ReadTable, fold_of, number, read_table, text

if TYPE_CHECKING:
    from aggregates.ledger import Recorded

ISSUED: Final = "issued"
PRIZES: Final = "prizes"
ADJUSTED: Final = "adjusted"
LOTS: Final = "lots"
PENDING: Final = "pending"
MEMBER: Final = "member"
EXPIRED: Final = "expired"
DEBT: Final = "debt"
REDEEMED: Final = "redeemed"
REVERSED: Final = "reversed"
SHORTFALL: Final = "shortfall"

CHART: Final[Mapping[str, str]] = {
    ISSUED: "Points that earning rules paid; below zero: they came from here",
    PRIZES: "Points that settled campaigns paid as prizes; below zero",
    ADJUSTED: "Points that people took less those they added",
    PENDING: "Points on hold: in lots, not to be spent yet",
    MEMBER: "Points in lots that members can spend",
    EXPIRED: "Points left in lots when they expired",
    DEBT: "Points that members owe, below zero: taken back when their lots could not give them, and not paid off yet",
    REDEEMED: "Points spent, less those of cancelled redemptions",
    REVERSED: "Points that refunds and unlikes were to take back",
    SHORTFALL: "The part of those that was given up; below zero",
}
"""Every account, in the order of a trial balance, and what it holds."""

OTHER_SIDE: Final[Mapping[str, str]] = {
    moved.EARNED: ISSUED,
    moved.PRIZE: PRIZES,
    moved.ADJUSTED: ADJUSTED,
    moved.REVERSED: REVERSED,
    moved.REDEEMED: REDEEMED,
    moved.CANCELLED: REDEEMED,
    moved.SETTLED: DEBT,
}
"""Kind of movement → the account that what members get comes from, or what they lose goes to."""

BOOKS = ReadTable(
    read_table("books", text("brand", key=True), text("account", key=True), number("points")), sums=("points",)
)


def legs(movement: Movement) -> list[tuple[str, int]]:
    """Account and signed points of each side of a movement."""
    came_in = 0 if movement.lot is None else movement.lot.points
    taken = sum([take.points for take in movement.takes]) if movement.takes else 0
    return [
        (LOTS, came_in - taken),
        (DEBT, -movement.debt),
        (OTHER_SIDE[movement.kind], movement.shortfall - movement.points),
        (SHORTFALL, -movement.shortfall),
    ]


def folds_into(events: Sequence[Recorded], held: Held) -> None:
    """What these events add to each account of each brand."""
    rows = held.setdefault(BOOKS.name, {})
    for movement in movements(events):
        for account, points in legs(movement):
            key = movement.brand, account
            row = rows.get(key)
            if row is None:
                rows[key] = [*key, points]
            else:
                row[-1] += points


fold: Final = fold_of(folds_into, BOOKS)
PROJECTION = Projection("books", 4, (BOOKS,), fold, folds_into)
