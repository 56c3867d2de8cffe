"""The ledger on a SQLite file: batches of 1,000 records, one transaction each, beside a transaction a record.

Both sides decide and store alike; the batch is the only difference. The target is what the design measured for that
alone: 24,000 records a second in batches of 1,000 where one save per event took 2,000. (Its 118,000 is of leaner
events and bulk inserts with the simplest decision there is; both sides have those here, and real decisions.)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from aggregates.activity import Activity
from aggregates.ledger import Batch, Ledger, Source
from benchmarks.contest import Contest, rate
from benchmarks.feed import PUBLISHED, Feed
from schemas.topics import ACTIVITY

SOURCE: Final = Source(ACTIVITY, "benchmark", 0)
RECORDS: Final = 20_000
BATCH: Final = 1_000
SINGLE_RECORDS: Final = 2_000
TARGET: Final = 12.0


def contest(feed: Feed) -> Contest:
    """A new file a run; the same records, of which the peer takes the first 2,000."""
    activities = feed.activities[:RECORDS]
    return Contest(
        "ledger",
        f"Ledger.consume, batches of {BATCH:,}",
        f"one batch per record, first {SINGLE_RECORDS:,} records",
        "records/s",
        lambda: _timed(activities, BATCH),
        lambda: _timed(activities[:SINGLE_RECORDS], 1),
        TARGET,
    )


def consume(ledger: Ledger, activities: Sequence[Activity], size: int) -> None:
    """Take the activities in batches of `size`, as the owner of their partition."""
    position = ledger.take(SOURCE, "benchmark", 0)
    starts = [*range(0, len(activities), size), len(activities)]
    for number, (start, end) in enumerate(pairwise(starts), 1):
        batch = activities[start:end]
        reached = batch[-1].offset + 1
        ledger.consume(Batch(SOURCE, position, reached, batch, PUBLISHED, "benchmark", number))
        position = reached


def _timed(activities: Sequence[Activity], size: int) -> float:
    with TemporaryDirectory() as directory:
        ledger = Ledger(f"sqlite:///{Path(directory) / 'ledger.db'}")
        try:
            ledger.migrate()
            return rate(len(activities), lambda: consume(ledger, activities, size))
        finally:
            ledger.close()
