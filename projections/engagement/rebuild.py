"""Rebuild of the engagement tables, blue/green: built under the same names in a place of their own, then moved.

The place is a schema on PostgreSQL, and moving is a change of names there. On SQLite it is a file beside the database,
whose rows are copied in one transaction. The build has positions of its own, so an interrupted one goes on; what served
before stays in a place of its own too. All tables are built together: they share roll-ups and positions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, delete, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.schema import CreateTable

from aggregates.database import is_postgres, open_database, sqlite_file
from projections.engagement import positions
from projections.engagement.tables import METADATA, POSITIONS, VERSION, VERSIONS, create_tables
from projections.upkeep.rebuild import Busy, NothingToGoBackTo, patient, wait_for_earlier
from projections.upkeep.runner import CACHE_KIB
from schemas.topics import TIERS, WINDOWS

NEXT: Final = "groundswell_next"
OLD: Final = "groundswell_old"
_ASIDE: Final = "groundswell_aside"
_STAND_STILL: Final = text("LOCK TABLE engagement_positions IN EXCLUSIVE MODE")
_ENDING: Final = "__old"
"""Ends the names of what served before the last swap on SQLite."""

Positions = dict[tuple[str, int], int]
"""Topic and partition → the next offset to consume."""


class Behind(Busy):
    """The tables that serve have gone on meanwhile: nothing happened, catch up and try again."""


def positions_of(conn: Connection) -> Positions:
    """Those of both pane topics."""
    return {(topic, n): at for topic in (WINDOWS, TIERS) for n, at in sorted(positions(conn, topic).items())}


class Build:
    """A build of the engagement tables of one database. At most one at a time may be at work."""

    def __init__(self, database: str, engine: Engine, reading: Engine) -> None:
        """`engine` and `reading` are of the tables that serve, `reading` a read-only one."""
        self._engine = engine
        self._reading = reading
        self._file = None if is_postgres(database) else _beside(database)
        if self._file is None:
            options = str(make_url(database).query.get("options", ""))
            place = {"options": f"{options} -c search_path={NEXT}".strip()}
            address = make_url(database).update_query_dict(place).render_as_string(hide_password=False)
        else:
            address = f"sqlite:///{self._file}"
        self.engine = open_database(address, cache_kib=CACHE_KIB)
        """What the tables of the build are reached by."""

    def start(self, upto: Positions) -> Positions:
        """Begin the build or go on with an interrupted one of this version; where it stands.

        One that has gone further than `upto`, by a topic that was made anew since, starts anew.
        """
        if self._file is None:
            with self._engine.begin() as conn:
                conn.execute(text(f"CREATE SCHEMA IF NOT EXISTS {NEXT}"))
        with self.engine.begin() as conn:
            create_tables(conn)
            at = positions_of(conn)
            if all(position <= upto.get(of, 0) for of, position in at.items()):
                return at
            METADATA.drop_all(conn)
            create_tables(conn)
            return {}

    def swap(self, catch_up: Callable[[Positions], None] = lambda _: None) -> None:
        """Put the build in the place of what serves, which is kept beside it; all in one transaction.

        Readers see the one or the other whole; whoever keeps the tables up waits, and goes on from the same positions.
        On PostgreSQL `catch_up` brings the build to where they stand then: under steady input they never stand still.
        On SQLite, where nothing else can be written meanwhile, it is not called. Raises `Behind` for a build that is
        elsewhere, and `Busy` when readers are in the way.
        """
        if self._file is None:
            with patient(self._engine) as conn:
                conn.execute(_STAND_STILL)
                now = positions_of(conn)
                if self._built() != now:
                    catch_up(now)
                _compare_positions(conn, self._built())
                wait_for_earlier(conn, self._reading)
                live = str(conn.execute(text("SELECT current_schema()")).scalar_one())
                _move(conn, live, OLD)
                _move(conn, NEXT, live)
        else:
            built = self._built()
            with _attached(self._engine, self._file) as conn, conn.begin():
                _compare_positions(conn, built)
                _set_aside(conn, _ENDING)
                _create(conn)
                for table in METADATA.sorted_tables:
                    names = ", ".join(column.name for column in table.columns)
                    conn.execute(text(f"INSERT INTO {table.name} ({names}) SELECT {names} FROM side.{table.name}"))
                _index(conn)
        self.close()
        if self._file is not None:
            _remove(self._file)

    def _built(self) -> Positions:
        with self.engine.connect() as side:
            return positions_of(side)

    def close(self) -> None:
        """Let go of the build's connections; it stays as it is."""
        self.engine.dispose()


