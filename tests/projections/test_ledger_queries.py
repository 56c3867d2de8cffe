"""Reads of the ledger's read models: pages, ranks, effective and recorded time, and what is not there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_stream import HOUR, START, Stream, long_stream
from sqlalchemy import Connection, Engine

from projections import queries
from projections.answers import iso
from projections.balances import judge
from projections.queries import browsing, explain, standings
from projections.queries.holdings import members_hold
from projections.registry import LEDGER
from projections.upkeep.digest import snapshot
from projections.upkeep.runner import Runner, prepare

LATER = START + 10_000 * HOUR


@pytest.fixture
def read(sqlite_engine: Callable[[], Engine]) -> Iterator[tuple[Stream, Connection]]:
    """A filled database."""
    stream = long_stream(120)
    engine = sqlite_engine()
    prepare(engine, LEDGER)
    Runner(engine, stream.source, LEDGER).catch_up()
    with snapshot(engine) as conn:
        yield stream, conn


def test_a_balance_now_is_the_fold_of_everything_recorded(read: tuple[Stream, Connection]) -> None:
    stream, conn = read
    for brand, member in stream.members:
        now = queries.balance(conn, brand, member, LATER)
        folded = queries.balance(conn, brand, member, 0, as_of=LATER)
        assert now == folded
        model = stream.members[brand, member]
        assert (now.spent, now.reversed) == (model.spent, model.reversed)
        assert (now.earned, now.adjusted, now.debt, now.shortfall) == (
            model.earned,
            model.adjusted,
            model.debt,
            model.shortfall,
        )
        gone = model.reversed + model.spent + now.expired
        assert now.active + now.pending == model.earned + model.adjusted - gone


def test_what_was_recorded_later_is_not_in_a_balance_known_at(read: tuple[Stream, Connection]) -> None:
    stream, conn = read
    before = queries.balance(conn, "acme", "ann", LATER, known_at=START)
    assert (before.active, before.pending, before.expired, before.spent, before.reversed) == (0, 0, 0, 0, 0)
    assert queries.balance(conn, "acme", "ann", LATER, known_at=LATER) == queries.balance(conn, "acme", "ann", LATER)
    assert stream.members["acme", "ann"].earned > 0


def test_pages_of_a_statement_follow_each_other_to_the_end(read: tuple[Stream, Connection]) -> None:
    stream, conn = read
    whole = queries.statement(conn, "acme", "ann", limit=1000)
    assert whole.next_cursor is None
    entries, cursor = [], None
    while True:
        page = queries.statement(conn, "acme", "ann", cursor=cursor, limit=3)
        entries += page.entries
        cursor = page.next_cursor
        if cursor is None:
            break
    assert entries == list(whole.entries)
    model = stream.members["acme", "ann"]
    assert sum(entry.points for entry in entries) == model.earned - model.reversed - model.spent


def test_standings_by_points_are_the_grants_less_the_reversals(read: tuple[Stream, Connection]) -> None:
    stream, conn = read
    for known_at in (None, LATER):
        scores = dict(standings.points_scores(conn, "acme", "spring", known_at=known_at))
        expected = {key[2]: points for key, points in stream.standings.items() if key[:2] == ("acme", "spring")}
        assert scores == expected


def test_an_explanation_names_the_record_and_every_reversal(read: tuple[Stream, Connection]) -> None:
    stream, conn = read
    whole = {key: explain.explain(conn, *key) for key in stream.members}
    taken_back = [(key, one) for key, said in whole.items() for one in said.entries if one.entry.kind == "reversed"]
    assert len(taken_back) == sum(len(r.event.reversals) for r in stream.events if hasattr(r.event, "reversals"))
    for key, reversal in taken_back:
        one = explain.explain(conn, *key, reversal.reverses)
        assert reversal in one.entries
        assert one.entries[0].entry.entry_id == reversal.reverses
        assert one.entries[0].entry.source.event_id.startswith("event-")
    assert {unpaid.reason for said in whole.values() for unpaid in said.unpaid} == {"cap_day", "self_referral"}


def test_an_explanation_is_of_what_had_occurred_and_was_recorded_by_then(read: tuple[Stream, Connection]) -> None:
    _, conn = read
    whole = explain.explain(conn, "acme", "ann")
    for hours in (0, 20, 70, 400):
        for name in ("as_of", "known_at"):
            until = iso(START + hours * HOUR)
            some = explain.explain(conn, "acme", "ann", **{name: START + hours * HOUR})
            if name == "as_of":
                assert some.unpaid == tuple(one for one in whole.unpaid if one.occurred_at <= until)
                assert some.entries == tuple(one for one in whole.entries if one.entry.occurred_at <= until)
            else:
                assert some.entries == tuple(one for one in whole.entries if one.entry.recorded_at <= until)
    late = whole.entries[-1].entry
    with pytest.raises(queries.NotFound, match="that had occurred by"):
        explain.explain(conn, "acme", "ann", late.entry_id, as_of=START - 1)


def test_what_is_not_there_is_named(read: tuple[Stream, Connection]) -> None:
    conn = read[1]
    with pytest.raises(queries.NotFound, match="There is no brand `nobody`"):
        queries.balance(conn, "nobody", "ann", LATER)
    with pytest.raises(queries.NotFound, match="has no statement entry"):
        explain.explain(conn, "acme", "ann", "no-such-entry")
    with pytest.raises(queries.NotFound, match="not one that an answer gave"):
        queries.statement(conn, "acme", "ann", cursor="?")
    unseen = queries.balance(conn, "acme", "never-seen", LATER)
    assert (unseen.active, unseen.pending, unseen.spent) == (0, 0, 0)


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.none() | st.integers(-2, 2)))
def test_equal_scores_share_a_rank_and_the_next_is_left_out(scores: dict[str, int | None]) -> None:
    places = standings.ranked(list(scores.items()), {})
    for place in places:
        if place.score is None:
            better = [score for score in scores.values() if score is not None]
        else:
            better = [score for score in scores.values() if score is not None and score > place.score]
        assert place.rank == len(better) + 1
    assert [place.member_id for place in places] == [
        member for member, score in sorted(scores.items(), key=lambda one: (one[1] is None, -(one[1] or 0), one[0]))
    ]


@pytest.mark.parametrize("redeemed", [0, 3])
def test_what_a_hold_that_ended_paid_of_a_debt_is_in_every_read(
    sqlite_engine: Callable[[], Engine], redeemed: int
) -> None:
    """Before an entry says so and after."""
    stream, engine = Stream(), sqlite_engine()
    stream.define()
    stream.adjust("acme", "ann", -6, START)
    stream.reward("acme", "ann", 10, "spring", START + HOUR, 2, 9)
    if redeemed:
        stream.redeem("acme", "ann", redeemed, START + 3 * HOUR)
    prepare(engine, LEDGER)
    Runner(engine, stream.source, LEDGER).catch_up()
    left = 4 - redeemed
    with snapshot(engine) as conn:
        for hours, expected in ((2, (-6, 10, 0, 6)), (3, (left, 0, 0, 0)), (12, (0, 0, left, 0))):
            at = START + hours * HOUR
            found = [queries.balance(conn, "acme", "ann", LATER, as_of=at)]
            if hours > 2:  # a balance of now has all entries
                found.append(queries.balance(conn, "acme", "ann", at))
                assert judge(members_hold(conn, "acme", ["ann"])["ann"], at) == expected
                assert [one.left for one in browsing.lots(conn, "acme", "ann", at)] == [left]
            for one in found:
                assert (one.active, one.pending, one.expired, one.debt) == expected
        entries = queries.statement(conn, "acme", "ann", limit=9).entries
    settled = [("settled", 0), ("redeemed", -3)] if redeemed else []
    assert [(entry.kind, entry.points) for entry in entries] == [("adjusted", -6), ("earned", 10), *settled]
