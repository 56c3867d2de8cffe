"""Commands that bring something in: definitions, files, the real data sets, and a simulation."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from service.cli.command import AsJson, DataDir, command, group, refused, settings_of, show_data, some


class Published(StrEnum):
    """What `publish` takes."""

    INTERACTIONS = "interactions"
    PURCHASES = "purchases"
    PROFILES = "profiles"
    ENROLMENTS = "enrolments"


BrandOption = Annotated[str, typer.Option("--brand", metavar="B", help="Brand that the records are for.")]
Define = Annotated[
    bool, typer.Option("--define", help="First apply a fitting brand and campaign, the ones that `demo` uses.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(app, "apply", "groundswell apply programs.yaml --check")(apply)
    command(app, "publish", "groundswell publish purchases orders.csv --map columns.yaml")(publish)
    importers = group("import", "Publish one of the two real data sets, with its grouping rules.")
    command(importers, "online-retail", "groundswell import online-retail onlineretail.csv.gz --brand shop --define")(
        import_online_retail
    )
    command(importers, "tweets", "groundswell import tweets events.csv --brand elgl --define")(import_tweets)
    app.add_typer(importers)
    command(app, "simulate", "groundswell simulate --seed 7 --members 500 --days 10")(simulate)


def apply(
    files: Annotated[list[Path], typer.Argument(metavar="FILE.yaml...", help="Brands and campaigns, in order.")],
    check: Annotated[
        bool, typer.Option("--check", help="Only say what would become of them, and what is seldom meant.")
    ] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Publish brand and campaign definitions; returns when they apply to whatever is published next."""
    import asyncio

    from service import definitions

    found = definitions.read_definitions(files)  # a bad file is said even where no stack runs
    settings = settings_of(data_dir)
    if check:
        from service import checking
        from service.render import answers

        checks = checking.check(settings, found)
        lines = [f"{one.definition}: {one.verdict}" for one in checks]
        body = {"definitions": lines, "checked_only": True, "checks": [one.model_dump() for one in checks]}
        show_data(body, as_json, lambda _: answers.checks(checks))
        refused(any(one.verdict == "refused" for one in checks))
        return
    lines = asyncio.run(definitions.apply_documents(settings, found))
    show_data({"definitions": lines, "checked_only": False}, as_json, lambda _: "\n".join(lines))


def publish(
    what: Annotated[Published, typer.Argument(metavar="TYPE", help=f"One of {', '.join(Published)}.")],
    file: Annotated[
        str, typer.Argument(metavar="FILE", callback=some, help="JSON Lines, CSV or Avro, also .gz; - is stdin.")
    ],
    mapping: Annotated[
        Path | None, typer.Option("--map", metavar="MAP.yaml", help="`field: column` pairs, and `constants:`.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Publish the lines of a file; refused ones go to FILE.rejected.jsonl, each with its reason."""
    from service.cli.publishing import Rejected, publish_lines
    from service.feeds import reading
    from service.instants import now_ms

    settings = settings_of(data_dir)
    renamed = None if mapping is None else reading.load_mapping(mapping)
    rejected = Rejected(file)
    lines = reading.read(file, reading.RECORD_TYPES[what], renamed, now_ms=now_ms())
    publish_lines(settings, lines, rejected, as_json)


def import_online_retail(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="onlineretail.csv.gz of UCI Online Retail.")],
    brand: BrandOption,
    define: Define = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Publish the purchases and refunds of UCI Online Retail; lines without a customer are left out and counted."""
    from collections import Counter

    from service.cli.publishing import Rejected, define_or_check, publish_lines
    from service.feeds import online_retail

    settings = settings_of(data_dir)
    define_or_check(settings, brand, online_retail.definition(brand) if define else None)
    left_out: Counter[str] = Counter()
    publish_lines(settings, online_retail.records(file, brand, left_out), Rejected(str(file)), as_json, left_out)


def import_tweets(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="events.csv of elgl19.")],
    brand: BrandOption,
    define: Define = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Publish the posts, likes, shares, comments and mentions of elgl19, with follower counts."""
    from collections import Counter

    from service.cli.publishing import Rejected, define_or_check, publish_lines
    from service.feeds import tweets

    settings = settings_of(data_dir)
    define_or_check(settings, brand, tweets.definition(brand) if define else None)
    left_out: Counter[str] = Counter()
    publish_lines(settings, tweets.records(file, brand, left_out), Rejected(str(file)), as_json, left_out)


def simulate(
    seed: Annotated[int, typer.Option(help="Another seed, another community.")] = 1,
    members: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many members.")] = 3_000,
    days: Annotated[int, typer.Option(min=1, max=366, help="How many days they are active.")] = 30,
    rate: Annotated[
        str | None, typer.Option(metavar="N/s", help="Records a second at most, such as 500/s; default: no limit.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Publish a simulated community with definitions of its own; the same arguments give the same records."""
    from service.cli.publishing import Rejected, define_or_check, parse_rate, publish_lines
    from service.feeds import simulation

    a_second = parse_rate(rate)
    settings = settings_of(data_dir)
    define_or_check(settings, simulation.BRAND, simulation.definitions(days))
    records = simulation.community(seed, members, days).records()
    publish_lines(settings, records, Rejected("simulation"), as_json, a_second=a_second)
