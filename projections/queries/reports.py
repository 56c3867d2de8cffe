"""The bottom line of a campaign: engagement from the panes, money and points from the ledger, in all and by day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, distinct, func, select

from aggregates.definitions import UNKNOWN_TIER, Brand, Campaign
from projections import rates
from projections.answers import iso
from projections.answers.reports import BudgetUse, CampaignReport, DayResults, Results, TierResults
from projections.campaign_results import RESULTS, SUMS
from projections.engagement.people import active_by_tier, active_members
from projections.engagement.queries import position_text
from projections.engagement.sums import group_totals, member_panes
from projections.engagement.tables import ENGAGEMENT
from projections.queries import read_position
from projections.rates import GROUP_PANE_MS, MEMBER_PANE_MS, Bounds, Window

_R = RESULTS.table
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Sums = Mapping[str, int]


class Day(NamedTuple):
    """A day in the brand's timezone: half-open, in epoch milliseconds; its length depends on daylight saving."""

    name: str
    start: int
    end: int


def campaign_report(
    conn: Connection, brand: Brand, campaign: Campaign, as_of: int | None, positions: Mapping[int, int]
) -> CampaignReport:
    """Everything before `as_of` (epoch ms, floored to five minutes; None: everything) that counts for a campaign."""
    held = rates.bounds(Window.ALL, GROUP_PANE_MS, 0, as_of)
    hours = rates.bounds(Window.ALL, MEMBER_PANE_MS, 0, as_of)
    engaged = group_totals(conn, "campaign", brand.id, campaign.id, None, held).get("", {})
    slots = _slots(conn, brand.id, campaign.id, held)
    money = _sum(slots.values())
    members = active_members(conn, brand.id, campaign.id, None, hours)
    paid = money["paid"]
    return CampaignReport(
        brand=brand.id,
        campaign=campaign.id,
        version=campaign.version,
        currency=brand.currency,
        timezone=brand.timezone,
        starts_at=iso(campaign.starts_at),
        ends_at=iso(campaign.ends_at),
        to=None if held.end is None else iso(held.end),
        total=Results(**_engaged(engaged, members), **_money(money)),
        tiers=_tiers(conn, brand, campaign, held, hours, as_of),
        days=tuple(_days(conn, brand, campaign, held, hours, slots)),
        budget=BudgetUse(
            points=campaign.budget,
            used=paid,
            left=None if campaign.budget is None else max(0, campaign.budget - paid),
        ),
        position=position_text(positions),
        ledger_position=read_position(conn),
    )


def _engaged(counters: Sums, members: int) -> dict[str, Any]:
    return {
        "members": members,
        "posts": rates.posts(counters),
        "reach": rates.reach(counters),
        "engagements": rates.engagements(counters),
        "rate_by_followers": rates.rounded(rates.rate_by_followers(counters)),
        "rate_by_reach": rates.rounded(rates.rate_by_reach(counters)),
    }


def _money(sums: Sums) -> dict[str, Any]:
    as_they_are = ("orders", "revenue_minor", "refunds", "refunds_minor", "referrals")
    return {
        **{name: sums[name] for name in as_they_are},
        "net_revenue_minor": sums["revenue_minor"] - sums["refunds_minor"],
        "referred_revenue_minor": sums["referred_revenue_minor"] - sums["referred_refunds_minor"],
        "points_paid": sums["paid"],
        "points_reversed": sums["reversed"],
        "points_net": sums["paid"] - sums["reversed"],
        "prize_points": sums["prizes"],
    }


def _slots(conn: Connection, brand: str, campaign: str, held: Bounds) -> dict[int, Sums]:
    """What the ledger says of each stretch of five minutes."""
    where = [_R.c.brand == brand, _R.c.campaign == campaign]
    if held.end is not None:
        where.append(_R.c.starts_at < held.end)
    rows = conn.execute(select(_R).where(*where))
    return {row.starts_at: {name: getattr(row, name) for name in SUMS} for row in rows}


def _sum(many: Any) -> dict[str, int]:
    added = dict.fromkeys(SUMS, 0)
    for sums in many:
        for name in SUMS:
            added[name] += sums[name]
    return added


