"""What the ledger has decided, copied aside once through a connection that only reads, in the order of the log.

The copy is of one instant: events up to the last notification id, and the positions that go with it. Workers may go on
meanwhile. It stands in a file of SQLite that is thrown away, which also takes the accounts that memory has no room for.
"""

from __future__ import annotations

import json
import pickle
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa

from aggregates.account import Account
from aggregates.definitions import Brand
from aggregates.events import STORED_NAMES, from_stored
from aggregates.ledger import CACHED_ACCOUNTS, CACHED_EVENTS, Source
from aggregates.ledger_store import EVENTS
from aggregates.program_events import BrandDefined, CampaignDefined
from aggregates.programs import Campaign
from streams.readstate import ReadState
from streams.readstate_tables import CLOSINGS, DEFINITIONS, MEMBERSHIPS

PAGE: Final = 5_000
LOG: Final = 1 << 40
"""More offsets than a log has: what was decided on an earlier log stands so far below its offset."""
DefinitionKey = tuple[str, str, int]
"""Brand, campaign (empty: the brand itself) and version."""


def definition_key(definition: Brand | Campaign) -> DefinitionKey:
    """What names a version of a brand or campaign."""
    if isinstance(definition, Brand):
        return definition.id, "", definition.version
    return definition.brand, definition.id, definition.version


class Row(NamedTuple):
    """A stored event, and the offset of the record that it came from."""

    offset: int
    id: int
    originator: str
    name: str
    state: bytes


class _Place(msgspec.Struct):
    partition: int
    offset: int


class _Head(msgspec.Struct):
    origin: _Place | None = None


_HEAD: Final = msgspec.json.Decoder(_Head).decode
_DEFINED: Final = (BrandDefined, CampaignDefined)


class Scratch:
    """The file that is thrown away."""

    def __init__(self, file: Path) -> None:
        self.db = sqlite3.connect(file, isolation_level=None)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-65536"):
            self.db.execute(f"PRAGMA {pragma}")
        self.db.execute(
            "CREATE TABLE decided (id INTEGER PRIMARY KEY, partition INTEGER NOT NULL, at INTEGER NOT NULL, "
            "originator TEXT NOT NULL, name TEXT NOT NULL, state BLOB NOT NULL)"
        )
        self.db.execute("CREATE TABLE accounts (name TEXT PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID")

    def close(self) -> None:
        """Let go of the file."""
        self.db.close()


