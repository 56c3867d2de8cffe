"""The ledger application: the only door to what the accounts, brands and campaigns have decided.

It is an eventsourcing application. A batch of accepted records of one partition becomes account events, and these
are stored in one transaction with the position in the activity log that they bring the ledger to.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

import msgspec
from eventsourcing.application import ProcessingEvent
from eventsourcing.persistence import IntegrityError
from eventsourcing.projection import EventSourcedProjection
from eventsourcing.utils import Environment

from aggregates.account import Account, decide, evolve
from aggregates.activity import MARKER, Activity
from aggregates.database import Exclusive, Lock, Unavailable, is_unavailable, without_password
from aggregates.events import Origin, StoredEvent, from_stored
from aggregates.ledger_store import (
    BatchTracking,
    BudgetMoved,
    BudgetUse,
    Encoded,
    LedgerEventStore,
    LedgerStore,
    encoded,
    environment,
    left_of,
    not_ours,
    spend,
)
from aggregates.program_events import MarkerPassed, ProgramEvent

CACHED_ACCOUNTS: Final = 50_000
"""Accounts kept in memory between batches; the others are read again from their events."""
CACHED_EVENTS: Final = 500_000
"""So many events may the accounts in memory have in all: an account forgets nothing, so its size goes with them, at
about 1.3 kB each (`python -m benchmarks.ledger_memory`)."""


class Fenced(Exception):
    """Another owner has this partition now, or its position has moved: nothing was written."""


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
    start: int
    """The ledger's position (next offset) that the batch is built on."""
    end: int
    """The position after it."""
    activities: Sequence[Activity]
    recorded_at: int
    """Epoch milliseconds."""
    writer: str
    """Who took the source; names one process."""
    number: int
    """≥ 1, another one for each batch since `writer` took the source: so a lost acknowledgement is told from another
    write that reached the same position."""


@dataclass(slots=True)
class Decided:
    """A batch and what it came to; nothing of it counts before it is written."""

    batch: Batch
    outcome: ProcessingEvent[str]
    """Its encoded events, and the tracking that goes with them."""
    generation: int
    """Of the accounts in memory that it was decided on."""
    changed: frozenset[str]
    """The accounts that have events of it: they stay in memory until it is stored, or they would be read without it."""
    stored: bool = False


class Stale(Exception):
    """What a batch was decided on is not so any more: nothing was written, decide it again."""


class _Loaded(msgspec.Struct, gc=False):
    state: Account
    version: int = 0


def account_id(brand: str, member: str) -> str:
    """The aggregate id of a member's account."""
    return f"account:{brand}/{member}"


def brand_aggregate(brand: str) -> str:
    """The aggregate id of a brand."""
    return f"brand:{brand}"


def campaign_aggregate(brand: str, campaign: str) -> str:
    """The aggregate id of a campaign."""
    return f"campaign:{brand}/{campaign}"


def marker_aggregate(brand: str, campaign: str, partition: int) -> str:
    """The aggregate id of a campaign's marker in a partition; only the partition's owner writes it."""
    return f"marker:{brand}/{campaign}/{partition}"


