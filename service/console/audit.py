"""Audit: whether the numbers are whole, how far every part is, and building read models again."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from markupsafe import Markup
from nicegui import ui

from projections.upkeep.digest import DigestReport
from schemas.topics import ACTIVITY
from service import condition
from service.broker import kafka
from service.console import audit_building, audit_letters, audit_whatif, shell
from service.console.markup import NOTHING, Child, count, empty, join, loading, table, tag, unseen
from service.reads import Reads
from service.replay import verification
from service.settings import Settings

STATUS_SECONDS: Final = 2.0
LOG_SECONDS: Final = 10.0
"""How often the broker is asked where the log ends: it takes a connection of its own."""
BOOKS_SECONDS: Final = 60.0
"""How often the books are added up, member by member: of millions of lots that takes seconds."""
PENDING: Final = Markup('<span class="nothing pending" title="being added up">…</span>')


class Whole(NamedTuple):
    """What makes numbers whole, as of now."""

    missing: list[str]
    """Parts that do not run."""
    behind: int
    """Ledger events that some read model has not folded yet."""
    books: dict[str, bool]
    """Brand → whether its books add up to zero and tie out with its members."""
    status: dict[str, Any]


def read(reads: Reads, settings: Settings, books: dict[str, bool] | None = None) -> Whole:
    """How everything is now; `books` when they were added up lately. Raises `Refusal`, or the database's error."""
    status = condition.status(settings)
    ledger = status["ledger"]
    behind = ledger["position"] - min(ledger["projections"].values(), default=0)
    if books is None:
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
            "Read models",
            "Position, lag and digest of each; the last three are built together, from the pane topics.",
            "full",
        ):
            models = shell.block(loading(8))
            audit_building.build(frame, models)
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
    books: dict[str, bool] | None = None

    async def look() -> None:
        nonlocal books
        if frame.paused:
            return
        found = await frame.attempt(lambda: read(shell.reads(), shell.settings(), books))
        if found is None:
            return
        books = found.books
        whole.content = str(tag("div", verdict(found), cls="strip"))
        models.content = str(read_models(found, digests))
        positions.content = str(partitions(found, ends))
        records.content = str(counted(found))

    async def digest() -> None:
        nonlocal digests
        if not frame.paused:
            digests = await frame.attempt(lambda: verification.digest(shell.settings()), "digests") or digests
            await look()

    async def log() -> None:
        nonlocal ends
        if not frame.paused:
            ends = await frame.attempt_async(lambda: kafka.log_ends(shell.settings().brokers, ACTIVITY), "log")

    def add_up_again() -> None:
        nonlocal books
        books = None

    ui.timer(STATUS_SECONDS, look)
    ui.timer(BOOKS_SECONDS, add_up_again)
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
        rows.append((name, digest, _again(name), count(one.rows) if one else PENDING, count(position), lag))
    for one in digests.projections if digests else ():
        if isinstance(one.position, str):
            where = tag("span", one.position, title="partition:offset of its topic")
            rows.append((one.name, tag("code", one.digest), _again(one.name), count(one.rows), where, NOTHING))
    made = table("Read models", ("Read model", "Digest", unseen("Build again"), "Rows", "Position", "Behind"), rows, 3)
    note = f"The ledger is at {count(ledger['position'])}, the outbox at {count(ledger['outbox'])}."
    return join(made, tag("p", note, cls="foot"))


def _again(name: str) -> Markup:
    says = f"Rebuild {name}"
    return tag("button", "Rebuild", cls="button small", type="button", data_model=name, aria_label=says)


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
