"""Engagement reads against the plain model, on both databases."""

from __future__ import annotations

import json
import math
from decimal import Decimal

import engagement_model as model
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from aggregates.database import open_database
from projections import engagement as projection
from projections.answers import iso
from projections.engagement.people import active_members
from projections.engagement.queries import (
    Score,
    UnknownMetric,
    campaign_scores,
    engagement,
    member_engagement,
    posts,
    tiers,
)
from projections.engagement.sums import group_totals
from projections.engagement.tables import create_tables
from projections.engagement.tier_queries import member_tier, member_tiers
from projections.queries import NotFound
from projections.rates import Bounds, UnknownWindow

BANDS = (("nano", 0), ("micro", 1000), ("macro", 100_000))
NOW = model.BASE + 3 * 60_000

questions = st.tuples(
    st.sampled_from(["1h", "24h", "7d", "30d", "all"]),
    st.integers(model.BASE - 2 * model.HOUR, model.BASE + 2 * model.HOUR),
    st.none() | st.integers(model.BASE - 2 * model.HOUR, model.BASE + 2 * model.HOUR),
    st.sampled_from([None, "spring"]),
    st.sampled_from([None, "tok"]),
)
records_of_any_kind = st.lists(model.panes() | model.profiles(), max_size=25).map(model.one_per_stamp)
modest = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def engine(request, tmp_path_factory):
    on_sqlite = request.param == "sqlite"
    opened = open_database(
        f"sqlite:///{tmp_path_factory.mktemp('read')}/read.db"
        if on_sqlite
        else request.getfixturevalue("emptied_postgresql")()
    )
    with opened.begin() as conn:
        create_tables(conn)
    yield opened
    opened.dispose()


@pytest.fixture
def conn(engine):
    """A transaction that is rolled back."""
    with engine.connect() as connection:
        yield connection


def applied(conn, *records):
    start = projection.position(conn, "t", 0)
    projection.apply(conn, "t", 0, start, start + len(records), list(records))


def measured(answer):
    """Counts and rates of an answer, with the names of its JSON."""
    body = answer.model_dump(by_alias=True)
    return {name: body[name] for name in model.measures(model.summed([]))}


@modest
@given(records_of_any_kind, questions)
def test_engagement_of_a_brand_or_campaign_is_the_plain_sum(engine, records, question):
    window, now, as_of, campaign, platform = question
    newest = model.latest(records)
    about = ("acme", window, now, as_of, campaign, platform)
    expected = model.chosen(newest, "campaign" if campaign else "brand", *about)
    people = model.chosen(newest, "campaign_member" if campaign else "member", *about)
    with engine.connect() as conn:
        applied(conn, *records)
        answer = engagement(conn, *about)
    assert measured(answer) == model.measures(model.summed(expected))
    assert answer.active_members == len({one["member_id"] for one in people})


@modest
@given(records_of_any_kind, questions)
def test_engagement_of_a_member_is_the_plain_sum(engine, records, question):
    window, now, as_of, campaign, platform = question
    scope = "campaign_member" if campaign else "member"
    panes = model.chosen(model.latest(records), scope, "acme", window, now, as_of, campaign, platform)
    with engine.connect() as conn:
        applied(conn, *records)
        answer = member_engagement(conn, "acme", "m1", window, now, as_of, campaign, platform)
    assert measured(answer) == model.measures(model.summed(one for one in panes if one["member_id"] == "m1"))


@modest
@given(st.lists(model.panes(["post", "member"]), max_size=25).map(model.one_per_stamp), questions, st.integers(1, 4))
def test_posts_of_a_member_are_the_plain_sums_best_first(engine, records, question, limit):
    window, now, as_of, _, platform = question
    panes = model.chosen(model.latest(records), "post", "acme", window, now, as_of, None, platform)
    expected = []
    for post, on in {(one["post_id"], one["platform"]) for one in panes if one["member_id"] == "m1"}:
        mine = [one for one in panes if (one["member_id"], one["post_id"], one["platform"]) == ("m1", post, on)]
        sums = model.summed(mine)
        expected.append(
            {
                **{"post_id": post, "platform": on, "reach": sums["member_post.reach"], "unrated": sums["unrated"]},
                "counts": model.measures(sums)["counts"],
                "engagements": model.measures(sums)["engagements"],
                "rate_by_followers": model.divided(sums["rate_ppb"], 1_000_000_000),
                "rate_by_reach": model.measures(sums)["rate_by_reach"],
                "last_activity": model.iso(max(one["starts_at"] for one in mine)),
            }
        )
    expected.sort(key=lambda one: (-one["engagements"], one["post_id"], one["platform"]))
    with engine.connect() as conn:
        applied(conn, *records)
        answer = posts(conn, "acme", "m1", window, now, as_of, platform, limit)
    assert answer.model_dump(by_alias=True)["posts"] == tuple(expected[:limit])
    assert answer.total == len(expected)


