"""`python -m benchmarks.ledger`: the ledger beside a stock eventsourcing application, and beside a bare bulk insert.

All of them get the same records on an empty database of the same kind, in one process, by turns; the first two take
the same decisions, and the balances that they store are compared with those of the decisions alone. The stock side
saves one record at a time, as its documentation does (`ledger_stock`), and takes the first few thousand records only.
The bare side inserts the rows that the ledger has stored, encoded before, in the same transactions of 1,000, into the
same table by the quickest way of the driver.
"""

from __future__ import annotations

import gc
import sqlite3
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Annotated, Final, NamedTuple

import psycopg
import typer
from rich.console import Console

from aggregates.account import Account, Balance, decide, evolve
from aggregates.activity import Activity
from aggregates.database import is_postgres, postgres_parameters, sqlite_file
from aggregates.events import Origin, from_stored
from aggregates.ledger import Batch, Ledger, Source, account_id
from aggregates.ledger_postgres import COPY, COPY_TYPES
from aggregates.ledger_store import Encoded
from benchmarks import databases
from benchmarks.contest import Contest, merge, play, rate, table
from benchmarks.databases import Empty
from benchmarks.ledger_mix import END, activities
from benchmarks.ledger_stock import stock_ledger
from schemas.topics import ACTIVITY
from service import process
from streams.commits import Commits
from streams.rewards import WAITING

SOURCE: Final = Source(ACTIVITY, "benchmark", 0)
RECORDS: Final = 100_000
BATCH: Final = 1_000
RESULTS: Final = Path(__file__).parent / "results.json"


class Kind(NamedTuple):
    """What is asked of one kind of database."""

    name: str
    stock_records: int
    """The peer takes so many: a few seconds' work."""
    stock_target: float
    bare_target: float


SQLITE: Final = Kind("SQLite", 4_000, 25, 0.2)
POSTGRESQL: Final = Kind("PostgreSQL", 2_000, 60, 0.2)

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: python -m benchmarks.ledger --runs 3")
def bench(
    runs: Annotated[int, typer.Option(min=1, help="Measured runs of each side; the median counts.")] = 3,
    out: Annotated[
        Path, typer.Option(metavar="FILE", show_default="benchmarks/results.json", help="Where the rows go, as JSON.")
    ] = RESULTS,
) -> None:
    """Time the ledger beside stock eventsourcing and beside a bare bulk insert, on SQLite and on PostgreSQL."""
    with ExitStack() as stack:
        rows = play(contests(stack), runs)
    merge(out, rows)
    Console(width=None if sys.stdout.isatty() else 140).print(table(rows))


def contests(stack: ExitStack) -> Iterator[Contest]:
    """Those of both databases; until `stack` closes the server runs, and the process is set up as the worker's."""
    stack.callback(gc.set_threshold, *gc.get_threshold())
    stack.callback(sys.setswitchinterval, sys.getswitchinterval())
    stack.callback(gc.unfreeze)
    process.set_up()
    yield from _on(SQLITE, databases.sqlite_file)
    yield from _on(POSTGRESQL, stack.enter_context(databases.postgres()))


def _on(kind: Kind, empty: Empty) -> Iterator[Contest]:
    records = _records()
    few = records[: kind.stock_records]
    subject = f"the ledger, batches of {BATCH:,}"
    yield Contest(
        f"ledger on {kind.name}",
        subject,
        f"stock eventsourcing, one save a record, first {kind.stock_records:,} records",
        "records/s",
        lambda: _ledger(empty, records),
        lambda: _stock(empty, few),
        kind.stock_target,
    )
    rows = _rows(empty, records)
    yield Contest(
        f"ledger on {kind.name}",
        subject,
        "bare bulk insert of the same rows",
        "records/s",
        lambda: _ledger(empty, records),
        lambda: _bare(empty, rows),
        kind.bare_target,
    )


@cache
def _records() -> Sequence[Activity]:
    return tuple(activities(RECORDS))


# The three sides: each does its work on an empty database and answers records a second


def _ledger(empty: Empty, records: Sequence[Activity]) -> float:
    with empty() as address, _opened(address) as ledger:
        done = rate(len(records), lambda: consume(ledger, records, BATCH))
        _same(_stored(ledger, _members(records)), records)
        return done


