"""Routes of engagement: what happened in a window, by brand, member, post and influence tier."""

from __future__ import annotations

from fastapi import APIRouter, Response

from projections.engagement.models import EngagementReport, MemberEngagement, MemberTierAnswer, PostReport, TierReport
from projections.rates import Window
from service.api import errors
from service.api.params import (
    AsOf,
    BrandId,
    CampaignOf,
    Limit,
    MemberId,
    MinPosition,
    NoKnownAt,
    PlatformOf,
    ReadsOf,
    WindowOf,
    answer,
)

routes = APIRouter(prefix="/v1/brands/{brand}", tags=["engagement"], responses=errors.DOCUMENTED)


@routes.get("/members/{member}/tier", response_model=MemberTierAnswer)
def member_tier(
    reads: ReadsOf,
    brand: BrandId,
    member: MemberId,
    as_of: AsOf = None,
    known_at: NoKnownAt = None,
    min_position: MinPosition = None,
) -> Response:
    """A member's influence tier and the followers behind it, platform by platform."""
    return answer(reads.member_tier(brand, member, as_of=as_of, known_at=known_at, min_position=min_position))


@routes.get("/members/{member}/engagement", response_model=MemberEngagement)
def member_engagement(
    reads: ReadsOf,
    brand: BrandId,
    member: MemberId,
    window: WindowOf = Window.DAY,
    campaign: CampaignOf = None,
    platform: PlatformOf = None,
    as_of: AsOf = None,
    known_at: NoKnownAt = None,
    min_position: MinPosition = None,
) -> Response:
    """A member's counts and rates in a window of whole hours."""
    return answer(
        reads.member_engagement(
            brand,
            member,
            window,
            campaign=campaign,
            platform=platform,
            as_of=as_of,
            known_at=known_at,
            min_position=min_position,
        )
    )


@routes.get("/members/{member}/posts", response_model=PostReport)
def posts(
    reads: ReadsOf,
    brand: BrandId,
    member: MemberId,
    window: WindowOf = Window.DAY,
    platform: PlatformOf = None,
    limit: Limit = 100,
    as_of: AsOf = None,
    known_at: NoKnownAt = None,
    min_position: MinPosition = None,
) -> Response:
    """A member's posts with any activity in a window of whole hours, most engagements first, each with its rates."""
    return answer(
        reads.posts(
            brand,
            member,
            window,
            platform=platform,
            limit=limit,
            as_of=as_of,
            known_at=known_at,
            min_position=min_position,
        )
    )


@routes.get("/engagement", response_model=EngagementReport)
def engagement(
    reads: ReadsOf,
    brand: BrandId,
    window: WindowOf = Window.DAY,
    campaign: CampaignOf = None,
    platform: PlatformOf = None,
    as_of: AsOf = None,
    known_at: NoKnownAt = None,
    min_position: MinPosition = None,
) -> Response:
    """A brand's counts, sales and rates in a window; a rate without posts or reach is null."""
    return answer(
        reads.engagement(
            brand,
            window,
            campaign=campaign,
            platform=platform,
            as_of=as_of,
            known_at=known_at,
            min_position=min_position,
        )
    )


@routes.get("/tiers", response_model=TierReport)
def tiers(
    reads: ReadsOf,
    brand: BrandId,
    window: WindowOf = Window.DAY,
    campaign: CampaignOf = None,
    platform: PlatformOf = None,
    as_of: AsOf = None,
    known_at: NoKnownAt = None,
    min_position: MinPosition = None,
) -> Response:
    """One row for each influence tier: its members by followers, counts and rates in a window."""
    return answer(
        reads.tiers(
            brand,
            window,
            campaign=campaign,
            platform=platform,
            as_of=as_of,
            known_at=known_at,
            min_position=min_position,
        )
    )
