"""Standings over the past are those of a campaign that was live all the time, by each metric, and pay nothing."""

from __future__ import annotations

import tempfile
from collections import Counter
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from exact_bench import BRAND, NOW, Bench
from hypothesis import given, settings
from hypothesis import strategies as st
from rederive_world import DOCUMENTS, MemoryLog, buy, followers, like, lived, log_of, referral, replayed

from aggregates.ledger import Ledger
from aggregates.settlement import Score
from service.problems import Refusal
from service.replay.candidates import Outcome
from service.replay.retroactive import accepted

HOUR = 3_600_000
LATE: dict[str, Any] = {
    "campaign": "late",
    "brand": "acme",
    "starts_at": NOW - 40 * HOUR,
    "ends_at": NOW + HOUR,
    "earn": [
        {"rule": "like", "on": "interaction", "kind": ["like"], "points": 3, "caps": {"per_post": 20}},
        {"rule": "spend", "on": "purchase", "per_minor": 100, "points": 2},
    ],
    "standings": "points",
    "prizes": {1: 100},
}
MEMBERS = st.sampled_from(["m1", "m2", "m3", "m4"])
WHEN = st.integers(-50, 0).map(lambda hours: {"occurred_at": NOW + hours * HOUR})


@st.composite
def actions(draw: st.DrawFn) -> list[tuple[str, dict[str, Any]]]:
    """Posts, what they receive, orders, refunds and friends, within the campaign and before it."""
    made = []
    for n in range(draw(st.integers(1, 25))):
        member, at = draw(MEMBERS), draw(WHEN)
        kind = draw(st.sampled_from(["post", "like", "like", "unlike", "buy", "refund", "friend", "profile"]))
        event_id = f"e{draw(st.integers(0, n + 2))}"
        if kind in ("post", "like", "unlike"):
            quantity = -2 if kind == "unlike" else 1 if kind == "post" else draw(st.integers(1, 9))
            what = {"kind": "post" if kind == "post" else "like", "actor_id": draw(st.sampled_from([None, member]))}
            made.append(like(member, event_id, quantity, **what, **at))
        elif kind == "buy":
            made.append(buy(member, event_id, draw(st.integers(0, 900)), **at))
        elif kind == "refund":
            made.append(
                buy(member, event_id, 50, **{"kind": "refunded", "order_id": f"e{draw(st.integers(0, 9))}"}, **at)
            )
        elif kind == "friend":
            made.append(referral(member, event_id, draw(MEMBERS), **at))
        else:
            made.append(followers(member, event_id, draw(st.sampled_from([7, 3_000]))))
    return made


def scores_of(log: MemoryLog, metric: str) -> dict[str, Score]:
    """By the panes and the ledger of workers that had the campaign from the start."""
    with tempfile.TemporaryDirectory() as directory:
        benches = [
            Bench(Path(directory), records, partition=n, partitions=log.partitions)
            for n, records in enumerate(log.records)
        ]
        for bench in benches:
            bench.finish()
        if metric == "points":
            return points(Ledger(benches[0].database))
        counted: dict[str, Counter[str]] = {}
        for bench in benches:
            for pane, counters in bench.panes():
                if (pane.scope, pane.campaign) == ("campaign_member", "late"):
                    counted.setdefault(pane.member, Counter()).update(counters)
        return {member: score(metric, counters) for member, counters in counted.items()}


def points(ledger: Ledger) -> dict[str, Score]:
    found: dict[str, int] = {}
    for one in ledger.notifications(0, 100_000):
        member = one.originator.rpartition("/")[2]
        for grant in getattr(one.event, "grants", ()):
            if grant.campaign == "late":
                found[member] = found.get(member, 0) + grant.points
        for reversal in getattr(one.event, "reversals", ()):
            if reversal.campaign == "late":
                found[member] = found.get(member, 0) - reversal.points
    ledger.close()
    return dict(found)


def score(metric: str, counters: Counter[str]) -> Score:
    if metric == "interactions":
        return counters["member_post.like"] + counters["brand_post.like"]
    if metric == "referred_revenue":
        return counters["referred_revenue_minor"]
    posts = counters["member_post.post"]
    if posts < 1:
        return None
    exact = Fraction(counters["rate_ppb"], 10**9 * posts)
    return (Decimal(exact.numerator) / Decimal(exact.denominator)).quantize(Decimal("1e-9"), ROUND_HALF_EVEN)


def test_a_friends_refund_counts_for_the_campaign_though_its_order_came_before_that_was_defined():
    """The refund says that its order counted for nothing: for a replay with the campaign that is no answer."""
    campaign = {**LATE, "standings": "referred_revenue"}
    order = {"order_id": "o", "amount_minor": 900}
    back = {**order, "kind": "refunded", "amount_minor": 300, "ordered_at": NOW, "counted_for": ""}
    made = [referral("m1", "e1", "m2", **order), referral("m1", "e2", "m2", **back)]
    log = log_of([*made, ("Definition", campaign)], 1, [BRAND])
    with (
        lived(log, documents=[BRAND, campaign]) as live,
        replayed(live, candidate_of=accepted("acme", "late")) as run,
    ):
        outcome = Outcome(run)
        for step in run.steps():
            outcome.take(step)
    assert [(one.member, one.score) for one in outcome.ranking(("acme", "late"), 1)] == [("m1", 600)]


@pytest.mark.parametrize("metric", ["points", "interactions", "engagement_rate", "referred_revenue"])
@settings(max_examples=12)
@given(made=actions(), partitions=st.integers(1, 3))
def test_standings_over_the_past_are_those_of_a_campaign_that_was_there_from_the_start(metric, made, partitions):
    campaign = {**LATE, "standings": metric}
    first = log_of(made, partitions, [BRAND, campaign])
    after = log_of([*made, ("Definition", campaign)], partitions, [BRAND])
    with lived(after, documents=[BRAND, campaign]) as live:
        before = live.ledger.last_notification()
        with replayed(live, candidate_of=accepted("acme", "late")) as run:
            outcome = Outcome(run)
            for step in run.steps():
                outcome.take(step)
            found = {place.member: place.score for place in outcome.ranking(("acme", "late"), 1)}
        assert live.ledger.last_notification() == before
        assert not points(live.ledger)
    assert found == scores_of(first, metric)


def test_a_campaign_that_nobody_defined_or_that_is_a_draft_has_none():
    draft = {**LATE, "campaign": "draft", "draft": True}
    with lived(log_of([like("m1", "e1")], 1), documents=[*DOCUMENTS, draft]) as live:
        for campaign, code in (("nothing", "unknown_campaign"), ("draft", "campaign_is_draft")):
            with pytest.raises(Refusal) as no, replayed(live, candidate_of=accepted("acme", campaign)):
                pass
            assert no.value.code == code
