"""`python -m benchmarks`: plays every contest, prints the table and writes the results."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from benchmarks import as_of, decoding, ledger, read_models, rederive, stage
from benchmarks.contest import Contest, merge, play, table
from benchmarks.feed import Feed, make_feed

RESULTS: Final = Path(__file__).parent / "results.json"

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: python -m benchmarks --runs 3")
def bench(
    runs: Annotated[int, typer.Option(min=1, help="Measured runs of each side; the median counts.")] = 5,
    out: Annotated[
        Path, typer.Option(metavar="FILE", show_default="benchmarks/results.json", help="Where the rows go, as JSON.")
    ] = RESULTS,
) -> None:
    """Time the parts that are fast on purpose beside the plain way of doing the same, by turns, in one run.

    A ratio is the median of the one over the median of the other: larger is better. The input is a simulated
    community of 3,000 members, and for the ledger a fixed mix over 100,000 accounts.
    """
    with ExitStack() as stack:
        rows = play(_contests(make_feed(), stack), runs)
    merge(out, rows)
    Console(width=None if sys.stdout.isatty() else 140).print(table(rows))


def _contests(feed: Feed, stack: ExitStack) -> Iterator[Contest]:
    yield decoding.contest(feed)
    yield from ledger.contests(stack)
    yield stage.contest(feed)
    yield from read_models.contests(stack)
    yield from as_of.contests(stack)
    yield from rederive.contests(stack)


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
