"""Which lots give the points that are spent or taken back, and get those given back; plans only, changes no lot."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from aggregates.account_state import Account, Lot, Paid
from aggregates.events import Reversal, Take
from aggregates.rules import entitlement, entry_id


class Taking:
    """The takes of one decision at one time; a later one does not take what an earlier one took."""

    def __init__(self, account: Account, at: int) -> None:
        self._account = account
        self._at = at
        self._planned: dict[str, int] = {}

    def spend(self, points: int) -> tuple[tuple[Take, ...], int]:
        """Takes from active lots, and what these lacked."""
        takes, missing = self._drain(self._active(), points)
        return tuple(takes), missing

    def take_back(self, lot_id: str, points: int) -> tuple[tuple[Take, ...], int]:
        """Takes from the reversed grant's own lot, then other pending lots, then active ones; and what they lacked.

        The own lot gives even when it has expired: what the member did not spend of a grant pays for its reversal.
        Other expired lots give nothing.
        """
        takes, missing = self._drain([self._account.lots[lot_id]], points)
        if missing:
            more, missing = self._drain([*self._pending(), *self._active()], missing)
            takes += more
        return tuple(takes), missing

    def _drain(self, lots: Iterable[Lot], points: int) -> tuple[list[Take], int]:
        takes = []
        for lot in lots:
            some = min(points, lot.left - self._planned.get(lot.id, 0))
            if some > 0:
                takes.append(Take(lot.id, some))
                self._planned[lot.id] = self._planned.get(lot.id, 0) + some
                points -= some
            if not points:
                break
        return takes, points

    def _pending(self) -> list[Lot]:
        return sorted((lot for lot in self._account.lots.values() if lot.active_at > self._at), key=spending_order)

    def _active(self) -> list[Lot]:
        at = self._at
        active = (lot for lot in self._account.lots.values() if lot.active_at <= at and not lot.is_expired(at))
        return sorted(active, key=spending_order)


def spending_order(lot: Lot) -> tuple[bool, int, int, str]:
    """Earliest expiry first, unlimited last, then first in, then lot id."""
    return (lot.expires_at is None, lot.expires_at or 0, lot.number, lot.id)


def give_back(
    account: Account, takes: Iterable[Take], cause: tuple[str, str]
) -> tuple[tuple[Take, ...], int, tuple[Reversal, ...]]:
    """Undoes the takes of a redemption: what returns to each lot, what pays off debt, and what is reversed after all.

    Had they not been spent, these points would have paid for the reversals since: so they make good what was given up
    as shortfall of their own grant, and then pay off debt, those first that were spent first, expired or not.
    """
    returns, reversals, owed = [], [], account.debt
    for take in takes:
        given_up = account.given_up.get(take.lot)
        taken = 0 if given_up is None else min(take.points, given_up.shortfall)
        settled = min(owed, take.points - taken)
        owed -= settled
        if take.points > settled:
            returns.append(Take(take.lot, take.points - settled))
        if given_up is not None:
            entry = entry_id(*cause, given_up.campaign, given_up.rule, take.lot)
            out = (Take(take.lot, taken),)
            reversals.append(replace(given_up, entry_id=entry, points=taken, takes=out, debt=0, shortfall=-taken))
    return tuple(returns), account.debt - owed, tuple(reversals)


class Reversing:
    """Collects the reversals that one record makes."""

    def __init__(self, account: Account, record_type: str, event_id: str, at: int, allow_debt: bool) -> None:
        self.made: list[Reversal] = []
        self._cause = (record_type, event_id)
        self._allow_debt = allow_debt
        self._taking = Taking(account, at)

    def down_to(self, paid: Paid, n: int) -> None:
        """Take back what a grant has paid above its entitlement for `n`, its quantity or net amount now.

        What a cap or the budget kept back is given up first, so it reverses nothing. What the lots lack becomes debt
        where the brand allows it, else shortfall.
        """
        grant = paid.grant
        due = entitlement(grant.basis, grant.rate, grant.per, grant.multiplier_milli, n)
        points = paid.remaining - due
        if points <= 0:
            return
        takes, missing = self._taking.take_back(grant.entry_id, points)
        debt = missing if self._allow_debt else 0
        self.made.append(
            Reversal(
                entry_id=entry_id(*self._cause, grant.campaign, grant.rule, grant.entry_id),
                reverses=grant.entry_id,
                campaign=grant.campaign,
                version=grant.version,
                rule=grant.rule,
                points=points - missing + debt,
                takes=takes,
                debt=debt,
                shortfall=missing - debt,
            )
        )
