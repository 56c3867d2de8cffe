"""Routes of a member's points: balance, statement, why, what an event caused, and what one would earn."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from projections.answers import Balance, Explanation, Statement
from projections.answers.effects import Effects
from service.api import errors
from service.api.errors import TOO_LARGE
from service.api.gathered import Gathering
from service.api.params import (
    AsOf,
    BrandId,
    Cursor,
    KnownAt,
    Limit,
    MemberId,
    MinPosition,
    ReadsOf,
    StrictRoute,
    answer,
)
from service.api.positions import LedgerIncludes
from service.whatif_answers import Event, WhatIf

routes = APIRouter(prefix="/v1/brands/{brand}", tags=["ledger"], responses=errors.DOCUMENTED, route_class=StrictRoute)


@routes.get("/members/{member}/balance", response_model=Balance)
async def balance(
    request: Request,
    reads: ReadsOf,
    _: LedgerIncludes,
    brand: BrandId,
    member: MemberId,
    as_of: AsOf = None,
    known_at: KnownAt = None,
) -> Response:
    """A member's points: active, pending, spent, expired and reversed. A member never seen has zeros."""
    if as_of is None and known_at is None:
        gathering: Gathering = request.app.state.gathering
        return Response(await gathering.balances.ask((brand, member)), media_type="application/json")
    return answer(await asyncio.to_thread(reads.balance, brand, member, as_of=as_of, known_at=known_at))


@routes.get("/members/{member}/statement", response_model=Statement)
def statement(
    reads: ReadsOf,
    _: LedgerIncludes,
    brand: BrandId,
    member: MemberId,
    cursor: Cursor = None,
    limit: Limit = 100,
    as_of: AsOf = None,
    known_at: KnownAt = None,
) -> Response:
    """A member's movements of points, each with its rule, campaign version and source record."""
    return answer(reads.statement(brand, member, cursor=cursor, limit=limit, as_of=as_of, known_at=known_at))


@routes.get("/members/{member}/explanation", response_model=Explanation)
def explanation(
    reads: ReadsOf,
    _: LedgerIncludes,
    brand: BrandId,
    member: MemberId,
    entry: Annotated[str | None, Query(description="Only this statement entry, and what takes it back")] = None,
    as_of: AsOf = None,
    known_at: KnownAt = None,
) -> Response:
    """Where each of a member's points comes from: record, rule, version, tier, caps; and what paid nothing, and why."""
    return answer(reads.explain(brand, member, entry, as_of=as_of, known_at=known_at))


@routes.get("/members/{member}/effects", response_model=Effects)
def effects(
    reads: ReadsOf,
    _: LedgerIncludes,
    brand: BrandId,
    member: MemberId,
    event: Annotated[str, Query(description="Event id, or `partition:offset` of its record", examples=["e-1"])],
    as_of: AsOf = None,
    known_at: KnownAt = None,
) -> Response:
    """All that came of a member's event: lots and what became of them, refusals, the referral it put on another's key.

    Read from the ledger itself, which may be ahead of the read models by a moment.
    """
    return answer(reads.effects(brand, member, event, as_of=as_of, known_at=known_at))


@routes.post("/members/{member}/simulate", response_model=WhatIf, responses={413: errors.described(TOO_LARGE)})
def simulate(
    reads: ReadsOf, brand: BrandId, member: MemberId, body: Event, min_position: MinPosition = None
) -> Response:
    """What an event would earn the member now: each campaign and rule with what it pays, or why it does not.

    Nothing is written. The worker's own code judges it, on the account, tier and memberships that are stored.
    """
    return answer(reads.what_if(brand, member, body, min_position=min_position))
