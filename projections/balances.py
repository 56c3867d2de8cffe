"""What each member earned, lost and spent in all, and how a balance is judged at an instant from that and the lots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from aggregates.account_state import paid_off
from projections.movements import ADJUSTED, CANCELLED, EARNED, PRIZE, REDEEMED, REVERSED, SETTLED, movements
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
    """What was taken that no lot could give and that no entry has paid off yet."""
    shortfall: int = 0
    """What should have been taken back and could not be."""


COUNTED: Final = {
    EARNED: ("earned", 1),
    PRIZE: ("earned", 1),
    ADJUSTED: ("adjusted", 1),
    REVERSED: ("reversed", -1),
    REDEEMED: ("spent", -1),
    CANCELLED: ("spent", -1),
    SETTLED: ("debt", 1),
}
"""Kind of movement → the total that its points count in, and the sign they do so with; what settles debt has none."""


class LotLeft(NamedTuple):
    """What one lot still holds, in points, and from when until before when that can be spent (epoch ms)."""

    points: int
    active_at: int
    expires_at: int | None


class Holding(NamedTuple):
    """What a member has by entries; dates make more of it."""

    totals: Totals
    lots: Sequence[LotLeft]
    owed_since: int = 0
    """The latest time at which debt arose (epoch ms); of no meaning without debt."""

    def paid_off_by(self, at: int) -> list[int]:
        """What each lot has paid of the debt by `at`, though no entry says so yet."""
        return paid_off(self.totals.debt, self.owed_since, self.lots, at)


NOTHING_HELD: Final = Holding(Totals(), ())
"""By a member who never had a movement."""


class Judged(NamedTuple):
    """A member's points at one instant. active + pending + expired = earned + adjusted - reversed - spent."""

    active: int
    """Net of the debt, below zero too."""
    pending: int
    expired: int
    debt: int


def judge(holding: Holding, at: int) -> Judged:
    """What is active, pending, expired and owed at `at` (epoch ms), in points."""
    paid = holding.paid_off_by(at)
    debt = holding.totals.debt - sum(paid)
    active, pending, expired = -debt, 0, 0
    for (points, active_at, expires_at), gone in zip(holding.lots, paid, strict=True):
        if active_at > at:
            pending += points
        elif expires_at is not None and expires_at <= at:
            expired += points - gone
        else:
            active += points - gone
    return Judged(active, pending, expired, debt)


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
PROJECTION = Projection("balances", 3, (BALANCES,), fold, folds_into)
