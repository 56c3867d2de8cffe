"""What ledger reads answer: frozen models whose JSON is the HTTP body. Points and money are integers, times UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Number = Annotated[
    int | Decimal | None,
    PlainSerializer(lambda n: float(n) if isinstance(n, Decimal) else n, when_used="json"),
]
"""An integer, or a rate as a decimal number of at most nine places."""


def iso(at: int) -> str:
    """Epoch milliseconds as ISO 8601 UTC with milliseconds."""
    when = _EPOCH + timedelta(milliseconds=at)
    return f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1000:03}Z"


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Balance(_Answer):
    """A member's points at an instant."""

    brand: str = Field(description="Brand id", examples=["acme"])
    member_id: str = Field(description="Member id", examples=["m-1"])
    active: int = Field(description="Points that can be spent, net of debt; below zero while in debt", examples=[120])
    pending: int = Field(description="Points still on hold", examples=[500])
    spent: int = Field(description="Points redeemed in all, less cancelled redemptions", examples=[200])
    expired: int = Field(description="Points whose lots have expired", examples=[0])
    reversed: int = Field(description="Points taken back after refunds and unlikes", examples=[40])
    earned: int = Field(description="Points that rules and prizes paid", examples=[860])
    adjusted: int = Field(description="Points that people added less those they took", examples=[0])
    debt: int = Field(
        description="Points owed, paid off by the next that become active; active is net of it", examples=[0]
    )
    shortfall: int = Field(description="Points given up: to be taken back, and not there", examples=[0])
    position: int = Field(description="Ledger position that the answer reflects", examples=[48213])


class EntrySource(_Answer):
    """The record of the activity log behind an entry."""

    topic: str = Field(description="Topic of the record", examples=["members.activity.v1"])
    partition: int = Field(description="Partition number of the record")
    offset: int = Field(description="Offset of the record in its partition", examples=[17])
    event_id: str = Field(description="Event id of the record", examples=["e-1"])


class Entry(_Answer):
    """One movement of a member's points."""

    entry_id: str = Field(description="Id of the entry within the member's account", examples=["0f343b0931126a20"])
    kind: str = Field(
        description="earned, prize, adjusted, reversed, redeemed, cancelled, or settled: points on hold paid off debt",
        examples=["earned"],
    )
    points: int = Field(description="The change of the member's points", examples=[30])
    occurred_at: str = Field(description="When its cause happened, ISO 8601 UTC", examples=["2026-03-01T09:30:00.000Z"])
    recorded_at: str = Field(
        description="When the ledger stored it, ISO 8601 UTC", examples=["2026-03-01T09:30:01.000Z"]
    )
    campaign: str | None = Field(description="Null unless a campaign paid it or took it back")
    campaign_version: int | None = Field(
        description="Version of the campaign's definition that decided; null without a campaign", examples=[1]
    )
    rule: str | None = Field(description="The earning rule that paid it, or whose grant was taken back")
    source: EntrySource
    active_at: str | None = Field(description="When its points can be spent; null unless it brought points in")
    expires_at: str | None = Field(description="First instant at which they are expired; null: never")


class Statement(_Answer):
    """A page of a member's movements, oldest recorded first."""

    brand: str = Field(description="Brand id", examples=["acme"])
    member_id: str = Field(description="Member id", examples=["ann"])
    entries: tuple[Entry, ...] = Field(description="Movements, oldest recorded first")
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last")
    position: int = Field(description="Ledger position that the answer reflects", examples=[48213])


class Standing(_Answer):
    """One place in a campaign's standings; equal scores share a rank."""

    rank: int = Field(description="Place, from 1; equal scores share one", examples=[1])
    member_id: str = Field(description="Member id", examples=["ann"])
    tier: str = Field(description="The member's influence tier, now or as of `as_of`")
    score: Number = Field(description="By the metric: points, interactions, minor units, or a rate; null comes last")
    prize: int | None = Field(None, description="Points won when the campaign was settled; null for none")


class Standings(_Answer):
    """A page of a campaign's ranking."""

    brand: str = Field(description="Brand id", examples=["acme"])
    campaign: str = Field(description="Campaign id", examples=["spring"])
    metric: str = Field(
        description="What standings go by: points, interactions, engagement_rate or referred_revenue",
        examples=["points"],
    )
    final: bool = Field(description="True once the campaign is settled")
    retroactive: bool = Field(
        default=False,
        description="True: as if it had been defined before all records, and nothing is paid",
        examples=[False],
    )
    entries: tuple[Standing, ...] = Field(description="Places, the best first")
    next_cursor: str | None = Field(
        description="Give it as `cursor` for the next page; null on the last", examples=["100"]
    )
    position: int = Field(description="Ledger position that the answer reflects", examples=[48213])


