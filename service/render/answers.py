"""What the commands print for people: tables and bars. Numbers are those of the JSON, only grouped and aligned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from service.render.tables import NOTHING, bar, more, number, percent, plain, row, table, titled

if TYPE_CHECKING:
    from projections.answers import Balance, Statement
    from projections.engagement.models import (
        EngagementReport,
        MemberEngagement,
        MemberTierAnswer,
        PostReport,
        TierReport,
    )
    from projections.upkeep.digest import DigestReport
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
    since = f" since {found.since}" if found.since else ""
    return titled(f"{found.brand}/{found.member} is {found.tier}{since}", made)


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


def registered(found: Mapping[str, Any]) -> RenderableType:
    """What a schema registry has of ours."""
    made = table(("subject", "state"), ("version", "id"))
    for one in found["registered"]:
        row(made, (one["subject"], one["problem"] or "registered", one["version"], one["id"]))
    return titled("Registered schemas", made)


def status(found: Mapping[str, Any]) -> RenderableType:
    """How everything is."""
    ledger, activity = found["ledger"], found["activity"]
    made = table(("read model",), ("position", "behind"))
    for name, position in ledger["projections"].items():
        row(made, (name, position, ledger["position"] - position))
    log = table(("partition",), ("next offset", "behind"))
    for name, position in activity["positions"].items():
        row(log, (name, position, activity["ends"][name] - position if name in activity["ends"] else None))
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
        titled("Activity log", log),
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
