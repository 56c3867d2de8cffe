"""What an earning rule pays: which rules match a record, their entitlement, caps, hold and expiry.

Everything here is a pure function of its arguments. Points are integers, times epoch milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from aggregates.definitions import Brand, Campaign, Rule
from aggregates.events import Grant, Refusal
from aggregates.refusals import Reason

_CAP_REASONS: Final = {
    "per_post": Reason.CAP_POST.value,
    "per_day": Reason.CAP_DAY.value,
    "per_week": Reason.CAP_WEEK.value,
    "per_month": Reason.CAP_MONTH.value,
    "total": Reason.CAP_TOTAL.value,
}


class Case(NamedTuple):
    """What a rule is to judge."""

    record_type: str
    event_id: str
    occurred_at: int
    tier: str
    n: int
    """Quantity of an interaction, net minor units of an order."""
    refunded: bool = False
    """An order that refunds brought to nothing: it earns nothing, not even flat points."""
    post: str = ""
    """`<platform>/<post_id>` of an interaction; those without a post id share one nameless post."""


def entitlement(basis: str, rate: int, per: int, multiplier_milli: int, n: int) -> int:
    """Points before caps and budget: `floor(units × rate × multiplier_milli / 1000)`.

    Units are `n` for `unit`, `n // per` for `money` and 1 for `flat`. An `n` of 0 or less is worth nothing, except
    under `flat`, where the caller knows whether the order still stands.
    """
    if basis == "flat":
        units = 1
    elif n <= 0:
        return 0
    else:
        units = n // per if basis == "money" else n
    return units * rate * multiplier_milli // 1000


def entry_id(record_type: str, event_id: str, campaign: str, rule: str, reverses: str = "") -> str:
    """The id of a ledger entry: 16 hex characters, from what caused it alone, so that a replay gives it again."""
    parts = (record_type, event_id, campaign, rule, reverses) if reverses else (record_type, event_id, campaign, rule)
    return blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


def matching_interaction(campaign: Campaign, kind: str, surface: str, platform: str) -> Iterator[Rule]:
    """The campaign's rules for an interaction of that kind on that surface and platform, in their order."""
    for rule in campaign.earn:
        if (
            rule.on == "interaction"
            and (not rule.kinds or kind in rule.kinds)
            and (not rule.surfaces or surface in rule.surfaces)
            and (not rule.platforms or platform in rule.platforms)
        ):
            yield rule


def matching_money(campaign: Campaign, on: str) -> Iterator[Rule]:
    """The campaign's rules on `purchase` or `referral`, in their order."""
    return (rule for rule in campaign.earn if rule.on == on)


def judge(
    rule: Rule, campaign: Campaign, brand: Brand, case: Case, used: Mapping[str, int], budget_left: int | None
) -> Grant | Refusal:
    """What the rule pays for the case. `used` has the member's cap counters, `budget_left` the campaign's points."""
    multiplier, basis = rule.multiplier_milli(case.tier), rule.basis
    entitled = 0 if case.refunded else entitlement(basis, rule.points, rule.per, multiplier, case.n)
    if entitled < 1:
        reason = Reason.ORDER_REFUNDED if case.refunded else Reason.NOTHING_DUE
        return Refusal(campaign.id, campaign.version, rule.name, reason.value)
    points, limited_by, counters = entitled, "", []
    for cap, limit in rule.caps:
        if cap == "per_event":
            if entitled > limit:
                return Refusal(campaign.id, campaign.version, rule.name, Reason.PER_EVENT.value)
            continue
        counter = f"{campaign.id}/{rule.name}/{_period(cap, case, brand.timezone)}"
        counters.append(counter)
        room = limit - used.get(counter, 0)
        if room < points:
            points, limited_by = room, _CAP_REASONS[cap]
    if points > 0 and budget_left is not None and budget_left < points:
        points, limited_by = budget_left, Reason.BUDGET.value
    if points < 1:
        return Refusal(campaign.id, campaign.version, rule.name, limited_by)
    active_at = case.occurred_at + rule.hold_ms
    return Grant(
        entry_id=entry_id(case.record_type, case.event_id, campaign.id, rule.name),
        campaign=campaign.id,
        version=campaign.version,
        rule=rule.name,
        points=points,
        entitled=entitled,
        basis=basis,
        rate=rule.points,
        per=rule.per,
        multiplier_milli=multiplier,
        active_at=active_at,
        expires_at=expires_at(active_at, brand),
        limited_by=limited_by,
        counters=tuple(counters),
    )


def entitled_still(grant: Grant, n: int, refunded: bool = False) -> int:
    """What is still due of a grant when its quantity or net amount has become `n`; never more than it paid."""
    if grant.basis == "flat" and refunded and n <= 0:
        return 0
    return min(entitlement(grant.basis, grant.rate, grant.per, grant.multiplier_milli, n), grant.points)


def _period(cap: str, case: Case, timezone: str) -> str:
    if cap == "total":
        return "total"
    if cap == "per_post":
        return f"post:{case.post}"
    day = local_date(case.occurred_at, timezone)
    if cap == "per_day":
        return f"day:{day.isoformat()}"
    if cap == "per_week":
        year, week, _ = day.isocalendar()
        return f"week:{year}-W{week:02d}"
    return f"month:{day.year}-{day.month:02d}"


def local_date(at: int, timezone: str) -> date:
    """The calendar day of an instant in an IANA timezone."""
    return datetime.fromtimestamp(at // 1000, ZoneInfo(timezone)).date()


def expires_at(active_at: int, brand: Brand) -> int | None:
    """First instant at which points that became active then are expired: local midnight, days later; None: never."""
    if brand.expire_after_days is None:
        return None
    return _midnight(local_date(active_at, brand.timezone), brand.expire_after_days, brand.timezone)


@lru_cache(maxsize=4096)
def _midnight(day: date, days_later: int, timezone: str) -> int:
    return start_of_day(day + timedelta(days=days_later), timezone)


def start_of_day(day: date, timezone: str) -> int:
    """The first instant of a calendar day in an IANA timezone, also where the clock skips midnight."""
    local = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(timezone))
    return (local - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
