"""How a page's changes become rows of one table, and by how much they change its digest.

Each table's changes are merged with the rows that are there by the table's own rules, here, so that the digest of what
went and what came is known without reading the table. The drivers are used directly: SQLAlchemy's own executemany took
three quarters of a page's time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from functools import lru_cache
from hashlib import blake2b
from operator import itemgetter
from typing import Any, Final, NamedTuple

import msgspec
from psycopg.errors import UniqueViolation
from sqlalchemy import BigInteger, Connection

from projections.projection import Key, ReadTable, Value

MODULUS: Final = 1 << 128
_json: Final = msgspec.json.Encoder().encode

Stored = tuple[Value, ...]
"""A row as a tuple of its table's columns."""
Values = Sequence[Value]
"""The same in any sequence."""


class Digest(NamedTuple):
    """The content of some rows as one number, or how it changed: digests of disjoint rows add up."""

    rows: int = 0
    total: int = 0
    """Modulo 2^128."""

    def plus(self, other: Digest) -> Digest:
        """The digest of the rows of both."""
        return Digest(self.rows + other.rows, (self.total + other.total) % MODULUS)

    def hexadecimal(self) -> str:
        """32 hexadecimal digits."""
        return f"{self.total:032x}"


NOTHING: Final = Digest()
FEW: Final = 1_000
"""Rows of a page up to which it goes to PostgreSQL in few trips."""
_AT_ONCE: Final = 100
"""Keys looked up in one statement on SQLite: twice as quick as one by one; by row id a change is quicker, too."""
_TAKEN: Final = (sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_UNIQUE)


class _Shape:
    """What is worked out once for each table and database."""

    def __init__(self, target: ReadTable, database: str) -> None:
        columns = target.columns
        key = [columns.index(name) for name in target.key]
        stable = [place for place, name in enumerate(columns) if name not in target.volatile]
        self.name = target.name
        self.columns = columns
        self.keys = target.key
        self.changing = [n for n in columns if n in target.sums or n in target.latest]
        self.sums = [columns.index(name) for name in target.sums]
        self.latest = [columns.index(name) for name in target.latest]
        self.key = itemgetter(*key) if len(key) > 1 else lambda row: (row[key[0]],)
        self.stable = itemgetter(*stable)
        self.mostly_new = target.mostly_new
        self.new_where = columns.index(target.new_where) if target.new_where else None
        places = [columns.index(name) for name in self.changing]
        self.change = itemgetter(*places) if len(places) > 1 else lambda row: tuple([row[place] for place in places])
        table = target.table
        self.types = ["int8" if isinstance(table.c[name].type, BigInteger) else "text" for name in columns]
        names, found = ", ".join(columns), " AND ".join(f"t.{name} = v.{name}" for name in target.key)
        if database == "sqlite":
            where = " AND ".join(f"{name} = ?" for name in target.key)
            sets = ", ".join(f"{name} = ?" for name in self.changing)
            self.insert = f"INSERT INTO {table.name} ({names}) VALUES ({', '.join('?' * len(columns))})"
            self.select = f"SELECT rowid, {names} FROM {table.name} WHERE {where}"
            keys = ", ".join([f"({', '.join('?' * len(key))})"] * _AT_ONCE)
            same = " AND ".join(f"t.{name} = v.column{n}" for n, name in enumerate(target.key, 1))
            self.select_many = (
                f"SELECT t.rowid, {', '.join(f't.{name}' for name in columns)} FROM (VALUES {keys}) v "
                f"CROSS JOIN {table.name} t ON {same}"
            )
            self.update = f"UPDATE {table.name} SET {sets} WHERE rowid = ?"
        else:
            sets = ", ".join(f"{name} = v.{name}" for name in self.changing)
            self.load = f"COPY {table.name} ({names}) FROM STDIN (FORMAT BINARY)"
            self.insert = f"INSERT INTO {table.name} ({names}) SELECT * FROM {self._given(columns, columns)}"
            self.put = f"{self.insert} ON CONFLICT DO NOTHING RETURNING {', '.join(target.key)}"
            self.select = (
                f"SELECT {', '.join(f't.{name}' for name in columns)} FROM {self._given(target.key, columns)} "
                f"JOIN {table.name} t ON {found}"
            )
            self.update = (
                f"UPDATE {table.name} t SET {sets} FROM {self._given((*self.changing, *target.key), columns)} "
                f"WHERE {found}"
            )

    def _given(self, names: Sequence[str], columns: Sequence[str]) -> str:
        typed = ", ".join(f"{name} {self.types[columns.index(name)]}" for name in names)
        return f"json_to_recordset(%s::json) AS v ({typed})"

    def parted(self, changes: Mapping[Key, Values]) -> tuple[list[Values], Mapping[Key, Values]]:
        """The changes that likely make rows, and the others."""
        place = self.new_where
        if self.mostly_new:
            return list(changes.values()), {}
        if place is None:
            return [], changes
        new = [row for row in changes.values() if row[place] > 0]  # type: ignore[operator]
        return new, {key: row for key, row in changes.items() if row[place] <= 0}  # type: ignore[operator]

    def digest(self, rows: Iterable[Values]) -> Digest:
        """See `digest_of_rows`."""
        count, total, name, stable = 0, 0, self.name, self.stable
        for row in rows:
            total += int.from_bytes(blake2b(_json((name, stable(row))), digest_size=16).digest(), "big")
            count += 1
        return Digest(count, total % MODULUS)

    def merged(self, old: Values, change: Values) -> Stored:
        """The row that a change makes of one that is there."""
        row = list(old)
        for place in self.sums:
            row[place] += change[place]  # type: ignore[operator]
        for place in self.latest:
            row[place] = change[place]
        return tuple(row)


