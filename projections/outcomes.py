"""What became of every command, by its idempotency key: the answer that a retry gets again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from aggregates.events import CommandRefused, PointsAdjusted, PointsRedeemed, PrizeAwarded, RedemptionCancelled
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
        text("reference"),
        text("words"),
        text("reason"),
        text("entry_id"),
        text("requested_by"),
        number("occurred_at"),
        number("recorded_at"),
        text("source_topic"),
        number("source_partition"),
        number("source_offset"),
    ),
    mostly_new=True,
    volatile=frozenset({"seq", "recorded_at", "source_topic", "source_partition", "source_offset"}),
)
"""`points` as asked for, of a cancellation those given back; `reference`: what it referred to, `words`: why an
adjustment was asked for, or empty; `reason` is empty when it was done, `entry_id` when it was refused."""

_Command = PointsRedeemed | RedemptionCancelled | PointsAdjusted | PrizeAwarded | CommandRefused
DECIDED: Final = (PointsRedeemed, RedemptionCancelled, PointsAdjusted, PrizeAwarded, CommandRefused)
"""The events that are outcomes of commands."""


def fold(events: Sequence[Recorded]) -> Changes:
    """A row for every command; the first outcome of a key stays."""
    rows = Coalesced(OUTCOMES)
    for recorded in events:
        row = row_of(recorded)
        if row is not None:
            rows.add(row)
    return rows.changes()


def row_of(recorded: Recorded) -> dict[str, Any] | None:
    """The outcome that an event is; None for an event that is none."""
    seq, originator, event = recorded
    if not isinstance(event, DECIDED):
        return None
    account = account_of(originator)
    if account is None:
        return None
    kind, reference = _asked(event)
    return {
        "brand": account[0],
        "member": account[1],
        "idempotency_key": event.origin.event_id,
        "seq": seq,
        "kind": kind,
        "points": event.points,
        "reference": reference,
        "words": event.reason if isinstance(event, PointsAdjusted) else "",
        "reason": event.reason if isinstance(event, CommandRefused) else "",
        "entry_id": "" if isinstance(event, CommandRefused) else event.entry_id,
        "requested_by": event.requested_by,
        "occurred_at": event.origin.occurred_at,
        "recorded_at": event.origin.recorded_at,
        "source_topic": event.origin.topic,
        "source_partition": event.origin.partition,
        "source_offset": event.origin.offset,
    }


def _asked(event: _Command) -> tuple[str, str]:
    """The kind of a command and what it referred to."""
    if isinstance(event, CommandRefused):
        return event.kind, event.reference
    if isinstance(event, RedemptionCancelled):
        return "cancel", event.cancels
    if isinstance(event, PrizeAwarded):
        return "prize", event.campaign
    return ("redeem" if isinstance(event, PointsRedeemed) else "adjust"), ""


PROJECTION = Projection("outcomes", 2, (OUTCOMES,), fold, handles=frozenset(DECIDED))
