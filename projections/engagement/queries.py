"""Typed reads of engagement, tiers and campaign scores; each in the caller's transaction, so one answer is one state.

Times are epoch milliseconds UTC. `positions` are source offsets by partition, copied into the answer's `position`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, func, select

from projections import rates
from projections.engagement.models import (
    Counts,
    EngagementReport,
    Kinds,
    MemberEngagement,
    PostReport,
    PostRow,
    TierReport,
    TierRow,
)
from projections.engagement.people import UNKNOWN, active_by_tier, active_members, followers_by_tier, members_by_tier
from projections.engagement.sums import Counters, group_totals, member_panes, panes_of, totals
from projections.engagement.tables import ENGAGEMENT
from projections.rates import GROUP_PANE_MS, MEMBER_PANE_MS, Bounds, Window

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NO_POSITIONS: Final[Mapping[int, int]] = {}


class Score(NamedTuple):
    """One member's score in a campaign: an integer, a rate of nine places, or None when there is nothing to rate."""

    member: str
    score: int | Decimal | None


class UnknownMetric(ValueError):
    """A standings metric that is not scored from panes; the message names those that are."""


def engagement(
    conn: Connection,
    brand: str,
    window: str,
    now_ms: int,
    as_of: int | None = None,
    campaign: str | None = None,
    platform: str | None = None,
    *,
    positions: Mapping[int, int] = _NO_POSITIONS,
) -> EngagementReport:
    """Engagement of a brand or campaign over a window; zeros and nulls when nothing happened.

    Raises UnknownWindow.
    """
    named = rates.window_named(window)
    held = rates.bounds(named, GROUP_PANE_MS, now_ms, as_of)
    scope = "campaign" if campaign else "brand"
    counters = group_totals(conn, scope, brand, campaign, platform, held).get("", {})
    hours = rates.bounds(named, MEMBER_PANE_MS, now_ms, as_of)
    return EngagementReport(
        **_scope(brand, campaign, platform, named, held, positions),
        **_measures(counters),
        active_members=active_members(conn, brand, campaign, platform, hours),
    )


def member_engagement(
    conn: Connection,
    brand: str,
    member: str,
    window: str,
    now_ms: int,
    as_of: int | None = None,
    campaign: str | None = None,
    platform: str | None = None,
    *,
    positions: Mapping[int, int] = _NO_POSITIONS,
) -> MemberEngagement:
    """Engagement of one member over a window of whole hours; zeros and nulls for a member never seen.

    Raises UnknownWindow.
    """
    named = rates.window_named(window)
    held = rates.bounds(named, MEMBER_PANE_MS, now_ms, as_of)
    panes = member_panes(brand, campaign, platform, held)
    ((_, counters),) = totals(conn, ENGAGEMENT, (), *panes, ENGAGEMENT.c.member == member)
    return MemberEngagement(
        **_scope(brand, campaign, platform, named, held, positions), **_measures(counters), member=member
    )


def posts(
    conn: Connection,
    brand: str,
    member: str,
    window: str,
    now_ms: int,
    as_of: int | None = None,
    platform: str | None = None,
    limit: int = 100,
    *,
    positions: Mapping[int, int] = _NO_POSITIONS,
) -> PostReport:
    """A member's posts with any activity in a window of whole hours, by engagements; equal ones by id and platform.

    A post is one id on one platform. Raises UnknownWindow.
    """
    named = rates.window_named(window)
    held = rates.bounds(named, MEMBER_PANE_MS, now_ms, as_of)
    where = [*panes_of(ENGAGEMENT, "post", brand, None, platform, held), ENGAGEMENT.c.member == member]
    keys = (ENGAGEMENT.c.post, ENGAGEMENT.c.platform)
    latest = conn.execute(select(*keys, func.max(ENGAGEMENT.c.starts_at)).where(*where).group_by(*keys))
    last = {(post, on): int(at) for post, on, at in latest}
    found = totals(conn, ENGAGEMENT, keys, *where)
    found.sort(key=lambda one: (-rates.engagements(one[1]), one[0]))
    return PostReport(
        **_scope(brand, None, platform, named, held, positions),
        member=member,
        total=len(found),
        posts=tuple(_post(post, on, counters, last[post, on]) for (post, on), counters in found[:limit]),
    )


