"""The events of brands and campaigns: what was defined, and how a campaign comes to its end.

Stored like those of accounts; all names are in `events`.
"""

from __future__ import annotations

from aggregates.stored import Origin, Stored


class BrandDefined(Stored, frozen=True):
    """A version of a brand's definition, as canonical JSON."""

    brand: str
    version: int
    effective_at: int
    content: str
    recorded_at: int


class CampaignLaunched(Stored, frozen=True):
    """A campaign of the brand that starts in `month` (`YYYY-MM` in the brand's timezone)."""

    campaign: str
    month: str
    recorded_at: int


class CampaignDefined(Stored, frozen=True):
    """A version of a campaign's definition, as canonical JSON."""

    brand: str
    campaign: str
    version: int
    effective_at: int
    content: str
    recorded_at: int


class CampaignClosed(Stored, frozen=True):
    """A campaign is over: its marker is due on every partition, and it takes no new version any more."""

    brand: str
    campaign: str
    version: int
    """The version that was live last: its metric and its prizes count."""
    ends_at: int
    """First instant at which it was live no more."""
    closed_at: int
    requested_by: str = ""
    """Empty when the grace had passed and nobody had to ask."""


class MarkerPassed(Stored, frozen=True):
    """A closed campaign's marker in one partition: what the ledger stored of it before this event counts for prizes."""

    origin: Origin
    brand: str
    campaign: str


class Place(Stored, frozen=True):
    """A member's place in settled standings."""

    member: str
    rank: int
    score: int | str | None
    """A rate is the exact text of a decimal number; None where there is nothing to rate."""
    prize: int = 0
    """Points won."""


class StandingsKept(Stored, frozen=True):
    """A page of the standings that a campaign was settled by, from the place `first` (0 is the best) on."""

    brand: str
    campaign: str
    version: int
    closed_at: int
    first: int
    places: tuple[Place, ...]


class CampaignSettled(Stored, frozen=True):
    """A campaign's standings as of its markers are kept, and their prizes are due."""

    brand: str
    campaign: str
    version: int
    metric: str
    members: int
    """Places in the standings."""
    winners: int
    points: int
    """Of all prizes together."""
    closed_at: int
    settled_at: int
    min_posts: int = 0
    """Posts that a place by engagement rate took; 0 for another metric."""


CampaignEvent = CampaignDefined | CampaignClosed | StandingsKept | CampaignSettled
ProgramEvent = BrandDefined | CampaignLaunched | CampaignEvent
