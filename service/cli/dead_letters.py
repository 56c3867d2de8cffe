"""Commands for dead letters: list what was refused, show one with what can be done, send them again."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas.dead_letters import Reason
from service.cli.command import (
    AsJson,
    DataDir,
    command,
    console,
    group,
    note,
    progress,
    refused,
    settings_of,
    show,
    show_data,
    some,
)
from service.problems import Unusable

if TYPE_CHECKING:
    from service.dead_letters.listing import Letter, Selection
    from service.dead_letters.redrive import Plan
    from service.settings import Settings


class State(StrEnum):
    """What became of a letter."""

    OPEN = "open"
    REDRIVEN = "redriven"


Reasons = Annotated[
    list[Reason] | None,
    typer.Option("--reason", metavar="R", help="Only this reason, such as unknown_campaign; may be given again."),
]
Partition = Annotated[
    int | None, typer.Option("--partition", metavar="P", min=0, help="Only records of this partition of the log.")
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="T", help="Only records stamped at T or later: ISO 8601 with zone, or epoch ms."),
]
Until = Annotated[
    str | None,
    typer.Option("--until", metavar="T", help="Only records stamped before T: ISO 8601 with zone, or epoch ms."),
]
OfBrand = Annotated[
    str | None,
    typer.Option("--brand", metavar="B", callback=some, help="Only records whose key names this brand, by id."),
]
Place = Annotated[
    str, typer.Argument(metavar="PARTITION:OFFSET", help="Where the refused record stands in the activity log.")
]
Places = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PARTITION:OFFSET]...", help="Where the refused records stand in the activity log."),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    letters = group("dlt", "Dead letters: records that were refused, with their reasons.")
    command(letters, "list", "groundswell dlt list --reason unknown_brand --limit 20")(dlt_list)
    command(letters, "show", "groundswell dlt show 0:15")(dlt_show)
    command(letters, "redrive", "groundswell dlt redrive --reason unknown_brand --brand acme --dry-run")(dlt_redrive)
    app.add_typer(letters)


def dlt_list(
    reason: Reasons = None,
    partition: Partition = None,
    since: Since = None,
    until: Until = None,
    brand: OfBrand = None,
    state: Annotated[State | None, typer.Option("--state", help="Only open or only redriven ones.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Letters at most.")] = 100,
    summary: Annotated[bool, typer.Option("--summary", help="Counts by reason and brand instead.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List the records that were refused, in log order, each with its reason; or count them."""
    from service.dead_letters import answers
    from service.render import dead_letters as render_dead_letters

    wanted = _selection(reason, partition, since, until, brand, state=state)
    letters = wanted.of(_load(settings_of(data_dir)))
    if summary:
        counts = answers.counts(letters)
        body = {"summary": [count.model_dump(mode="json") for count in counts]}
        show_data(body, as_json, lambda _: render_dead_letters.counts(counts))
        return
    found = [answers.described(letter) for letter in letters[:limit]]
    body = {"dead_letters": [letter.model_dump(mode="json") for letter in found]}
    show_data(body, as_json, lambda _: render_dead_letters.letters(found, len(letters)))


def dlt_show(position: Place, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show everything about one refused record, what its reason means and what can be done about it."""
    import asyncio

    from service.dead_letters import answers, listing, redrive
    from service.render import dead_letters as render_dead_letters

    place = listing.at(position)
    settings = settings_of(data_dir)
    letters = [letter for letter in _load(settings) if letter.source == place]
    listing.check_found([place], letters)
    latest = letters[-1:]  # before it one of an older log, if the log was made anew and its dead letters were kept
    _, no = asyncio.run(redrive.verdicts(settings, latest))[0]
    found = answers.described_in_full(latest[0], "" if no is None else f"{no[0]}: {no[1]}")
    show(found, as_json, render_dead_letters.letter)


def dlt_redrive(
    positions: Places = None,
    reason: Reasons = None,
    partition: Partition = None,
    since: Since = None,
    until: Until = None,
    brand: OfBrand = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Records to send at most.")] = None,
    max_redrives: Annotated[
        int, typer.Option("--max-redrives", min=1, help="Refuse what was redriven so often before.")
    ] = 3,
    force: Annotated[
        bool, typer.Option("--force", help="Also send what will be refused again; nothing is ever signed.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Send refused records again, once their cause is mended: all open ones, or those chosen.

    Byte for byte, with their keys and headers, to the partition where they belong. What would only be refused
    again is not sent and named, and the exit code is 1. Running it again sends only what is still open.
    """
    import asyncio

    from service.dead_letters import listing, redrive

    wanted = _selection(reason, partition, since, until, brand, positions=positions)
    settings = settings_of(data_dir)
    letters = wanted.of(_load(settings))
    listing.check_found(wanted.positions, letters)
    plan = asyncio.run(redrive.plan(settings, letters, force=force, max_redrives=max_redrives, limit=limit))
    if plan.sending and not dry_run:
        if not yes:
            _ask(plan, as_json)
        with progress("sending again", len(plan.sending)) as done:
            too_large = asyncio.run(redrive.send(settings, plan.sending, done))
        plan.leave_out(too_large)
    _show_plan(plan, dry_run, as_json)
    refused(bool(plan.refused))


def _selection(
    reasons: list[Reason] | None,
    partition: int | None,
    since: str | None,
    until: str | None,
    brand: str | None,
    *,
    state: State | None = None,
    positions: list[str] | None = None,
) -> Selection:
    from service.dead_letters import listing

    return listing.Selection(
        frozenset(reasons or ()),
        partition,
        listing.moment(since, "since"),
        listing.moment(until, "until"),
        brand,
        state,
        frozenset(map(listing.at, positions or ())),
    )


def _load(settings: Settings) -> list[Letter]:
    import asyncio

    from service.dead_letters import listing

    with progress("reading dead letters") as done:
        letters, foreign = asyncio.run(listing.load(settings, done))
    if foreign:
        note(f"{foreign} records of the dead-letter topic have not our headers: they are left out")
    return letters


def _ask(plan: Plan, as_json: bool) -> None:
    """Raises `Unusable` when nobody agrees."""
    from service.render import dead_letters as render_dead_letters

    count = len(plan.sending)
    if as_json or not sys.stdin.isatty():
        raise Unusable(f"this would send {count} records again: add --yes, or --dry-run to see which")
    console(stderr=True).print(render_dead_letters.plan(plan, True))
    if not typer.confirm(f"Send {count} records again?", err=True):
        raise Unusable("nothing was sent")


def _show_plan(plan: Plan, dry_run: bool, as_json: bool) -> None:
    from service.render import dead_letters as render_dead_letters

    body: dict[str, Any] = {
        "dry_run": dry_run,
        "redriven": len(plan.sending),
        "refused": len(plan.refused),
        "already_redriven": len(plan.before),
        "by_reason": [row._asdict() for row in plan.by_reason()],
        "refusals": [
            {"source": str(no.letter.source), "reason": no.letter.reason, "code": no.code, "why": no.why}
            for no in plan.refused
        ],
    }
    show_data(body, as_json, lambda _: render_dead_letters.plan(plan, dry_run))