def _stock(empty: Empty, records: Sequence[Activity]) -> float:
    with empty() as address:
        stock = stock_ledger(address)
        done = rate(len(records), lambda: stock.consume(records))
        stock.close()
        reader = stock_ledger(address)
        _same({member: reader.stored(member) for member in _members(records)}, records)
        reader.close()
        return done


def _bare(empty: Empty, rows: Sequence[Encoded]) -> float:
    with empty() as address:
        with _opened(address):
            pass  # which makes the tables
        work = _copy if is_postgres(address) else _executemany
        return rate(len(rows), lambda: work(address, rows))


def _executemany(address: str, rows: Sequence[Encoded]) -> None:
    connection = sqlite3.connect(sqlite_file(address), isolation_level=None)
    for start in range(0, len(rows), BATCH):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO stored_events VALUES (?,?,?,?)", rows[start : start + BATCH])
        connection.execute("COMMIT")
    connection.close()


def _copy(address: str, rows: Sequence[Encoded]) -> None:
    with psycopg.connect(autocommit=True, **postgres_parameters(address)) as connection:
        for start in range(0, len(rows), BATCH):
            with connection.transaction(), connection.cursor() as cursor, cursor.copy(COPY) as copy:
                copy.set_types(COPY_TYPES)
                for number, row in enumerate(rows[start : start + BATCH], start + 1):
                    copy.write_row((*row, number))


def consume(ledger: Ledger, records: Sequence[Activity], size: int) -> None:
    """Take the records in batches of `size`, as a worker that owns their partition: at most two are on their way."""
    position = ledger.take(SOURCE, "benchmark", 0)
    starts = [*range(0, len(records), size), len(records)]
    never, waiting = Event(), deque[Future[None]]()
    with Commits(ledger) as commits:
        for number, (start, end) in enumerate(pairwise(starts), 1):
            batch = records[start:end]
            reached = batch[-1].offset + 1
            taken = Batch(SOURCE, position, reached, batch, END, "benchmark", number)
            waiting.append(commits.submit(partial(_itself, taken), never))
            position = reached
            if len(waiting) > WAITING:
                waiting.popleft().result()
        for stored in waiting:
            stored.result()


def _itself(batch: Batch) -> Batch:
    return batch


@contextmanager
def _opened(address: str) -> Iterator[Ledger]:
    ledger = Ledger(address)
    try:
        ledger.migrate()
        yield ledger
    finally:
        ledger.close()


def _rows(empty: Empty, records: Sequence[Activity]) -> Sequence[Encoded]:
    """What the ledger stores of the records, in its order."""
    with empty() as address, _opened(address) as ledger:
        consume(ledger, records, BATCH)
        pages = (ledger.store.page(after, BATCH) for after in range(0, ledger.store.last(), BATCH))
        return [(row.originator, row.version, row.name, row.state) for page in pages for row in page]


# The check


def _members(records: Iterable[Activity]) -> list[str]:
    return sorted({activity.value["member_id"] for activity in records})


def _stored(ledger: Ledger, members: Sequence[str]) -> Mapping[str, Account]:
    """The members' accounts, folded from what is stored."""
    accounts = {account_id("acme", member): Account() for member in members}
    names = list(accounts)
    for start in range(0, len(names), BATCH):
        for aggregate, _, name, state in ledger.store.histories(names[start : start + BATCH]):
            evolve(accounts[aggregate], from_stored(name, state))  # type: ignore[arg-type]
    return dict(zip(members, accounts.values(), strict=True))


@cache
def _decided(count: int) -> Mapping[str, Balance]:
    """Balances after the first `count` records, by the decisions alone."""
    accounts: dict[str, Account] = {}
    for activity in _records()[:count]:
        value = activity.value
        account = accounts.setdefault(value["member_id"], Account())
        origin = Origin(ACTIVITY, 0, activity.offset, value["event_id"], value["occurred_at"], END)
        for event in decide(account, activity, origin, {}):
            evolve(account, event)
    return {member: account.balance_at(END) for member, account in accounts.items()}


def _same(stored: Mapping[str, Account], records: Sequence[Activity]) -> None:
    found = {member: account.balance_at(END) for member, account in stored.items()}
    wrong = [member for member, balance in _decided(len(records)).items() if found.get(member) != balance]
    if wrong:
        raise AssertionError(f"{len(wrong)} balances are not those that were decided, that of {wrong[0]} among them")


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.ledger")
