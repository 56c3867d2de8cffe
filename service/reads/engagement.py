"""Reads of what the panes hold: engagement of brands, members, posts and tiers, and a member's tier."""

from __future__ import annotations

from projections import queries
from projections.engagement import queries as engagement_queries
from projections.engagement import tier_queries
from projections.engagement.models import EngagementReport, MemberEngagement, MemberTierAnswer, PostReport, TierReport
from service.reads.access import Access, effective


class EngagementReads(Access):
    """Reads of the panes."""

    def engagement(
        self,
        brand: str,
        window: str = "24h",
        *,
        campaign: str | None = None,
        platform: str | None = None,
        as_of: str | None = None,
        known_at: str | None = None,
        min_position: str | None = None,
    ) -> EngagementReport:
        """A brand's counts and rates in a window. Raises `Refusal`."""
        at = effective(as_of, known_at)
        with self.panes(min_position, brand, campaign) as (conn, positions):
            return engagement_queries.engagement(
                conn, brand, window, self.clock(), at, campaign, platform, positions=positions
            )

    def tiers(
        self,
        brand: str,
        window: str = "24h",
        *,
        campaign: str | None = None,
        platform: str | None = None,
        as_of: str | None = None,
        known_at: str | None = None,
        min_position: str | None = None,
    ) -> TierReport:
        """Counts and rates of each influence tier of a brand in a window. Raises `Refusal`."""
        at = effective(as_of, known_at)
        with self.panes(min_position, brand, campaign) as (conn, positions):
            now = self.clock()
            bands = queries.brand_definition(conn, brand, now if at is None else at).tiers
            return engagement_queries.tiers(
                conn, brand, window, now, bands, at, campaign, platform, positions=positions
            )

    def member_engagement(
        self,
        brand: str,
        member: str,
        window: str = "24h",
        *,
        campaign: str | None = None,
        platform: str | None = None,
        as_of: str | None = None,
        known_at: str | None = None,
        min_position: str | None = None,
    ) -> MemberEngagement:
        """A member's counts and rates in a window of whole hours. Raises `Refusal`."""
        at = effective(as_of, known_at)
        with self.panes(min_position, brand, campaign) as (conn, positions):
            return engagement_queries.member_engagement(
                conn, brand, member, window, self.clock(), at, campaign, platform, positions=positions
            )

    def posts(
        self,
        brand: str,
        member: str,
        window: str = "24h",
        *,
        platform: str | None = None,
        limit: int = 100,
        as_of: str | None = None,
        known_at: str | None = None,
        min_position: str | None = None,
    ) -> PostReport:
        """A member's posts with any activity in a window, by engagements, each with its rates. Raises `Refusal`."""
        at = effective(as_of, known_at)
        with self.panes(min_position, brand, None) as (conn, positions):
            return engagement_queries.posts(
                conn, brand, member, window, self.clock(), at, platform, limit, positions=positions
            )

    def member_tier(
        self,
        brand: str,
        member: str,
        *,
        as_of: str | None = None,
        known_at: str | None = None,
        min_position: str | None = None,
    ) -> MemberTierAnswer:
        """A member's tier, now or as of a time. Raises `Refusal`, also for one before the changes that are kept."""
        at = effective(as_of, known_at)
        with self.panes(min_position, brand, None) as (conn, positions):
            return tier_queries.member_tier(conn, brand, member, at, positions=positions)
