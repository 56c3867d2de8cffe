"""Community: how much is going on, on which platform, in which influence tier, and what happened last."""

from __future__ import annotations

from typing import Final, NamedTuple

from markupsafe import Markup

from projections import rates
from projections.answers import iso
from projections.engagement.models import Distribution, EngagementReport, TierReport
from projections.queries.browsing import Bucket
from projections.rates import DAY_MS, LENGTH_MS, Window
from service.console import charts, shell
from service.console.charts import Chart, TierRate
from service.console.markup import (
    Child,
    compact,
    count,
    empty,
    epoch_ms,
    join,
    link,
    loading,
    moment,
    money,
    percent,
    signed,
    tag,
    tier,
    tile,
    tiles,
    whole_money,
)
from service.reads import Reads
from service.reads.browsing import HOUR_MS, Edge, News

WINDOWS: Final = {"24h": "24 hours", "7d": "7 days", "30d": "30 days", "all": "Everything"}


class Seen(NamedTuple):
    """All that the page shows, of one brand and window."""

    edge: Edge
    report: EngagementReport
    before: EngagementReport | None
    """The window of the same length before it; None for all of time."""
    tiers: TierReport
    followers: list[tuple[str, Distribution]]
    """Of the members now, by tier: how many somebody had at another time is not kept."""
    series: list[Bucket]
    news: list[News]
    currency: str


def read(reads: Reads, brand: str, window: str) -> Seen:
    """What the page shows now. Raises `Refusal`."""
    named = rates.window_named(window)
    edge = reads.edge(brand)
    before = None
    if named in LENGTH_MS:
        before = reads.engagement(
            brand, window, as_of=iso((epoch_ms(edge.as_of) if edge.as_of else edge.at) - LENGTH_MS[named])
        )
    tiers = reads.tiers(brand, window, as_of=edge.as_of)
    now = tiers if edge.as_of is None else reads.tiers(brand, window)
    return Seen(
        edge,
        reads.engagement(brand, window, as_of=edge.as_of),
        before,
        tiers,
        [(one.tier, one.followers) for one in now.tiers if one.followers is not None],
        reads.series(brand, window),
        reads.news(brand),
        reads.currency(brand),
    )


async def page(brand: str = "", window: str = "30d") -> None:
    """The page, as it opens and as it goes on."""
    chosen = window if window in WINDOWS else "30d"
    shown = await shell.opened("Community", brand)
    if shown is None:
        return
    links = [link("Community", name, current=key == chosen, brand=shown, window=key) for key, name in WINDOWS.items()]
    frame = shell.Frame("Community", shown, shell.choices("Window", links))
    numbers = shell.block(tag("div", loading(2), cls="strip"))
    with shell.grid():
        with shell.card("Engagement over time", "Likes, comments, shares, saves and clicks on members’ posts.", "w8"):
            over_time = Chart("Engagement over time, by platform", "tall")
        with shell.card("What is happening", "What the ledger decided last.", "w4"):
            news = shell.block(loading(6))
        with shell.card("Rate by influence tier", "Engagements per follower and post.", "w7"):
            by_tier = Chart("Rate by influence tier")
            shell.block(charts.study_note())
        note = "As of now. Half of a tier’s members are inside its box; the line is the median."
        with shell.card("Followers", note, "w5"):
            followers = Chart("Followers of members, by tier")
    for chart in (over_time, by_tier, followers):
        chart.cover(loading(4))

    async def load() -> bool:
        seen = await frame.attempt(lambda: read(shell.reads(), shown, chosen))
        if seen is None:
            return False
        frame.say(until(seen.edge))
        numbers.content = str(tag("div", summary(seen, chosen), cls="strip"))
        news.content = str(happening(seen.news, shown, seen.currency))
        _draw(over_time, by_tier, followers, seen, chosen)
        return True

    frame.live(load)


def _draw(over_time: Chart, by_tier: Chart, followers: Chart, seen: Seen, window: str) -> None:
    if seen.series:
        length = DAY_MS if window in (Window.MONTH, Window.ALL) else HOUR_MS
        over_time.show(*charts.over_time(seen.series, length))
    else:
        over_time.cover(empty("Nothing happened in this window", "Choose a longer one, or publish interactions."))
    rated = [one for one in seen.tiers.tiers if one.min_followers is not None]
    if any(one.rate_by_followers is not None for one in rated):
        by_tier.show(
            *charts.tier_rates([TierRate(one.tier, one.min_followers, one.rate_by_followers) for one in rated])
        )
    else:
        by_tier.cover(empty("No rates yet", "A rate takes posts of members whose followers are known."))
    if seen.followers:
        followers.show(*charts.followers(seen.followers))
    else:
        followers.cover(empty("No followers known", "They come with profile snapshots, or with members’ posts."))