def _tiers(
    conn: Connection, brand: Brand, campaign: Campaign, held: Bounds, hours: Bounds, as_of: int | None
) -> tuple[TierResults, ...]:
    counted = group_totals(conn, "campaign_tier", brand.id, campaign.id, None, held)
    people = active_by_tier(conn, brand.id, campaign.id, None, hours, as_of)
    defined = [tier for tier, _ in brand.tiers]
    others = sorted((counted.keys() | people.keys()) - set(defined), key=lambda tier: (tier == UNKNOWN_TIER, tier))
    return tuple(
        TierResults(tier=tier, **_engaged(counted.get(tier, {}), people.get(tier, 0))) for tier in (*defined, *others)
    )


# By day


def _days(
    conn: Connection, brand: Brand, campaign: Campaign, held: Bounds, hours: Bounds, slots: Mapping[int, Sums]
) -> Iterator[DayResults]:
    """Each day with anything in it. Panes are within the campaign's window; refunds may come long after it."""
    zone = ZoneInfo(brand.timezone)
    by_day: dict[str, list[Sums]] = defaultdict(list)
    for starts_at, sums in slots.items():
        by_day[local_day(starts_at, zone).isoformat()].append(sums)
    days = _engaged_days(conn, brand.id, campaign.id, held, zone)
    people = _people_by_day(conn, brand.id, campaign.id, days, hours)
    counted = {
        day.name: group_totals(conn, "campaign", brand.id, campaign.id, None, Bounds(day.start, day.end)).get("", {})
        for day in days
    }
    busy = {name for name, counters in counted.items() if any(counters.values()) or people.get(name)}
    for name in sorted(by_day.keys() | busy):
        engaged = _engaged(counted.get(name, {}), people.get(name, 0))
        yield DayResults(day=name, **engaged, **_money(_sum(by_day[name])))


def _engaged_days(conn: Connection, brand: str, campaign: str, held: Bounds, zone: ZoneInfo) -> list[Day]:
    """The days from the first pane to the last."""
    pane = ENGAGEMENT.c
    where = [pane.scope == "campaign", pane.brand == brand, pane.campaign == campaign, pane.tier == ""]
    where += [pane.member == "", *([] if held.end is None else [pane.starts_at < held.end])]

    def outermost(which: Any) -> int | None:  # each by itself is one step in the key
        found: int | None = conn.execute(select(which(pane.starts_at)).where(*where)).scalar_one()
        return found

    first, last = outermost(func.min), outermost(func.max)
    if first is None or last is None:
        return []
    found = [day_of(local_day(first, zone), zone)]
    while found[-1].end <= last:
        found.append(day_of(local_day(found[-1].end, zone), zone))
    cut = last + GROUP_PANE_MS if held.end is None else held.end
    return [*found[:-1], found[-1]._replace(end=min(found[-1].end, cut))]


def local_day(at: int, zone: ZoneInfo) -> date:
    """The day that it is at an instant (epoch ms)."""
    return (_EPOCH + timedelta(milliseconds=at)).astimezone(zone).date()


def day_of(day: date, zone: ZoneInfo) -> Day:
    """When a day begins and ends; where the clocks go forward at midnight it begins at the first instant after."""

    def midnight(of: date) -> int:
        at = datetime.combine(of, time(), zone).astimezone(UTC)
        return (at - _EPOCH) // timedelta(milliseconds=1)

    return Day(day.isoformat(), midnight(day), midnight(day + timedelta(days=1)))


def _people_by_day(conn: Connection, brand: str, campaign: str, days: Sequence[Day], hours: Bounds) -> dict[str, int]:
    """Distinct members with a pane on each day, by hours that begin on it; one query a run of equal days."""
    people: dict[str, int] = {}
    for length, same in groupby(days, key=lambda day: day.end - day.start):
        run = list(same)
        number = (ENGAGEMENT.c.starts_at - run[0].start) // length
        where = member_panes(brand, campaign, None, Bounds(run[0].start, run[-1].end))
        if hours.end is not None:
            where.append(ENGAGEMENT.c.starts_at < hours.end)
        counted = select(number, func.count(distinct(ENGAGEMENT.c.member))).where(*where).group_by(number)
        people |= {run[int(n)].name: int(count) for n, count in conn.execute(counted)}
    return people
