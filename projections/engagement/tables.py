"""The engagement read tables: panes, their roll-ups, who was active when, who is in which tier, and positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    MetaData,
    Table,
    Text,
    inspect,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql

from projections.rates import COUNTERS
from projections.upkeep.runner import NewerProjection

VERSION: Final = 5
"""Raised whenever the tables or what goes into them change: they are then made anew and filled from their topics."""

METADATA: Final = MetaData()

STRING: Final = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
"""Text that every database compares by its bytes."""

KEY: Final = (
    *("scope", "brand", "campaign", "tier", "member", "platform", "post"),
    *("starts_at", "segment", "partition", "epoch"),
)
"""What makes a pane record one row; ids that a scope does not have are empty. Merging is over the last three."""
WHOLE: Final = frozenset({"starts_at", "segment", "partition"})
"""The parts of the key that are integers; the others are texts."""


def column_of(counter: str) -> str:
    """The column of a counter: `member_post.like` is `member_post_like`."""
    return counter.replace(".", "_")


COUNTER_COLUMNS: Final = tuple(column_of(counter) for counter in COUNTERS)

Row = tuple[Any, ...]
"""A pane's values of `COLUMNS`."""
COLUMNS: Final = (*KEY, "stamp", "length_ms", "apart", *COUNTER_COLUMNS)
COUNTERS_AT: Final = COLUMNS.index(COUNTER_COLUMNS[0])
"""Where in a row its counters begin."""


def _key(name: str) -> Column[Any]:
    whole = name in WHOLE or name == "length_ms"
    return Column(name, BigInteger if whole else STRING, primary_key=True, nullable=False)


def _counters() -> list[Column[int]]:
    return [Column(name, BigInteger, nullable=False, server_default="0") for name in COUNTER_COLUMNS]


def _pane_table(name: str, clustered_by: Sequence[str]) -> Table:
    """A table of panes whose primary key has the columns of `KEY` in the order that its reads range over."""
    table = Table(
        name,
        METADATA,
        *(_key(key) for key in clustered_by),
        Column("stamp", BigInteger, nullable=False),
        Column("length_ms", BigInteger, nullable=False),
        Column(
            "apart", BigInteger, nullable=False, comment="1: too large for the roll-ups, summed beside them; else 0"
        ),
        *_counters(),
        sqlite_with_rowid=False,  # the primary key is the table: a window is read in one sweep, and written once
    )
    few = is_apart(table)
    Index(f"{name}_apart", table.c.starts_at, sqlite_where=few, postgresql_where=few)
    return table


def is_apart(table: Table) -> ColumnElement[bool]:
    """The condition of the index on the few panes that the roll-ups leave out; a bound 1 would not find that index."""
    return table.c.apart == literal_column("1")


ENGAGEMENT: Final = _pane_table(
    "engagement",
    ("scope", "brand", "campaign", "tier", "member", "starts_at", "platform", "post", "segment", "partition", "epoch"),
)
"""Panes of brands and campaigns (5 minutes), of members and posts (1 hour); a window of one subject is one range."""

TIERS: Final = _pane_table(
    "tiers",
    ("scope", "brand", "campaign", "starts_at", "tier", "member", "platform", "post", "segment", "partition", "epoch"),
)
"""Panes (5 minutes) of the tiers of brands and campaigns; a window of all tiers is one range."""

ROLLUPS: Final = Table(
    "engagement_rollups",
    METADATA,
    *(_key(name) for name in ("scope", "brand", "campaign", "length_ms", "starts_at", "tier", "platform")),
    *_counters(),
    sqlite_with_rowid=False,
)
"""The sums of the panes of 5 minutes by hour and by day (UTC): derived, written with them, in no digest."""

ACTIVE: Final = Table(
    "engagement_active",
    METADATA,
    *(_key(name) for name in ("scope", "brand", "campaign", "member", "platform")),
    Column("first_at", BigInteger, nullable=False, comment="start of the first pane"),
    Column("last_at", BigInteger, nullable=False, comment="start of the last pane"),
    Index("engagement_active_last", "scope", "brand", "campaign", "last_at"),
    sqlite_with_rowid=False,
)
"""From when to when each member has panes, in the brand and in each campaign: derived, written with the panes."""

MEMBERS: Final = Table(
    "members",
    METADATA,
    Column("brand", STRING, primary_key=True, nullable=False),
    Column("member", STRING, primary_key=True, nullable=False),
    Column("tier", STRING, nullable=False),
    Column("followers", BigInteger, nullable=False),
    Column("platforms", STRING, nullable=False),
    Column("changes", STRING, nullable=False),
    Column("partition", BigInteger, nullable=False),
    Column("epoch", STRING, nullable=False),
    Column("stamp", BigInteger, nullable=False),
    Index("members_tier", "brand", "tier", "followers"),
)
"""The tier a member is in now, and the followers behind it; `platforms` is canonical JSON, platform → followers, and
`changes` the record's: every change of tier that is kept."""

MEMBER_TIERS: Final = Table(
    "member_tiers",
    METADATA,
    Column("brand", STRING, primary_key=True, nullable=False),
    Column("member", STRING, primary_key=True, nullable=False),
    Column("since", BigInteger, primary_key=True, nullable=False, comment="event time, epoch milliseconds"),
    Column("until", BigInteger, nullable=True, comment="event time of the next; null for the last"),
    Column("tier", STRING, nullable=False),
    Column("platform", STRING, nullable=False, comment="where the member had the most followers; empty: not kept"),
    Column("followers", BigInteger, nullable=True, comment="there, at the change"),
    Index("member_tiers_at", "brand", "since", "until", "tier", "member"),
    sqlite_with_rowid=False,
)
"""From when until when each member was in each tier: derived from `members`, written with it, in no digest."""

POSITIONS: Final = Table(
    "engagement_positions",
    METADATA,
    Column("topic", STRING, primary_key=True, nullable=False),
    Column("partition", BigInteger, primary_key=True, nullable=False),
    Column("position", BigInteger, nullable=False),
)
"""The next offset to consume of each partition of the pane topics: everything before it is in the tables."""

DIGESTS: Final = Table(
    "engagement_digests",
    METADATA,
    Column("name", STRING, primary_key=True, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("digest", STRING, nullable=False),
)
"""The kept digest of the rows of each table that has one: written with them, never read off them."""

VERSIONS: Final = Table("engagement_version", METADATA, Column("version", BigInteger, primary_key=True))
"""One row: the `VERSION` that the tables were made by."""


def create_tables(conn: Connection) -> None:
    """Create the tables that are not there yet; those of an older version are made anew, empty, at position 0.

    Raises `NewerProjection` for those of a newer one.
    """
    there = inspect(conn).get_table_names()
    stored = conn.execute(select(VERSIONS.c.version)).scalar_one_or_none() if VERSIONS.name in there else None
    if stored is not None and stored > VERSION:
        raise NewerProjection(
            f"engagement: the database has version {stored}, this release builds version {VERSION}. Run the newer "
            "release, or another database."
        )
    if stored == VERSION:
        return
    METADATA.drop_all(conn)
    METADATA.create_all(conn)
    conn.execute(VERSIONS.insert().values(version=VERSION))
    nothing = {"rows": 0, "digest": f"{0:032x}"}
    conn.execute(DIGESTS.insert(), [{"name": table.name, **nothing} for table in (ENGAGEMENT, TIERS, MEMBERS)])
