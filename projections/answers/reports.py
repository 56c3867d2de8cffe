"""What the campaign report and the search for ambassadors answer: frozen models whose JSON is the HTTP body."""

from __future__ import annotations

from pydantic import Field

from projections.engagement.models import Answer, Rate
from projections.rates import Window


class Engaged(Answer):
    """Who took part, and how others answered."""

    members: int = Field(description="Members with any activity that counts for the campaign.")
    posts: int = Field(description="Posts of members.")
    reach: int = Field(description="People whom members' posts reached.")
    engagements: int = Field(description="Likes, comments, shares, saves and clicks on members' posts.")
    rate_by_followers: Rate | None = Field(description="Sum of engagements ÷ followers, by posts; null without posts.")
    rate_by_reach: Rate | None = Field(description="Engagements ÷ reach; null without reach.")


class TierResults(Engaged):
    """What the members of one influence tier did."""

    tier: str = Field(description="The tier as of each event; members are counted in theirs of now, or of `as_of`.")


class Results(Engaged):
    """What a campaign brought and what it cost, in all or on one day."""

    orders: int = Field(description="Completed orders that count for the campaign; each once for ever.")
    revenue_minor: int = Field(description="Revenue of these orders, in minor units of the brand's currency.")
    refunds: int = Field(description="Refunds of these orders.")
    refunds_minor: int = Field(description="What was refunded, in minor units.")
    net_revenue_minor: int = Field(description="Revenue less refunds, in minor units.")
    referrals: int = Field(description="Orders that a member referred; they are orders too.")
    referred_revenue_minor: int = Field(description="Revenue of these less their refunds, in minor units.")
    points_paid: int = Field(description="Points that the campaign's rules paid.")
    points_reversed: int = Field(description="Points of these taken back after refunds and unlikes.")
    points_net: int = Field(description="Points paid less points reversed.")
    prize_points: int = Field(description="Points paid as prizes, in neither of the three before.")


class DayResults(Results):
    """One day in the brand's timezone."""

    day: str = Field(description="The date", examples=["2026-03-01"])


class BudgetUse(Answer):
    """What the campaign may pay and has paid."""

    points: int | None = Field(description="Points that its rules may pay in all; null: no limit.")
    used: int = Field(description="Points paid; a reversal gives none back.")
    left: int | None = Field(description="Points it may still pay; null: no limit.")


class CampaignReport(Answer):
    """The bottom line of one campaign."""

    brand: str = Field(description="Brand id.", examples=["acme"])
    campaign: str = Field(description="Campaign id.", examples=["spring"])
    version: int = Field(description="Version of the definition that the budget and the dates are of.")
    currency: str = Field(description="The brand's currency, ISO 4217.", examples=["EUR"])
    timezone: str = Field(description="The brand's, which decides the days.")
    starts_at: str = Field(
        description="First instant at which it is live, ISO 8601 UTC", examples=["2026-03-01T00:00:00.000Z"]
    )
    ends_at: str = Field(description="First instant at which it is over.")
    to: str | None = Field(description="Everything before this instant is in it; null: everything.")
    total: Results
    tiers: tuple[TierResults, ...] = Field(description="As the brand defines them, then others that occur.")
    days: tuple[DayResults, ...] = Field(description="Each day on which anything happened or was paid.")
    budget: BudgetUse
    position: str = Field(description="What the engagement reflects: `partition:offset` of the activity log, by comma.")
    ledger_position: int = Field(description="Ledger position that money and points reflect.")


class Ambassador(Answer):
    """One member whom to ask, and why."""

    rank: int = Field(description="Place, from 1; equal ones share one.", examples=[1])
    member_id: str = Field(description="Member id.", examples=["ann"])
    tier: str = Field(description="The influence tier the member is in now, or was as of `as_of`.")
    followers: int | None = Field(
        description="Followers where the member has the most, with `as_of` at the change into the tier; null: unknown."
    )
    posts: int = Field(description="Posts in the window.")
    engagements: int = Field(description="Engagements on the member's posts in the window.")
    reach: int = Field(description="People whom these posts reached.")
    rate_by_followers: Rate | None = Field(description="Null with fewer posts than the setting, or none of them rated.")
    rate_by_reach: Rate | None = Field(description="Engagements ÷ reach; null without reach.")
    tier_median_rate: Rate | None = Field(description="Median rate of the tier's candidates; null without any.")
    rate_to_median: Rate | None = Field(description="The rate ÷ that median; null when either is null or it is zero.")
    rate_place: int | None = Field(description="Place by rate among the candidates; null without a rate.")
    referred_orders: int = Field(description="Orders that the member referred in the window.")
    referred_revenue_minor: int = Field(description="Revenue of referred orders less refunds, in minor units.")
    sales_place: int | None = Field(description="Place by referred revenue; null when that is not above zero.")
    places: int = Field(description="Sum of both places, a null as the number of candidates: what the rank is by.")
    reasons: tuple[str, ...] = Field(description="The same in words, for a person.")


class Ambassadors(Answer):
    """Members whom to ask, best first."""

    brand: str = Field(description="Brand id.", examples=["acme"])
    window: Window
    from_: str | None = Field(alias="from", description="Start of the window, UTC; null: unbounded.")
    to: str | None = Field(description="End of the window, UTC, not in it; null: unbounded.")
    tier: str | None = Field(description="The tier asked for; null: all.")
    currency: str = Field(description="The brand's currency, ISO 4217.", examples=["EUR"])
    min_posts: int = Field(description="Posts that a rate takes (a setting).")
    candidates: int = Field(description="Members with a rate or referred revenue; `members` has the first.")
    members: tuple[Ambassador, ...] = Field(description="Best first.")
    position: str = Field(description="What the engagement reflects: `partition:offset` of the activity log, by comma.")
    ledger_position: int = Field(description="Ledger position that the sales reflect.")
