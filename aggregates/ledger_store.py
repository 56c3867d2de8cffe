"""Where the ledger keeps its events: what both databases have in common.

A batch's events are written in bulk, in one transaction with the position and the budgets that it moves, each of
these by compare-and-set.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from eventsourcing.persistence import EventStore, IntegrityError, Mapper, StoredEvent, Tracking

from aggregates import events
from aggregates.activity import Activity
from aggregates.database import BUSY_SECONDS, is_postgres, sqlite_file
from aggregates.events import Grant, from_stored, to_stored

PLENTY: Final = 1 << 62
"""More points than any budget has."""
NO_END: Final = (1 << 63) - 1
"""No notification id is greater."""


class BudgetMoved(IntegrityError):
    """Another partition's batch took from a campaign's budget what this one decided on: decide again."""


class PositionMoved(IntegrityError):
    """The position is not the one that the batch was built on, or has another owner."""


class Versioned(NamedTuple):
    """An event with its place in its aggregate's sequence."""

    originator_id: str
    originator_version: int
    event: events.StoredEvent


class Row(NamedTuple):
    """A stored event with its notification id."""

    id: int
    originator: str
    version: int
    name: str
    state: bytes


Unnamed = tuple[int, str, int, str, bytes]
"""A `Row` without its names, which cost as much as reading it."""


class Owned(NamedTuple):
    """How far a source has come, who owns it, and the number of the owner's last batch (0: it has only taken it)."""

    position: int
    writer: str
    batch: int


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


Encoded = tuple[str, int, str, bytes]
"""Aggregate, version, stored name and state."""


def encoded(aggregate: str, version: int, event: events.StoredEvent) -> Encoded:
    """An event of an aggregate as it is stored."""
    name, state = to_stored(event)
    return aggregate, version, name, state


class LedgerEventStore(EventStore[str]):
    """Writes events that are encoded already; nobody here listens for recordings, so it makes none.

    Whoever decides encodes at once, when the event has just been made: a batch later that takes three times as long.
    """

    def put(self, domain_events: Sequence[Any], **kwargs: Any) -> list[Any]:
        """Store events as `encoded` gives them, in one transaction with every `tracking`. Returns no recordings."""
        assert isinstance(self.recorder, LedgerStore)
        self.recorder.write(domain_events, *kwargs.get("tracking", ()))
        return []


CampaignKey = tuple[str, str]
"""Brand and campaign."""
_TAKE_OF_BUDGET: Final = (
    "INSERT INTO ledger_budgets (brand, campaign, spent) VALUES (?, ?, ?) ON CONFLICT (brand, campaign) "
    "DO UPDATE SET spent = ledger_budgets.spent + excluded.spent WHERE ledger_budgets.spent <= ? RETURNING spent"
)
"""With brand, campaign, points, and the most that may be spent before: no row where more is."""


@dataclass(slots=True)
class BudgetUse:
    """What a batch pays of one campaign, in points: also of one without a budget, for a later version may have one."""

    before: int = 0
    """Spent of it when the batch was decided, where that has to be known."""
    taken: int = 0
    room: int = PLENTY
    """So much may others have taken since then, and the batch would still be decided as it was: all that it was
    granted was granted whole, and is there. 0 where a grant was cut to what was left."""


@dataclass(frozen=True)
class BatchTracking(Tracking):
    """The position a batch moves from and to, who moves it, and what the batch takes from campaign budgets.

    `application_name` is the source's name and `notification_id` the position after the batch.
    """

    previous: int = 0
    writer: str = ""
    number: int = 0
    budgets: dict[CampaignKey, BudgetUse] = field(default_factory=dict)


def not_ours(batch: BatchTracking, owned: Owned | None) -> str:
    """Why a batch cannot be stored any more, for people."""
    where = batch.application_name
    if owned is None:
        return f"{where}: {batch.writer} has not taken it, so it must not write it."
    at = f"the ledger is at offset {owned.position}, this batch was built on {batch.previous}"
    if owned.writer == batch.writer:
        return f"{where}: {at}. It was taken anew, or written twice; what was decided here is void."
    return f"{where}: {owned.writer} owns it, not {batch.writer}; {at}. This worker must stop writing it."


