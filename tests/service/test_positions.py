"""What an answer says of the log: never more than its tables include, and no less than they surely do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from aggregates.database import open_database
from aggregates.ledger import Source
from projections import engagement
from schemas.topics import ACTIVITY, TIERS, WINDOWS
from service.migrate import migrate
from service.positions import EngagementPositions
from streams import readstate

SOURCE = Source(ACTIVITY, "e1", 0)


class Tables:
    """One partition: the worker flushes 10 records and 2 panes at a time, the projector reads them when it is told."""

    def __init__(self, database: str) -> None:
        migrate(database)
        self.writing, self.reading = open_database(database), open_database(database, read_only=True)
        readstate.take(self.writing, SOURCE, "w")
        self.flushes = self.consumed = 0

    def flush(self) -> None:
        before, self.flushes = self.flushes * 10, self.flushes + 1
        delta = readstate.Delta(before, before + 10, 0, 0, {}, {}, {}, [], [])
        readstate.save(self.writing, SOURCE, delta, "w", dict.fromkeys((WINDOWS, TIERS), self.flushes * 2))

    def consume(self) -> None:
        with self.writing.begin() as conn:
            for topic in (WINDOWS, TIERS):
                engagement.apply(conn, topic, 0, self.consumed * 2, self.flushes * 2, [])
        self.consumed = self.flushes


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[Tables]:
    made = Tables(f"sqlite:///{tmp_path / 'positions.db'}")
    yield made
    made.writing.dispose()
    made.reading.dispose()


def included(positions: EngagementPositions, tables: Tables) -> dict[int, int]:
    with tables.reading.connect() as conn:
        return positions.included(conn)


def test_tables_that_have_read_all_include_all(tables: Tables) -> None:
    positions = EngagementPositions()
    assert included(positions, tables) == {}
    tables.flush()
    assert included(positions, tables) == {}
    tables.consume()
    assert included(positions, tables) == {0: 9}
    tables.flush()
    assert included(positions, tables) == {0: 9}


def test_tables_that_are_always_a_flush_behind_are_known_to_go_on(tables: Tables) -> None:
    positions = EngagementPositions()
    for _ in range(4):
        tables.flush()
        included(positions, tables)
        tables.consume()
        tables.flush()
    assert included(positions, tables)[0] >= 49


def test_an_answer_is_told_nothing_that_only_a_later_one_has(tables: Tables) -> None:
    positions = EngagementPositions()
    tables.flush()
    tables.consume()
    with tables.reading.connect() as earlier:
        earlier.execute(sa.text("SELECT 1 FROM engagement_positions")).all()  # its instant
        tables.flush()
        tables.consume()
        assert included(positions, tables) == {0: 19}
        assert positions.included(earlier) == {0: 9}