@modest
@given(records_of_any_kind, questions)
def test_tiers_are_the_plain_sums_with_their_members(engine, records, question):
    window, now, as_of, campaign, platform = question
    newest = model.latest(records)
    about = ("acme", window, now, as_of, campaign, platform)
    panes = model.chosen(newest, "campaign_tier" if campaign else "brand_tier", *about)
    hours = model.chosen(newest, "campaign_member" if campaign else "member", *about)
    known = {one["member_id"]: one for one in newest if "platforms" in one and one["brand_id"] == "acme"}
    then = {member: tier for member, one in known.items() if (tier := model.tier_as_of(one, as_of)) is not None}
    seen = {
        one["member_id"]
        for one in newest
        if one.get("scope") == "member" and one["brand_id"] == "acme"
        if as_of is None or one["starts_at"] < as_of // model.HOUR * model.HOUR
    }
    tier_of = {member: then.get(member, "unknown") for member in seen | set(then)}
    active = {one["member_id"] for one in hours}
    tier_of_active = [then.get(member, "unknown") for member in active]
    with engine.connect() as conn:
        applied(conn, *records)
        answer = tiers(conn, "acme", window, now, BANDS, as_of, campaign, platform)
    assert [row.tier for row in answer.tiers][:3] == ["nano", "micro", "macro"]
    by_tier = {row.tier: row for row in answer.tiers}
    for tier in ("nano", "micro", "macro", "old", "unknown"):
        sums = model.summed(one for one in panes if one["tier"] == tier)
        people = list(tier_of.values()).count(tier)
        if tier not in by_tier:
            assert not any(sums.values())
            assert (people, tier_of_active.count(tier)) == (0, 0)
            continue
        row = by_tier[tier]
        assert measured(row) == model.measures(sums)
        assert (row.members, row.active_members) == (people, tier_of_active.count(tier))
        followers = sorted(one["followers"] for one in known.values() if one["tier"] == tier and one["platforms"])
        followers = followers if as_of is None else []
        assert (row.followers.count if row.followers else 0) == len(followers)
        if row.followers:
            ranks = {p: followers[math.ceil(p * len(followers) / 100) - 1] for p in (25, 50, 75, 90)}
            spread = row.followers
            assert (spread.min, spread.max) == (followers[0], followers[-1])
            assert {25: spread.p25, 50: spread.median, 75: spread.p75, 90: spread.p90} == ranks


@modest
@given(records_of_any_kind, st.none() | st.integers(model.BASE - 2 * model.HOUR, model.BASE + 2 * model.HOUR))
def test_campaign_scores_are_the_plain_ones_best_first_and_none_last(engine, records, as_of):
    panes = model.chosen(model.latest(records), "campaign_member", "acme", "all", 0, as_of, "spring", None)
    sums = {
        member: model.summed(one for one in panes if one["member_id"] == member)
        for member in {one["member_id"] for one in panes}
    }
    expected = {
        "interactions": {
            member: sum(one[f"{group}.{kind}"] for group in ("member_post", "brand_post") for kind in model.FIVE)
            for member, one in sums.items()
        },
        "referred_revenue": {member: one["referred_revenue_minor"] for member, one in sums.items()},
        "engagement_rate": {
            member: model.divided(one["rate_ppb"], 1_000_000_000 * one["member_post.post"])
            if one["member_post.post"] >= 2
            else None
            for member, one in sums.items()
        },
    }
    with engine.connect() as conn:
        applied(conn, *records)
        for metric, scores in expected.items():
            found = campaign_scores(conn, "acme", "spring", metric, as_of, min_posts=2)
            assert dict(found) == scores
            rated = [score for _, score in found if score is not None]
            assert rated == sorted(rated, reverse=True)
            assert all(score is None for _, score in found[len(rated) :])


