"""How a page's changes become rows of one table, and by how much they change its digest.

Each table's changes are merged with the rows that are there by the table's own rules, here, so that the digest of what
went and what came is known without reading the table. The drivers are used directly: SQLAlchemy's own executemany took
three quarters of a page's time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
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
            self.insert = f"COPY {table.name} ({names}) FROM STDIN (FORMAT BINARY)"
            self.select = (
                f"SELECT {', '.join(f't.{name}' for name in columns)} FROM {self._given(target.key, columns)} "
                f"JOIN {table.name} t ON {found}"
            )
            self.update = (
                f"UPDATE {table.name} t SET {sets} FROM {self._given((*self.changing, *target.key), columns)} "
                f"WHERE {found}"
            )

    def _given(self, names: Sequence[str], columns: Sequence[str]) -> str:
        arrays = ", ".join(f"%s::{self.types[columns.index(name)]}[]" for name in names)
        return f"unnest({arrays}) AS v ({', '.join(names)})"

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
    new, rest = shape.parted(changes)
    if new:
        try:
            with conn.begin_nested():
                _insert(conn, shape, new)
        except Exception as error:
            if not _is_taken(error):
                raise
            new, rest = [], changes
    digest = shape.digest(new)
    return digest.plus(_merge(conn, shape, rest)) if rest else digest


def append(conn: Connection, target: ReadTable, rows: Iterable[Values]) -> None:
    """Write rows to a table that has no keys yet. Their digest is the caller's."""
    _insert(conn, _shape(target, conn.dialect.name), list(rows))


def _merge(conn: Connection, shape: _Shape, changes: Mapping[Key, Values]) -> Digest:
    found = {shape.key(row): (number, row) for number, row in _read(conn, shape, list(changes))}
    fresh = [row for key, row in changes.items() if key not in found]
    _insert(conn, shape, fresh)
    if not found or not shape.changing:
        return shape.digest(fresh)
    changed = [(number, shape.merged(row, changes[key])) for key, (number, row) in found.items()]
    _update(conn, shape, changed)
    came = shape.digest([*fresh, *(row for _, row in changed)])
    went = shape.digest([row for _, row in found.values()])
    return Digest(len(fresh), (came.total - went.total) % MODULUS)


def _is_taken(error: BaseException) -> bool:
    """Whether a row was refused because its key is there."""
    return isinstance(error, UniqueViolation) or getattr(error, "sqlite_errorcode", 0) in _TAKEN


def _insert(conn: Connection, shape: _Shape, rows: Sequence[Values]) -> None:
    if not rows:
        return
    if conn.dialect.name == "sqlite":
        with closing(conn.connection.cursor()) as cursor:
            cursor.executemany(shape.insert, rows)
        return
    driver: Any = conn.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(shape.insert) as copy:
        copy.set_types(shape.types)
        for row in rows:
            copy.write_row(row)


def _read(conn: Connection, shape: _Shape, keys: Sequence[Key]) -> list[tuple[int, Stored]]:
    """The rows that are there of these keys, each with its row id; that is 0 where a database has none."""
    if conn.dialect.name == "sqlite":
        some: list[Any] = []
        at_once = len(keys) - len(keys) % _AT_ONCE
        with closing(conn.connection.cursor()) as cursor:
            for start in range(0, at_once, _AT_ONCE):
                values = [value for key in keys[start : start + _AT_ONCE] for value in key]
                some += cursor.execute(shape.select_many, values).fetchall()
            for key in keys[at_once:]:
                some += cursor.execute(shape.select, key).fetchall()
        return [(row[0], row[1:]) for row in some]
    driver: Any = conn.connection.driver_connection
    with driver.cursor() as cursor:
        cursor.execute(shape.select, [list(column) for column in zip(*keys, strict=True)], binary=True)
        return [(0, row) for row in cursor.fetchall()]


def _update(conn: Connection, shape: _Shape, rows: Sequence[tuple[int, Stored]]) -> None:
    if conn.dialect.name == "sqlite":
        with closing(conn.connection.cursor()) as cursor:
            cursor.executemany(shape.update, [(*shape.change(row), number) for number, row in rows])
        return
    values = [(*shape.change(row), *shape.key(row)) for _, row in rows]
    driver: Any = conn.connection.driver_connection
    with driver.cursor() as cursor:
        cursor.execute(shape.update, [list(column) for column in zip(*values, strict=True)])
