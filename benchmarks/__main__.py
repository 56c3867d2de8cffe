"""`python -m benchmarks`: plays every contest, prints the table and writes the results."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from aggregates.ledger import Ledger
from benchmarks import decoding, ledger, read_models, stage
from benchmarks.contest import Contest, Row, Score
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
    community of 3,000 members; databases are SQLite files.
    """
    rows = play(runs)
    out.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    Console(width=None if sys.stdout.isatty() else 140).print(table(rows))


def play(runs: int) -> list[Row]:
    """The rows of all contests; with a progress bar on standard error when that is a terminal."""
    rows: list[Row] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with ExitStack() as stack:
        bar = stack.enter_context(Progress(*columns, console=console, transient=True, disable=not console.is_terminal))
        task = bar.add_task("a community of 3,000", total=None)
        contests = _contests(make_feed(), stack)
        bar.update(task, total=len(contests) * runs)
        for contest in contests:
            bar.update(task, description=contest.name)
            score = Score(contest, runs)
            for _ in score.play():
                bar.advance(task)
            rows.append(score.row())
    return rows


def _contests(feed: Feed, stack: ExitStack) -> list[Contest]:
    directory = Path(stack.enter_context(TemporaryDirectory()))
    stored = Ledger(f"sqlite:///{directory / 'ledger.db'}")
    stack.callback(stored.close)
    stored.migrate()
    return [decoding.contest(feed), ledger.contest(feed), stage.contest(feed), read_models.contest(feed, stored)]


def table(rows: list[Row]) -> Table:
    """The rows for people."""
    made = Table("what", "subject", "peer", title="Side by side, medians")
    for name in ("subject's", "peer's", "unit", "ratio", "target", "runs"):
        made.add_column(name, justify="left" if name == "unit" else "right")
    for row in rows:
        target = "-" if row["target"] is None else f"{row['target']:g}"
        figures = (f"{row['median']:,.0f}", f"{row['peer_median']:,.0f}", row["unit"])
        made.add_row(row["name"], row["subject"], row["peer"], *figures, f"{row['ratio']:g}", target, str(row["runs"]))
    return made


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
