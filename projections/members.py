"""The projection of `MemberTier` records: who is in which tier now, and the followers that put them there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection

from projections.engagement_tables import MEMBERS, newest, write_newer


def member_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a `MemberTier` record. Raises KeyError when the record lacks a field."""
    return {
        "brand": record["brand_id"],
        "member": record["member_id"],
        "tier": record["tier"],
        "followers": record["followers"],
        "platforms": json.dumps(record["platforms"], sort_keys=True, separators=(",", ":"), ensure_ascii=False),
        "partition": record["partition"],
        "stamp": record["stamp"],
    }


def write_members(conn: Connection, records: Iterable[Mapping[str, Any]]) -> int:
    """Write the newest record of each member, unless a newer one is stored. Returns the number of members met."""
    rows = newest([member_row(record) for record in records], ("brand", "member"))
    write_newer(conn, MEMBERS, rows)
    return len(rows)
