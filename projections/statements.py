"""Every movement of a member's points as one row that names its cause, and the balance that such rows add up to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import Index

from aggregates.events import (
    AccountEvent,
    CommandRefused,
    Grant,
    InteractionRewarded,
    InteractionTakenBack,
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
from projections.balances import COUNTED, LotLeft, Totals
from projections.movements import Movement, movements
from projections.projection import Changes, Coalesced, Projection, ReadTable, Row, number, read_table, text

if TYPE_CHECKING:
    from aggregates.ledger import Recorded

STATEMENTS = ReadTable(
    read_table(
        "statements",
        text("brand", key=True),
        text("member", key=True),
        text("entry_id", key=True),
        number("seq"),
        text("kind"),
        number("points"),
        number("occurred_at"),
        number("recorded_at"),
        text("campaign"),
        number("campaign_version"),
        text("rule"),
        text("source_topic"),
        number("source_partition"),
        number("source_offset"),
        text("event_id"),
        text("record_type"),
        number("active_at", optional=True),
        number("expires_at", optional=True),
        text("tier"),
        number("entitled"),
        text("limited_by"),
        text("reverses"),
        number("debt"),
        number("shortfall"),
        text("takes"),
        text("detail"),
        Index("statements_in_order", "brand", "member", "seq", "entry_id"),
        Index("statements_by_campaign", "brand", "campaign", "occurred_at"),
    ),
    sums=("points", "entitled", "debt", "shortfall"),
    mostly_new=True,
    volatile=frozenset({"seq", "recorded_at", "source_topic", "source_partition", "source_offset"}),
)
"""Kept once an entry is there, but for the points: an id seen twice (a record sent again after the horizon of
duplicates) adds up, so that statements and balances never part. A text that does not apply is empty, a version 0."""

_json: Final = msgspec.json.Encoder(order="sorted").encode


_RECORD_TYPES: Final[Mapping[type[Any], str]] = {
    InteractionRewarded: "Interaction",
    InteractionTakenBack: "Interaction",
    PurchaseRecorded: "Purchase",
    RefundRecorded: "Purchase",
    ReferralJudged: "ReferralDue",
}
_COMMANDS: Final = (PointsRedeemed, RedemptionCancelled, PointsAdjusted, PrizeAwarded, CommandRefused)
_INTERACTION: Final = ("kind", "surface", "platform", "quantity", "post_id", "actor_id")
_MONEY: Final = ("order_id", "amount_minor", "currency")
_TOLD: Final[Mapping[type[Any], tuple[Mapping[str, Any], Sequence[str]]]] = {
    InteractionRewarded: ({}, _INTERACTION),
    InteractionTakenBack: ({}, _INTERACTION),
    PurchaseRecorded: ({"kind": "completed"}, _MONEY),
    RefundRecorded: ({"kind": "refunded"}, _MONEY),
    ReferralJudged: ({}, ("kind", "order_id", "buyer_id", "amount_minor")),
}
"""What is told of an event: what its type says, and fields of its own."""


def record_type(event: AccountEvent) -> str:
    """The type of the activity record that an event judged."""
    return _RECORD_TYPES.get(type(event), "Command")


def what_happened(event: AccountEvent) -> dict[str, Any]:
    """What the record said happened, for a person who asks why; absent parts left out."""
    told, fields = _TOLD.get(type(event)) or (_command_told(event), ())
    own = {name: value for name in fields if (value := getattr(event, name)) is not None}
    return {**told, **own}


def _command_told(event: AccountEvent) -> dict[str, Any]:
    assert isinstance(event, _COMMANDS)
    told: dict[str, Any] = {"points": event.points, "requested_by": event.requested_by}
    if isinstance(event, CommandRefused):
        more: dict[str, Any] = {"kind": event.kind, "reference": event.reference or None}
    elif isinstance(event, RedemptionCancelled):
        more = {"kind": "cancel", "redemption": event.cancels}
    elif isinstance(event, PointsAdjusted):
        more = {"kind": "adjust", "reason": event.reason or None}
    elif isinstance(event, PrizeAwarded):
        more = {"kind": "prize", "rank": event.rank}
    else:
        more = {"kind": "redeem"}
    return {**told, **{name: value for name, value in more.items() if value is not None}}


def _detail(movement: Movement) -> str:
    told, entry = what_happened(movement.event), movement.entry
    if isinstance(entry, Grant):
        told["formula"] = {
            "basis": entry.basis,
            "rate": entry.rate,
            "per": entry.per,
            "multiplier_milli": entry.multiplier_milli,
        }
    return _json(told).decode()


def _takes(takes: tuple[Take, ...]) -> str:
    if not takes:
        return "{}"
    taken: dict[str, int] = {}
    for take in takes:
        taken[take.lot] = taken.get(take.lot, 0) + take.points
    return _json(taken).decode()


def statement_row(movement: Movement) -> Row:
    """The row of one movement."""
    entry, event, lot, origin = movement.entry, movement.event, movement.lot, movement.event.origin
    grant = entry if isinstance(entry, Grant) else None
    of_rule = grant or (entry if isinstance(entry, Reversal) else None)
    of_campaign = of_rule or (entry if isinstance(entry, PrizeAwarded) else None)
    return {
        "brand": movement.brand,
        "member": movement.member,
        "entry_id": entry.entry_id,
        "seq": movement.seq,
        "kind": movement.kind,
        "points": movement.points,
        "occurred_at": origin.occurred_at,
        "recorded_at": origin.recorded_at,
        "campaign": of_campaign.campaign if of_campaign else "",
        "campaign_version": of_campaign.version if of_campaign else 0,
        "rule": of_rule.rule if of_rule else "",
        "source_topic": origin.topic,
        "source_partition": origin.partition,
        "source_offset": origin.offset,
        "event_id": origin.event_id,
        "record_type": record_type(event),
        "active_at": lot.active_at if lot else None,
        "expires_at": lot.expires_at if lot else None,
        "tier": getattr(event, "tier", ""),
        "entitled": grant.entitled if grant else 0,
        "limited_by": grant.limited_by if grant else "",
        "reverses": "" if grant else _undone(entry),
        "debt": movement.debt,
        "shortfall": movement.shortfall,
        "takes": _takes(movement.takes),
        "detail": _detail(movement),
    }


def _undone(entry: Grant | Reversal | PointsRedeemed | RedemptionCancelled | PointsAdjusted | PrizeAwarded) -> str:
    """The entry that this one takes back or cancels; empty when none."""
    if isinstance(entry, Reversal):
        return entry.reverses
    return entry.cancels if isinstance(entry, RedemptionCancelled) else ""


def fold(events: Sequence[Recorded]) -> Changes:
    """A row for every movement."""
    rows = Coalesced(STATEMENTS)
    for movement in movements(events):
        rows.add(statement_row(movement))
    return rows.changes()


def balance_of(rows: Iterable[Mapping[str, Any]]) -> tuple[Totals, list[LotLeft]]:
    """The totals and lots that some of a member's statement rows add up to; the order of the rows does not matter.

    Rows chosen by when they occurred can have a reversal without the lot it took from, granted later in effective
    time (a refund dated before its purchase), or a cancellation without its redemption: that counts as taken from, or
    given to, what is active.
    """
    totals = dict.fromkeys(Totals._fields, 0)
    granted: dict[str, LotLeft] = {}
    taken: dict[str, int] = {}
    for row in rows:
        total, sign = COUNTED[row["kind"]]
        totals[total] += sign * row["points"]
        totals["debt"] += row["debt"]
        totals["shortfall"] += row["shortfall"]
        if row["active_at"] is not None:
            granted[row["entry_id"]] = LotLeft(row["points"], row["active_at"], row["expires_at"])
        for lot, points in msgspec.json.decode(row["takes"]).items():
            taken[lot] = taken.get(lot, 0) + points
    lots = [lot._replace(points=lot.points - taken.pop(entry, 0)) for entry, lot in granted.items()]
    unplaced = sum(taken.values())
    if unplaced:
        lots.append(LotLeft(-unplaced, 0, None))
    return Totals(**totals), lots


PROJECTION = Projection("statements", 2, (STATEMENTS,), fold)
