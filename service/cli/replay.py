"""Commands that build again: read models from the ledger, and the ledger's decisions from the activity log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.cli.command import (
    AsJson,
    Brand,
    Campaign,
    DataDir,
    command,
    group,
    note,
    progress,
    refused,
    settings_of,
    show,
)

Names = Annotated[list[str], typer.Argument(metavar="NAME…|all", help="Read models as `digest` lists them, or all.")]
StopAt = Annotated[
    int | None,
    typer.Option("--stop-at", metavar="P", min=0, help="Build up to this ledger position, a number, and swap nothing."),
]
From = Annotated[
    int, typer.Option("--from", metavar="P", min=1, help="The first ledger position whose records are sent again.")
]
Rollback = Annotated[bool, typer.Option("--rollback", help="Have what served before the last swap serve again.")]

Source = Annotated[
    str, typer.Option("--from", metavar="topics|ARCHIVE", help="The log: in its topic, or an archive's directory.")
]
Candidate = Annotated[
    Path | None,
    typer.Option("--candidate", metavar="FILE.yaml", help="Definitions to try in the place of those that applied."),
]
Until = Annotated[
    str | None,
    typer.Option("--until", metavar="T", help="Only records that were on the log by T, ISO 8601 with zone."),
]
Top = Annotated[int, typer.Option("--top", min=1, help="Members and places that are shown; --json has all.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    replay = group("replay", "Build again from the ledger, or derive again from the log, and compare.")
    command(replay, "verify", "groundswell replay verify")(verify)
    command(replay, "rebuild", "groundswell replay rebuild statements balances")(rebuild)
    command(replay, "republish", "groundswell replay republish --from 1")(republish)
    command(replay, "rederive", "groundswell replay rederive --candidate better-rules.yaml")(rederive)
    command(replay, "standings", "groundswell replay standings acme spring")(standings)
    command(replay, "known-at", "groundswell replay known-at 2026-03-15T00:00:00Z march-15")(known_at)
    app.add_typer(replay)


def verify(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Rebuild every read model in the side and compare; names the first row that differs, and ends with 1."""
    import asyncio

    from service.render import replay as render_replay
    from service.replay import verification

    settings = settings_of(data_dir)
    with progress("rebuilding") as done:
        report = asyncio.run(verification.verify(settings, done))
    show(report, as_json, render_replay.verification)
    refused(not report.same)


def rebuild(
    names: Names, stop_at: StopAt = None, rollback: Rollback = False, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Build read models anew beside those that serve, compare, and swap; ends with 1 when a row that served differed.

    Interrupted, it goes on where it was when it is run again. What served before the swap is kept until the next one.
    """
    from service.problems import Unusable
    from service.render import replay as render_replay
    from service.replay import rebuilding

    settings = settings_of(data_dir)
    if rollback:
        if stop_at is not None:
            raise Unusable("--rollback swaps what is there, --stop-at builds: give one of them")
        report = rebuilding.go_back(settings, names)
    else:
        with progress("building", rate="events/s") as done:
            report = rebuilding.run(settings, names, stop_at, done)
    show(report, as_json, render_replay.rebuilt)
    refused(not report.same)


def republish(start: From = 1, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Have the projector send the ledger's topics again: entries, balances and standings; rebuilds never do.

    Consumers drop what they have by the position in each record.
    """
    from aggregates.database import open_database
    from service import outbound
    from service.render import replay as render_replay

    engine = open_database(settings_of(data_dir).database)
    try:
        before = outbound.republish(engine, start)
    finally:
        engine.dispose()
    show(outbound.Republished(from_position=start, to_position=before), as_json, render_replay.republished)


def rederive(
    source: Source = "topics",
    candidate: Candidate = None,
    until: Until = None,
    top: Top = 10,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Run the activity log through today's code, and name each decision that differs, by cause; 1 if one does.

    With --candidate: what those definitions would have paid, by tier, day and member, and the standings. Nothing is
    written but a scratch file, and nothing is sent.
    """
    from contextlib import ExitStack

    from service.instants import instant
    from service.render import rederive as render_rederive
    from service.replay import candidates, rederiving

    settings = settings_of(data_dir)
    end = None if until is None else instant(until, "until")
    tried = None if candidate is None else candidates.candidate_of(candidate)
    with ExitStack() as stack:
        with progress("reading the ledger", rate="decisions/s") as copied:
            run = stack.enter_context(rederiving.opened(settings, source, copied, tried, end))
        with progress("deriving", rate="records/s") as done:
            if candidate is None:
                report = rederiving.compare(run, source, done)
            else:
                would = candidates.what_if(run, source, settings.min_posts, done)
    if candidate is None:
        show(report, as_json, render_rederive.report)
        refused(not report.same)
    else:
        show(would, as_json, lambda found: render_rederive.candidate(found, top))
        refused(not would.same)


def standings(
    brand: Brand,
    campaign: Campaign,
    source: Source = "topics",
    top: Top = 10,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Derive a campaign's standings as if it had been defined before all records; nothing is paid.

    They are kept, and `standings --retroactive` shows them, until they are derived again. Ends with 1 when the log does
    not have all records.
    """
    from contextlib import ExitStack

    from service.reads import Reads
    from service.render import campaigns
    from service.replay import rederiving, retroactive

    settings = settings_of(data_dir)
    with ExitStack() as stack:
        with progress("reading the ledger", rate="decisions/s") as copied:
            accepted = retroactive.accepted(brand, campaign)
            run = stack.enter_context(rederiving.opened(settings, source, copied, accepted))
        with progress("deriving", rate="records/s") as done:
            missing = retroactive.derive(run, settings, done)
    reads = Reads(settings)
    try:
        show(reads.standings(brand, campaign, retroactive=True, limit=top), as_json, campaigns.standings)
    finally:
        reads.close()
    for one in missing:
        note(one.sentence)
    refused(bool(missing))


def known_at(
    known: Annotated[str, typer.Argument(metavar="T", help="The instant, ISO 8601 with zone.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A directory that is to be made.")],
    source: Source = "topics",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a database of everything as it was known at T, which every read command answers from by --data-dir DIR.

    Engagement and tiers too, which keep no recorded time: they are folded again from what was on the log by then. Ends
    with 1 when the log does not have all of that any more.
    """
    from service.instants import instant
    from service.render import rederive as render_rederive
    from service.replay import known as making

    settings = settings_of(data_dir)
    until = instant(known, "T")
    with progress("folding", rate="records/s") as done:
        made = making.make(settings, source, directory, until, done)
    show(made, as_json, render_rederive.known)
    refused(made.missing > 0)
