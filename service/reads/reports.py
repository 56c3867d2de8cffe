"""Reads that put engagement and the ledger together: a campaign's report, and whom to ask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from aggregates.definitions import UNKNOWN_TIER
from projections import queries, rates
from projections.answers.reports import Ambassadors, CampaignReport
from projections.queries import ambassadors, reports
from service.problems import Refusal
from service.reads.access import Access, effective


class ReportReads(Access):
    """Reads of panes and ledger at once; of both they include `min_position`."""

    def report(
        self,
        brand: str,
        campaign: str,
        *,
        as_of: str | None = None,
        known_at: str | None = None,
        min_position: str | None = None,
    ) -> CampaignReport:
        """What a campaign brought and cost, in all, by tier and by day. Raises `Refusal`."""
        at = effective(as_of, known_at)
        with self._both(min_position, brand, campaign) as (conn, positions):
            when = self.clock() if at is None else at
            defined = queries.campaign_definition(conn, brand, campaign, when)
            return reports.campaign_report(conn, queries.brand_definition(conn, brand, when), defined, at, positions)

    def ambassadors(
        self,
        brand: str,
        window: str = "30d",
        *,
        tier: str | None = None,
        limit: int = 20,
        as_of: str | None = None,
        known_at: str | None = None,
        min_position: str | None = None,
    ) -> Ambassadors:
        """Members by how strongly they are answered and by the sales they bring. Raises `Refusal`."""
        at = effective(as_of, known_at)
        with self._both(min_position, brand, None) as (conn, positions):
            now = self.clock()
            defined = queries.brand_definition(conn, brand, now if at is None else at)
            tiers = [*(name for name, _ in defined.tiers), UNKNOWN_TIER]
            if tier is not None and tier not in tiers:
                raise Refusal(
                    "unknown_tier",
                    f"tier: brand `{brand}` has no tier `{tier}`; it has {', '.join(tiers)}.",
                    field="tier",
                )
            named = rates.window_named(window)
            return ambassadors.ambassadors(conn, defined, named, now, at, tier, limit, self.min_posts, positions)

    @contextmanager
    def _both(
        self, min_position: str | None, brand: str, campaign: str | None
    ) -> Iterator[tuple[Connection, dict[int, int]]]:
        """A connection whose ledger tables and engagement tables include `min_position`."""
        if min_position is not None:
            self.wait_for_ledger(min_position)
        with self.panes(min_position, brand, campaign) as found:
            yield found
