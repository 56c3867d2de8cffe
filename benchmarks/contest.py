"""How two ways of doing one thing are compared: in one process, by turns, medians of several runs."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TypedDict

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

Run = Callable[[], float]
"""Does the work once and answers how much of it was done a second: larger is better."""


class Row(TypedDict):
    """One line of `results.json`."""

    name: str
    subject: str
    peer: str
    ratio: float
    """Median of the subject ÷ median of the peer: larger is better."""
    target: float | None
    """The ratio that the design counts on; None: it names none."""
    median: float
    """Of the subject, in `unit`."""
    peer_median: float
    unit: str
    runs: int
    """Measured runs of each of the two."""


@dataclass(frozen=True, slots=True)
class Contest:
    """Two ways of doing one thing. Both get the same input; what is prepared before a run is not in its time."""

    name: str
    subject: str
    peer: str
    unit: str
    run_subject: Run
    run_peer: Run
    target: float | None = None


def rate(amount: int, work: Callable[[], object]) -> float:
    """Runs `work`, which handles `amount` of something; how many of them a second."""
    gc.collect()
    started = perf_counter()
    work()
    return amount / (perf_counter() - started)


class Score:
    """The runs of one contest so far."""

    def __init__(self, contest: Contest, runs: int) -> None:
        self._contest = contest
        self._runs = runs
        self._subject: list[float] = []
        self._peer: list[float] = []

    def play(self) -> Iterator[None]:
        """Both by turns, each first in every second round; yields after each round."""
        for number in range(self._runs):
            turns = [(self._subject, self._contest.run_subject), (self._peer, self._contest.run_peer)]
            for rates, run in turns if number % 2 == 0 else reversed(turns):
                rates.append(run())
            yield

    def row(self) -> Row:
        """The medians of all runs. Raises StatisticsError before the first."""
        contest, subject, peer = self._contest, median(self._subject), median(self._peer)
        return {
            "name": contest.name,
            "subject": contest.subject,
            "peer": contest.peer,
            "ratio": round(subject / peer, 2),
            "target": contest.target,
            "median": round(subject, 1),
            "peer_median": round(peer, 1),
            "unit": contest.unit,
            "runs": self._runs,
        }


def play(contests: Iterable[Contest], runs: int) -> list[Row]:
    """The rows of all contests; with a progress bar on standard error when that is a terminal."""
    rows: list[Row] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        for contest in contests:
            score = Score(contest, runs)
            for _ in bar.track(score.play(), total=runs, description=f"{contest.name} beside {contest.peer}"):
                pass
            rows.append(score.row())
    return rows


def merge(results: Path, rows: Sequence[Row]) -> None:
    """Put the rows into `results.json` in the place of those of the same name."""
    names = {row["name"] for row in rows}
    there: list[Row] = json.loads(results.read_text(encoding="utf-8")) if results.exists() else []
    kept = [row for row in there if row["name"] not in names]
    results.write_text(json.dumps([*kept, *rows], indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


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
