"""Whom to ask: members ranked by how strongly their followers answer and by the sales they bring.

Each candidate has a place by rate of engagement and a place by referred revenue (equal ones share it: 1, 2, 2, 4). The
rank is by the sum of both; who has no rate, or no sales, counts there as having the last place, the number of
candidates. So the best by one alone come out alike, and those who are good at both stand before them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select

from aggregates.definitions import UNKNOWN_TIER, Brand
from projections import rates
from projections.answers import iso
from projections.answers.reports import Ambassador, Ambassadors
from projections.engagement.people import tiers_of
from projections.engagement.queries import position_text
from projections.engagement.sums import member_panes, totals
from projections.engagement.tables import ENGAGEMENT
from projections.queries import read_position
from projections.rates import MEMBER_PANE_MS, Bounds, Window
from projections.referrals import REFERRALS

_R = REFERRALS.table


class Sales(NamedTuple):
    """What a member's referrals ordered in a window, and its revenue less refunds in minor units."""

    orders: int = 0
    revenue_minor: int = 0


class Candidate(NamedTuple):
    """A member with a rate or with sales."""

    member: str
    tier: str
    followers: int | None
    counters: Mapping[str, int]
    rate: Fraction | None
    """By followers; None with too few posts, or when none of the engagements could be rated."""
    sales: Sales


class Ranked(NamedTuple):
    """A candidate with its places."""

    candidate: Candidate
    rank: int
    rate_place: int | None
    sales_place: int | None
    places: int


def ambassadors(
    conn: Connection,
    brand: Brand,
    window: Window,
    now_ms: int,
    as_of: int | None,
    tier: str | None,
    limit: int,
    min_posts: int,
    positions: Mapping[int, int],
) -> Ambassadors:
    """The first `limit` of the candidates of a window of whole hours, all of them or those in `tier`, as of then."""
    held = rates.bounds(window, MEMBER_PANE_MS, now_ms, as_of)
    found = [one for one in _candidates(conn, brand.id, held, min_posts, as_of) if tier is None or one.tier == tier]
    medians = median_rates(found)
    return Ambassadors(
        brand=brand.id,
        window=window,
        **{"from": None if held.start is None else iso(held.start)},
        to=None if held.end is None else iso(held.end),
        tier=tier,
        currency=brand.currency,
        min_posts=min_posts,
        candidates=len(found),
        members=tuple(_answer(one, medians.get(one.candidate.tier), brand) for one in ranked(found)[:limit]),
        position=position_text(positions),
        ledger_position=read_position(conn),
    )


def _candidates(conn: Connection, brand: str, held: Bounds, min_posts: int, as_of: int | None) -> list[Candidate]:
    """Everyone with a rate or with sales in a window."""
    summed = totals(conn, ENGAGEMENT, (ENGAGEMENT.c.member,), *member_panes(brand, None, None, held))
    engaged = {str(member): counters for (member,), counters in summed}
    sales = _sales(conn, brand, held)
    table, where = tiers_of(brand, as_of)
    known = {row.member: row for row in conn.execute(select(table).where(*where))}
    found = []
    for member in sorted(engaged.keys() | sales.keys()):
        counters, brought = engaged.get(member, {}), sales.get(member, Sales())
        rate = rate_of(counters, min_posts)
        if rate is not None or brought.revenue_minor > 0:
            row = known.get(member)
            followers = None if row is None or getattr(row, "platforms", "") == "{}" else row.followers
            found.append(Candidate(member, row.tier if row else UNKNOWN_TIER, followers, counters, rate, brought))
    return found


def _sales(conn: Connection, brand: str, held: Bounds) -> dict[str, Sales]:
    where = [_R.c.brand == brand]
    if held.start is not None:
        where.append(_R.c.starts_at >= held.start)
    if held.end is not None:
        where.append(_R.c.starts_at < held.end)
    sums = (func.sum(_R.c.orders), func.sum(_R.c.revenue_minor), func.sum(_R.c.refunds_minor))
    rows = conn.execute(select(_R.c.member, *sums).where(*where).group_by(_R.c.member))
    return {member: Sales(int(orders), int(revenue) - int(refunds)) for member, orders, revenue, refunds in rows}


