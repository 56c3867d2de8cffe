"""`python -m benchmarks.ledger_memory`: what accounts cost in memory and in the database, over a million records.

The mix is that of `benchmarks.ledger`. An account's bytes are those of all objects that it alone holds, counted on
every hundredth account in memory; the process's memory has the generator's lists in it as well.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from aggregates.activity import Activity
from aggregates.ledger import Batch, Ledger
from benchmarks import databases
from benchmarks.late import resident_mb
from benchmarks.ledger import BATCH, SOURCE
from benchmarks.ledger_mix import END, activities
from service.worker import GC_THRESHOLD

SAMPLED: Final = 100
"""One account in so many."""

app = typer.Typer(add_completion=False)


@app.command()
def memory(
    count: Annotated[int, typer.Option("--records", help="Records, over 100,000 accounts.")] = 1_000_000,
) -> None:
    """Print how memory and the database grow, ten times on the way."""
    table = Table(title=f"{count:,} records over 100,000 accounts, on SQLite")
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
    gc.set_threshold(*GC_THRESHOLD)
    with databases.sqlite_file() as address:
        ledger = Ledger(address)
        ledger.migrate()
        position = ledger.take(SOURCE, "benchmark", 0)
        file = Path(address.removeprefix("sqlite:///"))
        for number, batch in enumerate(_batches(count), 1):
            end = batch[-1].offset + 1
            ledger.consume(Batch(SOURCE, position, end, batch, END, "benchmark", number))
            position = end
            if position % (count // 10) < BATCH:
                table.add_row(*_measured(ledger, position, file))
        ledger.close()
    Console().print(table)


def _batches(count: int) -> Iterator[Sequence[Activity]]:
    records = activities(count)
    while batch := list(islice(records, BATCH)):
        yield batch


def _measured(ledger: Ledger, position: int, file: Path) -> tuple[str, ...]:
    accounts = list(ledger.in_memory())
    sample = accounts[::SAMPLED]
    seen: set[int] = set()
    size = sum(held(account, seen) for account, _ in sample)
    events = sum(events for _, events in sample)
    total = sum(events for _, events in accounts)
    stored = sum(path.stat().st_size for path in file.parent.iterdir()) >> 20
    figures = (position, len(accounts), total, size // len(sample), size // events, resident_mb(), stored)
    return tuple(f"{figure:,}" for figure in figures)


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