def test_the_body_has_the_names_of_the_contract_and_rates_as_numbers(conn):
    counters = {"member_post.like": 3, "member_post.post": 1, "self.like": 2, "rate_ppb": 81_234_567}
    applied(conn, model.pane(counters=counters))
    answer = engagement(conn, "acme", "1h", NOW, positions={1: 9, 0: 17})
    body = json.loads(answer.model_dump_json())
    assert (body["from"], body["to"]) == ("2026-02-28T23:05:00Z", "2026-03-01T00:05:00Z")
    assert (body["window"], body["campaign"], body["position"]) == ("1h", None, "0:17,1:9")
    assert body["counts"]["self"]["like"] == 2
    assert (body["rate_by_followers"], body["rate_by_reach"], body["per_post"]) == (0.081234567, None, 3.0)


def test_an_old_post_that_goes_on_living_counts_as_one_post(conn):
    day = 24 * model.HOUR
    applied(
        conn,
        model.pane("post", model.BASE - 40 * day, counters={"member_post.post": 1, "rate_ppb": 7_000_000}),
        model.pane("post", model.BASE, counters={"member_post.like": 4, "self.like": 1, "rate_ppb": 8_000_000}),
    )
    (post,) = posts(conn, "acme", "m1", "30d", NOW).posts
    assert (post.rate_by_followers, post.rate_by_reach) == (Decimal("0.008"), None)
    assert (post.counts.member_post.post, post.engagements, post.counts.own.like) == (0, 4, 1)
    assert post.last_activity == "2026-03-01T00:00:00Z"
    (post,) = posts(conn, "acme", "m1", "all", NOW).posts
    assert post.rate_by_followers == Decimal("0.015")


def test_posts_beyond_the_limit_are_counted(conn):
    applied(conn, *(model.pane("post", post=f"p{n}", stamp=n, counters={"member_post.save": n % 3}) for n in range(6)))
    body = json.loads(posts(conn, "acme", "m1", "24h", NOW, limit=3, positions={0: 5}).model_dump_json())
    assert [post["post_id"] for post in body["posts"]] == ["p2", "p5", "p1"]
    assert (body["total"], body["member"], body["position"]) == (6, "m1", "0:5")
    assert body["posts"][0]["rate_by_followers"] == 0.0


def test_a_member_without_posts_has_an_empty_list(conn):
    applied(conn, model.pane("member", counters={"member_post.like": 4}))
    answer = posts(conn, "acme", "m1", "all", NOW)
    assert (answer.posts, answer.total, answer.from_) == ((), 0, None)


def test_panes_of_a_log_made_anew_and_of_the_one_before_add_up(conn):
    applied(conn, *(model.pane(epoch=epoch, stamp=3, counters={"purchases": 2}) for epoch in ("", "e1", "e2")))
    assert engagement(conn, "acme", "all", NOW).purchases == 6
    assert engagement(conn, "acme", "1h", NOW).purchases == 6


def test_a_brand_without_panes_has_zeros_and_nulls(conn):
    answer = engagement(conn, "nobody", "all", NOW)
    assert (answer.engagements, answer.active_members, answer.per_post) == (0, 0, None)
    assert (answer.from_, answer.to) == (None, None)


def test_sums_beyond_64_bits_are_exact(conn):
    most = 2**63 - 1
    applied(conn, *(model.pane(counters={"rate_ppb": most, "member_post.post": 1}, segment=n) for n in range(3)))
    answer = engagement(conn, "acme", "all", NOW)
    assert answer.rate_by_followers == Decimal(most).scaleb(-9)


def test_the_nano_advantage_is_the_quotient_of_the_two_exact_rates(conn):
    def tier(name, ppb, posts):
        return model.pane("brand_tier", tier=name, counters={"rate_ppb": ppb, "member_post.post": posts})

    applied(conn, tier("nano", 200_000_000, 3), tier("macro", 100_000_000, 7))
    assert tiers(conn, "acme", "all", NOW, BANDS).nano_advantage == Decimal("4.666666667")
    assert tiers(conn, "acme", "all", NOW, BANDS, campaign="spring").nano_advantage is None