class LedgerStore(ABC):
    """The ledger's own tables, alike on both databases, and how a batch moves them.

    Whoever writes locks in this order: the rows of the sources, the budgets' rows by campaign, the log of events. The
    library's own tracking accepts any greater position, so an overlapping redelivery would count twice; here the
    position moves only from the one that the batch was built on, and only by the one who has taken the source.
    """

    TABLES: Final = (
        "CREATE TABLE IF NOT EXISTS ledger_positions (source TEXT PRIMARY KEY, position BIGINT NOT NULL, "
        "writer TEXT NOT NULL, batch BIGINT NOT NULL)",
        "CREATE TABLE IF NOT EXISTS ledger_budgets (brand TEXT, campaign TEXT, spent BIGINT NOT NULL, "
        "PRIMARY KEY (brand, campaign))",
    )
    mark = "?"
    """What stands for a parameter in this database's SQL."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[Any]:
        """A cursor for one statement that reads; its rows have their columns by name."""

    @abstractmethod
    def writing(self) -> AbstractContextManager[Any]:
        """A cursor in a transaction that is committed at the end, rolled back by an error."""

    @abstractmethod
    def write(self, rows: Sequence[Encoded], *tracking: Tracking) -> range:
        """Store events, and what the tracking of each of their batches moves, in one transaction; the notification ids.

        No two batches are of one source. Raises `PositionMoved` or `BudgetMoved` when one of them is built on what is
        no longer so, IntegrityError when somebody else wrote one of the aggregates.
        """

    @abstractmethod
    def histories(self, aggregates: Sequence[str]) -> Iterator[Encoded]:
        """The events of these aggregates, each one's oldest first."""

    @abstractmethod
    def rows(self, after: int, limit: int, stop: int | None = None) -> list[Unnamed]:
        """What `page` answers, as the driver gives it: for whoever reads the whole ledger."""

    def page(self, after: int, limit: int, stop: int | None = None) -> list[Row]:
        """At most `limit` events with a notification id above `after` and up to `stop` (if any), in their order."""
        return [Row(*row) for row in self.rows(after, limit, stop)]

    @abstractmethod
    def last(self) -> int:
        """The greatest notification id; 0 when there is none."""

    def take(self, source: str, writer: str, start: int) -> int:
        """Make `writer` the owner of `source`, from now on; its position, `start` when it has none yet."""
        sql = (
            "INSERT INTO ledger_positions (source, position, writer, batch) VALUES (?, ?, ?, 0) "
            "ON CONFLICT (source) DO UPDATE SET writer = excluded.writer, batch = 0 RETURNING position"
        )
        with self.writing() as c:
            c.execute(self._sql(sql), (source, start, writer))
            return int(c.fetchone()["position"])

    def owner(self, source: str) -> Owned | None:
        """How far `source` is and who owns it; None where nobody has taken it."""
        with self.reading() as c:
            c.execute(self._sql("SELECT position, writer, batch FROM ledger_positions WHERE source = ?"), (source,))
            row = c.fetchone()
        return None if row is None else Owned(row["position"], row["writer"], row["batch"])

    def spent(self, campaigns: Iterable[CampaignKey]) -> dict[CampaignKey, int]:
        """Points granted so far from each of `campaigns`' budgets."""
        with self.reading() as c:
            c.execute("SELECT brand, campaign, spent FROM ledger_budgets")
            stored = {(row["brand"], row["campaign"]): int(row["spent"]) for row in c.fetchall()}
        return {key: stored.get(key, 0) for key in campaigns}

    def move(self, c: Any, tracking: Iterable[Tracking]) -> None:
        """Move positions and budgets within the transaction of the batches' events."""
        batches = [one for one in tracking if isinstance(one, BatchTracking)]
        batches.sort(key=lambda one: one.application_name)
        moved = [
            self._answer(
                c,
                "UPDATE ledger_positions SET position = ?, batch = ? "
                "WHERE source = ? AND position = ? AND writer = ? RETURNING position",
                (one.notification_id, one.number, one.application_name, one.previous, one.writer),
            )
            for one in batches
        ]
        for one, answer in zip(batches, moved, strict=True):
            if answer() is None:
                raise PositionMoved(f"{one.application_name} is no longer {one.writer}'s at {one.previous}")
        uses = [(key, use) for one in batches for key, use in one.budgets.items()]
        taken = []
        for (brand, campaign), use in sorted(uses, key=lambda found: found[0]):
            if use.taken:  # what was refused for want of points would be refused now: a budget never grows back
                values = (brand, campaign, use.taken, use.before + use.room)
                taken.append((brand, campaign, self._answer(c, _TAKE_OF_BUDGET, values)))
        for brand, campaign, answer in taken:
            if answer() is None:
                raise BudgetMoved(f"too little is left of the budget of {brand}/{campaign}: decide again")

    def _answer(self, c: Any, statement: str, values: Sequence[Any]) -> Callable[[], Any]:
        """Send a statement; who calls the answer gets its first row, None where it has none."""
        c.execute(self._sql(statement), values)
        row = c.fetchone()
        return lambda: row

    def _sql(self, statement: str) -> str:
        return statement.replace("?", self.mark)


