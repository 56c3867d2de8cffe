"""Routes that put engagement and the ledger together: a campaign's report, and whom to ask."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from projections.answers.reports import Ambassadors, CampaignReport
from projections.rates import Window
from service.api import errors
from service.api.params import AsOf, BrandId, CampaignId, Limit, MinPosition, NoKnownAt, ReadsOf, WindowOf, answer

routes = APIRouter(prefix="/v1/brands/{brand}", tags=["reports"], responses=errors.DOCUMENTED)


@routes.get("/campaigns/{campaign}/report", response_model=CampaignReport)
def report(
    reads: ReadsOf,
    brand: BrandId,
    campaign: CampaignId,
    as_of: AsOf = None,
    known_at: NoKnownAt = None,
    min_position: MinPosition = None,
) -> Response:
    """What a campaign brought and cost: reach, engagement by tier, members, referrals, revenue, points, by day."""
    return answer(reads.report(brand, campaign, as_of=as_of, known_at=known_at, min_position=min_position))


@routes.get("/ambassadors", response_model=Ambassadors)
def ambassadors(
    reads: ReadsOf,
    brand: BrandId,
    window: WindowOf = Window.MONTH,
    tier: Annotated[
        str | None, Query(description="Only members who are in this tier, now or as of `as_of`", examples=["nano"])
    ] = None,
    limit: Limit = 20,
    as_of: AsOf = None,
    known_at: NoKnownAt = None,
    min_position: MinPosition = None,
) -> Response:
    """Whom to ask: members by how strongly their followers answer and by the sales they bring, with the reasons."""
    return answer(
        reads.ambassadors(
            brand, window, tier=tier, limit=limit, as_of=as_of, known_at=known_at, min_position=min_position
        )
    )