def test_a_tier_that_the_brand_no_longer_defines_is_still_shown(conn):
    applied(conn, model.pane("brand_tier", tier="old", counters={"member_post.like": 1}), model.profile(tier="old"))
    rows = tiers(conn, "acme", "all", NOW, BANDS).tiers
    assert [(row.tier, row.min_followers) for row in rows] == [*BANDS, ("old", None)]


def test_the_unknown_tier_comes_last_and_only_when_it_has_something(conn):
    assert [row.tier for row in tiers(conn, "acme", "all", NOW, BANDS).tiers] == ["nano", "micro", "macro"]
    applied(conn, model.pane("member", member="stranger"))
    last = tiers(conn, "acme", "all", NOW, BANDS).tiers[-1]
    assert (last.tier, last.members, last.followers) == ("unknown", 1, None)


def test_a_members_tier_names_the_platform_that_decides_it(conn):
    applied(conn, model.profile("m1", "micro", 1, tok=10, gram=2000))
    found = member_tier(conn, "acme", "m1", positions={0: 4})
    assert (found.tier, found.platform, found.followers, found.position) == ("micro", "gram", 2000, "0:4")
    assert found.platforms == {"gram": 2000, "tok": 10}


def test_a_member_without_a_profile_is_unknown(conn):
    found = member_tier(conn, "acme", "nobody")
    assert (found.tier, found.platform, found.followers, found.platforms) == ("unknown", None, None, {})


CHANGES = [
    [model.BASE, 0, "nano", "tok", 5],
    [model.BASE + 10, 2, "micro", "gram", 2000],
    [model.BASE + 20, 1, "mid", "tok", 9],
]


def test_a_tier_of_now_whose_change_was_let_go_has_no_beginning(conn):
    applied(conn, model.profile("m1", "nano", 1, changes=CHANGES, tok=10))
    found = member_tier(conn, "acme", "m1")
    assert (found.tier, found.since) == ("nano", None)


@pytest.mark.parametrize(
    ("at", "tier", "since"), [(-1, "unknown", None), (0, "nano", 0), (9, "nano", 0), (10, "micro", 10), (99, "mid", 20)]
)
def test_a_tier_as_of_a_time_is_that_of_the_latest_change_by_then(conn, at, tier, since):
    applied(conn, model.profile("m1", "micro", 1, changes=CHANGES, tok=10, gram=2500))
    found = member_tier(conn, "acme", "m1", model.BASE + at)
    assert (found.tier, found.since) == (tier, None if since is None else iso(model.BASE + since))
    change = next((one for one in CHANGES if one[0] - model.BASE == since), [0, 0, "", None, None])
    assert (found.platform, found.followers) == (change[3], change[4])
    assert found.platforms == ({} if since is None else {change[3]: change[4]})
    assert member_tiers(conn, "acme", ["m1", "m2"], model.BASE + at) == {"m1": tier, "m2": "unknown"}
    now = member_tier(conn, "acme", "m1")
    assert (now.tier, now.since, now.followers) == ("micro", iso(model.BASE + 10), 2500)


def test_of_changes_at_one_instant_the_last_in_the_log_counts(conn):
    applied(conn, model.profile("m1", "mid", 1, changes=[[5, 0, "nano", "tok", 1], [5, 1, "mid", "tok", 2]], tok=2))
    assert member_tier(conn, "acme", "m1", 5).tier == "mid"


def test_a_newer_record_replaces_the_whole_history_and_an_older_one_does_not(conn):
    applied(conn, model.profile("m1", "micro", 5, changes=CHANGES, tok=10))
    applied(conn, model.profile("m1", "nano", 4, changes=CHANGES[:1], tok=10))
    assert member_tier(conn, "acme", "m1", model.BASE + 20).tier == "mid"
    applied(conn, model.profile("m1", "nano", 6, changes=[*CHANGES, [model.BASE + 30, 3, "nano", "tok", 1]], tok=1))
    assert [member_tier(conn, "acme", "m1", model.BASE + at).tier for at in (10, 29, 30)] == ["micro", "mid", "nano"]


def test_before_the_changes_that_are_kept_a_tier_is_refused_and_not_made_up(conn):
    kept = [[model.BASE + n, n + 1, ("nano", "mid")[n % 2], "tok", 5] for n in range(64)]
    applied(conn, model.profile("m1", "nano", 1, changes=kept, tok=5), model.profile("m2", "nano", 2, tok=5))
    assert member_tier(conn, "acme", "m1", model.BASE).tier == "nano"
    for member, says in (("m1", "those from 2026-03-01"), ("m2", "none, as an older release wrote it")):
        with pytest.raises(NotFound, match=says) as refused:
            member_tier(conn, "acme", member, model.BASE - 1)
        assert refused.value.code == "as_of_needs_rederive"


