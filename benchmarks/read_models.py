"""All read models of the ledger: a page of 2,000 events a transaction beside an event a transaction.

The target is the design's: the event-sourcing library's own runner, an event a transaction, wrote 1,700 events a
second where a batched one wrote 158,000 (one read model; here it is all of them).
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from aggregates.database import open_database
from aggregates.ledger import Ledger
from benchmarks import ledger as ledgers
from benchmarks.contest import Contest, rate
from benchmarks.feed import Feed
from projections import registry
from projections.runner import PAGE, Runner, prepare

RECORDS: Final = 20_000
SINGLE_EVENTS: Final = 500
TARGET: Final = 93.0


def contest(feed: Feed, ledger: Ledger) -> Contest:
    """New tables a run, from what `ledger` (empty, its tables made) stores of the first 20,000 activities."""
    ledgers.consume(ledger, feed.activities[:RECORDS], ledgers.BATCH)
    return Contest(
        "read models",
        f"Runner, pages of {PAGE:,} events",
        f"pages of one event, first {SINGLE_EVENTS:,} events",
        "events/s",
        lambda: _timed(ledger, PAGE, ledger.last_notification()),
        lambda: _timed(ledger, 1, SINGLE_EVENTS),
        TARGET,
    )


def _timed(ledger: Ledger, page: int, stop_at: int) -> float:
    with TemporaryDirectory() as directory:
        engine = open_database(f"sqlite:///{Path(directory) / 'rows.db'}")
        try:
            prepare(engine, registry.LEDGER)
            runner = Runner(engine, ledger.notifications, registry.LEDGER, page=page)
            return rate(stop_at, lambda: runner.catch_up(stop_at))
        finally:
            engine.dispose()
