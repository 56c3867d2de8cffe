"""Explained forward: each event with its entries, what touched them later and what is left, beside a plain tally."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_stream import BRANDS, HOUR, MEMBERS, START, Lot, Member, Stream, long_stream, streams
from sqlalchemy import Connection, create_engine

from aggregates.events import Origin, PurchaseRecorded, ReferralJudged, RefundRecorded, StoredEvent
from aggregates.rules import record_id
from projections.answers.effects import Effects
from projections.queries import NotFound
from projections.queries.effects import effects
from projections.registry import LEDGER
from projections.upkeep.runner import Runner, prepare

LATER = START + 10_000 * HOUR
NEVER = 10**15


@pytest.fixture(scope="module")
def conn() -> Iterator[Connection]:
    """A database that knows the brands; what happened is in each test's own stream."""
    engine = create_engine("sqlite://")
    with engine.begin() as made:
        made.exec_driver_sql("CREATE TABLE stored_events (notification_id INTEGER)")
    stream = Stream()
    stream.define()
    prepare(engine, LEDGER)
    Runner(engine, stream.source, LEDGER).catch_up()
    with engine.connect() as made:
        yield made
    engine.dispose()


def histories(stream: Stream) -> Any:
    return lambda name: [recorded.event for recorded in stream.events if recorded.originator == name]


def touches(events: Iterable[Any]) -> Iterator[tuple[str, str, int]]:
    """Entry, the lot or entry that it touched, and what it took of it; by the fields of the events alone."""
    for event in events:
        for take in event.paid_off.takes if getattr(event, "paid_off", None) else ():
            yield event.paid_off.entry_id, take.lot, take.points
        for grant in getattr(event, "grants", ()):
            yield grant.entry_id, grant.entry_id, grant.settles
        if getattr(event, "settles", 0) and not hasattr(event, "cancels"):
            yield event.entry_id, event.entry_id, event.settles
        for take in getattr(event, "takes", ()):
            yield event.entry_id, take.lot, take.points
        for back in getattr(event, "returns", ()):
            yield event.entry_id, back.lot, -back.points
        if hasattr(event, "cancels"):
            yield event.entry_id, event.cancels, 0
        for reversal in getattr(event, "reversals", ()):
            yield reversal.entry_id, reversal.reverses, 0
            for take in reversal.takes:
                yield reversal.entry_id, take.lot, take.points


def lots(event: Any) -> Iterator[tuple[str, int, int, int]]:
    """Entry, points, and from when until when they can be spent, of the lots that an event made."""
    made = [*getattr(event, "grants", ())]
    if type(event).__name__ in ("PrizeAwarded", "PointsAdjusted") and event.points > 0:
        made.append(event)
    for one in made:
        yield one.entry_id, one.points, one.active_at, NEVER if one.expires_at is None else one.expires_at


def left_at(events: list[Any], at: int) -> dict[str, int]:
    """What each lot holds then, debts paid off; by the fields of the events alone."""
    member, touched = Member(), list(touches(events))
    for event in events:
        for entry, points, active_at, expires_at in lots(event):
            left = points - sum(some for _, what, some in touched if what == entry)
            member.lots[entry] = Lot(left, active_at, expires_at, 0)
        for made in (event, *getattr(event, "grants", ()), *getattr(event, "reversals", ())):
            member.owe(getattr(made, "debt", 0), event.origin.occurred_at)
            member.debt -= getattr(made, "settles", 0)
        member.debt -= event.paid_off.points if getattr(event, "paid_off", None) else 0
    return member.at(at)[0]


@settings(max_examples=40)
@given(streams(), st.integers(0, 60), st.integers(0, 45))
def test_every_event_is_followed_to_all_that_touched_its_points(
    conn: Connection, stream: Stream, known: int, hours: int
) -> None:
    as_of, known_at = START + hours * HOUR, START + known * HOUR
    for brand, member in ((brand, member) for brand in BRANDS for member in MEMBERS):
        every = histories(stream)(f"account:{brand}/{member}")
        for until in (None, (as_of, known_at)):
            events = [e for e in every if until is None or _in(e.origin, *until)]
            at = LATER if until is None else as_of
            held = left_at(events, at)
            for event in events:
                asked = (conn, histories(stream), brand, member, event.origin.event_id, LATER, *(until or ()))
                (found,) = effects(*asked).events
                assert (found.source.offset, found.member_id) == (event.origin.offset, member)
                for traced in found.entries:
                    entry = traced.why.entry.entry_id
                    touched = [(by, points) for by, what, points in touches(events) if what == entry]
                    assert [one.entry.entry_id for one in traced.later] == [
                        by for by in dict.fromkeys(by for by, _ in touched) if by != entry
                    ]
                assert {
                    (traced.why.entry.entry_id, traced.lot.left, traced.lot.state)
                    for traced in found.entries
                    if traced.lot is not None
                } == {
                    (entry, held[entry], _state(at, active_at, expires_at) if held[entry] else "used_up")
                    for entry, _, active_at, expires_at in lots(event)
                }
                assert len(found.unpaid) == len(getattr(event, "refusals", ())) + (
                    getattr(event, "referral", "") == "self_referral"
                )


