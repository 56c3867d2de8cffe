"""What each campaign brought and cost by stretches of five minutes: orders, referrals and points, from the ledger.

Money counts once for ever here, whatever the duplicates' horizon; five minutes are those of a campaign's panes, so a
report by days of any timezone adds up both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from aggregates.engagement import MINUTES_5
from aggregates.events import AccountEvent, PurchaseRecorded, ReferralJudged, RefundRecorded
from aggregates.refusals import Refusal as Reason
from projections.movements import EARNED, PRIZE, REVERSED, account_of, movements
from projections.projection import Changes, Projection, ReadTable, number, read_table, text

if TYPE_CHECKING:
    from aggregates.ledger import Recorded

SUMS: Final = (
    *("paid", "reversed", "prizes", "orders", "revenue_minor", "refunds", "refunds_minor"),
    *("referrals", "referred_revenue_minor", "referred_refunds_minor"),
)
"""Points, counts of records, and minor units of the brand's currency; none is below zero."""

RESULTS = ReadTable(
    read_table(
        "campaign_results",
        text("brand", key=True),
        text("campaign", key=True),
        number("starts_at", key=True),
        *map(number, SUMS),
    ),
    sums=SUMS,
)
"""By when it occurred. What was refunded before its purchase came counts with the purchase, as one refund."""

_OF_MONEY: Final = (PurchaseRecorded, RefundRecorded, ReferralJudged)
_REPEATED: Final = frozenset({Reason.DUPLICATE_ORDER.value, Reason.DUPLICATE_REFERRAL.value})
_POINTS: Final = {EARNED: ("paid", 1), REVERSED: ("reversed", -1), PRIZE: ("prizes", 1)}


def fold(events: Sequence[Recorded]) -> Changes:
    """What these events add to each campaign's stretches."""
    found: dict[tuple[str, str, int], dict[str, int]] = {}

    def sums(brand: str, campaign: str, occurred_at: int) -> dict[str, int]:
        key = brand, campaign, occurred_at - occurred_at % MINUTES_5
        known = found.get(key)
        if known is None:
            known = found[key] = dict.fromkeys(SUMS, 0)
        return known

    for movement in movements(events):
        if movement.kind in _POINTS:
            column, sign = _POINTS[movement.kind]
            campaign: str = movement.entry.campaign  # type: ignore[union-attr]
            sums(movement.brand, campaign, movement.origin.occurred_at)[column] += sign * movement.points
    for _, originator, event in events:
        if not isinstance(event, _OF_MONEY) or (account := account_of(originator)) is None:
            continue
        for campaign in event.campaigns:
            of_campaign = sums(account[0], campaign, event.origin.occurred_at)
            for column, amount in _money(event):
                of_campaign[column] += amount
    return {
        RESULTS.name: [
            {"brand": brand, "campaign": campaign, "starts_at": starts_at, **added}
            for (brand, campaign, starts_at), added in found.items()
        ]
    }


def is_repeated(event: AccountEvent) -> bool:
    """Whether it is an order or a referral that was recorded before: its money counted then."""
    return any(refusal.reason in _REPEATED for refusal in getattr(event, "refusals", ()))


def _money(event: PurchaseRecorded | RefundRecorded | ReferralJudged) -> tuple[tuple[str, int], ...]:
    """What an event adds to which column."""
    if isinstance(event, RefundRecorded):
        return ("refunds", 1), ("refunds_minor", event.amount_minor)
    if isinstance(event, ReferralJudged) and event.kind == "refunded":
        return (("referred_refunds_minor", event.amount_minor),)
    if is_repeated(event):
        return ()
    if isinstance(event, ReferralJudged):
        return ("referrals", 1), ("referred_revenue_minor", event.amount_minor)
    early = (("refunds", 1), ("refunds_minor", event.refunded_minor)) if event.refunded_minor else ()
    return ("orders", 1), ("revenue_minor", event.amount_minor), *early


PROJECTION = Projection("campaign_results", 1, (RESULTS,), fold)
