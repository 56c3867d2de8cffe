"""Digests of the engagement tables, and their rebuild in a scratch database to compare with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, create_engine, select

from projections.digest import DigestSource
from projections.engagement import apply, positions
from projections.engagement_queries import position_text
from projections.engagement_sums import totals
from projections.engagement_tables import ENGAGEMENT, KEY, MEMBERS, TIERS, VERSION, column_of, create_tables
from schemas.topics import TIERS as TIERS_TOPIC
from schemas.topics import WINDOWS as WINDOWS_TOPIC

TOPIC_OF: Final = {ENGAGEMENT.name: WINDOWS_TOPIC, TIERS.name: TIERS_TOPIC, MEMBERS.name: TIERS_TOPIC}
"""The tables that have a digest, and the topic that each is built from."""


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


def _source(table: str) -> DigestSource:
    def at(conn: Connection) -> str:
        return position_text(positions(conn, TOPIC_OF[table]))

    return DigestSource(table, VERSION, at, partial(digest_rows, table=table))


DIGESTED: Final[tuple[DigestSource, ...]] = tuple(_source(table) for table in TOPIC_OF)
"""The engagement tables as digest sources; a position is the next offset of each partition of the table's topic."""
