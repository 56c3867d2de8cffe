"""Member: what somebody has, when it expires, how it came to be, and why, down to the record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from markupsafe import Markup
from nicegui import ui
from nicegui.events import GenericEventArguments

from projections.answers import Balance, Explained, Explanation, Unpaid
from projections.engagement.models import MemberEngagement, MemberTierAnswer
from projections.queries.browsing import Lot
from service.console import shell
from service.console.markup import (
    NOTHING,
    Child,
    compact,
    count,
    dated,
    day,
    empty,
    join,
    link,
    loading,
    moment,
    percent,
    signed,
    table,
    tag,
    tier,
    tile,
    tiles,
)
from service.reads import Reads

ENTRIES: Final = 150
"""Movements that are listed, the latest first."""
UNPAID: Final = 50


class Seen(NamedTuple):
    """All that the page shows of one member."""

    now: int
    """Epoch ms: what pending, active and expired go by."""
    balance: Balance
    lots: list[Lot]
    tier: MemberTierAnswer
    engagement: MemberEngagement
    why: Explanation


def read(reads: Reads, brand: str, member: str) -> Seen:
    """What the page shows now. Raises `Refusal`."""
    return Seen(
        reads.clock(),
        reads.balance(brand, member),
        reads.lots(brand, member),
        reads.member_tier(brand, member),
        reads.member_engagement(brand, member, "all"),
        reads.explain(brand, member),
    )


async def page(brand: str = "", member: str = "") -> None:
    """The page, as it opens and as it goes on."""
    shown = await shell.opened("Member", brand, member[: shell.LONGEST_ID] or None)
    if shown is None:
        return
    member = member.strip()[: shell.LONGEST_ID]
    frame = shell.Frame(member or "Member", shown)
    with ui.element("div").classes("strip"):
        _search(frame, shown, member)
    if not member:
        frame.say("Find somebody by the beginning of their id.")
        shell.block(empty("Nobody is chosen", "Search above, or follow a name on any other page."))
        return
    numbers = shell.block(tag("div", loading(2), cls="strip"))
    with shell.grid():
        with shell.card("Statement", "The latest first. Open an entry to see what caused it.", "w7"):
            statement = shell.block(loading(8))
        with ui.element("div").classes("stack"):
            with shell.card("Lots", "Points that came in together, the first to expire first.", "full"):
                lots = shell.block(loading(3))
            with shell.card("Paid nothing", "What matched a rule, or a referral, and why it paid nothing.", "full"):
                unpaid = shell.block(loading(3))

    async def load() -> bool:
        seen = await frame.attempt(lambda: read(shell.reads(), shown, member))
        if seen is None:
            return False
        frame.say(join(tier(seen.tier.tier), " ", profile(seen.tier)))
        numbers.content = str(tag("div", points(seen.balance, seen.engagement), cls="strip"))
        statement.content = str(entries(seen.why))
        lots.content = str(lots_of(seen.lots, seen.now))
        unpaid.content = str(nothing_paid(seen.why.unpaid))
        return True

    frame.live(load)


def _search(frame: shell.Frame, brand: str, member: str) -> None:
    """A box that finds members as one types, and opens the one that is written there."""
    box = tag("input", name="member", type="search", value=member, autocomplete="off", placeholder="Member id", size=28)
    form = tag(
        "form",
        tag("input", type="hidden", name="brand", value=brand),
        tag("label", "Member", box),
        tag("button", "Show", cls="button primary", type="submit"),
        action="member", method="get", cls="form", role="search",
    )  # fmt: skip
    where = shell.block(form)
    found = shell.block(tag("div", "", cls="suggest"))

    async def typed(event: GenericEventArguments) -> None:
        prefix = str(event.args)[: shell.LONGEST_ID].strip()
        names = await frame.attempt(lambda: shell.reads().find_members(brand, prefix)) if prefix else []
        found.content = str(suggestions(names or [], brand, prefix))

    where.on("input", typed, throttle=0.2, js_handler="e => emit(e.target.value)")


def suggestions(names: list[str], brand: str, prefix: str) -> Markup:
    """Members whose id begins so."""
    links = [link("Member", name, brand=brand, member=name) for name in names]
    none = tag("span", f"Nobody’s id begins with {prefix}.", cls="nothing") if prefix and not names else None
    return tag("div", none, *links, cls="suggest", role="status")


def profile(found: MemberTierAnswer) -> Child:
    """Followers, platform by platform."""
    if found.followers is None:
        return "No profile is known."
    each = [f"{count(number)} on {name}" for name, number in sorted(found.platforms.items(), key=lambda item: -item[1])]
    return "followers: " + ", ".join(each)


def points(balance: Balance, engaged: MemberEngagement) -> Markup:
    """What the member has, and what it is made of."""
    debt = f"net of a debt of {count(balance.debt)}" if balance.debt else "can be spent now"
    given_up = f", {count(balance.shortfall)} given up" if balance.shortfall else ""
    posts = f"{count(engaged.posts)} posts, {compact(engaged.engagements)} engagements"
    return tiles(
        tile("Active", count(balance.active), debt),
        tile("Pending", count(balance.pending), "on hold"),
        tile("Earned", count(balance.earned), f"{signed(balance.adjusted)} by hand"),
        tile("Spent", count(balance.spent), "less cancelled redemptions"),
        tile("Lost", count(balance.reversed + balance.expired), f"{count(balance.expired)} expired{given_up}"),
        tile("Rate by followers", percent(engaged.rate_by_followers), posts),
    )


def lots_of(lots: list[Lot], now: int) -> Markup:
    """What is left of each lot, and until when."""
    if not lots:
        return empty("No lots", "Points that come in stay here until they are spent, taken back or expired.")
    rows: list[tuple[Child, ...]] = []
    for one in lots[:ENTRIES]:
        if one.expires_at is not None and one.expires_at <= now:
            state = tag("span", "expired", cls="chip")
        elif one.active_at > now:
            state = tag("span", "until ", day(one.active_at), " on hold", cls="chip warn")
        else:
            state = tag("span", "active", cls="chip good")
        expires: Child = "never" if one.expires_at is None else dated(one.expires_at)
        rows.append((state, expires, one.campaign or NOTHING, f"{count(one.left)} of {count(one.granted)}"))
    return table("Lots", ("State", "Expires", "Campaign", "Left"), rows, 1)


# The statement, and why


def entries(why: Explanation) -> Markup:
    """Every movement with the tree of its causes."""
    if not why.entries:
        return empty("No movements", f"{why.member_id} has neither earned nor spent points with {why.brand}.")
    shown = list(reversed(why.entries))[:ENTRIES]
    left = len(why.entries) - len(shown)
    more = (
        tag("p", f"and {count(left)} earlier ones: ", tag("code", "groundswell statement"), cls="foot")
        if left
        else None
    )
    return join(tag("div", *(_entry(one) for one in shown), cls="entries"), more)


def _entry(why: Explained) -> Markup:
    entry = why.entry
    by: Child = f"{entry.rule} of {entry.campaign}" if entry.rule else entry.campaign or ""
    limited = tag("span", f"limited by {why.limited_by}", cls="chip warn") if why.limited_by else None
    way = "plus" if entry.points > 0 else "minus"
    head = tag(
        "summary",
        moment(entry.occurred_at),
        tag("span", tag("b", entry.kind.capitalize()), " ", tag("span", by, cls="why"), " ", limited),
        tag("span", signed(entry.points), cls=f"points {way}"),
    )
    return tag("details", head, tree(why), id=f"entry-{entry.entry_id}")


def tree(why: Explained) -> Markup:
    """Everything that led to one entry: the record, the rule, what it comes to, and where points went."""
    entry, happened = why.entry, dict(why.happened)
    formula = happened.pop("formula", None)
    source = entry.source
    record = _branch(
        join("record ", tag("code", source.event_id)),
        _leaf("said", ", ".join(f"{name} {value}" for name, value in happened.items())),
        _leaf("stands at", tag("code", f"{source.topic}:{source.partition}:{source.offset}")),
        _leaf("recorded", moment(entry.recorded_at)),
    )
    rule = None
    if entry.campaign:
        of = f"{entry.campaign} version {entry.campaign_version}"
        rule = _branch(
            join("rule ", tag("b", entry.rule), " of ", of) if entry.rule else join("campaign ", of),
            _leaf("tier", tier(why.tier)) if why.tier else None,
            _leaf("comes to", f"{words(formula)} = {count(why.entitled)}") if isinstance(formula, Mapping) else None,
            _leaf(f"kept back by {why.limited_by}", count(why.entitled - entry.points)) if why.limited_by else None,
        )
    undone = "cancels" if entry.kind == "cancelled" else "takes back"
    dates = (
        f"{day(entry.active_at)}, expires {day(entry.expires_at) if entry.expires_at else 'never'}"
        if entry.active_at
        else ""
    )
    return tag(
        "ul",
        record,
        rule,
        _leaf(undone, tag("a", why.reverses, href=f"#entry-{why.reverses}")) if why.reverses else None,
        *(_leaf(*_moved(lot, taken)) for lot, taken in why.takes.items() if lot != entry.entry_id),
        _leaf("became debt" if why.debt > 0 else "paid off debt", count(abs(why.debt))) if why.debt else None,
        _leaf("could not be taken back", count(why.shortfall)) if why.shortfall > 0 else None,
        _leaf("given up before, taken now", count(-why.shortfall)) if why.shortfall < 0 else None,
        _leaf("can be spent from", dates) if dates else None,
        _leaf("entry", tag("code", entry.entry_id)),
        cls="tree",
    )


def _moved(lot: str, taken: int) -> tuple[str, Markup]:
    words = f"{count(abs(taken))} {'from' if taken > 0 else 'back to'} lot "
    return ("took" if taken > 0 else "gave"), join(words, tag("a", lot, href=f"#entry-{lot}"))


def _leaf(name: str, value: Child) -> Markup:
    return tag("li", tag("span", f"{name} ", cls="is"), value)


def _branch(name: Child, *leaves: Markup | None) -> Markup:
    return tag("li", name, tag("ul", *leaves, cls="tree"))


def words(formula: Mapping[str, Any]) -> str:
    """How many points a rule pays for what."""
    per = {"flat": "", "unit": " a unit", "money": f" per {formula['per']} minor units"}[formula["basis"]]
    milli = formula["multiplier_milli"]
    return f"{count(formula['rate'])} points{per}{'' if milli == 1000 else f' × {milli / 1000:g} for the tier'}"


def nothing_paid(unpaid: tuple[Unpaid, ...]) -> Markup:
    """What paid nothing, the latest first."""
    if not unpaid:
        return empty("Everything paid", "Nothing that matched a rule was refused.")
    rows: list[tuple[Child, ...]] = [
        (
            moment(one.occurred_at),
            join(tag("b", one.rule or one.campaign or one.record_type), tag("div", one.sentence, cls="why")),
        )
        for one in list(reversed(unpaid))[:UNPAID]
    ]
    left = len(unpaid) - len(rows)
    more = tag("p", f"and {count(left)} earlier ones", cls="foot") if left > 0 else None
    return join(table("Paid nothing", ("When", "What and why"), rows), more)
