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
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from aggregates.database import open_database
from aggregates.refusals import Refusal
from projections import queries
from projections.answers import iso
from projections.engagement.models import EngagementReport
from projections.queries import books
from projections.refusals import REFUSALS
from schemas.dead_letters import Reason
from service import condition, definitions, waiting
from service.broker import publisher
from service.embedded import stack
from service.feeds import online_retail, playing, simulation, tweets
from service.feeds.reading import InputError, Line, Refused
from service.feeds.simulation import Broken
from service.problems import Unusable
from service.reads import Reads
from service.render import answers, campaigns, explain, replay
from service.render.tables import row, table, titled
from service.replay import verification
from service.settings import Settings, load

WAIT_SECONDS = 300.0
DAYS = 30
"""Of the simulated community, before it goes on."""
TOP = 8
"""Places of standings that are shown."""
LARGEST = 10
"""Balances that are shown."""
COUNTED = {
    "duplicate": "The same record again: dropped.",
    "late": "Its pane was closed: counted all the same.",
}


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


def simulated(seed: int, members: int, days: int = DAYS) -> list[Feed]:
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


def demo(
    data_dir: Path | None,
    data: Path | None,
    seed: int,
    members: int,
    exit_after: bool,
    port: int | None,
    speed: float = playing.SPEED,
) -> int:
    """Run it; the exit code: 0, or 1 when the verification found a difference. Raises `Unusable`.

    `speed`: simulated seconds per second in which the community goes on after the tables; 0: it stands still.
    """
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
        console.print(f"The console is at http://127.0.0.1:{running.port}/ — Ctrl-C stops everything. Or try:")
        console.print(f"  groundswell status --data-dir {where}")
        with stack.signals() as stopped:
            if data is None and speed:
                _go_on(console, settings, simulation.community(seed, members, DAYS), speed, stopped, running.check)
            while not stopped():
                running.check()
                time.sleep(0.1)
    return 0 if same else 1


def _go_on(
    console: Console,
    settings: Settings,
    community: simulation.Simulation,
    speed: float,
    stopped: Callable[[], bool],
    check: Callable[[], None],
) -> None:
    days = simulation.NEXT_DAYS
    console.print(f"The community goes on for {days} days, {speed / 3_600:,.4g} of its hours each second (--speed).")
    if playing.play_on(settings, community, speed, stopped, check):
        console.print("These days are over; the stack stays up.")


def _publish(console: Console, settings: Settings, feeds: Iterable[Feed], check: Callable[[], None]) -> dict[str, int]:
    """Define and publish every feed, and wait until all of it is in every table. Refused lines by brand."""
    refused = {}
    bars = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*bars, console=console, transient=True) as progress:
        for feed in feeds:
            console.print(f"Publishing {feed.title}: {len(feed.lines):,} records", style="bold")
            asyncio.run(definitions.apply_documents(settings, definitions.documents(feed.definitions, feed.brand)))
            task = progress.add_task(feed.brand, total=len(feed.lines))
            outcome = asyncio.run(
                publisher.publish(settings, feed.lines, lambda done, task=task: progress.update(task, completed=done))  # type: ignore[misc]
            )
            progress.update(task, completed=len(feed.lines))
            refused[feed.brand] = len(outcome.refused)
            check()
        task = progress.add_task("waiting for every table", total=None)
        started = time.monotonic()
        asyncio.run(waiting.wait(settings, WAIT_SECONDS, lambda what: progress.update(task, description=what)))
    console.print(
        f"Everything is in every table {time.monotonic() - started:.1f} s after the last record was accepted."
    )
    return refused


def _show(console: Console, settings: Settings, reads: Reads, feed: Feed) -> None:
    as_of = iso(feed.end)
    console.rule(f"[bold]{feed.brand}[/]: {feed.title}, as of {as_of}")
    report = reads.engagement(feed.brand, "all")
    console.print(_summary(report, _currency(settings, feed.brand)))
    if report.posts:
        console.print()
        console.print(answers.tiers(reads.tiers(feed.brand, "all")))
    console.print()
    standings = reads.standings(feed.brand, feed.campaign, limit=TOP, as_of=as_of)
    console.print(campaigns.standings(standings))
    console.print()
    console.print(_top_balances(settings, reads, feed, as_of))
    if standings.entries:
        console.print()
        member = standings.entries[0].member_id
        entry = _interesting(settings, feed.brand, member)
        console.print(explain.explanation(reads.explain(feed.brand, member, entry)))


