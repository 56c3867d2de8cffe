"""What a read of an event's effects answers: frozen models whose JSON is the HTTP body."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from projections.answers import EntrySource, Explained, Number, Unpaid


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class LotNow(_Answer):
    """What became of the lot that an entry made."""

    left: int = Field(description="Points that are still in it", examples=[20])
    state: str = Field(description="pending, active, expired, or used_up when nothing is left", examples=["active"])


class Traced(_Answer):
    """An entry that the event made, and what touched it later."""

    why: Explained = Field(description="The entry, with everything that led to it")
    lot: LotNow | None = Field(description="Null for an entry that made none")
    later: tuple[Explained, ...] = Field(
        description="Entries that took from its lot or gave back to it, or that take it back or cancel it; oldest first"
    )


class Prize(_Answer):
    """The settlement that a prize comes from."""

    campaign: str = Field(description="Campaign id", examples=["spring"])
    version: int = Field(description="The version whose metric and prizes counted")
    metric: str | None = Field(description="Null while the read models have not reached the settlement")
    rank: int = Field(description="Place, from 1; equal scores share one")
    score: Number = Field(
        description="By the metric: points, interactions, minor units or a rate; null while not read yet"
    )
    members: int | None = Field(description="Places in the settled standings")
    settled_at: str | None = Field(description="When its standings were kept, UTC")


class Judged(_Answer):
    """What the ledger made of one record."""

    source: EntrySource = Field(description="The record")
    record_type: str = Field(description="Type of the record", examples=["Purchase"])
    member_id: str = Field(description="Whose account it is on")
    occurred_at: str = Field(description="When it occurred, UTC", examples=["2026-03-01T09:30:00.000Z"])
    recorded_at: str = Field(description="When the ledger decided it, UTC")
    happened: dict[str, Any] = Field(description="What the record said happened")
    tier: str | None = Field(description="The member's tier as of it; null where none is asked for")
    tier_followers: int | None = Field(description="The followers behind that tier")
    entries: tuple[Traced, ...] = Field(description="The movements of points that it made")
    unpaid: tuple[Unpaid, ...] = Field(description="Campaigns and rules that paid nothing for it, and why")
    refused: str | None = Field(description="Why a command was refused, in a sentence; null for what was not")
    prize: Prize | None = Field(description="Where a prize comes from; null for anything else")


class Referral(_Answer):
    """A purchase, or its refund, on the key of the member who referred the buyer."""

    member_id: str = Field(description="The member who referred", examples=["ann"])
    event_id: str = Field(description="Event id of the record on that member's key")
    judged: Judged | None = Field(description="What it came to there; null while the ledger has not judged it")


class Caused(Judged):
    """What the ledger made of one record, and what that put on another member's key."""

    referral: Referral | None = Field(description="What it puts on the key of the member who referred; null for none")


class Effects(_Answer):
    """All that came of the events of this id, by the times asked for."""

    brand: str = Field(description="Brand id", examples=["acme"])
    member_id: str = Field(description="Member id", examples=["ann"])
    events: tuple[Caused, ...] = Field(description="One for each record type that came under the id")
    position: int = Field(description="Ledger position that the answer reflects", examples=[48213])
