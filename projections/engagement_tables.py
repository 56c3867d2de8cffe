"""The engagement read tables, and the one way to write a stamped row: only over an older stamp."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import BigInteger, Column, Connection, Index, MetaData, Table, Text
from sqlalchemy.dialects import postgresql, sqlite

from projections.rates import COUNTERS

METADATA: Final = MetaData()

STRING: Final = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
"""Text that every database compares by its bytes."""

KEY: Final = ("scope", "brand", "campaign", "tier", "member", "platform", "starts_at", "segment", "partition")
"""What makes a pane record one row; ids that a scope does not have are empty."""


def column_of(counter: str) -> str:
    """The column of a counter: `member_post.like` is `member_post_like`."""
    return counter.replace(".", "_")


def _pane_table(name: str, clustered_by: Sequence[str]) -> Table:
    """A table of panes whose primary key has the columns of `KEY` in the order that its reads range over."""
    whole = {"starts_at", "segment", "partition"}
    return Table(
        name,
        METADATA,
        *(
            Column(key, BigInteger if key in whole else STRING, primary_key=True, nullable=False)
            for key in clustered_by
        ),
        Column("stamp", BigInteger, nullable=False),
        Column("length_ms", BigInteger, nullable=False),
        *(Column(column_of(counter), BigInteger, nullable=False, server_default="0") for counter in COUNTERS),
    )


ENGAGEMENT: Final = _pane_table(
    "engagement", ("scope", "brand", "campaign", "tier", "member", "starts_at", "platform", "segment", "partition")
)
"""Panes of brands and campaigns (5 minutes) and of members (1 hour); a window of one subject is one range."""
Index(
    "engagement_active",
    ENGAGEMENT.c.scope,
    ENGAGEMENT.c.brand,
    ENGAGEMENT.c.campaign,
    ENGAGEMENT.c.starts_at,
    ENGAGEMENT.c.member,
    ENGAGEMENT.c.platform,
)

TIERS: Final = _pane_table(
    "tiers", ("scope", "brand", "campaign", "starts_at", "tier", "member", "platform", "segment", "partition")
)
"""Panes (5 minutes) of the tiers of brands and campaigns; a window of all tiers is one range."""

MEMBERS: Final = Table(
    "members",
    METADATA,
    Column("brand", STRING, primary_key=True, nullable=False),
    Column("member", STRING, primary_key=True, nullable=False),
    Column("tier", STRING, nullable=False),
    Column("followers", BigInteger, nullable=False),
    Column("platforms", STRING, nullable=False),
    Column("partition", BigInteger, nullable=False),
    Column("stamp", BigInteger, nullable=False),
    Index("members_tier", "brand", "tier", "followers"),
)
"""The tier a member is in now, and the followers behind it; `platforms` is canonical JSON, platform → followers."""

POSITIONS: Final = Table(
    "engagement_positions",
    METADATA,
    Column("topic", STRING, primary_key=True, nullable=False),
    Column("partition", BigInteger, primary_key=True, nullable=False),
    Column("position", BigInteger, nullable=False),
)
"""The next offset to consume of each partition of the pane topics: everything before it is in the tables."""


def create_tables(conn: Connection) -> None:
    """Create the tables that are not there yet."""
    METADATA.create_all(conn)


def newest(rows: Sequence[dict[str, Any]], key: Sequence[str]) -> list[dict[str, Any]]:
    """For each key the row with the greatest stamp; of equal stamps, which carry equal values, the first."""
    best: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        identity = tuple(row[column] for column in key)
        known = best.get(identity)
        if known is None or row["stamp"] > known["stamp"]:
            best[identity] = row
    return list(best.values())


def write_newer(conn: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows, each of another key; one that is there is replaced only if the new stamp is greater."""
    if not rows:
        return
    insert = sqlite.insert if conn.dialect.name == "sqlite" else postgresql.insert
    statement: Any = insert(table)
    statement = statement.on_conflict_do_update(
        index_elements=list(table.primary_key.columns),
        set_={column.name: statement.excluded[column.name] for column in table.columns if not column.primary_key},
        where=statement.excluded.stamp > table.c.stamp,
    )
    conn.execute(statement, list(rows))
