"""Routes of campaigns: which there are, their standings, and their settlement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request, Response

from projections.answers import Campaigns, Settlement, Standings
from service import closing
from service.api import errors
from service.api.access import KeyOf
from service.api.params import AsOf, BrandId, CampaignId, KnownAt, Limit, MinPosition, PlaceCursor, ReadsOf, answer
from service.api.positions import LedgerIncludes

if TYPE_CHECKING:
    from service.settings import Settings

SETTLEMENT_SECONDS = 10.0
"""How long a settlement is waited for before the answer is 503; it goes on by itself."""

routes = APIRouter(prefix="/v1/brands/{brand}", tags=["campaigns"], responses=errors.DOCUMENTED)


@routes.get("/campaigns", response_model=Campaigns)
def campaigns(
    reads: ReadsOf, brand: BrandId, _: LedgerIncludes, as_of: AsOf = None, known_at: KnownAt = None
) -> Response:
    """A brand's campaigns: version in force, status (draft, scheduled, live, ended, settled), window, budget spent."""
    return answer(reads.campaigns(brand, as_of=as_of, known_at=known_at))


@routes.post(
    "/campaigns/{campaign}/settlement",
    response_model=Settlement,
    responses={409: errors.described("The campaign is a draft, or not over yet")},
)
async def settle(request: Request, brand: BrandId, campaign: CampaignId, who: KeyOf) -> Response:
    """Close a campaign that is over, and pay its prizes; asking again gets what was done."""
    settings: Settings = request.app.state.settings
    return answer(await closing.settle(settings, brand, campaign, SETTLEMENT_SECONDS, who.asker))


@routes.get(
    "/campaigns/{campaign}/standings",
    response_model=Standings,
    responses={409: errors.described("`settled` was asked for, and the campaign is not settled")},
)
def standings(
    reads: ReadsOf,
    brand: BrandId,
    campaign: CampaignId,
    settled: Annotated[
        bool, Query(description="The standings that the prizes are of, which late records do not correct")
    ] = False,
    retroactive: Annotated[
        bool, Query(description="Those that `replay standings` derived over all records, whenever it was defined")
    ] = False,
    cursor: PlaceCursor = None,
    limit: Limit = 100,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    min_position: MinPosition = None,
) -> Response:
    """A campaign's members by its metric; equal scores share a rank (1, 2, 2, 4)."""
    return answer(
        reads.standings(
            brand,
            campaign,
            settled=settled,
            retroactive=retroactive,
            cursor=cursor,
            limit=limit,
            as_of=as_of,
            known_at=known_at,
            min_position=min_position,
        )
    )
