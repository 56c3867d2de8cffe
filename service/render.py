"""What the commands print for people: tables and bars. Numbers are those of the JSON, only grouped and aligned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from service.render_tables import NOTHING, bar, more, number, percent, plain, row, table, titled

if TYPE_CHECKING:
    from projections.answers import Balance, Explained, Explanation, Statement, Unpaid
    from projections.digest import DigestReport
    from projections.engagement_models import (
        EngagementReport,
        MemberEngagement,
        MemberTierAnswer,
        PostReport,
        TierReport,
    )
    from service.checking import Checked
    from service.command_answers import AdjustmentAnswer, CancellationAnswer, EnrolmentAnswer, RedemptionAnswer


def balance(found: Balance) -> RenderableType:
    """A member's points."""
    names = ("active", "pending", "spent", "expired", "reversed")
    made = table((), names)
    row(made, [getattr(found, name) for name in names])
    return titled(f"Points of {found.brand}/{found.member_id}", made)


def statement(found: Statement) -> RenderableType:
    """A page of movements."""
    made = table(("occurred", "kind", "by", "record", "entry"), ("points",))
    for entry in found.entries:
        by = f"{entry.campaign} v{entry.campaign_version} {entry.rule}" if entry.campaign else NOTHING
        source = f"{entry.source.partition}:{entry.source.offset} {entry.source.event_id}"
        row(made, (entry.occurred_at, entry.kind, by, source, entry.entry_id, f"{entry.points:+,}"))
    return titled(f"Statement of {found.brand}/{found.member_id}", made, *more(found.next_cursor))


def checks(found: Iterable[Checked]) -> RenderableType:
    """What would become of definitions."""
    lines = []
    for one in found:
        lines.append(f"{one.definition}: {one.verdict}{': ' if one.refusal else ''}{one.refusal}")
        lines += [f"  {note}" for note in one.notes]
        lines += [f"  warning: {warning}" for warning in one.warnings]
    return Text("\n".join(lines))


def redemption(found: RedemptionAnswer) -> RenderableType:
    """A redemption that was done."""
    return Text(
        f"{number(found.points)} points of {found.brand}/{found.member_id} are spent: entry {found.redemption_id}"
    )


def cancellation(found: CancellationAnswer) -> RenderableType:
    """A redemption that was undone."""
    return Text(
        f"{number(found.points)} points are back with {found.brand}/{found.member_id}: entry {found.cancellation_id}"
    )


def adjustment(found: AdjustmentAnswer) -> RenderableType:
    """Points that were added or taken by hand."""
    done = f"added to {found.brand}" if found.points > 0 else f"taken from {found.brand}"
    return Text(f"{number(abs(found.points))} points {done}/{found.member_id}: entry {found.adjustment_id}")


def enrolment(found: EnrolmentAnswer) -> RenderableType:
    """A member who joined or left a campaign."""
    done = "leaves" if found.kind == "left" else "joins"
    return Text(f"{found.member_id} {done} {found.brand}/{found.campaign} (record {found.position})")


def engagement(found: EngagementReport | MemberEngagement) -> RenderableType:
    """Counts by where they happened, sales and rates."""
    subject = "/".join(part for part in (found.brand, getattr(found, "member", None), found.campaign) if part)
    where = f" on {found.platform}" if found.platform else ""
    title = (
        f"Engagement of {subject}{where}, window {found.window.value}: {found.from_ or 'ever'} to {found.to or 'now'}"
    )
    groups = {
        "member posts": found.counts.member_post,
        "brand posts": found.counts.brand_post,
        "self": found.counts.own,
    }
    made = table(("kind",), tuple(groups))
    for kind in type(found.counts.own).model_fields:
        row(made, (kind, *(getattr(counts, kind) for counts in groups.values())))
    facts: dict[str, object] = {"active members": getattr(found, "active_members", None)}
    facts |= {name.replace("_", " "): getattr(found, name) for name in ("posts", "reach", "engagements", "unrated")}
    facts |= {name.replace("_", " "): getattr(found, name) for name in _SALES}
    facts |= {"rate by followers": percent(found.rate_by_followers), "rate by reach": percent(found.rate_by_reach)}
    facts |= {"engagements per post": plain(found.per_post)}
    return titled(title, made, _facts({name: value for name, value in facts.items() if value is not None}))


