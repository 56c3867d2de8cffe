"""Audit: whether the numbers are whole, how far every part is, and building read models again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from markupsafe import Markup
from nicegui import ui
from nicegui.events import GenericEventArguments

from projections import registry
from projections.digest import DigestReport
from projections.verify import Report
from schemas.topics import ACTIVITY
from service import condition, kafka, rebuilding, verification
from service.console import audit_letters, audit_whatif, shell
from service.console.markup import NOTHING, Child, count, empty, join, loading, table, tag, unseen
from service.reads import Reads
from service.rebuilding import RebuildReport
from service.settings import Settings

STATUS_SECONDS: Final = 2.0
LOG_SECONDS: Final = 10.0
"""How often the broker is asked where the log ends: it takes a connection of its own."""
SHOW_PROGRESS_SECONDS: Final = 0.2
PENDING: Final = Markup('<span class="nothing" title="being added up">…</span>')


class Whole(NamedTuple):
    """What makes numbers whole, as of now."""

    missing: list[str]
    """Parts that do not run."""
    behind: int
    """Ledger events that some read model has not folded yet."""
    books: dict[str, bool]
    """Brand → whether its books add up to zero and tie out with its members."""
    status: dict[str, Any]


def read(reads: Reads, settings: Settings) -> Whole:
    """How everything is now. Raises `Refusal`, or the database's error."""
    status = condition.status(settings)
    ledger = status["ledger"]
    behind = ledger["position"] - min(ledger["projections"].values(), default=0)
    books = {brand: reads.books(brand).balanced for brand in reads.brands()}
    return Whole(status["missing"], behind, books, status)


async def page(brand: str = "") -> None:
    """The page, as it opens and as it goes on."""
    shown = await shell.opened("Audit", brand)
    if shown is None:
        return
    frame = shell.Frame("Audit", shown)
    frame.say("Of the whole system, all brands together; what-if is about the brand chosen above.")
    whole = shell.block(tag("div", loading(1), cls="strip"))
    with shell.grid():
        with shell.card(
            "Read models", "Position, lag and digest of each; all but the last two are built from the ledger.", "full"
        ):
            models = shell.block(loading(8))
            _building(frame, models)
        with shell.card("Positions", "How far the worker is in the activity log, partition by partition.", "w5"):
            positions = shell.block(loading(4))
        with shell.card("Records", "What the worker has taken, and what it has not.", "w7"):
            records = shell.block(loading(4))
        with shell.card("Dead letters", "Records that were refused, each with its reason; kept as they came.", "full"):
            audit_letters.build(frame)
        with shell.card("What if", "What an event would earn now. Nothing is written.", "full"):
            audit_whatif.build(frame)
    _watch(frame, whole, models, positions, records)


def _watch(frame: shell.Frame, whole: ui.html, models: ui.html, positions: ui.html, records: ui.html) -> None:
    """Keep what is told of positions true, as long as the page is open."""
    digests: DigestReport | None = None
    ends: dict[int, int] | None = None

    async def look() -> None:
        if frame.paused:
            return
        found = await frame.attempt(lambda: read(shell.reads(), shell.settings()))
        if found is None:
            return
        whole.content = str(tag("div", verdict(found), cls="strip"))
        models.content = str(read_models(found, digests))
        positions.content = str(partitions(found, ends))
        records.content = str(counted(found))

    async def digest() -> None:
        nonlocal digests
        if not frame.paused:
            digests = await frame.attempt(lambda: verification.digest(shell.settings())) or digests
            await look()

    async def log() -> None:
        nonlocal ends
        if not frame.paused:
            ends = await frame.attempt_async(lambda: kafka.log_ends(shell.settings().brokers, ACTIVITY))

    ui.timer(STATUS_SECONDS, look)
    ui.timer(LOG_SECONDS, log)
    ui.timer(LOG_SECONDS, digest)


# What is told


def verdict(found: Whole) -> Markup:
    """At once: whether the numbers are whole."""
    unbalanced = [brand for brand, whole in found.books.items() if not whole]
    checks = [
        (not found.missing, "every part runs", "; ".join(found.missing)),
        (
            found.behind == 0,
            "read models are at the ledger’s position",
            f"read models are {count(found.behind)} events behind",
        ),
        (not unbalanced, "every brand’s books add up to zero", f"books that do not add up: {', '.join(unbalanced)}"),
    ]
    broken = bool(unbalanced)
    fine = all(good for good, _, _ in checks)
    title = (
        "The numbers are whole" if fine else "The numbers are not whole" if broken else "The numbers are catching up"
    )
    chips = [
        tag(
            "li",
            tag("span", ("✓ " if good else "! ") + (yes if good else no), cls=f"chip {'good' if good else 'warn'}"),
        )
        for good, yes, no in checks
    ]
    return tag("div", tag("strong", title), tag("ul", *chips), cls="whole", role="status")


