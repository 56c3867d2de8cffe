"""What each member earned, lost and spent in all, and how a balance is judged at an instant from that and the lots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from projections.movements import ADJUSTED, CANCELLED, EARNED, PRIZE, REDEEMED, REVERSED, movements
from projections.projection import Held, Projection, ReadTable, fold_of, number, read_table, text

if TYPE_CHECKING:
    from aggregates.ledger import Recorded

BALANCES = ReadTable(
    read_table(
        "balances",
        text("brand", key=True),
        text("member", key=True),
        number("earned"),
        number("adjusted"),
        number("reversed"),
        number("spent"),
        number("debt"),
        number("shortfall"),
    ),
    sums=("earned", "adjusted", "reversed", "spent", "debt", "shortfall"),
)


class Totals(NamedTuple):
    """All of a member's movements, added up; points."""

    earned: int = 0
    """Under rules, and by prizes."""
    adjusted: int = 0
    """Added by people less what they took."""
    reversed: int = 0
    """Taken back, from lots and as debt; without the shortfall."""
    spent: int = 0
    """Redeemed, less what cancelled redemptions gave back."""
    debt: int = 0
    """What was taken that no lot could give and that nothing has paid off yet: it lowers what is active."""
    shortfall: int = 0
    """What should have been taken back and could not be."""


COUNTED: Final = {
    EARNED: ("earned", 1),
    PRIZE: ("earned", 1),
    ADJUSTED: ("adjusted", 1),
    REVERSED: ("reversed", -1),
    REDEEMED: ("spent", -1),
    CANCELLED: ("spent", -1),
}
"""Kind of movement → the total that it counts in, and the sign it does so with."""


class LotLeft(NamedTuple):
    """What one lot still holds, in points, and from when until before when that can be spent (epoch ms)."""

    points: int
    active_at: int
    expires_at: int | None


class Judged(NamedTuple):
    """A member's points at one instant. active + pending + expired = earned + adjusted - reversed - spent."""

    active: int
    pending: int
    expired: int


def judge(debt: int, lots: Iterable[LotLeft], at: int) -> Judged:
    """What is active, pending and expired at `at` (epoch ms), in points. Debt lowers what is active, below zero too."""
    active, pending, expired = -debt, 0, 0
    for points, active_at, expires_at in lots:
        if active_at > at:
            pending += points
        elif expires_at is not None and expires_at <= at:
            expired += points
        else:
            active += points
    return Judged(active, pending, expired)


_PLACE: Final = {kind: (BALANCES.columns.index(total), sign) for kind, (total, sign) in COUNTED.items()}
_DEBT, _SHORTFALL = BALANCES.columns.index("debt"), BALANCES.columns.index("shortfall")


def folds_into(events: Sequence[Recorded], held: Held) -> None:
    """The totals that these events add to each member's row."""
    rows = held.setdefault(BALANCES.name, {})
    for movement in movements(events):
        key = movement.brand, movement.member
        row = rows.get(key)
        if row is None:
            row = rows[key] = [*key, 0, 0, 0, 0, 0, 0]
        place, sign = _PLACE[movement.kind]
        row[place] += sign * movement.points
        row[_DEBT] += movement.debt
        row[_SHORTFALL] += movement.shortfall


fold: Final = fold_of(folds_into, BALANCES)
PROJECTION = Projection("balances", 2, (BALANCES,), fold, folds_into)
