"""A campaign's report and the search for ambassadors, against plain loops over what happened, on both databases."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import engagement_model as panes
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from aggregates.definitions import Brand, Campaign, content_of
from aggregates.events import (
    BrandDefined,
    CampaignDefined,
    Grant,
    InteractionRewarded,
    InteractionTakenBack,
    Origin,
    PrizeAwarded,
    PurchaseRecorded,
    ReferralJudged,
    RefundRecorded,
    Refusal,
    Reversal,
    StoredEvent,
)
from aggregates.ledger import Recorded
from aggregates.parsing import parse
from projections import engagement, referrals
from projections.answers.reports import CampaignReport
from projections.engagement.tables import create_tables
from projections.queries.ambassadors import Candidate, Sales, ambassadors, median_rates, places, ranked, rate_of
from projections.queries.reports import campaign_report, day_of
from projections.rates import Window, rounded
from projections.registry import LEDGER
from projections.upkeep.runner import Runner, prepare

HOUR, DAY, MINUTES_5 = 3_600_000, 86_400_000, 300_000
START = 1_774_137_600_000  # 2026-03-22: the clocks of Paris go forward on the 29th
FOLLOWERS = {"ann": 500, "bob": 800, "cat": 5_000, "dan": 0}
TIERS = {"ann": "nano", "bob": "nano", "cat": "micro", "dan": "unknown"}

KINDS = (
    *("like", "like", "like", "reach", "post", "order", "refund", "early", "again"),
    *("referral", "back", "paid", "taken", "prize"),
)


class Happening(NamedTuple):
    """One thing that counts for the campaign: on whose account, when, what, and how much."""

    member: str
    at: int
    what: str
    amount: int


def defined(zone: str) -> tuple[Brand, Campaign]:
    brand = parse({"brand": "acme", "timezone": zone, "currency": "EUR", "tiers": {"nano": 0, "micro": 1000}}, "brand")
    campaign = {"campaign": "spring", "brand": "acme", "budget": 5_000, "earn": []}
    times = {"starts_at": "2026-03-20T00:00:00Z", "ends_at": "2026-05-01T00:00:00Z"}
    found = parse({**campaign, **times}, "campaign")
    assert isinstance(brand, Brand)
    assert isinstance(found, Campaign)
    return brand, found


def world(seed: int) -> list[Happening]:
    chance = random.Random(seed)
    return [
        Happening(
            chance.choice(list(FOLLOWERS)),
            START + chance.randrange(12 * DAY),
            chance.choice(KINDS),
            chance.randint(1, 90),
        )
        for _ in range(250)
    ]


def counters(one: Happening) -> dict[str, int]:
    if one.what == "like":
        followers = FOLLOWERS[one.member]
        rated = {"rate_ppb": one.amount * (10**9 // followers)} if followers else {"unrated": one.amount}
        return {"member_post.like": one.amount, **rated}
    return {f"member_post.{one.what}": one.amount if one.what == "reach" else 1}


def pane_records(happened: list[Happening]) -> list[dict[str, Any]]:
    """What the worker would have written: summed by scope, member or tier, and stretch."""
    summed: dict[tuple[str, str, str, int], dict[str, int]] = {}
    for one in happened:
        if one.what in ("like", "reach", "post"):
            short, long = one.at - one.at % MINUTES_5, one.at - one.at % HOUR
            for key in (
                ("campaign", "", "", short),
                ("campaign_tier", TIERS[one.member], "", short),
                ("campaign_member", "", one.member, long),
                ("member", "", one.member, long),
            ):
                of = summed.setdefault(key, {})
                for name, value in counters(one).items():
                    of[name] = of.get(name, 0) + value
    return [
        panes.pane(scope, at, 1, found, tier=tier, member=member) for (scope, tier, member, at), found in summed.items()
    ]


def ledger_events(happened: list[Happening]) -> list[tuple[str, StoredEvent]]:
    events: list[tuple[str, StoredEvent]] = []
    for n, one in enumerate(happened):
        origin = Origin("members.activity.v1", 0, n, f"e{n}", one.at, one.at)
        grant = Grant(f"g{n}", "spring", 1, "r", one.amount, one.amount, "unit", 1, 0, 1000, one.at)
        order = PurchaseRecorded(origin, f"o{n}", one.amount, "EUR", "nano", ("spring", "other"))
        event: StoredEvent
        match one.what:
            case "order":
                event = order
            case "early":  # its refund of 7 came before it
                event = PurchaseRecorded(origin, f"o{n}", one.amount, "EUR", "nano", ("spring",), refunded_minor=7)
            case "again":  # an order that was recorded before
                again = (Refusal("", 0, "", "duplicate_order"),)
                event = PurchaseRecorded(origin, "o0", one.amount, "EUR", "nano", ("spring",), refusals=again)
            case "refund":
                event = RefundRecorded(origin, one.amount, "EUR", "o0", True, ("spring",))
            case "referral":
                event = ReferralJudged(origin, "completed", f"o{n}", "eve", one.amount, "nano", ("spring",))
            case "back":
                event = ReferralJudged(origin, "refunded", "o0", "eve", one.amount, "nano", ("spring",))
            case "paid":
                event = InteractionRewarded(origin, "share", "brand_post", "x", 1, "nano", grants=(grant,))
            case "taken":
                back = Reversal(f"b{n}", "g0", "spring", 1, "r", one.amount, debt=one.amount)
                event = InteractionTakenBack(origin, "share", "brand_post", "x", -1, reversals=(back,))
            case "prize":
                event = PrizeAwarded(origin, f"p{n}", "spring", 1, 1, one.amount, one.at)
            case _:
                continue
        events.append((f"account:acme/{one.member}", event))
    return events


def filled(engine: Engine, brand: Brand, campaign: Campaign, happened: list[Happening]) -> None:
    prepare(engine, LEDGER)
    programs: list[tuple[str, StoredEvent]] = [
        ("brand:acme", BrandDefined("acme", 1, 0, content_of(brand), START)),
        ("campaign:acme/spring", CampaignDefined("acme", "spring", 1, START, content_of(campaign), START)),
    ]
    recorded = [Recorded(n, who, event) for n, (who, event) in enumerate([*programs, *ledger_events(happened)], 1)]
    Runner(engine, lambda after, limit: [one for one in recorded if one.id > after][:limit], LEDGER).catch_up()
    profiles = [panes.profile(m, TIERS[m], 1, x=followers) for m, followers in FOLLOWERS.items() if followers]
    with engine.begin() as conn:
        create_tables(conn)
        records = pane_records(happened)
        engagement.apply(conn, "t", 0, 0, len(records), records)
        engagement.apply(conn, "t", 0, len(records), len(records) + len(profiles), profiles)


def expected(happened: list[Happening]) -> dict[str, Any]:
    """The bottom line, by plain sums."""

    def total(*kinds: str) -> int:
        return sum(one.amount for one in happened if one.what in kinds)

    def count(*kinds: str) -> int:
        return sum(one.what in kinds for one in happened)

    likes_of = [one for one in happened if one.what == "like" and FOLLOWERS[one.member]]
    rated = sum(Fraction(one.amount * (10**9 // FOLLOWERS[one.member]), 10**9) for one in likes_of)
    reach, posts, likes = total("reach"), count("post"), total("like")
    revenue, refunds = total("order", "early"), total("refund") + 7 * count("early")
    return {
        "members": len({one.member for one in happened if one.what in ("like", "reach", "post")}),
        "posts": posts,
        "reach": reach,
        "engagements": likes,
        "rate_by_followers": rounded(rated / posts) if posts else None,
        "rate_by_reach": rounded(Fraction(likes, reach)) if reach else None,
        "orders": count("order", "early"),
        "revenue_minor": revenue,
        "refunds": count("refund", "early"),
        "refunds_minor": refunds,
        "net_revenue_minor": revenue - refunds,
        "referrals": count("referral"),
        "referred_revenue_minor": total("referral") - total("back"),
        "points_paid": total("paid"),
        "points_reversed": total("taken"),
        "points_net": total("paid") - total("taken"),
        "prize_points": total("prize"),
    }


@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris", "Asia/Kolkata"])
def test_a_report_is_what_plain_sums_say_in_all_by_tier_and_by_day(zone: str, fresh: Callable[[], Engine]) -> None:
    brand, campaign = defined(zone)
    happened = world(len(zone))
    engine = fresh()
    filled(engine, brand, campaign, happened)
    cut = START + 8 * DAY + 7 * HOUR  # a whole hour, so that members are cut there too
    with engine.connect() as conn:
        for as_of in (None, cut + 4_321, cut):
            kept = [one for one in happened if as_of is None or one.at < cut]
            check(campaign_report(conn, brand, campaign, as_of, {0: 9}), kept, zone)


def check(found: CampaignReport, kept: list[Happening], zone: str) -> None:
    assert found.total.model_dump() == expected(kept)
    for tier in found.tiers:
        said = expected([one for one in kept if TIERS[one.member] == tier.tier])
        assert tier.model_dump() == {"tier": tier.tier} | {
            name: said[name] for name in tier.model_dump() if name != "tier"
        }
    assert {tier.tier for tier in found.tiers} == {"nano", "micro", "unknown"}
    by_day: dict[str, list[Happening]] = {}
    for one in kept:
        if one.what != "again":
            by_day.setdefault(local(one.at, zone), []).append(one)
    assert [day.day for day in found.days] == sorted(by_day)
    for day in found.days:
        # members are counted by whole hours: in Kolkata, midnight is in the middle of one
        said = expected(by_day[day.day]) | ({"members": day.members} if zone == "Asia/Kolkata" else {})
        assert day.model_dump() == {"day": day.day, **said}
    paid = found.total.points_paid
    assert (found.budget.points, found.budget.used, found.budget.left) == (5_000, paid, 5_000 - paid)
    assert (found.position, found.timezone, found.currency) == ("0:9", zone, "EUR")


def local(at: int, zone: str) -> str:
    return f"{datetime.fromtimestamp(at / 1000, UTC).astimezone(ZoneInfo(zone)):%Y-%m-%d}"


def test_a_campaign_of_which_nothing_is_known_has_zeros_and_no_rates(fresh: Callable[[], Engine]) -> None:
    brand, campaign = defined("UTC")
    engine = fresh()
    filled(engine, brand, campaign, [])
    with engine.connect() as conn:
        found = campaign_report(conn, brand, campaign, None, {})
    assert found.total.model_dump() == expected([])
    assert (found.total.rate_by_followers, found.days, found.budget.used) == (None, (), 0)


def test_a_day_whose_activity_comes_to_nothing_is_there_with_its_members(fresh: Callable[[], Engine]) -> None:
    brand, campaign = defined("UTC")
    engine, midnight = fresh(), START - START % DAY + DAY
    filled(engine, brand, campaign, [Happening("ann", midnight, "like", n) for n in (3, -3)])
    with engine.connect() as conn:
        [day] = campaign_report(conn, brand, campaign, None, {}).days
    assert (day.day, day.members, day.engagements) == (local(midnight, "UTC"), 1, 0)


def test_a_day_is_as_long_as_the_clocks_make_it() -> None:
    paris = ZoneInfo("Europe/Paris")
    lengths = {
        name: (day.end - day.start) // HOUR
        for name in ("2026-03-28", "2026-03-29", "2026-10-25")
        for day in [day_of(datetime.fromisoformat(name).date(), paris)]
    }
    assert lengths == {"2026-03-28": 24, "2026-03-29": 23, "2026-10-25": 25}


# Ambassadors


def candidate(number: int, tier: str, rate: int | None, sales: int) -> Candidate:
    exact = None if rate is None else Fraction(rate, 7)
    return Candidate(f"m{number}", tier, None, {}, exact, Sales(max(0, sales), 100 * sales))


candidates = st.lists(
    st.tuples(st.sampled_from(["nano", "micro"]), st.none() | st.integers(0, 4), st.integers(-1, 3)), max_size=9
).map(lambda drawn: [candidate(n, *one) for n, one in enumerate(drawn)])


@given(candidates)
def test_the_rank_is_by_the_sum_of_both_places_and_a_missing_one_is_the_last(found: list[Candidate]) -> None:
    def place(member: Candidate, of: Callable[[Candidate], Any]) -> int | None:
        mine = of(member)
        return None if mine is None else 1 + sum(of(other) is not None and of(other) > mine for other in found)

    def sold(one: Candidate) -> int | None:
        return one.sales.revenue_minor if one.sales.revenue_minor > 0 else None

    said = ranked(found)
    assert {one.candidate.member for one in said} == {one.member for one in found}
    for one in said:
        assert one.rate_place == place(one.candidate, lambda other: other.rate)
        assert one.sales_place == place(one.candidate, sold)
        assert one.places == sum(len(found) if at is None else at for at in (one.rate_place, one.sales_place))
        assert one.rank == 1 + sum(other.places < one.places for other in said)
    assert said == ranked(reversed(found))
    assert [one.places for one in said] == sorted(one.places for one in said)


@given(candidates)
def test_a_median_is_some_members_rate_with_half_of_them_on_either_side(found: list[Candidate]) -> None:
    for tier, median in median_rates(found).items():
        of_tier = [one.rate for one in found if one.tier == tier and one.rate is not None]
        assert median in of_tier
        assert 2 * sum(rate < median for rate in of_tier) < len(of_tier)
        assert 2 * sum(rate > median for rate in of_tier) <= len(of_tier)


def test_equal_scores_share_a_place() -> None:
    assert places({"a": 5, "b": 9, "c": 5, "d": 1}) == {"b": 1, "a": 2, "c": 2, "d": 4}


@pytest.mark.parametrize(
    ("counted", "min_posts", "rate"),
    [
        ({"member_post.post": 2, "rate_ppb": 10**9}, 1, Fraction(1, 2)),
        ({"member_post.post": 2, "rate_ppb": 10**9}, 3, None),
        ({"member_post.post": 1}, 1, None),
        ({"member_post.post": 1, "member_post.like": 4, "rate_ppb": 0}, 1, Fraction(0)),
        ({"member_post.post": 1, "member_post.like": 4, "unrated": 4}, 1, None),
        ({"rate_ppb": 10**9}, 1, None),
        ({}, 1, None),
    ],
)
def test_a_rate_that_cannot_be_known_is_none_and_never_zero(
    counted: dict[str, int], min_posts: int, rate: Fraction | None
) -> None:
    assert rate_of(counted, min_posts) == rate


def test_whom_to_ask_comes_with_the_reasons(fresh: Callable[[], Engine]) -> None:
    brand, campaign = defined("UTC")
    happened = [
        *(Happening("ann", START, "post", 1), Happening("ann", START, "like", 50)),
        *(Happening("bob", START, "post", 1), Happening("bob", START, "like", 8)),
        *(Happening("cat", START, "post", 1), Happening("cat", START + HOUR, "referral", 900)),
        *(Happening("dan", START, "referral", 400), Happening("dan", START, "back", 100)),
        Happening("eve", START, "back", 100),
    ]
    engine = fresh()
    filled(engine, brand, campaign, happened)
    with engine.connect() as conn:

        def ask(tier: str | None = None, limit: int = 9, as_of: int | None = None, min_posts: int = 1) -> Any:
            return ambassadors(conn, brand, Window.ALL, 0, as_of, tier, limit, min_posts, {})

        found = ask()
        assert [(one.member_id, one.rank, one.places) for one in found.members] == [
            *(("cat", 1, 5), ("ann", 1, 5), ("dan", 3, 6), ("bob", 3, 6)),
        ]
        cat, ann, dan, bob = found.members
        assert (ann.rate_by_followers, ann.rate_place) == (rounded(Fraction(1, 10)), 1)
        assert (ann.tier_median_rate, ann.rate_to_median) == (rounded(Fraction(1, 100)), rounded(Fraction(10)))
        assert (ann.sales_place, ann.followers) == (None, 500)
        assert ann.reasons == (
            "rate 10.000 %, place 1: 10.0 times the median of tier nano (1.000 %)",
            "no sales by referral",
            "posts: 1, followers: 500, tier nano",
        )
        assert (cat.referred_orders, cat.referred_revenue_minor, cat.sales_place) == (1, 900, 1)
        assert cat.rate_to_median is None
        assert cat.reasons[1] == "referred orders: 1, worth 900 minor units of EUR less refunds, place 1"
        assert (dan.referred_revenue_minor, dan.followers) == (300, None)
        assert (dan.rate_by_followers, dan.rate_by_reach) == (None, None)
        assert (dan.tier_median_rate, bob.posts) == (None, 1)
        assert [one.member_id for one in ask(tier="nano").members] == ["ann", "bob"]
        assert (ask(limit=1).candidates, len(ask(limit=1).members)) == (4, 1)
        earlier = {one.member_id: one.referred_revenue_minor for one in ask(as_of=START + HOUR).members}
        assert earlier == {"ann": 0, "bob": 0, "dan": 300}
        assert [one.member_id for one in ask(min_posts=2).members] == ["cat", "dan"]


@pytest.mark.parametrize("kind", ["completed", "refunded"])
def test_a_friends_order_that_names_a_campaign_that_is_not_live_is_nobodys_sale(kind: str) -> None:
    def judged(reason: str) -> Recorded:
        origin = Origin("members.activity.v1", 0, 1, "due", START, START)
        refusals = (Refusal("spring", 0, "", reason),)
        event = ReferralJudged(origin, kind, "o1", "bob", 900, "nano", refusals=refusals)
        return Recorded(1, "account:acme/ann", event)

    assert not list(referrals.fold([judged("not_live")])["referrals"])
    assert len(list(referrals.fold([judged("existing_customer")])["referrals"])) == 1