def rate_of(counters: Mapping[str, int], min_posts: int) -> Fraction | None:
    """The rate by followers; None with fewer posts than that, or when no engagement was rated."""
    if rates.posts(counters) < max(1, min_posts):
        return None
    if not counters.get("rate_ppb") and rates.engagements(counters) <= counters.get("unrated", 0):
        return None
    return rates.rate_by_followers(counters)


def ranked(candidates: Iterable[Candidate]) -> list[Ranked]:
    """Best first. Ties: the better of both places, then referred revenue, then the member's id."""
    found = list(candidates)
    by_rate = places({one.member: one.rate for one in found if one.rate is not None})
    by_sales = places({one.member: one.sales.revenue_minor for one in found if one.sales.revenue_minor > 0})
    last = len(found)
    summed = []
    for one in found:
        rate, sales = by_rate.get(one.member), by_sales.get(one.member)
        both = sorted((last if rate is None else rate, last if sales is None else sales))
        summed.append(((sum(both), both[0], -one.sales.revenue_minor, one.member), one, rate, sales))
    summed.sort(key=lambda each: each[0])
    ranks: list[Ranked] = []
    for number, (order, one, rate, sales) in enumerate(summed, 1):
        rank = ranks[-1].rank if ranks and ranks[-1].places == order[0] else number
        ranks.append(Ranked(one, rank, rate, sales, order[0]))
    return ranks


def places(scores: Mapping[str, Fraction | int]) -> dict[str, int]:
    """Place of each member by score, greatest first; equal scores share a place (1, 2, 2, 4)."""
    ordered = sorted(scores, key=lambda member: (-scores[member], member))
    found: dict[str, int] = {}
    for number, (member, before) in enumerate(zip(ordered, [None, *ordered], strict=False), 1):
        found[member] = found[before] if before is not None and scores[before] == scores[member] else number
    return found


def median_rates(candidates: Iterable[Candidate]) -> dict[str, Fraction]:
    """The median rate of each tier's candidates that have one: by nearest rank, so it is some member's."""
    by_tier: dict[str, list[Fraction]] = {}
    for one in candidates:
        if one.rate is not None:
            by_tier.setdefault(one.tier, []).append(one.rate)
    return {tier: sorted(found)[(len(found) - 1) // 2] for tier, found in by_tier.items()}


def _answer(one: Ranked, median: Fraction | None, brand: Brand) -> Ambassador:
    found = one.candidate
    times = found.rate / median if found.rate is not None and median else None
    answered: dict[str, Any] = {
        "rank": one.rank,
        "member_id": found.member,
        "tier": found.tier,
        "followers": found.followers,
        "posts": rates.posts(found.counters),
        "engagements": rates.engagements(found.counters),
        "reach": rates.reach(found.counters),
        "rate_by_followers": rates.rounded(found.rate),
        "rate_by_reach": rates.rounded(rates.rate_by_reach(found.counters)),
        "tier_median_rate": rates.rounded(median),
        "rate_to_median": rates.rounded(times),
        "rate_place": one.rate_place,
        "referred_orders": found.sales.orders,
        "referred_revenue_minor": found.sales.revenue_minor,
        "sales_place": one.sales_place,
        "places": one.places,
    }
    return Ambassador(**answered, reasons=tuple(_reasons(one, median, times, brand)))


def _reasons(one: Ranked, median: Fraction | None, times: Fraction | None, brand: Brand) -> Sequence[str]:
    found = one.candidate
    said = []
    if found.rate is None:
        said.append("no rate: too few posts in the window, or followers unknown")
    elif median is None or times is None:
        said.append(f"rate {_percent(found.rate)}, place {one.rate_place}")
    else:
        than = f"{_tenths(times)} times the median of tier {found.tier} ({_percent(median)})"
        said.append(f"rate {_percent(found.rate)}, place {one.rate_place}: {than}")
    if one.sales_place is None:
        said.append("no sales by referral")
    else:
        worth = f"{found.sales.revenue_minor:,} minor units of {brand.currency} less refunds"
        said.append(f"referred orders: {found.sales.orders:,}, worth {worth}, place {one.sales_place}")
    profile = "followers unknown" if found.followers is None else f"followers: {found.followers:,}"
    said.append(f"posts: {rates.posts(found.counters):,}, {profile}, tier {found.tier}")
    return said


def _percent(rate: Fraction) -> str:
    return f"{rates.nine_places(rate) * 100:.3f} %"


def _tenths(times: Fraction) -> str:
    return f"{rates.nine_places(times):,.1f}"
