"""Every movement of a member's points as one row that names its cause, and what such rows add up to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection, Index
from sqlalchemy import text as text_clause

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
from projections.balances import COUNTED, Holding, LotLeft, Totals
from projections.movements import Movement, movements
from projections.projection import Held, Projection, ReadTable, Row, fold_of, number, read_table, text
from projections.upkeep.snapshots import forget

if TYPE_CHECKING:
    from aggregates.ledger import Recorded

_OF_DEBT: Final = text_clause("debt <> 0")

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
        Index("statements_of_debt", "brand", "member", sqlite_where=_OF_DEBT, postgresql_where=_OF_DEBT),
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


class _Formula(msgspec.Struct, gc=False):
    basis: str
    multiplier_milli: int
    per: int
    rate: int


class _OfInteraction(msgspec.Struct, gc=False):
    """A detail, its fields as they are sorted; an unset one is left out."""

    actor_id: str | UnsetType
    formula: _Formula | UnsetType
    kind: str
    platform: str
    post_id: str | UnsetType
    quantity: int
    surface: str
    tier_followers: int | UnsetType


class _OfMoney(msgspec.Struct, gc=False):
    amount_minor: int
    currency: str
    formula: _Formula | UnsetType
    kind: str
    order_id: str | UnsetType
    tier_followers: int | UnsetType


_OF_INTERACTIONS: Final = (InteractionRewarded, InteractionTakenBack)
_OF_PURCHASES: Final = (PurchaseRecorded, RefundRecorded)
_in_order: Final = msgspec.json.Encoder().encode


def _detail(movement: Movement) -> str:
    """`what_happened` and the formula as JSON with sorted names: of the most frequent events without the dictionary,
    which took as long as all else of a statement's row."""
    event, entry = movement.event, movement.entry
    formula: _Formula | UnsetType = UNSET
    known: int | None = getattr(event, "tier_followers", None)
    followers = UNSET if known is None else known
    if isinstance(entry, Grant):
        formula = _Formula(entry.basis, entry.multiplier_milli, entry.per, entry.rate)
    detail: msgspec.Struct
    if isinstance(event, _OF_INTERACTIONS):
        actor, post = event.actor_id, event.post_id
        detail = _OfInteraction(
            UNSET if actor is None else actor,
            formula,
            event.kind,
            event.platform,
            UNSET if post is None else post,
            event.quantity,
            event.surface,
            followers,
        )
    elif isinstance(event, _OF_PURCHASES):
        kind = "completed" if isinstance(event, PurchaseRecorded) else "refunded"
        order = UNSET if event.order_id is None else event.order_id
        detail = _OfMoney(event.amount_minor, event.currency, formula, kind, order, followers)
    else:
        told = what_happened(event)
        more = {"formula": formula, "tier_followers": followers}
        return _json({**told, **{name: value for name, value in more.items() if value is not UNSET}}).decode()
    return _in_order(detail).decode()


def _takes(takes: tuple[Take, ...]) -> str:
    if not takes:
        return "{}"
    taken: dict[str, int] = {}
    for take in takes:
        taken[take.lot] = taken.get(take.lot, 0) + take.points
    return _json(taken).decode()


def _values(movement: Movement) -> list[Any]:
    """The row of one movement, in the order of the columns."""
    entry, event, lot, origin = movement.entry, movement.event, movement.lot, movement.event.origin
    campaign, version, rule, entitled, limited_by, undone = "", 0, "", 0, "", ""
    if isinstance(entry, Grant):
        campaign, version, rule = entry.campaign, entry.version, entry.rule
        entitled, limited_by = entry.entitled, entry.limited_by
    elif isinstance(entry, Reversal):
        campaign, version, rule, undone = entry.campaign, entry.version, entry.rule, entry.reverses
    elif isinstance(entry, PrizeAwarded):
        campaign, version = entry.campaign, entry.version
    elif isinstance(entry, RedemptionCancelled):
        undone = entry.cancels
    return [
        movement.brand,
        movement.member,
        entry.entry_id,
        movement.seq,
        movement.kind,
        movement.points,
        origin.occurred_at,
        origin.recorded_at,
        campaign,
        version,
        rule,
        origin.topic,
        origin.partition,
        origin.offset,
        origin.event_id,
        record_type(event),
        lot.active_at if lot else None,
        lot.expires_at if lot else None,
        getattr(event, "tier", ""),
        entitled,
        limited_by,
        undone,
        movement.debt,
        movement.shortfall,
        _takes(movement.takes),
        _detail(movement),
    ]


def statement_row(movement: Movement) -> Row:
    """The row of one movement."""
    return dict(zip(STATEMENTS.columns, _values(movement), strict=True))


_SUMS: Final = [STATEMENTS.columns.index(name) for name in STATEMENTS.sums]


def folds_into(events: Sequence[Recorded], held: Held) -> None:
    """A row for every movement."""
    rows = held.setdefault(STATEMENTS.name, {})
    for movement in movements(events):
        row = _values(movement)
        known = rows.setdefault((row[0], row[1], row[2]), row)
        if known is not row:
            for place in _SUMS:
                known[place] += row[place]


def holding_of(rows: Iterable[Mapping[str, Any]]) -> Holding:
    """What some of a member's statement rows add up to; their order does not matter.

    Rows chosen by when they occurred can have a reversal without the lot it took from, granted later in effective
    time (a refund dated before its purchase), or a cancellation without its redemption: that counts as taken from, or
    given to, what is active.
    """
    totals = dict.fromkeys(Totals._fields, 0)
    granted: dict[str, LotLeft] = {}
    taken: dict[str, int] = {}
    owed_since = 0
    for row in rows:
        total, sign = COUNTED[row["kind"]]
        totals[total] += sign * row["points"]
        totals["debt"] += row["debt"]
        totals["shortfall"] += row["shortfall"]
        if row["debt"] > 0:
            owed_since = max(owed_since, row["occurred_at"])
        if row["active_at"] is not None:
            granted[row["entry_id"]] = LotLeft(row["points"], row["active_at"], row["expires_at"])
        for lot, points in msgspec.json.decode(row["takes"]).items():
            taken[lot] = taken.get(lot, 0) + points
    lots = [lot._replace(points=lot.points - taken.pop(entry, 0)) for entry, lot in granted.items()]
    unplaced = sum(taken.values())
    if unplaced:
        lots.append(LotLeft(-unplaced, 0, None))
    return Holding(Totals(**totals), lots, owed_since)


_OCCURRED: Final = STATEMENTS.columns.index("occurred_at")


def _forget(conn: Connection, held: Held) -> Callable[[], None]:
    return forget(conn, ((row[0], row[_OCCURRED]) for row in held.get(STATEMENTS.name, {}).values()))


fold: Final = fold_of(folds_into, STATEMENTS)
PROJECTION = Projection("statements", 3, (STATEMENTS,), fold, folds_into, then=_forget)
