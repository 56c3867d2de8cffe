"""The sales that each member brought: what the buyers they referred ordered and gave back, by the hour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aggregates.engagement import HOUR
from aggregates.events import ReferralJudged
from aggregates.refusals import Refusal
from projections.campaign_results import is_repeated
from projections.movements import account_of
from projections.projection import Changes, Coalesced, Projection, ReadTable, number, read_table, text

if TYPE_CHECKING:
    from aggregates.ledger import Recorded

REFERRALS = ReadTable(
    read_table(
        "referrals",
        text("brand", key=True),
        number("starts_at", key=True),
        text("member", key=True),
        number("orders"),
        number("revenue_minor"),
        number("refunds_minor"),
    ),
    sums=("orders", "revenue_minor", "refunds_minor"),
)
"""By when the order, or its refund, occurred; minor units of the brand's currency. An hour is that of member panes."""


def fold(events: Sequence[Recorded]) -> Changes:
    """What these events add to each referrer's hours; an order that was judged before adds nothing, nor does one
    that names a campaign that was not live."""
    rows = Coalesced(REFERRALS)
    for _, originator, event in events:
        account = account_of(originator)
        if account is None or not isinstance(event, ReferralJudged) or is_repeated(event):
            continue
        if any(refusal.reason == Refusal.NOT_LIVE.value for refusal in event.refusals):
            continue
        refunded = event.kind == "refunded"
        rows.add(
            {
                "brand": account[0],
                "starts_at": event.origin.occurred_at - event.origin.occurred_at % HOUR,
                "member": account[1],
                "orders": 0 if refunded else 1,
                "revenue_minor": 0 if refunded else event.amount_minor,
                "refunds_minor": event.amount_minor if refunded else 0,
            }
        )
    return rows.changes()


PROJECTION = Projection("referrals", 2, (REFERRALS,), fold, handles=frozenset({ReferralJudged}))