def read_models(found: Whole, digests: DigestReport | None) -> Markup:
    """Every read model: how far it is, what it has, and a way to build it again."""
    ledger = found.status["ledger"]
    said = {one.name: one for one in digests.projections} if digests else {}
    rows: list[tuple[Child, ...]] = []
    for name, position in ledger["projections"].items():
        one = said.get(name)
        behind = ledger["position"] - position
        lag = tag("span", count(behind), cls="chip good" if behind == 0 else "chip warn")
        digest = tag("code", one.digest) if one else PENDING
        again = tag(
            "button", "Rebuild", cls="button small", type="button", data_model=name, aria_label=f"Rebuild {name}"
        )
        rows.append((name, digest, again, count(one.rows) if one else PENDING, count(position), lag))
    for one in digests.projections if digests else ():
        if isinstance(one.position, str):
            where = tag("span", one.position, title="partition:offset of its topic")
            rows.append((one.name, tag("code", one.digest), NOTHING, count(one.rows), where, NOTHING))
    made = table("Read models", ("Read model", "Digest", unseen("Build again"), "Rows", "Position", "Behind"), rows, 3)
    note = f"The ledger is at {count(ledger['position'])}, the outbox at {count(ledger['outbox'])}."
    return join(made, tag("p", note, cls="foot"))


def partitions(found: Whole, ends: dict[int, int] | None) -> Markup:
    """How far the worker is in each partition."""
    at = found.status["activity"]["positions"]
    if not at:
        return empty("No partition is read yet", "A worker notes its positions here as soon as it runs.")
    rows: list[tuple[Child, ...]] = []
    for name, position in sorted(at.items(), key=lambda item: int(item[0])):
        end = None if ends is None else ends.get(int(name))
        lag: Child = NOTHING if end is None else count(max(0, end - position))
        rows.append((name, count(position), NOTHING if end is None else count(max(end, position)), lag))
    roles = ", ".join(found.status["roles"]) or "nothing"
    made = table("Positions", ("Partition", "Next offset", "Log ends at", "Behind"), rows, 3)
    return join(made, tag("p", f"Running: {roles}.", cls="foot"))


def counted(found: Whole) -> Markup:
    """Counts of records by what became of them."""
    counts = found.status["activity"]["counts"]
    if not counts:
        return empty("No records yet", "What the worker takes, and what it refuses, is counted here.")
    pairs = [tag("div", tag("dt", name.replace("_", " ")), tag("dd", count(number))) for name, number in counts.items()]
    return tag("dl", *pairs, cls="facts")


# Building again


class Work:
    """One rebuild or verification that runs, and how far it is."""

    def __init__(self) -> None:
        self.running = False
        self.at = 0
        self.to = 0

    def told(self, at: int, to: int) -> None:
        """Called from the thread that works."""
        self.at, self.to = at, to


def _building(frame: shell.Frame, models: ui.html) -> None:
    """Buttons that rebuild and verify, a bar that shows how it goes, and what came of it."""
    work = Work()
    with ui.element("div").classes("row").style("margin-top: 14px"):
        buttons = shell.block(
            join(
                tag("button", "Verify all", cls="button primary", type="button", data_verify=True),
                " ",
                tag("button", "Rebuild all", cls="button", type="button", data_model=rebuilding.ALL),
            )
        )
    bar, result = shell.block(), shell.block()

    def draw() -> None:
        if work.running:
            words = (
                f"{count(work.at)} of {count(work.to)} ledger events" if work.to else f"{count(work.at)} ledger events"
            )
            value = f"{100 * work.at / work.to:.0f}" if work.to else None
            bar.content = str(
                tag("div", tag("progress", "", max="100", value=value, aria_label=words), words, cls="note-box")
            )

    async def run(name: str, act: Callable[[], Any], says: Callable[[Any], Markup]) -> None:
        if work.running:
            return
        work.running, work.at, work.to = True, 0, 0
        result.content = ""
        timer = ui.timer(SHOW_PROGRESS_SECONDS, draw)
        found = await frame.attempt(act)
        work.running = False
        timer.cancel()
        bar.content = ""
        words = tag("span", f"{name} did not work; see above.", cls="chip bad") if found is None else says(found)
        result.content = str(tag("div", words, cls="note-box", role="status"))

    async def pressed(event: GenericEventArguments) -> None:
        model = str(event.args)
        settings = shell.settings()
        if model == "verify":
            await run(
                "Verification",
                lambda: asyncio.run(verification.verify(settings, lambda at: work.told(at, 0))),
                verified,
            )
        elif model == rebuilding.ALL or model in {one.name for one in registry.LEDGER}:
            await run("Rebuild", lambda: rebuilding.run(settings, [model], None, work.told), rebuilt)

    pick = (
        "e => { const b = e.target.closest('[data-model],[data-verify]'); if (b) emit(b.dataset.model || 'verify'); }"
    )
    for place in (buttons, models):
        place.on("click", pressed, js_handler=pick)


def verified(report: Report) -> Markup:
    """What a verification came to."""
    if report.same:
        return join(tag("span", "✓", cls="chip good"), " Every read model is what the log says.")
    wrong = [f"{one.name} ({count(one.differing)} rows)" for one in report.projections if not one.same]
    first = next((one.first for one in report.projections if one.first is not None), None)
    key = ", ".join(f"{name}={value}" for name, value in first.key.items()) if first else ""
    more = f" First: {first.table}, the row {key} is {first.what}." if first else ""
    return join(tag("span", "differs", cls="chip bad"), f" Not what the log says: {', '.join(wrong)}.{more}")


def rebuilt(report: RebuildReport) -> Markup:
    """What a rebuild came to."""
    names = ", ".join(one.name for one in report.projections)
    if report.same:
        return join(tag("span", "✓", cls="chip good"), f" Built again, and serving: {names}. No row differed.")
    wrong = ", ".join(one.name for one in report.projections if one.compared and not one.compared.same)
    return join(
        tag("span", "differed", cls="chip warn"),
        f" Built again, and serving: {names}. What served before differed: {wrong}.",
    )