def tiers(
    conn: Connection,
    brand: str,
    window: str,
    now_ms: int,
    tiers: Sequence[tuple[str, int]],
    as_of: int | None = None,
    campaign: str | None = None,
    platform: str | None = None,
    *,
    positions: Mapping[int, int] = _NO_POSITIONS,
) -> TierReport:
    """Engagement by influence tier; `tiers` are the brand's, name and lower bound in followers, ascending.

    What happened counts in the tier a member had then; members count in the tier of `as_of`, or of now. How many
    followers they had as of then is not kept. Raises UnknownWindow.
    """
    named = rates.window_named(window)
    held = rates.bounds(named, GROUP_PANE_MS, now_ms, as_of)
    scope = "campaign_tier" if campaign else "brand_tier"
    counted = group_totals(conn, scope, brand, campaign, platform, held)
    hours = rates.bounds(named, MEMBER_PANE_MS, now_ms, as_of)
    people = members_by_tier(conn, brand, as_of, hours)
    active = active_by_tier(conn, brand, campaign, platform, hours, as_of)
    followers = followers_by_tier(conn, brand) if as_of is None else {}
    lower = dict(tiers)
    filled = {tier for tier, sums in counted.items() if any(sums.values())} | set(people) | set(active)
    extra = sorted(filled - set(lower) - {UNKNOWN}) + ([UNKNOWN] if UNKNOWN in filled - set(lower) else [])
    rows = tuple(
        TierRow(
            tier=tier,
            min_followers=lower.get(tier),
            members=people.get(tier, 0),
            followers=followers.get(tier),
            active_members=active.get(tier, 0),
            **_measures(counted.get(tier, {})),
        )
        for tier in (*lower, *extra)
    )
    advantage = rates.advantage(counted.get("nano", {}), counted.get("macro", {}))
    return TierReport(
        **_scope(brand, campaign, platform, named, held, positions),
        tiers=rows,
        nano_advantage=rates.rounded(advantage),
    )


def campaign_scores(
    conn: Connection,
    brand: str,
    campaign: str,
    metric: str,
    as_of: int | None = None,
    min_posts: int = 1,
    *only: ColumnElement[bool],
) -> list[Score]:
    """Everyone who did anything for a campaign before `as_of` (floored to the hour), best first, None last, then by id.

    `interactions` sums engagements on member and brand posts; `engagement_rate` is by followers, None for those with
    fewer than `min_posts` posts; `referred_revenue` is in minor units. `only`: of which panes. Raises UnknownMetric for
    another metric.
    """
    if metric not in ("interactions", "engagement_rate", "referred_revenue"):
        raise UnknownMetric(
            f"metric: `{metric}` is not scored from panes; use interactions, engagement_rate or referred_revenue"
        )
    held = rates.bounds(Window.ALL, MEMBER_PANE_MS, 0, as_of)
    panes = member_panes(brand, campaign, None, held)
    scores = [
        Score(str(keys[0]), score_of(metric, counters, min_posts))
        for keys, counters in totals(conn, ENGAGEMENT, (ENGAGEMENT.c.member,), *panes, *only)
    ]
    return sorted(scores, key=lambda one: (one.score is None, -(one.score or 0), one.member))


def position_text(positions: Mapping[int, int]) -> str:
    """`partition:offset` of each partition, ascending, joined by commas; empty without any."""
    return ",".join(f"{partition}:{offset}" for partition, offset in sorted(positions.items()))


def score_of(metric: str, counters: Counters, min_posts: int) -> int | Decimal | None:
    """A member's score by a metric that is read from panes; None when there is nothing to rate."""
    if metric == "interactions":
        return rates.interactions(counters)
    if metric == "referred_revenue":
        return counters["referred_revenue_minor"]
    return rates.rounded(rates.rate_by_followers(counters)) if rates.posts(counters) >= min_posts else None


def _post(post: str, platform: str, counters: Counters, last_at: int) -> PostRow:
    return PostRow(
        post_id=post,
        platform=platform,
        counts=_counts(counters),
        reach=rates.reach(counters),
        engagements=rates.engagements(counters),
        unrated=counters["unrated"],
        rate_by_followers=rates.nine_places(rates.rate_of_post(counters)),
        rate_by_reach=rates.rounded(rates.rate_by_reach(counters)),
        last_activity=_instant(last_at),
    )


def _counts(counters: Mapping[str, int]) -> Counts:
    groups = {
        group: Kinds(**{kind: counters.get(f"{group}.{kind}", 0) for kind in rates.KINDS}) for group in rates.GROUPS
    }
    return Counts.model_validate(groups)


def _measures(counters: Mapping[str, int]) -> dict[str, Any]:
    return {
        "counts": _counts(counters),
        "posts": rates.posts(counters),
        "reach": rates.reach(counters),
        "engagements": rates.engagements(counters),
        **{name: counters.get(name, 0) for name in rates.TOTALS if name != "rate_ppb"},
        "rate_by_followers": rates.rounded(rates.rate_by_followers(counters)),
        "rate_by_reach": rates.rounded(rates.rate_by_reach(counters)),
        "per_post": rates.rounded(rates.per_post(counters)),
    }


def _scope(
    brand: str,
    campaign: str | None,
    platform: str | None,
    window: Window,
    held: Bounds,
    positions: Mapping[int, int],
) -> dict[str, Any]:
    return {
        "brand": brand,
        "campaign": campaign,
        "platform": platform,
        "window": window,
        "from_": None if held.start is None else _instant(held.start),
        "to": None if held.end is None else _instant(held.end),
        "position": position_text(positions),
    }


def _instant(time_ms: int) -> str:
    return (_EPOCH + timedelta(milliseconds=time_ms)).strftime("%Y-%m-%dT%H:%M:%SZ")
