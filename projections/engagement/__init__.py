"""The projection of the pane topics: stamped pane records to read tables, with the position in one transaction.

A pane record carries absolute values, so a redelivery or an older value written late changes nothing: only a
greater stamp replaces a row. The position is compared before it is set, so of two consumers one fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Table, bindparam, select, update

from aggregates.database import insert_into
from aggregates.engagement import SCOPES, TIER_SCOPES
from projections.engagement.kept import change, hold, of_members
from projections.engagement.members import write_members
from projections.engagement.panes import UnknownRecord, pane_row, write_panes
from projections.engagement.tables import ENGAGEMENT, MEMBERS, POSITIONS, TIERS, Row

__all__ = ["Applied", "Batch", "PositionMoved", "UnknownRecord", "apply", "apply_all", "position", "positions"]

TABLE_OF_SCOPE: Final[Mapping[str, Table]] = {name: TIERS if name in TIER_SCOPES else ENGAGEMENT for name in SCOPES}
"""Where the panes of each scope are kept."""
_HERE: Final = POSITIONS.c.topic == bindparam("of_topic"), POSITIONS.c.partition == bindparam("of_partition")
_POSITION: Final = select(POSITIONS.c.position).where(*_HERE)
_ADVANCED: Final = update(POSITIONS).where(*_HERE, POSITIONS.c.position == bindparam("expected"))


class PositionMoved(Exception):
    """The batch starts elsewhere than where the tables stand: another consumer wrote, or this one restarted."""

    def __init__(self, topic: str, partition: int, expected: int, found: int) -> None:
        super().__init__(
            f"{topic}[{partition}]: the read tables stand at offset {found}, this batch starts at {expected}; "
            "nothing of it was written: read the position again and go on from there"
        )
        self.topic, self.partition, self.expected, self.found = topic, partition, expected, found


class Batch(NamedTuple):
    """Records of one partition: those at offsets in [start_position, end_position)."""

    topic: str
    partition: int
    start_position: int
    """What `position` gave, whether or not a record still stands there: compaction leaves gaps."""
    end_position: int
    """The offset after the last one read."""
    records: Iterable[Mapping[str, Any]]

    @property
    def where(self) -> str:
        """Of which partition, for messages."""
        return f"{self.topic}[{self.partition}]"


class Applied(NamedTuple):
    """What became of the records."""

    rows: int
    """Rows that it came down to, one a key; those older than what is stored changed nothing."""
    skipped: int
    """Panes of scopes that this release does not know: their schema says that more may come."""


def position(conn: Connection, topic: str, partition: int) -> int:
    """The next offset to consume; 0 when nothing was consumed."""
    here = {"of_topic": topic, "of_partition": partition}
    return conn.execute(_POSITION, here).scalar_one_or_none() or 0


def positions(conn: Connection, topic: str) -> dict[int, int]:
    """The next offset to consume of each partition of a topic that was ever consumed."""
    found = conn.execute(select(POSITIONS.c.partition, POSITIONS.c.position).where(POSITIONS.c.topic == topic))
    return {int(row.partition): int(row.position) for row in found}


def apply(
    conn: Connection,
    topic: str,
    partition: int,
    start_position: int,
    end_position: int,
    records: Iterable[Mapping[str, Any]],
) -> Applied:
    """Write the records of one partition; see `apply_all`."""
    return apply_all(conn, [Batch(topic, partition, start_position, end_position, records)])


def apply_all(conn: Connection, batches: Iterable[Batch]) -> Applied:
    """Write decoded `EngagementPane` and `MemberTier` records and the positions, in the caller's transaction.

    Statements cost more than the rows in them, so what came of several partitions at once is written at once.

    Raises PositionMoved when the tables stand elsewhere, UnknownRecord for a counter that has no column or a record
    that is neither of the two, ValueError when an end is before its start; the caller then rolls back.
    """
    members: list[Mapping[str, Any]] = []
    panes: dict[Table, list[Row]] = {ENGAGEMENT: [], TIERS: []}
    skipped = 0
    for batch in sorted(batches, key=lambda batch: batch[:2]):  # so that of two writers one waits for the other
        if batch.end_position < batch.start_position:
            raise ValueError(
                f"{batch.where}: a batch cannot end at {batch.end_position}, before {batch.start_position}"
            )
        _advance(conn, batch.topic, batch.partition, batch.start_position, batch.end_position)
        for record in batch.records:
            if "scope" in record:
                table = TABLE_OF_SCOPE.get(record["scope"])
                if table is None:
                    skipped += 1
                else:
                    panes[table].append(pane_row(record))
            elif "platforms" in record:
                members.append(record)
            else:
                raise UnknownRecord(f"{batch.where}: neither a pane nor a member's tier: fields {sorted(record)}")
    rows = 0
    if members:
        hold(conn, MEMBERS.name)
        before = of_members(conn, members)
        rows = write_members(conn, members)
        change(conn, MEMBERS.name, before, of_members(conn, members))
    for table, found in panes.items():
        rows += write_panes(conn, table, found)
    return Applied(rows, skipped)


def _advance(conn: Connection, topic: str, partition: int, expected: int, new: int) -> None:
    """Compare the position with `expected` and set it to `new`; the row stays locked until the transaction ends."""
    here = {"of_topic": topic, "of_partition": partition}
    changed = conn.execute(_ADVANCED, {**here, "expected": expected, "position": new})
    if changed.rowcount == 1:
        return
    if expected == 0:
        row = {"topic": topic, "partition": partition, "position": new}
        first = insert_into(conn.dialect.name, POSITIONS).values(row).on_conflict_do_nothing()
        # RETURNING, since SQLAlchemy gives no row count of an insert on PostgreSQL
        if conn.execute(first.returning(POSITIONS.c.position)).first() is not None:
            return
    raise PositionMoved(topic, partition, expected, position(conn, topic, partition))
