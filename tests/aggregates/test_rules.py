"""What one rule pays: entitlement, caps in the brand's time, budget, hold and expiry."""

from __future__ import annotations

from datetime import date, datetime
from fractions import Fraction
from itertools import combinations
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregates.activity import Activity
from aggregates.definitions import CAPS, DAY_MS, Brand, Campaign
from aggregates.events import Grant, Refusal
from aggregates.programs import parse
from aggregates.refusals import Refusal as Reason
from aggregates.rules import entitlement, entry_id, expires_at, judge, matches, matching


def at(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * 1000


NOON = at("2026-03-05T12:00:00")


def brand(**changes: Any) -> Brand:
    found = parse({"brand": "acme", "currency": "EUR", **changes}, "test")
    assert isinstance(found, Brand)
    return found


def campaign(**rule: Any) -> Campaign:
    earn = [{"rule": "r", "on": "interaction", "points": 10, **rule}]
    found = parse({"campaign": "spring", "brand": "acme", "starts_at": 0, "ends_at": 5 * 10**12, "earn": earn}, "test")
    assert isinstance(found, Campaign)
    return found


def activity(record_type: str = "Interaction", tier: str = "nano", of: Brand | None = None, **value: Any) -> Activity:
    fields = {"event_id": "e", "occurred_at": NOON, "kind": "like", "surface": "brand_post", "platform": "x"}
    return Activity(
        record_type,
        0,
        {**fields, "post_id": "p", "quantity": 1, **value},
        of or brand(),
        (),
        False,
        (),
        tier,
        None,
        False,
    )


def paid(
    amount: int, used: dict[str, int] | None = None, left: int | None = None, seen: Activity | None = None, **rule: Any
) -> Grant | Refusal:
    found = campaign(**rule)
    grant, refusal = judge(seen or activity(), found, found.earn[0], amount, "entry", used or {}, left)
    assert (grant is None) != (refusal is None)
    return grant or refusal  # type: ignore[return-value]


def granted(*args: Any, **rule: Any) -> Grant:
    found = paid(*args, **rule)
    assert isinstance(found, Grant)
    return found


def reason(*args: Any, **rule: Any) -> str:
    found = paid(*args, **rule)
    assert isinstance(found, Refusal)
    return found.reason


@given(
    st.sampled_from(["unit", "money", "flat"]),
    *(st.integers(1, 10**6), st.integers(1, 10**4), st.integers(0, 10**5), st.integers(-(10**9), 10**12)),
)
def test_entitlement_is_the_exact_product_floored_once_up_to_the_most_one_event_can_pay(
    basis: str, rate: int, per: int, milli: int, n: int
):
    units = 0 if n <= 0 else {"unit": n, "money": n // per, "flat": 1}[basis]
    exact = units * rate * Fraction(milli, 1000)
    assert entitlement(basis, rate, per, milli, n) == min(exact.numerator // exact.denominator, 10**12)


def test_money_is_floored_to_whole_units_before_the_multiplier():
    assert entitlement("money", 1, 100, 1500, 399) == 4
    assert entitlement("money", 1, 100, 1000, 99) == 0


def test_a_tier_without_a_multiplier_has_one():
    assert granted(2, tier_multiplier={"nano": 1.5}).points == 30
    assert granted(2, seen=activity(tier="unknown"), tier_multiplier={"nano": 1.5}).points == 20


@pytest.mark.parametrize(
    ("rule", "value", "fits"),
    [
        ({}, {}, True),
        ({"kind": ["share", "like"]}, {}, True),
        ({"kind": ["share"]}, {}, False),
        ({"surface": "brand_post"}, {}, True),
        ({"surface": ["member_post"]}, {}, False),
        ({"platform": ["x"]}, {}, True),
        ({"platform": ["y"]}, {}, False),
        ({"on": "purchase"}, {}, False),
    ],
)
def test_a_rule_is_about_an_interaction_that_passes_all_its_filters(
    rule: dict[str, Any], value: dict[str, Any], fits: bool
):
    assert matches(campaign(**rule).earn[0], activity(**value)) is fits


@pytest.mark.parametrize(("on", "record"), [("purchase", "Purchase"), ("referral", "ReferralDue")])
def test_money_rules_are_about_their_own_record_type(on: str, record: str):
    rule = campaign(on=on).earn[0]
    fitting = [t for t in ("Interaction", "Purchase", "ReferralDue", "Command") if matches(rule, activity(t))]
    assert fitting == [record]


def test_the_kept_matches_are_what_every_rule_says_and_do_not_grow_for_ever():
    earn = [
        {"rule": "x", "on": "interaction", "points": 1, "platform": ["x"]},
        {"rule": "like", "on": "interaction", "points": 1, "kind": ["like"], "surface": ["brand_post"]},
        {"rule": "spend", "on": "purchase", "points": 1},
        {"rule": "friend", "on": "referral", "points": 1},
    ]
    found = parse({"campaign": "c", "brand": "acme", "starts_at": 0, "ends_at": 5, "earn": earn}, "test")
    assert isinstance(found, Campaign)
    records = [activity(kind) for kind in ("Purchase", "ReferralDue", "Command")]
    records += [
        activity(kind=kind, surface=surface, platform=f"{n}" if n else "x")
        for n in range(300)
        for kind in ("like", "share")
        for surface in ("brand_post", "member_post")
    ]
    for record in (*records, *records):
        assert matching(found, record) == tuple(rule for rule in found.earn if matches(rule, record))
    assert len(found.matching) < len(records)
    assert found == parse({"campaign": "c", "brand": "acme", "starts_at": 0, "ends_at": 5, "earn": earn}, "test")


def test_a_grant_says_how_it_was_worked_out():
    grant = granted(3, tier_multiplier={"nano": 2}, caps={"per_day": 50}, hold="1d")
    assert (grant.points, grant.entitled, grant.limited_by) == (50, 60, "per_day")
    assert (grant.basis, grant.rate, grant.per, grant.multiplier_milli) == ("unit", 10, 0, 2000)
    assert (grant.active_at, grant.counters) == (NOON + DAY_MS, ("spring/r/day:2026-03-05",))


@pytest.mark.parametrize("cap", ["per_post", "per_day", "per_week", "per_month", "total"])
def test_a_cap_truncates_to_its_room_and_then_refuses(cap: str):
    first = granted(4, caps={cap: 25})
    assert (first.points, first.limited_by) == (25, cap)
    (counter,) = first.counters
    assert granted(1, {counter: 20}, caps={cap: 25}).points == 5
    assert reason(1, {counter: 25}, caps={cap: 25}) == cap
    assert reason(1, {counter: 99}, caps={cap: 25}) == cap


def test_the_cap_with_the_least_room_is_the_one_named():
    grant = granted(9, caps={"per_day": 50, "total": 30, "per_post": 80})
    assert (grant.points, grant.limited_by, len(grant.counters)) == (30, "total", 3)


def test_an_event_above_per_event_is_rejected_and_not_truncated():
    assert granted(2, caps={"per_event": 20}).points == 20
    assert reason(3, caps={"per_event": 20}) == "per_event"


def test_a_budget_truncates_to_what_is_left_and_then_refuses():
    assert granted(2, None, 20).limited_by == ""
    grant = granted(2, None, 7)
    assert (grant.points, grant.entitled, grant.limited_by) == (7, 20, "budget")
    assert reason(2, None, 0) == "budget"
    assert reason(2, None, -5) == "budget"


def test_a_first_time_rule_pays_one_unit_once_whatever_the_version_of_the_campaign():
    grant = granted(5, first_time=True, caps={"total": 99})
    assert (grant.points, grant.entitled, grant.counters) == (10, 10, ("spring/r/first", "spring/r/total"))
    assert reason(5, {"spring/r/first": 10}, first_time=True) == "not_the_first"
    referral = activity("ReferralDue")
    assert granted(900, seen=referral, on="referral", per_minor=100, first_time=True).points == 90
    assert reason(900, {"spring/r/first": 90}, seen=referral, on="referral", first_time=True) == "not_the_first"


@pytest.mark.parametrize(
    ("first", "other"),
    list(
        combinations(
            ("not_the_first", "per_event", "per_post", "per_day", "per_week", "per_month", "total", "budget"), 2
        )
    ),
)
def test_of_two_reasons_the_one_that_stands_first_in_the_table_is_given(first: str, other: str):
    order = [one.value for one in Reason]
    assert order.index(first) < order.index(other)
    rule: dict[str, Any] = {"caps": {cap: 5 for cap in (first, other) if cap in CAPS}}
    if first == "not_the_first":
        rule["first_time"] = True
    used = {f"spring/r/{period}": 5 for period in ("post:x/p", "day:2026-03-05", "week:2026-W10", "month:2026-03")}
    used |= {"spring/r/total": 5, "spring/r/first": 5}
    assert reason(1, used, 0 if other == "budget" else None, **rule) == first


def test_what_comes_to_less_than_a_point_is_said_to_be_so():
    assert reason(1, points=1, tier_multiplier={"nano": 0.5}) == "nothing_due"
    assert reason(0, on="purchase", seen=activity("Purchase")) == "nothing_due"


def test_caps_count_days_weeks_and_months_in_the_brands_timezone():
    tokyo = brand(timezone="Asia/Tokyo")
    caps = {"per_day": 99, "per_week": 99, "per_month": 99}
    late = granted(1, seen=activity(of=tokyo, occurred_at=at("2026-02-28T14:59:59")), caps=caps)
    early = granted(1, seen=activity(of=tokyo, occurred_at=at("2026-02-28T15:00:00")), caps=caps)
    assert late.counters == ("spring/r/day:2026-02-28", "spring/r/week:2026-W09", "spring/r/month:2026-02")
    assert early.counters == ("spring/r/day:2026-03-01", "spring/r/week:2026-W09", "spring/r/month:2026-03")


def test_a_campaigns_counters_are_those_of_the_rule_and_the_local_day_whatever_was_asked_before():
    earn = [
        {"rule": rule, "on": "interaction", "points": 1, "caps": {"per_day": limit, "total": 99}}
        for rule, limit in (("r", 5), ("s", 7))
    ]
    found = parse({"campaign": "c", "brand": "acme", "starts_at": 0, "ends_at": 5 * 10**12, "earn": earn}, "test")
    evening = at("2026-03-05T23:00:00")
    asked = [
        (rule, zone, moment) for rule in found.earn for zone in ("UTC", "Asia/Tokyo") for moment in (NOON, evening)
    ]
    for rule, zone, moment in (*asked, *reversed(asked)):
        grant, _ = judge(activity(of=brand(timezone=zone), occurred_at=moment), found, rule, 9, "entry", {}, None)
        day = "2026-03-06" if (zone, moment) == ("Asia/Tokyo", evening) else "2026-03-05"
        assert grant.counters == (f"c/{rule.name}/day:{day}", f"c/{rule.name}/total")
        assert grant.points == (5 if rule.name == "r" else 7)
    assert found == parse(
        {"campaign": "c", "brand": "acme", "starts_at": 0, "ends_at": 5 * 10**12, "earn": earn}, "test"
    )


def test_a_week_is_the_iso_week_also_across_new_year():
    grant = granted(1, seen=activity(occurred_at=at("2027-01-01T00:00:00")), caps={"per_week": 99})
    assert grant.counters == ("spring/r/week:2026-W53",)


def test_posts_of_two_platforms_have_their_own_cap_and_nameless_ones_share_one():
    caps = {"per_post": 99}
    counters = [
        granted(1, seen=activity(platform=platform, post_id=post), caps=caps).counters[0]
        for platform, post in (("x", "p"), ("y", "p"), ("x", None), ("x", None))
    ]
    assert counters == ["spring/r/post:x/p", "spring/r/post:y/p", "spring/r/post:x/", "spring/r/post:x/"]


def test_points_expire_at_a_local_midnight_counted_from_the_end_of_the_hold():
    paris = brand(timezone="Europe/Paris", points={"expire_after": "30d"})
    grant = granted(1, seen=activity(of=paris, occurred_at=at("2026-03-05T23:30:00")), hold="1d")
    assert grant.expires_at == at("2026-04-06T00:00:00", "Europe/Paris")  # the hold ends on the 7th, in Paris
    assert expires_at(NOON, brand()) is None


@pytest.mark.parametrize(
    ("earned", "after", "expires"),
    [
        ("2026-01-31", "1mo", "2026-02-28"),
        ("2028-01-31", "1mo", "2028-02-29"),
        ("2026-08-31", "6mo", "2027-02-28"),
        ("2026-03-31", "3mo", "2026-06-30"),
        ("2028-02-29", "1y", "2029-02-28"),
        ("2028-02-29", "4y", "2032-02-29"),
        ("2026-12-15", "1mo", "2027-01-15"),
        ("2026-11-30", "13mo", "2027-12-30"),
        ("2026-02-28", "1mo", "2026-03-28"),
    ],
)
def test_months_are_counted_on_the_calendar_and_clamped_to_the_months_end(earned: str, after: str, expires: str):
    paris = brand(timezone="Europe/Paris", points={"expire_after": after})
    for clock in ("00:00:00", "12:34:56", "23:59:59"):
        active = at(f"{earned}T{clock}", "Europe/Paris")
        assert expires_at(active, paris) == at(f"{expires}T00:00:00", "Europe/Paris")


ZONES = [
    "UTC", "Europe/Paris", "America/New_York", "America/Sao_Paulo", "America/Havana", "Asia/Beirut", "Africa/Cairo",
    "Australia/Lord_Howe", "Pacific/Apia", "America/St_Johns", "Asia/Kathmandu",
]  # fmt: skip
"""Clocks that change at midnight, by half an hour, over a whole day, or never."""


@given(st.sampled_from(ZONES), st.integers(0, 2 * 10**12), st.integers(1, 500), st.sampled_from(["d", "mo"]))
def test_points_expire_at_the_first_instant_of_a_local_day_whatever_the_clock_does(
    zone: str, active: int, count: int, unit: str
):
    expiry = expires_at(active, brand(timezone=zone, points={"expire_after": f"{count}{unit}"}))
    assert expiry is not None
    day = datetime.fromtimestamp(active // 1000, ZoneInfo(zone)).date()
    if unit == "d":
        due = date.fromordinal(day.toordinal() + count)
    else:
        last = date(day.year + (day.month + count) // 12, (day.month + count) % 12 + 1, 1).toordinal() - 1
        due = min(date.fromordinal(last).replace(day=1).toordinal() + day.day - 1, last)
        due = date.fromordinal(due)
    seconds = expiry // 1000
    assert datetime.fromtimestamp(seconds, ZoneInfo(zone)).date() >= due
    assert datetime.fromtimestamp(seconds - 1, ZoneInfo(zone)).date() < due


@pytest.mark.parametrize(
    ("zone", "earned", "days", "hours"),
    [
        ("Europe/Paris", "2026-03-28", 2, 47),
        ("Europe/Paris", "2026-10-24", 2, 49),
        ("America/New_York", "2026-03-07", 2, 47),
        ("Australia/Lord_Howe", "2026-04-04", 2, 48.5),
        ("Asia/Kolkata", "2026-03-28", 2, 48),
        ("Pacific/Apia", "2011-12-29", 2, 24),
    ],
)
def test_a_day_of_an_expiry_is_as_long_as_the_brands_clock_makes_it(zone: str, earned: str, days: int, hours: float):
    of = brand(timezone=zone, points={"expire_after": f"{days}d"})
    midnight = at(f"{earned}T00:00:00", zone)
    assert expires_at(midnight, of) == midnight + hours * 3_600_000


def test_a_hold_counts_hours_and_not_days_of_the_calendar():
    paris = brand(timezone="Europe/Paris")
    noon = at("2026-03-28T12:00:00", "Europe/Paris")
    grant = granted(1, seen=activity(of=paris, occurred_at=noon), hold="1d")
    assert grant.active_at == at("2026-03-29T13:00:00", "Europe/Paris")


def test_a_day_that_has_no_midnight_starts_when_its_clock_does():
    sao_paulo = brand(timezone="America/Sao_Paulo", points={"expire_after": "1d"})
    before = at("2018-11-03T12:00:00", "America/Sao_Paulo")
    assert expires_at(before, sao_paulo) == at("2018-11-04T01:00:00", "America/Sao_Paulo")


def test_an_entry_id_depends_on_what_caused_it_and_on_nothing_else():
    assert entry_id("Purchase", "e", "spring", "r") == entry_id("Purchase", "e", "spring", "r")
    ids = {entry_id("Purchase", "e", "c", "r"), entry_id("Purchase", "ec", "", "r"), entry_id("Purchase", "e", "cr")}
    assert len(ids) == 3
    assert all(len(i) == 16 and int(i, 16) >= 0 for i in ids)
