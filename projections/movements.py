"""The movements of points in ledger events: what every projection of points folds.

A movement is a grant (`earned`), a reversal (`reversed`) or a redemption (`redeemed`), each one entry of a statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from aggregates.events import (
    AccountEvent,
    Grant,
    InteractionRewarded,
    InteractionTakenBack,
    Origin,
    PointsRedeemed,
    PurchaseRecorded,
    ReferralJudged,
    RefundRecorded,
    Reversal,
    Take,
)

if TYPE_CHECKING:
    from aggregates.ledger import Recorded

EARNED: Final = "earned"
REVERSED: Final = "reversed"
REDEEMED: Final = "redeemed"

_PREFIX: Final = "account:"
_GRANTING: Final = (InteractionRewarded, PurchaseRecorded, ReferralJudged)
_REVERSING: Final = (InteractionTakenBack, RefundRecorded, ReferralJudged)


class Movement(NamedTuple):
    """One change of one member's points."""

    seq: int
    """The ledger's notification id."""
    brand: str
    member: str
    kind: str
    """`earned`, `reversed` or `redeemed`."""
    points: int
    """The change of the member's points: above zero when earned, else zero or below."""
    entry: Grant | Reversal | PointsRedeemed
    takes: tuple[Take, ...]
    """What came out of which lot."""
    event: AccountEvent

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


def movements(events: Iterable[Recorded]) -> Iterator[Movement]:
    """Every movement in `events`, in order; the grants of an event before its reversals."""
    for seq, originator, event in events:
        account = account_of(originator)
        if account is None:
            continue
        brand, member = account
        if isinstance(event, _GRANTING):
            for grant in event.grants:
                yield Movement(seq, brand, member, EARNED, grant.points, grant, (), event)
        if isinstance(event, _REVERSING):
            for entry in event.reversals:
                yield Movement(seq, brand, member, REVERSED, -entry.points, entry, entry.takes, event)
        elif isinstance(event, PointsRedeemed):
            yield Movement(seq, brand, member, REDEEMED, -event.points, event, event.takes, event)
