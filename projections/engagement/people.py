"""Who is in which tier, now or as of an instant: how many, how many of them active, how their followers are spread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import BindParameter, ColumnElement, Connection, Table, and_, distinct, exists, func, or_, select

from projections.engagement.models import Distribution
from projections.engagement.sums import member_panes
from projections.engagement.tables import ACTIVE, ENGAGEMENT, MEMBER_TIERS, MEMBERS
from projections.rates import Bounds

UNKNOWN: Final = "unknown"
"""The tier of a member without a profile."""


def tiers_of(brand: str | BindParameter[str], as_of: int | None) -> tuple[Table, list[ColumnElement[bool]]]:
    """Where the tiers of a brand's members as of an instant (epoch ms; None: now) stand, and which rows these are.

    The brand is an id, or the parameter that a statement gets it as. A member has one row at most there, with columns
    `member` and `tier`.
    """
    if as_of is None:
        return MEMBERS, [MEMBERS.c.brand == brand]
    at = MEMBER_TIERS.c
    return MEMBER_TIERS, [at.brand == brand, at.since <= as_of, or_(at.until.is_(None), at.until > as_of)]


def members_by_tier(conn: Connection, brand: str, as_of: int | None, hours: Bounds) -> dict[str, int]:
    """Members by tier as of an instant (None: now); those who were seen before the end of `hours` and have no profile
    by then are `unknown`."""
    table, where = tiers_of(brand, as_of)
    grouped = conn.execute(select(table.c.tier, func.count()).where(*where).group_by(table.c.tier))
    people = {str(tier): int(count) for tier, count in grouped}
    profile = exists().where(*where, table.c.member == ACTIVE.c.member)
    seen = [ACTIVE.c.scope == "member", ACTIVE.c.brand == brand, ACTIVE.c.campaign == ""]
    if as_of is not None and hours.end is not None:
        seen.append(ACTIVE.c.first_at < hours.end)
    strangers = conn.execute(select(func.count(distinct(ACTIVE.c.member))).where(*seen, ~profile)).scalar_one()
    if strangers:
        people[UNKNOWN] = people.get(UNKNOWN, 0) + strangers
    return people


def active_members(conn: Connection, brand: str, campaign: str | None, platform: str | None, hours: Bounds) -> int:
    """Distinct members with a pane in these hours."""
    members = func.count(distinct(ACTIVE.c.member))
    return int(conn.execute(select(members).where(*_active(brand, campaign, platform, hours))).scalar_one())


def active_by_tier(
    conn: Connection, brand: str, campaign: str | None, platform: str | None, hours: Bounds, as_of: int | None
) -> dict[str, int]:
    """Distinct members with a pane in these hours, by the tier they were in as of an instant (None: are in now)."""
    table, where = tiers_of(brand, as_of)
    profile = and_(*where, table.c.member == ACTIVE.c.member)
    tier = func.coalesce(table.c.tier, UNKNOWN)
    members = select(tier, func.count(distinct(ACTIVE.c.member))).select_from(ACTIVE.outerjoin(table, profile))
    found = conn.execute(members.where(*_active(brand, campaign, platform, hours)).group_by(tier))
    return {str(name): int(count) for name, count in found}


def followers_by_tier(conn: Connection, brand: str) -> dict[str, Distribution]:
    """Followers by tier, as percentiles of nearest rank (the ⌈p·n⌉-th), all in one pass over an index."""
    ranked = (
        select(
            MEMBERS.c.tier,
            MEMBERS.c.followers,
            func.row_number().over(partition_by=MEMBERS.c.tier, order_by=MEMBERS.c.followers).label("rank"),
            func.count().over(partition_by=MEMBERS.c.tier).label("members"),
        )
        .where(MEMBERS.c.brand == brand, MEMBERS.c.platforms != "{}")
        .subquery()
    )
    rank, members = ranked.c.rank, ranked.c.members
    wanted = [1, (members + 3) // 4, (members + 1) // 2, (3 * members + 3) // 4, (9 * members + 9) // 10, members]
    found: dict[str, dict[int, int]] = {}
    sizes: dict[str, int] = {}
    for row in conn.execute(select(ranked).where(or_(*(rank == each for each in wanted)))):
        found.setdefault(row.tier, {})[row.rank] = row.followers
        sizes[row.tier] = row.members
    return {tier: _distribution(sizes[tier], at) for tier, at in found.items()}


def _distribution(size: int, at: Mapping[int, int]) -> Distribution:
    return Distribution(
        count=size,
        min=at[1],
        p25=at[(size + 3) // 4],
        median=at[(size + 1) // 2],
        p75=at[(3 * size + 3) // 4],
        p90=at[(9 * size + 9) // 10],
        max=at[size],
    )


def _active(brand: str, campaign: str | None, platform: str | None, hours: Bounds) -> list[ColumnElement[bool]]:
    """Conditions for the rows of `ACTIVE` of members with a pane in these hours.

    Whose first or last pane is in them has one; only of those active before and after are the panes themselves asked.
    """
    known = ACTIVE.c
    scope = "campaign_member" if campaign else "member"
    where = [known.scope == scope, known.brand == brand, known.campaign == (campaign or "")]
    sure = []
    if platform is not None:
        where.append(known.platform == platform)
    if hours.start is not None:
        where.append(known.last_at >= hours.start)
        sure.append(known.first_at >= hours.start)
    if hours.end is not None:
        where.append(known.first_at < hours.end)
        sure.append(known.last_at < hours.end)
    if hours.start is not None and hours.end is not None:
        panes = member_panes(brand, campaign, None, hours)
        same = (ENGAGEMENT.c.member == known.member, ENGAGEMENT.c.platform == known.platform)
        where.append(or_(*sure, exists().where(*panes, *same)))
    return where
