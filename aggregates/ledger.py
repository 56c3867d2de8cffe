"""The ledger application: the only door to what the accounts, brands and campaigns have decided.

It is an eventsourcing application. A batch of accepted records of one partition becomes account events, and these
are stored in one transaction with the position in the activity log that they bring the ledger to.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from eventsourcing.application import ProcessingEvent
from eventsourcing.persistence import IntegrityError
from eventsourcing.projection import EventSourcedProjection

from aggregates.account import Account, decide, evolve
from aggregates.activity import Activity
from aggregates.database import sqlite_file
from aggregates.events import AccountEvent, Origin, ProgramEvent, StoredEvent, from_stored
from aggregates.ledger_store import BatchTracking, BudgetMoved, LedgerMapper, SQLiteLedgerRecorder, Versioned

CACHED_ACCOUNTS = 50_000
"""Accounts kept in memory between batches; the others are read again from their events."""


class Fenced(Exception):
    """Another writer moved this partition's position: what was decided here is void, nothing was written."""


class Source(NamedTuple):
    """One partition of one creation of a topic; `epoch` tells a topic made anew from the one before it."""

    topic: str
    epoch: str
    partition: int

    @property
    def name(self) -> str:
        """`topic/epoch/partition`, as positions are stored under."""
        return f"{self.topic}/{self.epoch}/{self.partition}"


class Recorded(NamedTuple):
    """One stored event with its notification id and the id of its aggregate."""

    id: int
    originator: str
    event: StoredEvent


@dataclass(slots=True, frozen=True)
class Batch:
    """Accepted records of one partition, in offset order, and the position reached after them."""

    source: Source
    start: int | None
    """The ledger's position (next offset) that the batch is built on; None: it has none yet."""
    end: int
    """The position after it."""
    activities: Sequence[Activity]
    recorded_at: int
    """Epoch milliseconds."""
    writer: str
    number: int
    """With `writer`, names this batch for ever: a lost acknowledgement is told from another owner's write."""


@dataclass(slots=True)
class _Loaded:
    state: Account
    version: int = 0
    pending: list[Versioned] = field(default_factory=list)


def account_id(brand: str, member: str) -> str:
    """The aggregate id of a member's account."""
    return f"account:{brand}/{member}"


def brand_aggregate(brand: str) -> str:
    """The aggregate id of a brand."""
    return f"brand:{brand}"


def campaign_aggregate(brand: str, campaign: str) -> str:
    """The aggregate id of a campaign."""
    return f"campaign:{brand}/{campaign}"