_SALES = ("purchases", "revenue_minor", "refunds", "refunds_minor", "referred_revenue_minor")


def posts(found: PostReport) -> RenderableType:
    """A member's posts with their rates, most engagements first."""
    made = table(("post", "platform"), ("engagements", "rate", "by reach", "reach", "unrated", "last active"))
    for one in found.posts:
        rates = (percent(one.rate_by_followers), percent(one.rate_by_reach))
        row(made, (one.post_id, one.platform, one.engagements, *rates, one.reach, one.unrated, one.last_activity))
    title = f"Posts of {found.brand}/{found.member}, window {found.window.value}"
    left = found.total - len(found.posts)
    return titled(title, made, *([Text(f"and {number(left)} more: --limit")] if left else []))


def tiers(found: TierReport) -> RenderableType:
    """Rate by influence tier as bars, and what is behind it."""
    scope = f"/{found.campaign}" if found.campaign else ""
    title = f"Influence tiers of {found.brand}{scope}, window {found.window.value}"
    made = table(("tier", ""), ("rate", "members", "median", "posts", "engagements", "by reach", "revenue"))
    for column in made.columns[:2]:
        column.no_wrap = True
    greatest = max((one.rate_by_followers for one in found.tiers if one.rate_by_followers is not None), default=None)
    for one in found.tiers:
        bound = f"{one.tier} ≥ {number(one.min_followers)}" if one.min_followers else one.tier
        median = one.followers.median if one.followers else None
        row(
            made,
            (
                bound,
                bar(one.rate_by_followers, greatest),
                percent(one.rate_by_followers),
                *(one.members, median, one.posts, one.engagements),
                *(percent(one.rate_by_reach), one.revenue_minor),
            ),
        )
    if found.nano_advantage is None:
        return titled(title, made)
    return titled(
        title, made, Text(f"A nano's rate is {plain(found.nano_advantage)} times that of a macro.", style="bold")
    )


def member_tier(found: MemberTierAnswer) -> RenderableType:
    """A member's tier and the followers behind it."""
    made = table(("platform",), ("followers",))
    for platform, followers in sorted(found.platforms.items(), key=lambda item: -item[1]):
        row(made, (f"{platform} (decides)" if platform == found.platform else platform, followers))
    return titled(f"{found.brand}/{found.member} is {found.tier}", made)


def explanation(found: Explanation) -> RenderableType:
    """Where each entry comes from, and what paid nothing."""
    parts: list[RenderableType] = [Text(f"Why {found.brand}/{found.member_id} has these points", style="bold")]
    parts += [_explained(entry) for entry in found.entries]
    if not found.entries:
        parts.append(Text("no movements"))
    if found.unpaid:
        parts.append(_unpaid(found.unpaid))
    return Group(*parts)


def _explained(why: Explained) -> RenderableType:
    entry = why.entry
    lines = [f"{entry.points:+,} {entry.kind} at {entry.occurred_at}, entry {entry.entry_id}"]
    happened = dict(why.happened)
    formula = happened.pop("formula", None)
    if entry.rule:
        tier = f", tier {why.tier}" if why.tier else ""
        lines.append(f"  rule {entry.rule} of {entry.campaign} version {entry.campaign_version}{tier}")
    elif entry.campaign:
        lines.append(f"  of {entry.campaign} version {entry.campaign_version}")
    if isinstance(formula, Mapping):
        lines.append(f"  {_formula(formula)} comes to {number(why.entitled)}")
    if why.limited_by:
        lines.append(f"  of which {why.limited_by} kept back {number(why.entitled - entry.points)}")
    source = entry.source
    lines.append(f"  record {source.event_id} at {source.topic}:{source.partition}:{source.offset}")
    lines.append("  it said: " + ", ".join(f"{name} {value}" for name, value in happened.items()))
    if entry.active_at:
        lines.append(f"  to be spent from {entry.active_at}, expires {entry.expires_at or 'never'}")
    return Text("\n".join([*lines, *_undone(why), *_moved(why)]))


