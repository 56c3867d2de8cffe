"""The projection of `MemberTier` records: who is in which tier now, and the followers that put them there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, or_
from sqlalchemy.dialects import postgresql, sqlite

from projections.engagement_tables import MEMBERS


def member_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a `MemberTier` record. Raises KeyError when the record lacks a field."""
    return {
        "brand": record["brand_id"],
        "member": record["member_id"],
        "tier": record["tier"],
        "followers": record["followers"],
        "platforms": json.dumps(record["platforms"], sort_keys=True, separators=(",", ":"), ensure_ascii=False),
        "partition": record["partition"],
        "epoch": record["epoch"],
        "stamp": record["stamp"],
    }


def write_members(conn: Connection, records: Iterable[Mapping[str, Any]]) -> int:
    """Write the newest record of each member, unless a newer one is stored. Returns the number of members met.

    `records` stand as in the topic: of one epoch the greatest stamp is the newest; a log made anew counts its offsets
    anew, so a record of another epoch than what is stored replaces it.
    """
    met: set[tuple[str, str]] = set()
    for _, run in groupby(map(member_row, records), lambda row: row["epoch"]):
        newest: dict[tuple[str, str], dict[str, Any]] = {}
        for row in run:
            member = (row["brand"], row["member"])
            if member not in newest or row["stamp"] > newest[member]["stamp"]:
                newest[member] = row
        _write(conn, list(newest.values()))
        met |= newest.keys()
    return len(met)


def _write(conn: Connection, rows: list[dict[str, Any]]) -> None:
    insert = sqlite.insert if conn.dialect.name == "sqlite" else postgresql.insert
    statement: Any = insert(MEMBERS)
    new = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=list(MEMBERS.primary_key.columns),
        set_={column.name: new[column.name] for column in MEMBERS.columns if not column.primary_key},
        where=or_(new.stamp > MEMBERS.c.stamp, new.epoch != MEMBERS.c.epoch),
    )
    conn.execute(statement, rows)
