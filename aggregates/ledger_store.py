"""Where the ledger keeps its events: eventsourcing's SQLite recorder, in bulk, and position by compare-and-set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from eventsourcing.persistence import IntegrityError, Mapper, StoredEvent, Tracking
from eventsourcing.sqlite import SQLiteCursor, SQLiteProcessRecorder

from aggregates import events
from aggregates.events import from_stored, to_stored


class BudgetMoved(IntegrityError):
    """Another partition's batch took from a campaign's budget in between: decide again."""


class Versioned(NamedTuple):
    """An event with its place in its aggregate's sequence."""

    originator_id: str
    originator_version: int
    event: events.StoredEvent


class LedgerMapper(Mapper[str]):
    """Stores events as JSON under their registered names instead of import paths."""

    def to_stored_event(self, domain_event: Any) -> StoredEvent:
        """The stored form of a `Versioned`."""
        name, state = to_stored(domain_event.event)
        return StoredEvent(domain_event.originator_id, domain_event.originator_version, name, state)

    def to_domain_event(self, stored_event: StoredEvent) -> Any:
        """The `Versioned` that `to_stored_event` wrote."""
        event = from_stored(stored_event.topic, stored_event.state)
        return Versioned(str(stored_event.originator_id), stored_event.originator_version, event)


CampaignKey = tuple[str, str]
"""Brand and campaign."""


@dataclass(frozen=True)
class BatchTracking(Tracking):
    """The position a batch moves from and to, who moves it, and what the batch takes from campaign budgets.

    `application_name` is the source's name and `notification_id` the position after the batch.
    """

    previous: int | None = None
    writer: str = ""
    number: int = 0
    spent_before: Mapping[CampaignKey, int] = field(default_factory=dict)
    """Points granted from each limited campaign before the batch; the write holds only if that is still so."""
    spent: dict[CampaignKey, int] = field(default_factory=dict)
    """The same, rising while the batch is decided."""


class SQLiteLedgerRecorder(SQLiteProcessRecorder):
    """Events, position and budgets of a batch in one transaction.

    The library's own tracking accepts any greater position, so an overlapping redelivery would count twice; here
    the position moves only from the one that the batch was built on.
    """

    def construct_create_table_statements(self) -> list[str]:
        """The library's tables, the ledger's positions and the campaigns' budgets."""
        return [
            *super().construct_create_table_statements(),
            "CREATE TABLE IF NOT EXISTS ledger_positions (source TEXT PRIMARY KEY, position INTEGER NOT NULL, "
            "writer TEXT NOT NULL, batch INTEGER NOT NULL) WITHOUT ROWID",
            "CREATE TABLE IF NOT EXISTS ledger_budgets (brand TEXT, campaign TEXT, spent INTEGER NOT NULL, "
            "PRIMARY KEY (brand, campaign)) WITHOUT ROWID",
        ]

    def _insert_events(
        self, c: SQLiteCursor, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        tracking = kwargs.get("tracking")
        if isinstance(tracking, BatchTracking):
            self._move_position(c, tracking)
            self._spend_budgets(c, tracking)
        if not stored_events:
            return None
        rows = [(s.originator_id, s.originator_version, s.topic, s.state) for s in stored_events]
        c.executemany(self.insert_events_statement, rows)
        last = self._max_notification_id(c)  # the write lock is held: the new row ids are contiguous
        return range(last - len(rows) + 1, last + 1)

    def _move_position(self, c: SQLiteCursor, tracking: BatchTracking) -> None:
        row = (tracking.notification_id, tracking.writer, tracking.number, tracking.application_name)
        if tracking.previous is None:
            c.execute(
                "INSERT INTO ledger_positions (position, writer, batch, source) VALUES (?,?,?,?) "
                "ON CONFLICT DO NOTHING RETURNING 1",
                row,
            )
        else:
            c.execute(
                "UPDATE ledger_positions SET position=?, writer=?, batch=? WHERE source=? AND position=? RETURNING 1",
                (*row, tracking.previous),
            )
        if c.fetchone() is None:
            raise IntegrityError(f"{tracking.application_name} is no longer at {tracking.previous}")

    def _spend_budgets(self, c: SQLiteCursor, tracking: BatchTracking) -> None:
        for (brand, campaign), spent in sorted(tracking.spent.items()):
            before = tracking.spent_before[brand, campaign]
            c.execute("INSERT INTO ledger_budgets VALUES (?,?,0) ON CONFLICT DO NOTHING", (brand, campaign))
            c.execute(
                "UPDATE ledger_budgets SET spent=? WHERE brand=? AND campaign=? AND spent=? RETURNING 1",
                (spent, brand, campaign, before),
            )
            if c.fetchone() is None:
                raise BudgetMoved(f"the budget of {brand}/{campaign} is no longer at {before} points spent")

    def spent(self, campaigns: Iterable[CampaignKey]) -> dict[CampaignKey, int]:
        """Points granted so far from each of `campaigns`' budgets."""
        with self.datastore.transaction(commit=False) as c:
            c.execute("SELECT brand, campaign, spent FROM ledger_budgets")
            stored = {(row[0], row[1]): int(row[2]) for row in c.fetchall()}
        return {key: stored.get(key, 0) for key in campaigns}

    def position(self, source: str) -> int | None:
        """The next offset of `source`; None where there is none."""
        owner = self.owner(source)
        return None if owner is None else owner[0]

    def owner(self, source: str) -> tuple[int, str, int] | None:
        """Position, writer and batch number that moved `source` last."""
        with self.datastore.transaction(commit=False) as c:
            c.execute("SELECT position, writer, batch FROM ledger_positions WHERE source=?", (source,))
            row = c.fetchone()
        return None if row is None else (row[0], row[1], row[2])

    def positions(self) -> dict[str, int]:
        """Every source's next offset."""
        with self.datastore.transaction(commit=False) as c:
            c.execute("SELECT source, position FROM ledger_positions")
            return {row[0]: row[1] for row in c.fetchall()}