@lru_cache(maxsize=256)
def _shape(target: ReadTable, database: str) -> _Shape:
    return _Shape(target, database)


def digest_of_rows(target: ReadTable, rows: Iterable[Values]) -> Digest:
    """The digest of some of a table's rows: 16 bytes of BLAKE2b of each, as a number, added up.

    What is hashed is a JSON array of the table's name and an array of the values that are not volatile, in the order
    of the columns. So neither the order of rows, the database nor the sizes of pages matter.
    """
    return _shape(target, "sqlite").digest(rows)


def write(conn: Connection, target: ReadTable, changes: Mapping[Key, Values], *, all_new: bool = False) -> Digest:
    """Write changes by the table's own rules, and answer how its digest changed.

    The caller's transaction must be the only one that writes the table. `all_new`: none of the keys is there; that is
    not looked at.
    """
    shape = _shape(target, conn.dialect.name)
    if all_new:
        rows = list(changes.values())
        _insert(conn, shape, rows)
        return shape.digest(rows)
    writing = Writing(conn, target, changes, in_trips=False)
    return writing.write(*writing.answer())


def few(conn: Connection, count: int) -> bool:
    """Whether so many rows of a page go to the database in trips: on PostgreSQL a trip costs more than what it
    carries; many are quicker by COPY, which needs trips of its own."""
    return conn.dialect.name == "postgresql" and count <= FEW


def trip(conn: Connection, in_trips: bool) -> AbstractContextManager[Any]:
    """What is sent in this block goes to PostgreSQL together, if `in_trips`; whoever asks for an answer waits there."""
    return _driver(conn).pipeline() if in_trips else nullcontext()


def ask(conn: Connection, statement: str, values: Sequence[Value]) -> Callable[[], list[Stored]]:
    """Send a statement, with `?` where its values are; who calls the answer gets its rows."""
    if conn.dialect.name == "sqlite":
        with closing(conn.connection.cursor()) as cursor:
            found = cursor.execute(statement, values).fetchall()
        return lambda: found
    sent = _driver(conn).execute(statement.replace("?", "%s"), values, binary=True)
    return lambda: sent.fetchall()


def append(conn: Connection, target: ReadTable, rows: Iterable[Values]) -> None:
    """Write rows to a table that has no keys yet. Their digest is the caller's."""
    _insert(conn, _shape(target, conn.dialect.name), list(rows))


