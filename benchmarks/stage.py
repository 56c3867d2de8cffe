"""The whole stage but for the network: bytes of the log to ledger, encoded panes and read-state, all in SQLite.

Beside it a record at a time, as a stream processor is usually written: each record is decided and stored before the
next. Both flush once every 5,000 records. The log is a sparse one, a month of a community: about three panes a record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from sqlalchemy import Engine

from aggregates.database import open_database
from aggregates.ledger import Ledger, Source
from benchmarks.contest import Contest, rate
from benchmarks.feed import PUBLISHED, Feed, LogRecord, intake
from schemas.topics import ACTIVITY
from streams import readstate
from streams.fold import ActivityFold
from streams.partition import Applied, Flush, Partition
from streams.rewards import Rewards
from streams.transport import Chunk

SOURCE: Final = Source(ACTIVITY, "benchmark", 0)
CHUNK: Final = 5_000
SINGLE_RECORDS: Final = CHUNK
GRACE_MS: Final = 24 * 3_600_000
EPOCH: Final = 1


def contest(feed: Feed) -> Contest:
    """A new database a run; the same log, of which the peer takes the first 5,000 records."""
    return Contest(
        "stage: intake, ledger, panes, flush",
        f"Partition.apply, chunks of {CHUNK:,}, a flush after each",
        f"chunks of one record, first {SINGLE_RECORDS:,} records",
        "records/s",
        lambda: _timed(feed.log, CHUNK),
        lambda: _timed(feed.log[:SINGLE_RECORDS], 1),
    )


def _timed(log: Sequence[LogRecord], size: int) -> float:
    with TemporaryDirectory() as directory:
        database = f"sqlite:///{Path(directory) / 'stage.db'}"
        engine, ledger = open_database(database), Ledger(database)
        try:
            readstate.create_tables(engine)
            ledger.migrate()
            state = readstate.take(engine, SOURCE, "benchmark")
            rewards = Rewards(ledger, SOURCE, ledger.take(SOURCE, "benchmark", 0), "benchmark", lambda: PUBLISHED)
            part = Partition(SOURCE, 0, ActivityFold(SOURCE, intake(state), rewards, GRACE_MS))
            return rate(len(log), lambda: asyncio.run(_work(part, engine, log, size)))
        finally:
            ledger.close()
            engine.dispose()


async def _work(part: Partition, engine: Engine, log: Sequence[LogRecord], size: int) -> None:
    async def write(flush: Flush) -> None:
        assert sum(len(records) for records in flush.records.values())

    async def save(flush: Flush) -> None:
        readstate.save(engine, SOURCE, flush.delta, "benchmark", {})

    for start in range(0, len(log), size):
        outcome = part.apply(Chunk(start, EPOCH, list(log[start : start + size])), EPOCH)
        if outcome is not Applied.DONE:
            raise AssertionError(f"the chunk at offset {start} was not applied: {outcome.value}")
        if part.next % CHUNK == 0:
            await part.finish_flush(part.begin_flush(), write, save)
