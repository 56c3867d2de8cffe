"""What commands answer: typed, each the same for ever, so that a retry gets the first answer byte for byte."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

_POSITION = "Ledger position that includes it; reads take it as `min_position`"


class _Decided(BaseModel):
    """What every answer to a command has."""

    model_config = ConfigDict(frozen=True)

    brand: str = Field(description="Brand id", examples=["acme"])
    member_id: str = Field(description="Member id", examples=["ann"])


class RedemptionAnswer(_Decided):
    """Points spent."""

    redemption_id: str = Field(description="Id of the statement entry; cancels it", examples=["5d41402abc4b2a76"])
    points: int = Field(description="Points spent", examples=[200])
    idempotency_key: str = Field(description="The key it was asked with", examples=["order-77"])
    occurred_at: str = Field(
        description="When it was asked for, ISO 8601 UTC; active points are those of that instant",
        examples=["2026-03-05T12:00:00Z"],
    )
    position: int = Field(description=_POSITION, examples=[1234])


class CancellationAnswer(_Decided):
    """A redemption undone; its points are back in the lots that gave them, with the expiry they had."""

    cancellation_id: str = Field(description="Id of the statement entry", examples=["9b74c9897bac770f"])
    redemption_id: str = Field(description="The redemption that it cancels", examples=["5d41402abc4b2a76"])
    points: int = Field(description="Points given back; what expired meanwhile comes back expired", examples=[200])
    idempotency_key: str = Field(description="The key it was asked with", examples=["order-77-void"])
    occurred_at: str = Field(description="When it was asked for, ISO 8601 UTC", examples=["2026-03-06T09:00:00Z"])
    position: int = Field(description=_POSITION, examples=[1301])


class AdjustmentAnswer(_Decided):
    """Points added or taken by hand."""

    adjustment_id: str = Field(description="Id of the statement entry", examples=["6f1ed002ab559585"])
    points: int = Field(description="Points added, or below zero: taken", examples=[-50])
    reason: str = Field(description="Why, as it was said", examples=["goodwill after a late parcel"])
    idempotency_key: str = Field(description="The key it was asked with", examples=["ticket-4711"])
    occurred_at: str = Field(description="When it was asked for, ISO 8601 UTC", examples=["2026-03-06T09:30:00Z"])
    position: int = Field(description=_POSITION, examples=[1302])


class EnrolmentAnswer(_Decided):
    """A member joins or leaves a campaign, for what occurs from then on."""

    campaign: str = Field(description="Campaign id", examples=["spring"])
    kind: str = Field(description="`joined` or `left`", examples=["joined"])
    occurred_at: str = Field(description="From when it holds, ISO 8601 UTC", examples=["2026-03-05T12:00:00Z"])
    position: str = Field(
        description="Where its record stands, `partition:offset`; reads take it as `min_position`", examples=["0:17"]
    )
