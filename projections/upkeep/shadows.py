"""The tables of a read model that is built beside the one that serves, and those of the one it took the place of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, Final

from sqlalchemy import Column, Connection, Index, Inspector, MetaData, Table, func, inspect, select, text, tuple_
from sqlalchemy.exc import IntegrityError

from projections.projection import Key, Projection, ReadTable, merge
from projections.upkeep.rows import MODULUS, Digest, digest_of_rows, write
from projections.upkeep.runner import DIGESTS, NEXT, OLD, POSITIONS, Kept, begin, drop, kept, tally
from projections.upkeep.snapshots import forget_all

_ASIDE: Final = "__aside"


def beside(projection: Projection, ending: str) -> Projection:
    """The same projection in tables, and under a name, of that ending; without indexes but the primary key."""
    metadata = MetaData()

    def copy(target: ReadTable) -> ReadTable:
        made = target.table.to_metadata(metadata, name=target.table.name + ending)
        made.indexes.clear()
        return replace(target, table=made, name=target.name)

    tables = tuple(copy(target) for target in projection.tables)
    return replace(projection, name=projection.name + ending, tables=tables, then=None)


def start(conn: Connection, projection: Projection, shadow: Projection, stop_at: int | None) -> None:
    """Have the tables of a build: those of an interrupted one of this version, else new ones.

    One that has gone further than `stop_at` starts anew. Tables that only ever get new rows are made without keys:
    `add_keys` when they are full.
    """
    there = kept(conn).get(shadow.name)
    if there is not None and there.version == shadow.version and (stop_at is None or there.position <= stop_at):
        return
    drop(conn, projection, NEXT)
    heap = all(target.mostly_new for target in shadow.tables)
    for target in shadow.tables:
        (_without_key(target.table) if heap else target.table).create(conn)
    begin(conn, shadow)


def _without_key(table: Table) -> Table:
    columns = [Column(column.name, column.type, nullable=column.nullable) for column in table.columns]
    return Table(table.name, MetaData(), *columns)


def has_keys(conn: Connection, projection: Projection) -> bool:
    """Whether all its tables have their keys."""
    there = inspect(conn)
    return all(_has_key(there, target) for target in projection.tables)


def _has_key(there: Inspector, target: ReadTable) -> bool:
    name = target.table.name
    unique = [index["column_names"] for index in there.get_indexes(name) if index["unique"]]
    return list(target.key) in (there.get_pk_constraint(name)["constrained_columns"], *unique)


def add_keys(conn: Connection, projection: Projection, shadow: Projection) -> None:
    """Give the tables of a build that is full the keys that they have not; rows of one key become one."""
    for target, copy in zip(projection.tables, shadow.tables, strict=True):
        if _has_key(inspect(conn), copy):
            continue
        try:
            with conn.begin_nested():
                _add_key(conn, target, copy)
        except IntegrityError:
            there = kept(conn)[shadow.name].digest
            tally(conn, {shadow: there}, {shadow: _unite(conn, copy)})()
            _add_key(conn, target, copy)


def _add_key(conn: Connection, target: ReadTable, copy: ReadTable) -> None:
    """A primary key; on SQLite, where that cannot be added, a unique index, which is the same."""
    columns = ", ".join(copy.key)
    if conn.dialect.name == "postgresql":
        conn.execute(text(f"ALTER TABLE {copy.table.name} ADD PRIMARY KEY ({columns})"))
    else:
        name = _free(f"{target.table.name}_key", _family(inspect(conn), target))
        conn.execute(text(f"CREATE UNIQUE INDEX {name} ON {copy.table.name} ({columns})"))


def _unite(conn: Connection, target: ReadTable) -> Digest:
    """Merge the rows of one key, in the order of their events, by the table's own rules; how its digest changed."""
    table = target.table
    twin = table.alias()
    key, of_twin = [table.c[name] for name in target.key], [twin.c[name] for name in target.key]
    several = tuple_(*key).in_(select(*of_twin).group_by(*of_twin).having(func.count() > 1))
    rows = conn.execute(select(table).where(several).order_by(table.c.seq)).all()
    united: dict[Key, list[Any]] = {}
    merge(target, united, [row._asdict() for row in rows])
    conn.execute(table.delete().where(several))
    came, went = write(conn, target, united, all_new=True), digest_of_rows(target, map(tuple, rows))
    return Digest(came.rows - went.rows, (came.total - went.total) % MODULUS)


def add_indexes(conn: Connection, projection: Projection, shadow: Projection) -> None:
    """Give the tables of a build the indexes of the tables that serve, where they have them not yet.

    Their names are of no consequence, only free: a name belongs to one index of the whole database.
    """
    there = inspect(conn)
    for target, copy in zip(projection.tables, shadow.tables, strict=True):
        taken = _family(there, target)
        has = {tuple(index["column_names"]) for index in there.get_indexes(copy.table.name)}
        for index in sorted(target.table.indexes, key=lambda one: str(one.name)):
            columns = [column.name for column in index.columns]
            if tuple(columns) in has:
                continue
            name = _free(str(index.name), taken)
            Index(
                name, *[copy.table.c[column] for column in columns], unique=index.unique, **index.dialect_kwargs
            ).create(conn)


def _family(there: Inspector, target: ReadTable) -> set[str | None]:
    """The names of all indexes of the table that serves, of its build and of the one before."""
    tables = set(there.get_table_names())
    family = [name for ending in ("", NEXT, OLD) if (name := target.table.name + ending) in tables]
    return {index["name"] for name in family for index in there.get_indexes(name)}


def _free(name: str, taken: set[str | None]) -> str:
    return next(free for n in count(2) if (free := f"{name}_{n}") not in taken)


def lock(conn: Connection, projections: Iterable[Projection]) -> dict[str, Kept]:
    """Hold the positions of projections until the transaction ends, and answer what is kept; in a runner's order."""
    for projection in projections:
        conn.execute(select(POSITIONS.c.position).where(POSITIONS.c.name == projection.name).with_for_update())
    return kept(conn)


def promote(conn: Connection, projections: Sequence[Projection]) -> None:
    """Put the builds in the place of what serves, which becomes the old ones. Before, `lock` them."""
    for projection in projections:
        drop(conn, projection, OLD)
    _rename(conn, projections, "", OLD)
    _rename(conn, projections, NEXT, "")


def exchange(conn: Connection, projections: Sequence[Projection]) -> None:
    """Put the old ones in the place of what serves, and the other way round. Before, `lock` them."""
    _rename(conn, projections, "", _ASIDE)
    _rename(conn, projections, OLD, "")
    _rename(conn, projections, _ASIDE, OLD)


def _rename(conn: Connection, projections: Sequence[Projection], ending: str, to: str) -> None:
    forget_all(conn)
    there = set(inspect(conn).get_table_names())
    for projection in projections:
        for target in projection.tables:
            name = target.table.name
            if name + ending in there:
                conn.execute(text(f"ALTER TABLE {name}{ending} RENAME TO {name}{to}"))
        for table in (POSITIONS, DIGESTS):
            row = table.c.name == projection.name + ending
            conn.execute(table.update().where(row).values(name=projection.name + to))
