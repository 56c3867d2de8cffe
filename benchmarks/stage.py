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
from streams import outputs, readstate
from streams.partition import Applied, Flush, Partition
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
            state = readstate.ReadState()
            part = Partition(
                SOURCE, 0, state, intake(state), ledger, writer="benchmark", grace_ms=GRACE_MS, clock=lambda: PUBLISHED
            )
            return rate(len(log), lambda: asyncio.run(_work(part, engine, log, size)))
        finally:
            ledger.close()
            engine.dispose()


async def _work(part: Partition, engine: Engine, log: Sequence[LogRecord], size: int) -> None:
    async def write(flush: Flush) -> None:
        _encode(flush)

    async def save(flush: Flush) -> None:
        readstate.save(engine, SOURCE, flush.delta, "benchmark", {})

    for start in range(0, len(log), size):
        outcome = part.apply(Chunk(start, EPOCH, list(log[start : start + size])), EPOCH)
        if outcome is not Applied.DONE:
            raise AssertionError(f"the chunk at offset {start} was not applied: {outcome.value}")
        if part.next % CHUNK == 0:
            await part.flush(write, save)


def _encode(flush: Flush) -> int:
    """The bytes that the output topics would get; how many there are."""
    stamp = flush.position - 1
    records = [outputs.pane_record(pane, counters, 0, stamp) for pane, counters in flush.panes]
    for (brand, member), tier, platforms in flush.members:
        records.append(outputs.member_record(brand, member, tier, platforms, 0, stamp))
    records += [outputs.letter_record(letter, ACTIVITY, 0) for letter in flush.letters]
    return sum(len(value or b"") for _, value, _ in records)
