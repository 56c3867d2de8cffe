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
    PointsRedeemed,
    PurchaseRecorded,
    ReferralJudged,
    RefundRecorded,
    Reversal,
    Take,
)
from projections.balances import LotLeft, Totals
from projections.movements import EARNED, REVERSED, Movement, movements
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
    volatile=frozenset({"seq", "recorded_at", "source_topic", "source_partition", "source_offset"}),
)
"""Kept once an entry is there, but for the points: an id seen twice (a record sent again after the horizon of
duplicates) adds up, so that statements and balances never part. A text that does not apply is empty, a version 0."""

_json: Final = msgspec.json.Encoder(order="sorted").encode


def record_type(event: AccountEvent) -> str:
    """The type of the activity record that an event judged."""
    if isinstance(event, InteractionRewarded | InteractionTakenBack):
        return "Interaction"
    if isinstance(event, PurchaseRecorded | RefundRecorded):
        return "Purchase"
    return "ReferralDue" if isinstance(event, ReferralJudged) else "Command"


def what_happened(event: AccountEvent) -> dict[str, Any]:
    """What the record said happened, for a person who asks why; absent parts left out."""
    if isinstance(event, InteractionRewarded | InteractionTakenBack):
        told: dict[str, Any] = {
            "kind": event.kind,
            "surface": event.surface,
            "platform": event.platform,
            "quantity": event.quantity,
            "post_id": event.post_id,
            "actor_id": event.actor_id,
        }
    elif isinstance(event, PurchaseRecorded):
        told = {
            "kind": "completed",
            "order_id": event.order_id,
            "amount_minor": event.amount_minor,
            "currency": event.currency,
        }
    elif isinstance(event, RefundRecorded):
        told = {
            "kind": "refunded",
            "order_id": event.order_id,
            "amount_minor": event.amount_minor,
            "currency": event.currency,
        }
    elif isinstance(event, ReferralJudged):
        told = {
            "kind": event.kind,
            "order_id": event.order_id,
            "buyer_id": event.buyer_id,
            "amount_minor": event.amount_minor,
        }
    else:
        told = {
            "kind": event.kind if isinstance(event, CommandRefused) else "redeem",
            "points": event.points,
            "requested_by": event.requested_by,
        }
    return {name: value for name, value in told.items() if value is not None}


def _detail(event: AccountEvent, entry: Grant | Reversal | PointsRedeemed) -> str:
    told = what_happened(event)
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
    entry, event, origin = movement.entry, movement.event, movement.event.origin
    grant = entry if isinstance(entry, Grant) else None
    back = entry if isinstance(entry, Reversal) else None
    of_rule = grant or back
    return {
        "brand": movement.brand,
        "member": movement.member,
        "entry_id": entry.entry_id,
        "seq": movement.seq,
        "kind": movement.kind,
        "points": movement.points,
        "occurred_at": origin.occurred_at,
        "recorded_at": origin.recorded_at,
        "campaign": of_rule.campaign if of_rule else "",
        "campaign_version": of_rule.version if of_rule else 0,
        "rule": of_rule.rule if of_rule else "",
        "source_topic": origin.topic,
        "source_partition": origin.partition,
        "source_offset": origin.offset,
        "event_id": origin.event_id,
        "record_type": record_type(event),
        "active_at": grant.active_at if grant else None,
        "expires_at": grant.expires_at if grant else None,
        "tier": getattr(event, "tier", ""),
        "entitled": grant.entitled if grant else 0,
        "limited_by": grant.limited_by if grant else "",
        "reverses": back.reverses if back else "",
        "debt": back.debt if back else 0,
        "shortfall": back.shortfall if back else 0,
        "takes": _takes(movement.takes),
        "detail": _detail(event, entry),
    }


def fold(events: Sequence[Recorded]) -> Changes:
    """A row for every movement."""
    rows = Coalesced(STATEMENTS)
    for movement in movements(events):
        rows.add(statement_row(movement))
    return rows.changes()


def balance_of(rows: Iterable[Mapping[str, Any]]) -> tuple[Totals, list[LotLeft]]:
    """The totals and lots that some of a member's statement rows add up to; the order of the rows does not matter.

    Rows chosen by when they occurred can have a reversal without the lot it took from, granted later in effective
    time (a refund dated before its purchase): that counts as taken from what is active.
    """
    earned = back = spent = debt = shortfall = 0
    granted: dict[str, LotLeft] = {}
    taken: dict[str, int] = {}
    for row in rows:
        if row["kind"] == EARNED:
            earned += row["points"]
            granted[row["entry_id"]] = LotLeft(row["points"], row["active_at"], row["expires_at"])
            continue
        if row["kind"] == REVERSED:
            back -= row["points"]
        else:
            spent -= row["points"]
        debt += row["debt"]
        shortfall += row["shortfall"]
        for lot, points in msgspec.json.decode(row["takes"]).items():
            taken[lot] = taken.get(lot, 0) + points
    lots = [lot._replace(points=lot.points - taken.pop(entry, 0)) for entry, lot in granted.items()]
    unplaced = sum(taken.values())
    if unplaced:
        lots.append(LotLeft(-unplaced, 0, None))
    return Totals(earned, back, spent, debt, shortfall), lots


PROJECTION = Projection("statements", 1, (STATEMENTS,), fold)