class StandingChange(_Answer):
    """A member's score in a campaign, as it has just changed or as it is kept."""

    brand: str = Field(description="Brand id", examples=["acme"])
    campaign: str = Field(description="Campaign id", examples=["spring"])
    member_id: str = Field(description="Member id", examples=["ann"])
    metric: str = Field(description="The metric of the campaign's standings", examples=["points"])
    score: Number = Field(
        description="By the metric: points, interactions, minor units, or a rate; null: not ranked", examples=[430]
    )
    tier: str = Field(description="The member's influence tier now", examples=["nano"])
    rank: int | None = Field(description="Place from 1, once the standings are final; null before", examples=[None])
    final: bool = Field(description="True once the campaign is settled: what its prizes are of", examples=[False])
    position: int = Field(description="Ledger position that the score reflects", examples=[48213])


class CampaignSummary(_Answer):
    """One campaign as it is, or was at a time, by its version in force."""

    campaign: str = Field(description="Campaign id", examples=["spring"])
    version: int = Field(description="Version of the definition in force", examples=[1])
    status: str = Field(description="draft, scheduled, live, ended or settled", examples=["live"])
    starts_at: str = Field(
        description="First instant at which it is live, ISO 8601 UTC", examples=["2026-03-01T00:00:00.000Z"]
    )
    ends_at: str = Field(description="First instant at which it is over")
    join: str = Field(description="open or opt_in")
    standings: str = Field(description="The metric of its standings")
    budget: int | None = Field(description="Points it may pay in all; null: no limit")
    budget_spent: int | None = Field(description="Points it has paid of that; null without a budget")
    prizes: dict[int, int] = Field(description="Points by rank")
    closed_at: str | None = Field(description="When its markers were due; null while it is not closed")
    settled_at: str | None = Field(
        description="When its standings were kept, ISO 8601 UTC; null while it is not settled"
    )


class Campaigns(_Answer):
    """The campaigns of a brand, by start and id."""

    brand: str = Field(description="Brand id", examples=["acme"])
    campaigns: tuple[CampaignSummary, ...] = Field(description="By start and id")
    position: int = Field(description="Ledger position that the answer reflects", examples=[48213])


class Settlement(_Answer):
    """What the settlement of a campaign came to; asking again gets the same."""

    brand: str = Field(description="Brand id", examples=["acme"])
    campaign: str = Field(description="Campaign id", examples=["spring"])
    version: int = Field(description="The version whose metric and prizes counted")
    metric: str = Field(
        description="What standings go by: points, interactions, engagement_rate or referred_revenue",
        examples=["points"],
    )
    closed_at: str = Field(description="When its markers were due, ISO 8601 UTC")
    settled_at: str = Field(description="When its standings were kept, ISO 8601 UTC")
    members: int = Field(description="Places in its standings")
    winners: int = Field(description="Members who won a prize, a count", examples=[3])
    points: int = Field(description="Points of all prizes together")
    prizes: tuple[Standing, ...] = Field(description="The places that won a prize, the best first; at most 100")
    position: int = Field(description="Ledger position that the answer reflects", examples=[48213])


class Explained(_Answer):
    """One entry with everything that led to it."""

    entry: Entry = Field(description="The movement of points")
    happened: dict[str, Any] = Field(description="What the source record said happened")
    tier: str = Field(description="The member's tier as of that record")
    tier_followers: int | None = Field(
        None, description="The followers behind that tier, on the platform with the most; null where none are stored"
    )
    entitled: int = Field(description="Points before caps and budget")
    limited_by: str | None = Field(description="The cap, or `budget`, that kept something back")
    reverses: str | None = Field(description="The entry that this one takes back or cancels")
    debt: int = Field(description="Points taken as negative balance; below zero: those that paid some of it off")
    shortfall: int = Field(
        description="Points that could not be taken back; below zero: those given up before and taken now"
    )
    takes: dict[str, int] = Field(description="Lot → points taken from it; below zero: given back to it")


class Unpaid(_Answer):
    """A record, or one rule of it, that paid nothing, and why."""

    event_id: str = Field(description="Event id of the record", examples=["e-1"])
    record_type: str = Field(description="Type of the record", examples=["Interaction"])
    occurred_at: str = Field(description="When it occurred, UTC", examples=["2026-03-01T09:30:00.000Z"])
    campaign: str | None = Field(description="Campaign that paid nothing; null where none is meant")
    campaign_version: int | None = Field(description="Version of the campaign; null where none was in force")
    rule: str | None = Field(description="Earning rule that paid nothing; null: the whole campaign")
    tier: str = Field(description="The member's tier as of that record; empty for a refund and an unlike")
    reason: str = Field(description="Stable: the cap, `budget`, or what else stood against it")
    sentence: str = Field(description="The reason in words")
    source: EntrySource = Field(description="The record of the activity log behind it")


class Explanation(_Answer):
    """Where a member's points come from, and what paid nothing."""

    brand: str = Field(description="Brand id", examples=["acme"])
    member_id: str = Field(description="Member id", examples=["ann"])
    entries: tuple[Explained, ...] = Field(description="The movements, in the order they were recorded")
    unpaid: tuple[Unpaid, ...] = Field(description="What paid nothing; empty where one entry was asked for")
    position: int = Field(description="Ledger position that the answer reflects", examples=[48213])
