"""`python -m benchmarks.peers.run`: all subjects by turns on the same topics, their counts checked, a table."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Final, NamedTuple

import typer
from aiokafka.admin import AIOKafkaAdminClient
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.contest import merge
from benchmarks.peers.contestants import Failed, Log, Measured, Subject, measure, subjects
from benchmarks.peers.ratios import ratios
from benchmarks.peers.workload import RECORDS, WORKLOADS, Workload, publish, recount
from tests.real.kafka import Kafka

PREFIX: Final = "interactions-"
"""Of the workload's topics; all others are a subject's."""

app = typer.Typer(add_completion=False)


class Row(NamedTuple):
    """One subject on one workload: medians of the runs whose counts were exact, zeros when none was."""

    workload: str
    subject: str
    exact: int
    runs: int
    records: int = 0
    """Of a recovery: pane keys."""
    per_second: float = 0
    cpu_seconds_per_million: float = 0
    rss_mb: float = 0


@app.command(epilog="Example: python -m benchmarks.peers.run --runs 3")
def bench(
    runs: Annotated[int, typer.Option(min=1, help="Runs of each subject; the median counts.")] = 3,
    records: Annotated[int, typer.Option(min=1000, help="Records of the workload.")] = RECORDS,
    on: Annotated[list[str] | None, typer.Option("--workload", help=f"{' or '.join(WORKLOADS)}; both if none.")] = None,
    only: Annotated[str, typer.Option(metavar="TEXT", help="Only subjects with this in their name.")] = "",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Where the rows go too, as JSON.")] = None,
    results: Annotated[Path | None, typer.Option(metavar="FILE", help="Where their ratios go too, as JSON.")] = None,
) -> None:
    """Time the same counts by several stream processors on one Apache Kafka, and check every one of them.

    Needs Java and Maven. What is measured: see `benchmarks/peers/__init__.py`.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the broker and the subjects end with us
    unknown = set(on or ()) - set(WORKLOADS)
    if unknown:
        raise typer.BadParameter(f"no workload is named {', '.join(unknown)}", param_hint="--workload")
    rows = play(runs, records, [WORKLOADS[name] for name in on or WORKLOADS], only)
    if out is not None:
        out.write_text(json.dumps([row._asdict() for row in rows], indent=2) + "\n", encoding="utf-8")
    if results is not None:
        merge(results, ratios(rows))
    Console(width=None if sys.stdout.isatty() else 120).print(table(rows))


def play(runs: int, records: int, workloads: list[Workload], only: str = "") -> list[Row]:
    """The rows of all subjects on all workloads; progress on standard error."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    rows = []
    with (
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
        _kafka() as broker,
    ):
        task = bar.add_task("making the peers ready", total=None)
        playing = [subject for subject in subjects() if only.lower() in subject.name.lower()]
        bar.update(task, total=len(playing) * len(workloads) * runs)
        for workload in workloads:
            bar.update(task, description=f"publishing {workload.name}")
            logs = _publish(broker.bootstrap, workload, {_size(subject, records) for subject in playing})
            exact: dict[str, list[Measured]] = {subject.name: [] for subject in playing}
            for subject in playing * runs:  # by turns: what else the machine does slows all alike
                bar.update(task, description=f"{workload.name}: {subject.name}")
                try:
                    one = measure(subject, broker.bootstrap, logs[_size(subject, records)])
                except Failed as failed:
                    said = str(failed)
                else:
                    exact[subject.name].append(one)
                    said = f"{one.records / one.seconds:,.0f}/s"
                console.print(f"{workload.name}: {subject.name}: {said}", highlight=False, markup=False)
                asyncio.run(_delete_topics_of_subjects(broker.bootstrap))
                bar.advance(task)
            rows += [_row(workload.name, name, several, runs) for name, several in exact.items()]
    return rows


def _size(subject: Subject, records: int) -> int:
    return min(records, subject.most_records or records)


@contextmanager
def _kafka() -> Iterator[Kafka]:
    """A broker with nothing on it; nothing of it is left."""
    with TemporaryDirectory() as directory:
        broker = Kafka.start(Path(directory) / "kafka")
        try:
            yield broker
        finally:
            broker.stop()


def _publish(bootstrap: str, workload: Workload, sizes: set[int]) -> dict[int, Log]:
    logs = {}
    for size in sorted(sizes):
        topic = f"{PREFIX}{workload.name}-{size}"
        asyncio.run(publish(bootstrap, topic, workload, size))
        logs[size] = Log(topic, size, asyncio.run(recount(bootstrap, topic)))
    return logs


async def _delete_topics_of_subjects(bootstrap: str) -> None:
    """Changelogs and the like: the next run begins with none."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        others = [topic for topic in await admin.list_topics() if not topic.startswith(("__", PREFIX))]
        if others:
            await admin.delete_topics(others)
    finally:
        await admin.close()


def _row(workload: str, subject: str, exact: list[Measured], runs: int) -> Row:
    if not exact:
        return Row(workload, subject, 0, runs)
    return Row(
        workload,
        subject,
        len(exact),
        runs,
        exact[0].records,
        round(median(one.records / one.seconds for one in exact)),
        round(median(one.cpu_seconds / one.records * 1e6 for one in exact), 1),
        round(median(one.rss_mb for one in exact)),
    )


def table(rows: list[Row]) -> Table:
    """The rows for people."""
    made = Table(
        "workload", "subject", title="Engagement panes side by side: medians of the runs whose counts are exact"
    )
    for name in ("records", "records/s", "CPU s/million", "RSS MB", "exact runs"):
        made.add_column(name, justify="right")
    for row in rows:
        figures = (f"{row.records:,}", f"{row.per_second:,.0f}", f"{row.cpu_seconds_per_million:,.1f}")
        made.add_row(row.workload, row.subject, *figures, f"{row.rss_mb:,.0f}", f"{row.exact} of {row.runs}")
    return made


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.peers.run")
