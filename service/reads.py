"""Every read, as both the HTTP API and the command line ask for it: parameters as text in, the answer's model out.

Here is the one place where reads take the clock, wait for a position and turn what queries raise into problems.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Final

from sqlalchemy import Connection

from aggregates.database import open_database
from aggregates.programs import Brand
from projections import engagement_queries, queries, registry
from projections.engagement_models import EngagementReport, MemberEngagement, MemberTierAnswer, TierReport
from projections.rates import UnknownWindow
from projections.runner import positions as projection_positions
from service.instants import instant, wanted
from service.positions import EngagementPositions, ledger_offsets
from service.problems import Refusal
from service.settings import Settings

WAIT_SECONDS: Final = 5.0
"""How long `min_position` waits before it is refused."""
POLL_SECONDS: Final = 0.05


def now_ms() -> int:
    """The wall clock in epoch milliseconds."""
    return time.time_ns() // 1_000_000


class Reads:
    """The reads over one database. Safe to share between threads."""

    def __init__(self, settings: Settings, clock: Callable[[], int] = now_ms) -> None:
        """Over the database of `settings`; nothing is opened before the first read."""
        self._engine = open_database(settings.database, read_only=True)
        self._epoch = settings.epoch
        self._clock = clock
        self._engagement = EngagementPositions(settings.epoch)

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
        """A page of a campaign's ranking by its metric, each member with the tier of now. Raises `Refusal`."""
        at, known = _instants(as_of, known_at)
        with self._ledger(min_position) as conn:
            defined = queries.campaign_definition(conn, brand, campaign, self._clock() if at is None else at)
            scores: list[tuple[str, int | Decimal | None]]
            if defined.standings == "points":
                scores = list(queries.points_scores(conn, brand, campaign, at, known))
            else:
                _effective(as_of, known_at)
                scores = [
                    (one.member, one.score)
                    for one in engagement_queries.campaign_scores(
                        conn, brand, campaign, defined.standings, at, self._min_posts
                    )
                ]
            tiers = engagement_queries.member_tiers(conn, brand, [member for member, _ in scores])
            return queries.standings(conn, brand, campaign, defined.standings, scores, tiers, limit, cursor)

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
        with self._ledger() as conn:
            self._brand(conn, brand, self._clock())

    def positions(self) -> tuple[int, dict[str, int]]:
        """The ledger's last notification id, and that of each read model."""
        with self._engine.connect() as conn:
            return queries.ledger_position(conn), projection_positions(conn, registry.LEDGER)

    def _brand(self, conn: Connection, brand: str, at: int) -> Brand:
        return queries.brand_definition(conn, brand, at)

    @contextmanager
    def _ledger(self, min_position: str | None = None) -> Iterator[Connection]:
        """A connection on which all reads see one instant; queries' errors become refusals."""
        if min_position:
            self._wait_for(wanted(min_position))
        with self._engine.connect() as conn:
            try:
                yield conn
            except queries.NotFound as error:
                raise Refusal(error.code, str(error)) from None
            except (UnknownWindow, engagement_queries.UnknownMetric) as error:
                raise Refusal("invalid_request", str(error)) from None

    @contextmanager
    def _panes(
        self, min_position: str | None, brand: str, campaign: str | None
    ) -> Iterator[tuple[Connection, dict[int, int]]]:
        with self._ledger(min_position) as conn:
            self._brand(conn, brand, self._clock())
            if campaign is not None:
                queries.campaign_definition(conn, brand, campaign, self._clock())
            yield conn, self._positions.engagement(conn)

    def _wait_for(self, position: Wanted) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            with self._engine.connect() as conn:
                if self._is_reached(conn, position):
                    return
            if time.monotonic() >= deadline:
                raise Refusal(
                    "position_not_reached",
                    f"The read models have not reached the position after {WAIT_SECONDS:g} s. Ask again.",
                    headers={"Retry-After": "1"},
                )
            time.sleep(POLL_SECONDS)

    def _is_reached(self, conn: Connection, position: Wanted) -> bool:
        read = queries.read_position(conn)
        if read < position.notification:
            return False
        if not position.offsets:
            return True
        decided, panes = ledger_offsets(conn), self._positions.engagement(conn)
        here = all(
            min(decided.get(partition, -1), panes.get(partition, -1)) >= offset
            for partition, offset in position.offsets.items()
        )
        return here and read >= queries.ledger_position(conn)


def _instants(as_of: str | None, known_at: str | None) -> tuple[int | None, int | None]:
    at = None if as_of is None else instant(as_of, "as_of")
    return at, None if known_at is None else instant(known_at, "known_at")


def _effective(as_of: str | None, known_at: str | None) -> int | None:
    """The effective time of a read of panes, which have no recorded time. Raises `Refusal`."""
    if known_at is not None:
        raise Refusal(
            "known_at_needs_rederive",
            "known_at: panes keep no recorded time; `groundswell replay rederive` answers what was known when.",
            field="known_at",
        )
    return None if as_of is None else instant(as_of, "as_of")
