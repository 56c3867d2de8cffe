"""Campaign: where it stands in time and budget, who leads, what it brings and costs, at any moment of its life."""

from __future__ import annotations

from decimal import Decimal
from typing import Final, NamedTuple

from markupsafe import Markup
from nicegui import ui
from nicegui.events import GenericEventArguments

from projections.answers import CampaignSummary, Standing, Standings, iso
from projections.answers.reports import CampaignReport
from projections.rates import DAY_MS
from service.console import charts, shell
from service.console.charts import Chart, TierRate
from service.console.markup import (
    Child,
    address,
    compact,
    count,
    day,
    empty,
    epoch_ms,
    join,
    link,
    loading,
    meter,
    moment,
    money,
    percent,
    signed,
    table,
    tag,
    tier,
    tile,
    tiles,
    unseen,
    whole_money,
)
from service.instants import instant
from service.problems import Refusal
from service.reads import Reads

TOP: Final = 12
COMPARED: Final = 1_000
"""Places of a day earlier in which a member is looked for."""
STEPS: Final = 240
"""Positions of the slider."""
GOOD: Final = {"live": "good", "settled": "good", "ended": "warn", "scheduled": "", "draft": ""}


class Seen(NamedTuple):
    """All that the page shows, at one moment of the campaign's life."""

    at: int
    """That moment, epoch ms."""
    bounds: tuple[int, int]
    """Between which moments the slider moves."""
    summary: CampaignSummary
    report: CampaignReport
    standings: Standings
    before: Standings
    """A day earlier."""
    lower_bounds: dict[str, int | None]
    """Of the tiers, in followers."""


def bounds(campaign: CampaignSummary, edge: int) -> tuple[int, int]:
    """Between which moments (epoch ms) the slider moves: from the campaign's start to its end, or to `edge`, where the
    data ends."""
    start = epoch_ms(campaign.starts_at)
    return start, max(start + DAY_MS, min(edge, epoch_ms(campaign.ends_at)))


def at_step(step: float, within: tuple[int, int]) -> int | None:
    """The moment (epoch ms) of a position of the slider; None at its end: the latest."""
    start, end = within
    return None if step >= STEPS else start + int((end - start) * max(0.0, step) / STEPS)


def step_of(chosen: int | None, within: tuple[int, int]) -> int:
    """The position of the slider for a moment."""
    start, end = within
    return STEPS if chosen is None else round((chosen - start) * STEPS / (end - start))


def named(as_of: str, within: tuple[int, int]) -> int | None:
    """The moment (epoch ms) that an address names; None: the latest, also for what is no time."""
    start, end = within
    try:
        at = instant(as_of, "as_of")
    except Refusal:
        return None
    return None if at >= end else max(start, at)


def read(reads: Reads, brand: str, campaign: CampaignSummary, chosen: int | None) -> Seen:
    """What the page shows as of a moment of the campaign's life; None: the latest. Raises `Refusal`."""
    edge = reads.edge(brand)
    within = bounds(campaign, edge.at)
    at = within[1] if chosen is None else chosen
    then = None if chosen is None else iso(at)
    tiers = reads.tiers(brand, "1h", campaign=campaign.campaign, as_of=edge.as_of).tiers
    return Seen(
        at,
        within,
        campaign,
        reads.report(brand, campaign.campaign, as_of=then),
        reads.standings(brand, campaign.campaign, limit=TOP, as_of=then),
        reads.standings(brand, campaign.campaign, limit=COMPARED, as_of=iso(at - DAY_MS)),
        {one.tier: one.min_followers for one in tiers},
    )


async def page(brand: str = "", campaign: str = "", as_of: str = "") -> None:
    """The page, as it opens and as it goes on."""
    shown = await shell.opened("Campaign", brand)
    if shown is None:
        return
    frame = shell.Frame("Campaign", shown)
    known = await frame.attempt(lambda: shell.reads().campaigns(shown).campaigns)
    if not known:
        if known is not None:
            hint = join("Define one with ", tag("code", "groundswell apply campaign.yaml"), ".")
            shell.block(empty(f"{shown} has no campaign yet", hint))
        return
    found = next((one for one in known if one.campaign == campaign), None)
    if campaign and found is None:
        shell.block(empty(f"{shown} has no campaign {campaign[:80]}", _links(known, shown, None)))
        return
    await _one(frame, known, found or _liveliest(known), as_of)


def _liveliest(known: tuple[CampaignSummary, ...]) -> CampaignSummary:
    """The one that is looked for most likely: of those that are live the last one, else the last that was."""
    for status in ("live", "ended", "settled"):
        found = [one for one in known if one.status == status]
        if found:
            return found[-1]
    return known[-1]


def _links(known: tuple[CampaignSummary, ...], brand: str, current: CampaignSummary | None) -> Markup:
    made = [link("Campaign", one.campaign, current=one == current, brand=brand, campaign=one.campaign) for one in known]
    return shell.choices("Campaign", made)


