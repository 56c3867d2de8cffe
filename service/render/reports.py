"""What the commands that report on a brand or a campaign print for people."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from service.render.tables import NOTHING, bar, number, percent, row, table, titled

if TYPE_CHECKING:
    from projections.answers.books import BrandBooks, Liability
    from projections.answers.reports import Ambassadors, CampaignReport, Results


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


def campaign(found: CampaignReport) -> RenderableType:
    """What a campaign brought and cost."""
    title = f"{found.brand}/{found.campaign}, everything before {found.to or 'now'}"
    facts = table(("", " "))
    facts.show_header = False
    for name, value in _bottom_line(found):
        row(facts, (name, value))
    tiers = table(("tier", "rate by followers"), ("rate", "by reach", "members", "posts", "reach", "engagements"))
    most = max((one.rate_by_followers or Decimal(0) for one in found.tiers), default=None)
    for one in found.tiers:
        shown = (percent(one.rate_by_followers), percent(one.rate_by_reach))
        counted = (one.members, one.posts, one.reach, one.engagements)
        row(tiers, (one.tier, bar(one.rate_by_followers, most), *shown, *counted))
    return Group(titled(title, facts), titled("By influence tier", tiers), _by_day(found))


def _bottom_line(found: CampaignReport) -> list[tuple[str, object]]:
    total, budget = found.total, found.budget
    left = "no limit" if budget.left is None else f"{number(budget.left)} of {number(budget.points or 0)} left"
    return [
        ("members taking part", total.members),
        ("reach", total.reach),
        ("engagements", f"{number(total.engagements)} on {number(total.posts)} posts"),
        ("rate by followers", percent(total.rate_by_followers)),
        ("rate by reach", percent(total.rate_by_reach)),
        (f"revenue less refunds, minor {found.currency}", _money(total)),
        ("referrals", f"{number(total.referrals)}, worth {number(total.referred_revenue_minor)} less refunds"),
        ("points paid", f"{number(total.points_paid)} - {number(total.points_reversed)} = {number(total.points_net)}"),
        ("prize points", total.prize_points),
        ("budget", f"{number(budget.used)} used, {left}"),
    ]


def _money(total: Results) -> str:
    return (
        f"{number(total.revenue_minor)} - {number(total.refunds_minor)} = {number(total.net_revenue_minor)} "
        f"({number(total.orders)} orders, {number(total.refunds)} refunds)"
    )


def _by_day(found: CampaignReport) -> RenderableType:
    made = table(("day", "engagements"), ("", "members", "reach", "orders", "net revenue", "referrals", "points net"))
    most = max((Decimal(day.engagements) for day in found.days), default=None)
    for day in found.days:
        counted = (day.engagements, day.members, day.reach, day.orders, day.net_revenue_minor, day.referrals)
        row(made, (day.day, bar(Decimal(day.engagements), most), *counted, day.points_net))
    return titled(f"By day ({found.timezone})", made)


def ambassadors(found: Ambassadors) -> RenderableType:
    """Whom to ask, and why."""
    made = table(("member", "why"), ("rank", "rate", "referred revenue"))
    for one in found.members:
        revenue = one.referred_revenue_minor if one.sales_place is not None else None
        row(made, (one.member_id, "\n".join(one.reasons), one.rank, percent(one.rate_by_followers), revenue))
    who = f"tier {found.tier}" if found.tier else "all tiers"
    title = f"Whom to ask of {found.brand} ({who}), window {found.window.value}: {found.candidates:,} candidates"
    return titled(title, made)
