"""`python -m benchmarks.as_of`: reads as of a date in the middle of a large ledger, on SQLite.

The rows of the read models are written in bulk, as folding would leave them: a lot for most entries, a redemption of
a member's lot for every fourth. Then the snapshots are taken, as a projector would. A read counts as quick when it
takes under a second.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from sqlalchemy import Connection, Engine

from aggregates.database import open_database
from aggregates.definitions import content_of
from aggregates.ledger import Recorded, brand_aggregate, campaign_aggregate
from aggregates.parsing import parse
from aggregates.program_events import BrandDefined, CampaignDefined
from benchmarks import databases
from benchmarks.contest import Contest, merge, play, rate, table
from projections import queries
from projections.lots import LOTS
from projections.projection import ReadTable
from projections.queries import books, standings
from projections.queries.holdings import Cut
from projections.registry import LEDGER
from projections.standings import STANDINGS
from projections.statements import STATEMENTS
from projections.upkeep import snapshotting
from projections.upkeep.digest import snapshot
from projections.upkeep.runner import CACHE_KIB, Runner, prepare

RESULTS: Final = Path(__file__).parent / "results.json"
ENTRIES: Final = 1_000_000
DAY: Final = 86_400_000
START: Final = 1_700_000_000_000
DAYS: Final = 730
MEMBERS: Final = 30_000
_CHUNK: Final = 20_000
BRAND: Final = {"brand": "acme", "plan": "pro", "timezone": "UTC", "currency": "EUR"}
CAMPAIGN: Final = {
    "campaign": "always",
    "brand": "acme",
    "starts_at": START,
    "ends_at": START + 2 * DAYS * DAY,
    "earn": [{"rule": "share", "on": "interaction", "points": 10}],
}

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: python -m benchmarks.as_of --entries 10000000")
def bench(
    runs: Annotated[int, typer.Option(min=1, help="Measured runs of each side; the median counts.")] = 3,
    entries: Annotated[int, typer.Option(min=1_000, help="Entries of the ledger.")] = ENTRIES,
    out: Annotated[
        Path, typer.Option(metavar="FILE", show_default="benchmarks/results.json", help="Where the rows go, as JSON.")
    ] = RESULTS,
) -> None:
    """Time reads as of a date: a balance, standings, books and liability."""
    with ExitStack() as stack:
        rows = play(contests(stack, entries), runs)
    merge(out, rows)
    Console(width=None if sys.stdout.isatty() else 140).print(table(rows))


def contests(stack: ExitStack, entries: int = ENTRIES) -> Iterator[Contest]:
    """Each read as of the middle of a ledger of so many entries, beside the second that it may take."""
    engine = open_database(stack.enter_context(databases.sqlite_file()), cache_kib=CACHE_KIB)
    stack.callback(engine.dispose)
    fill(engine, entries)
    print(f"{snapshots_of(engine):,} snapshots", flush=True)
    at = START + DAYS * DAY // 2 + 12_345_678
    reads: dict[str, Callable[[Connection], Any]] = {
        "balance": lambda conn: queries.balance(conn, "acme", "m7", at, as_of=at),
        "standings": lambda conn: standings.standings(
            conn, "acme", "always", "points", standings.points_scores(conn, "acme", "always", at), {}
        ),
        "books": lambda conn: books.brand_books(conn, "acme", at, Cut(at)),
        "liability": lambda conn: books.liability(conn, "acme", at, Cut(at)),
    }
    for name, read in reads.items():
        yield Contest(
            f"{name} as of a date on SQLite",
            f"{entries:,} entries, the middle",
            "the aim: one second",
            "reads/s",
            lambda read=read: _timed(engine, read),  # type: ignore[misc]
            lambda: 1.0,
            1,
        )


def _timed(engine: Engine, read: Callable[[Connection], Any]) -> float:
    with snapshot(engine) as conn:
        return rate(1, lambda: read(conn))


def fill(engine: Engine, entries: int) -> None:
    """The read models of a ledger of so many entries, spread over two years and all members."""
    prepare(engine, LEDGER)
    brand, campaign = parse(BRAND, "benchmark"), parse(CAMPAIGN, "benchmark")
    defined = [
        Recorded(1, brand_aggregate("acme"), BrandDefined("acme", 1, 0, content_of(brand), START)),
        Recorded(
            2,
            campaign_aggregate("acme", "always"),
            CampaignDefined("acme", "always", 1, START, content_of(campaign), START),
        ),
    ]
    Runner(engine, lambda after, limit: [one for one in defined if one.id > after], LEDGER).catch_up()
    with engine.begin() as conn:
        _insert(conn, STATEMENTS, (_statement(n, entries) for n in range(entries)))
        _insert(conn, LOTS, (_lot(n, entries) for n in range(entries) if n % 4 != 3))
        _insert(conn, STANDINGS, (("acme", "always", f"m{n}", 10) for n in range(min(MEMBERS, entries))))


def snapshots_of(engine: Engine) -> int:
    """Take all snapshots that are due. Returns how many there are."""
    reading = open_database(engine.url.render_as_string(hide_password=False), read_only=True)
    count = 0
    while taken := snapshotting.step(engine, reading, START + DAYS * DAY):
        count += taken
    reading.dispose()
    return count


def _insert(conn: Connection, target: ReadTable, rows: Iterator[tuple[Any, ...]]) -> None:
    marks = ", ".join("?" * len(target.columns))
    with closing(conn.connection.cursor()) as cursor:
        while some := list(islice(rows, _CHUNK)):
            cursor.executemany(f"INSERT INTO {target.table.name} VALUES ({marks})", some)


def _member(n: int) -> str:
    """Groups of four entries are of one member: three lots, then a redemption of the first of them."""
    return f"m{n // 4 % MEMBERS}"


def _times(n: int, entries: int) -> tuple[int, int, int]:
    """When it occurred, becomes active and expires: every second lot waits for two weeks."""
    at = START + n * DAYS * DAY // entries
    active = at + 14 * DAY * (n % 2)
    return at, active, (active // DAY + 366) * DAY


def _statement(n: int, entries: int) -> tuple[Any, ...]:
    at, active, expires = _times(n, entries)
    source = ("members.activity.v1", n % 4, n // 4, f"e{n}")
    if n % 4 == 3:
        taken = ("", 0, "", *source, "Command", None, None, "", 0, "", "", 0, 0, f'{{"lot-{n - 3}":4}}', "{}")
        return "acme", _member(n), f"spent-{n}", n + 3, "redeemed", -4, at, at, *taken
    earned = ("always", 1, "share", *source, "Interaction", active, expires, "nano", 10, "", "", 0, 0, "{}")
    detail = '{"kind":"share","platform":"x","post_id":"p1","quantity":1,"surface":"brand_post"}'
    return "acme", _member(n), f"lot-{n}", n + 3, "earned", 10, at, at, *earned, detail


def _lot(n: int, entries: int) -> tuple[Any, ...]:
    _, active, expires = _times(n, entries)
    return "acme", _member(n), f"lot-{n}", "always", 10, 6 if n % 4 == 0 else 10, active, expires


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.as_of")
