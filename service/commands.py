"""What members and operators ask of an account: put on the activity log, and answered when the ledger has decided."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any, Final

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field

from aggregates.database import open_database
from aggregates.refusals import Refusal as Reason
from projections import queries
from service import kafka
from service.instants import now_ms
from service.problems import Refusal
from service.publisher import Position, send
from service.settings import Settings

POLL_SECONDS: Final = 0.05


class RedemptionAnswer(BaseModel):
    """The outcome of a redemption; a retry with the same key gets the same one."""

    model_config = ConfigDict(frozen=True)

    redemption_id: str = Field(description="Id of the statement entry", examples=["5d41402abc4b2a76"])
    brand: str = Field(description="Brand id", examples=["acme"])
    member_id: str = Field(description="Member id", examples=["m-1"])
    points: int = Field(description="Points spent", examples=[200])
    idempotency_key: str = Field(description="The key it was asked with", examples=["order-77"])
    occurred_at: str = Field(description="When it was asked for, ISO 8601 UTC")
    position: int = Field(description="Ledger position that includes it")


async def redeem(
    settings: Settings, brand: str, member: str, points: int, key: str, timeout: float, requested_by: str = "api"
) -> RedemptionAnswer:
    """Spend a member's active points through the activity log; returns when the ledger has decided.

    Raises `Refusal` with the ledger's reason, `idempotency_key_reused` for a key that asked for something else, or
    `no_answer_yet` when the decision does not come within `timeout` seconds: the command is then on the log and runs
    once; asking again with the same key gets its outcome.
    """
    engine = open_database(settings.database, read_only=True)
    try:
        found = await asyncio.to_thread(_outcome, engine, brand, member, key)
        if found is None:
            value = {
                "event_id": key,
                "occurred_at": now_ms(),
                "brand_id": brand,
                "member_id": member,
                "kind": "redeem",
                "points": points,
                "reference": None,
                "reason": None,
                "requested_by": requested_by,
            }
            async with kafka.producer(settings.kafka) as client:
                await send(client, settings.signing_key, "Command", value)
            deadline = time.monotonic() + timeout
            while found is None and time.monotonic() < deadline:
                await asyncio.sleep(POLL_SECONDS)
                found = await asyncio.to_thread(_outcome, engine, brand, member, key)
    finally:
        engine.dispose()
    if found is None:
        raise Refusal(
            "no_answer_yet",
            f"The redemption is on the log and not decided after {timeout:g} s (is a worker running?). It will be "
            "decided once; ask again with the same key.",
            headers={"Retry-After": "5"},
        )
    if found.kind != "redeem" or found.points != points:
        raise Refusal(
            "idempotency_key_reused",
            f"The key {key!r} was used for another command of {brand}/{member}: {found.kind} of {found.points} points.",
        )
    if found.reason:
        raise Refusal(found.reason, Reason(found.reason).sentence)
    return RedemptionAnswer(
        redemption_id=found.entry_id,
        brand=brand,
        member_id=member,
        points=points,
        idempotency_key=key,
        occurred_at=found.occurred_at,
        position=found.position,
    )


def _outcome(engine: sa.Engine, brand: str, member: str, key: str) -> Any:
    with engine.connect() as connection:
        return queries.outcome(connection, brand, member, key)


async def enrol(settings: Settings, brand: str, member: str, campaign: str, left: bool = False) -> Position:
    """Publish that a member joins or leaves a campaign, from now on. Raises `Refusal` for an unknown campaign."""
    engine = open_database(settings.database, read_only=True)
    try:
        with engine.connect() as connection:
            if not queries.brand_exists(connection, brand):
                raise Refusal("unknown_brand", f"There is no brand {brand!r}.")
            if not queries.campaign_exists(connection, brand, campaign):
                raise Refusal("unknown_campaign", f"Brand {brand!r} has no campaign {campaign!r}.")
    finally:
        engine.dispose()
    value = {
        "event_id": uuid.uuid4().hex,
        "occurred_at": now_ms(),
        "brand_id": brand,
        "member_id": member,
        "campaign_id": campaign,
        "kind": "left" if left else "joined",
    }
    async with kafka.producer(settings.kafka) as client:
        return await send(client, settings.signing_key, "Enrolment", value)
