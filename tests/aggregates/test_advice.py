"""What is said before a definition is applied: each sentence where it is true, and only there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregates import advice
from aggregates.definitions import Brand, Campaign
from aggregates.parsing import parse
from aggregates.rules import judge

MARCH = 1_772_323_200_000
"""2026-03-01T00:00:00Z."""
DAY = 86_400_000
SHARE = {"rule": "share", "on": "interaction", "kind": ["share"], "points": 10}


def brand(**changes: Any) -> Brand:
    made = parse({"brand": "acme", "currency": "EUR", "tiers": {"nano": 0, "micro": 1000}} | changes, "test")
    assert isinstance(made, Brand)
    return made


def campaign(**changes: Any) -> Campaign:
    document = {"campaign": "spring", "brand": "acme", "starts_at": MARCH, "ends_at": MARCH + 31 * DAY, "earn": [SHARE]}
    made = parse(document | changes, "test")
    assert isinstance(made, Campaign)
    return made


def warnings(made: Campaign, *others: Campaign, now: int = MARCH - DAY) -> list[str]:
    return list(advice.campaign_warnings(brand(), made, others, now))


def rule(**changes: Any) -> dict[str, Any]:
    return SHARE | changes


def test_an_ordinary_campaign_gets_no_warning() -> None:
    assert warnings(campaign(prizes={1: 500, 2: 300}, budget=1000)) == []
    assert list(advice.campaign_notes(campaign(), [])) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"earn": []}, "no earning rule"),
        ({"earn": [], "prizes": {1: 5}}, "nobody is in its standings"),
        ({"budget": 0}, "budget is 0"),
        ({"budget": 0, "prizes": {1: 5}}, "nobody is in its standings"),
        ({"earn": [rule(caps={"per_day": 0})]}, "per_day is 0, so it never pays"),
        ({"earn": [rule(caps={"per_event": 9})]}, "worth 10 points, and per_event rejects all above 9"),
        ({"earn": [rule(tier_multiplier={"nano": 0, "micro": 0, "unknown": 0})]}, "0 for every tier"),
        ({"earn": [rule(caps={"per_day": 60, "per_week": 50})]}, "per_day 60 never limits, per_week allows 50"),
        ({"earn": [rule(caps={"per_post": 60, "total": 50})]}, "per_post 60 never limits"),
        ({"prizes": {1: 50, 3: 20}}, "rank 2 has no prize"),
        ({"version": 2, "effective_at": MARCH + 31 * DAY}, "never judges anything"),
    ],
)
def test_what_is_seldom_meant_is_said(changes: dict[str, Any], said: str) -> None:
    assert any(said in sentence for sentence in warnings(campaign(**changes))), warnings(campaign(**changes))


def test_a_campaign_that_is_over_and_a_version_from_the_past_are_said() -> None:
    assert "it ended at 2026-04-01T00:00:00Z" in warnings(campaign(), now=MARCH + 40 * DAY)[0]
    second = campaign(version=2, effective_at=MARCH + DAY)
    assert "takes effect in the past" in warnings(second, campaign(), now=MARCH + 2 * DAY)[0]
    assert warnings(second, campaign(), now=MARCH) == []


def test_a_version_says_what_it_supersedes_and_what_supersedes_it() -> None:
    first, third = campaign(), campaign(version=3, effective_at=MARCH + 9 * DAY)
    second = campaign(version=2, effective_at=MARCH + 5 * DAY, budget=10, prizes={1: 7})
    assert list(advice.campaign_notes(second, [first, third])) == [
        "it supersedes version 1 for what occurs from 2026-03-06T00:00:00Z on",
        "version 3 supersedes it from 2026-03-10T00:00:00Z on",
        "prizes come on top of the budget of 10: 7 points, more where ranks are shared",
    ]
    again = campaign(version=2, effective_at=MARCH)
    assert "and this one counts" in next(advice.campaign_notes(again, [first]))
    assert "draft" in next(advice.campaign_notes(campaign(draft=True), [first]))


def test_a_brands_new_version_says_what_it_breaks() -> None:
    new = brand(version=2, effective_at=MARCH, currency="USD", tiers={"small": 0, "large": 5})
    multiplying = campaign(earn=[rule(tier_multiplier={"micro": 2})])
    said = list(advice.brand_warnings(new, [brand()], [multiplying]))
    assert "purchases in EUR that occur from 2026-03-01T00:00:00Z on are dead letters" in said[0]
    assert "multiplies for micro" in said[1]
    assert len(said) == 2
    before = campaign(starts_at=MARCH - 9 * DAY, ends_at=MARCH, earn=multiplying_rules())
    assert list(advice.brand_warnings(brand(version=2, effective_at=MARCH), [brand()], [before])) == []


def multiplying_rules() -> list[dict[str, Any]]:
    return [rule(tier_multiplier={"micro": 2})]


RULES = st.fixed_dictionaries(
    {
        "on": st.sampled_from(["interaction", "purchase"]),
        "points": st.integers(1, 20),
        "tier_multiplier": st.dictionaries(
            st.sampled_from(["nano", "micro", "unknown"]), st.sampled_from([0, 0.5, 1, 2]), max_size=3
        ),
        "caps": st.dictionaries(st.sampled_from(["per_event", "per_day", "total"]), st.integers(0, 30), max_size=2),
    }
)


@given(RULES, st.sampled_from(["nano", "micro", "unknown"]), st.integers(1, 5))
def test_a_rule_that_is_said_to_never_pay_pays_nobody(fields: dict[str, Any], tier: str, amount: int) -> None:
    made = campaign(earn=[{"rule": "r", **fields}])
    if not any("never pays" in one or "per_event rejects" in one for one in warnings(made)):
        return
    kind = "Interaction" if fields["on"] == "interaction" else "Purchase"
    activity: Any = SimpleNamespace(
        type=kind, tier=tier, brand=brand(), value={"occurred_at": MARCH, "platform": "x", "post_id": None}
    )
    grant, _ = judge(activity, made, made.earn[0], amount, "entry", {}, None)
    assert grant is None
