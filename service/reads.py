"""Every read, as both the HTTP API and the command line ask for it: parameters as text in, the answer's model out.

Here is the one place where reads take the clock, wait for a position and turn what queries raise into problems.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection, Engine

from aggregates.database import open_database
from aggregates.programs import Brand, from_content
from projections import engagement_queries, queries
from projections.engagement_models import EngagementReport, MemberEngagement, MemberTierAnswer, TierReport
from projections.queries import Balance, Explanation, Standings, Statement
from projections.rates import UnknownWindow
from service.instants import instant, wanted
from service.positions import Positions
from service.problems import Refusal

WAIT_SECONDS: Final = 5.0
"""How long `min_position` waits before it is refused."""
POLL_SECONDS: Final = 0.05


def now_ms() -> int:
    """The wall clock in epoch milliseconds."""
    return time.time_ns() // 1_000_000


class Reads:
    """The reads over one database. Safe to share between threads."""

    def __init__(self, engine: Engine, clock: Callable[[], int] = now_ms) -> None:
        self._engine = engine
        self._clock = clock
        self._positions = Positions()

    @classmethod
    def of(cls, database: str) -> Reads:
        """The reads over the database at this address; nothing is opened before the first one."""
        return cls(open_database(database, read_only=True))

    def close(self) -> None:
        """Give back the connections."""
        self._engine.dispose()

    def balance(
        self,
        brand: str,
        member: str,
        *,
        as_of: str | None = None,
        known_at: str | None = None,
        min_position: str | None = None,
    ) -> Balance:
        """A member's points; all zero for one never seen. Raises `Refusal`."""
        at, known = _instants(as_of, known_at)
        with self._ledger(min_position) as conn:
            return queries.balance(conn, brand, member, self._clock(), as_of=at, known_at=known)

    def statement(
        self,
        brand: str,
        member: str,
        *,
        cursor: str | None = None,
        limit: int = 100,
        as_of: str | None = None,
        known_at: str | None = None,
        min_position: str | None = None,
    ) -> Statement:
        """A page of a member's movements. Raises `Refusal`."""
        at, known = _instants(as_of, known_at)
        with self._ledger(min_position) as conn:
            return queries.statement(conn, brand, member, cursor=cursor, limit=limit, as_of=at, known_at=known)

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
        """A page of a campaign's ranking by points, each member with the tier of now. Raises `Refusal`."""
        at, known = _instants(as_of, known_at)
        with self._ledger(min_position) as conn:
            page = queries.standings(conn, brand, campaign, as_of=at, known_at=known, limit=limit, cursor=cursor)
            tiers = engagement_queries.member_tiers(conn, brand, [entry.member_id for entry in page.entries])
            entries = [entry.model_copy(update={"tier": tiers[entry.member_id]}) for entry in page.entries]
            return page.model_copy(update={"entries": entries})

    def explain(self, brand: str, member: str, entry: str | None = None) -> Explanation:
        """Where each of a member's points comes from, and what paid nothing and why. Raises `Refusal`."""
        with self._ledger() as conn:
            return queries.explain(conn, brand, member, entry_id=entry)

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
        at = _effective(as_of, known_at)
        with self._panes(min_position, brand, campaign) as (conn, positions):
            return engagement_queries.engagement(
                conn, brand, window, self._clock(), at, campaign, platform, positions=positions
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
        at = _effective(as_of, known_at)
        with self._panes(min_position, brand, campaign) as (conn, positions):
            now = self._clock()
            bands = self._brand(conn, brand, now if at is None else at).tiers
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
        at = _effective(as_of, known_at)
        with self._panes(min_position, brand, campaign) as (conn, positions):
            return engagement_queries.member_engagement(
                conn, brand, member, window, self._clock(), at, campaign, platform, positions=positions
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
        """A member's tier of now. Raises `Refusal`, also for an earlier time: only the latest profile is kept."""
        if _effective(as_of, known_at) is not None:
            raise Refusal(
                "as_of_needs_rederive",
                "as_of: only a member's latest tier is kept; "
                "`groundswell replay rederive` answers what it was at an earlier time.",
                field="as_of",
            )
        with self._panes(min_position, brand, None) as (conn, positions):
            return engagement_queries.member_tier(conn, brand, member, positions=positions)

    def check_brand(self, brand: str) -> None:
        """Raises `Refusal` for a brand without a definition."""
        with self._connection() as conn:
            self._check(conn, brand, None)
