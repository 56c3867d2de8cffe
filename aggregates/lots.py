"""The points of one member as lots, and which lots a spending or a reversal takes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from aggregates.events import Grant, Take

_NEVER: Final = 1 << 62


class Lot:
    """The points of one grant: `left` are not taken yet, `due` are neither reversed nor given up as shortfall."""

    __slots__ = ("due", "grant", "left")

    def __init__(self, grant: Grant) -> None:
        self.grant = grant
        self.left = grant.points
        self.due = grant.points

    def expired_at(self, at: int) -> bool:
        """Whether its points are expired at that time."""
        return self.grant.expires_at is not None and self.grant.expires_at <= at


class Balance(NamedTuple):
    """One member's points at a time: active + pending + expired − debt = granted − reversed − spent."""

    active: int
    """In lots that are past their hold and not expired, before debt."""
    pending: int
    """In lots whose hold still runs."""
    expired: int
    """In lots that expired before anything took them."""
    debt: int
    """What reversals took beyond the lots; it lowers what can be spent."""
    granted: int
    reversed: int
    spent: int
    shortfall: int
    """What reversals gave up; in no other number."""

    @property
    def available(self) -> int:
        """Active points less the debt: what can be spent. Below zero for a member in debt."""
        return self.active - self.debt


def spending_order(lot: Lot) -> tuple[int, int, str]:
    """Earliest expiry first, unlimited last, then first active, then lot id."""
    grant = lot.grant
    return (_NEVER if grant.expires_at is None else grant.expires_at, grant.active_at, grant.entry_id)


class Withdrawal:
    """Plans the takes of one decision at one time, several in a row, without touching the lots."""

    __slots__ = ("_at", "_lots", "_planned")

    def __init__(self, lots: Mapping[str, Lot], at: int) -> None:
        self._lots = lots
        self._at = at
        self._planned: dict[str, int] = {}

    def spend(self, points: int) -> tuple[Take, ...]:
        """Takes from the active lots in spending order."""
        takes, _ = self._drain(self._active(), points)
        return takes

    def reverse(self, lot_id: str, points: int) -> tuple[tuple[Take, ...], int]:
        """Takes from the reversed grant's own lot, then from other pending lots, then from active ones; and the rest.

        Expired lots give nothing.
        """
        own = self._lots[lot_id]
        takes, rest = self._drain([own] if not own.expired_at(self._at) else [], points)
        if rest:
            more, rest = self._drain([*self._pending(), *self._active()], rest)
            takes += more
        return takes, rest

    def _drain(self, lots: list[Lot], points: int) -> tuple[tuple[Take, ...], int]:
        takes: list[Take] = []
        for lot in lots:
            if not points:
                break
            lot_id = lot.grant.entry_id
            planned = self._planned.get(lot_id, 0)
            taken = min(points, lot.left - planned)
            if taken > 0:
                takes.append(Take(lot_id, taken))
                self._planned[lot_id] = planned + taken
                points -= taken
        return tuple(takes), points

    def _pending(self) -> list[Lot]:
        open_lots = (lot for lot in self._lots.values() if lot.left and not lot.expired_at(self._at))
        return sorted((lot for lot in open_lots if lot.grant.active_at > self._at), key=spending_order)

    def _active(self) -> list[Lot]:
        open_lots = (lot for lot in self._lots.values() if lot.left and not lot.expired_at(self._at))
        return sorted((lot for lot in open_lots if lot.grant.active_at <= self._at), key=spending_order)
