"""What a member's account remembers of its past; `evolving` says how its events change it."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from aggregates.events import Grant, Reversal, Take


class _Kept(msgspec.Struct, gc=False):
    """What stays in memory by the million; the garbage collector, which has no cycle to find here, passes it over.

    With dataclasses, looking at all of it again and again took a quarter of the ledger's time.
    """


class _Nothing(dict[Any, Any]):
    """An empty mapping that stays empty."""

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError("it is of all accounts that have nothing: make one of the account's own first")

    setdefault = update = __setitem__  # type: ignore[assignment]

    def __reduce__(self) -> str:
        return "_NONE"


_NONE: Final = _Nothing()
_NO_ONE: Final[Any] = frozenset()
"""What most accounts have of some things. What is first put in makes a container of the account's own: empty ones for
all of them were a third of what the collector looks at, and as many bytes as a lot."""


class Lot(_Kept, gc=False):
    """What is left of the points that came in by one grant, prize or adjustment."""

    id: str
    left: int
    active_at: int
    expires_at: int | None
    number: int
    """Order of arrival."""

    def is_expired(self, at: int) -> bool:
        """Whether the points are expired at that instant."""
        return self.expires_at is not None and self.expires_at <= at


class Paid(_Kept, gc=False):
    """A grant and what is left of it after its reversals; a shortfall counts as reversed."""

    grant: Grant
    remaining: int


class Order(_Kept, gc=False):
    """An order, of the account itself or of a friend: its amount, its refunds and what it paid."""

    known: bool = False
    amount: int = 0
    """Minor units, as ordered."""
    refunded: int = 0
    """Minor units of its refunds so far, also of those that came before it."""
    refunds: int = 0
    """How many they were; an amount of 0 is valid, and refunded by any refund."""
    paid: list[Paid] = msgspec.field(default_factory=list)
    campaign_id: str | None = None
    campaigns: tuple[str, ...] = ()
    referrer_id: str | None = None
    """Set when the referrer's reward is due."""
    new_customer: bool = True
    occurred_at: int = 0
    """Of the order, epoch milliseconds."""


class Units(_Kept, gc=False):
    """The units of one interaction that one rule judged, and what they paid (None: refused)."""

    event_id: str
    campaign: str
    rule: str
    quantity: int
    """Units that no unlike has undone yet."""
    paid: Paid | None
    number: int
    """Order of arrival of the interaction: the same for all of its rules."""


class PostKey(msgspec.Struct, frozen=True, gc=False):
    """What an unlike must share with its like."""

    kind: str
    surface: str
    platform: str
    post_id: str | None


def paid_off(debt: int, since: int, lots: Sequence[tuple[int, int, int | None]], at: int) -> list[int]:
    """What each lot has paid by `at` of a debt that no entry says was paid: points that were on hold and became active.

    A lot is what is left of it, when it becomes active and when it expires. They pay in that order of time, if they had
    not expired when the last of the debt arose, `since`. Times are epoch milliseconds.
    """
    paid = [0] * len(lots)
    if debt <= 0 or at < since:
        return paid
    due = [
        (active_at, expires_at is None, expires_at or 0, place)
        for place, (left, active_at, expires_at) in enumerate(lots)
        if left > 0 and active_at <= at and (expires_at is None or expires_at > max(since, active_at))
    ]
    for *_, place in sorted(due):
        paid[place] = min(debt, lots[place][0])
        debt -= paid[place]
    return paid


class Balance(NamedTuple):
    """Points of an account at an instant. active + pending = earned + adjusted − spent − expired − reversed."""

    active: int
    """Net of the debt: what can be spent; can be negative."""
    pending: int
    spent: int
    """Without what cancelled redemptions gave back."""
    expired: int
    reversed: int
    """Without the shortfall."""
    debt: int
    """What is owed, less what has been paid off by points that were on hold; it is in `active` already."""


class Account(_Kept, gc=False):
    """All that decisions need of an account's past."""

    lots: dict[str, Lot] = msgspec.field(default_factory=dict)
    orders: dict[str, Order] = _NONE
    referrals: dict[tuple[str, str], Order] = _NONE
    """Friends' orders by buyer and order id."""
    units: dict[PostKey, dict[str | None, list[Units]]] = msgspec.field(default_factory=dict)
    """Judged units by post, then by actor, in the order they came."""
    used: dict[str, int] = msgspec.field(default_factory=dict)
    """Cap counter → points it has paid; a reversal gives nothing back."""
    settled: set[tuple[str, str]] = _NO_ONE
    """Record type and event id of what happens once for ever and leaves no other trace: commands and refunds."""
    is_customer: bool = False
    """Has ordered before."""
    redemptions: dict[str, tuple[Take, ...] | None] = _NONE
    """What each redemption took, by its entry; None once it is cancelled."""
    given_up: dict[str, Reversal] = _NONE
    """The last reversal of a lot's grant, with all that was given up of it as shortfall."""
    interactions: int = 0
    earned: int = 0
    """Under rules, and by prizes."""
    adjusted: int = 0
    """By people; below zero when they took more than they added."""
    reversed: int = 0
    spent: int = 0
    debt: int = 0
    """What reversals and adjustments took that no lot could give, and that no event has paid off; see `paid_off_by`."""
    owed_since: int = 0
    """The latest time at which debt arose; epoch milliseconds."""
    shortfall: int = 0

    def paid_off_by(self, at: int) -> tuple[Take, ...]:
        """What of the debt lots have paid by an instant (epoch milliseconds), by dates alone."""
        if not self.debt:
            return ()
        lots = [(lot.left, lot.active_at, lot.expires_at) for lot in self.lots.values()]
        paid = paid_off(self.debt, self.owed_since, lots, at)
        return tuple(Take(lot, points) for lot, points in zip(self.lots, paid, strict=True) if points)

    def balance_at(self, at: int) -> Balance:
        """The balance at an instant (epoch milliseconds), of all events so far."""
        active = pending = expired = 0
        for lot in self.lots.values():
            if lot.active_at > at:
                pending += lot.left
            elif lot.is_expired(at):
                expired += lot.left
            else:
                active += lot.left
        debt = self.debt
        for take in self.paid_off_by(at):
            debt -= take.points
            if self.lots[take.lot].is_expired(at):
                expired -= take.points
            else:
                active -= take.points
        return Balance(active - debt, pending, self.spent, expired, self.reversed, debt)

    def units_latest_first(self, key: PostKey, actor: str | None) -> Iterator[Units]:
        """The judged units of a post, of one actor where it is known, the latest interaction first."""
        actors = self.units.get(key, {})
        if actor is not None:
            return reversed(actors.get(actor, []))
        return heapq.merge(*map(reversed, actors.values()), key=lambda units: -units.number)
