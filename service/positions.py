"""How far the ledger, the read models and the engagement tables are, and whether a position that was asked for is met.

Offsets here are the last ones included, of the activity log, by partition.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select, text

from projections.engagement_tables import POSITIONS as CONSUMED
from schemas.topics import TIERS, WINDOWS
from streams.readstate import POSITIONS as FOLDED


class Positions:
    """Reads positions; remembers the last engagement position that was certain, for while the tables catch up."""

    def __init__(self) -> None:
        self._certain: dict[str, int] = {}

    def engagement(self, conn: Connection) -> dict[int, int]:
        """The last offset that the engagement tables surely include, by partition of the activity log.

        The worker notes, with each position, the ends of its output topics: once the tables have consumed up to
        those, they include all before that position.
        """
        consumed = {(row.topic, row.partition): row.position for row in conn.execute(select(CONSUMED))}
        included: dict[int, int] = {}
        for row in _newest_epoch(conn).values():
            ends: Mapping[str, int] = json.loads(row.outputs)
            if all(consumed.get((topic, row.partition), 0) >= ends.get(topic, 0) for topic in (WINDOWS, TIERS)):
                self._certain[row.source] = max(row.position - 1, self._certain.get(row.source, -1))
            if self._certain.get(row.source, -1) >= 0:
                included[row.partition] = self._certain[row.source]
        return included


def ledger_offsets(conn: Connection) -> dict[int, int]:
    """The last offset that the ledger has decided, by partition of the activity log."""
    decided = dict(conn.execute(text("SELECT source, position FROM ledger_positions")).tuples().all())
    current = {row.source for row in _newest_epoch(conn).values()}
    found: dict[int, int] = {}
    for source, position in decided.items():
        partition = int(source.rpartition("/")[2])
        if source in current or partition not in found:
            found[partition] = position - 1
    return found


def _newest_epoch(conn: Connection) -> dict[int, Any]:
    """The saved row of each partition, of the topic's newest creation: the one whose records are the latest."""
    newest: dict[int, Any] = {}
    for row in conn.execute(select(FOLDED)):
        known = newest.get(row.partition)
        if known is None or row.greatest_record_time >= known.greatest_record_time:
            newest[row.partition] = row
    return newest