class Ledger(EventSourcedProjection[str]):
    """The points ledger in a SQLite file. One instance a process; `consume` is for one thread."""

    name = "ledger"

    def __init__(self, database: str) -> None:
        super().__init__(
            {
                "PERSISTENCE_MODULE": "eventsourcing.sqlite",
                "SQLITE_DBNAME": sqlite_file(database),
                "SQLITE_LOCK_TIMEOUT": "30",
                "ORIGINATOR_ID_TYPE": "text",
                "CREATE_TABLE": "n",
                "PROCESS_RECORDER_TOPIC": "aggregates.ledger_store:SQLiteLedgerRecorder",
                "MAPPER_TOPIC": "aggregates.ledger_store:LedgerMapper",
            }
        )
        assert isinstance(self.recorder, SQLiteLedgerRecorder)
        assert isinstance(self.mapper, LedgerMapper)
        self.store: SQLiteLedgerRecorder = self.recorder
        self._accounts: OrderedDict[str, _Loaded] = OrderedDict()
        self._touched: dict[str, _Loaded] = {}

    def migrate(self) -> None:
        """Create the ledger's tables where they are missing."""
        self.store.create_table()

    def position(self, source: Source) -> int | None:
        """The next offset the ledger has not seen; None where it has seen nothing of this partition."""
        return self.store.position(source.name)

    def consume(self, batch: Batch) -> None:
        """Decide and store a batch, all of it or nothing. Raises `Fenced` when its `start` is not the position."""
        limited = {(c.brand, c.id) for a in batch.activities for c in a.campaigns if c.budget is not None}
        while True:
            before = self.store.spent(limited) if limited else {}
            tracking = BatchTracking(
                batch.source.name, batch.end, batch.start, batch.writer, batch.number, before, dict(before)
            )
            try:
                self.process_event(batch, tracking)  # type: ignore[arg-type]
            except BudgetMoved:
                self.forget()
                continue
            except IntegrityError:
                self.forget()
                if self.store.owner(batch.source.name) == (batch.end, batch.writer, batch.number):
                    return  # it was stored, and only the acknowledgement was lost
                self._check_position(batch)
                raise
            except BaseException:
                self.forget()
                raise
            while len(self._accounts) > CACHED_ACCOUNTS:
                self._accounts.popitem(last=False)
            return

    def _check_position(self, batch: Batch) -> None:
        position = self.store.position(batch.source.name)
        if position != batch.start:
            raise Fenced(
                f"{batch.source.topic} partition {batch.source.partition}: the ledger is at offset {position}, this "
                f"batch was built on {batch.start}. Another worker owns the partition; this one must stop writing it."
            )

    def policy(self, domain_event: Any, processing_event: ProcessingEvent[str]) -> None:
        """Decide a batch (eventsourcing's hook); called by `consume`."""
        batch: Batch = domain_event
        tracking = processing_event.tracking
        assert isinstance(tracking, BatchTracking)
        self._touched = {}
        for activity in batch.activities:
            member = activity.value["member_id"]
            aggregate = account_id(activity.value["brand_id"], member)
            origin = Origin(
                batch.source.topic,
                batch.source.partition,
                activity.offset,
                activity.value["event_id"],
                activity.value["occurred_at"],
                batch.recorded_at,
            )
            loaded = self._load(aggregate)
            left = {c.id: c.budget - tracking.spent[c.brand, c.id] for c in activity.campaigns if c.budget is not None}
            for event in decide(loaded.state, activity, origin, left):
                for grant in getattr(event, "grants", ()):
                    if grant.campaign in left:
                        tracking.spent[activity.value["brand_id"], grant.campaign] += grant.points
                self._append(aggregate, loaded, event)
        for loaded in self._touched.values():
            processing_event.events.extend(loaded.pending)
            loaded.pending = []

    def _append(self, aggregate: str, loaded: _Loaded, event: AccountEvent) -> None:
        evolve(loaded.state, event)
        loaded.version += 1
        loaded.pending.append(Versioned(aggregate, loaded.version, event))
        self._touched[aggregate] = loaded

    def _load(self, aggregate: str) -> _Loaded:
        loaded = self._accounts.get(aggregate)
        if loaded is None:
            loaded = _Loaded(Account())
            for stored in self.store.select_events(aggregate):
                evolve(loaded.state, from_stored(stored.topic, stored.state))  # type: ignore[arg-type]
                loaded.version = stored.originator_version
            self._accounts[aggregate] = loaded
        else:
            self._accounts.move_to_end(aggregate)
        return loaded

    def forget(self) -> None:
        """Drop every account in memory; they are read again when needed. Right after any failed write."""
        self._accounts.clear()
        self._touched = {}

    def account(self, brand: str, member: str) -> Account:
        """A member's account as the stored events give it."""
        state = Account()
        for stored in self.store.select_events(account_id(brand, member)):
            evolve(state, from_stored(stored.topic, stored.state))  # type: ignore[arg-type]
        return state

    def history(self, aggregate: str) -> Iterator[StoredEvent]:
        """The events of one aggregate, oldest first."""
        for stored in self.store.select_events(aggregate):
            yield from_stored(stored.topic, stored.state)

    def append(self, events: Mapping[str, Sequence[ProgramEvent]], versions: Mapping[str, int]) -> int:
        """Store events of brands and campaigns, each behind `versions[aggregate]` events, all or none.

        Returns the notification id of the last one. Raises eventsourcing's IntegrityError when somebody else wrote
        one of the aggregates in between.
        """
        stored = [
            Versioned(aggregate, versions[aggregate] + n, event)
            for aggregate, new in events.items()
            for n, event in enumerate(new, 1)
        ]
        return max(recording.notification.id for recording in self.events.put(stored))

    def notifications(self, after: int, limit: int, stop: int | None = None) -> list[Recorded]:
        """Stored events with a notification id above `after`, up to `stop` (included), oldest first."""
        return [
            Recorded(int(n.id), str(n.originator_id), from_stored(n.topic, n.state))
            for n in self.store.select_notifications(after, limit, stop=stop, inclusive_of_start=False)
        ]

    def last_notification(self) -> int:
        """The greatest notification id; 0 for an empty ledger."""
        return self.store.max_notification_id() or 0