class Writing:
    """Changes of one table: rows that are likely new are put there and the others asked for; then what is left.

    `in_trips`: it is made and answered in one `trip`, and written in another.
    """

    def __init__(self, conn: Connection, target: ReadTable, changes: Mapping[Key, Values], *, in_trips: bool) -> None:
        self._conn = conn
        self._in_trips = in_trips
        self._shape = shape = _shape(target, conn.dialect.name)
        self._changes = changes
        self._new, rest = shape.parted(changes)
        self._refused = _put(conn, shape, self._new, in_trips)
        self._found = _ask(conn, shape, list(rest))

    def answer(self) -> tuple[list[Values], list[tuple[int, Stored]]]:
        """The changes that made a row, and the rows that the others change."""
        refused, found = self._refused(), self._found()
        if not refused:
            return self._new, found
        again = set(refused)
        found += _ask(self._conn, self._shape, refused)()
        return [row for row in self._new if self._shape.key(row) not in again], found

    def write(self, made: list[Values], rows: list[tuple[int, Stored]]) -> Digest:
        """Write what is left; how the digest changed."""
        shape, changes = self._shape, self._changes
        there = {shape.key(row): (number, row) for number, row in rows}
        done = there.keys() | {shape.key(row) for row in made}
        fresh = [row for key, row in changes.items() if key not in done]
        _insert(self._conn, shape, fresh, self._in_trips)
        fresh += made
        if not there or not shape.changing:
            return shape.digest(fresh)
        changed = [(number, shape.merged(row, changes[key])) for key, (number, row) in there.items()]
        _update(self._conn, shape, changed)
        came = shape.digest([*fresh, *(row for _, row in changed)])
        went = shape.digest([row for _, row in there.values()])
        return Digest(len(fresh), (came.total - went.total) % MODULUS)


def _driver(conn: Connection) -> Any:
    return conn.connection.driver_connection


def _is_taken(error: BaseException) -> bool:
    """Whether a row was refused because its key is there."""
    return isinstance(error, UniqueViolation) or getattr(error, "sqlite_errorcode", 0) in _TAKEN


def _insert(conn: Connection, shape: _Shape, rows: Sequence[Values], in_trips: bool = False) -> None:
    """Write rows whose keys are not there."""
    if not rows:
        return
    if conn.dialect.name == "sqlite":
        with closing(conn.connection.cursor()) as cursor:
            cursor.executemany(shape.insert, rows)
    elif in_trips:
        _driver(conn).execute(shape.insert, _given(shape.columns, rows))
    else:
        with _driver(conn).cursor() as cursor, cursor.copy(shape.load) as copy:
            copy.set_types(shape.types)
            for row in rows:
                copy.write_row(row)


def _put(conn: Connection, shape: _Shape, rows: Sequence[Values], in_trips: bool) -> Callable[[], list[Key]]:
    """Write rows whose keys are likely not there; who asks gets the keys of those that were not written."""
    if not rows:
        return list
    if not in_trips:
        try:
            with conn.begin_nested():
                _insert(conn, shape, rows)
        except Exception as error:
            if not _is_taken(error):
                raise
            return lambda: [shape.key(row) for row in rows]
        return list
    cursor = _driver(conn).execute(shape.put, _given(shape.columns, rows), binary=True)

    def refused() -> list[Key]:
        written = set(cursor.fetchall())
        return [key for row in rows if (key := shape.key(row)) not in written] if len(written) < len(rows) else []

    return refused


def _ask(conn: Connection, shape: _Shape, keys: Sequence[Key]) -> Callable[[], list[tuple[int, Stored]]]:
    """Who asks gets the rows that are there of these keys, each with its row id; 0 where a database has none."""
    if not keys:
        return list
    if conn.dialect.name == "sqlite":
        return lambda: _read(conn, shape, keys)
    cursor = _driver(conn).execute(shape.select, _given(shape.keys, keys), binary=True)
    return lambda: [(0, row) for row in cursor.fetchall()]


def _read(conn: Connection, shape: _Shape, keys: Sequence[Key]) -> list[tuple[int, Stored]]:
    some: list[Any] = []
    at_once = len(keys) - len(keys) % _AT_ONCE
    with closing(conn.connection.cursor()) as cursor:
        for start in range(0, at_once, _AT_ONCE):
            values = [value for key in keys[start : start + _AT_ONCE] for value in key]
            some += cursor.execute(shape.select_many, values).fetchall()
        for key in keys[at_once:]:
            some += cursor.execute(shape.select, key).fetchall()
    return [(row[0], row[1:]) for row in some]


def _update(conn: Connection, shape: _Shape, rows: Sequence[tuple[int, Stored]]) -> None:
    if conn.dialect.name == "sqlite":
        with closing(conn.connection.cursor()) as cursor:
            cursor.executemany(shape.update, [(*shape.change(row), number) for number, row in rows])
    else:
        values = [(*shape.change(row), *shape.key(row)) for _, row in rows]
        _driver(conn).execute(shape.update, _given((*shape.changing, *shape.keys), values))


def _given(names: Sequence[str], rows: Iterable[Values]) -> tuple[str]:
    """Rows as one parameter: psycopg takes twice as long, and four times the CPU, to write an array of each column."""
    return (_json([dict(zip(names, row, strict=True)) for row in rows]).decode(),)
