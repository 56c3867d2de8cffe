"""Every version of every brand's and campaign's definition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from aggregates.program_events import BrandDefined, CampaignDefined
from projections.projection import Changes, Coalesced, Projection, ReadTable, number, read_table, text

if TYPE_CHECKING:
    from aggregates.ledger import Recorded

BRAND: Final = "brand"
CAMPAIGN: Final = "campaign"
_DEFINED: Final = (BrandDefined, CampaignDefined)

PROGRAMS = ReadTable(
    read_table(
        "programs",
        text("brand", key=True),
        text("subject", key=True),
        text("subject_id", key=True),
        number("version", key=True),
        number("seq"),
        number("effective_at"),
        number("recorded_at"),
        text("content"),
    ),
    latest=("seq", "effective_at", "recorded_at", "content"),
    volatile=frozenset({"seq", "recorded_at"}),
)
"""`subject` is `brand` or `campaign`; `content` is the definition as canonical JSON."""


def fold(events: Sequence[Recorded]) -> Changes:
    """A row for every version."""
    rows = Coalesced(PROGRAMS)
    for seq, _, event in events:
        if not isinstance(event, _DEFINED):
            continue
        subject, subject_id = (CAMPAIGN, event.campaign) if isinstance(event, CampaignDefined) else (BRAND, event.brand)
        rows.add(
            {
                "brand": event.brand,
                "subject": subject,
                "subject_id": subject_id,
                "version": event.version,
                "seq": seq,
                "effective_at": event.effective_at,
                "recorded_at": event.recorded_at,
                "content": event.content,
            }
        )
    return rows.changes()


PROJECTION = Projection("programs", 1, (PROGRAMS,), fold, handles=frozenset(_DEFINED))
