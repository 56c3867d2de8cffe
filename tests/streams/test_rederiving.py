"""A log that is derived again gives what was decided the first time, and every reason why it would not has a name."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from exact_bench import BRAND, CAMPAIGN, NOW
from hypothesis import given, settings
from hypothesis import strategies as st
from rederive_world import (
    DOCUMENTS,
    LIMITED,
    Live,
    buy,
    compared,
    followers,
    like,
    lived,
    log_of,
    redeem,
    referral,
    replayed,
)

from aggregates import rules
from aggregates.ledger import Ledger, Source
from aggregates.parsing import parse
from schemas.topics import ACTIVITY
from streams import readstate, recent
from streams.rederive import WrongSecret, causes, decided
from streams.rederive.causes import Cause, points_of

MEMBERS = ["m1", "m2", "m3", "m4", "m5"]
HOUR = 3_600_000


@st.composite
def actions(draw: st.DrawFn) -> list[tuple[str, dict[str, Any]]]:
    """Whatever members do, repeated and refused records among it."""
    made = []
    for _ in range(draw(st.integers(1, 30))):
        member = draw(st.sampled_from(MEMBERS))
        event_id = f"e{draw(st.integers(0, 25))}"
        at = {"occurred_at": NOW - draw(st.integers(0, 50)) * HOUR}
        kind = draw(
            st.sampled_from(["like", "like", "unlike", "buy", "refund", "redeem", "profile", "referral", "bad"])
        )
        if kind == "like":
            made.append(like(member, event_id, draw(st.integers(1, 9)), post_id=draw(st.sampled_from("pq")), **at))
        elif kind == "unlike":
            made.append(like(member, event_id, -draw(st.integers(1, 5)), post_id=draw(st.sampled_from("pq")), **at))
        elif kind == "buy":
            made.append(buy(member, event_id, draw(st.integers(0, 3_000)), **at))
        elif kind == "refund":
            fields = {"kind": "refunded", "order_id": f"e{draw(st.integers(0, 25))}", **at}
            made.append(buy(member, event_id, draw(st.integers(0, 3_000)), **fields))
        elif kind == "redeem":
            made.append(redeem(member, event_id, draw(st.integers(0, 20))))
        elif kind == "profile":
            made.append(followers(member, event_id, draw(st.sampled_from([10, 5_000, 200_000]))))
        elif kind == "referral":
            made.append(referral(member, event_id, draw(st.sampled_from(MEMBERS))))
        else:
            made.append(buy(member, event_id, 5, currency="USD"))
    return made


SCHEDULES = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6)), max_size=20)


@settings(max_examples=60)
@given(actions(), st.integers(1, 4), SCHEDULES, st.integers(1, 9), st.booleans())
def test_no_decision_of_any_log_differs_whatever_the_batches_the_partitions_and_who_came_first_to_a_budget(
    made, partitions, schedule, chunk, tiny
):
    log = log_of(made, partitions)
    with pytest.MonkeyPatch.context() as patch, lived(log, schedule) as live:
        if tiny:  # accounts are put by and come back
            patch.setattr(decided, "CACHED_ACCOUNTS", 2)
        log.chunk = chunk
        found = compared(live)
        decisions = live.ledger.last_notification() - len(DOCUMENTS)
    assert (found.listed, found.gone) == ([], [])
    assert found.compared == decisions


# What makes a difference


def only(found: Any) -> Any:
    (one,) = found.listed
    return one


def test_another_definition_on_the_log_is_a_changed_rule():
    made = [like("m1", "e1", 2), buy("m2", "e2")]
    cheaper = {**CAMPAIGN, "earn": [{**CAMPAIGN["earn"][0], "points": 1}, *CAMPAIGN["earn"][1:]]}
    with lived(log_of(made, 1)) as live:
        found = compared(live, log_of(made, 1, [BRAND, cheaper, LIMITED]))
    assert found.causes == {Cause.RULE_CHANGED: 1}  # the order is paid as it was
    first = only(found)
    assert (first.event_id, first.account, first.recorded_points, first.derived_points) == (
        "e1",
        "account:acme/m1",
        10,
        8,
    )
    assert (first.field, first.recorded, first.derived) == ("grants[0].points", "4", "2")


@pytest.mark.parametrize(("live_horizon", "horizon"), [(2, 500_000), (500_000, 2)])
def test_a_record_that_only_one_run_knew_again_is_a_duplicate_beyond_the_horizon(monkeypatch, live_horizon, horizon):
    made = [like("m1", "e1"), buy("m1", "e2"), buy("m1", "e3"), like("m1", "e1")]
    monkeypatch.setattr(recent, "HORIZON_OFFSETS", live_horizon)
    with lived(log_of(made, 1)) as live:
        monkeypatch.setattr(recent, "HORIZON_OFFSETS", horizon)
        one = only(compared(live))
    assert (one.cause, one.event_id, one.offset) == (Cause.DUPLICATE, "e1", len(DOCUMENTS) + 3)
    assert (one.recorded_points, one.derived_points) == (0, 0)


def test_what_a_missing_head_took_along_is_taken_as_it_was_recorded():
    made = [followers("m1", "f1", 10), like("m1", "e1", 4), like("m2", "e2", 4), buy("m1", "e3"), like("m1", "u1", -3),
            redeem("m1", "c1", 5), like("m2", "e4")]  # fmt: skip
    log = log_of(made, 1)
    with lived(log) as live:
        log.starts = {0: len(DOCUMENTS) + 3}
        found = compared(live)
    (gone,) = found.gone
    assert (gone.start, gone.end, gone.decisions) == (0, len(DOCUMENTS) + 3, 2)
    assert {one.cause for one in found.listed} <= {Cause.MISSING, Cause.FOLLOWS}


def test_a_log_that_ends_before_the_ledger_does_says_how_much_is_missing():
    made = [like("m1", "e1"), buy("m1", "e2"), like("m1", "e3")]
    with lived(log_of(made, 1)) as live:
        found = compared(live, log_of(made[:1], 1))
    (gone,) = found.gone
    end = len(DOCUMENTS)
    assert (gone.start, gone.end, gone.decisions, found.listed) == (end + 1, end + 3, 2, [])


def test_what_an_earlier_log_has_decided_stands_as_it_was_recorded():
    first = log_of([followers("m1", "f1", 10), like("m1", "e1", 4), buy("m2", "b1", 1_500)], 1)
    second = log_of([like("m1", "u1", -3), like("m1", "e2"), buy("m2", "b2", kind="refunded", order_id="b1")], 1, [])
    second.epoch = "e2"
    with lived(first) as before:
        with before.engine.begin() as connection:
            readstate.accept(connection, f"{ACTIVITY}/e1/0", Source(ACTIVITY, "e2", 0), 0)
        with closing(Live(Path("."), second, database=before.database)) as live:
            found = compared(live.finish())
            assert totals(live)["m1", "spring"] == 6 + 6  # one of four likes is left, by a nano, and the new one
    (gone,) = found.gone
    assert (gone.start, gone.end, gone.decisions) == (0, 0, 2)
    only(found)
    assert found.causes == {Cause.MISSING: 1}  # the tier of the new like: profiles are not kept as of then


def change(live: Any, old: str, new: str) -> None:
    """Write over what the ledger has stored."""
    live.ledger.close()
    with sqlite3.connect(live.database.removeprefix("sqlite:///")) as file:
        done = file.execute(
            "UPDATE stored_events SET state = CAST(replace(CAST(state AS TEXT), ?, ?) AS BLOB) "
            "WHERE originator_id LIKE 'account:%' AND instr(CAST(state AS TEXT), ?)",
            (old, new, old),
        )
        assert done.rowcount == 1
    live.ledger = Ledger(live.database)


def test_a_grant_of_more_than_was_left_of_the_budget_is_found_in_the_order_of_decisions():
    """13 likes of 3 points under a budget of 40 in two partitions: the last one gets the point that is left."""
    made = [like(f"m{n % 5}", f"e{n}", post_id=f"p{n}", campaign_id="tight") for n in range(14)]
    with lived(log_of(made, 2), [(n % 2, 1) for n in range(60)]) as live:
        assert compared(live).listed == []
        change(live, '"points":1,"entitled":3', '"points":2,"entitled":3')
        found = compared(live)
    assert {one.cause for one in found.listed} == {Cause.BUDGET}
    first, account = found.listed
    assert (first.recorded, first.derived) == (
        "2 points of the 1 that were left of the budget of acme/tight",
        "at most 1",
    )
    assert (account.recorded_points, account.derived_points) == (40, 41)


@pytest.mark.parametrize("limited", [1, 2])
def test_what_versions_without_a_budget_have_paid_counts_for_those_that_have_one(limited):
    tight = {**LIMITED, "earn": [{"rule": "like", "on": "interaction", "kind": ["like"], "points": 3}]}
    free = {key: value for key, value in tight.items() if key != "budget"}
    versions = [{**(tight if number == limited else free), "version": number, "effective_at": NOW + 10 * number}
                for number in (1, 2, 3)]  # fmt: skip
    made = [like(f"m{n % 3}", f"e{n}", 2, post_id=f"p{n}", campaign_id="tight", occurred_at=NOW + n * 2)
            for n in range(5, 25)]  # fmt: skip
    documents = [BRAND, *versions]
    with lived(log_of(made, 2, documents), [(n % 2, 1) for n in range(60)], documents=documents) as live:
        assert live.ledger.store.spent([("acme", "tight")])[("acme", "tight")] > 40
        assert compared(live).listed == []


def test_code_that_decides_otherwise_is_named_at_the_first_record_and_what_follows_from_it_after_that(monkeypatch):
    made = [like("m1", "e1", 2), like("m1", "e2", 1, post_id="r"), buy("m2", "e3")]
    with lived(log_of(made, 1, [BRAND, CAMPAIGN]), documents=[BRAND, CAMPAIGN]) as live:
        right = rules.entitlement
        monkeypatch.setattr(rules, "entitlement", lambda basis, *rest: right(basis, *rest) + (basis == "unit"))
        found = compared(live)
    assert [(one.event_id, one.cause) for one in found.listed] == [("e1", Cause.CODE_CHANGE), ("e2", Cause.FOLLOWS)]
    assert [one.derived_points - one.recorded_points for one in found.listed] == [1, 1]


def test_a_log_under_another_secret_is_refused_instead_of_differing_everywhere():
    with lived(log_of([like("m1", "e1")], 1)) as live, replayed(live) as run:
        run._secret = b"another"
        with pytest.raises(WrongSecret, match="GROUNDSWELL_SECRET"):
            list(run.steps())


def test_until_an_instant_only_what_was_on_the_log_by_then_is_derived():
    made = [like("m1", f"e{n}", post_id=f"p{n}") for n in range(6)]
    with lived(log_of(made, 1)) as live:
        with replayed(live, until=NOW + 2) as run:
            steps = list(run.steps())
            assert run.bounds(0) == (0, len(DOCUMENTS) + 3)
        assert [step.activity.value["event_id"] for step in steps if step.activity] == ["e0", "e1", "e2"]
        assert compared(live, until=NOW + 2).gone == []


def test_only_the_first_divergences_are_listed_and_all_are_counted(monkeypatch):
    monkeypatch.setattr(causes, "LISTED", 2)
    made = [like(f"m{n}", f"e{n}") for n in range(5)]
    with lived(log_of(made, 1)) as live:
        monkeypatch.setattr(rules, "MOST_POINTS", 1)
        found = compared(live)
    assert (len(found.listed), sum(found.causes.values())) == (2, 5)


# A candidate


def totals(live: Any) -> Counter[tuple[str, str]]:
    """Points by member and campaign, as the ledger has them."""
    found: Counter[tuple[str, str]] = Counter()
    for one in live.ledger.notifications(0, 100_000):
        member = one.originator.rpartition("/")[2]
        for grant in getattr(one.event, "grants", ()):
            found[member, grant.campaign] += grant.points
        for reversal in getattr(one.event, "reversals", ()):
            found[member, reversal.campaign] -= reversal.points
    return +found


@settings(max_examples=40)
@given(actions(), st.integers(1, 4), st.integers(1, 90), st.integers(1, 5))
def test_a_candidate_pays_what_a_ledger_pays_that_had_these_rules_from_the_start(made, partitions, budget, points):
    """The other ledger takes the records one at a time in the order of the log's time: first come, first served."""
    better = {**LIMITED, "budget": budget, "earn": [{**LIMITED["earn"][0], "points": points}, *LIMITED["earn"][1:]]}
    spring = {**CAMPAIGN, "earn": [{**CAMPAIGN["earn"][0], "tier_multiplier": {"nano": "1.5"}}]}
    documents = [BRAND, spring, better]
    other = log_of(made, partitions, documents)
    order = [(part, 1) for part in range(partitions) for _ in documents]
    stands = sorted((one.timestamp, part) for part, some in enumerate(other.records) for one in some[len(documents) :])
    with lived(log_of(made, partitions)) as live, lived(other, order + [(p, 1) for _, p in stands]) as wished:
        candidate: Any = [parse(spring, "test"), parse(better, "test")]
        found: Counter[tuple[str, str]] = Counter()
        balance: Counter[str] = Counter()
        with replayed(live, candidate=candidate) as run:
            for step in run.steps():
                member = step.account.rpartition("/")[2]
                balance[member] += points_of(step.derived)
                for grant in getattr(step.derived, "grants", ()):
                    found[member, grant.campaign] += grant.points
                for reversal in getattr(step.derived, "reversals", ()):
                    found[member, reversal.campaign] -= reversal.points
        assert +found == totals(wished)
        for member in MEMBERS:
            account = wished.ledger.account("acme", member)
            there = account.earned + account.adjusted - account.spent - account.reversed
            assert balance[member] == there


def test_a_campaign_that_was_defined_later_judges_the_past_as_a_candidate():
    late = {**CAMPAIGN, "campaign": "late", "earn": [{"rule": "like", "on": "interaction", "points": 7}]}
    made = [like("m1", "e1", 2), ("Definition", late), like("m1", "e2", 1, post_id="r")]
    with lived(log_of(made, 1), documents=[*DOCUMENTS, late]) as live:
        assert totals(live)["m1", "late"] == 7
        assert compared(live).listed == []
        candidate: Any = [parse(late, "test")]
        with replayed(live, candidate=candidate) as run:
            grants = [grant for step in run.steps() for grant in getattr(step.derived, "grants", ())]
    assert sum(grant.points for grant in grants if grant.campaign == "late") == 21
