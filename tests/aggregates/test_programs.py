"""Definitions: what is read from a document, what is refused and how it is said, and what applies when."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aggregates.definitions import CAPS, DAY_MS, DefinitionError
from aggregates.parsing import BRAND_KEYS, CAMPAIGN_KEYS, POINTS_KEYS, RULE_KEYS
from aggregates.programs import Brand, Campaign, Programs, content_of, from_content, parse, unknown_tiers

MARCH, APRIL = 1_772_323_200_000, 1_775_001_600_000

CONTRACT = """
brand: acme
plan: free
timezone: Europe/Paris
currency: EUR
tiers: {nano: 0, micro: 1000, mid: 10000, macro: 100000}
points: {expire_after: 365d, negative_balance: allow}
---
campaign: spring
brand: acme
version: 1
starts_at: 2026-03-01T00:00:00Z
ends_at: 2026-04-01T00:00:00Z
budget: 1000000
join: open
earn:
  - {rule: share, on: interaction, kind: [share], surface: [brand_post], points: 10,
     tier_multiplier: {nano: 3, micro: 2}, caps: {per_post: 10, per_day: 50, total: 500}, hold: 0d}
  - {rule: spend, on: purchase, per_minor: 100, points: 1, hold: 14d}
  - {rule: bring-a-friend, on: referral, points: 500, hold: 14d}
