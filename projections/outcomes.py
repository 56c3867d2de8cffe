"""What became of every command, by its idempotency key: the answer that a retry gets again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aggregates.events import CommandRefused, PointsRedeemed
from projections.movements import account_of
from projections.projection import Changes, Coalesced, Projection, ReadTable, number, read_table, text

if TYPE_CHECKING:
    from aggregates.ledger import Recorded

OUTCOMES = ReadTable(
    read_table(
        "outcomes",
        text("brand", key=True),
        text("member", key=True),
        text("idempotency_key", key=True),
        number("seq"),
        text("kind"),
        number("points"),
        text("reason"),
        text("entry_id"),
        text("requested_by"),
        number("occurred_at"),
        number("recorded_at"),
        text("source_topic"),
        number("source_partition"),
        number("source_offset"),
    ),
    volatile=frozenset({"seq", "recorded_at", "source_topic", "source_partition", "source_offset"}),
)
"""`points` as asked for; `reason` is empty when it was done, `entry_id` when it was refused."""


def fold(events: Sequence[Recorded]) -> Changes:
    """A row for every command; the first outcome of a key stays."""
    rows = Coalesced(OUTCOMES)
    for seq, originator, event in events:
        account = account_of(originator)
        if account is None or not isinstance(event, PointsRedeemed | CommandRefused):
            continue
        if isinstance(event, CommandRefused):
            kind, reason, entry_id = event.kind, event.reason, ""
        else:
            kind, reason, entry_id = "redeem", "", event.entry_id
        rows.add(
            {
                "brand": account[0],
                "member": account[1],
                "idempotency_key": event.origin.event_id,
                "seq": seq,
                "kind": kind,
                "points": event.points,
                "reason": reason,
                "entry_id": entry_id,
                "requested_by": event.requested_by,
                "occurred_at": event.origin.occurred_at,
                "recorded_at": event.origin.recorded_at,
                "source_topic": event.origin.topic,
                "source_partition": event.origin.partition,
                "source_offset": event.origin.offset,
            }
        )
    return rows.changes()


PROJECTION = Projection("outcomes", 1, (OUTCOMES,), fold)
