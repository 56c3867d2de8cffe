"""Routes of a campaign: its standings."""

from __future__ import annotations

from fastapi import APIRouter, Response

from projections.answers import Standings
from service import api_errors
from service.api_params import AsOf, BrandId, CampaignId, Cursor, KnownAt, Limit, MinPosition, ReadsOf, answer

routes = APIRouter(prefix="/v1/brands/{brand}", tags=["campaigns"], responses=api_errors.DOCUMENTED)


@routes.get("/campaigns/{campaign}/standings", response_model=Standings)
def standings(
    reads: ReadsOf,
    brand: BrandId,
    campaign: CampaignId,
    cursor: Cursor = None,
    limit: Limit = 100,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    min_position: MinPosition = None,
) -> Response:
    """A campaign's members by its metric; equal scores share a rank (1, 2, 2, 4)."""
    return answer(
        reads.standings(
            brand, campaign, cursor=cursor, limit=limit, as_of=as_of, known_at=known_at, min_position=min_position
        )
    )
