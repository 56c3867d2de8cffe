"""What an earning rule pays: which rules match a record, their entitlement, caps, hold and expiry.

Everything here is a pure function of its arguments. Points are integers, times epoch milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

from aggregates.activity import Activity
from aggregates.definitions import Brand, Campaign, Rule
from aggregates.events import Grant, Refusal, counter_of, total_counter
from aggregates.local_time import local_day, start_of_day
from aggregates.refusals import Refusal as Reason

_MOST_COMBINATIONS: Final = 1_000
"""Kept for one campaign version; platforms are free text."""
TRIGGERS: Final = {"Interaction": "interaction", "Purchase": "purchase", "ReferralDue": "referral"}
"""Record type → what a rule calls it in `on`."""


MOST_POINTS: Final = 10**12
"""What one event can be entitled to under one rule: sums of it stay far within 64 bits."""


def entitlement(basis: str, rate: int, per: int, multiplier_milli: int, n: int) -> int:
    """Points before caps and budget: `floor(units × rate × multiplier_milli / 1000)`; 0 for an `n` of 0 or less.

    Units are `n` for `unit`, `n // per` for `money`, and 1 for `flat`, where the caller gives any number above 0 for
    an order that stands and 0 for one that was refunded in full. Never more than `MOST_POINTS`.
    """
    if n <= 0:
        return 0
    units = 1 if basis == "flat" else n // per if basis == "money" else n
    points = units * rate * multiplier_milli // 1000
    return points if points < MOST_POINTS else MOST_POINTS


def entry_id(*parts: str) -> str:
    """The id of a ledger entry: 16 hex characters from what caused it alone, so that a replay gives it again.

    The parts are the record type, its event id, the campaign, the rule, and the entry that a reversal reverses.
    """
    return blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


def record_id(kind: str, *parts: str) -> str:
    """An event id made of what caused the record: the same again for the same cause, and never too long."""
    digest = blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
    return f"{kind}:{digest}"


def matches(rule: Rule, activity: Activity) -> bool:
    """Whether a rule is about such a record."""
    return not mismatch(rule, activity)


def mismatch(rule: Rule, activity: Activity) -> str:
    """The first filter of a rule that a record does not pass: `on`, `kind`, `surface` or `platform`; else empty."""
    if rule.on != TRIGGERS.get(activity.type):
        return "on"
    filters = (("kind", rule.kinds), ("surface", rule.surfaces), ("platform", rule.platforms))
    for name, allowed in filters if rule.on == "interaction" else ():
        if allowed and activity.value[name] not in allowed:
            return name
    return ""


def matching(campaign: Campaign, activity: Activity) -> tuple[Rule, ...]:
    """The rules of a campaign version that match a record, in their order.

    Kept with the campaign for each combination that occurs: asking every rule anew was a tenth of the ledger's time.
    """
    value = activity.value
    interaction = activity.type == "Interaction"
    key = (value["kind"], value["surface"], value["platform"]) if interaction else activity.type
    found = campaign.matching.get(key)
    if found is None:
        if len(campaign.matching) >= _MOST_COMBINATIONS:
            campaign.matching.clear()
        found = tuple(rule for rule in campaign.earn if matches(rule, activity))
        campaign.matching[key] = found
    return found


def judge(
    activity: Activity,
    campaign: Campaign,
    rule: Rule,
    amount: int,
    entry: str,
    used: Mapping[str, int],
    budget_left: int | None,
) -> tuple[Grant | None, Refusal | None]:
    """What a matching rule pays for `amount` (see `entitlement`): a grant `entry`, or the refusal that says why not.

    `used` has the points that each cap counter has paid this member; `budget_left` is the campaign's, None: no limit.
    """
    multiplier, basis = rule.multiplier_milli(activity.tier), rule.basis
    if rule.first_time and basis == "unit":
        amount = 1
    entitled = entitlement(basis, rule.points, rule.per, multiplier, amount)
    points, limited_by, counters = _limited(activity, campaign, rule, entitled, used)
    if points > 0 and budget_left is not None and budget_left < points:
        points, limited_by = max(0, budget_left), Reason.BUDGET.value
    if points < 1:
        return None, Refusal(campaign.id, campaign.version, rule.name, limited_by or Reason.NOTHING_DUE.value)
    active_at = activity.value["occurred_at"] + rule.hold_ms
    grant = Grant(  # in their order: by name they take twice as long
        entry,
        campaign.id,
        campaign.version,
        rule.name,
        points,
        entitled,
        basis,
        rule.points,
        rule.per,
        multiplier,
        active_at,
        expires_at(active_at, activity.brand),
        limited_by,
        counters,
    )
    return grant, None


def _limited(
    activity: Activity, campaign: Campaign, rule: Rule, entitled: int, used: Mapping[str, int]
) -> tuple[int, str, tuple[str, ...]]:
    """The points that the caps leave, the cap that kept most back, and the counters they use up."""
    points, limited_by, counters = entitled, "", []
    if rule.first_time and rule.on != "purchase":
        counters.append(counter_of(campaign.id, rule.name, "first"))
        if used.get(counters[0]) or used.get(total_counter(campaign.id, rule.name)):
            return 0, Reason.NOT_THE_FIRST.value, ()
    for cap, limit, counter in _caps(activity, campaign, rule) if rule.caps else ():
        if cap == "per_event":
            if entitled > limit:
                return 0, cap, ()
            continue
        if cap == "per_post":
            # Interactions of a platform without a post id share one nameless post.
            # A platform's own slashes are written otherwise, so that it ends where the post begins.
            platform = activity.value["platform"].replace("%", "%25").replace("/", "%2F")
            counter += f"{platform}/{activity.value['post_id'] or ''}"
        counters.append(counter)
        room = limit - used.get(counter, 0)
        if points and room < points:
            points, limited_by = max(0, room), cap
    return points, limited_by, tuple(counters)


def _caps(activity: Activity, campaign: Campaign, rule: Rule) -> tuple[tuple[str, int, str], ...]:
    """A rule's caps, each with its limit and the counter of its period; that of `per_post` ends before the post.

    Kept with the campaign for each day: so all accounts share the counters' names, and none is made twice.
    """
    day = local_day(activity.value["occurred_at"], activity.brand.timezone)
    found = campaign.caps.get((rule.name, day.date))
    if found is None:
        periods = {
            "per_event": "",
            "per_post": "post:",
            "per_day": f"day:{day.day}",
            "per_week": f"week:{day.week}",
            "per_month": f"month:{day.month}",
            "total": "total",
        }
        found = tuple((cap, limit, counter_of(campaign.id, rule.name, periods[cap])) for cap, limit in rule.caps)
        campaign.caps[rule.name, day.date] = found
    return found


def expires_at(active_at: int, brand: Brand) -> int | None:
    """First instant at which points that become active then are expired: a local midnight; None: never."""
    if brand.expire_after is None:
        return None
    day = local_day(active_at, brand.timezone).date
    found = brand.expiries.get(day)
    if found is None:
        found = brand.expiries[day] = start_of_day(brand.expire_after.after(day), brand.timezone)
    return found
