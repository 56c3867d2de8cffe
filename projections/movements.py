"""The movements of points in ledger events: what every projection of points folds.

A movement is a grant (`earned`), a prize (`prize`), an adjustment (`adjusted`), a reversal (`reversed`), a redemption
(`redeemed`), its cancellation (`cancelled`), or points that had been on hold and paid off debt (`settled`), each one
entry of a statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from aggregates.events import (
    AccountEvent,
    Grant,
    InteractionRewarded,
    InteractionTakenBack,
    Origin,
    PaidOff,
    PointsAdjusted,
    PointsRedeemed,
    PrizeAwarded,
    PurchaseRecorded,
    RedemptionCancelled,
    ReferralJudged,
    RefundRecorded,
    Reversal,
    Take,
)
from projections.projection import Page

if TYPE_CHECKING:
    from aggregates.ledger import Recorded

EARNED: Final = "earned"
REVERSED: Final = "reversed"
REDEEMED: Final = "redeemed"
CANCELLED: Final = "cancelled"
ADJUSTED: Final = "adjusted"
PRIZE: Final = "prize"
SETTLED: Final = "settled"

LotMaker = Grant | PrizeAwarded | PointsAdjusted
"""What can make a lot, whose id is its entry id; an adjustment does when it adds points."""

_PREFIX: Final = "account:"
_GRANTING: Final = (InteractionRewarded, PurchaseRecorded, ReferralJudged)
_REVERSING: Final = (InteractionTakenBack, RefundRecorded, ReferralJudged, RedemptionCancelled)


class Movement(NamedTuple):
    """One change of one member's points."""

    seq: int
    """The ledger's notification id."""
    brand: str
    member: str
    kind: str
    """`earned`, `prize`, `adjusted`, `reversed`, `redeemed`, `cancelled` or `settled`."""
    points: int
    """The signed change of the member's points: of what lots hold less what is owed."""
    entry: Grant | Reversal | PointsRedeemed | RedemptionCancelled | PointsAdjusted | PrizeAwarded | PaidOff
    takes: tuple[Take, ...]
    """What came out of which lot; below zero: what went back into it."""
    event: AccountEvent
    lot: LotMaker | None = None
    """The entry, where it makes a lot. The lot gets all of its points; what pays off debt is in `takes`."""
    debt: int = 0
    """The change of what the member owes: below zero when points that came in paid some of it off."""
    shortfall: int = 0
    """The change of what was given up."""

    @property
    def origin(self) -> Origin:
        """The record of the activity log behind it."""
        return self.event.origin


@lru_cache(maxsize=65_536)
def account_of(originator: str) -> tuple[str, str] | None:
    """Brand and member of an account's aggregate id; None for another aggregate."""
    if not originator.startswith(_PREFIX):
        return None
    brand, _, member = originator[len(_PREFIX) :].partition("/")
    return brand, member


def movements(events: Sequence[Recorded]) -> Sequence[Movement]:
    """Every movement in `events`, in order; of an event what is settled, grants, reversals. Worked out once a page."""
    return events.once(_movements) if isinstance(events, Page) else _movements(events)


def _movements(events: Sequence[Recorded]) -> Sequence[Movement]:
    return list(_each(events))


def _each(events: Iterable[Recorded]) -> Iterator[Movement]:
    for seq, originator, event in events:
        account = account_of(originator)
        if account is None:
            continue
        brand, member = account
        paid: PaidOff | None = getattr(event, "paid_off", None)
        if paid is not None:
            yield Movement(
                seq, brand, member, SETTLED, 0, paid, paid.takes, cast(AccountEvent, event), None, -paid.points
            )
        if isinstance(event, _GRANTING):
            for grant in event.grants:
                yield _into_a_lot(seq, brand, member, EARNED, grant, event)
            if not isinstance(event, ReferralJudged):
                continue
        elif isinstance(event, PointsRedeemed):
            yield Movement(seq, brand, member, REDEEMED, -event.points, event, event.takes, event)
        elif isinstance(event, RedemptionCancelled):
            returns = tuple(Take(back.lot, -back.points) for back in event.returns)
            yield Movement(seq, brand, member, CANCELLED, event.points, event, returns, event, None, -event.settles)
        elif isinstance(event, PrizeAwarded):
            yield _into_a_lot(seq, brand, member, PRIZE, event, event)
        elif isinstance(event, PointsAdjusted):
            if event.points > 0:
                yield _into_a_lot(seq, brand, member, ADJUSTED, event, event)
            else:
                yield Movement(seq, brand, member, ADJUSTED, event.points, event, event.takes, event, None, event.debt)
        if isinstance(event, _REVERSING):
            for back in event.reversals:
                debt, shortfall = back.debt, back.shortfall
                yield Movement(
                    seq, brand, member, REVERSED, -back.points, back, back.takes, event, None, debt, shortfall
                )


def _into_a_lot(seq: int, brand: str, member: str, kind: str, entry: LotMaker, event: AccountEvent) -> Movement:
    settled = (Take(entry.entry_id, entry.settles),) if entry.settles else ()
    return Movement(seq, brand, member, kind, entry.points, entry, settled, event, entry, -entry.settles)
