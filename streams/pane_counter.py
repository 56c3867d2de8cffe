"""Counts activities in their panes: which these are, and what is added, is looked up where it was worked out before.

The definitions stand in `aggregates.engagement`. Few brands, campaigns, tiers and counters are in most records, so
their panes are named once; those of members and posts are as fast named anew as looked up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aggregates.activity import Activity
from aggregates.engagement import (
    ON_TIME,
    campaign_member,
    increments,
    long_subjects,
    post_subject,
    short_subjects,
    span_behind,
    spans_of,
)
from streams.pane_store import PaneStore
from streams.panes import Name, Shared

_CACHED: Final = 100_000
"""Answers kept of each kind."""


class PaneCounter:
    """Counts in one partition's panes."""

    def __init__(self, panes: PaneStore, grace_ms: int, closed: Mapping[tuple[str, str], int]) -> None:
        """`closed` has the offset of the marker of each campaign (brand, campaign) that is closed, as of now."""
        self._add, self._name = panes.add, panes.name
        self._grace_ms = grace_ms
        self._closed = closed
        self._short: dict[tuple[str, str, str, tuple[str, ...]], list[Name]] = {}
        self._added: dict[tuple[bool, str, str, int, int | None], Shared] = {}

    def count(self, activity: Activity, greatest_event_time: int) -> bool:
        """Add it to its panes; whether it was late, by the greatest event time at lower offsets."""
        added = self._added_by(activity)
        if not added:
            return False
        value, offset = activity.value, activity.offset
        brand, platform = value["brand_id"], value.get("platform") or ""
        campaigns = tuple([campaign.id for campaign in activity.campaigns])
        shared = brand, platform, activity.tier, campaigns
        short_names = self._short.get(shared)
        if short_names is None:
            if len(self._short) >= _CACHED:
                self._short.clear()
            short_names = self._short[shared] = [self._name(subject) for subject in short_subjects(*shared)]
        member, at = value["member_id"], value["occurred_at"]
        if self._closed:
            behind = [name for name in campaigns if offset > self._closed.get((brand, name), offset)]
            if behind:
                campaigns = tuple([name for name in campaigns if name not in behind])
                apart = [self._name(campaign_member(brand, platform, member, name)) for name in behind]
                self._add(span_behind(at, offset), apart, added, offset)
        of_hours = long_subjects(brand, platform, member, campaigns)
        post = post_subject(value)
        if post is not None:
            of_hours.append(post)
        short, long = spans_of(at, offset, greatest_event_time, self._grace_ms)
        self._add(short, short_names, added, offset)
        self._add(long, map(self._name, of_hours), added, offset)
        return short[2] != ON_TIME

    def _added_by(self, activity: Activity) -> Shared | None:
        """What it adds to each of its panes; nothing where it counts nowhere."""
        value = activity.value
        if activity.type != "Interaction" or activity.not_live:
            added = increments(activity)
            return Shared(added) if added else None
        key = activity.is_self, value["surface"], value["kind"], value["quantity"], activity.followers
        known = self._added.get(key)
        if known is None:
            if len(self._added) >= _CACHED:
                self._added.clear()
            known = self._added[key] = Shared(increments(activity))
        return known
