"""Ambassadors: whom to ask, best first, each with the reasons."""

from __future__ import annotations

from typing import Final

from markupsafe import Markup

from projections.answers.reports import Ambassador, Ambassadors
from service.console import shell
from service.console.community import until
from service.console.markup import (
    Child,
    compact,
    count,
    empty,
    join,
    link,
    loading,
    percent,
    tag,
    tier,
    whole_money,
)
from service.reads import Reads
from service.reads.browsing import Edge

WINDOWS: Final = {"7d": "7 days", "30d": "30 days", "all": "Everything"}
SHOWN: Final = 25


def read(reads: Reads, brand: str, window: str, tier_asked: str | None) -> tuple[Edge, Ambassadors]:
    """What the page shows now. Raises `Refusal`."""
    edge = reads.edge(brand)
    return edge, reads.ambassadors(brand, window, tier=tier_asked, limit=SHOWN, as_of=edge.as_of)


async def page(brand: str = "", window: str = "30d", tier: str = "") -> None:
    """The page, as it opens and as it goes on."""
    chosen = window if window in WINDOWS else "30d"
    shown = await shell.opened("Ambassadors", brand)
    if shown is None:
        return
    links = [
        link("Ambassadors", name, current=w == chosen, brand=shown, window=w, tier=tier) for w, name in WINDOWS.items()
    ]
    frame = shell.Frame("Ambassadors", shown, shell.choices("Window", links))
    filters = shell.block()
    with shell.card(
        "Whom to ask", "Ranked by how strongly their followers answer and by the sales they bring.", "full"
    ):
        people = shell.block(loading(8))
    names = await frame.attempt(lambda: shell.reads().tiers_of(shown))
    if names is None:
        return
    filters.content = str(tag("div", tier_links(names, shown, chosen, tier), cls="row", style="margin-bottom:16px"))
    asked = tier if tier in names else None

    async def load() -> bool:
        seen = await frame.attempt(lambda: read(shell.reads(), shown, chosen, asked))
        if seen is None:
            return False
        edge, found = seen
        frame.say(join(f"{count(found.candidates)} to choose from. ", until(edge)))
        people.content = str(listed(found))
        return True

    frame.live(load)


def tier_links(names: list[str], brand: str, window: str, current: str) -> Markup:
    """Which tier to look at."""
    every = link("Ambassadors", "All tiers", current=current not in names, brand=brand, window=window)
    made = [link("Ambassadors", one, current=one == current, brand=brand, window=window, tier=one) for one in names]
    return shell.choices("Influence tier", [every, *made])


def listed(found: Ambassadors) -> Markup:
    """The candidates, best first."""
    if not found.members:
        posts = "a post" if found.min_posts == 1 else f"{found.min_posts} posts"
        hint = f"Whoever has {posts} with known followers, or sales by referral, in the window is listed here."
        return empty("Nobody to ask in this window", hint)
    rows = tag("ol", *(_person(one, found) for one in found.members), cls="people")
    left = found.candidates - len(found.members)
    return join(rows, tag("p", f"and {count(left)} more with lower ranks", cls="foot") if left > 0 else None)


def _person(one: Ambassador, found: Ambassadors) -> Markup:
    followers: Child = "followers unknown" if one.followers is None else f"{compact(one.followers)} followers"
    who = tag(
        "div",
        link("Member", one.member_id, cls="member", brand=found.brand, member=one.member_id),
        tag("span", tier(one.tier), " ", tag("small", followers)),
        cls="who",
    )
    reasons = tag("ul", *(tag("li", reason) for reason in reasons_of(one, found.currency)), cls="reasons")
    figure = tag("div", percent(one.rate_by_followers), tag("small", "rate"), cls="figure")
    return tag("li", tag("span", one.rank, cls="rank"), who, reasons, figure, cls="person")


def reasons_of(one: Ambassador, currency: str) -> list[Child]:
    """Why this member, in words: the answer's own reasons, with money in its currency."""
    said: list[Child] = []
    if one.rate_by_followers is not None and one.rate_to_median is not None:
        said.append(
            join(
                tag("b", f"{one.rate_to_median:.1f} ×"),
                f" the median of {one.tier} (",
                percent(one.tier_median_rate),
                f"), place {one.rate_place} by rate",
            )
        )
    elif one.rate_by_followers is None:
        said.append("no rate: too few posts in the window, or followers unknown")
    if one.referred_orders and one.sales_place is not None:
        worth = whole_money(one.referred_revenue_minor, currency)
        orders = "a friend’s order" if one.referred_orders == 1 else f"{count(one.referred_orders)} orders of friends"
        said.append(join(tag("b", worth), f" from {orders}, place {one.sales_place} by sales"))
    reach = f", {compact(one.reach)} reached" if one.reach else ""
    said.append(
        f"{count(one.posts)} post{'' if one.posts == 1 else 's'}, {compact(one.engagements)} engagements{reach}"
    )
    return said
