"""`python -m benchmarks.ledger_memory`: what accounts cost in memory and in the database, over a million records.

The mix is that of `benchmarks.ledger`. An account's bytes are those of all objects that it alone holds, counted on
every hundredth account in memory; the process's memory has the generator's lists in it as well.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import psycopg
import typer
from rich.console import Console
from rich.table import Table

from aggregates.activity import Activity
from aggregates.database import is_postgres, sqlite_file
from aggregates.ledger import Batch, Ledger
from benchmarks import databases
from benchmarks.late import resident_mb
from benchmarks.ledger import BATCH, SOURCE
from benchmarks.ledger_mix import END, activities
from service import process

SAMPLED: Final = 100
"""One account in so many."""

app = typer.Typer(add_completion=False)


@app.command()
def memory(
    count: Annotated[int, typer.Option("--records", help="Records, over 100,000 accounts.")] = 1_000_000,
    postgresql: Annotated[bool, typer.Option("--postgresql", help="On PostgreSQL instead of SQLite.")] = False,
) -> None:
    """Print how memory and the database grow, ten times on the way."""
    table = Table(title=f"{count:,} records over 100,000 accounts, on {'PostgreSQL' if postgresql else 'SQLite'}")
    for name in (
        "records",
        "accounts in memory",
        "their events",
        "bytes each",
        "an event",
        "process MB",
        "database MB",
    ):
        table.add_column(name, justify="right")
    process.set_up()
    with ExitStack() as stack:
        empty = stack.enter_context(databases.postgres()) if postgresql else databases.sqlite_file
        address = stack.enter_context(empty())
        ledger = Ledger(address)
        ledger.migrate()
        position = ledger.take(SOURCE, "benchmark", 0)
        for number, batch in enumerate(_batches(count), 1):
            end = batch[-1].offset + 1
            ledger.consume(Batch(SOURCE, position, end, batch, END, "benchmark", number))
            position = end
            if position % (count // 10) < BATCH:
                table.add_row(*_measured(ledger, position, address))
        ledger.close()
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _batches(count: int) -> Iterator[Sequence[Activity]]:
    records = activities(count)
    while batch := list(islice(records, BATCH)):
        yield batch


def _measured(ledger: Ledger, position: int, address: str) -> tuple[str, ...]:
    accounts = list(ledger.in_memory())
    sample = accounts[::SAMPLED]
    seen: set[int] = set()
    size = sum(held(account, seen) for account, _ in sample)
    events = sum(events for _, events in sample)
    total = sum(events for _, events in accounts)
    figures = (position, len(accounts), total, size // len(sample), size // events, resident_mb(), _stored(address))
    return tuple(f"{figure:,}" for figure in figures)


def _stored(address: str) -> int:
    """Megabytes of the events and their indexes; on SQLite with its log."""
    if is_postgres(address):
        with psycopg.connect(address) as connection:
            row = connection.execute("SELECT pg_total_relation_size('ledger_events')").fetchone()
        return int(row[0] if row else 0) >> 20
    return sum(path.stat().st_size for path in Path(sqlite_file(address)).parent.iterdir()) >> 20


def held(thing: Any, seen: set[int]) -> int:
    """Bytes of an object and of all that it holds, but for what was seen before."""
    todo, size = [thing], 0
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        size += sys.getsizeof(one)
        if isinstance(one, msgspec.Struct):
            todo += (getattr(one, name) for name in one.__struct_fields__)
        elif isinstance(one, dict):
            todo += (*one.keys(), *one.values())
        elif isinstance(one, list | tuple | set):
            todo += one
    return size


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.ledger_memory")
