"""How far the ledger and the engagement tables are in the activity log.

Offsets here are the last ones included, by partition, of the creation of the topic that the worker reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from sqlalchemy import Connection, select, text

from projections.engagement_tables import POSITIONS as CONSUMED
from schemas.topics import TIERS, WINDOWS
from streams.readstate import POSITIONS as FOLDED


class EngagementPositions:
    """Reads the engagement tables' positions; remembers the last certain one, for while the tables catch up."""

    def __init__(self) -> None:
        self._certain: dict[str, tuple[int, int]] = {}
        """Source → partition and offset."""

    def included(self, conn: Connection) -> dict[int, int]:
        """The last offset of the activity log that the tables surely include, by partition.

        The worker notes, with each position, the ends of its output topics: once the tables have consumed up to
        those, they include all before that position.
        """
        consumed = {(row.topic, row.partition): row.position for row in conn.execute(select(CONSUMED))}
        rows = conn.execute(select(FOLDED)).all()
        for row in rows:
            ends: Mapping[str, int] = json.loads(row.outputs)
            if all(consumed.get((topic, row.partition), 0) >= ends.get(topic, 0) for topic in (WINDOWS, TIERS)):
                _, before = self._certain.get(row.source, (row.partition, -1))
                self._certain[row.source] = (row.partition, max(row.position - 1, before))
        now = (self._certain[row.source] for row in rows if row.source in self._certain)
        return {partition: offset for partition, offset in sorted(now) if offset >= 0}


def ledger_offsets(conn: Connection) -> dict[int, int]:
    """The last offset of the activity log that the ledger has decided, by partition."""
    ours = {row.source: row.partition for row in conn.execute(select(FOLDED.c.source, FOLDED.c.partition))}
    rows = conn.execute(text("SELECT source, position FROM ledger_positions"))
    return {ours[source]: position - 1 for source, position in rows if source in ours}