def _summary(report: EngagementReport, currency: str) -> str:
    def money(minor: int) -> str:
        return f"{minor // 100:,}.{minor % 100:02} {currency}"

    lines = [f"{report.active_members:,} active members"]
    if report.posts:
        lines.append(f"{report.posts:,} posts, {report.engagements:,} engagements, {report.reach:,} reached")
    if report.purchases:
        lines.append(f"{report.purchases:,} purchases for {money(report.revenue_minor)}")
        lines.append(f"{report.refunds:,} refunds of {money(report.refunds_minor)}")
        lines.append(f"{money(report.referred_revenue_minor)} brought by friends")
    return "\n".join(lines)


def _currency(settings: Settings, brand: str) -> str:
    def read(conn: sa.Connection) -> str:
        return queries.brand_definition(conn, brand, 0).currency

    currency: str = _read(settings, read)
    return currency


def _top_balances(settings: Settings, reads: Reads, feed: Feed, as_of: str) -> RenderableType:
    made = table(("member",), ("active", "pending", "spent", "reversed"))
    for member in _richest(settings, feed.brand):
        b = reads.balance(feed.brand, member, as_of=as_of)
        row(made, (member, b.active, b.pending, b.spent, b.reversed))
    return titled(f"Top balances of {feed.brand}", made)


def _richest(settings: Settings, brand: str) -> list[str]:
    from projections.balances import BALANCES

    of = BALANCES.table.c
    net = of.earned - of.reversed - of.spent
    query = sa.select(of.member).where(of.brand == brand).order_by(net.desc(), of.member).limit(LARGEST)
    found: list[str] = _read(settings, lambda conn: list(conn.execute(query).scalars()))
    return found


def _interesting(settings: Settings, brand: str, member: str) -> str | None:
    """An entry that a cap limited, or that was taken back; else the latest one."""
    from projections.statements import STATEMENTS

    of = STATEMENTS.table.c
    query = sa.select(of.entry_id, of.reverses).where((of.brand == brand) & (of.member == member))
    order = (of.reverses != "").desc(), (of.limited_by != "").desc(), of.seq.desc()
    found = _read(settings, lambda conn: conn.execute(query.order_by(*order)).first())
    return None if found is None else found.reverses or found.entry_id


def _show_refused(console: Console, settings: Settings, feeds: Iterable[Feed], refused: dict[str, int]) -> None:
    console.rule("[bold]What was refused, and why")
    made = table(("where", "reason"), ("count",))
    for feed in feeds:
        for why, count in sorted(feed.left_out.items()):
            row(made, (f"{feed.brand}: left out of the file", why, count))
        if refused[feed.brand]:
            row(made, (f"{feed.brand}: not published", "said by the reader", refused[feed.brand]))
    for name, count in condition.status(settings)["activity"]["counts"].items():
        if name.startswith("rejected_"):
            row(made, ("dead letter", Reason(name.removeprefix("rejected_")).sentence, count))  # type: ignore[call-arg]
    unpaid = REFUSALS.table
    query = sa.select(unpaid.c.reason, sa.func.count()).group_by(unpaid.c.reason).order_by(unpaid.c.reason)
    for reason, count in _read(settings, lambda conn: conn.execute(query).all()):
        row(made, ("paid nothing", Refusal(reason).sentence, count))
    for name, count in condition.status(settings)["activity"]["counts"].items():
        if name in COUNTED:
            row(made, ("counted", COUNTED[name], count))
    console.print(made)


def _verify(console: Console, settings: Settings) -> bool:
    console.rule("[bold]Verification")
    report = asyncio.run(verification.verify(settings))
    console.print(replay.verification(report))
    total: int = _read(settings, books.trial_balance)
    console.print(f"Every account of every brand's books added up: {total} (it must be 0).")
    return bool(report.same) and total == 0


def _read(settings: Settings, query: Callable[[sa.Connection], Any]) -> Any:
    engine = open_database(settings.database, read_only=True)
    try:
        with engine.connect() as conn:
            return query(conn)
    finally:
        engine.dispose()
