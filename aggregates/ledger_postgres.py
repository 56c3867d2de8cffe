"""The ledger on PostgreSQL: eventsourcing's process recorder, written by COPY, for several writers at a time.

Notification ids are chosen under an advisory lock that is held to the commit. So they have no gaps, their order is
the order of commits, and a reader who polls never passes one that appears later. The lock is the last one taken, and
unlike the library's lock on the table it neither waits for VACUUM nor stops it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Final
from weakref import WeakKeyDictionary

from eventsourcing.persistence import OperationalError, StoredEvent, Tracking
from eventsourcing.postgres import ConnectionPool, PostgresDatastore, PostgresFactory, PostgresProcessRecorder
from eventsourcing.utils import Environment
from psycopg import Connection, Error
from psycopg.errors import QueryCanceled
from psycopg.rows import DictRow, dict_row, tuple_row
from psycopg_pool import PoolTimeout

from aggregates.database import AWAY_SECONDS, END_FROZEN, POSTGRES_SESSION, SURE_SECONDS, Lock, postgres_parameters
from aggregates.ledger_store import NO_END, Encoded, LedgerStore, Unnamed

CONNECTIONS: Final = 5
"""The most connections that one process's ledger has; one is kept open."""
SESSION: Final = (
    f"{POSTGRES_SESSION}; SET statement_timeout = '{AWAY_SECONDS}s'; "
    f"SET idle_in_transaction_session_timeout = '{AWAY_SECONDS}s'; "
    "SET default_transaction_isolation = 'read committed'"
)
"""No call lasts long, nor are its locks kept long by a writer that stops in the middle of a transaction."""
COPY: Final = (
    "COPY ledger_events (originator_id, originator_version, topic, state, notification_id) FROM STDIN (FORMAT BINARY)"
)
COPY_TYPES: Final = ("text", "int8", "text", "bytea", "int8")
INSERT: Final = (
    "INSERT INTO ledger_events (originator_id, originator_version, topic, state, notification_id) "
    "SELECT * FROM unnest(%b::text[], %b::int8[], %b::text[], %b::bytea[], %b::int8[])"
)
FEW: Final = 300
"""So many rows at most go in one statement, which needs no trip of its own; more of them are quicker by COPY."""
LOCK_APPEND: Final = "SELECT pg_advisory_xact_lock(%s)"
LIVE_SECONDS: Final = 0.1
"""How long one that was waiting itself, for what we have just let go, has to send its next statement."""


class _Pool(ConnectionPool[Connection[DictRow]]):
    """Remembers why there is no connection, which psycopg only logs, and when each was in use."""

    def __init__(self, **kwargs: Any) -> None:
        self.refused = ""
        self._used_at: WeakKeyDictionary[Connection[DictRow], float] = WeakKeyDictionary()
        super().__init__(**kwargs, check=self._check)

    def putconn(self, conn: Connection[DictRow]) -> None:
        """Take a connection back."""
        self._used_at[conn] = time.monotonic()
        super().putconn(conn)

    def doubt(self) -> None:
        """Try every connection before it is used again: one was found dead."""
        self._used_at.clear()

    def _check(self, connection: Connection[DictRow]) -> None:
        """Try one that was idle for long: a trip that others save. Raises what psycopg takes for a dead one."""
        if time.monotonic() - self._used_at.get(connection, -math.inf) > SURE_SECONDS:
            self.check_connection(connection)

    def _connect(self, timeout: float | None = None) -> Connection[DictRow]:
        try:
            return super()._connect(timeout)
        except Error as error:
            self.refused = str(error)
            raise


class LedgerDatastore(PostgresDatastore):
    """The library's datastore on a pool that is opened by an address, has timeouts, and is quick to come back."""

    def __init__(self, url: str) -> None:
        super().__init__("", "", "", "", "", originator_id_type="text")
        self.pool: _Pool = _Pool(
            connection_class=Connection[DictRow],
            kwargs={**postgres_parameters(url), "row_factory": dict_row},
            min_size=1,
            max_size=CONNECTIONS,
            open=False,
            configure=_configure,
            timeout=AWAY_SECONDS,
            reconnect_timeout=AWAY_SECONDS,  # then the next call tries at once; the pool would, ever more seldom
        )

    @contextmanager
    def get_connection(self) -> Iterator[Connection[DictRow]]:
        """A connection that works. Raises OperationalError, with the server's reason, where there is none in time."""
        try:
            with super().get_connection() as connection:
                yield connection
        except OperationalError as error:
            self.pool.doubt()
            if isinstance(error.__cause__, PoolTimeout) and self.pool.refused:
                raise OperationalError(f"{error}: {self.pool.refused}") from error.__cause__
            raise

    def register_type_adapters(self) -> None:
        """Nothing: no composite type is used, and making a ledger must not need a connection."""


