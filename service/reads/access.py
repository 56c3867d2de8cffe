"""What every read shares: the clock, connections, waiting for a position, and problems for what queries raise."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import BoundedSemaphore, Lock
from typing import Final

from sqlalchemy import Connection

from aggregates.database import glancing, open_database
from aggregates.ledger import Ledger
from projections import queries, registry
from projections.rates import UnknownWindow
from projections.upkeep.runner import positions as projection_positions
from service.instants import instant, now_ms, wanted
from service.lookout import Lookout, Seen
from service.positions import EngagementPositions, LedgerReached, ledger_reached, panes_behind
from service.problems import Refusal
from service.settings import Settings

WAIT_SECONDS: Final = 5.0
"""How long `min_position` waits before it is refused."""
WAITERS: Final = 30
"""Reads that may wait at the same time: each has a thread, and those that need not wait shall find one too."""


class Access:
    """One database as reads see it. Safe to share between threads."""

    def __init__(self, settings: Settings, clock: Callable[[], int] = now_ms) -> None:
        """Over the database of `settings`; nothing is opened before the first read."""
        self._engine = open_database(settings.database, read_only=True)
        self._glancing = glancing(self._engine)
        self._database = settings.database
        self._whole: Ledger | None = None
        self._opening = Lock()
        self.min_posts = settings.min_posts
        self.partitions = settings.partitions
        self.clock = clock
        self._engagement = EngagementPositions()
        self._places = BoundedSemaphore(WAITERS)
        self.ledger_seen = Lookout(self._look_at_ledger)
        """How far the ledger is, for all who wait for it."""
        self._panes_seen = Lookout(self._look_at_panes)

    def close(self) -> None:
        """Give back the connections."""
        self._engine.dispose()
        if self._whole is not None:
            self._whole.close()

    @property
    def whole(self) -> Ledger:
        """The ledger itself, for what no read model has: whole accounts."""
        with self._opening:
            if self._whole is None:
                self._whole = Ledger(self._database)
            return self._whole

    def check_brand(self, brand: str, campaign: str | None = None) -> None:
        """Raises `Refusal` for a brand, or a campaign of it, without a definition."""
        with self.connection() as conn:
            check(conn, brand, campaign)

    def positions(self) -> tuple[int, dict[str, int]]:
        """The ledger's last notification id, and how far each of its read models is."""
        with self._engine.connect() as conn:
            return queries.ledger_position(conn), projection_positions(conn, registry.LEDGER)

    def panes_behind(self) -> dict[tuple[str, int], int]:
        """Pane topic and partition → records that workers wrote there and the engagement tables do not include yet."""
        with self._engine.connect() as conn:
            return panes_behind(conn)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection on which all reads see one instant; what queries raise becomes refusals."""
        with self._engine.connect() as conn:
            try:
                yield conn
            except queries.NotFound as error:
                raise Refusal(error.code, str(error)) from None
            except UnknownWindow as error:
                raise Refusal("invalid_request", str(error), field="window") from None

    @contextmanager
    def ledger(self, min_position: str | None) -> Iterator[Connection]:
        """A connection whose ledger tables include `min_position`."""
        if min_position is not None:
            self.wait_for_ledger(min_position)
        with self.connection() as conn:
            yield conn

    @contextmanager
    def panes(
        self, min_position: str | None, brand: str, campaign: str | None
    ) -> Iterator[tuple[Connection, dict[int, int]]]:
        """A connection whose engagement tables include `min_position`, and what they include, for a known brand."""
        if min_position is not None:
            self.wait_for_panes(min_position)
        with self.connection() as conn:
            check(conn, brand, campaign)
            yield conn, self._engagement.included(conn)

    def wait_for_ledger(self, min_position: str) -> None:
        """Return once the ledger's read models include a position. Raises `Refusal` when that takes too long."""
        holds = includes(min_position, self.partitions)
        self._wait(min_position, self.ledger_seen, holds, time.monotonic() + WAIT_SECONDS)

    def wait_for_panes(self, min_position: str) -> None:
        """Return once the engagement tables include a position. Raises `Refusal` when that takes too long."""
        asked = wanted(min_position)
        deadline = time.monotonic() + WAIT_SECONDS
        offsets: Mapping[int, int] = asked.offsets
        if max(offsets, default=0) >= self.partitions:
            _check_partitions(offsets, self.ledger_seen.first(deadline)[1], self.partitions)
        if asked.notification:
            decided = self._wait(
                min_position, self.ledger_seen, lambda seen: seen.decided >= asked.notification, deadline
            )
            offsets = decided.offsets
        self._wait(min_position, self._panes_seen, lambda included: _reached(included, offsets), deadline)

    def _look_at_ledger(self) -> LedgerReached:
        with self._glancing.connect() as conn:
            return ledger_reached(conn)

    def _look_at_panes(self) -> dict[int, int]:
        with self._engine.connect() as conn:
            return self._engagement.included(conn)

    def _wait(self, min_position: str, lookout: Lookout[Seen], holds: Callable[[Seen], bool], deadline: float) -> Seen:
        """What was seen when it held. `holds` is called with each look in turn, by this thread."""
        number, seen = lookout.first(deadline)
        if holds(seen):
            return seen
        if not self._places.acquire(blocking=False):
            raise too_many(WAITERS)
        try:
            while time.monotonic() < deadline:
                number, seen = lookout.next(number, deadline)
                if holds(seen):
                    return seen
        finally:
            self._places.release()
        raise not_reached(min_position)