class Ledger(EventSourcedProjection[str]):
    """The points ledger in one database. One instance a process.

    Everything that reaches for the database raises `Unavailable` while it is away; then nothing is lost, ask again.
    """

    name = "ledger"

    def __init__(self, database: str) -> None:
        """`sqlite:///FILE` or `postgresql://…`; it need not be there yet. Raises ValueError for another address."""
        super().__init__(environment(database))
        assert isinstance(self.recorder, LedgerStore)
        self.store: LedgerStore = self.recorder
        self._database = database
        self._turn = threading.RLock()
        """Held while accounts in memory are used: sources are taken by other threads than the one that consumes."""
        self._writing = threading.Lock()
        """Held while a batch is written; whoever needs both takes `_turn` first."""
        self._generation = 0
        """Goes up, under `_writing`, with all that makes what is in memory, or was decided on it, void."""
        self._accounts: OrderedDict[str, _Loaded] = OrderedDict()
        self._accounts_of = 0
        """The generation of `_accounts`."""
        self._cached_events = 0
        """Of all accounts in memory."""
        self._ahead: list[Decided] = []
        """What was decided on these accounts and may not be stored yet."""

    def construct_env(self, name: str, env: Any = None) -> Environment:
        """Its address alone says what it is: nothing of the library's settings in the process's environment counts."""
        return Environment(name, env)

    def construct_event_store(self) -> LedgerEventStore:
        """The store that writes in bulk (eventsourcing's hook)."""
        return LedgerEventStore(self.mapper, self.recorder)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if is_unavailable(error):
                where, why = without_password(self._database), str(error).strip() or type(error).__name__
                raise Unavailable(f"{where} is away: {why}") from error
            raise

    def migrate(self) -> None:
        """Create the ledger's tables where they are missing. Safe from several processes at once."""
        with self._reaching(), Exclusive(self._database, Lock.MIGRATE_LEDGER):
            self.recorder.create_table()  # type: ignore[attr-defined]

    # Positions

    def take(self, source: Source, writer: str, start: int) -> int:
        """Make `writer` the owner of a source, and return the position from which it goes on (`start` for a new one).

        From then on every batch of an owner before it fails with `Fenced`, wherever the position is. Taking it again
        is safe; a batch that was built before must then not be sent any more, what it held is decided anew or, where
        it was stored, lies below the position.
        """
        with self._turn, self._reaching():
            self.forget()  # others may have written its accounts since we last had it
            return self.store.take(source.name, writer, start)

    def position(self, source: Source) -> int | None:
        """The next offset the ledger has not seen; None for a source that nobody has taken yet."""
        with self._reaching():
            owned = self.store.owner(source.name)
        return None if owned is None else owned.position

    # Batches

    def consume(self, batch: Batch) -> None:
        """Decide and store a batch, all of it or nothing.

        Raises `Fenced` unless `writer` owns the source and stands at `start`; `Unavailable` when it is not known
        whether the batch is stored, and then the same batch, with the same number, can be given again and is stored
        once.
        """
        with self._turn:
            while True:
                try:
                    self.write(self.decide(batch))
                except BudgetMoved:  # another partition took from a budget in between
                    continue
                except BaseException:
                    self.forget()
                    raise
                return self._evict()

    def decide(self, batch: Batch) -> Decided:
        """Decide a batch, on all that was decided before it, though some of that may still be on its way to `write`.

        When that is not written, `write` raises `Stale` for this one. What is only in the database (budgets, markers)
        may be read before that is there; then `write` raises IntegrityError. Raises `Unavailable`.
        """
        with self._turn, self._reaching():
            if self._accounts_of != self._generation:
                self._clear()
            generation = self._accounts_of
            limited = {(c.brand, c.id) for a in batch.activities for c in a.campaigns if c.budget is not None}
            budgets = {key: BudgetUse(spent) for key, spent in self.store.spent(limited).items()} if limited else {}
            tracking = BatchTracking(batch.source.name, batch.end, batch.start, batch.writer, batch.number, budgets)
            outcome: ProcessingEvent[str] = ProcessingEvent(tracking=tracking)
            try:
                self.policy(batch, outcome)
            except BaseException:
                self.forget()  # half of it may be in memory
                raise
            changed = frozenset(encoded[0] for encoded in cast(list[Encoded], outcome.events))
            decided = Decided(batch, outcome, generation, changed)
            self._ahead.append(decided)
            self._evict()
            return decided

    def write(self, *decided: Decided) -> None:
        """Store what was decided, in one transaction with the positions; what was decided since goes on from it.

        The batches are in the order in which they were decided, no two of one source. Raises as `consume` does,
        `Stale`, and IntegrityError (`BudgetMoved` among them) for what another has written; then all that is in memory
        is void. Of one batch alone it is known then whether it was stored before; of several none may be.
        """
        with self._reaching(), self._writing:
            try:
                if any(one.generation != self._generation for one in decided):
                    raise Stale
                events = [event for one in decided for event in one.outcome.events]
                self.events.put(events, tracking=[one.outcome.tracking for one in decided])
                for one in decided:
                    one.stored = True
            except BaseException as error:
                self._generation += 1
                if not (len(decided) == 1 and isinstance(error, IntegrityError) and self._has(decided[0].outcome)):
                    raise

    def _has(self, outcome: ProcessingEvent[str]) -> bool:
        """Whether it is stored, and only the acknowledgement was lost. Raises `Fenced` where it cannot be any more."""
        batch = cast(BatchTracking, outcome.tracking)
        owned = self.store.owner(batch.application_name)
        if owned == (batch.notification_id, batch.writer, batch.number):
            return True
        if owned is None or owned[:2] != (batch.previous, batch.writer):
            raise Fenced(not_ours(batch, owned)) from None
        return False

    def _evict(self) -> None:
        """Drop accounts that were used longest ago, until the others are few and small enough or not stored yet."""
        self._ahead = [one for one in self._ahead if not one.stored]
        while len(self._accounts) > CACHED_ACCOUNTS or self._cached_events > CACHED_EVENTS:
            oldest = next(iter(self._accounts))
            if any(oldest in one.changed for one in self._ahead):
                break
            self._cached_events -= self._accounts.pop(oldest).version

    def policy(self, domain_event: Any, processing_event: ProcessingEvent[str]) -> None:
        """Decide a batch (eventsourcing's hook); called by `decide`.

        The events are in the order of the log: by it a settlement tells what stood before a campaign's marker.
        """
        batch: Batch = domain_event
        tracking = processing_event.tracking
        assert isinstance(tracking, BatchTracking)
        topic, _, partition = batch.source
        names = [
            account_id(a.value["brand_id"], a.value["member_id"]) if a.type != MARKER else "" for a in batch.activities
        ]
        self._load(names)
        events: list[Any] = processing_event.events
        accounts, budgets, at, left = self._accounts, tracking.budgets, batch.recorded_at, dict[str, int]()
        is_limited = bool(budgets)
        for aggregate, activity in zip(names, batch.activities, strict=True):
            value = activity.value
            origin = Origin(topic, partition, activity.offset, value["event_id"], value["occurred_at"], at)
            if not aggregate:
                self._mark(activity, origin, events)
                continue
            if is_limited:
                left = left_of(activity, budgets)
            loaded = accounts[aggregate]
            for event in decide(loaded.state, activity, origin, left):
                if grants := getattr(event, "grants", ()):
                    spend(value["brand_id"], grants, budgets, left)
                evolve(loaded.state, event)
                loaded.version += 1
                events.append(encoded(aggregate, loaded.version, event))
                self._cached_events += 1

    def _mark(self, marker: Activity, origin: Origin, events: list[Encoded]) -> None:
        """Add that a campaign's marker was met in this partition; nothing for one that was met before."""
        brand, campaign = marker.value["brand_id"], marker.value["campaign_id"]
        aggregate = marker_aggregate(brand, campaign, origin.partition)
        if not any(self.store.histories([aggregate])) and not any(event[0] == aggregate for event in events):
            events.append(encoded(aggregate, 1, MarkerPassed(origin, brand, campaign)))

    def _load(self, aggregates: Sequence[str]) -> None:
        """Have these accounts in memory ('' is none); those that are not are read together."""
        accounts = self._accounts
        missing = []
        for aggregate in dict.fromkeys(aggregates):
            if aggregate in accounts:
                accounts.move_to_end(aggregate)
            elif aggregate:
                accounts[aggregate] = _Loaded(Account())
                missing.append(aggregate)
        if missing:
            for aggregate, version, name, state in self.store.histories(missing):
                loaded = accounts[aggregate]
                evolve(loaded.state, from_stored(name, state))  # type: ignore[arg-type]
                loaded.version = version
                self._cached_events += 1

    def forget(self) -> None:
        """Make what is in memory void, and what was decided on it and not begun to be written."""
        with self._turn, self._writing:
            self._generation += 1
            self._clear()

    def _clear(self) -> None:
        self._accounts_of = self._generation
        self._accounts.clear()
        self._cached_events = 0
        self._ahead.clear()

    def in_memory(self) -> Iterator[tuple[Account, int]]:
        """The accounts in memory, used longest ago first, each with the number of its events."""
        return ((loaded.state, loaded.version) for loaded in self._accounts.values())

    # Reads, and definitions

    def account(self, brand: str, member: str) -> Account:
        """A member's account as the stored events give it."""
        state = Account()
        for event in self.history(account_id(brand, member)):
            evolve(state, event)  # type: ignore[arg-type]
        return state

    def history(self, aggregate: str) -> Iterator[StoredEvent]:
        """The events of one aggregate, oldest first."""
        with self._reaching():
            stored = list(self.store.histories([aggregate]))
        return (from_stored(name, state) for _, _, name, state in stored)

    def append(self, events: Mapping[str, Sequence[ProgramEvent]], versions: Mapping[str, int]) -> int:
        """Store events of brands and campaigns, each behind `versions[aggregate]` events, all or none.

        Returns the notification id of the last one. Raises eventsourcing's IntegrityError when somebody else wrote
        one of the aggregates in between.
        """
        rows = [
            encoded(aggregate, versions[aggregate] + n, event)
            for aggregate, new in events.items()
            for n, event in enumerate(new, 1)
        ]
        with self._reaching():
            return self.store.write(rows)[-1]

    def notifications(self, after: int, limit: int, stop: int | None = None) -> list[Recorded]:
        """Stored events with a notification id above `after`, up to `stop` (included), oldest first."""
        with self._reaching():
            page = self.store.rows(after, limit, stop)
        return [Recorded(number, originator, from_stored(name, state)) for number, originator, _, name, state in page]

    def last_notification(self) -> int:
        """The greatest notification id; 0 for an empty ledger."""
        with self._reaching():
            return self.store.last()
