"""What an event would earn: the events that can be asked about, as in the schemas but without ids, and the answer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from aggregates.definitions import KINDS, SURFACES


class _Event(BaseModel):
    """What every event has; ids are made up unless the event is to meet something that has one."""

    model_config = ConfigDict(extra="forbid", strict=True)

    occurred_at: str | int | None = Field(
        default=None,
        description="When it happens, ISO 8601 with zone or epoch milliseconds; default: now",
        examples=["2026-03-05T12:00:00Z"],
    )
    campaign_id: str | None = Field(default=None, description="The campaign that it names; null: none")


class InteractionEvent(_Event):
    """Something done on a social network, credited to the member."""

    type: Literal["interaction"] = Field(description="What kind of event it is")
    surface: str = Field(
        description=" or ".join(SURFACES), examples=["brand_post"], json_schema_extra={"enum": list(SURFACES)}
    )
    kind: str = Field(description=", ".join(KINDS), examples=["share"], json_schema_extra={"enum": list(KINDS)})
    quantity: int = Field(default=1, description="Units; below zero for an unlike", examples=[1])
    platform: str = Field(description="The network", examples=["x"])
    post_id: str | None = Field(default=None, description="The post; caps per post go by it")
    actor_id: str | None = Field(default=None, description="Who did it; null: somebody else")
    followers: int | None = Field(
        default=None, description="Followers of the author then, on the member's own post; null: as known"
    )


class PurchaseEvent(_Event):
    """An order of the member, or its refund."""

    type: Literal["purchase"] = Field(description="What kind of event it is")
    kind: Literal["completed", "refunded"] = Field(default="completed", description="A refund names its order")
    amount_minor: int = Field(description="Amount in minor units (cents), for a refund too", examples=[4_990])
    currency: str | None = Field(default=None, description="Default: the brand's", examples=["EUR"])
    order_id: str | None = Field(default=None, description="The order; null: a new one")
    referrer_id: str | None = Field(default=None, description="Who brought the member")


class ReferralEvent(_Event):
    """A friend's order, or its refund, for which the member may be rewarded."""

    type: Literal["referral"] = Field(description="What kind of event it is")
    kind: Literal["completed", "refunded"] = Field(default="completed", description="A refund names buyer and order")
    amount_minor: int = Field(description="Amount in minor units (cents)", examples=[4_990])
    currency: str | None = Field(default=None, description="Default: the brand's", examples=["EUR"])
    buyer_id: str | None = Field(default=None, description="The friend; null: somebody new")
    order_id: str | None = Field(default=None, description="The friend's order; null: a new one")
    new_customer: bool | None = Field(
        default=None, description="Whether the friend had not ordered before; null: as the ledger knows the buyer"
    )


Event = Annotated[InteractionEvent | PurchaseEvent | ReferralEvent, Field(discriminator="type")]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class RuleVerdict(_Answer):
    """What one rule of a campaign that the event counts for makes of it."""

    rule: str = Field(description="The rule's name", examples=["share"])
    verdict: Literal["pays", "refuses", "does_not_match"] = Field(description="What it makes of the event")
    points: int = Field(description="Points it pays, after caps and budget", examples=[30])
    entitled: int = Field(description="Points before caps and budget", examples=[30])
    multiplier: float | None = Field(
        default=None, description="The tier's multiplier; null when it pays nothing", examples=[3]
    )
    limited_by: str | None = Field(default=None, description="The cap, or `budget`, that kept something back")
    reason: str | None = Field(
        default=None, description="Of a refusal: its code. Of no match: the filter, such as `kind`"
    )
    sentence: str = Field(description="Why, for a person")
    active_at: str | None = Field(default=None, description="When its points can be spent, ISO 8601 UTC")
    expires_at: str | None = Field(default=None, description="When they expire, ISO 8601 UTC; null: never")


class CampaignVerdict(_Answer):
    """What one campaign of the brand makes of the event."""

    campaign: str = Field(description="Campaign id", examples=["spring"])
    version: int | None = Field(description="The version in force when the event occurs; null: none", examples=[1])
    counts: bool = Field(description="Whether the event counts for it")
    sentence: str = Field(description="Why, or why not, for a person")
    rules: tuple[RuleVerdict, ...] = Field(description="Every rule, of a campaign that the event counts for")


class Objection(_Answer):
    """A reason for which the event pays nothing, whatever the rules say."""

    reason: str = Field(description="Its code", examples=["duplicate_order"])
    sentence: str = Field(description="The same for a person")


class TakenBack(_Answer):
    """Points that a refund or an unlike would take back."""

    reverses: str = Field(description="The entry that paid them")
    campaign: str = Field(description="Campaign id", examples=["spring"])
    rule: str = Field(description="The rule that paid them", examples=["share"])
    points: int = Field(description="Points that the member would lose")
    debt: int = Field(description="Points of these taken as negative balance")
    shortfall: int = Field(description="Points that could not be taken back")


class WhatIf(_Answer):
    """What an event would earn now; nothing of it is stored."""

    brand: str = Field(description="Brand id", examples=["acme"])
    member_id: str = Field(description="Member id", examples=["ann"])
    type: str = Field(description="The kind of event that was asked about", examples=["interaction"])
    occurred_at: str = Field(description="ISO 8601 UTC")
    tier: str = Field(description="The influence tier that multipliers go by", examples=["nano"])
    points: int = Field(description="Points it would pay in all, less what it would take back", examples=[30])
    campaigns: tuple[CampaignVerdict, ...] = Field(description="Every campaign of the brand")
    objections: tuple[Objection, ...] = Field(description="Why it pays nothing at all; empty where rules decide")
    taken_back: tuple[TakenBack, ...] = Field(description="What a refund or an unlike takes back")
    referral: str | None = Field(
        default=None, description="Of a purchase with a referrer: `due`, or why the referrer is not rewarded"
    )
    position: int = Field(description="Ledger position of the account that was asked")
