"""Brands and campaigns: which definitions are accepted. State, evolve, decisions."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

from aggregates.definitions import Brand, Campaign, content_of
from aggregates.local_time import local_day
from aggregates.program_events import (
    BrandDefined,
    CampaignClosed,
    CampaignDefined,
    CampaignEvent,
    CampaignLaunched,
    CampaignSettled,
)
from aggregates.programs import brand_in_force, from_content, unknown_tiers


class ProgramRefused(Exception):
    """A definition that is not accepted; the message says why and what to do."""


# State


@dataclass(slots=True)
class BrandState:
    """A brand's accepted versions and its campaigns' launches."""

    contents: dict[int, str] = field(default_factory=dict)
    """Version → canonical JSON."""
    launches: dict[str, str] = field(default_factory=dict)
    """Campaign → the month (`YYYY-MM`, brand's timezone) in which it starts."""

    def versions(self) -> list[Brand]:
        """Every accepted version."""
        found = [from_content(content) for content in self.contents.values()]
        return [version for version in found if isinstance(version, Brand)]

    def at(self, when: int) -> Brand | None:
        """The version in force at an instant; None before the first definition."""
        brands = self.versions()
        return brand_in_force(brands, when) if brands else None


@dataclass(slots=True)
class CampaignState:
    """A campaign's accepted versions, and how far its settlement is."""

    contents: dict[int, str] = field(default_factory=dict)
    accepted_at: dict[int, int] = field(default_factory=dict)
    """Version → when it was accepted."""
    closed: CampaignClosed | None = None
    settled: CampaignSettled | None = None

    def versions(self) -> list[Campaign]:
        """Every accepted version, drafts too."""
        found = [from_content(content) for content in self.contents.values()]
        return [version for version in found if isinstance(version, Campaign)]


# Evolve


def evolve_brand(state: BrandState, event: BrandDefined | CampaignLaunched) -> None:
    """Bring the brand to the state after `event`."""
    if isinstance(event, BrandDefined):
        state.contents[event.version] = event.content
    else:
        state.launches[event.campaign] = event.month


def evolve_campaign(state: CampaignState, event: CampaignEvent) -> None:
    """Bring the campaign to the state after `event`."""
    if isinstance(event, CampaignDefined):
        state.contents[event.version] = event.content
        state.accepted_at[event.version] = event.recorded_at
    elif isinstance(event, CampaignClosed):
        state.closed = event
    elif isinstance(event, CampaignSettled):
        state.settled = event


# Decisions


def define_brand(state: BrandState, brand: Brand, recorded_at: int) -> list[BrandDefined]:
    """Accept a version of a brand; the same content again gives no event. Raises `ProgramRefused`."""
    content = content_of(brand)
    if _is_known(state.contents, brand.version, content):
        return []
    return [BrandDefined(brand.id, brand.version, brand.effective_at, content, recorded_at)]


def define_campaign(
    brand: BrandState, state: CampaignState, campaign: Campaign, recorded_at: int
) -> list[CampaignLaunched | CampaignDefined]:
    """Accept a version of a campaign of a known brand; on the free plan one launch a calendar month.

    A draft is no launch; its campaign's first version that is none is. Raises `ProgramRefused`.
    """
    content = content_of(campaign)
    owner = brand.at(campaign.starts_at)
    if owner is None:
        raise ProgramRefused(f"the brand {campaign.brand} is not defined: define it first")
    if _is_known(state.contents, campaign.version, content):
        return []
    if state.closed is not None:
        raise ProgramRefused("the campaign is closed, and its prizes stand: give the new one another id")
    unknown = unknown_tiers(owner, campaign)
    if unknown:
        raise ProgramRefused(
            f"tier_multiplier names {', '.join(unknown)}, and the brand's tiers are "
            f"{', '.join(name for name, _ in owner.tiers)}"
        )
    defined = CampaignDefined(
        campaign.brand, campaign.id, campaign.version, campaign.effective_at, content, recorded_at
    )
    if campaign.draft or campaign.id in brand.launches:
        return [defined]
    month = local_day(campaign.starts_at, owner.timezone).month
    other = next((name for name, taken in sorted(brand.launches.items()) if taken == month), None)
    if owner.plan == "free" and other is not None:
        raise ProgramRefused(
            f"{campaign.brand} is on the free plan, which has one campaign launch a calendar month, and {other} "
            f"starts in {month} ({owner.timezone}): the next can start from {_next_free(brand, month)}-01, or take "
            "the pro plan"
        )
    return [CampaignLaunched(campaign.id, month, recorded_at), defined]


def _is_known(contents: dict[int, str], version: int, content: str) -> bool:
    known = contents.get(version)
    if known is not None and known != content:
        raise ProgramRefused(
            f"version {version} was accepted with other content and never changes: "
            f"raise `version` to {max(contents) + 1} and say from when in `effective_at`"
        )
    return known is not None


def _next_free(brand: BrandState, month: str) -> str:
    taken = set(brand.launches.values())
    first = date.fromisoformat(f"{month}-01")
    while f"{first:%Y-%m}" in taken:
        first = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    return f"{first:%Y-%m}"
