"""The projection of the pane topics: stamped pane records to read tables, with the position in one transaction.

A pane record carries absolute values, so a redelivery or an older value written late changes nothing: only a
greater stamp replaces a row. The position is compared before it is set, so of two consumers one fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Table, create_engine, select, update
from sqlalchemy.dialects import postgresql, sqlite

from projections.engagement_sums import totals
from projections.engagement_tables import (
    ENGAGEMENT,
    KEY,
    MEMBERS,
    POSITIONS,
    TIERS,
    column_of,
    create_tables,
    newest,
    write_newer,
)
from projections.members import write_members
from projections.rates import COUNTERS

TABLE_OF_SCOPE: Final[Mapping[str, Table]] = {
    "brand": ENGAGEMENT,
    "campaign": ENGAGEMENT,
    "member": ENGAGEMENT,
    "campaign_member": ENGAGEMENT,
    "brand_tier": TIERS,
    "campaign_tier": TIERS,
}
DIGESTED: Final = (ENGAGEMENT.name, TIERS.name, MEMBERS.name)
"""The tables that have a digest, by name."""

_COLUMN: Final = {counter: column_of(counter) for counter in COUNTERS}
_NOTHING: Final = dict.fromkeys(_COLUMN.values(), 0)


class PositionMoved(Exception):
    """The batch starts elsewhere than where the tables stand: another consumer wrote, or this one restarted."""

    def __init__(self, topic: str, partition: int, expected: int, found: int) -> None:
        super().__init__(
            f"{topic}[{partition}]: the read tables stand at offset {found}, this batch starts at {expected}; "
            "nothing of it was written: read the position again and go on from there"
        )
        self.topic, self.partition, self.expected, self.found = topic, partition, expected, found


class UnknownRecord(ValueError):
    """A record that this release cannot store; the message names what it does not know."""


class Batch(NamedTuple):
    """Records read of one partition: those at offsets in [start_position, end_position)."""

    topic: str
    partition: int
    start_position: int
    end_position: int
    records: Sequence[Mapping[str, Any]]


def position(conn: Connection, topic: str, partition: int) -> int:
    """The next offset to consume; 0 when nothing was consumed."""
    found = conn.execute(
        select(POSITIONS.c.position).where(POSITIONS.c.topic == topic, POSITIONS.c.partition == partition)
    ).scalar_one_or_none()
    return found or 0


def apply(
    conn: Connection,
    topic: str,
    partition: int,
    start_position: int,
    end_position: int,
    records: Iterable[Mapping[str, Any]],
) -> int:
    """Write decoded `EngagementPane` and `MemberTier` records and the position, in the caller's transaction.

    `start_position` is what `position` gave, whether or not a record still stands there (compaction leaves gaps);
    `end_position` is the offset after the last one read. Returns the number of rows that the batch came down to.

    Raises PositionMoved when the tables stand elsewhere, UnknownRecord for a scope or counter that has no column,
    ValueError when the end is before the start; the caller's transaction must then be rolled back.
    """
    if end_position < start_position:
        raise ValueError(
            f"{topic}[{partition}]: a batch cannot end at {end_position}, before its start {start_position}"
        )
    _advance(conn, topic, partition, start_position, end_position)
    members: list[Mapping[str, Any]] = []
    panes: dict[Table, list[dict[str, Any]]] = {ENGAGEMENT: [], TIERS: []}
    for record in records:
        if "scope" in record:
            table, row = pane_row(record)
            panes[table].append(row)
        elif "platforms" in record:
            members.append(record)
        else:
            raise UnknownRecord(f"{topic}[{partition}]: neither a pane nor a member's tier: fields {sorted(record)}")
    written = 0
    for table, rows in panes.items():
        kept = newest(rows, KEY)
        write_newer(conn, table, kept)
        written += len(kept)
    return written + write_members(conn, members)


def pane_row(record: Mapping[str, Any]) -> tuple[Table, dict[str, Any]]:
    """The table and the row of an `EngagementPane` record.

    Raises UnknownRecord for a scope or a counter that has no place, KeyError when the record lacks a field.
    """
    table = TABLE_OF_SCOPE.get(record["scope"])
    if table is None:
        raise UnknownRecord(f"pane of brand {record['brand_id']}: unknown scope `{record['scope']}`; update the reader")
    row = {
        "scope": record["scope"],
        "brand": record["brand_id"],
        "campaign": record["campaign_id"],
        "tier": record["tier"],
        "member": record["member_id"],
        "platform": record["platform"],
        "starts_at": record["starts_at"],
        "segment": record["segment"],
        "partition": record["partition"],
        "stamp": record["stamp"],
        "length_ms": record["length_ms"],
        **_NOTHING,
    }
    for counter, value in record["counters"].items():
        column = _COLUMN.get(counter)
        if column is None:
            raise UnknownRecord(
                f"pane of brand {record['brand_id']}: unknown counter `{counter}`; update the reader, then its tables"
            )
        row[column] = value
    return table, row


def digest_rows(conn: Connection, table: str) -> Iterator[dict[str, str | int]]:
    """The canonical rows of a table of `DIGESTED`, in no order: what two builds from one log must agree on.

    Panes are merged over segments and source partitions, and stamps are left out, so that it does not matter where
    in the log a record stood. Counters of 0 are left out, and rows that have no others. Raises KeyError for a table
    that has no digest.
    """
    if table == MEMBERS.name:
        columns = (MEMBERS.c.brand, MEMBERS.c.member, MEMBERS.c.tier, MEMBERS.c.followers, MEMBERS.c.platforms)
        for found in conn.execute(select(*columns)):
            yield dict(found._mapping)
        return
    panes = {ENGAGEMENT.name: ENGAGEMENT, TIERS.name: TIERS}[table]
    names = (*(key for key in KEY if key not in ("segment", "partition")), "length_ms")
    for keys, counters in totals(conn, panes, [panes.c[name] for name in names]):
        filled = {_COLUMN[counter]: value for counter, value in counters.items() if value}
        if filled:
            yield {**dict(zip(names, keys, strict=True)), **filled}


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


def _advance(conn: Connection, topic: str, partition: int, expected: int, new: int) -> None:
    """Compare the position with `expected` and set it to `new`; the row stays locked until the transaction ends."""
    changed = conn.execute(
        update(POSITIONS)
        .where(POSITIONS.c.topic == topic, POSITIONS.c.partition == partition, POSITIONS.c.position == expected)
        .values(position=new)
    )
    if changed.rowcount == 1:
        return
    if expected == 0:
        insert: Any = sqlite.insert if conn.dialect.name == "sqlite" else postgresql.insert
        first = insert(POSITIONS).values(topic=topic, partition=partition, position=new).on_conflict_do_nothing()
        if conn.execute(first).rowcount == 1:
            return
    raise PositionMoved(topic, partition, expected, position(conn, topic, partition))
