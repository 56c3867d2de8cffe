"""Reads of campaigns: which there are, and their standings."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from sqlalchemy import Connection

from projections import queries
from projections import retroactive as derived
from projections.answers import Campaigns, Standings
from projections.engagement import queries as engagement_queries
from projections.queries import campaigns as campaign_queries
from projections.queries import settlement
from projections.queries import standings as standings_queries
from service.problems import Refusal
from service.reads.access import Access, check, effective, instants


class CampaignReads(Access):
    """Reads of a brand's campaigns."""

    def campaigns(
        self, brand: str, *, as_of: str | None = None, known_at: str | None = None, min_position: str | None = None
    ) -> Campaigns:
        """A brand's campaigns as they are now, or were at a time. Raises `Refusal`."""
        at, known = instants(as_of, known_at)
        with self.ledger(min_position) as conn:
            check(conn, brand, None)
            return campaign_queries.campaigns(conn, brand, self.clock(), at, known)

    def standings(
        self,
        brand: str,
        campaign: str,
        *,
        settled: bool = False,
        retroactive: bool = False,
        cursor: str | None = None,
        limit: int = 100,
        as_of: str | None = None,
        known_at: str | None = None,
        min_position: str | None = None,
    ) -> Standings:
        """A page of a campaign's ranking by its metric, each member with the tier of then. Raises `Refusal`.

        Late records correct it also when the campaign is settled; `settled` asks for the one that the prizes are of,
        `retroactive` for the one that `replay standings` has derived over all that is on the log.
        """
        at, known = instants(as_of, known_at)
        if retroactive:
            if settled or at is not None or known is not None:
                raise Refusal("invalid_request", "retroactive: ask for it without settled, as_of and known_at.")
            return self._retroactive(brand, campaign, cursor, limit, min_position)
        if settled:
            return self._settled(brand, campaign, cursor, limit, at, known, min_position)
        with self.ledger(min_position) as conn:
            now = self.clock()
            metric = queries.campaign_definition(conn, brand, campaign, now if at is None else at).standings
            if metric == standings_queries.POINTS and at is None and known is None:
                return _with_prizes(
                    conn, standings_queries.points_page(conn, brand, campaign, limit, cursor), None, None
                )
            if metric == standings_queries.POINTS:
                paid = standings_queries.points_scores(conn, brand, campaign, at, known)
                return _page(conn, brand, campaign, metric, paid, limit, cursor, at, known)
        effective(as_of, known_at)
        with self.panes(min_position, brand, campaign) as (conn, _):
            scores = engagement_queries.campaign_scores(conn, brand, campaign, metric, at, self.min_posts)
            return _page(conn, brand, campaign, metric, scores, limit, cursor, at, None)

    def _settled(
        self,
        brand: str,
        campaign: str,
        cursor: str | None,
        limit: int,
        at: int | None,
        known: int | None,
        min_position: str | None,
    ) -> Standings:
        """A page of the standings that a campaign was settled by."""
        if at is not None or known is not None:
            raise Refusal("invalid_request", "settled: these standings never change; ask without as_of and known_at.")
        with self.ledger(min_position) as conn:
            check(conn, brand, campaign)
            end = settlement.settlement(conn, brand, campaign)
            if end is None or end.settled_at is None:
                raise Refusal("not_settled", f"The campaign {brand}/{campaign} is not settled.")
            start = standings_queries.start_of(cursor)
            places = settlement.settled_places(conn, brand, campaign, start, limit)
            following = start + len(places)
            return Standings(
                brand=brand,
                campaign=campaign,
                metric=end.metric,
                final=True,
                entries=campaign_queries.with_tiers(conn, brand, places),
                next_cursor=str(following) if following < end.members else None,
                position=queries.read_position(conn),
            )

    def _retroactive(
        self, brand: str, campaign: str, cursor: str | None, limit: int, min_position: str | None
    ) -> Standings:
        """A page of the standings that were derived as if the campaign had been defined before all records."""
        with self.ledger(min_position) as conn:
            check(conn, brand, campaign)
            kept = derived.ranking(conn, brand, campaign)
            if kept is None:
                raise Refusal(
                    "not_derived", f"Nobody has derived them: `groundswell replay standings {brand} {campaign}` does."
                )
            start = standings_queries.start_of(cursor)
            places = derived.page(conn, brand, campaign, start, limit)
            following = start + len(places)
            return Standings(
                brand=brand,
                campaign=campaign,
                metric=kept.metric,
                final=False,
                retroactive=True,
                entries=campaign_queries.with_tiers(conn, brand, places),
                next_cursor=str(following) if following < kept.members else None,
                position=kept.position,
            )


def _page(
    conn: Connection,
    brand: str,
    campaign: str,
    metric: str,
    scores: Sequence[tuple[str, int | Decimal | None]],
    limit: int,
    cursor: str | None,
    as_of: int | None,
    known_at: int | None,
) -> Standings:
    """A page of the ranking of these scores, each member with its tier."""
    page = standings_queries.standings(conn, brand, campaign, metric, scores, {}, limit, cursor)
    entries = campaign_queries.with_tiers(conn, brand, page.entries, as_of)
    return _with_prizes(conn, page.model_copy(update={"entries": entries}), as_of, known_at)


def _with_prizes(conn: Connection, page: Standings, as_of: int | None, known_at: int | None) -> Standings:
    """The page, with prizes once the campaign is settled: they are as of its closing, and known from then on."""
    brand, campaign = page.brand, page.campaign
    end = settlement.settlement(conn, brand, campaign)
    if end is None or end.settled_at is None or (known_at is not None and known_at < end.settled_at):
        return page
    if as_of is not None and as_of < end.closed_at:
        return page
    won = settlement.prizes(conn, brand, campaign, [place.member_id for place in page.entries])
    entries = tuple(place.model_copy(update={"prize": won.get(place.member_id)}) for place in page.entries)
    return page.model_copy(update={"entries": entries, "final": True})
