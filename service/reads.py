"""Every read, as both the HTTP API and the command line ask for it: parameters as text in, the answer's model out.

Here is the one place where reads take the clock, wait for a position and turn what queries raise into problems.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Final

from sqlalchemy import Connection

from aggregates.database import open_database
from projections import engagement_queries, queries, registry
from projections.answers import Balance, Explanation, Standings, Statement
from projections.engagement_models import EngagementReport, MemberEngagement, MemberTierAnswer, PostReport, TierReport
from projections.rates import UnknownWindow
from projections.runner import positions as projection_positions
from service.instants import instant, now_ms, wanted
from service.positions import EngagementPositions, ledger_offsets
from service.problems import Refusal
from service.settings import Settings

WAIT_SECONDS: Final = 5.0
"""How long `min_position` waits before it is refused."""
POLL_SECONDS: Final = 0.05
POINTS: Final = "points"
"""The standings metric that the ledger scores; the others come from the panes."""


class Reads:
    """The reads over one database. Safe to share between threads."""

    def __init__(self, settings: Settings, clock: Callable[[], int] = now_ms) -> None:
        """Over the database of `settings`; nothing is opened before the first read."""
        self._engine = open_database(settings.database, read_only=True)
        self._min_posts = settings.min_posts
        self._clock = clock
        self._engagement = EngagementPositions()

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
            now = self._clock()
            metric = queries.campaign_definition(conn, brand, campaign, now if at is None else at).standings
            if metric == POINTS:
                paid = queries.points_scores(conn, brand, campaign, at, known)
                return _ranked(conn, brand, campaign, metric, paid, limit, cursor)
        _effective(as_of, known_at)
        with self._panes(min_position, brand, campaign) as (conn, _):
            scores = engagement_queries.campaign_scores(conn, brand, campaign, metric, at, self._min_posts)
            return _ranked(conn, brand, campaign, metric, scores, limit, cursor)

    def explain(self, brand: str, member: str, entry: str | None = None) -> Explanation:
        """Where each of a member's points comes from, and what paid nothing and why. Raises `Refusal`."""
        with self._ledger(None) as conn:
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
        at = _effective(as_of, known_at)
        with self._panes(min_position, brand, campaign) as (conn, positions):
            return engagement_queries.member_engagement(
                conn, brand, member, window, self._clock(), at, campaign, platform, positions=positions
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
        at = _effective(as_of, known_at)
        with self._panes(min_position, brand, None) as (conn, positions):
            return engagement_queries.posts(
                conn, brand, member, window, self._clock(), at, platform, limit, positions=positions
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
            _check(conn, brand, None)

    def positions(self) -> tuple[int, dict[str, int]]:
        """The ledger's last notification id, and how far each of its read models is."""
        with self._engine.connect() as conn:
            return queries.ledger_position(conn), projection_positions(conn, registry.LEDGER)

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """A connection on which all reads see one instant; what queries raise becomes refusals."""
        with self._engine.connect() as conn:
            try:
                yield conn
            except queries.NotFound as error:
                raise Refusal(error.code, str(error)) from None
            except UnknownWindow as error:
                raise Refusal("invalid_request", str(error), field="window") from None

    @contextmanager
    def _ledger(self, min_position: str | None) -> Iterator[Connection]:
        """A connection whose ledger tables include `min_position`."""
        if min_position is not None:
            self._wait_for_ledger(min_position)
        with self._connection() as conn:
            yield conn

    @contextmanager
    def _panes(
        self, min_position: str | None, brand: str, campaign: str | None
    ) -> Iterator[tuple[Connection, dict[int, int]]]:
        """A connection whose engagement tables include `min_position`, and what they include, for a known brand."""
        if min_position is not None:
            self._wait_for_panes(min_position)
        with self._connection() as conn:
            _check(conn, brand, campaign)
            yield conn, self._engagement.included(conn)

    def _wait_for_ledger(self, min_position: str) -> None:
        """Return once the ledger's read models include a position. Raises `Refusal` when that takes too long."""
        asked = wanted(min_position)
        until = self._patience(min_position)
        target = asked.notification
        if asked.offsets:
            until(lambda conn: _reached(ledger_offsets(conn), asked.offsets))
            with self._engine.connect() as conn:
                target = queries.ledger_position(conn)
        until(lambda conn: queries.read_position(conn) >= target)

    def _wait_for_panes(self, min_position: str) -> None:
        """Return once the engagement tables include a position. Raises `Refusal` when that takes too long."""
        asked = wanted(min_position)
        until = self._patience(min_position)
        offsets: Mapping[int, int] = asked.offsets
        if asked.notification:
            until(lambda conn: queries.ledger_position(conn) >= asked.notification)
            with self._engine.connect() as conn:
                offsets = ledger_offsets(conn)
        until(lambda conn: _reached(self._engagement.included(conn), offsets))

    def _patience(self, min_position: str) -> Callable[[Callable[[Connection], bool]], None]:
        """A function that waits for a condition; all its waits together last at most `WAIT_SECONDS`."""
        deadline = time.monotonic() + WAIT_SECONDS

        def until(holds: Callable[[Connection], bool]) -> None:
            while True:
                with self._engine.connect() as conn:
                    if holds(conn):
                        return
                if time.monotonic() >= deadline:
                    raise Refusal(
                        "position_not_reached",
                        f"min_position: `{min_position}` is not reached after {WAIT_SECONDS:g} s; ask again, "
                        "or without it for what there is.",
                        headers={"Retry-After": "1"},
                    )
                time.sleep(POLL_SECONDS)

        return until


def _ranked(
    conn: Connection,
    brand: str,
    campaign: str,
    metric: str,
    scores: Sequence[tuple[str, int | Decimal | None]],
    limit: int,
    cursor: str | None,
) -> Standings:
    """A page of the ranking of these scores; tiers are looked up for the page alone."""
    page = queries.standings(conn, brand, campaign, metric, scores, {}, limit, cursor)
    tiers = engagement_queries.member_tiers(conn, brand, [place.member_id for place in page.entries])
    entries = tuple(place.model_copy(update={"tier": tiers[place.member_id]}) for place in page.entries)
    return page.model_copy(update={"entries": entries})


def _check(conn: Connection, brand: str, campaign: str | None) -> None:
    if not queries.brand_exists(conn, brand):
        raise Refusal("unknown_brand", f"There is no brand `{brand}`.")
    if campaign is not None and not queries.campaign_exists(conn, brand, campaign):
        raise Refusal("unknown_campaign", f"Brand `{brand}` has no campaign `{campaign}`.")


def _reached(included: Mapping[int, int], asked: Mapping[int, int]) -> bool:
    return all(included.get(partition, -1) >= offset for partition, offset in asked.items())


def _instants(as_of: str | None, known_at: str | None) -> tuple[int | None, int | None]:
    at = None if as_of is None else instant(as_of, "as_of")
    return at, None if known_at is None else instant(known_at, "known_at")


def _effective(as_of: str | None, known_at: str | None) -> int | None:
    """The effective time of a read of panes. Raises `Refusal` for a recorded time, which panes do not keep."""
    if known_at is not None:
        raise Refusal(
            "known_at_needs_rederive",
            "known_at: panes keep no recorded time; `groundswell replay rederive` answers what engagement was known "
            "then, by running the log up to there again.",
            field="known_at",
        )
    return None if as_of is None else instant(as_of, "as_of")