def includes(min_position: str, partitions: int) -> Callable[[LedgerReached], bool]:
    """Whether the ledger's read models include a position, to be asked of one look after the other. Raises `Refusal`
    for what is no position; so does what it returns, for a partition that is not there."""
    asked = wanted(min_position)
    target = asked.notification

    def holds(seen: LedgerReached) -> bool:
        nonlocal target
        if asked.offsets and not target:
            _check_partitions(asked.offsets, seen, partitions)
            if not _reached(seen.offsets, asked.offsets):
                return False
            target = seen.decided
        return seen.read >= target

    return holds


def _check_partitions(asked: Mapping[int, int], seen: LedgerReached, partitions: int) -> None:
    """Raises `Refusal` for a partition beyond those of the settings that no worker has read either."""
    for partition in asked:
        if partition >= partitions and partition not in seen.offsets:
            raise Refusal(
                "invalid_position",
                f"min_position: the activity log has {partitions} partitions, so none is {partition}; give the "
                "`position` of an answer, or partition:offset of a record. (GROUNDSWELL_PARTITIONS says how many.)",
                field="min_position",
            )


def not_reached(min_position: str) -> Refusal:
    """What a read is told whose position did not come in time."""
    return Refusal(
        "position_not_reached",
        f"min_position: `{min_position}` is not reached after {WAIT_SECONDS:g} s; ask again, "
        "or without it for what there is.",
        headers={"Retry-After": "1"},
    )


def too_many(waiting: int) -> Refusal:
    """What a read is told that finds no place among those that wait."""
    return Refusal(
        "unavailable",
        f"min_position: {waiting} reads wait for a position already; ask again, or without it.",
        headers={"Retry-After": "1"},
    )


def check(conn: Connection, brand: str, campaign: str | None) -> None:
    """Raises `Refusal` for a brand, or a campaign of it, without a definition."""
    if not queries.brand_exists(conn, brand):
        raise Refusal("unknown_brand", f"There is no brand `{brand}`.")
    if campaign is not None and not queries.campaign_exists(conn, brand, campaign):
        raise Refusal("unknown_campaign", f"Brand `{brand}` has no campaign `{campaign}`.")


def _reached(included: Mapping[int, int], asked: Mapping[int, int]) -> bool:
    return all(included.get(partition, -1) >= offset for partition, offset in asked.items())


def instants(as_of: str | None, known_at: str | None) -> tuple[int | None, int | None]:
    """Effective and recorded time of a read of the ledger, epoch milliseconds. Raises `Refusal` for what is no time."""
    at = None if as_of is None else instant(as_of, "as_of")
    return at, None if known_at is None else instant(known_at, "known_at")


def effective(as_of: str | None, known_at: str | None) -> int | None:
    """The effective time of a read of panes. Raises `Refusal` for a recorded time, which panes do not keep."""
    if known_at is not None:
        raise Refusal(
            "known_at_needs_rederive",
            "known_at: panes keep no recorded time; `groundswell replay known-at T DIR` folds the log up to then "
            "again, and `--data-dir DIR` reads it. (`groundswell replay rederive --until T` compares its decisions.)",
            field="known_at",
        )
    return None if as_of is None else instant(as_of, "as_of")
