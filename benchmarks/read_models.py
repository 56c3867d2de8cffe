"""`python -m benchmarks.read_models`: a rebuild, live catch-up and digests of the ledger's read models.

The rebuild of balances, statements and standings is timed from nothing to the swap, indexes included, beside the
event-sourcing library's own runner, which keeps the same three an event a transaction; their rows are compared. On
SQLite it stands beside the bare insertion of the rows that it leaves. The other peers are figures that the design aims
at.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Final

import sqlalchemy as sa
import typer
from rich.console import Console
from sqlalchemy.schema import CreateIndex, CreateTable

from aggregates.database import open_database
from aggregates.ledger import Ledger
from benchmarks import databases, ledger
from benchmarks.contest import Contest, merge, play, rate, table
from benchmarks.ledger_mix import activities
from benchmarks.read_models_stock import THREE, stock_runner
from projections import registry
from projections.projection import Projection
from projections.upkeep.digest import digest, snapshot
from projections.upkeep.rebuild import Rebuild
from projections.upkeep.runner import CACHE_KIB, PAGE, Runner, prepare
from service import process
from service.replay.rebuilding import without_garbage

RESULTS: Final = Path(__file__).parent / "results.json"
STOCK_EVENTS: Final = 1_500
EVENTS: Final = 200_000
BATCH: Final = 1_000
REBUILT: Final = "rebuild of balances, statements and standings"

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: python -m benchmarks.read_models --runs 3 --events 1000000")
def bench(
    runs: Annotated[int, typer.Option(min=1, help="Measured runs of each side; the median counts.")] = 3,
    events: Annotated[int, typer.Option(min=STOCK_EVENTS, help="Ledger events.")] = EVENTS,
    out: Annotated[
        Path, typer.Option(metavar="FILE", show_default="benchmarks/results.json", help="Where the rows go, as JSON.")
    ] = RESULTS,
) -> None:
    """Time the read models of the ledger: a rebuild beside stock eventsourcing, live catch-up, digests."""
    process.set_up()  # as the projector's
    with ExitStack() as stack:
        rows = play(contests(stack, events), runs)
    merge(out, rows)
    Console(width=None if sys.stdout.isatty() else 140).print(table(rows))


def contests(stack: ExitStack, events: int = EVENTS) -> Iterator[Contest]:
    """Those of both databases, each on one ledger of so many events."""
    file = stack.enter_context(databases.sqlite_file())
    on_file = stack.enter_context(_filled(file, events))
    size = f"{events:,} events"
    yield _aimed(f"{REBUILT} on SQLite", size, "events/s", 150_000, lambda: _rebuild(file, on_file))
    yield Contest(
        f"{REBUILT} on SQLite",
        f"Rebuild, {size}",
        "bare bulk insert of its rows, one connection",
        "events/s",
        lambda: _rebuild(file, on_file),
        lambda: _bare(file, on_file),
    )
    yield _aimed(
        "live catch-up of every read model on SQLite", size, "events/s", 50_000, lambda: _catch_up(file, on_file)
    )
    yield _aimed("digest on SQLite", size, "digests/s", 20, lambda: _digests(file))
    server = stack.enter_context(stack.enter_context(databases.postgres())())
    on_server = stack.enter_context(_filled(server, events))
    yield Contest(
        f"{REBUILT} on PostgreSQL",
        f"Rebuild, {size}",
        f"stock ProjectionRunner, first {STOCK_EVENTS:,} events",
        "events/s",
        lambda: _rebuild(server, on_server),
        lambda: _stock(server, on_server),
        100,
    )


def _aimed(name: str, size: str, unit: str, aim: float, run: object) -> Contest:
    assert callable(run)
    return Contest(name, size, f"the aim: {aim:,.0f} {unit}", unit, run, lambda: float(aim), 1)


@contextmanager
def _filled(address: str, events: int) -> Iterator[Ledger]:
    """A ledger of at least so many events, in a database that has nothing else."""
    made = Ledger(address)
    try:
        made.migrate()
        ledger.consume(made, tuple(activities(events * 10 // 9)), BATCH)
        if made.last_notification() < events:
            raise AssertionError("the mix gave fewer events than were asked for")
        yield made
    finally:
        made.close()


@contextmanager
def _empty(address: str, projections: Sequence[Projection]) -> Iterator[sa.Engine]:
    """The database without rows of any read model."""
    engine = open_database(address, cache_kib=CACHE_KIB)
    try:
        with engine.begin() as conn:
            conn.exec_driver_sql("DROP TABLE IF EXISTS projection_positions")
            conn.exec_driver_sql("DROP TABLE IF EXISTS projection_digests")
            for projection in registry.LEDGER:
                for target in projection.tables:
                    for ending in ("", "__next", "__old"):
                        conn.exec_driver_sql(f"DROP TABLE IF EXISTS {target.table.name}{ending}")
        if projections:
            prepare(engine, projections)
        yield engine
    finally:
        engine.dispose()


def _rebuild(address: str, source: Ledger) -> float:
    """From nothing to the swap: with nothing to take the place of, the build goes to the ledger's end."""
    with _empty(address, ()) as engine:
        reading = open_database(address, read_only=True)
        work = Rebuild(engine, reading, source.notifications, source.last_notification, THREE, beside=address)

        def all_of_it() -> None:
            with without_garbage():
                work.build()
                work.swap()

        done = rate(source.last_notification(), all_of_it)
        reading.dispose()
        return done


def _bare(address: str, source: Ledger) -> float:
    """The rows that the rebuild before has left, put into empty tables that get their indexes behind them."""
    tables = [one.table for projection in THREE for one in projection.tables]
    reading = open_database(address, read_only=True)
    with reading.connect() as conn:
        rows = {table.name: [tuple(row) for row in conn.execute(sa.select(table))] for table in tables}
    reading.dispose()
    with databases.sqlite_file() as empty:
        engine = open_database(empty, cache_kib=CACHE_KIB)

        def insert() -> None:
            for table in tables:
                with engine.begin() as conn:
                    conn.execute(CreateTable(table))
                sql = f"INSERT INTO {table.name} VALUES ({','.join('?' * len(table.columns))})"
                for start in range(0, len(rows[table.name]), PAGE):
                    with engine.begin() as conn:
                        conn.exec_driver_sql(sql, rows[table.name][start : start + PAGE])
                with engine.begin() as conn:
                    for index in table.indexes:
                        conn.execute(CreateIndex(index))

        done = rate(source.last_notification(), insert)
        engine.dispose()
        return done


def _catch_up(address: str, source: Ledger) -> float:
    with _empty(address, registry.LEDGER) as engine:
        runner = Runner(engine, source.notifications, registry.LEDGER, page=PAGE)
        return rate(source.last_notification(), runner.catch_up)


def _digests(address: str) -> float:
    """Of the rows that the contest before has left."""
    engine = open_database(address, read_only=True)

    def read() -> None:
        with snapshot(engine) as conn:
            assert digest(conn, registry.DIGESTED).position > 0

    try:
        return rate(1, read)
    finally:
        engine.dispose()


def _stock(address: str, source: Ledger) -> float:
    with _empty(address, THREE) as engine:
        with engine.begin() as conn:
            conn.exec_driver_sql("DROP TABLE IF EXISTS stock_tracking")
        stop = source.notifications(0, STOCK_EVENTS)[-1].id

        def until_then() -> None:
            with stock_runner(address) as runner:
                runner.wait(stop, timeout=600)

        done = rate(STOCK_EVENTS, until_then)
        return done


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.read_models")
