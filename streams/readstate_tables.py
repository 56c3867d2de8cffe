"""The tables of the read-state: one row a partition, and what belongs to its position."""

from __future__ import annotations

import sqlalchemy as sa

METADATA = sa.MetaData()

POSITIONS = sa.Table(
    "stream_positions",
    METADATA,
    sa.Column("source", sa.Text, primary_key=True, comment="topic/epoch/partition"),
    sa.Column("partition", sa.BigInteger, nullable=False),
    sa.Column("position", sa.BigInteger, nullable=False, comment="next offset of the activity log"),
    sa.Column("writer", sa.Text, nullable=False),
    sa.Column("greatest_event_time", sa.BigInteger, nullable=False),
    sa.Column("greatest_record_time", sa.BigInteger, nullable=False),
    sa.Column("counts", sa.Text, nullable=False, comment="JSON: accepted, duplicate, late, rejected…"),
    sa.Column("outputs", sa.Text, nullable=False, comment="JSON: output topic → end offset after the flush"),
)
PROFILES = sa.Table(
    "stream_profiles",
    METADATA,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("brand", sa.Text, primary_key=True),
    sa.Column("member", sa.Text, primary_key=True),
    sa.Column("platforms", sa.Text, nullable=False, comment="JSON: platform → followers"),
    sa.Column("tiers", sa.Text, nullable=False, comment="JSON: a TierHistory"),
)
MEMBERSHIPS = sa.Table(
    "stream_memberships",
    METADATA,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("brand", sa.Text, primary_key=True),
    sa.Column("member", sa.Text, primary_key=True),
    sa.Column("campaign", sa.Text, primary_key=True),
    sa.Column("changes", sa.Text, nullable=False, comment="JSON: [[occurred_at, offset, joined]…]"),
)
DEFINITIONS = sa.Table(
    "stream_definitions",
    METADATA,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("offset", sa.BigInteger, primary_key=True),
    sa.Column("content", sa.Text, nullable=False),
)
CLOSINGS = sa.Table(
    "stream_closings",
    METADATA,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("brand", sa.Text, primary_key=True),
    sa.Column("campaign", sa.Text, primary_key=True),
    sa.Column("offset", sa.BigInteger, nullable=False, comment="of the marker; -1: in the log before this one"),
)
REJECTED = sa.Table(
    "stream_rejected",
    METADATA,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("offset", sa.BigInteger, primary_key=True),
)
