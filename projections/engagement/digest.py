"""Digests of the engagement tables, and their rebuild in a scratch database to compare with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Table, create_engine, literal, select, true

from aggregates.engagement import TIER_SCOPES
from projections.engagement import Batch, apply_all, positions
from projections.engagement.kept import kept, member_rows, pane_rows
from projections.engagement.queries import position_text
from projections.engagement.tables import (
    ACTIVE,
    ENGAGEMENT,
    MEMBER_TIERS,
    MEMBERS,
    ROLLUPS,
    TIERS,
    VERSION,
    create_tables,
)
from projections.projection import ReadTable, Value
from projections.upkeep.digest import DigestSource, of_canonical
from projections.upkeep.verify import NAMED, Behind, Difference, Differing, Verified, differences
from schemas.topics import ACTIVITY
from schemas.topics import TIERS as TIERS_TOPIC
from schemas.topics import WINDOWS as WINDOWS_TOPIC

TOPIC_OF: Final = {ENGAGEMENT.name: WINDOWS_TOPIC, TIERS.name: TIERS_TOPIC, MEMBERS.name: TIERS_TOPIC}
"""The tables that have a digest, and the topic that each is built from."""


_FETCH: Final = 5_000


def digest_rows(conn: Connection, table: str) -> Iterator[dict[str, Any]]:
    """The canonical rows of one of `TOPIC_OF`, in no order. Raises KeyError for a table that has no digest."""
    if table == MEMBERS.name:
        return member_rows(conn)
    return pane_rows(conn, {ENGAGEMENT.name: ENGAGEMENT, TIERS.name: TIERS}[table])


@contextmanager
def rebuild(batches: Iterable[Batch]) -> Iterator[Connection]:
    """The tables built from these batches alone, in a scratch database that is gone afterwards."""
    engine = create_engine("sqlite://")
    try:
        with engine.connect() as conn:
            create_tables(conn)
            for batch in batches:
                apply_all(conn, [batch])
            yield conn
    finally:
        engine.dispose()


def compare(live: Connection, rebuilt: Connection, source: DigestSource) -> Verified:
    """A table as it is, with what is derived from it, beside their rebuild: each row, each column but the stamp."""
    differing, first = 0, None
    for table, where in _COMPARED[source.name]:
        for found in differences(ReadTable(table), _rows(live, table, where), _rows(rebuilt, table, where)):
            differing += 1
            first = first or _difference(table, found, rebuilt, live)
    here, there = (of_canonical(digest_rows(conn, source.name)) for conn in (live, rebuilt))
    return Verified(
        name=source.name,
        version=source.version,
        position=source.position(live),
        rows=here.rows,
        digest=here.hexadecimal(),
        rebuilt=there.hexadecimal(),
        kept=source.content(live).hexadecimal(),
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
    MEMBERS.name: ((MEMBERS, true()), (MEMBER_TIERS, true())),
}
"""What is compared under the name of each table, and which of its rows: both topics write roll-ups."""


def _rows(conn: Connection, table: Table, where: ColumnElement[bool]) -> Iterator[tuple[Value, ...]]:
    """In the order of their key; without stamps, which go by when a worker flushed: a log read again has others."""
    columns = [literal(0).label(one.name) if one.name == "stamp" else one for one in table.columns]
    query = select(*columns).where(where).order_by(*table.primary_key.columns)
    rows: Iterable[Any] = conn.execute(query, execution_options={"yield_per": _FETCH})
    return (tuple(row) for row in rows)


def _difference(table: Table, found: Differing, rebuilt: Connection, live: Connection) -> Difference:
    key = dict(zip(ReadTable(table).key, found.key, strict=True))
    behind = _behind(rebuilt, table, key) or _behind(live, table, key)
    return Difference(
        table=table.name,
        key=key,
        what=found.what,
        column=found.column,
        stored=found.stored,
        rebuilt=found.rebuilt,
        events=behind[:NAMED],
        events_total=len(behind),
    )


def _behind(conn: Connection, table: Table, key: Mapping[str, Value]) -> list[Behind]:
    """The last record of the activity log that each pane, or member's tier, behind a row includes."""
    source: Table = MEMBERS
    if "scope" in key:
        source = TIERS if key["scope"] in TIER_SCOPES else ENGAGEMENT
    where = [source.c[name] == value for name, value in key.items() if name in source.c and name != "starts_at"]
    if table is ROLLUPS:
        where = [source.c[name] == key[name] for name in ("scope", "brand", "campaign", "tier", "platform")]
        start, length = int(key["starts_at"] or 0), int(key["length_ms"] or 0)
        where += [source.c.starts_at >= start, source.c.starts_at < start + length]
    elif "starts_at" in key:
        where.append(source.c.starts_at == key["starts_at"])
    stamps = select(source.c.partition, source.c.stamp).where(*where).order_by(source.c.stamp, source.c.partition)
    return [
        Behind(notification=None, event_id="", source=f"{ACTIVITY}:{row.partition}:{row.stamp}")
        for row in conn.execute(stamps)
    ]


def _source(table: str) -> DigestSource:
    def at(conn: Connection) -> str:
        return position_text(positions(conn, TOPIC_OF[table]))

    return DigestSource(table, VERSION, at, lambda conn: kept(conn, table))


DIGESTED: Final[tuple[DigestSource, ...]] = tuple(_source(table) for table in TOPIC_OF)
"""The engagement tables as digest sources; a position is the next offset of each partition of the table's topic."""
