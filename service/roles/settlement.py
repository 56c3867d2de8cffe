"""What brings campaigns to their end: closes those that are due, and settles those whose markers are passed.

The projector alone does it, every second. Each step is one optimistic write of the campaign, decided on its events, so
whoever is killed between two steps, or does one twice, changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

import sqlalchemy as sa
import structlog

from aggregates.ledger import Ledger
from aggregates.program_decisions import CampaignState
from aggregates.settlement import Score, close, closes_at, settle
from projections import engagement, queries
from projections.queries import settlement
from schemas.topics import TIERS, WINDOWS
from service.closing import load, store
from service.instants import now_ms
from streams import readstate

log = structlog.get_logger()
HOUR_MS: Final = 3_600_000


class Settlements:
    """The campaigns of one database, on their way from ended to settled."""

    def __init__(
        self,
        engine: sa.Engine,
        ledger: Ledger,
        partitions: int,
        grace_ms: int,
        min_posts: int,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        """`engine` only reads; `partitions` are those of the activity log."""
        self._engine = engine
        self._ledger = ledger
        self._partitions = partitions
        self._grace_ms = grace_ms
        self._min_posts = min_posts
        self._clock = clock
        self._seen = -1
        self._due: dict[tuple[str, str], int] = {}
        """When each open campaign that closes by itself does, by the definitions seen so far."""
        self._ends: dict[tuple[str, str], dict[tuple[str, int], int]] = {}
        """Closed campaign → where the pane topics ended when its markers were first seen to be passed: the ends of now
        run ahead of the tables for as long as there is something to do."""

    def step(self) -> int:
        """Close what is due and settle what can be. Returns how many campaigns changed."""
        now = self._clock()
        self._look(now)
        due = [key for key, at in self._due.items() if at <= now]
        closed = sum(self._close(*key) for key in due)
        with self._engine.connect() as conn:  # of one instant: what passed the markers is what the scores are read from
            self._ends = {key: self._ends_behind(conn, *key) for key in settlement.unsettled(conn)}
            return closed + sum(self._settle(conn, *key) for key in self._ends if self._is_ready(conn, *key))

    def _look(self, now: int) -> None:
        """Note when open campaigns are due, again whenever a definition came."""
        with self._engine.connect() as conn:
            latest = settlement.last_definition(conn)
            if latest == self._seen:
                return
            states: dict[tuple[str, str], CampaignState] = {}
            for one in settlement.open_campaigns(conn):
                state = states.setdefault((one.brand, one.campaign), CampaignState())
                state.contents[one.version] = one.content
                state.accepted_at[one.version] = one.accepted_at
        found = {key: closes_at(state, self._grace_ms) for key, state in states.items()}
        self._due = {key: at for key, at in found.items() if at is not None}
        self._seen = latest

    def _close(self, brand: str, campaign: str) -> int:
        state, version = load(self._ledger, brand, campaign)
        at, now = closes_at(state, self._grace_ms), self._clock()
        if at is None:
            del self._due[brand, campaign]
            return 0
        if at > now or not store(self._ledger, brand, campaign, version, [*close(state, now)]):
            return 0  # a definition came in between: it is seen at the next step
        log.info("campaign closed", brand=brand, campaign=campaign)
        return 1

    def _is_ready(self, conn: sa.Connection, brand: str, campaign: str) -> bool:
        """Whether the read models of the ledger, and the engagement tables, have passed every marker."""
        markers = settlement.markers(conn, brand, campaign)
        if len(markers) < self._partitions or queries.read_position(conn) < max(markers.values()):
            return False
        ends = self._ends[brand, campaign]
        return len({partition for _, partition in ends}) >= self._partitions and all(
            engagement.position(conn, topic, partition) >= end for (topic, partition), end in ends.items()
        )

    def _ends_behind(self, conn: sa.Connection, brand: str, campaign: str) -> dict[tuple[str, int], int]:
        """By topic and partition: up to where the pane topics surely have all that stands before the markers."""
        seen = self._ends.get((brand, campaign), {})
        found = {
            (topic, row.partition): json.loads(row.outputs).get(topic, 0)
            for row in readstate.behind_marker(conn, brand, campaign)
            for topic in (WINDOWS, TIERS)
        }
        return {at: min(end, seen.get(at, end)) for at, end in found.items()}  # they are less in a topic made anew

    def _settle(self, conn: sa.Connection, brand: str, campaign: str) -> int:
        state, version = load(self._ledger, brand, campaign)
        events = settle(state, self._scores(conn, state), self._min_posts, self._clock())
        if not events or not store(self._ledger, brand, campaign, version, [*events]):
            return 0
        log.info("campaign settled", brand=brand, campaign=campaign)
        return 1

    def _scores(self, conn: sa.Connection, state: CampaignState) -> list[tuple[str, Score]]:
        closed = state.closed
        assert closed is not None
        metric = next(one.standings for one in state.versions() if one.version == closed.version)
        return settlement.scores_before_markers(conn, closed.brand, closed.campaign, metric, self._min_posts)