def _configure(connection: Connection[DictRow]) -> None:
    connection.autocommit = True
    connection.execute(SESSION)


class LedgerFactory(PostgresFactory):
    """Makes the ledger's parts; `POSTGRES_DBNAME` is the whole address."""

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self.datastore = LedgerDatastore(str(env.get(self.POSTGRES_DBNAME)))


class PostgresLedgerRecorder(LedgerStore, PostgresProcessRecorder):
    """The ledger in the tables `ledger_…` of a PostgreSQL database.

    The library's own ways in and out retry for long by themselves, take the acknowledgement that got lost for a
    conflict, and handle a row at a time: none of them is used.
    """

    mark = "%s"

    def create_table(self) -> None:
        """Create the tables that are missing, for one process at a time."""
        library = [statement.as_string() for statement in self.sql_create_statements]
        tables = [statement for statement in library if statement.startswith(("CREATE TABLE", "CREATE UNIQUE INDEX"))]
        with self.writing() as c:
            c.execute("SET LOCAL statement_timeout = 0")
            for statement in (*tables, *self.TABLES):
                c.execute(statement)
            # An id comes from `write` alone; whoever inserts around it is told, instead of taking one out of order.
            c.execute("ALTER TABLE ledger_events ALTER COLUMN notification_id DROP DEFAULT")

    def reading(self) -> AbstractContextManager[Any]:
        """A cursor that commits each statement by itself."""
        return self.datastore.cursor()

    @contextmanager
    def writing(self, *, in_trips: bool = False) -> Iterator[Any]:
        """A cursor in a transaction that is committed at the end; what waited in vain lets the next one through.

        `in_trips`: what asks for no answer goes with the next that does, or with the commit.
        """
        try:
            with ExitStack() as ending:
                connection = ending.enter_context(self.datastore.get_connection())
                if in_trips:
                    ending.enter_context(connection.pipeline())
                ending.enter_context(connection.transaction())
                yield connection.cursor()
        except OperationalError as error:
            if isinstance(error.__cause__, QueryCanceled):
                time.sleep(LIVE_SECONDS)
                with self.reading() as c:
                    c.execute(END_FROZEN)
            raise

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """The library's door to `write`."""
        rows = [(str(s.originator_id), s.originator_version, s.topic, s.state) for s in stored_events]
        tracking = kwargs.get("tracking")
        return self.write(rows, *(() if tracking is None else (tracking,)))

    def _answer(self, c: Any, statement: str, values: Sequence[Any]) -> Callable[[], Any]:
        return c.connection.execute(self._sql(statement), values).fetchone  # type: ignore[no-any-return]

    def write(self, rows: Sequence[Encoded], *tracking: Tracking) -> range:
        """See `LedgerStore`. The ids are chosen after position and budgets have been moved, as late as can be."""
        few = len(rows) <= FEW
        with self.writing(in_trips=few) as c:
            self.move(c, tracking)
            if not rows:
                return range(0)
            c.connection.execute(LOCK_APPEND, (int(Lock.APPEND),))
            # A statement of its own: it must see what was committed while the one before it waited.
            c.execute("SELECT COALESCE(MAX(notification_id), 0) AS last FROM ledger_events")
            first = int(c.fetchone()["last"]) + 1
            ids = range(first, first + len(rows))
            if few:
                c.connection.execute(INSERT, [*map(list, zip(*rows, strict=True)), list(ids)])
            else:
                with c.copy(COPY) as copy:
                    copy.set_types(COPY_TYPES)
                    for row, notification in zip(rows, ids, strict=True):
                        copy.write_row((*row, notification))
        return ids

    def histories(self, aggregates: Sequence[str]) -> Iterator[Encoded]:
        """See `LedgerStore`."""
        yield from self._rows(
            "SELECT originator_id, originator_version, topic, state FROM ledger_events "
            "WHERE originator_id = ANY(%s) ORDER BY originator_id, originator_version",
            (list(aggregates),),
        )

    def rows(self, after: int, limit: int, stop: int | None = None) -> list[Unnamed]:
        """See `LedgerStore`."""
        return self._rows(
            "SELECT notification_id, originator_id, originator_version, topic, state FROM ledger_events "
            "WHERE notification_id > %s AND notification_id <= %s ORDER BY notification_id LIMIT %s",
            (after, NO_END if stop is None else stop, limit),
        )

    def last(self) -> int:
        """See `LedgerStore`."""
        return int(self._rows("SELECT COALESCE(MAX(notification_id), 0) FROM ledger_events", ())[0][0])

    def _rows(self, query: str, parameters: tuple[Any, ...]) -> list[Any]:
        """All rows as tuples; in the binary format, or the state of an event would travel as hexadecimal digits."""
        with self.datastore.get_connection() as connection, connection.cursor(row_factory=tuple_row) as c:
            c.execute(query, parameters, prepare=True, binary=True)
            return c.fetchall()