class _Parts(NamedTuple):
    """The places of the page that are filled."""

    state: ui.html
    when: ui.html
    numbers: ui.html
    leaders: ui.html
    days: Chart
    tiers: Chart
    by_tier: ui.html


async def _one(frame: shell.Frame, known: tuple[CampaignSummary, ...], summary: CampaignSummary, as_of: str) -> None:
    within = await frame.attempt(lambda: bounds(summary, shell.reads().edge(frame.brand).at))
    if within is None:
        return
    chosen = named(as_of, within)
    shell.block(tag("div", _links(known, frame.brand, summary), cls="row", style="margin-bottom:16px"))
    with ui.element("div").classes("strip"):
        state = shell.block(loading(2))
        slider, when = _slider(step_of(chosen, within))
    numbers = shell.block(tag("div", loading(2), cls="strip"))
    with shell.grid():
        with shell.card("Standings", "With how many places each member moved in a day.", "w7"):
            leaders = shell.block(loading(6))
        with shell.card(
            "Rate by influence tier", "Engagements per follower and post that counts for the campaign.", "w5"
        ):
            tiers = Chart("Rate by influence tier in this campaign")
            shell.block(charts.study_note())
            by_tier = shell.block()
        with shell.card("Day by day", "Days in the brand’s timezone.", "full"):
            days = Chart("Engagements and points paid, day by day")
    parts = _Parts(state, when, numbers, leaders, days, tiers, by_tier)
    tiers.cover(loading(4))
    days.cover(loading(4))

    async def load() -> bool:
        nonlocal summary, within
        asked = chosen

        def work() -> Seen:
            now = shell.reads().campaigns(frame.brand).campaigns
            latest = next((one for one in now if one.campaign == summary.campaign), summary)
            return read(shell.reads(), frame.brand, latest, asked)

        seen = await frame.attempt(work)
        if seen is None:
            return False
        if asked == chosen:  # else the slider has moved on, and what comes next is right
            if asked is not None and seen.bounds != within:
                ui.run_javascript(f"document.getElementById('as-of').value = {step_of(asked, seen.bounds)}")
            summary, within = seen.summary, seen.bounds
            _fill(frame, parts, seen, asked is None)
        return True

    async def moved(event: GenericEventArguments) -> None:
        nonlocal chosen
        chosen = at_step(float(event.args), within)
        then = None if chosen is None else iso(chosen)
        ui.navigate.history.replace(address("Campaign", brand=frame.brand, campaign=summary.campaign, as_of=then))
        await load()

    slider.on("input", moved, throttle=0.15, js_handler="e => emit(e.target.value)")
    frame.live(load)


def _slider(step: int) -> tuple[ui.html, ui.html]:
    with ui.element("div").classes("slider").style("margin-top:18px"):
        shell.block(tag("label", "As of", for_="as-of"))
        # as HTML of ours: an element that is bound would be set back to where it began at each update of the page
        slider = shell.block(tag("input", type="range", id="as-of", min=0, max=STEPS, value=step, autocomplete="off"))
        when = shell.block(tag("output", "\u00a0"))
    return slider, when


def _fill(frame: shell.Frame, parts: _Parts, seen: Seen, latest: bool) -> None:
    frame.say(
        join(seen.summary.campaign, " of ", frame.brand, ", ranked by ", seen.summary.standings.replace("_", " "))
    )
    parts.when.content = str(tag("output", "Latest: " if latest else "", moment(seen.at)))
    parts.state.content = str(progress(seen))
    parts.numbers.content = str(tag("div", bottom_line(seen.report), cls="strip"))
    parts.leaders.content = str(leaderboard(seen, frame.brand))
    if seen.report.days:
        parts.days.show(*charts.by_day(seen.report.days))
    else:
        parts.days.cover(empty("Nothing yet", "No day has had any activity that counts for this campaign."))
    parts.by_tier.content = str(tier_results(seen.report))
    rated = [TierRate(one.tier, seen.lower_bounds.get(one.tier), one.rate_by_followers) for one in seen.report.tiers]
    rated = [one for one in rated if one.min_followers is not None]
    if any(one.rate is not None for one in rated):
        parts.tiers.show(*charts.tier_rates(rated))
    else:
        parts.tiers.cover(empty("No rates yet", "A rate takes posts of members whose followers are known."))


