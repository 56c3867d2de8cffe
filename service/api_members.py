"""Routes of a member's points: balance and statement."""

from __future__ import annotations

from fastapi import APIRouter, Response

from projections.answers import Balance, Statement
from service import api_errors
from service.api_params import AsOf, BrandId, Cursor, KnownAt, Limit, MemberId, MinPosition, ReadsOf, answer

routes = APIRouter(prefix="/v1/brands/{brand}", tags=["ledger"], responses=api_errors.DOCUMENTED)


@routes.get("/members/{member}/balance", response_model=Balance)
def balance(
    reads: ReadsOf,
    brand: BrandId,
    member: MemberId,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    min_position: MinPosition = None,
) -> Response:
    """A member's points: active, pending, spent, expired and reversed. A member never seen has zeros."""
    return answer(reads.balance(brand, member, as_of=as_of, known_at=known_at, min_position=min_position))


@routes.get("/members/{member}/statement", response_model=Statement)
def statement(
    reads: ReadsOf,
    brand: BrandId,
    member: MemberId,
    cursor: Cursor = None,
    limit: Limit = 100,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    min_position: MinPosition = None,
) -> Response:
    """A member's movements of points, each with its rule, campaign version and source record."""
    return answer(
        reads.statement(
            brand, member, cursor=cursor, limit=limit, as_of=as_of, known_at=known_at, min_position=min_position
        )
    )
