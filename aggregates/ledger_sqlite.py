"""The ledger in a SQLite file: eventsourcing's process recorder, written in bulk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import chain, islice
from typing import Any, Final

from eventsourcing.persistence import StoredEvent, Tracking
from eventsourcing.sqlite import SQLiteConnection, SQLiteConnectionPool, SQLiteFactory, SQLiteProcessRecorder
from eventsourcing.utils import Environment

from aggregates.ledger_store import NO_END, Encoded, LedgerStore, Unnamed

CONNECTION: Final = (
    "PRAGMA cache_size = -65536",
    "PRAGMA wal_autocheckpoint = 16000",
    "PRAGMA temp_store = MEMORY",
)
"""Each batch touches pages all over the index of accounts. 64 MB keep them in memory, and with a log of 64 MB a page is
written back to the file once in many batches instead of with each: a third less CPU and half the writing. A statement
of many rows notes the pages that it changes, in case it fails: in memory, not in a file, for a tenth less CPU."""
PARAMETERS: Final = 500
"""Parameters a statement may well have."""
ROWS: Final = 1000
"""Rows that one statement inserts. The driver gives the interpreter up and takes it back for each statement, and for
each row of `executemany`: beside a busy thread, that waits for it each time."""

INSERT: Final = "INSERT INTO stored_events (originator_id, originator_version, topic, state) VALUES"


class _Pool(SQLiteConnectionPool):
    def _create_connection(self) -> SQLiteConnection:
        connection = super()._create_connection()
        for pragma in CONNECTION:
            connection.cursor().execute(pragma)
        return connection


class LedgerFactory(SQLiteFactory):
    """Makes the ledger's parts on connections with more memory."""

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        stock = self.datastore.pool
        self.datastore.pool = _Pool(db_name=stock.db_name, lock_timeout=stock.lock_timeout)
        stock.close()


class SQLiteLedgerRecorder(LedgerStore, SQLiteProcessRecorder):
    """The ledger in a SQLite file; its one write lock orders everything."""

    def construct_create_table_statements(self) -> list[str]:
        """The library's tables, the ledger's positions and the campaigns' budgets."""
        return [*super().construct_create_table_statements(), *(f"{table} WITHOUT ROWID" for table in self.TABLES)]

    def reading(self) -> AbstractContextManager[Any]:
        """A cursor that sees one snapshot."""
        return self.datastore.transaction(commit=False)

    def writing(self) -> AbstractContextManager[Any]:
        """A cursor whose first write takes the write lock."""
        return self.datastore.transaction(commit=True)

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """The library's door to `write`."""
        rows = [(str(s.originator_id), s.originator_version, s.topic, s.state) for s in stored_events]
        tracking = kwargs.get("tracking")
        return self.write(rows, *(() if tracking is None else (tracking,)))

    def write(self, rows: Sequence[Encoded], *tracking: Tracking) -> range:
        """See `LedgerStore`; the write lock is held from the position on, so row ids are the order of commits."""
        with self.writing() as c:
            self.move(c, tracking)
            if not rows:
                return range(0)
            left = iter(rows)
            while some := [*islice(left, ROWS)]:
                c.execute(f"{INSERT} {','.join(['(?,?,?,?)'] * len(some))}", [*chain.from_iterable(some)])
            last = self._max_notification_id(c)
            assert last is not None
            return range(last - len(rows) + 1, last + 1)

    def histories(self, aggregates: Sequence[str]) -> Iterator[Encoded]:
        """See `LedgerStore`."""
        for start in range(0, len(aggregates), PARAMETERS):
            some = aggregates[start : start + PARAMETERS]
            with self.reading() as c:
                c.execute(
                    f"SELECT * FROM stored_events WHERE originator_id IN ({','.join('?' * len(some))}) "
                    "ORDER BY originator_id, originator_version",
                    some,
                )
                found = c.fetchall()
            yield from map(tuple, found)

    def rows(self, after: int, limit: int, stop: int | None = None) -> list[Unnamed]:
        """See `LedgerStore`."""
        with self.reading() as c:
            c.sqlite_cursor.row_factory = None
            c.execute(
                "SELECT rowid, * FROM stored_events WHERE rowid > ? AND rowid <= ? ORDER BY rowid LIMIT ?",
                (after, NO_END if stop is None else stop, limit),
            )
            found: list[Unnamed] = c.fetchall()
            return found

    def last(self) -> int:
        """See `LedgerStore`."""
        return self.max_notification_id() or 0
