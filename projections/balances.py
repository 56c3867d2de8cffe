"""What each member earned, lost and spent in all, and how a balance is judged at an instant from that and the lots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from aggregates.events import Grant, Reversal
from projections.movements import movements
from projections.projection import Changes, Coalesced, Projection, ReadTable, number, read_table, text

if TYPE_CHECKING:
    from aggregates.ledger import Recorded

BALANCES = ReadTable(
    read_table(
        "balances",
        text("brand", key=True),
        text("member", key=True),
        number("earned"),
        number("reversed"),
        number("spent"),
        number("debt"),
        number("shortfall"),
    ),
    sums=("earned", "reversed", "spent", "debt", "shortfall"),
)


class Totals(NamedTuple):
    """All of a member's movements, added up; points."""

    earned: int = 0
    reversed: int = 0
    """Taken back, from lots and as debt; without the shortfall."""
    spent: int = 0
    debt: int = 0
    """The part of `reversed` that no lot could give: it lowers what is active."""
    shortfall: int = 0
    """What should have been taken back and could not be."""


class LotLeft(NamedTuple):
    """What one lot still holds, in points, and from when until before when that can be spent (epoch ms)."""

    points: int
    active_at: int
    expires_at: int | None


class Judged(NamedTuple):
    """A member's points at one instant. active + pending + expired = earned - reversed - spent."""

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


def fold(events: Sequence[Recorded]) -> Changes:
    """The totals that these events add to each member's row."""
    rows = Coalesced(BALANCES)
    for movement in movements(events):
        entry = movement.entry
        points = abs(movement.points)
        back = entry if isinstance(entry, Reversal) else None
        earned = isinstance(entry, Grant)
        rows.add(
            {
                "brand": movement.brand,
                "member": movement.member,
                "earned": points if earned else 0,
                "reversed": points if back else 0,
                "spent": 0 if earned or back else points,
                "debt": back.debt if back else 0,
                "shortfall": back.shortfall if back else 0,
            }
        )
    return rows.changes()


PROJECTION = Projection("balances", 1, (BALANCES,), fold)
