"""What engagement reads answer: frozen models whose JSON is the HTTP body."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from projections.rates import Window

Rate = Annotated[Decimal, PlainSerializer(float, return_type=float, when_used="json")]
"""An exact quotient rounded half to even to nine places; in JSON a number."""


class Answer(BaseModel):
    """An immutable answer; field names are as in its JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, serialize_by_alias=True)


class Kinds(Answer):
    """Quantities by kind of interaction; corrections count negative, so a sum can be below zero."""

    like: int = Field(description="Likes, a count.")
    comment: int = Field(description="Comments, a count.")
    share: int = Field(description="Shares, a count.")
    save: int = Field(description="Saves, a count.")
    click: int = Field(description="Clicks, a count.")
    view: int = Field(description="Views, a count.")
    reach: int = Field(description="People reached, a count.")
    post: int = Field(description="Posts, a count.")
    mention: int = Field(description="Mentions, a count.")
    follow: int = Field(description="Follows, a count.")


class Counts(Answer):
    """Interactions of the window by where they happened."""

    member_post: Kinds = Field(description="Received on members' own posts; rates are about these.")
    brand_post: Kinds = Field(description="Given by members to the brand's posts; in no rate.")
    own: Kinds = Field(alias="self", description="Self-interactions: the actor is the member. In no rate, never paid.")


class Measures(Answer):
    """What happened in a window, and the rates over it."""

    counts: Counts
    posts: int = Field(description="Posts of members.")
    reach: int = Field(description="People whom members' posts reached.")
    engagements: int = Field(description="Likes, comments, shares, saves and clicks on members' posts.")
    purchases: int = Field(description="Completed purchases. Purchases have no platform: 0 when one is asked for.")
    revenue_minor: int = Field(description="Revenue of the purchases, in minor units of the brand's currency.")
    refunds: int = Field(description="Refunds.")
    refunds_minor: int = Field(description="What was refunded, in minor units.")
    referred_revenue_minor: int = Field(description="Revenue of purchases that a member referred, in minor units.")
    unrated: int = Field(description="Engagements on members' posts whose author's followers were not known.")
    rate_by_followers: Rate | None = Field(
        description="Sum of engagements ÷ followers, by posts; null without posts.", examples=[0.081234567]
    )
    rate_by_reach: Rate | None = Field(description="Engagements ÷ reach; null without reach.", examples=[0.05])
    per_post: Rate | None = Field(description="Engagements ÷ posts; null without posts.", examples=[12.5])


class Scope(Answer):
    """What an answer is about. The window is half-open and floored to whole panes."""

    brand: str = Field(description="Brand id.", examples=["acme"])
    campaign: str | None = Field(description="The campaign asked for; null: all of the brand.")
    platform: str | None = Field(description="The platform asked for; null: all of them.")
    window: Window
    from_: str | None = Field(
        alias="from", description="Start of the window, UTC; null: unbounded.", examples=["2026-03-01T00:00:00Z"]
    )
    to: str | None = Field(
        description="End of the window, UTC, not in it; null: unbounded.", examples=["2026-03-02T00:00:00Z"]
    )
    position: str = Field(
        description="What the answer reflects: `partition:offset` of the activity log, by comma.", examples=["0:17,1:9"]
    )


class EngagementReport(Scope, Measures):
    """Engagement of a brand, or of one of its campaigns."""

    active_members: int = Field(description="Members with any activity in the window's hours.")


class MemberEngagement(Scope, Measures):
    """Engagement of one member, in whole hours."""

    member: str = Field(description="Member id.", examples=["ann"])


class PostRow(Answer):
    """One post of a member, and what happened on it in the window."""

    post_id: str = Field(description="Post id.", examples=["p1"])
    platform: str = Field(description="The network.", examples=["x"])
    counts: Counts
    reach: int = Field(description="People whom the post reached.")
    engagements: int = Field(description="Likes, comments, shares, saves and clicks on it.")
    unrated: int = Field(description="Those of them for which no followers were known.")
    rate_by_followers: Rate = Field(
        description="Sum of engagements ÷ followers; the post counts as one, also when it was published earlier.",
        examples=[0.081234567],
    )
    rate_by_reach: Rate | None = Field(description="Engagements ÷ reach; null without reach.", examples=[0.05])
    last_activity: str = Field(
        description="Start of the last hour of the window with any activity, UTC.", examples=["2026-03-01T09:00:00Z"]
    )


class PostReport(Scope):
    """The posts of one member with any activity in a window of whole hours, most engagements first."""

    member: str = Field(description="Member id.", examples=["ann"])
    total: int = Field(description="How many there are; `posts` has the first of them, up to the limit.")
    posts: tuple[PostRow, ...] = Field(description="Most engagements first.")


class Distribution(Answer):
    """How many followers the members of a tier have; percentiles are by nearest rank, so each is some member's."""

    count: int = Field(description="Members whose followers are known.")
    min: int = Field(description="The fewest followers that one has.")
    p25: int = Field(description="Followers, 25th percentile.")
    median: int = Field(description="Followers, the median.")
    p75: int = Field(description="Followers, 75th percentile.")
    p90: int = Field(description="Followers, 90th percentile.")
    max: int = Field(description="The most followers that one has.")


class TierRow(Measures):
    """One tier: who is in it at the end, and what its members did in the window while they were in it."""

    tier: str = Field(description="Influence tier.", examples=["nano"])
    min_followers: int | None = Field(
        description="Lower bound of the tier in followers; null when the brand defines none for it."
    )
    members: int = Field(
        description="Members of the brand who are in the tier now, or were as of `as_of`, whatever window or campaign."
    )
    followers: Distribution | None = Field(
        description="Followers of these members; null when none are known, and with `as_of`: they are not kept."
    )
    active_members: int = Field(description="Those of the tier's members with any activity in the window's hours.")


class TierReport(Scope):
    """Engagement by influence tier."""

    tiers: tuple[TierRow, ...] = Field(
        description="As the brand defines them, ascending; then tiers it defined once, and `unknown`, if not empty."
    )
    nano_advantage: Rate | None = Field(
        description="Rate by followers of nano ÷ that of macro; null when either is null or the latter zero."
    )


class MemberTierAnswer(Answer):
    """A member's influence tier and the followers behind it."""

    brand: str = Field(description="Brand id.", examples=["acme"])
    member: str = Field(description="Member id.", examples=["ann"])
    tier: str = Field(description="`unknown` without a profile.")
    since: str | None = Field(
        description="When the member came into it, UTC; null without a profile", examples=["2026-03-01T09:30:00.000Z"]
    )
    platform: str | None = Field(description="Where the member has the most followers: this decides the tier.")
    followers: int | None = Field(
        description="Followers there; null without a profile. With `as_of`: those at the change into the tier."
    )
    platforms: dict[str, int] = Field(description="Followers by platform; with `as_of` only the one that decided.")
    position: str = Field(
        description="What the answer reflects: `partition:offset` of the activity log, by comma.", examples=["0:17,1:9"]
    )
