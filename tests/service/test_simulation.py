"""The simulated community: the same from the same arguments, shaped as promised, with every kind of mess in it."""

from __future__ import annotations

from collections import Counter, defaultdict
from fractions import Fraction

import pytest
import yaml

from aggregates.programs import Brand, Campaign, parse
from schemas.codec import DecodeError, decode
from schemas.topics import TRUSTED, activity_key
from schemas.validate import problem
from service.feeds.community import RATES
from service.feeds.reading import Line
from service.feeds.simulation import BRAND, START, Broken, Simulation, community, definitions

DAY = 86_400_000
LIKE_RATES = (0.0803, 0.0404, 0.0237, 0.0178)
"""Of the study, below 1,000, 10,000, 100,000 and a million followers; written out again, so that no edit moves both."""
MONTH = 30 * DAY


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return community(7, 3000, 30)


@pytest.fixture(scope="module")
def records(simulation) -> list[Line | Broken]:
    return list(simulation.records())


@pytest.fixture(scope="module")
def lines(records) -> list[Line]:
    return [item for item in records if isinstance(item, Line)]


def once(lines: list[Line], record_type: str) -> list[dict]:
    """The records of a type without repetitions."""
    return list({line.value["event_id"]: line.value for line in lines if line.record_type == record_type}.values())


def home_accounts(lines: list[Line]) -> dict[str, tuple[str, int]]:
    """The platform and followers of each member's largest account, as first seen."""
    found: dict[str, tuple[str, int]] = {}
    for value in once(lines, "ProfileSnapshot"):
        if value["occurred_at"] == START and value["followers"] > found.get(value["member_id"], ("", -1))[1]:
            found[value["member_id"]] = (value["platform"], value["followers"])
    return found


def test_the_same_arguments_give_the_same_records_and_others_give_others():
    first = list(community(1, 40, 10).records())
    assert first == list(community(1, 40, 10))
    ids = {line.value["event_id"] for line in first if isinstance(line, Line)}
    for other in (community(2, 40, 10), community(1, 41, 10), community(1, 40, 11)):
        assert ids.isdisjoint(line.value["event_id"] for line in other if isinstance(line, Line))


@pytest.mark.parametrize(("members", "days"), [(0, 30), (10, 0), (-1, 5)])
def test_a_community_without_members_or_days_is_refused(members, days):
    with pytest.raises(ValueError, match="must be at least 1"):
        community(1, members, days)


def test_the_smallest_communities_work():
    assert list(community(1, 1, 1))
    assert list(community(1, 2, 3))


def test_three_thousand_members_give_as_many_records_as_a_demo_can_play(records):
    assert 60_000 <= len(records) <= 90_000


def test_every_line_is_valid_and_no_two_events_share_an_id(lines):
    assert all(problem(line.record_type, line.value) is None for line in lines)
    events = defaultdict(set)
    for line in lines:
        events[line.value["event_id"]].add((line.record_type, str(line.value)))
    assert all(len(different) == 1 for different in events.values())


