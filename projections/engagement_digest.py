"""Digests of the engagement tables, and their rebuild in a scratch database to compare with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Table, create_engine, select, true

from aggregates.engagement import TIER_SCOPES
from projections.digest import DigestSource, digest_of, of_canonical
from projections.engagement import apply, positions
from projections.engagement_queries import position_text
from projections.engagement_sums import totals
from projections.engagement_tables import (
    ACTIVE,
    ENGAGEMENT,
    KEY,
    MEMBERS,
    ROLLUPS,
    TIERS,
    VERSION,
    column_of,
    create_tables,
)
from projections.projection import ReadTable, Value
from projections.verify import Difference, Differing, Verified, differences
from schemas.topics import TIERS as TIERS_TOPIC
from schemas.topics import WINDOWS as WINDOWS_TOPIC

TOPIC_OF: Final = {ENGAGEMENT.name: WINDOWS_TOPIC, TIERS.name: TIERS_TOPIC, MEMBERS.name: TIERS_TOPIC}
"""The tables that have a digest, and the topic that each is built from."""


_FETCH: Final = 5_000


class Batch(NamedTuple):
    """Records read of one partition: those at offsets in [start_position, end_position)."""

    topic: str
    partition: int
    start_position: int
    end_position: int
    records: Sequence[Mapping[str, Any]]


def digest_rows(conn: Connection, table: str) -> Iterator[dict[str, str | int]]:
    """The canonical rows of one of `TOPIC_OF`, in no order: what two builds from one log must agree on.

    Panes are merged over segments, source partitions and epochs, and stamps are left out, so that it does not matter
    where in the log a record stood. Counters of 0 are left out, and rows that have no others, and `post` where it is
    empty. Raises KeyError for a table that has no digest.
    """
    if table == MEMBERS.name:
        columns = (MEMBERS.c.brand, MEMBERS.c.member, MEMBERS.c.tier, MEMBERS.c.followers, MEMBERS.c.platforms)
        for found in conn.execute(select(*columns)):
            yield dict(found._mapping)
        return
    panes = {ENGAGEMENT.name: ENGAGEMENT, TIERS.name: TIERS}[table]
    names = (*(key for key in KEY if key not in ("segment", "partition", "epoch")), "length_ms")
    for keys, counters in totals(conn, panes, [panes.c[name] for name in names]):
        filled = {column_of(counter): value for counter, value in counters.items() if value}
        if filled:
            row = dict(zip(names, keys, strict=True))
            if not row["post"]:
                del row["post"]
            yield {**row, **filled}


@contextmanager
def rebuild(batches: Iterable[Batch]) -> Iterator[Connection]:
    """The tables built from these batches alone, in a scratch database that is gone afterwards."""
    engine = create_engine("sqlite://")
    try:
        with engine.connect() as conn:
            create_tables(conn)
            for batch in batches:
                apply(conn, *batch)
            yield conn
    finally:
        engine.dispose()


def compare(live: Connection, rebuilt: Connection, source: DigestSource) -> Verified:
    """One of the tables as it is, and what is derived from it, beside their rebuild: every row, every column."""
    differing, first = 0, None
    for table, where in _COMPARED[source.name]:
        for found in differences(ReadTable(table), _rows(live, table, where), _rows(rebuilt, table, where)):
            differing += 1
            first = first or _difference(table, found)
    here, there = digest_of(live, source), digest_of(rebuilt, source)
    return Verified(
        name=source.name,
        version=source.version,
        position=here.position,
        rows=here.rows,
        digest=here.digest,
        rebuilt=there.digest,
        differing=differing,
        first=first,
    )


_COMPARED: Final[Mapping[str, Sequence[tuple[Table, ColumnElement[bool]]]]] = {
    ENGAGEMENT.name: (
        (ENGAGEMENT, true()),
        (ROLLUPS, ROLLUPS.c.scope.not_in(sorted(TIER_SCOPES))),
        (ACTIVE, true()),
    ),
    TIERS.name: ((TIERS, true()), (ROLLUPS, ROLLUPS.c.scope.in_(sorted(TIER_SCOPES)))),
    MEMBERS.name: ((MEMBERS, true()),),
}
"""What is compared under the name of each table, and which of its rows: both topics write roll-ups."""


def _rows(conn: Connection, table: Table, where: ColumnElement[bool]) -> Iterator[tuple[Value, ...]]:
    query = select(table).where(where).order_by(*table.primary_key.columns)
    rows: Iterable[Any] = conn.execute(query, execution_options={"yield_per": _FETCH})
    return (tuple(row) for row in rows)


def _difference(table: Table, found: Differing) -> Difference:
    return Difference(
        table=table.name,
        key=dict(zip(ReadTable(table).key, found.key, strict=True)),
        what=found.what,
        column=found.column,
        stored=found.stored,
        rebuilt=found.rebuilt,
        events=[],
        events_total=0,
    )


def _source(table: str) -> DigestSource:
    def at(conn: Connection) -> str:
        return position_text(positions(conn, TOPIC_OF[table]))

    return DigestSource(table, VERSION, at, lambda conn: of_canonical(digest_rows(conn, table)))


DIGESTED: Final[tuple[DigestSource, ...]] = tuple(_source(table) for table in TOPIC_OF)
"""The engagement tables as digest sources; a position is the next offset of each partition of the table's topic."""
