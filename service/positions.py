"""How far the ledger and the engagement tables are in the activity log.

Offsets here are the last ones included, by partition, of the creation of the topic that the settings' epoch names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from sqlalchemy import Connection, select, text

from projections.engagement_tables import POSITIONS as CONSUMED
from schemas.topics import ACTIVITY, TIERS, WINDOWS
from streams.readstate import POSITIONS as FOLDED


class EngagementPositions:
    """Reads the engagement tables' positions; remembers the last certain one, for while the tables catch up."""

    def __init__(self, epoch: str) -> None:
        self._sources = f"{ACTIVITY}/{epoch}/"
        self._certain: dict[int, int] = {}

    def included(self, conn: Connection) -> dict[int, int]:
        """The last offset of the activity log that the tables surely include, by partition.

        The worker notes, with each position, the ends of its output topics: once the tables have consumed up to
        those, they include all before that position.
        """
        consumed = {(row.topic, row.partition): row.position for row in conn.execute(select(CONSUMED))}
        for row in conn.execute(select(FOLDED).where(FOLDED.c.source.startswith(self._sources, autoescape=True))):
            ends: Mapping[str, int] = json.loads(row.outputs)
            if all(consumed.get((topic, row.partition), 0) >= ends.get(topic, 0) for topic in (WINDOWS, TIERS)):
                self._certain[row.partition] = max(row.position - 1, self._certain.get(row.partition, -1))
        return {partition: offset for partition, offset in sorted(self._certain.items()) if offset >= 0}


def ledger_offsets(conn: Connection, epoch: str) -> dict[int, int]:
    """The last offset of the activity log that the ledger has decided, by partition."""
    prefix = f"{ACTIVITY}/{epoch}/"
    rows = conn.execute(text("SELECT source, position FROM ledger_positions"))
    return {int(source.removeprefix(prefix)): position - 1 for source, position in rows if source.startswith(prefix)}