def test_half_of_the_members_have_under_10000_followers_and_30_percent_under_5000(lines):
    followers = sorted(count for _, count in home_accounts(lines).values())
    below = {bound: sum(count < bound for count in followers) / len(followers) for bound in (5_000, 10_000)}
    assert below[5_000] == pytest.approx(0.30, abs=0.03)
    assert below[10_000] == pytest.approx(0.50, abs=0.03)
    assert followers[-1] > 50 * followers[len(followers) // 2]  # a heavy tail
    tiers = Counter(sum(count >= bound for bound in (1_000, 10_000, 100_000)) for count in followers)
    assert all(tiers[tier] >= 50 for tier in range(4))


@pytest.mark.parametrize(("kind", "tolerance"), [("like", 0.06), ("comment", 0.10)])
def test_rates_by_followers_are_those_of_the_study(lines, kind, tolerance):
    accounts = home_accounts(lines)
    posts: Counter[int] = Counter()
    given: dict[int, Fraction] = defaultdict(Fraction)
    for value in once(lines, "Interaction"):
        platform, followers = accounts.get(value["member_id"], ("", 0))
        if value["surface"] != "member_post" or value["platform"] != platform or value["actor_id"] is not None:
            continue
        band = sum(followers >= rate.below for rate in RATES)
        posts[band] += value["kind"] == "post"
        if value["kind"] == kind:
            given[band] += Fraction(value["quantity"], followers)
    for band, rate in enumerate(RATES[:4]):
        wanted = LIKE_RATES[band] if kind == "like" else rate.comments
        assert float(given[band] / posts[band]) == pytest.approx(wanted, rel=tolerance), (band, posts[band])


def test_every_kind_of_interaction_is_there_on_both_surfaces(lines):
    found = Counter((value["surface"], value["kind"]) for value in once(lines, "Interaction"))
    on_member_posts = {"like", "comment", "share", "save", "view", "reach", "post", "mention", "follow"}
    assert {kind for surface, kind in found if surface == "member_post"} == on_member_posts
    assert {kind for surface, kind in found if surface == "brand_post"} == {"like", "comment", "share", "click"}
    assert any(v["surface"] == "brand_post" and v["actor_id"] for v in once(lines, "Interaction"))


def test_friends_buy_by_referral_and_some_name_themselves(lines):
    orders = [value for value in once(lines, "Purchase") if value["kind"] == "completed"]
    referred = [value for value in orders if value["referrer_id"]]
    assert 0.25 < len(referred) / len(orders) < 0.45
    assert any(value["referrer_id"] == value["member_id"] for value in referred)
    assert any(value["amount_minor"] == 0 for value in orders)


def test_orders_are_refunded_whole_in_part_in_two_parts_and_without_an_order(lines):
    purchases = once(lines, "Purchase")
    paid = {value["order_id"]: value for value in purchases if value["kind"] == "completed"}
    parts = defaultdict(list)
    for value in purchases:
        if value["kind"] == "refunded":
            parts[value["order_id"]].append(value["amount_minor"])
    assert parts.pop(None)
    for order, amounts in parts.items():
        assert sum(amounts) <= paid[order]["amount_minor"]
    assert any(amounts == [paid[order]["amount_minor"]] for order, amounts in parts.items())
    assert any(sum(amounts) < paid[order]["amount_minor"] for order, amounts in parts.items())
    assert any(len(amounts) == 2 for amounts in parts.values())


def test_likes_and_shares_are_taken_back_by_a_known_actor_and_by_counters(lines):
    back = [value for value in once(lines, "Interaction") if value["quantity"] < 0]
    assert {value["kind"] for value in back} == {"like", "share"}
    assert {value["actor_id"] is None for value in back if value["kind"] == "like"} == {True, False}
    liked = {
        (v["post_id"], v["actor_id"]) for v in once(lines, "Interaction") if v["kind"] == "like" and v["quantity"] > 0
    }
    assert all((v["post_id"], v["actor_id"]) in liked for v in back if v["kind"] == "like" and v["actor_id"])


def test_self_interactions_stand_on_both_surfaces(lines):
    own = [value for value in once(lines, "Interaction") if value["actor_id"] == value["member_id"]]
    assert {value["surface"] for value in own} == {"member_post", "brand_post"}


def test_duplicates_are_the_same_record_again(lines):
    seen = Counter(line.value["event_id"] for line in lines)
    assert 0.01 < sum(count - 1 for count in seen.values()) / len(lines) < 0.02


def test_some_records_are_out_of_order_and_some_are_days_late(lines):
    newest, behind = 0, Counter()
    for line in lines:
        lag = newest - line.value["occurred_at"]
        behind.update({"minutes": lag > 600_000, "a day": lag > DAY, "five days": lag > 5 * DAY})
        newest = max(newest, line.value["occurred_at"])
    assert behind["five days"] > 0
    assert 0.008 < behind["a day"] / len(lines) < 0.03
    assert behind["minutes"] > 2 * behind["a day"]


def test_some_refunds_come_before_their_purchase(lines):
    seen, early = set(), 0
    for line in lines:
        value = line.value
        if line.record_type == "Purchase" and value["kind"] == "completed":
            seen.add(value["order_id"])
        elif line.record_type == "Purchase" and value["order_id"] is not None:
            early += value["order_id"] not in seen
    assert early >= 1


def test_some_members_have_no_profile_and_some_change_their_followers(lines):
    profiles = {value["member_id"] for value in once(lines, "ProfileSnapshot")}
    acting = {line.value["member_id"] for line in lines}
    assert 5 <= len(acting - profiles) <= 60
    changes = Counter((value["member_id"], value["platform"]) for value in once(lines, "ProfileSnapshot"))
    assert max(changes.values()) >= 3


def test_some_records_name_the_campaign_after_its_end(simulation, lines):
    late = [v for v in once(lines, "Interaction") if v["campaign_id"] and v["occurred_at"] >= START + MONTH]
    assert late
    assert {value["campaign_id"] for value in late} == {simulation.campaign}


def test_broken_records_are_a_handful_of_every_kind_and_none_is_acceptable(simulation, records):
    broken = [item for item in records if isinstance(item, Broken)]
    assert 0.003 < len(broken) / len(records) < 0.006
    kinds = Counter(why(simulation, item) for item in broken)
    assert set(kinds) == {
        *("unreadable", "invalid", "wrong currency", "unknown campaign"),
        *("future", "wrong key", "forged"),
    }
    assert min(kinds.values()) >= 20


def test_broken_records_never_come_in_runs(records):
    run = longest = 0
    for item in records:
        run = run + 1 if isinstance(item, Broken) else 0
        longest = max(longest, run)
    assert longest <= 4


def why(simulation: Simulation, item: Broken) -> str:
    """Why the intake must refuse it, found out from its bytes alone."""
    try:
        record_type, value = decode(item.raw)
    except DecodeError:
        return "unreadable"
    if record_type in TRUSTED:
        return "forged"
    if problem(record_type, value) is not None:
        return "invalid"
    if item.key != activity_key(value["brand_id"], value["member_id"]):
        return "wrong key"
    if value.get("currency", "EUR") != "EUR":
        return "wrong currency"
    if value["occurred_at"] > START + 3 * MONTH:
        return "future"
    assert value["campaign_id"] not in (None, simulation.campaign), value
    return "unknown campaign"


def test_the_definitions_are_a_brand_without_expiry_and_its_campaign(simulation):
    brand, campaign = (parse(document, "it") for document in yaml.safe_load_all(simulation.definitions))
    assert isinstance(brand, Brand)
    assert isinstance(campaign, Campaign)
    assert (brand.id, brand.plan, brand.expire_after) == (BRAND, "pro", None)
    assert (campaign.id, campaign.starts_at, campaign.ends_at) == (simulation.campaign, START, START + MONTH)
    assert {rule.on for rule in campaign.earn} == {"interaction", "purchase", "referral"}


def test_another_length_is_another_campaign():
    ids = {parse(list(yaml.safe_load_all(definitions(days)))[1], "it").id for days in (29, 30, 31)}
    assert len(ids) == 3
