"""Which brands and campaigns are accepted: given what was defined, when one is defined, then events or a refusal."""

from __future__ import annotations

from typing import Any

import pytest

from aggregates.definitions import Brand, Campaign, content_of
from aggregates.events import from_stored, to_stored
from aggregates.program_decisions import (
    BrandState,
    CampaignState,
    ProgramRefused,
    define_brand,
    define_campaign,
    evolve_brand,
    evolve_campaign,
)
from aggregates.program_events import BrandDefined, CampaignDefined, CampaignLaunched
from aggregates.programs import parse


def brand(**changes: Any) -> Brand:
    document = {"brand": "acme", "currency": "EUR", "plan": "free", "timezone": "Europe/Paris", **changes}
    found = parse(document, "test")
    assert isinstance(found, Brand)
    return found


def campaign(name: str = "spring", starts: str = "2026-03-10T00:00:00Z", **changes: Any) -> Campaign:
    document = {"campaign": name, "brand": "acme", "starts_at": starts, "ends_at": "2027-01-01T00:00:00Z", **changes}
    found = parse(document, "test")
    assert isinstance(found, Campaign)
    return found


class World:
    """A brand and its campaigns as their own events made them."""

    def __init__(self, *brands: Brand) -> None:
        self.brand = BrandState()
        self.campaigns: dict[str, CampaignState] = {}
        for version in brands:
            self.define(version)

    def define(self, definition: Brand | Campaign) -> list[BrandDefined | CampaignLaunched | CampaignDefined]:
        events: list[BrandDefined | CampaignLaunched | CampaignDefined]
        if isinstance(definition, Brand):
            events = [*define_brand(self.brand, definition, 7)]
        else:
            state = self.campaigns.setdefault(definition.id, CampaignState())
            events = [*define_campaign(self.brand, state, definition, 7)]
        for event in events:
            assert from_stored(*to_stored(event)) == event
            if isinstance(event, CampaignDefined):
                evolve_campaign(self.campaigns[event.campaign], event)
            else:
                evolve_brand(self.brand, event)
        return events


def test_a_brand_is_defined_once_and_the_same_content_again_changes_nothing():
    world = World()
    assert world.define(brand()) == [BrandDefined("acme", 1, 0, content_of(brand()), 7)]
    assert world.define(brand()) == []


def test_other_content_under_the_same_version_is_refused_and_told_to_raise_it():
    world = World(brand())
    with pytest.raises(ProgramRefused, match="raise `version` to 2"):
        world.define(brand(plan="pro"))
    assert len(world.define(brand(plan="pro", version=2, effective_at=5))) == 1


def test_a_campaign_needs_its_brand():
    with pytest.raises(ProgramRefused, match="acme is not defined"):
        World().define(campaign())


def test_a_campaigns_first_version_is_its_launch_in_the_month_of_its_start():
    launched, defined = World(brand()).define(campaign())
    assert launched == CampaignLaunched("spring", "2026-03", 7)
    assert isinstance(defined, CampaignDefined)
    assert (defined.campaign, defined.version, defined.content) == ("spring", 1, content_of(campaign()))


def test_the_same_campaign_again_changes_nothing_and_other_content_is_refused():
    world = World(brand())
    world.define(campaign())
    assert world.define(campaign()) == []
    with pytest.raises(ProgramRefused, match="raise `version` to 2"):
        world.define(campaign(budget=5))


def test_a_new_version_is_no_launch():
    world = World(brand())
    world.define(campaign())
    (defined,) = world.define(campaign(version=2, effective_at="2026-03-20T00:00:00Z", budget=5))
    assert isinstance(defined, CampaignDefined)


def test_the_free_plan_launches_one_campaign_a_month_and_says_when_the_next_can_start():
    world = World(brand())
    world.define(campaign())
    world.define(campaign("april", "2026-04-02T00:00:00Z"))
    with pytest.raises(ProgramRefused, match=r"spring starts in 2026-03 .* from 2026-05-01"):
        world.define(campaign("second", "2026-03-25T00:00:00Z"))


def test_the_next_month_after_december_is_january():
    world = World(brand())
    world.define(campaign("xmas", "2026-12-05T00:00:00Z"))
    with pytest.raises(ProgramRefused, match="from 2027-01-01"):
        world.define(campaign("eve", "2026-12-24T00:00:00Z"))


def test_the_month_of_a_launch_is_counted_in_the_brands_timezone():
    world = World(brand())
    world.define(campaign())
    launched, _ = world.define(campaign("april", "2026-03-31T22:00:00Z"))  # midnight in Paris
    assert launched == CampaignLaunched("april", "2026-04", 7)


def test_the_pro_plan_launches_as_many_as_it_wants():
    world = World(brand(plan="pro"))
    for name in ("a", "b", "c"):
        assert len(world.define(campaign(name))) == 2


def test_the_plan_is_the_one_in_force_when_the_campaign_starts():
    world = World(brand(), brand(plan="pro", version=2, effective_at="2026-03-20T00:00:00Z"))
    world.define(campaign())
    assert len(world.define(campaign("later", "2026-03-25T00:00:00Z"))) == 2
    with pytest.raises(ProgramRefused, match="free plan"):
        world.define(campaign("sooner", "2026-03-15T00:00:00Z"))


def test_a_multiplier_for_a_tier_that_the_brand_does_not_have_is_refused():
    rule = {"rule": "r", "on": "purchase", "points": 1, "tier_multiplier": {"nanno": 2}}
    with pytest.raises(ProgramRefused, match="names nanno"):
        World(brand()).define(campaign(earn=[rule]))


def test_a_refused_definition_can_be_put_right_and_sent_again():
    world = World(brand())
    world.define(campaign())
    with pytest.raises(ProgramRefused):
        world.define(campaign("second"))
    assert len(world.define(campaign("second", "2026-04-02T00:00:00Z"))) == 2
