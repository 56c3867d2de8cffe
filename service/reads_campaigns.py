"""Reads of a campaign: its standings."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from sqlalchemy import Connection

from projections import engagement_queries, queries, standings_queries
from projections.answers import Standings
from service.reads_access import Access, effective, instants

POINTS: Final = "points"
"""The standings metric that the ledger scores; the others come from the panes."""


class CampaignReads(Access):
    """Reads of one campaign."""

    def standings(
        self,
        brand: str,
        campaign: str,
        *,
        cursor: str | None = None,
        limit: int = 100,
        as_of: str | None = None,
        known_at: str | None = None,
        min_position: str | None = None,
    ) -> Standings:
        """A page of a campaign's ranking by its metric, each member with the tier of now. Raises `Refusal`."""
        at, known = instants(as_of, known_at)
        with self.ledger(min_position) as conn:
            now = self.clock()
            metric = queries.campaign_definition(conn, brand, campaign, now if at is None else at).standings
            if metric == POINTS:
                paid = standings_queries.points_scores(conn, brand, campaign, at, known)
                return _page(conn, brand, campaign, metric, paid, limit, cursor)
        effective(as_of, known_at)
        with self.panes(min_position, brand, campaign) as (conn, _):
            scores = engagement_queries.campaign_scores(conn, brand, campaign, metric, at, self.min_posts)
            return _page(conn, brand, campaign, metric, scores, limit, cursor)


def _page(
    conn: Connection,
    brand: str,
    campaign: str,
    metric: str,
    scores: Sequence[tuple[str, int | Decimal | None]],
    limit: int,
    cursor: str | None,
) -> Standings:
    """A page of the ranking of these scores; tiers are looked up for the page alone."""
    page = standings_queries.standings(conn, brand, campaign, metric, scores, {}, limit, cursor)
    tiers = engagement_queries.member_tiers(conn, brand, [place.member_id for place in page.entries])
    entries = tuple(place.model_copy(update={"tier": tiers[place.member_id]}) for place in page.entries)
    return page.model_copy(update={"entries": entries})