def until(edge: Edge) -> Markup:
    """How far the numbers go."""
    if edge.as_of is None:
        return join("Up to now")
    return join("Up to ", moment(edge.at), " UTC, the last activity")


def summary(seen: Seen, window: str) -> Markup:
    """The window in numbers, each beside the one before it."""
    now, before = seen.report, seen.before

    def than(name: str) -> Child:
        if before is None:
            return "since the beginning"
        return change(getattr(now, name), getattr(before, name), WINDOWS[window])

    rate = percent(now.rate_by_followers)
    advantage = seen.tiers.nano_advantage
    note = "engagements per follower and post" if advantage is None else f"a nano’s is {advantage:.1f} × a macro’s"
    return tiles(
        tile("Engagements", compact(now.engagements), than("engagements"), title=count(now.engagements)),
        tile("People reached", compact(now.reach), than("reach"), title=count(now.reach)),
        tile("Active members", count(now.active_members), than("active_members")),
        tile("Posts", count(now.posts), than("posts")),
        tile("Rate by followers", rate, note),
        tile(
            "Revenue",
            whole_money(now.revenue_minor, seen.currency),
            join(
                count(now.purchases), " orders, ", whole_money(now.referred_revenue_minor, seen.currency), " by friends"
            ),
            title=money(now.revenue_minor, seen.currency),
        ),
    )


def change(now: int, before: int, window: str) -> Markup:
    """A number against the one of the window before."""
    if before <= 0:
        return join("nothing in the ", window, " before")
    share = round((now - before) * 100 / before)
    way, arrow = ("same", "=") if share == 0 else ("up", "▲") if share > 0 else ("down", "▼")
    words = "as much as" if share == 0 else "more than" if share > 0 else "less than"
    hidden = tag("span", f"{abs(share)} percent {words} in the {window} before", cls="hidden-text")
    shown = tag("span", f"{arrow} {abs(share):,} %", cls=way, aria_hidden="true")
    return join(shown, hidden, tag("span", f" vs {window} before", aria_hidden="true"))


# What is happening


def happening(news: list[News], brand: str, currency: str) -> Markup:
    """The feed, the latest first."""
    if not news:
        return empty("Nothing yet", "Whatever earns or takes points shows up here.")
    return tag(
        "ul", *(_item(one, brand, currency) for one in news), cls="feed", tabindex="0", aria_label="Latest first"
    )


def _item(one: News, brand: str, currency: str) -> Markup:
    if one.member is None:
        who: Child = tag(
            "span", "Campaign ", link("Campaign", one.campaigns[0], brand=brand, campaign=one.campaigns[0])
        )
    else:
        who = link("Member", one.member, cls="member", brand=brand, member=one.member)
    meta = join(
        moment(one.occurred_at), " · ", tier(one.tier) if one.tier else None, " ", ", ".join(one.campaigns[:2]) or None
    )
    way = "plus" if one.points > 0 else "minus" if one.points < 0 else ""
    points = tag("span", signed(one.points), cls=f"moved {way}", title="points") if one.member else tag("span", "")
    return tag("li", tag("span", who, " ", said(one, currency), cls="said"), points, tag("span", meta, cls="meta"))


def said(one: News, currency: str) -> str:
    """What happened, in words that go on after the member's name."""
    told = one.told
    kind = str(told.get("kind", ""))
    if one.what in ("closed", "settled"):
        return "is over" if one.what == "closed" else "is settled"
    if one.what == "Interaction":
        where = "on the brand’s post" if told.get("surface") == "brand_post" else "on their post"
        quantity = int(told.get("quantity", 1))
        if told.get("surface") == "brand_post" and quantity == 1:
            return f"gave a {kind} {where}"
        taken = "lost" if quantity < 0 else "got"
        return f"{taken} {count(abs(quantity))} {kind}{'' if abs(quantity) == 1 else 's'} {where}"
    if one.what == "Purchase":
        amount = money(int(told.get("amount_minor", 0)), str(told.get("currency", currency)))
        return f"bought for {amount}" if kind == "completed" else f"was refunded {amount}"
    if one.what == "ReferralDue":
        amount = money(int(told.get("amount_minor", 0)), currency)
        return f"had a friend buy for {amount}" if kind == "completed" else f"had a friend refunded {amount}"
    words = {"redeem": "redeemed points", "cancel": "got a redemption back", "prize": "won a prize"}
    return words.get(kind, "was adjusted by hand")