def _in(origin: Origin, as_of: int, known_at: int) -> bool:
    return origin.occurred_at <= as_of and origin.recorded_at <= known_at


def _state(at: int, active_at: int, expires_at: int) -> str:
    return "pending" if active_at > at else "expired" if expires_at <= at else "active"


def asked(conn: Connection, stream: Stream, member: str, event: str, **until: int) -> Effects:
    return effects(conn, histories(stream), "acme", member, event, LATER, **until)


def test_an_event_is_found_by_its_place_too_and_an_id_comes_first(conn: Connection) -> None:
    stream = Stream()
    stream.define()
    stream.reward("acme", "ann", 10, "spring", START, 0, None)
    stream.reward("acme", "ann", 20, "spring", START + HOUR, 0, None)
    first, second = (recorded.event.origin for recorded in stream.events[-2:])
    place = f"{second.partition}:{second.offset}"
    assert asked(conn, stream, "ann", place).events[0].source.event_id == second.event_id
    stream.put("account:acme/ann", _order(place, "o-1"))
    assert asked(conn, stream, "ann", place).events[0].record_type == "Purchase"
    for nothing in ("event-999", "9:9", f"{first.partition}:{second.offset + 9}", "", "x:1", "1:" + "9" * 40):
        with pytest.raises(NotFound, match=r"nothing of `acme/ann`.*dlt list") as refused:
            asked(conn, stream, "ann", nothing)
        assert refused.value.code == "unknown_event"
    with pytest.raises(NotFound, match=r"that had occurred by 2026-02-28T23:00:00\.000Z"):
        asked(conn, stream, "ann", first.event_id, as_of=START - HOUR)


def _order(event_id: str, order: str) -> PurchaseRecorded:
    origin = Origin("members.activity.v1", 1, 77, event_id, START, START)
    return PurchaseRecorded(origin, order, 5_000, "EUR", "nano", referrer_id="bob", referral="due", tier_followers=70)


def test_a_referral_is_followed_to_the_referrers_account_and_its_refund_too(conn: Connection) -> None:
    stream = Stream()
    stream.define()
    stream.put("account:acme/ann", _order("buy", "o-1"))
    due = asked(conn, stream, "ann", "buy").events[0]
    assert due.referral is not None
    assert (due.tier, due.tier_followers, due.entries, due.referral.judged) == ("nano", 70, (), None)

    stream.reward("acme", "bob", 500, "spring", START, 2, None)
    judged = stream.events.pop().event
    assert isinstance(judged, ReferralJudged)
    stream.put("account:acme/bob", _under(judged, record_id("referral", "ann", "buy")))
    found = asked(conn, stream, "ann", "buy").events[0].referral
    assert found is not None
    assert found.judged is not None
    assert (found.member_id, found.event_id) == ("bob", found.judged.source.event_id)
    assert [traced.why.entry.points for traced in found.judged.entries] == [500]

    origin = Origin("members.activity.v1", 1, 78, "back", START + HOUR, START + HOUR)
    stream.put("account:acme/ann", RefundRecorded(origin, 5_000, "EUR", "o-1", True, referrer_id="bob"))
    refund = asked(conn, stream, "ann", "back").events[0]
    assert (refund.record_type, refund.referral is not None and refund.referral.member_id) == ("Purchase", "bob")


def _under(event: Any, event_id: str) -> StoredEvent:
    """The event as if its record had this id."""
    made: StoredEvent = type(event)(
        **{name: getattr(event, name) for name in event.__struct_fields__ if name != "origin"},
        origin=Origin("members.activity.v1", 0, 5, event_id, event.origin.occurred_at, event.origin.recorded_at),
    )
    return made


def test_a_prize_names_the_settlement_it_comes_from() -> None:
    stream = long_stream(120)
    engine = create_engine("sqlite://")
    with engine.begin() as made:
        made.exec_driver_sql("CREATE TABLE stored_events (notification_id INTEGER)")
    prepare(engine, LEDGER)
    Runner(engine, stream.source, LEDGER).catch_up()
    places = stream.settled["acme", "spring"]
    stream.prize("acme", places[0].member, 10, LATER)
    with engine.connect() as conn:
        (found,) = asked(conn, stream, places[0].member, stream.events[-1].event.origin.event_id).events
    engine.dispose()
    assert found.prize is not None
    assert (found.prize.campaign, found.prize.rank, found.prize.metric) == ("spring", 1, "points")
    assert (found.prize.score, found.prize.members) == (places[0].score, len(places))


def test_a_refused_command_says_why(conn: Connection) -> None:
    stream = Stream()
    stream.define()
    stream.redeem("acme", "ann", 5, START)
    (found,) = asked(conn, stream, "ann", stream.events[-1].event.origin.event_id).events
    assert found.refused is not None
    assert found.refused.endswith("[insufficient_points]")
