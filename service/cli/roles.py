"""Commands that run or prepare something: the embedded stack, the production roles, topics, tables, waiting."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer

from service.cli.command import (
    AsJson,
    DataDir,
    command,
    group,
    note,
    progress_line,
    refused,
    say,
    settings_of,
    show_data,
)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(app, "up", "groundswell up --data-dir ./stack --port 8080")(up)
    command(app, "demo", "groundswell demo --exit")(demo)
    command(app, "worker", "groundswell worker --data-dir ./stack")(worker)
    command(app, "projector", "groundswell projector --data-dir ./stack")(projector)
    command(app, "api", "groundswell api --data-dir ./stack")(api)
    command(app, "archiver", "groundswell archiver --data-dir ./stack")(archiver)
    topics = group("topics", "Make and check the Kafka topics.")
    command(topics, "create", "groundswell topics create --replication-factor 3")(topics_create)
    command(topics, "check", "groundswell topics check")(topics_check)
    command(topics, "accept", "groundswell topics accept --yes")(topics_accept)
    app.add_typer(topics)
    command(app, "migrate", "groundswell migrate")(migrate)
    command(app, "wait", "groundswell wait --timeout 120")(wait)
    command(app, "status", "groundswell status --json")(status)


def up(
    data_dir: DataDir = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of the API; default: 8080.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Set what a stack before left there aside.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from what a stack before left there; without any, start anew.")
    ] = False,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="Without a worker: start it yourself.")] = False,
) -> None:
    """Run the embedded stack on loopback until Ctrl-C: broker, worker, projector, API and console in one command."""
    from service.embedded import stack
    from service.settings import from_environment

    settings = from_environment()
    where = data_dir or settings.data_dir
    port = port or settings.port

    def telling() -> AbstractContextManager[Callable[[str], None]]:
        return progress_line("resuming")

    raise typer.Exit(stack.up(where, port, fresh=fresh, resuming=resume, no_worker=no_worker, telling=telling))


def demo(
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Real input files instead of a simulated community.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed, another community.")] = 1,
    members: Annotated[int, typer.Option(min=1, max=100_000, help="Members of the community.")] = 3_000,
    exit_after: Annotated[bool, typer.Option("--exit", help="End when the tables are printed.")] = False,
    speed: Annotated[
        float,
        typer.Option(min=0, max=86_400, help="Simulated seconds per second after the tables; 0: stand still."),
    ] = 3_600,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of the API; default: one near 8080.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Play a community, or the real files, through a fresh embedded stack: tables, a verification, and the console."""
    from service.feeds.demo import demo as play

    raise typer.Exit(play(data_dir, data, seed, members, exit_after, port, speed))


def worker(data_dir: DataDir = None) -> None:
    """Run a worker: reads the activity log, decides points, measures engagement."""
    from service import logs
    from service.roles import worker as role

    logs.for_a_role()
    raise typer.Exit(role.run(settings_of(data_dir)))


def projector(data_dir: DataDir = None) -> None:
    """Run the projector: keeps the read models and sends what follows from the ledger."""
    from service import logs
    from service.roles import projector as role

    logs.for_a_role()
    raise typer.Exit(role.run(settings_of(data_dir)))


def api(data_dir: DataDir = None) -> None:
    """Run the HTTP API and the console: on loopback, or with API keys on GROUNDSWELL_HOST."""
    from service import logs
    from service.api import server

    logs.for_a_role()
    raise typer.Exit(server.run(settings_of(data_dir)))


def archiver(data_dir: DataDir = None) -> None:
    """Run the archiver of the embedded stack: puts the activity log on disk before anybody counts on it."""
    from service import logs
    from service.embedded import archiver as role

    logs.for_a_role()
    raise typer.Exit(role.run(settings_of(data_dir)))


def topics_create(
    replication_factor: Annotated[int, typer.Option(min=1, help="Replicas of each new topic.")] = 1,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Create the topics that are missing; those that are there stay as they are."""
    import asyncio

    from service.broker import topic_admin

    created = asyncio.run(topic_admin.create(settings_of(data_dir), replication_factor))
    show_data({"created": created}, as_json, lambda _: "\n".join(f"created {name}" for name in created) or "all there")


def topics_check(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Compare the broker's topics with what the roles need."""
    import asyncio

    from service.broker import topic_admin

    wrong = asyncio.run(topic_admin.check(settings_of(data_dir)))
    show_data({"problems": wrong}, as_json, lambda _: "\n".join(wrong) or "all topics are as they must be")
    refused(bool(wrong))


def topics_accept(
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this, only say what would happen.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Go on with the logs as they are, after a topic was made anew or cut; says what is lost."""
    import asyncio

    from service import accept

    settings = settings_of(data_dir)
    wanted = asyncio.run(accept.changes(settings))
    sent = asyncio.run(accept.go_on(settings, wanted)) if yes and wanted else {}
    changes = [{"partition": c.partition, "position": c.position, "says": c.sentence} for c in wanted.of_partitions]
    body = {"changes": changes, "anew": sorted(wanted.anew), "accepted": yes, "sent": sent}
    lines = [*wanted.sentences(), *(f"sent again: {count:,} {kind}" for kind, count in sorted(sent.items()))]
    show_data(body, as_json, lambda _: "\n".join(lines) or "the logs are as they were read")
    if wanted and not yes:
        note("nothing was changed: stop the workers, and run this again with --yes")
        refused(True)


def migrate(data_dir: DataDir = None) -> None:
    """Create the tables that are missing, once, before the roles start."""
    from service.migrate import migrate as run

    run(settings_of(data_dir).database)
    say("the database has every table")


def wait(
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait at most.")] = 60.0, data_dir: DataDir = None
) -> None:
    """Return when everything published so far, and all derived from it, is in every table."""
    import asyncio

    from service import waiting

    settings = settings_of(data_dir)
    with progress_line("waiting") as told:
        asyncio.run(waiting.wait(settings, timeout, told))


def status(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show settings (secrets hidden), roles, positions, and counts of what was taken and refused."""
    import asyncio

    from service import condition
    from service.render import answers

    settings = settings_of(data_dir)
    found = condition.status(settings, asyncio.run(condition.look_at_log(settings)))
    show_data(found, as_json, answers.status)
    for line in found["missing"] if not as_json else ():
        note(f"not ready: {line}")
