"""The folds that are written for speed, beside plain ones: the same rows, of one page or added up over many."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from ledger_stream import Stream, long_stream, streams

from aggregates.events import Grant, PointsAdjusted, PrizeAwarded, RedemptionCancelled, Reversal
from aggregates.ledger import Recorded
from projections import balances, books, lots, standings, statements
from projections.movements import Movement, movements
from projections.projection import Coalesced, Held, Page, Projection, ReadTable, Row
from projections.registry import LEDGER
from projections.statements import record_type, what_happened

PROJECTIONS = (balances.PROJECTION, standings.PROJECTION, statements.PROJECTION, lots.PROJECTION, books.PROJECTION)
sorted_json = msgspec.json.Encoder(order="sorted").encode


def balance_rows(movement: Movement) -> list[dict[str, Any]]:
    row = dict.fromkeys(balances.BALANCES.columns, 0) | {"brand": movement.brand, "member": movement.member}
    total, sign = balances.COUNTED[movement.kind]
    row[total] += sign * movement.points
    return [row | {"debt": movement.debt, "shortfall": movement.shortfall}]


def standing_rows(movement: Movement) -> list[dict[str, Any]]:
    if not isinstance(movement.entry, Grant | Reversal):
        return []
    key = {"brand": movement.brand, "campaign": movement.entry.campaign, "member": movement.member}
    return [{**key, "points": movement.points}]


def lot_rows(movement: Movement) -> list[dict[str, Any]]:
    owner = {"brand": movement.brand, "member": movement.member}
    rows, lot = [], movement.lot
    if lot is not None:
        held = {"granted": lot.points, "points_left": lot.points}
        dates = {"active_at": lot.active_at, "expires_at": lot.expires_at}
        campaign = "" if isinstance(lot, PointsAdjusted) else lot.campaign
        rows.append({**owner, "lot": lot.entry_id, "campaign": campaign, **held, **dates})
    for take in movement.takes:
        held = {"granted": 0, "points_left": -take.points}
        rows.append({**owner, "lot": take.lot, "campaign": "", **held, "active_at": 0, "expires_at": None})
    return rows


def book_rows(movement: Movement) -> list[dict[str, Any]]:
    return [{"brand": movement.brand, "account": name, "points": points} for name, points in books.legs(movement)]


def statement_rows(movement: Movement) -> list[dict[str, Any]]:
    entry, event, lot, origin = movement.entry, movement.event, movement.lot, movement.event.origin
    grant = entry if isinstance(entry, Grant) else None
    of_rule = grant or (entry if isinstance(entry, Reversal) else None)
    of_campaign = of_rule or (entry if isinstance(entry, PrizeAwarded) else None)
    reverses = entry.reverses if isinstance(entry, Reversal) else ""
    detail = what_happened(event)
    if grant:
        detail["formula"] = {name: getattr(grant, name) for name in ("basis", "rate", "per", "multiplier_milli")}
    taken: dict[str, int] = {}
    for take in movement.takes:
        taken[take.lot] = taken.get(take.lot, 0) + take.points
    row = {
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
        "reverses": entry.cancels if isinstance(entry, RedemptionCancelled) else reverses,
        "debt": movement.debt,
        "shortfall": movement.shortfall,
        "takes": sorted_json(taken).decode(),
        "detail": sorted_json(detail).decode(),
    }
    return [row]


PLAIN: Mapping[str, Callable[[Movement], list[dict[str, Any]]]] = {
    "balances": balance_rows,
    "standings": standing_rows,
    "statements": statement_rows,
    "lots": lot_rows,
    "books": book_rows,
}


def plain(target: ReadTable, events: Sequence[Recorded]) -> list[Row]:
    rows = Coalesced(target)
    for movement in movements(list(events)):
        for row in PLAIN[target.name](movement):
            rows.add(row)
    return list(rows.changes()[target.name])


def in_pages(projection: Projection, events: Sequence[Recorded], cuts: Sequence[int]) -> list[Row]:
    held: Held = {}
    for start, end in pairwise([0, *sorted(min(cut, len(events)) for cut in cuts), len(events)]):
        projection.hold(Page(events[start:end]), held)
    (target,) = projection.tables
    return [dict(zip(target.columns, row, strict=True)) for row in held[target.name].values()]


@given(streams(), st.lists(st.integers(0, 60), max_size=4), st.booleans())
def test_they_answer_the_rows_of_the_plain_ones(stream: Stream, cuts: list[int], twice: bool) -> None:
    again = [one._replace(id=one.id + 1_000) for one in stream.events] if twice else []
    events = [*stream.events, *again]
    for projection in PROJECTIONS:
        (target,) = projection.tables
        expected = plain(target, events)
        assert list(projection.fold(events)[target.name]) == expected
        assert in_pages(projection, events, cuts) == expected


def test_the_stream_has_what_they_could_get_wrong() -> None:
    rows = plain(statements.STATEMENTS, long_stream(200).events)
    kinds = {"earned", "prize", "adjusted", "reversed", "redeemed", "cancelled", "settled"}
    assert {row["kind"] for row in rows} == kinds
    assert {row["record_type"] for row in rows} == {"Interaction", "Purchase", "ReferralDue", "Command"}
    assert any(row["takes"] != "{}" for row in rows)
    assert any(row["limited_by"] for row in rows)


@given(streams(), st.integers(0, 20))
def test_events_that_a_read_model_does_not_handle_change_nothing_in_it(stream: Stream, more: int) -> None:
    events = [*stream.events, *(one._replace(id=one.id + 1_000) for one in long_stream(more).events)]
    for projection in LEDGER:
        held: Held = {}
        projection.hold(Page(events), held)
        for target in projection.tables:
            rows = [dict(zip(target.columns, row, strict=True)) for row in held.get(target.name, {}).values()]
            assert rows == list(projection.fold(events).get(target.name, ()))
