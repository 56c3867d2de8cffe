"""`groundswell demo`: a community through the whole system, and the numbers one would ask for first."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from aggregates.database import open_database
from projections.answers import iso
from projections.refusals import REFUSALS
from service import control, online_retail, publisher, render, simulation, stack, tweets, verification
from service.problems import Unusable
from service.reading import InputError, Line, Refused
from service.reads import Reads
from service.settings import Settings, load
from service.simulation import Broken

WAIT_SECONDS = 300.0
TOP = 8


@dataclass(slots=True)
class Feed:
    """One input of the demo."""

    title: str
    brand: str
    campaign: str
    definitions: str
    lines: list[Line | Refused | Broken]
    left_out: Counter[str]

    @property
    def end(self) -> int:
        """The first millisecond after its last event."""
        latest: int = max(line.value["occurred_at"] for line in self.lines if isinstance(line, Line))
        return latest + 1


def simulated(seed: int, members: int, days: int = 30) -> list[Feed]:
    """The simulated community."""
    title = f"a simulated community of {members:,} members over {days} days (seed {seed})"
    lines: list[Line | Refused | Broken] = list(simulation.community(seed, members, days))
    return [Feed(title, simulation.BRAND, simulation.campaign_of(days), simulation.definitions(days), lines, Counter())]


def real(data: Path) -> list[Feed]:
    """The real purchases and refunds, and the real interactions, in the order of their years. Raises `Unusable`."""
    feeds = []
    sources: tuple[tuple[str, str, str, Any], ...] = (
        (
            "the purchases and refunds of UCI Online Retail",
            "online-retail",
            "online_retail/onlineretail.csv.gz",
            online_retail,
        ),
        ("the interactions of elgl19", "elgl19", "elgl19/events.csv", tweets),
    )
    for title, brand, name, importer in sources:
        if not (data / name).is_file():
            raise Unusable(
                f"{data / name} is not there: --data names a directory with {' and '.join(s[2] for s in sources)}"
            )
        left_out: Counter[str] = Counter()
        try:
            lines = list(importer.records(data / name, brand, left_out))
        except InputError as error:
            raise Unusable(str(error)) from None
        definitions = importer.definition(brand)
        feeds.append(Feed(title, brand, _campaign_in(definitions), definitions, lines, left_out))
    return feeds


def _campaign_in(definitions: str) -> str:
    import yaml

    return next(str(d["campaign"]) for d in yaml.safe_load_all(definitions) if "campaign" in d)


def demo(data_dir: Path | None, data: Path | None, seed: int, members: int, exit_after: bool, port: int | None) -> int:
    """Run it; the exit code: 0, or 1 when the verification found a difference. Raises `Unusable`."""
    console = Console(highlight=False, width=None if Console().is_terminal else 100)
    if data is not None and not data.is_dir():
        raise Unusable(f"{data} is not a directory with the real input files")
    where = data_dir or Path(tempfile.mkdtemp(prefix="groundswell-demo-"))
    started = time.monotonic()
    with stack.running(where, port or stack.port_near(8080), fresh=True, say=console.print) as running:
        settings = load(where)
        feeds = simulated(seed, members) if data is None else real(data)
        refused = _publish(console, settings, feeds, running.check)
        reads = Reads(settings)
        for feed in feeds:
            _show(console, settings, reads, feed)
        _show_refused(console, settings, feeds, refused)
        same = _verify(console, settings)
        reads.close()
        console.print(f"\nDone in {time.monotonic() - started:.0f} s.")
        if exit_after:
            return 0 if same else 1
        console.print(f"The stack stays up: http://127.0.0.1:{running.port}/docs — Ctrl-C stops it. Try:")
        console.print(f"  groundswell status --data-dir {where}")
        with stack.signals() as stopped:
            while not stopped():
                running.check()
                time.sleep(0.1)
    return 0 if same else 1


def _publish(console: Console, settings: Settings, feeds: Iterable[Feed], check: Callable[[], None]) -> dict[str, int]:
    """Define and publish every feed, and wait until all of it is in every table. Refused lines by brand."""
    refused = {}
    bars = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*bars, console=console, transient=True) as progress:
        for feed in feeds:
            console.print(f"Publishing {feed.title}: {len(feed.lines):,} records", style="bold")
            asyncio.run(control.apply_documents(settings, control.documents(feed.definitions, feed.brand), check=False))
            task = progress.add_task(feed.brand, total=len(feed.lines))
            outcome = asyncio.run(
                publisher.publish(settings, feed.lines, lambda done, task=task: progress.update(task, completed=done))  # type: ignore[misc]
            )
            progress.update(task, completed=len(feed.lines))
            refused[feed.brand] = len(outcome.refused)
            check()
        task = progress.add_task("waiting for every table", total=None)
        started = time.monotonic()
        asyncio.run(control.wait(settings, WAIT_SECONDS, lambda what: progress.update(task, description=what)))
    console.print(
        f"Everything is in every table {time.monotonic() - started:.1f} s after the last record was accepted."
    )
    return refused


def _show(console: Console, settings: Settings, reads: Reads, feed: Feed) -> None:
    as_of = iso(feed.end)
    console.rule(f"[bold]{feed.brand}[/]: {feed.title}, as of {as_of}")
    report = reads.engagement(feed.brand, "all")
    console.print(render.engagement(report))
    if report.posts:
        console.print(render.tiers(reads.tiers(feed.brand, "all")))
    standings = reads.standings(feed.brand, feed.campaign, limit=TOP, as_of=as_of)
    console.print(render.standings(standings))
    console.print(_top_balances(settings, reads, feed, as_of))
    if standings.entries:
        member = standings.entries[0].member_id
        entry = _interesting(settings, feed.brand, member)
        console.print(render.explanation(reads.explain(feed.brand, member, entry)))


def _top_balances(settings: Settings, reads: Reads, feed: Feed, as_of: str) -> Table:
    table = Table(title=f"Top balances of {feed.brand}", title_justify="left")
    for name in ("member", "active", "pending", "spent", "reversed"):
        table.add_column(name, justify="left" if name == "member" else "right")
    for member in _richest(settings, feed.brand):
        b = reads.balance(feed.brand, member, as_of=as_of)
        table.add_row(member, *(f"{n:,}" for n in (b.active, b.pending, b.spent, b.reversed)))
    return table


def _richest(settings: Settings, brand: str) -> list[str]:
    from projections.balances import BALANCES

    table = BALANCES.table
    net = table.c.earned - table.c.reversed - table.c.spent
    query = sa.select(table.c.member).where(table.c.brand == brand).order_by(net.desc(), table.c.member).limit(TOP)
    found: list[str] = _read(settings, lambda conn: list(conn.execute(query).scalars()))
    return found


def _interesting(settings: Settings, brand: str, member: str) -> str | None:
    """An entry that a cap limited, or that was taken back; else the latest one."""
    from projections.statements import STATEMENTS

    table = STATEMENTS.table
    of_member = (table.c.brand == brand) & (table.c.member == member)
    query = sa.select(table.c.entry_id, table.c.reverses).where(of_member)
    order = (table.c.reverses != "").desc(), (table.c.limited_by != "").desc(), table.c.seq.desc()
    found = _read(settings, lambda conn: conn.execute(query.order_by(*order)).first())
    return None if found is None else found.reverses or found.entry_id


def _show_refused(console: Console, settings: Settings, feeds: Iterable[Feed], refused: dict[str, int]) -> None:
    console.rule("[bold]What was refused, and why")
    table = Table()
    for name in ("where", "reason", "count"):
        table.add_column(name, justify="right" if name == "count" else "left")
    for feed in feeds:
        for why, count in sorted(feed.left_out.items()):
            table.add_row(f"{feed.brand}: left out of the file", why, f"{count:,}")
        if refused[feed.brand]:
            table.add_row(f"{feed.brand}: not published", "see the reader's reasons", f"{refused[feed.brand]:,}")
    for name, count in control.status(settings)["activity"]["counts"].items():
        if name.startswith("rejected_"):
            table.add_row("dead letter", name.removeprefix("rejected_"), f"{count:,}")
        elif name not in ("accepted",):
            table.add_row("counted", name, f"{count:,}")
    unpaid = REFUSALS.table
    query = sa.select(unpaid.c.reason, sa.func.count()).group_by(unpaid.c.reason).order_by(unpaid.c.reason)
    for reason, count in _read(settings, lambda conn: conn.execute(query).all()):
        table.add_row("paid nothing", reason, f"{count:,}")
    console.print(table)


def _verify(console: Console, settings: Settings) -> bool:
    console.rule("[bold]Verification")
    report = asyncio.run(verification.verify(settings))
    console.print(render.verification(report))
    return bool(report.same)


def _read(settings: Settings, query: Callable[[sa.Connection], Any]) -> Any:
    engine = open_database(settings.database, read_only=True)
    try:
        with engine.connect() as conn:
            return query(conn)
    finally:
        engine.dispose()
