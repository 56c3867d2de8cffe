"""Commands that report on a brand as a whole: its books and its liability."""

from __future__ import annotations

from typing import Annotated

import typer

from service.cli_common import AsJson, AsOf, Brand, DataDir, KnownAt, MinPosition, command, open_reads, refused, show

Position = Annotated[
    int | None, typer.Option("--position", min=0, metavar="P", help="Only the ledger up to this position.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(app, "books", "groundswell books acme --as-of 2026-04-01T00:00:00+02:00")(books)
    command(app, "liability", "groundswell liability acme")(liability)


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
    from service import render_reports

    with open_reads(data_dir) as reads:
        found = reads.books(brand, position=position, as_of=as_of, known_at=known_at, min_position=min_position)
    show(found, as_json, render_reports.books)
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
    from service import render_reports

    with open_reads(data_dir) as reads:
        found = reads.liability(brand, as_of=as_of, known_at=known_at, min_position=min_position)
    show(found, as_json, render_reports.liability)