def go_back(engine: Engine) -> None:
    """Have the tables serve that served before the last swap, and keep those; again, and it is undone.

    Raises `NothingToGoBackTo` where there are none that this release could serve, and `Busy`.
    """
    with patient(engine) as conn:
        check_old(conn)
        if conn.dialect.name == "sqlite":
            _set_aside(conn, "__aside")
            for table in METADATA.sorted_tables:
                conn.execute(text(f"ALTER TABLE {table.name}{_ENDING} RENAME TO {table.name}"))
                conn.execute(text(f"ALTER TABLE {table.name}__aside RENAME TO {table.name}{_ENDING}"))
            _index(conn)
            return
        live = str(conn.execute(text("SELECT current_schema()")).scalar_one())
        _move(conn, live, _ASIDE)
        _move(conn, OLD, live)
        _move(conn, _ASIDE, OLD)


def forget(engine: Engine, database: str) -> None:
    """Remove an interrupted build and the tables before the last swap: of pane topics that are gone they have offsets
    of records that nobody can read on from."""
    with patient(engine) as conn:
        if conn.dialect.name == "sqlite":
            for table in METADATA.sorted_tables:
                conn.execute(text(f"DROP TABLE IF EXISTS {table.name}{_ENDING}"))
        else:
            for schema in (NEXT, OLD):
                conn.execute(text(f"DROP SCHEMA IF EXISTS {schema} CASCADE"))
    if not is_postgres(database):
        _remove(_beside(database))


def read_anew(conn: Connection, partitions: Collection[int], topics: Collection[str]) -> None:
    """Have the tables read both pane topics of these partitions, and all of these topics, from their start.

    Rows stay until newer ones come. Whoever keeps the tables up waits for the caller's transaction.
    """
    if conn.dialect.name == "postgresql":
        conn.execute(_STAND_STILL)
    conn.execute(delete(POSITIONS).where(POSITIONS.c.partition.in_(partitions) | POSITIONS.c.topic.in_(topics)))


def _beside(database: str) -> Path:
    return Path(f"{sqlite_file(database)}.engagement")


def _remove(file: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        Path(f"{file}{ending}").unlink(missing_ok=True)


def _compare_positions(conn: Connection, built: Positions) -> None:
    if positions_of(conn) != built:
        raise Behind("the engagement tables have read on meanwhile")


# PostgreSQL


def _move(conn: Connection, schema: str, to: str) -> None:
    """Move the tables with their indexes to another schema, in the place of what is there; a schema of ours goes."""
    if to in (OLD, _ASIDE):
        conn.execute(text(f"DROP SCHEMA IF EXISTS {to} CASCADE"))
        conn.execute(text(f"CREATE SCHEMA {to}"))
    for table in METADATA.sorted_tables:
        conn.execute(text(f'ALTER TABLE "{schema}".{table.name} SET SCHEMA "{to}"'))
    if schema in (NEXT, OLD, _ASIDE):
        conn.execute(text(f"DROP SCHEMA {schema} CASCADE"))


# SQLite


@contextmanager
def _attached(engine: Engine, file: Path) -> Iterator[Connection]:
    """A connection that has the build's file beside the database, as `side`."""
    with engine.connect() as conn:
        driver = conn.connection.driver_connection
        assert driver is not None
        driver.execute("ATTACH DATABASE ? AS side", (str(file),))
        try:
            yield conn
        finally:
            driver.execute("DETACH DATABASE side")


def _set_aside(conn: Connection, ending: str) -> None:
    """Rename the tables that serve. Their indexes go, for the names of these belong to the tables that come."""
    for table in METADATA.sorted_tables:
        conn.execute(text(f"DROP TABLE IF EXISTS {table.name}{ending}"))
        for index in table.indexes:
            conn.execute(text(f"DROP INDEX IF EXISTS {index.name}"))
        conn.execute(text(f"ALTER TABLE {table.name} RENAME TO {table.name}{ending}"))


def _create(conn: Connection) -> None:
    """The tables, without indexes."""
    for table in METADATA.sorted_tables:
        conn.execute(CreateTable(table))


def _index(conn: Connection) -> None:
    for table in METADATA.sorted_tables:
        for index in table.indexes:
            index.create(conn)


def check_old(conn: Connection) -> None:
    """Raises `NothingToGoBackTo` where no tables are kept that this release could serve."""
    if conn.dialect.name == "sqlite":
        name, there = f"{VERSIONS.name}{_ENDING}", set(inspect(conn).get_table_names())
    else:
        name, there = f"{OLD}.{VERSIONS.name}", {f"{OLD}.{one}" for one in inspect(conn).get_table_names(OLD)}
    version = conn.execute(text(f"SELECT version FROM {name}")).scalar_one() if name in there else None
    if version != VERSION:
        has = "nothing that served before" if version is None else f"version {version} only"
        raise NothingToGoBackTo(f"engagement tables: there is {has}, this release serves version {VERSION}")