standings: points
prizes: {1: 5000, 2: 3000, 3: 1000}
"""


def brand_with(**changes: Any) -> Brand:
    found = parse({"brand": "acme", "currency": "EUR", **changes}, "a.yaml")
    assert isinstance(found, Brand)
    return found


def campaign_with(**changes: Any) -> Campaign:
    document = {"campaign": "spring", "brand": "acme", "starts_at": MARCH, "ends_at": APRIL, **changes}
    found = parse(document, "a.yaml")
    assert isinstance(found, Campaign)
    return found


def rule_with(**changes: Any) -> Campaign:
    return campaign_with(earn=[{"rule": "r", "on": "interaction", "points": 1, **changes}])


def programs_of(*definitions: Brand | Campaign) -> Programs:
    programs = Programs()
    for definition in definitions:
        programs.add(content_of(definition))
    return programs


def nobody(campaign: str) -> bool:
    return False


def test_the_documents_of_the_contract_are_read_with_their_units():
    brand, campaign = (parse(document, "contract") for document in yaml.safe_load_all(CONTRACT))
    assert isinstance(brand, Brand)
    assert isinstance(campaign, Campaign)
    assert (brand.version, brand.effective_at, brand.expire_after, brand.negative_balance) == (1, 0, (365, "d"), True)
    assert (campaign.starts_at, campaign.ends_at, campaign.effective_at) == (MARCH, APRIL, MARCH)
    share, spend, friend = campaign.earn
    assert (share.on, share.kinds, share.surfaces, share.hold_ms) == ("interaction", ("share",), ("brand_post",), 0)
    assert share.caps == (("per_post", 10), ("per_day", 50), ("total", 500))
    assert (share.multiplier_milli("nano"), share.multiplier_milli("mid")) == (3000, 1000)
    assert (spend.basis, spend.per, spend.hold_ms) == ("money", 100, 14 * DAY_MS)
    assert (friend.basis, friend.points) == ("flat", 500)
    assert campaign.prizes == ((1, 5000), (2, 3000), (3, 1000))


def test_the_page_on_definitions_names_every_key_and_its_example_is_read():
    page = (Path(__file__).parents[2] / "docs" / "definitions.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert [type(parse(document, "page")) for document in yaml.safe_load_all(example)] == [Brand, Campaign]
    keys = {*BRAND_KEYS, *CAMPAIGN_KEYS, *RULE_KEYS, *CAPS, *(f"points.{key}" for key in POINTS_KEYS)} - {"points"}
    assert {key for key in keys if f"`{key}`" not in page} == set()


def test_what_is_left_out_has_the_contracts_defaults():
    campaign = rule_with()
    assert (campaign.join, campaign.budget, campaign.prizes, campaign.version) == ("open", None, (), 1)
    (rule,) = campaign.earn
    assert (rule.kinds, rule.surfaces, rule.platforms, rule.caps, rule.hold_ms) == ((), (), (), (), 0)
    assert brand_with().tiers == (("nano", 0), ("micro", 1000), ("mid", 10_000), ("macro", 100_000))


def test_a_definition_survives_its_canonical_text():
    for document in yaml.safe_load_all(CONTRACT):
        definition = parse(document, "contract")
        assert from_content(content_of(definition)) == definition
    for expiry in ("none", "1d", "365d", "6mo", "12mo", "2y"):
        brand = brand_with(points={"expire_after": expiry})
        assert from_content(content_of(brand)) == brand
    assert from_content(content_of(rule_with(first_time=True))) == rule_with(first_time=True)
    for hold in ("0d", "90s", "45m", "36h", "10d"):
        campaign = rule_with(hold=hold, tier_multiplier={"nano": 1.125, "mid": 0})
        assert from_content(content_of(campaign)) == campaign


def test_what_points_are_worth_is_in_the_text_only_where_it_was_said():
    assert brand_with().value_per_1000 is None
    assert "value_per_1000" not in content_of(brand_with())
    for worth in (0, 500):
        brand = brand_with(points={"value_per_1000": worth})
        assert brand.value_per_1000 == worth
        assert from_content(content_of(brand)) == brand


def test_the_order_of_keys_and_the_way_a_time_is_written_do_not_change_the_content():
    written = campaign_with(starts_at="2026-03-01T01:00:00+01:00", ends_at=datetime(2026, 4, 1, tzinfo=UTC))
    assert content_of(written) == content_of(campaign_with())


def test_a_year_is_twelve_months_and_what_pays_every_time_is_written_as_before():
    assert content_of(brand_with(points={"expire_after": "1y"})) == content_of(
        brand_with(points={"expire_after": "12mo"})
    )
    assert content_of(rule_with(first_time=False)) == content_of(rule_with())


@pytest.mark.parametrize(("written", "milli"), [(1.1, 1100), ("2.675", 2675), (3, 3000), (0.001, 1), (1.15, 1150)])
def test_a_multiplier_is_taken_as_it_is_written(written: Any, milli: int):
    (rule,) = rule_with(tier_multiplier={"nano": written}).earn
    assert rule.multiplier_milli("nano") == milli


@given(st.integers(0, 1_000_000))
def test_every_multiplier_in_thousandths_survives_its_text(milli: int):
    campaign = rule_with(tier_multiplier={"nano": f"{milli // 1000}.{milli % 1000:03d}"})
    assert campaign.earn[0].multiplier_milli("nano") == milli
    assert from_content(content_of(campaign)) == campaign


@pytest.mark.parametrize(
    ("build", "changes", "said"),
    [
        (brand_with, {"plam": "free"}, "plam: unknown key; did you mean `plan`?"),
        (brand_with, {"plan": "fre"}, "did you mean `free`?"),
        (brand_with, {"tiers": {"nano": 0, "micro": 0}}, "must strictly increase from 0"),
        (brand_with, {"tiers": {"nano": 5, "micro": 10}}, "must strictly increase from 0"),
        (brand_with, {"tiers": {"unknown": 0}}, "means a member without a profile"),
        (brand_with, {"timezone": "Europe/Pariss"}, "timezone: `Europe/Pariss` is no known timezone"),
        (brand_with, {"timezone": "../etc/passwd"}, "is no known timezone"),
        (brand_with, {"currency": "euro"}, "three capital letters"),
        (brand_with, {"points": {"expire_after": "1w"}}, "write it like 365d, 12mo, 1y or none"),
        (brand_with, {"points": {"expire_after": 365}}, "write it like 365d, 12mo, 1y or none"),
        (brand_with, {"points": {"expire_after": "0mo"}}, "0mo is out of range; use 1mo to 100y"),
        (brand_with, {"points": {"expire_after": "101y"}}, "101y is out of range"),
        (brand_with, {"points": {"expire_after": "0d"}}, "use whole days"),
        (brand_with, {"points": {"expire_after": "12h"}}, "use whole days"),
        (brand_with, {"points": {"expires_after": "1d"}}, "points.expires_after: unknown key; did you mean"),
        (brand_with, {"points": {"value_per_1000": -1}}, "points.value_per_1000: -1 is out of range"),
        (brand_with, {"points": {"value_per_1000": 0.5}}, "write a whole number"),
        (brand_with, {"version": 2}, "effective_at: missing"),
        (brand_with, {"version": 0}, "version: 0 is out of range"),
        (brand_with, {"brand": "ac/me"}, "is no id"),
        (brand_with, {"brand": ""}, "is no id"),
        (brand_with, {"brand": "a b"}, "is no id"),
        (brand_with, {"brand": 12}, "put `12` in quotes"),
        (brand_with, {"brand": "x" * 201}, "is no id"),
        (campaign_with, {"starts_at": datetime(2026, 3, 1)}, "has no zone"),
        (campaign_with, {"starts_at": "2026-03-01"}, "has no zone"),
        (campaign_with, {"starts_at": "soon"}, "`soon` is no time"),
        (campaign_with, {"starts_at": True}, "is no time"),
        (campaign_with, {"ends_at": MARCH}, "ends_at: it is not after starts_at"),
        (campaign_with, {"version": 2}, "version 2 needs the time"),
        (campaign_with, {"budget": 1.5}, "write a whole number"),
        (campaign_with, {"budget": True}, "write a whole number"),
        (campaign_with, {"prizes": {"first": 5}}, "prizes.first: a prize is for a rank"),
        (campaign_with, {"prizes": {1: 0}}, "prizes.1: 0 is out of range"),
        (campaign_with, {"earn": {"rule": "r"}}, "earn: write a list of rules"),
        (campaign_with, {"earn": ["r"]}, "earn[0].: write keys and values here"),
        (rule_with, {"tier_multiplier": {"nano": 1.2345}}, "more than three decimal places"),
        (rule_with, {"tier_multiplier": {"nano": -1}}, "is no multiplier"),
        (rule_with, {"tier_multiplier": {"nano": True}}, "is no multiplier"),
        (rule_with, {"caps": {"per_dya": 5}}, "earn[0].caps.per_dya: unknown key; did you mean `per_day`?"),
        (rule_with, {"caps": {"per_day": "5"}}, "write a whole number"),
        (rule_with, {"caps": {"per_day": 2.5}}, "write a whole number"),
        (rule_with, {"hold": "2 weeks"}, "write it like 14d, 12h or 0d"),
        (rule_with, {"kind": ["likes"]}, "did you mean `like`?"),
        (rule_with, {"kind": []}, "earn[0].kind: an empty list names nothing; leave `kind` out for any"),
        (rule_with, {"surface": []}, "earn[0].surface: an empty list"),
        (rule_with, {"platform": []}, "earn[0].platform: an empty list"),
        (rule_with, {"per_minor": 100}, "only a rule on purchase or referral counts money"),
        (rule_with, {"on": "purchase", "kind": ["like"]}, "only a rule on interaction has this filter"),
        (rule_with, {"on": "purchase", "caps": {"per_post": 1}}, "only a rule on interaction has posts"),
        (rule_with, {"on": "purchase", "per_minor": 0}, "per_minor: 0 is out of range"),
        (rule_with, {"first_time": "yes"}, "first_time: write true or false, not `yes`"),
        (rule_with, {"points": 0}, "points: 0 is out of range"),
        (rule_with, {"points": None}, "points: missing"),
    ],
)
def test_a_mistake_is_said_in_one_line_that_names_the_document(build: Any, changes: dict[str, Any], said: str):
    with pytest.raises(DefinitionError) as error:
        build(**changes)
    assert said in str(error.value)
    assert str(error.value).startswith("a.yaml: ")
    assert "\n" not in str(error.value)


def test_a_rule_about_any_is_stored_without_filters_and_read_back():
    for written in ({}, {"kind": None, "surface": None, "platform": None}):
        campaign = rule_with(**written)
        assert "[]" not in content_of(campaign)
        assert from_content(content_of(campaign)) == campaign


def test_two_rules_of_one_campaign_cannot_share_a_name():
    rule = {"rule": "r", "on": "purchase", "points": 1}
    with pytest.raises(DefinitionError, match="names two rules"):
        campaign_with(earn=[rule, rule])


@pytest.mark.parametrize("document", [{}, {"campain": "x"}, [], "text", None, 3])
def test_a_document_that_is_neither_is_refused(document: Any):
    with pytest.raises(DefinitionError):
        parse(document, "a.yaml")


_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_KEYS = st.sampled_from(
    (
        *("brand", "campaign", "version", "effective_at", "plan", "timezone", "currency", "tiers", "points"),
        *("starts_at", "ends_at", "budget", "join", "earn", "standings", "prizes"),
    )
)


@given(st.dictionaries(_KEYS, _JSON, max_size=12))
def test_no_document_raises_anything_but_a_definition_error(document: dict[str, Any]):
    base = {"brand": "acme", "currency": "EUR", "starts_at": MARCH, "ends_at": APRIL}
    try:
        parsed = parse({**base, **document}, "x")
    except DefinitionError:
        return
    assert from_content(content_of(parsed)) == parsed


def test_a_tier_starts_at_its_lower_bound():
    brand = brand_with()
    assert [brand.tier_of(n) for n in (0, 999, 1000, 9999, 10_000, 99_999, 100_000)] == (
        ["nano", "nano", "micro", "micro", "mid", "mid", "macro"]
    )


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(-3, 3), st.integers(1, 3)), min_size=1), st.integers(-5, 5))
def test_the_tiers_over_time_are_those_of_the_version_in_force_at_each_instant(versions, at):
    programs = Programs()
    for version, hour, bound in versions:
        document = {"brand": "acme", "currency": "EUR", "version": version, "effective_at": MARCH + hour}
        programs.add(content_of(parse({**document, "tiers": {"low": 0, "high": bound}}, "x")))
        bands, brand = programs.bands("acme"), programs.brand("acme", MARCH + at)
        assert bands is not None
        assert brand is not None
        assert bands.at(MARCH + at).tiers == brand.tiers
        assert [one.tiers for one in bands.brands] == [bands.at(start).tiers for start in bands.starts]
    assert all(one.tiers != other.tiers for one, other in pairwise(bands.brands))


def test_a_misspelt_tier_is_found_when_brand_and_campaign_are_seen_together():
    assert unknown_tiers(brand_with(), rule_with(tier_multiplier={"nanno": 2, "micro": 1, "unknown": 1})) == ["nanno"]


def test_a_record_counts_for_every_live_campaign_from_its_start_to_just_before_its_end():
    programs = programs_of(brand_with(), campaign_with(), campaign_with(campaign="other", ends_at=MARCH + 10))
    counted = {
        at: [c.id for c in programs.judge("acme", None, at, nobody).campaigns]
        for at in (MARCH - 1, MARCH, MARCH + 9, MARCH + 10, APRIL - 1, APRIL)
    }
    both = ["other", "spring"]
    assert list(counted.values()) == [[], both, both, ["spring"], ["spring"], []]


def test_a_named_campaign_is_the_only_one_and_outside_its_time_the_record_is_not_live():
    programs = programs_of(brand_with(), campaign_with(), campaign_with(campaign="other"))
    inside = programs.judge("acme", "spring", MARCH, nobody)
    assert ([c.id for c in inside.campaigns], inside.not_live) == (["spring"], False)
    outside = programs.judge("acme", "spring", APRIL, nobody)
    assert (outside.problem, outside.campaigns, outside.not_live) == ("", (), True)


def test_an_unknown_brand_or_named_campaign_is_a_problem():
    programs = programs_of(brand_with(), campaign_with())
    assert programs.judge("nobody", None, MARCH, nobody).problem == "unknown_brand"
    assert programs.judge("acme", "summer", MARCH, nobody).problem == "unknown_campaign"
    assert programs_of(campaign_with()).judge("acme", "spring", MARCH, nobody).problem == "unknown_brand"


def test_an_opt_in_campaign_counts_for_those_who_joined_and_is_named_for_the_others():
    programs = programs_of(brand_with(), campaign_with(join="opt_in"), campaign_with(campaign="open"))
    for named in (None, "spring"):
        left_out = programs.judge("acme", named, MARCH, nobody)
        assert [c.id for c in left_out.not_joined] == ["spring"]
        assert "spring" not in [c.id for c in left_out.campaigns]
        joined = programs.judge("acme", named, MARCH, lambda campaign: campaign == "spring")
        assert "spring" in [c.id for c in joined.campaigns]
        assert joined.not_joined == ()


def test_a_version_applies_from_its_effective_time_whatever_order_they_came_in():
    versions = [
        campaign_with(budget=1),
        campaign_with(version=2, effective_at=MARCH + 100, budget=2),
        campaign_with(version=3, effective_at=MARCH + 100, budget=3),
        campaign_with(version=4, effective_at=MARCH + 50, budget=4),
    ]
    for order in (versions, versions[::-1]):
        programs = programs_of(brand_with(), *order)
        budgets = [programs.judge("acme", None, MARCH + t, nobody).campaigns[0].budget for t in (0, 49, 50, 99, 100)]
        assert budgets == [1, 1, 4, 4, 3]


def test_a_new_version_can_end_a_campaign_earlier_or_open_it_again():
    programs = programs_of(
        brand_with(),
        campaign_with(),
        campaign_with(version=2, effective_at=MARCH + 10, ends_at=MARCH + 20),
        campaign_with(version=3, effective_at=MARCH + 30, ends_at=MARCH + 40),
    )
    live = [bool(programs.judge("acme", "spring", MARCH + t, nobody).campaigns) for t in (19, 20, 29, 30, 39, 40)]
    assert live == [True, False, False, True, True, False]


def test_before_the_first_version_of_a_brand_the_earliest_one_is_used():
    late = brand_with(effective_at=MARCH, timezone="Europe/Paris")
    later = brand_with(version=2, effective_at=MARCH + 5, timezone="Asia/Tokyo")
    programs = programs_of(later, late)
    zones = [programs.judge("acme", None, MARCH + t, nobody).brand for t in (-9, 0, 4, 5)]
    assert [b.timezone for b in zones if b] == ["Europe/Paris", "Europe/Paris", "Europe/Paris", "Asia/Tokyo"]


def test_the_same_definition_added_again_changes_nothing():
    programs = programs_of(brand_with(), campaign_with(), campaign_with(), brand_with())
    assert len(programs.judge("acme", None, MARCH, nobody).campaigns) == 1


_TIMES = st.integers(0, 12)


@st.composite
def campaign_versions(draw: st.DrawFn) -> list[Campaign]:
    versions: dict[tuple[str, int], Campaign] = {}
    for _ in range(draw(st.integers(0, 7))):
        name, version, starts = draw(st.sampled_from("abc")), draw(st.integers(1, 3)), draw(_TIMES)
        versions[name, version] = campaign_with(
            campaign=name,
            version=version,
            effective_at=draw(_TIMES),
            starts_at=starts,
            ends_at=starts + draw(st.integers(1, 6)),
            join=draw(st.sampled_from(["open", "opt_in"])),
        )
    return draw(st.permutations(list(versions.values())))


@given(campaign_versions(), st.sets(st.sampled_from("abc")), st.sampled_from([None, "a", "b", "c"]), _TIMES)
def test_judging_agrees_with_a_plain_search(
    versions: list[Campaign], joined: set[str], named: str | None, at: int
) -> None:
    found = programs_of(brand_with(), *versions).judge("acme", named, at, joined.__contains__)
    live: dict[str, Campaign] = {}
    for name in sorted({version.id for version in versions}):
        fitting = [v for v in versions if v.id == name and v.effective_at <= at]
        best = sorted(fitting, key=lambda v: (v.effective_at, v.version))[-1:]
        if best and best[0].starts_at <= at < best[0].ends_at:
            live[name] = best[0]
    if named is not None and all(version.id != named for version in versions):
        assert found.problem == "unknown_campaign"
        return
    asked = list(live.values()) if named is None else [live[named]] if named in live else []
    assert list(found.campaigns) == [c for c in asked if c.join == "open" or c.id in joined]
    assert list(found.not_joined) == [c for c in asked if c.join == "opt_in" and c.id not in joined]
    assert found.not_live == (named is not None and named not in live)
