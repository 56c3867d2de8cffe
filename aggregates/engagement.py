"""Engagement panes: what one activity adds to which counters of which scope, and when a pane is complete.

A pane is a scope (brand, campaign, tier, member or post; on one platform) in a stretch of event time. Its counters only
add up, so panes of several partitions, and the segments of one pane, merge by summing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from aggregates.activity import Activity

MINUTES_5: Final = 300_000
HOUR: Final = 3_600_000
PARTS_PER_BILLION: Final = 1_000_000_000
TIER_CHANGES: Final = 64
"""Changes of tier that are kept for a member, the latest in event time."""
ENGAGEMENTS: Final = frozenset({"like", "comment", "share", "save", "click"})
ON_TIME: Final = -1
"""The segment of what arrived while its pane was open."""
SEGMENT_OFFSETS: Final = 65_536
"""Offsets of the activity log in one segment of late records."""
CLOSED: Final = 1 << 48
"""Segments from here on have what a member did for a campaign and came after the campaign's marker in the partition.
So the sum of the segments below is, for ever, what stood before the marker: the campaign is settled by it."""


def block_of(segment: int) -> int:
    """The block of offsets (offset div `SEGMENT_OFFSETS`) that a segment other than `ON_TIME` is of."""
    return segment % CLOSED


class Scope(NamedTuple):
    """What is counted, and how long its panes are."""

    name: str
    length_ms: int


BRAND: Final = Scope("brand", MINUTES_5)
BRAND_TIER: Final = Scope("brand_tier", MINUTES_5)
CAMPAIGN: Final = Scope("campaign", MINUTES_5)
CAMPAIGN_TIER: Final = Scope("campaign_tier", MINUTES_5)
MEMBER: Final = Scope("member", HOUR)
CAMPAIGN_MEMBER: Final = Scope("campaign_member", HOUR)
POST: Final = Scope("post", HOUR)
SCOPES: Final = {s.name: s for s in (BRAND, BRAND_TIER, CAMPAIGN, CAMPAIGN_TIER, MEMBER, CAMPAIGN_MEMBER, POST)}
TIER_SCOPES: Final = frozenset({BRAND_TIER.name, CAMPAIGN_TIER.name})


Counters = dict[str, int]


def increments(activity: Activity) -> Counters:
    """What an activity adds to the counters of each of its panes; empty for one that counts nowhere.

    A rated engagement adds quantity × ⌊10⁹ ÷ followers⌋ to `rate_ppb` (parts per billion), so that an unlike at the
    same followers takes back exactly what its like gave.
    """
    value = activity.value
    if activity.not_live:
        return {}
    if activity.type == "Interaction":
        quantity: int = value["quantity"]
        group = "self" if activity.is_self else value["surface"]
        added = {f"{group}.{value['kind']}": quantity}
        if group == "member_post" and value["kind"] in ENGAGEMENTS:
            if activity.followers:
                added["rate_ppb"] = quantity * (PARTS_PER_BILLION // activity.followers)
            else:
                added["unrated"] = quantity
        return added
    if activity.type == "Purchase":
        if value["kind"] == "completed":
            return {"purchases": 1, "revenue_minor": value["amount_minor"]}
        return {"refunds": 1, "refunds_minor": value["amount_minor"]}
    if activity.type == "ReferralDue":
        sign = 1 if value["kind"] == "completed" else -1
        return {"referred_revenue_minor": sign * value["amount_minor"]}
    return {}


Subject = tuple[str, str, str, str, str, str, str]
"""Whom a pane is about: scope, brand, campaign, tier, member, platform, post; empty where it does not apply."""
Span = tuple[int, int, int]
"""Of when a pane is: its first instant, its length in milliseconds, and its segment."""


def short_subjects(brand: str, platform: str, tier: str, campaigns: Sequence[str]) -> list[Subject]:
    """Whose panes of five minutes an activity belongs to; `campaigns` are the ids of those it counts for."""
    subjects: list[Subject] = [
        ("brand", brand, "", "", "", platform, ""),
        ("brand_tier", brand, "", tier, "", platform, ""),
    ]
    for campaign in campaigns:
        subjects.append(("campaign", brand, campaign, "", "", platform, ""))
        subjects.append(("campaign_tier", brand, campaign, tier, "", platform, ""))
    return subjects


def long_subjects(brand: str, platform: str, member: str, campaigns: Sequence[str]) -> list[Subject]:
    """Whose panes of an hour an activity belongs to, but for its post's."""
    return [
        ("member", brand, "", "", member, platform, ""),
        *(campaign_member(brand, platform, member, campaign) for campaign in campaigns),
    ]


def campaign_member(brand: str, platform: str, member: str, campaign: str) -> Subject:
    """What a member does for one campaign."""
    return ("campaign_member", brand, campaign, "", member, platform, "")


def post_subject(value: Mapping[str, Any]) -> Subject | None:
    """The post that an activity counts for, across campaigns: what happens on a member's own post, if that is named."""
    if value.get("surface") == "member_post" and value["post_id"]:
        return ("post", value["brand_id"], "", "", value["member_id"], value["platform"], value["post_id"])
    return None


def spans_of(at: int, offset: int, greatest_event_time: int, grace_ms: int) -> tuple[Span, Span]:
    """The pane segments of an instant: of five minutes and of an hour.

    `greatest_event_time` is that of the records at lower offsets, so that late is decided by the log alone. A late
    record goes to the segment named by its block of offsets.
    """
    minutes, hour = at - at % MINUTES_5, at - at % HOUR
    passed = greatest_event_time - grace_ms
    if minutes + MINUTES_5 > passed:
        return (minutes, MINUTES_5, ON_TIME), (hour, HOUR, ON_TIME)
    block = offset // SEGMENT_OFFSETS
    return (minutes, MINUTES_5, block), (hour, HOUR, block if hour + HOUR <= passed else ON_TIME)


def span_behind(at: int, offset: int) -> Span:
    """The segment of an hour of what a member does for a campaign behind its marker."""
    return at - at % HOUR, HOUR, CLOSED + offset // SEGMENT_OFFSETS