def _undone(why: Explained) -> Iterator[str]:
    if why.reverses:
        yield f"  {'cancels' if why.entry.kind == 'cancelled' else 'takes back'} entry {why.reverses}"


def _moved(why: Explained) -> Iterator[str]:
    """Where the points came from or went; below zero they went the other way."""
    for lot, points in why.takes.items():
        if lot != why.entry.entry_id:
            yield (
                f"  took {number(points)} from lot {lot}"
                if points > 0
                else f"  gave {number(-points)} back to lot {lot}"
            )
    if why.debt:
        yield f"  {number(abs(why.debt))} of it {'became a debt' if why.debt > 0 else 'paid off debt'}"
    if why.shortfall > 0:
        yield f"  {number(why.shortfall)} more could not be taken back"
    elif why.shortfall:
        yield f"  {number(-why.shortfall)} of it had been given up before"


def _formula(formula: Mapping[str, Any]) -> str:
    per = {"flat": "", "unit": " a unit", "money": f" per {formula['per']} minor units"}[formula["basis"]]
    milli = formula["multiplier_milli"]
    times = "" if milli == 1000 else f" × {milli / 1000:g} for the tier"
    return f"{number(formula['rate'])} points{per}{times}"


def _unpaid(found: Iterable[Unpaid]) -> RenderableType:
    made = table(("occurred", "record", "campaign", "rule", "why"))
    for one in found:
        row(made, (one.occurred_at, f"{one.record_type} {one.event_id}", one.campaign, one.rule, one.sentence))
    return titled("Paid nothing", made)


def digest(found: DigestReport) -> RenderableType:
    """The digest of each read model."""
    made = table(("read model", "digest", "position"), ("version", "rows"))
    for one in found.projections:
        row(made, (one.name, one.digest, str(one.position), one.version, one.rows))
    return titled(f"Digests at ledger position {number(found.position)}", made)


def schemas(found: Mapping[str, Any]) -> RenderableType:
    """The record types."""
    made = table(("type", "fingerprint", "topics", "published by"), ("version", "fields"))
    for one in found["schemas"]:
        outside = "members.activity.v1" in one["topics"] and not one["internal"]
        who = "anyone" if outside else "Groundswell"
        topics = "\n".join(one["topics"])
        row(made, (one["record_type"], one["fingerprint"], topics, who, one["version"], one["fields"]))
    return titled("Record types", made)


def status(found: Mapping[str, Any]) -> RenderableType:
    """How everything is."""
    ledger, activity = found["ledger"], found["activity"]
    made = table(("read model",), ("position", "behind"))
    for name, position in ledger["projections"].items():
        row(made, (name, position, ledger["position"] - position))
    roles = ", ".join(f"{role} ({owned} partitions)" if owned else role for role, owned in found["roles"].items())
    return Group(
        Text("ready" if found["ready"] else "not ready", style="bold"),
        _facts(
            {
                "running": roles or "nothing",
                "ledger position": ledger["position"],
                "outbox": ledger["outbox"],
                "topics of the ledger": ledger["topics"],
            }
        ),
        made,
        _facts(
            {f"partition {name}": position for name, position in activity["positions"].items()},
            "Activity log, next offset",
        ),
        _facts(activity["counts"], "Records"),
        _facts(
            {f"GROUNDSWELL_{name.upper()}": str(value or "") for name, value in found["settings"].items()}, "Settings"
        ),
    )


def _facts(facts: Mapping[str, object], title: str = "") -> RenderableType:
    made = table(("", " "))
    made.show_header = False
    for name, value in facts.items():
        row(made, (name, value))
    return titled(title, made) if title else made