def progress(seen: Seen) -> Markup:
    """State, time and budget."""
    one, budget = seen.summary, seen.report.budget
    start, end = epoch_ms(one.starts_at), epoch_ms(one.ends_at)
    passed = (seen.at - start) / (end - start)
    days = (end - start) / DAY_MS
    today = min(days, max(0.0, passed * days))
    time = meter("Time", passed, f"day {int(min(today + 1, days)):,} of {days:,.0f}")
    if budget.points is None:
        spent: Markup = tag("p", f"No budget is set: {count(budget.used)} points paid.", cls="foot")
    else:
        left = join(count(budget.used), " of ", count(budget.points), " points")
        spent = meter("Budget", budget.used / budget.points if budget.points else 1.0, left)
    status = status_at(one, seen.at)
    chip = tag("span", status, cls=f"chip {GOOD.get(status, '')}")
    facts = join(
        chip, " ", day(one.starts_at), " to ", day(one.ends_at), ", version ", one.version, ", join ", one.join
    )
    return tag("div", tag("p", facts, cls="row"), time, spent, cls="meters")


def status_at(one: CampaignSummary, at: int) -> str:
    """What the campaign was at that moment: a draft is one always, and after its end it is what it has become."""
    if one.status == "draft" or at >= epoch_ms(one.ends_at):
        return one.status
    return "live" if at >= epoch_ms(one.starts_at) else "scheduled"


def bottom_line(report: CampaignReport) -> Markup:
    """What the campaign brought and what it cost."""
    total, currency = report.total, report.currency
    prizes = f", {count(total.prize_points)} as prizes" if total.prize_points else ""
    return tiles(
        tile("Taking part", count(total.members), join(count(total.posts), " posts")),
        tile("People reached", compact(total.reach), join(compact(total.engagements), " engagements")),
        tile("Rate by followers", percent(total.rate_by_followers), join(percent(total.rate_by_reach), " by reach")),
        tile(
            "Net revenue",
            whole_money(total.net_revenue_minor, currency),
            join(count(total.orders), " orders, ", whole_money(total.refunds_minor, currency), " refunded"),
            title=money(total.net_revenue_minor, currency),
        ),
        tile(
            "Referrals",
            count(total.referrals),
            join(whole_money(total.referred_revenue_minor, currency), " of revenue"),
            title=money(total.referred_revenue_minor, currency),
        ),
        tile("Points paid", count(total.points_net), f"{count(total.points_reversed)} taken back{prizes}"),
    )


def tier_results(report: CampaignReport) -> Markup:
    """What the members of each tier did."""
    rows: list[tuple[Child, ...]] = [
        (one.tier, count(one.members), count(one.posts), compact(one.reach), percent(one.rate_by_reach))
        for one in report.tiers
    ]
    return table("By tier", ("Tier", "Members", "Posts", "Reached", "By reach"), rows, 4) if rows else Markup("")


# Standings


def leaderboard(seen: Seen, brand: str) -> Markup:
    """The first places, each with its way in a day."""
    entries = seen.standings.entries
    if not entries:
        return empty("Nobody has a score yet", "The first points, posts or referrals that count make a place here.")
    then = {one.member_id: one.rank for one in seen.before.entries}
    best = max((Decimal(one.score) for one in entries if one.score is not None), default=Decimal(0))
    rows: list[tuple[Child, ...]] = [
        (
            one.rank,
            movement(one, then, bool(seen.before.entries)),
            link("Member", one.member_id, cls="member", brand=brand, member=one.member_id),
            tier(one.tier),
            _bar(one, best),
            join(score(one, seen.standings.metric, seen.report.currency), _prize(one)),
        )
        for one in entries
    ]
    final = tag("span", "final", cls="chip good") if seen.standings.final else tag("span", "not final", cls="chip")
    made = table("Standings", ("Rank", "In a day", "Member", "Tier", unseen("Score as a bar"), "Score"), rows, 1)
    return join(made, tag("p", final, cls="foot"))


def movement(one: Standing, then: dict[str, int], any_then: bool) -> Markup:
    """How many places up or down since a day ago."""
    before = then.get(one.member_id)
    if before is None:
        return tag("span", "new" if any_then else "–", cls="up" if any_then else "same")
    moved = before - one.rank
    if moved == 0:
        return tag("span", "=", cls="same", title="the same place as a day before")
    way, arrow, word = ("up", "▲", "up") if moved > 0 else ("down", "▼", "down")
    hidden = tag("span", f"{word} {abs(moved)} places", cls="hidden-text")
    return tag("span", tag("span", f"{arrow} {abs(moved)}", aria_hidden="true"), hidden, cls=way)


def score(one: Standing, metric: str, currency: str) -> Child:
    """A score as its metric is written."""
    if one.score is None:
        return percent(None)
    if metric == "engagement_rate":
        return percent(Decimal(one.score))
    return money(int(one.score), currency) if metric == "referred_revenue" else count(int(one.score))


def _bar(one: Standing, best: Decimal) -> Markup:
    share = float(Decimal(one.score) / best) if one.score is not None and best > 0 else 0.0
    inner = tag("span", "", cls="spark", style=f"width:{max(0.0, share) * 100:.0f}%")
    return tag("span", inner, cls="spark-box", aria_hidden="true")


def _prize(one: Standing) -> Child:
    return tag("small", f" prize {signed(one.prize)}", cls="up") if one.prize else None
