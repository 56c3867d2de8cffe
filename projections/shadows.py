"""The tables of a read model that is built beside the one that serves, and those of the one it took the place of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import count
from typing import Final

from sqlalchemy import Connection, Index, MetaData, inspect, select, text

from projections.projection import Projection, ReadTable
from projections.runner import DIGESTS, NEXT, OLD, POSITIONS, Kept, begin, drop, kept

_ASIDE: Final = "__aside"


def beside(projection: Projection, ending: str) -> Projection:
    """The same projection in tables, and under a name, of that ending; without indexes but the primary key."""
    metadata = MetaData()

    def copy(target: ReadTable) -> ReadTable:
        made = target.table.to_metadata(metadata, name=target.table.name + ending)
        made.indexes.clear()
        return replace(target, table=made, name=target.name)

    return replace(
        projection, name=projection.name + ending, tables=tuple(copy(target) for target in projection.tables)
    )


def start(conn: Connection, projection: Projection, shadow: Projection, stop_at: int | None) -> None:
    """Have the tables of a build: those of an interrupted one of this version, else new ones.

    One that has gone further than `stop_at` starts anew.
    """
    there = kept(conn).get(shadow.name)
    if there is not None and there.version == shadow.version and (stop_at is None or there.position <= stop_at):
        return
    drop(conn, projection, NEXT)
    for target in shadow.tables:
        target.table.create(conn)
    begin(conn, shadow)


def add_indexes(conn: Connection, projection: Projection, shadow: Projection) -> None:
    """Give the tables of a build the indexes of the tables that serve, where they have them not yet.

    Their names are of no consequence, only free: a name belongs to one index of the whole database.
    """
    there = inspect(conn)
    tables = set(there.get_table_names())
    for target, copy in zip(projection.tables, shadow.tables, strict=True):
        family = [name for ending in ("", NEXT, OLD) if (name := target.table.name + ending) in tables]
        taken = {index["name"] for name in family for index in there.get_indexes(name)}
        has = {tuple(index["column_names"]) for index in there.get_indexes(copy.table.name)}
        for index in sorted(target.table.indexes, key=lambda one: str(one.name)):
            columns = [column.name for column in index.columns]
            if tuple(columns) in has:
                continue
            name = next(free for n in count(2) if (free := f"{index.name}_{n}") not in taken)
            Index(
                name, *[copy.table.c[column] for column in columns], unique=index.unique, **index.dialect_kwargs
            ).create(conn)


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
    there = set(inspect(conn).get_table_names())
    for projection in projections:
        for target in projection.tables:
            name = target.table.name
            if name + ending in there:
                conn.execute(text(f"ALTER TABLE {name}{ending} RENAME TO {name}{to}"))
        for table in (POSITIONS, DIGESTS):
            row = table.c.name == projection.name + ending
            conn.execute(table.update().where(row).values(name=projection.name + to))
