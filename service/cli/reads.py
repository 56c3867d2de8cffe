"""Commands that read: points, standings, engagement, why, digests, and what differs from a rebuild."""

from __future__ import annotations

from typing import Annotated

import typer

from projections.rates import Window
from service.cli.command import (
    AsJson,
    AsOf,
    Brand,
    Campaign,
    CampaignOf,
    Cursor,
    DataDir,
    KnownAt,
    Limit,
    Member,
    MinPosition,
    NoKnownAt,
    PlatformOf,
    WindowOf,
    command,
    open_reads,
    settings_of,
    show,
    some,
)

MemberOf = Annotated[str | None, typer.Option("--member", metavar="M", callback=some, help="Only this member, by id.")]
Entry = Annotated[str | None, typer.Argument(metavar="ENTRY", help="Entry id of the statement; default: all.")]
EventOf = Annotated[
    str | None,
    typer.Option("--event", metavar="E", help="Follow this event forward: its id, or partition:offset of its record."),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(app, "balance", "groundswell balance acme ann --as-of 2026-03-15T12:00:00Z")(balance)
    command(app, "statement", "groundswell statement acme ann --limit 20")(statement)
    command(app, "campaigns", "groundswell campaigns acme --as-of 2026-03-15T12:00:00Z")(campaigns)
    command(app, "standings", "groundswell standings acme spring --limit 10")(standings)
    command(app, "engagement", "groundswell engagement acme --window 7d --campaign spring")(engagement)
    command(app, "posts", "groundswell posts acme ann --window 7d")(posts)
    command(app, "tiers", "groundswell tiers acme --window all")(tiers)
    command(app, "explain", "groundswell explain acme ann --event e-1")(explain)
    command(app, "whatif", "groundswell whatif acme ann event.json")(whatif)
    command(app, "digest", "groundswell digest --json")(digest)


def balance(
    brand: Brand,
    member: Member,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    min_position: MinPosition = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show a member's points: active, pending, spent, expired and reversed."""
    from service.render import answers

    with open_reads(data_dir) as reads:
        found = reads.balance(brand, member, as_of=as_of, known_at=known_at, min_position=min_position)
    show(found, as_json, answers.balance)


def statement(
    brand: Brand,
    member: Member,
    limit: Limit = 100,
    cursor: Cursor = None,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    min_position: MinPosition = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show a member's movements of points, each with the rule and the record behind it."""
    from service.render import answers

    with open_reads(data_dir) as reads:
        found = reads.statement(
            brand, member, cursor=cursor, limit=limit, as_of=as_of, known_at=known_at, min_position=min_position
        )
    show(found, as_json, answers.statement)


def campaigns(
    brand: Brand,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    min_position: MinPosition = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show a brand's campaigns: version, status, window, and what each has spent of its budget."""
    from service.render import campaigns as render_campaigns

    with open_reads(data_dir) as reads:
        found = reads.campaigns(brand, as_of=as_of, known_at=known_at, min_position=min_position)
    show(found, as_json, render_campaigns.campaigns)


def standings(
    brand: Brand,
    campaign: Campaign,
    settled: Annotated[bool, typer.Option("--settled", help="Those that the prizes are of.")] = False,
    retroactive: Annotated[
        bool, typer.Option("--retroactive", help="Those that `replay standings` derived over all records.")
    ] = False,
    limit: Limit = 100,
    cursor: Cursor = None,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    min_position: MinPosition = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show a campaign's ranking; equal scores share a rank."""
    from service.render import campaigns as render_campaigns

    with open_reads(data_dir) as reads:
        found = reads.standings(
            brand,
            campaign,
            settled=settled,
            retroactive=retroactive,
            cursor=cursor,
            limit=limit,
            as_of=as_of,
            known_at=known_at,
            min_position=min_position,
        )
    show(found, as_json, render_campaigns.standings)


def engagement(
    brand: Brand,
    window: WindowOf = Window.DAY,
    campaign: CampaignOf = None,
    platform: PlatformOf = None,
    member: MemberOf = None,
    as_of: AsOf = None,
    known_at: NoKnownAt = None,
    min_position: MinPosition = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show a brand's counts, sales and rates in a window, or those of one member."""
    from service.render import answers

    with open_reads(data_dir) as reads:
        if member is None:
            report = reads.engagement(
                brand,
                window,
                campaign=campaign,
                platform=platform,
                as_of=as_of,
                known_at=known_at,
                min_position=min_position,
            )
            show(report, as_json, answers.engagement)
        else:
            of_member = reads.member_engagement(
                brand,
                member,
                window,
                campaign=campaign,
                platform=platform,
                as_of=as_of,
                known_at=known_at,
                min_position=min_position,
            )
            show(of_member, as_json, answers.engagement)


def posts(
    brand: Brand,
    member: Member,
    window: WindowOf = Window.DAY,
    platform: PlatformOf = None,
    limit: Limit = 100,
    as_of: AsOf = None,
    known_at: NoKnownAt = None,
    min_position: MinPosition = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show a member's posts with any activity in a window, most engagements first, each with its rates."""
    from service.render import answers

    with open_reads(data_dir) as reads:
        found = reads.posts(
            brand,
            member,
            window,
            platform=platform,
            limit=limit,
            as_of=as_of,
            known_at=known_at,
            min_position=min_position,
        )
    show(found, as_json, answers.posts)


def tiers(
    brand: Brand,
    window: WindowOf = Window.DAY,
    campaign: CampaignOf = None,
    platform: PlatformOf = None,
    member: MemberOf = None,
    as_of: AsOf = None,
    known_at: NoKnownAt = None,
    min_position: MinPosition = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show engagement by influence tier with rates as bars, or the tier of one member."""
    from service.render import answers

    with open_reads(data_dir) as reads:
        if member is None:
            report = reads.tiers(
                brand,
                window,
                campaign=campaign,
                platform=platform,
                as_of=as_of,
                known_at=known_at,
                min_position=min_position,
            )
            show(report, as_json, answers.tiers)
        else:
            tier = reads.member_tier(brand, member, as_of=as_of, known_at=known_at, min_position=min_position)
            show(tier, as_json, answers.member_tier)


def explain(
    brand: Brand,
    member: Member,
    entry: Entry = None,
    event: EventOf = None,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    min_position: MinPosition = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show where each of a member's points comes from, and what paid nothing; or all that an event caused."""
    from service.problems import Refusal
    from service.render import explain as render_explain

    if event is not None and entry is not None:
        raise Refusal("invalid_request", "give an entry to explain, or --event to follow one forward; not both")
    with open_reads(data_dir) as reads:
        if event is not None:
            caused = reads.effects(brand, member, event, as_of=as_of, known_at=known_at, min_position=min_position)
            show(caused, as_json, render_explain.effects)
        else:
            found = reads.explain(brand, member, entry, as_of=as_of, known_at=known_at, min_position=min_position)
            show(found, as_json, render_explain.explanation)


def whatif(
    brand: Brand,
    member: Member,
    file: Annotated[
        str, typer.Argument(metavar="FILE", callback=some, help="One event as JSON, with its `type`; - is stdin.")
    ],
    min_position: MinPosition = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what an event would earn a member, rule by rule, and why; nothing is written."""
    import sys
    from pathlib import Path

    from service import whatif
    from service.render import whatif as render_whatif

    event = whatif.read_event(sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes())
    with open_reads(data_dir) as reads:
        found = reads.what_if(brand, member, event, min_position=min_position)
    show(found, as_json, render_whatif.what_if)


def digest(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show one number for the content of each read model: two builds of one log must agree on it."""
    from service.render import answers
    from service.replay import verification

    show(verification.digest(settings_of(data_dir)), as_json, answers.digest)
