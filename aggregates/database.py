"""How every part opens the one database, tells that it is away from an error of our own, and works alone on it."""

from __future__ import annotations

import fcntl
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import IO, Any, Final, Self

import psycopg
import psycopg_pool
from eventsourcing import persistence
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import ColumnElement, Connection, Engine, String, Table, any_, bindparam, create_engine, event
from sqlalchemy import exc as sqlalchemy_errors
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url

BUSY_SECONDS: Final = 30
"""How long a SQLite writer waits for the one before it."""
SURE_SECONDS: Final = 1.0
"""A connection to PostgreSQL that was idle for longer is tried before it is used: a trip that others save."""
AWAY_SECONDS: Final = 4
"""About how long a call waits for a PostgreSQL server that does not answer, before it says so."""

POSTGRES_DEFAULTS: Final[dict[str, str | int]] = {
    "connect_timeout": 3,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 2,
    "tcp_user_timeout": AWAY_SECONDS * 1000,
    "fallback_application_name": "groundswell",
}
"""Connection parameters that an address may replace: a server that vanished is noticed in `AWAY_SECONDS`."""


POSTGRES_SESSION: Final = "SET tcp_keepalives_idle = 2; SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 2"
"""So the server notices a client that vanished, and lets go of what it had locked."""


END_FROZEN: Final = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
    "AND usename = current_user AND query ~ "
    "'^(COPY ledger_events|(INSERT INTO|UPDATE|DELETE FROM) (ledger|stream)_|SELECT pg_advisory_xact_lock|"
    "SELECT COALESCE.MAX)' AND state <> 'idle' AND wait_event = 'ClientRead' "
    f"AND state_change < clock_timestamp() - interval '{AWAY_SECONDS / 2} s'"
)
"""Ends the sessions of writers that stopped in the middle of their rows, or of a trip; for who waited in vain for what
they have locked. No timeout of the server does: while a COPY or a pipeline waits for its client it cannot be canceled,
nor is it idle; or it is said to be idle in its transaction, but the clock of that was stopped by a message that asks
for nothing (a flush). It would keep the locks as long as its process is frozen."""


class Lock(IntEnum):
    """Every lock that is no row's; on PostgreSQL the number of an advisory lock, on SQLite the name of a file."""

    APPEND = 0x67730001
    """PostgreSQL only: from the choice of notification ids to the commit, so their order is the order of commits."""
    MIGRATE = 0x67730002
    MIGRATE_LEDGER = 0x67730003
    PROJECT = 0x67730004
    """The one projector at work."""
    REBUILD = 0x67730005
    """The one rebuild of read models at work."""


def among(dialect: str, column: ColumnElement[str], parameter: str) -> ColumnElement[bool]:
    """That a column has one of the texts that a statement gets as a parameter of this name, a list.

    On PostgreSQL they are one array, so the statement is planned once: with a parameter for each, 64 lots took five
    times as long to read.
    """
    if dialect == "postgresql":
        return column == any_(bindparam(parameter, type_=postgresql.ARRAY(String)))
    return column.in_(bindparam(parameter, expanding=True))