class Decided:
    """The ledger's decisions as of one instant."""

    def __init__(self, scratch: Scratch, engine: sa.Engine) -> None:
        """Nothing is copied before `copy`. `engine` is asked to read alone."""
        self._scratch = scratch
        self._engine = engine
        with engine.connect() as connection:
            table, number = EVENTS[connection.dialect.name]
            self.last: int = connection.execute(sa.text(f"SELECT MAX({number}) FROM {table}")).scalar() or 0
            positions = connection.execute(sa.text("SELECT source, position FROM ledger_positions")).all()
            spent = connection.execute(sa.text("SELECT brand, campaign, spent FROM ledger_budgets")).all()
        self.positions: dict[str, int] = {row.source: row.position for row in positions if row.position}
        """Source → the next offset that the ledger has not decided; only those of which it has decided any."""
        self.spent: dict[tuple[str, str], int] = {(row.brand, row.campaign): int(row.spent) for row in spent}
        """Brand and campaign → points that the ledger says its budget has paid."""
        self.contents: dict[DefinitionKey, str] = {}
        """Every definition that the ledger has accepted, as text."""

    def copy(self, told: Callable[[int, int], None] = lambda *_: None) -> None:
        """Copy every event; `told` gets how many ids are done, and of how many."""
        put = "INSERT INTO decided VALUES (?, ?, ?, ?, ?, ?)"
        greatest: dict[int, int] = {}
        began: dict[int, int] = {}
        for page in self._pages():
            rows = []
            for number, originator, name, state in page:
                place = self._place(name, state)
                if place is None:
                    continue
                if place.offset < greatest.get(place.partition, -1):
                    began[place.partition] = number
                greatest[place.partition] = place.offset
                rows.append((number, place.partition, place.offset, originator, name, state))
            self._scratch.db.execute("BEGIN")
            self._scratch.db.executemany(put, rows)
            self._scratch.db.execute("COMMIT")
            told(page[-1][0], self.last)
        for partition, first in began.items():  # offsets went back: a log made anew took the place of an earlier one
            self._scratch.db.execute(
                "UPDATE decided SET at = at - ? WHERE partition = ? AND id < ?", (LOG, partition, first)
            )
        self._scratch.db.execute("CREATE INDEX by_offset ON decided (partition, at)")

    def _pages(self) -> Iterator[list[tuple[int, str, str, bytes]]]:
        with self._engine.connect() as connection:
            table, number = EVENTS[connection.dialect.name]
        query = sa.text(
            f"SELECT {number}, originator_id, topic, state FROM {table} WHERE {number} > :after AND {number} <= :stop "
            f"ORDER BY {number} LIMIT {PAGE}"
        )
        after = 0
        while after < self.last:
            with self._engine.connect() as connection:  # a transaction a page: no writer's log grows meanwhile
                found = connection.execute(query, {"after": after, "stop": self.last}).all()
            yield [(row[0], row[1], row[2], bytes(row[3])) for row in found]
            after = found[-1][0]

    def _place(self, name: str, state: bytes) -> _Place | None:
        """Where the record of an event stands; None for one that comes from no record."""
        if name in STORED_NAMES and STORED_NAMES[name] not in _DEFINED:
            return _HEAD(state).origin
        event = from_stored(name, state)
        if isinstance(event, BrandDefined):
            self.contents[event.brand, "", event.version] = event.content
        elif isinstance(event, CampaignDefined):
            self.contents[event.brand, event.campaign, event.version] = event.content
        origin = getattr(event, "origin", None)
        return None if origin is None else _Place(origin.partition, origin.offset)

    def between(self, partition: int, start: int, end: int) -> list[Row]:
        """What was decided on the records of a partition in [start, end), in the order of the log."""
        return self._rows("partition = ? AND at >= ? AND at < ? ORDER BY at", (partition, start, end)).fetchall()

    def outside(self, partition: int, start: int, end: int) -> Iterator[Row]:
        """What was decided on the other records of a partition, in the order of decisions."""
        query = "partition = ? AND (at < ? OR at >= ?) ORDER BY id"
        yield from self._rows(query, (partition, start, end))

    def count_outside(self, partition: int, start: int, end: int) -> tuple[int, int]:
        """How many decisions were taken on records before `start`, and on those from `end` on."""
        query = "SELECT TOTAL(at < ?), TOTAL(at >= ?) FROM decided WHERE partition = ?"
        before, behind = self._scratch.db.execute(query, (start, end, partition)).fetchone()
        return int(before), int(behind)

    def decided_before(self, originator: str, event_id: str, offset: int) -> Row | None:
        """What was decided on an earlier record of the same id, of the same account; None when nothing was."""
        row: Row
        for row in self._rows("originator = ? AND at < ?", (originator, offset)):
            if from_stored(row.name, row.state).origin.event_id == event_id:  # type: ignore[union-attr]
                return row
        return None

    def index_accounts(self) -> None:
        """Have `decided_before` answer quickly; only where something differs is it asked."""
        self._scratch.db.execute("CREATE INDEX IF NOT EXISTS by_originator ON decided (originator)")

    def _rows(self, where: str, parameters: tuple[object, ...]) -> sqlite3.Cursor:
        cursor = self._scratch.db.cursor()
        cursor.row_factory = lambda _, row: Row(*row)
        return cursor.execute(f"SELECT at, id, originator, name, state FROM decided WHERE {where}", parameters)

    def state_before(self, source: Source, state: ReadState, low: int) -> list[str]:
        """What is kept of the records of a source before offset `low`: memberships and markers go into `state`, and
        the definitions are returned, as text. Profiles are kept as they are now alone, so none of them is.
        """
        with self._engine.connect() as connection:

            def rows(table: sa.Table) -> sa.CursorResult[Any]:
                return connection.execute(sa.select(table).where(table.c.source == source.name))

            for one in rows(MEMBERSHIPS):
                changes = [(at, offset, joined) for at, offset, joined in json.loads(one.changes) if offset < low]
                if changes:
                    state.memberships[one.brand, one.member, one.campaign] = changes
            for one in rows(CLOSINGS):
                if one.offset < low:
                    state.closed[one.brand, one.campaign] = one.offset
            return [one.content for one in sorted(rows(DEFINITIONS), key=lambda d: d.offset) if one.offset < low]


class Accounts:
    """Accounts as they are derived: the ones used last in memory, the others put by in the scratch file."""

    def __init__(self, scratch: Scratch) -> None:
        self._db = scratch.db
        self._accounts: OrderedDict[str, Account] = OrderedDict()
        self._events: dict[str, int] = {}
        """How many events each account in memory has: its size goes with them."""
        self._all = 0

    def get(self, name: str) -> Account:
        """The account; a new one when nothing happened on it so far. One event more is counted for it."""
        account = self._accounts.get(name)
        if account is None:
            account = self._load(name)
        else:
            self._accounts.move_to_end(name)
        self._events[name] += 1
        self._all += 1
        return account

    def _load(self, name: str) -> Account:
        row = self._db.execute("SELECT state FROM accounts WHERE name = ?", (name,)).fetchone()
        account: Account
        account, events = (Account(), 0) if row is None else pickle.loads(row[0])
        self._accounts[name] = account
        self._events[name] = events
        self._all += events
        return account

    def make_room(self) -> None:
        """Put by the accounts used longest ago, until those in memory are few and small enough."""
        if len(self._accounts) <= CACHED_ACCOUNTS and self._all <= CACHED_EVENTS:
            return
        rows = []
        while len(self._accounts) > CACHED_ACCOUNTS * 3 // 4 or self._all > CACHED_EVENTS * 3 // 4:
            name, account = self._accounts.popitem(last=False)
            events = self._events.pop(name)
            self._all -= events
            rows.append((name, pickle.dumps((account, events), pickle.HIGHEST_PROTOCOL)))
        self._db.execute("BEGIN")
        self._db.executemany("INSERT OR REPLACE INTO accounts VALUES (?, ?)", rows)
        self._db.execute("COMMIT")