def test_tiers_of_many_members_come_at_once(conn):
    applied(conn, *(model.profile(f"m{n}", "micro", n, tok=1500) for n in range(1200)))
    found = member_tiers(conn, "acme", [f"m{n}" for n in range(1201)])
    assert list(found.values()) == ["micro"] * 1200 + ["unknown"]


def test_equal_scores_are_ordered_by_member(conn):
    applied(
        conn, *(model.pane("campaign_member", member=name, counters={"brand_post.like": 2}) for name in ("b", "a", "c"))
    )
    found = campaign_scores(conn, "acme", "spring", "interactions")
    assert found == [Score("a", 2), Score("b", 2), Score("c", 2)]


def test_an_unknown_metric_or_window_is_refused(conn):
    with pytest.raises(UnknownMetric, match="`points` is not scored from panes"):
        campaign_scores(conn, "acme", "spring", "points")
    with pytest.raises(UnknownWindow):
        engagement(conn, "acme", "2d", NOW)


def plans(conn, read):
    """How SQLite carries out what `read(conn)` asks it, a line for each table that it opens."""
    asked = []

    def note(_conn, _cursor, statement, parameters, _context, _many):
        asked.append((statement, parameters))

    event.listen(conn, "before_cursor_execute", note)
    try:
        read(conn)
    finally:
        event.remove(conn, "before_cursor_execute", note)
    lines = [row for one in asked for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {one[0]}", one[1]).all()]
    return [line[-1] for line in lines if line[-1].startswith(("SEARCH", "SCAN"))]


HELD = Bounds(model.BASE - 300_000, model.BASE + 25 * model.HOUR)
ONE_RANGE = "scope=? AND brand=? AND campaign=? AND "


@pytest.mark.parametrize(
    ("scope", "panes", "key"),
    [("brand", "engagement", "tier=? AND member=? AND starts_at>"), ("brand_tier", "tiers", "starts_at>")],
)
def test_a_window_of_a_group_is_ranges_of_panes_and_rollups(tmp_path, scope, panes, key):
    opened = open_database(f"sqlite:///{tmp_path}/plan.db")
    with opened.begin() as conn:
        create_tables(conn)
        found = plans(conn, lambda conn: group_totals(conn, scope, "acme", None, None, HELD))
    opened.dispose()
    rolled = f"SEARCH engagement_rollups USING PRIMARY KEY ({ONE_RANGE}length_ms=? AND starts_at>"
    expected = [f"SEARCH {panes} USING PRIMARY KEY ({ONE_RANGE}{key}", rolled, rolled]
    expected += [f"SCAN {panes} USING INDEX {panes}_apart", "SCAN apart"]
    assert [line.startswith(start) for line, start in zip(found, expected, strict=True)] == [True] * 5, found


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (
            lambda conn: posts(conn, "acme", "m1", "30d", NOW),
            [f"SEARCH engagement USING PRIMARY KEY ({ONE_RANGE}tier=? AND member=? AND starts_at>"] * 2,
        ),
        (
            lambda conn: member_engagement(conn, "acme", "m1", "30d", NOW),
            [f"SEARCH engagement USING PRIMARY KEY ({ONE_RANGE}tier=? AND member=? AND starts_at>"],
        ),
        (
            lambda conn: active_members(conn, "acme", None, None, HELD),
            [
                f"SEARCH engagement_active USING INDEX engagement_active_last ({ONE_RANGE}last_at>",
                f"SEARCH engagement USING PRIMARY KEY ({ONE_RANGE}tier=? AND member=? AND starts_at>",
            ],
        ),
    ],
    ids=["posts", "member", "active members"],
)
def test_a_window_of_members_is_one_range_of_a_key(tmp_path, read, expected):
    opened = open_database(f"sqlite:///{tmp_path}/plan.db")
    with opened.begin() as conn:
        create_tables(conn)
        found = plans(conn, read)
    opened.dispose()
    assert [line.startswith(start) for line, start in zip(found, expected, strict=True)] == [True] * len(expected), (
        found
    )