EVENTS: Final = {"sqlite": ("stored_events", "rowid"), "postgresql": ("ledger_events", "notification_id")}
"""By SQLAlchemy's name of the database: the table of events and its notification id, for those who read beside the
ledger."""
LAST_NOTIFICATION: Final = {name: f"SELECT MAX({number}) FROM {table}" for name, (table, number) in EVENTS.items()}
"""By SQLAlchemy's name of the database: how they read the greatest notification id."""


def environment(database: str) -> dict[str, str]:
    """eventsourcing's settings for the database at this address."""
    alike = {
        "ORIGINATOR_ID_TYPE": "text",
        "CREATE_TABLE": "n",
        "MAPPER_TOPIC": "aggregates.ledger_store:LedgerMapper",
    }
    if is_postgres(database):
        return {
            **alike,
            "PERSISTENCE_MODULE": "aggregates.ledger_postgres:LedgerFactory",
            "PROCESS_RECORDER_TOPIC": "aggregates.ledger_postgres:PostgresLedgerRecorder",
            "POSTGRES_DBNAME": database,
            "POSTGRES_HOST": "",
            "POSTGRES_USER": "",
            "POSTGRES_PASSWORD": "",
            "POSTGRES_SCHEMA": "",
            "POSTGRES_ENABLE_DB_FUNCTIONS": "n",
        }
    return {
        **alike,
        "PERSISTENCE_MODULE": "aggregates.ledger_sqlite:LedgerFactory",
        "PROCESS_RECORDER_TOPIC": "aggregates.ledger_sqlite:SQLiteLedgerRecorder",
        "SQLITE_DBNAME": sqlite_file(database),
        "SQLITE_LOCK_TIMEOUT": str(BUSY_SECONDS),
    }


def left_of(activity: Activity, budgets: Mapping[CampaignKey, BudgetUse]) -> dict[str, int]:
    """Points left by campaign, of those of the activity that have a budget."""
    left = {}
    for campaign in activity.campaigns:
        if campaign.budget is not None:
            use = budgets[campaign.brand, campaign.id]
            left[campaign.id] = campaign.budget - use.before - use.taken
    return left


def spend(brand: str, grants: Iterable[Grant], budgets: dict[CampaignKey, BudgetUse], left: dict[str, int]) -> None:
    """Count grants of one activity as taken from their campaigns; `left` is what `left_of` says of it."""
    for grant in grants:
        campaign, points = grant.campaign, grant.points
        use = budgets.get((brand, campaign))
        if use is None:
            use = budgets[brand, campaign] = BudgetUse()
        use.taken += points
        if campaign in left:
            left[campaign] -= points
            use.room = min(use.room, left[campaign])
