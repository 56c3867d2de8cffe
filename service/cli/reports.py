"""Commands that report on a brand or a campaign as a whole: books, liability, results, and whom to ask."""

from __future__ import annotations

from typing import Annotated

import typer

from projections.rates import Window
from service.cli.command import (
    AsJson,
    AsOf,
    Brand,
    Campaign,
    DataDir,
    KnownAt,
    Limit,
    MinPosition,
    NoKnownAt,
    WindowOf,
    command,
    open_reads,
    refused,
    show,
)

Position = Annotated[
    int | None,
    typer.Option("--position", min=0, metavar="P", help="Only the ledger up to this position, such as 471."),
]

TierOf = Annotated[
    str | None,
    typer.Option(
        "--tier", metavar="TIER", help="Only members who are in this tier, such as nano, now or as of --as-of."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(app, "books", "groundswell books acme --as-of 2026-04-01T00:00:00+02:00")(books)
    command(app, "liability", "groundswell liability acme")(liability)
    command(app, "report", "groundswell report acme spring")(report)
    command(app, "ambassadors", "groundswell ambassadors acme --tier nano --limit 10")(ambassadors)


def books(
    brand: Brand,
    position: Position = None,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    min_position: MinPosition = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show a brand's double entry at an instant, tied out with its members' balances; 1 if it does not tie out."""
    from service.render import reports

    with open_reads(data_dir) as reads:
        found = reads.books(brand, position=position, as_of=as_of, known_at=known_at, min_position=min_position)
    show(found, as_json, reports.books)
    refused(not found.balanced)


def liability(
    brand: Brand,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    min_position: MinPosition = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show the points a brand owes by the month in which they expire, and what they are worth."""
    from service.render import reports

    with open_reads(data_dir) as reads:
        found = reads.liability(brand, as_of=as_of, known_at=known_at, min_position=min_position)
    show(found, as_json, reports.liability)


def report(
    brand: Brand,
    campaign: Campaign,
    as_of: AsOf = None,
    known_at: NoKnownAt = None,
    min_position: MinPosition = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what a campaign brought and cost: engagement by tier, members, referrals, revenue and points, by day."""
    from service.render import reports

    with open_reads(data_dir) as reads:
        found = reads.report(brand, campaign, as_of=as_of, known_at=known_at, min_position=min_position)
    show(found, as_json, reports.campaign)


def ambassadors(
    brand: Brand,
    window: WindowOf = Window.MONTH,
    tier: TierOf = None,
    limit: Limit = 20,
    as_of: AsOf = None,
    known_at: NoKnownAt = None,
    min_position: MinPosition = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show whom to ask: members by how strongly they are answered and by the sales they bring, with the reasons."""
    from service.render import reports

    with open_reads(data_dir) as reads:
        found = reads.ambassadors(
            brand, window, tier=tier, limit=limit, as_of=as_of, known_at=known_at, min_position=min_position
        )
    show(found, as_json, reports.ambassadors)
