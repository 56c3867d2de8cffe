"""What the commands that report on a brand or a campaign print for people."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from service.render_tables import NOTHING, bar, number, row, table, titled

if TYPE_CHECKING:
    from projections.books_answers import BrandBooks, Liability


def books(found: BrandBooks) -> RenderableType:
    """The trial balance and its tie-out."""
    made = table(("account", "holds"), ("points",))
    for one in found.accounts:
        row(made, (one.account, one.holds, one.points))
    made.add_section()
    row(made, ("total", "", found.total))
    tied = table(("sum over the members", ""), ("books", "members"))
    for line in found.tie_out:
        row(tied, (line.what, "ties" if line.ties else "DIFFERS", line.books, line.members))
    said = "The books are balanced and tie out." if found.balanced else "The books do not tie out."
    title = f"Books of {found.brand} at {found.at}, ledger position {number(found.position)}"
    return titled(title, made, tied, Text(said, style="bold"))


def liability(found: Liability) -> RenderableType:
    """What is owed, by month of expiry."""
    made = table(("expires in", ""), ("pending", "active", "in all"))
    most = max((Decimal(month.pending + month.active) for month in found.months), default=None)
    for month in found.months:
        points = month.pending + month.active
        row(made, (month.month or "never", bar(Decimal(points), most), month.pending, month.active, points))
    made.add_section()
    row(made, ("outstanding", "", found.pending, found.active, found.outstanding))
    title = f"Points that {found.brand} owes at {found.at} (months in {found.timezone})"
    return titled(title, made, Text(_worth(found)))


def _worth(found: Liability) -> str:
    debt = f"Members owe {number(found.debt)} points, not taken off here."
    if found.value_minor is None:
        return f"{debt} What points are worth is not said: set `points.value_per_1000` of the brand."
    owed = NOTHING if found.debt_value_minor is None else number(found.debt_value_minor)
    return (
        f"Outstanding points are worth {number(found.value_minor)} minor units of {found.currency} "
        f"({number(found.value_per_1000 or 0)} per 1,000 points). {debt} Worth {owed}."
    )
