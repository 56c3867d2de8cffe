"""`python -m benchmarks.rederive`: the log derived again, plainly and under a candidate, in CPU seconds of one core."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import process_time
from typing import Annotated, Final

import typer
import yaml
from rich.console import Console

from aggregates.database import open_database
from aggregates.ledger import Ledger, Source, brand_aggregate, campaign_aggregate
from aggregates.ledger_store import encoded
from aggregates.parsing import parse
from aggregates.program_events import BrandDefined, CampaignDefined
from aggregates.programs import Brand, Campaign, content_of
from benchmarks import databases
from benchmarks.contest import Contest, merge, play, table
from benchmarks.feed import SECRET, LogRecord, log_of
from schemas.topics import ACTIVITY
from service.feeds.simulation import START, community
from service.replay.candidates import what_if
from service.replay.rebuilding import without_garbage
from service.replay.rederiving import compare
from streams import readstate
from streams.intake import Intake
from streams.readstate import ReadState
from streams.recent import Recent
from streams.rederive import NO_LIMITS, Rederivation
from streams.rederive.decided import Decided, Scratch
from streams.rewards import Rewards

RESULTS: Final = Path(__file__).parent / "results.json"
RECORDS: Final = 150_000
SIMULATED: Final = (1, 9_000, 30)
"""Seed, members and days: enough for so many records."""
CHUNK: Final = 5_000
AIM: Final = 15_000

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class MemoryLog:
    """A log of one partition in memory: what reading it takes depends on where it is."""

    records: Sequence[LogRecord]
    topic: str = ACTIVITY
    epoch: str = "benchmark"
    partitions: int = 1

    @property
    def starts(self) -> dict[int, int]:
        """Its first offset."""
        return {0: 0}

    @property
    def ends(self) -> dict[int, int]:
        """The offset after its last one."""
        return {0: len(self.records)}

    def read(self, _partition: int, start: int, end: int) -> Iterator[Sequence[LogRecord]]:
        """The records in chunks."""
        for at in range(start, end, CHUNK):
            yield self.records[at : min(at + CHUNK, end)]


@app.command(epilog="Example: python -m benchmarks.rederive --runs 3")
def bench(
    runs: Annotated[int, typer.Option(min=1, help="Measured runs; the median counts.")] = 3,
    records: Annotated[int, typer.Option(min=1_000, help="Records of the log.")] = RECORDS,
    out: Annotated[
        Path, typer.Option(metavar="FILE", show_default="benchmarks/results.json", help="Where the rows go, as JSON.")
    ] = RESULTS,
) -> None:
    """Derive a simulated community's log again beside its ledger on SQLite, the copy of the ledger included."""
    with ExitStack() as stack:
        rows = play(contests(stack, records), runs)
    merge(out, rows)
    Console(width=None if sys.stdout.isatty() else 140).print(table(rows))


def contests(stack: ExitStack, records: int = RECORDS) -> Iterator[Contest]:
    """The plain comparison, and a candidate of the rules that applied, on one ledger."""
    log = MemoryLog(log_of(SIMULATED, records))
    documents = [parse(one, "simulation") for one in yaml.safe_load_all(community(*SIMULATED).definitions)]
    database = stack.enter_context(databases.sqlite_file())
    _decide(database, log, documents)
    size = f"{len(log.records):,} records of a simulated community"
    for name, run in (
        ("replay rederive", partial(_compared, database, log)),
        ("replay rederive --candidate", partial(_tried, database, log, [documents[1]])),
    ):
        yield Contest(
            name, size, f"the aim: {AIM:,} records/s a core", "records per CPU second", run, lambda: float(AIM), 1
        )


def _decide(database: str, log: MemoryLog, documents: Sequence[Brand | Campaign]) -> None:
    """The ledger that a worker makes of the log."""
    engine = open_database(database)
    with closing(Ledger(database)) as ledger:
        ledger.migrate()
        readstate.create_tables(engine)
        for one in documents:
            content = content_of(one)
            if isinstance(one, Brand):
                brand = BrandDefined(one.id, one.version, one.effective_at, content, START)
                ledger.store.write([encoded(brand_aggregate(one.id), 1, brand)])
            else:
                campaign = CampaignDefined(one.brand, one.id, one.version, one.effective_at, content, START)
                ledger.store.write([encoded(campaign_aggregate(one.brand, one.id), 1, campaign)])
        source = Source(log.topic, log.epoch, 0)
        ledger.take(source, "w", 0)
        intake = Intake(0, 1, ReadState(), Recent(), SECRET, NO_LIMITS)
        rewards = Rewards(ledger, source, 0, "w", lambda: START)
        for chunk in log.read(0, 0, len(log.records)):
            rewards.submit([activity for activity, _ in intake.take(chunk)[0]], chunk[-1].offset + 1)
    engine.dispose()


def _measured(
    database: str, log: MemoryLog, candidate: Sequence[Brand | Campaign], work: Callable[[Rederivation], bool]
) -> float:
    engine = open_database(database, read_only=True)
    with tempfile.TemporaryDirectory() as directory, closing(Scratch(Path(directory) / "scratch.db")) as scratch:
        started = process_time()
        with without_garbage():
            decided = Decided(scratch, engine)
            decided.copy()
            if not work(Rederivation(log, decided, scratch, SECRET, candidate)):
                raise AssertionError("something differs")
        took = process_time() - started
    engine.dispose()
    return len(log.records) / took


def _compared(database: str, log: MemoryLog) -> float:
    return _measured(database, log, (), lambda run: compare(run, "memory").same)


def _tried(database: str, log: MemoryLog, candidate: Sequence[Brand | Campaign]) -> float:
    return _measured(database, log, candidate, lambda run: what_if(run, "memory", 1).same)


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.rederive")
