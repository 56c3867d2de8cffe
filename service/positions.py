"""How far the ledger and the engagement tables are in the activity log.

Offsets here are the last ones included, by partition, of the creation of the topic that the worker reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, NamedTuple

from sqlalchemy import Connection, select, text

from aggregates.ledger_store import LAST_NOTIFICATION
from projections import engagement, registry
from projections.engagement.tables import POSITIONS as CONSUMED
from projections.upkeep.runner import POSITIONS as FOLLOWED
from schemas.topics import TIERS, WINDOWS
from streams import readstate
from streams.readstate_tables import POSITIONS as FOLDED


def panes_behind(conn: Connection) -> dict[tuple[str, int], int]:
    """Pane topic and partition → records that workers wrote there and the engagement tables do not include yet."""
    at = {topic: engagement.positions(conn, topic) for topic in (WINDOWS, TIERS)}
    return {
        (topic, int(row.partition)): end - at[topic].get(row.partition, 0)
        for row in readstate.positions(conn)
        for topic, end in json.loads(row.outputs).items()
        if topic in at
    }


class _Noted(NamedTuple):
    offset: int
    """The last one that the worker had folded."""
    ends: tuple[tuple[str, int], ...]
    """Where the pane topics ended then."""


class EngagementPositions:
    """Reads the engagement tables' positions. Safe to share between threads."""

    def __init__(self) -> None:
        self._noted: dict[str, tuple[_Noted, ...]] = {}
        """Source → what tables were last seen to include, and the first that they did not: while records come, the
        worker's latest position is always a little ahead of them."""

    def included(self, conn: Connection) -> dict[int, int]:
        """The last offset of the activity log that the tables surely include, by partition.

        The worker notes, with each position, the ends of its output topics: once the tables have consumed up to
        those, they include all before that position.
        """
        consumed = {(row.topic, row.partition): row.position for row in conn.execute(select(CONSUMED))}
        found: dict[int, int] = {}
        for row in conn.execute(select(FOLDED)).all():
            ends: Mapping[str, int] = json.loads(row.outputs)
            now = _Noted(row.position - 1, tuple((topic, ends.get(topic, 0)) for topic in (WINDOWS, TIERS)))
            noted = (*self._noted.get(row.source, ()), now)
            passed = [
                one for one in noted if all(consumed.get((topic, row.partition), 0) >= end for topic, end in one.ends)
            ]
            best = max(passed, default=_NOTHING)
            ahead = sorted(one for one in noted if one.offset > best.offset)
            self._noted[row.source] = (best, *ahead[:1])
            found[row.partition] = max(best.offset, found.get(row.partition, -1))
        return {partition: offset for partition, offset in sorted(found.items()) if offset >= 0}


_NOTHING: Final = _Noted(-1, ())


class LedgerReached(NamedTuple):
    """How far the ledger and its read models are, all at one instant."""

    offsets: Mapping[int, int]
    """The last offset of the activity log that is decided, by partition."""
    decided: int
    """The ledger's last notification id; it includes all of `offsets`."""
    read: int
    """The notification that every read model of the ledger includes."""


def ledger_reached(conn: Connection) -> LedgerReached:
    """Where the ledger is, in one statement: those who wait for it have it read often."""
    found: dict[str, dict[int, int]] = {"log": {}, "ledger": {}, "models": {}}
    for what, which, position in conn.execute(_REACHED[conn.dialect.name]):
        found[what][which] = position or 0
    offsets = {partition: position - 1 for partition, position in found["log"].items()}
    return LedgerReached(offsets, found["ledger"][0], found["models"].get(len(registry.LEDGER), 0))


_MODELS: Final = ", ".join(f"('{one.name}', {one.version})" for one in registry.LEDGER)
_REACHED: Final = {
    database: text(
        f"SELECT 'log', f.partition, l.position FROM {FOLDED.name} f JOIN ledger_positions l ON l.source = f.source "
        f"UNION ALL SELECT 'ledger', 0, ({last}) "
        f"UNION ALL SELECT 'models', COUNT(*), MIN(position) FROM {FOLLOWED.name} "
        f"WHERE (name, version) IN (VALUES {_MODELS})"
    )
    for database, last in LAST_NOTIFICATION.items()
}
