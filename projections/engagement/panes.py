"""Writing pane rows in bulk: only over an older stamp, and with the roll-ups that follow from what changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from operator import add, itemgetter
from typing import Any, Final

from sqlalchemy import Column, Connection, Delete, Insert, MetaData, Select, Table, delete, select, true
from sqlalchemy.schema import CreateTable

from aggregates.database import insert_into
from projections.engagement.derived import note_active, roll_up, rolled_up
from projections.engagement.kept import MERGED, canonical, change, hold
from projections.engagement.tables import COLUMNS, COUNTERS_AT, ENGAGEMENT, KEY, ROLLUPS, Row
from projections.rates import COUNTERS
from projections.upkeep.digest import of_canonical
from projections.upkeep.rows import Digest

LARGEST: Final = 1 << 46
"""A pane with a counter beyond this, which no honest one has, is not rolled up: so that the sum of 100,000 panes
stays within the 64 bits of a column, whatever quantities are published."""

_STAMP: Final = len(KEY)
_FIELDS: Final = (
    *("scope", "brand_id", "campaign_id", "tier", "member_id", "platform", "post_id"),
    *("starts_at", "segment", "partition", "epoch", "stamp", "length_ms"),
)
"""The record's fields of the first columns."""
_APART: Final = len(_FIELDS)
_PLACE: Final = {counter: _APART + 1 + number for number, counter in enumerate(COUNTERS)}
_NOTHING: Final = [0] * (1 + len(COUNTERS))
_WHOSE: Final = itemgetter(*map(COLUMNS.index, MERGED))


def _staged(name: str, columns: Iterable[Column[Any]]) -> Table:
    """A table of the connection's own: rows get there one by one, and from there to where they belong at once."""
    alike = [Column(column.name, column.type, nullable=False) for column in columns]
    return Table(name, MetaData(), *alike, prefixes=["TEMPORARY"], postgresql_on_commit="DELETE ROWS")


STAGED: Final = _staged("staged_panes", [ENGAGEMENT.c[name] for name in COLUMNS])
STAGED_ROLLUPS: Final = _staged("staged_rollups", ROLLUPS.columns)


class UnknownRecord(ValueError):
    """A record that this release cannot store; the message names what it does not know."""


def pane_row(record: Mapping[str, Any]) -> Row:
    """The row of an `EngagementPane` record.

    Raises UnknownRecord for a counter that has no column, KeyError when the record lacks a field.
    """
    row = [record[field] for field in _FIELDS] + _NOTHING
    for counter, value in record["counters"].items():
        place = _PLACE.get(counter)
        if place is None:
            raise UnknownRecord(
                f"pane of brand {record['brand_id']}: unknown counter `{counter}`; update the reader, then its tables"
            )
        row[place] = value
        if not -LARGEST <= value <= LARGEST:
            row[_APART] = 1
    return tuple(row)


def write_panes(conn: Connection, table: Table, rows: Iterable[Row]) -> int:
    """Insert the newest row of each key; one that is there is replaced only if the new stamp is greater.

    Roll-ups, `ACTIVE` and the kept digest follow in the same transaction. Returns the number of keys met.
    """
    newest: dict[Row, Row] = {}
    for row in rows:
        known = newest.get(row[:_STAMP])
        if known is None or row[_STAMP] > known[_STAMP]:
            newest[row[:_STAMP]] = row
    if not newest:
        return 0
    _stage(conn, STAGED, list(newest.values()))
    hold(conn, table.name)
    before = _met(conn, table)
    came = {key: row for key, row in newest.items() if key not in before or row[_STAMP] > before[key][_STAMP]}
    _write_staged(conn, table)
    if more := rolled_up(before, came):
        _stage(conn, STAGED_ROLLUPS, more)
        roll_up(conn, STAGED_ROLLUPS)
    change(conn, table.name, _digest(before.values()), _digest((before | came).values()))
    return len(newest)


def _met(conn: Connection, table: Table) -> dict[Row, Row]:
    """By their key, all rows that are there of the canonical rows that what is staged goes into."""
    return {row[:_STAMP]: row for row in map(tuple, conn.execute(_rows_met(table)))}


@cache
def _rows_met(table: Table) -> Select[Any]:
    met = select(*(STAGED.c[name] for name in MERGED)).distinct().subquery("met")
    same = [table.c[name] == met.c[name] for name in MERGED]
    return select(*(table.c[name] for name in COLUMNS)).where(*same)


def _digest(rows: Iterable[Row]) -> Digest:
    """The digest of the canonical rows that are the sums of these: in Python, since a second look at the database, or
    its sums, which are decimal numbers on PostgreSQL, took half of a batch's time."""
    sums: dict[Row, Sequence[int]] = {}
    for row in rows:
        whose, counters = _WHOSE(row), row[COUNTERS_AT:]
        known = sums.get(whose)
        sums[whose] = counters if known is None else [*map(add, known, counters)]
    return of_canonical(canonical(sums.items()))


def _write_staged(conn: Connection, table: Table) -> None:
    if table is ENGAGEMENT:
        note_active(conn, STAGED)
    conn.execute(_newer(conn.dialect.name, table))


@cache
def _newer(dialect: str, table: Table) -> Insert:
    statement: Any = insert_into(dialect, table).from_select(COLUMNS, select(STAGED).where(true()))
    written: Insert = statement.on_conflict_do_update(
        index_elements=list(table.primary_key.columns),
        set_={name: statement.excluded[name] for name in COLUMNS if name not in KEY},
        where=statement.excluded.stamp > table.c.stamp,
    )
    return written


@cache
def _emptying(staged: Table) -> tuple[CreateTable, Delete]:
    return CreateTable(staged, if_not_exists=True), delete(staged)


def _stage(conn: Connection, staged: Table, rows: Sequence[Row]) -> None:
    """Bring rows to the database past SQLAlchemy, whose dictionaries take as long as SQLite (10 of 27 µs a row)."""
    for statement in _emptying(staged):
        conn.execute(statement)
    if conn.dialect.name == "sqlite":
        conn.exec_driver_sql(f"INSERT INTO {staged.name} VALUES ({','.join('?' * len(staged.columns))})", list(rows))
        return
    driver: Any = conn.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(f"COPY {staged.name} FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)