def insert_into(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An insert that can say what becomes of a row that is there (`on_conflict_…`), as either database writes it."""
    return (postgresql.insert if dialect == "postgresql" else sqlite.insert)(table)


class Unavailable(Exception):
    """The database cannot be reached, or broke off: nothing is wrong with what was asked, ask again later."""


_FOR_GOOD = (psycopg_pool.PoolClosed, psycopg.errors.ProgramLimitExceeded)
"""What psycopg calls operational and no waiting ends."""
_GONE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.ReadOnlySqlTransaction,
)
"""A broken or refused connection, a timeout, or a server that has become a replica."""


def is_unavailable(error: BaseException) -> bool:
    """Whether an error of ours, SQLAlchemy's, eventsourcing's or a driver's says that the database is away.

    An integrity error, an unknown table or any other mistake is none, and neither is a closed pool.
    """
    match error:
        case Unavailable() | sqlalchemy_errors.TimeoutError():
            return True
        case sqlalchemy_errors.DBAPIError():
            return error.connection_invalidated or (error.orig is not None and is_unavailable(error.orig))
        case sqlite3.OperationalError():
            return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        case psycopg.Error():
            return isinstance(error, _GONE) and not isinstance(error, _FOR_GOOD)
        case persistence.PersistenceError() if isinstance(error.__cause__, psycopg.Error | sqlite3.Error):
            return is_unavailable(error.__cause__)
    return isinstance(error, persistence.OperationalError | persistence.InterfaceError)


def is_postgres(url: str) -> bool:
    """Whether this is a PostgreSQL address. Raises ValueError for one that is neither that nor `sqlite:///FILE`."""
    backend = make_url(url).get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise ValueError(f"{backend} is no database of ours: it is sqlite:///FILE or postgresql://…")
    return backend == "postgresql"


class Exclusive:
    """A lock that at most one process has, and that is free again whenever that process or its connection ends.

    With `lease_seconds`, on PostgreSQL, also when it has not asked for so long whether it still has it: then it is
    frozen, or cut off.
    """

    def __init__(self, url: str, lock: Lock, lease_seconds: int = 0) -> None:
        self._url = url
        self._lock = lock
        self._lease_seconds = lease_seconds
        self._session: psycopg.Connection[Any] | None = None
        self._file: IO[bytes] | None = None

    def acquire(self, *, wait: bool = False) -> bool:
        """Take the lock, or answer False at once if another one has it; with `wait`, only when it is taken."""
        try:
            taken = self._lock_session(wait) if is_postgres(self._url) else self._lock_file(wait)
        except BaseException:
            self.release()
            raise
        if not taken:
            self.release()
        return taken

    def _lock_session(self, wait: bool) -> bool:
        self._session = psycopg.connect(autocommit=True, **postgres_parameters(self._url))
        self._session.execute(POSTGRES_SESSION)
        self._session.execute("SET statement_timeout = 0")
        self._session.execute(f"SET idle_session_timeout = '{self._lease_seconds}s'")
        function = "pg_advisory_lock" if wait else "pg_try_advisory_lock"
        row = self._session.execute(f"SELECT {function}(%s)", (int(self._lock),)).fetchone()
        return wait or (row is not None and bool(row[0]))

    def _lock_file(self, wait: bool) -> bool:
        name = f"{sqlite_file(self._url)}.{self._lock.name.lower()}.lock"
        self._file = open(name, "ab")  # noqa: SIM115
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def is_held(self) -> bool:
        """Whether the lock is still ours; on PostgreSQL it goes with the connection that took it."""
        if self._session is None:
            return self._file is not None
        try:
            self._session.execute("SELECT 1")
        except psycopg.Error:
            self.release()
        return self._session is not None

    def release(self) -> None:
        """Give the lock back, if it is ours."""
        for held in (self._session, self._file):
            if held is not None:
                held.close()
        self._session = self._file = None

    def __enter__(self) -> Self:
        self.acquire(wait=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def open_database(url: str, *, read_only: bool = False, cache_kib: int = 0, name: str = "") -> Engine:
    """An engine for `sqlite:///FILE` or `postgresql://…`. Raises ValueError for another address.

    A `read_only` one sees one snapshot a transaction and never waits for a writer. On SQLite any other transaction
    takes the write lock when it begins (so that what it reads cannot be outdated when it writes); on PostgreSQL it
    does not, there whoever writes what it has read compares and sets. `cache_kib`: memory that a connection to SQLite
    may keep pages in, instead of its 2 MiB, and then checkpoints are seldom; for one that writes much. `name`: what
    PostgreSQL is told of the connections, for `end_former`.
    """
    return _open_postgres(url, read_only, name) if is_postgres(url) else _open_sqlite(url, read_only, cache_kib)


def _open_postgres(url: str, read_only: bool, name: str) -> Engine:
    parsed = make_url(url).set(drivername="postgresql+psycopg")
    if name:
        parsed = parsed.update_query_dict({"application_name": name})
    engine = create_engine(
        parsed,
        pool_timeout=AWAY_SECONDS,
        connect_args={name: value for name, value in POSTGRES_DEFAULTS.items() if name not in parsed.query},
        isolation_level="REPEATABLE READ" if read_only else "READ COMMITTED",
        execution_options={"postgresql_readonly": True} if read_only else {},
    )

    @event.listens_for(engine, "connect")
    def _connected(connection: psycopg.Connection[Any], record: Any) -> None:
        connection.execute(POSTGRES_SESSION)
        connection.commit()
        _given_back(connection, record)

    @event.listens_for(engine, "checkin")
    def _given_back(_connection: Any, record: Any) -> None:
        record.info["used_at"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _taken(connection: Any, record: Any, _proxy: Any) -> None:
        if time.monotonic() - record.info["used_at"] > SURE_SECONDS:
            try:
                engine.dialect.do_ping(connection)
            except psycopg.Error:
                raise sqlalchemy_errors.InvalidatePoolError from None  # a new one is made, and none of before is used

    return engine


def glancing(engine: Engine) -> Engine:
    """The same for statements that need not see one instant: on PostgreSQL without the two trips of a transaction."""
    return engine.execution_options(isolation_level="AUTOCOMMIT") if engine.dialect.name == "postgresql" else engine


def _open_sqlite(url: str, read_only: bool, cache_kib: int) -> Engine:
    engine = create_engine(make_url(url), connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False})
    begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"

    @event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # we send BEGIN ourselves
        if not read_only:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        if cache_kib:
            connection.execute(f"PRAGMA cache_size=-{cache_kib}")
            connection.execute("PRAGMA wal_autocheckpoint=16000")  # 64 MB, as the ledger has it: a fifth more a second

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


@contextmanager
def brief_transaction(engine: Engine) -> Iterator[Connection]:
    """A transaction that computes little: on PostgreSQL, a process frozen in it keeps what it locked only so long.

    Raises what `is_unavailable` knows when it waited in vain for a lock; the next one gets it.
    """
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                for timeout in ("idle_in_transaction_session_timeout", "lock_timeout"):
                    connection.exec_driver_sql(f"SET LOCAL {timeout} = '{AWAY_SECONDS}s'")
            yield connection
    except sqlalchemy_errors.DBAPIError as error:
        if isinstance(error.orig, psycopg.errors.LockNotAvailable):
            with engine.begin() as connection:
                connection.exec_driver_sql(END_FROZEN)
        raise


def end_former(engine: Engine) -> None:
    """End the older sessions of this engine's name: those of a process that lost its lease while it was frozen.

    What it had locked in the middle of a transaction would be locked until it goes on. SQLite has nothing like it.
    """
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(theirs.pid) FROM pg_stat_activity ours, pg_stat_activity theirs "
                "WHERE ours.pid = pg_backend_pid() AND theirs.datname = ours.datname "
                "AND theirs.usename = ours.usename AND theirs.application_name = ours.application_name "
                "AND theirs.backend_start < ours.backend_start"
            )


def sqlite_file(url: str) -> str:
    """The file of a `sqlite:///FILE` address. Raises ValueError for another database."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise ValueError(f"not the address of a SQLite file: {without_password(url)}")
    return parsed.database


def postgres_parameters(url: str) -> dict[str, Any]:
    """libpq's parameters for a `postgresql://…` address."""
    return {**POSTGRES_DEFAULTS, **conninfo_to_dict(url)}


def without_password(url: str) -> str:
    """An address as a message may show it."""
    return make_url(url).render_as_string(hide_password=True)
