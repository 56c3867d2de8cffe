"""The rewards that were not paid, each with its reason: why a member got nothing for something."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sqlalchemy import Index

from aggregates.events import (
    InteractionRewarded,
    InteractionTakenBack,
    PurchaseRecorded,
    ReferralJudged,
    RefundRecorded,
    Refusal,
)
from projections.movements import account_of
from projections.projection import Changes, Coalesced, Projection, ReadTable, number, read_table, text
from projections.statements import record_type

if TYPE_CHECKING:
    from aggregates.ledger import Recorded

REFUSALS = ReadTable(
    read_table(
        "refusals",
        text("brand", key=True),
        text("member", key=True),
        text("record_type", key=True),
        text("event_id", key=True),
        text("campaign", key=True),
        text("rule", key=True),
        text("reason", key=True),
        number("seq"),
        number("campaign_version"),
        number("occurred_at"),
        number("recorded_at"),
        text("tier"),
        text("source_topic"),
        number("source_partition"),
        number("source_offset"),
        Index("refusals_in_order", "brand", "member", "seq"),
    ),
    mostly_new=True,
    volatile=frozenset({"seq", "recorded_at", "source_topic", "source_partition", "source_offset"}),
)
"""`rule` is empty where a whole campaign was refused, `campaign` too where a referral named none; `tier` is empty for
refunds and unlikes, which are judged by the tier of what they undo."""

_REFERRAL_DUE: Final = "due"
_REFUSING: Final = (InteractionRewarded, InteractionTakenBack, PurchaseRecorded, RefundRecorded, ReferralJudged)


def fold(events: Sequence[Recorded]) -> Changes:
    """A row for every rule or campaign that paid nothing, and for every referral that is not due."""
    rows = Coalesced(REFUSALS)
    for seq, originator, event in events:
        if not isinstance(event, _REFUSING):
            continue
        refusals = event.refusals
        if isinstance(event, PurchaseRecorded) and event.referral not in ("", _REFERRAL_DUE):
            refusals = (*refusals, Refusal(event.campaign_id or "", 0, "", event.referral))
        account = account_of(originator) if refusals else None
        if account is None:
            continue
        for refusal in refusals:
            rows.add(
                {
                    "brand": account[0],
                    "member": account[1],
                    "record_type": record_type(event),
                    "event_id": event.origin.event_id,
                    "campaign": refusal.campaign,
                    "rule": refusal.rule,
                    "reason": refusal.reason,
                    "seq": seq,
                    "campaign_version": refusal.version,
                    "occurred_at": event.origin.occurred_at,
                    "recorded_at": event.origin.recorded_at,
                    "tier": getattr(event, "tier", ""),
                    "source_topic": event.origin.topic,
                    "source_partition": event.origin.partition,
                    "source_offset": event.origin.offset,
                }
            )
    return rows.changes()


PROJECTION = Projection("refusals", 2, (REFUSALS,), fold, handles=frozenset(_REFUSING))
