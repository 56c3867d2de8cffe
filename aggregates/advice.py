"""What somebody who is about to define a brand or campaign would want to be told: what is allowed and seldom meant.

Sentences for people; nothing here refuses anything. Every one is true of the definition, whatever comes in later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from aggregates.definitions import UNKNOWN_TIER, Brand, Campaign, Rule
from aggregates.programs import campaign_in_force, in_force, unknown_tiers
from aggregates.rules import entitlement

_WITHIN: Final = (
    ("per_post", ("total",)),
    ("per_day", ("per_week", "per_month", "total")),
    ("per_week", ("total",)),
    ("per_month", ("total",)),
)
"""Cap → caps of stretches that hold all of its own; a week can be of two months."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


# Of a brand


def brand_notes(brand: Brand, others: Sequence[Brand]) -> Iterator[str]:
    """What accepting a brand's version changes; `others` are its accepted versions."""
    yield from _place(brand, in_force(others, brand.effective_at), others)


def brand_warnings(brand: Brand, others: Sequence[Brand], campaigns: Iterable[Campaign]) -> Iterator[str]:
    """What is seldom meant; `campaigns` are the accepted versions of the brand's."""
    before = in_force(others, brand.effective_at)
    if before is not None and before.currency != brand.currency:
        yield (
            f"the currency changes from {before.currency} to {brand.currency}: purchases in {before.currency} that "
            f"occur from {_time(brand.effective_at)} on are dead letters"
        )
    for campaign in campaigns:
        unknown = unknown_tiers(brand, campaign)
        if unknown and campaign.ends_at > brand.effective_at and not campaign.draft:
            yield (
                f"campaign {campaign.id} version {campaign.version} multiplies for {', '.join(unknown)}, and with this "
                "version nobody is in such a tier"
            )


# Of a campaign


def campaign_notes(campaign: Campaign, others: Sequence[Campaign]) -> Iterator[str]:
    """What accepting a campaign's version changes; `others` are its accepted versions."""
    if campaign.draft:
        yield "it is a draft: kept, and never in force"
        return
    yield from _place(
        campaign,
        campaign_in_force(others, campaign.effective_at),
        [version for version in others if not version.draft],
    )
    if campaign.prizes and campaign.budget is not None:
        prizes = sum(points for _, points in campaign.prizes)
        yield f"prizes come on top of the budget of {campaign.budget}: {prizes} points, more where ranks are shared"


def campaign_warnings(brand: Brand, campaign: Campaign, others: Sequence[Campaign], now: int) -> Iterator[str]:
    """What is seldom meant; `brand` is the version in force when the campaign starts, `now` epoch milliseconds."""
    if campaign.effective_at >= campaign.ends_at:
        yield f"it takes effect at {_time(campaign.effective_at)}, when the campaign is over: it never judges anything"
    elif campaign.ends_at <= now:
        yield f"it ended at {_time(campaign.ends_at)}: it judges only what occurred before and is published from now on"
    elif others and campaign.effective_at < now:
        yield (
            f"it takes effect in the past, at {_time(campaign.effective_at)}: what is in the ledger stays as it is, "
            "and only what is published from now on is judged by it"
        )
    never = [reason for rule in campaign.earn if (reason := _never_pays(brand, rule))]
    yield from never
    for rule in campaign.earn:
        yield from _idle_caps(rule)
    if campaign.budget == 0:
        yield "its budget is 0: it pays nothing"
    if len(never) == len(campaign.earn) or campaign.budget == 0:
        if not campaign.earn:
            yield "it has no earning rule: it pays nothing"
        if campaign.prizes and campaign.standings == "points":
            yield "it has prizes by points, and pays no points: nobody is in its standings"
    ranks = {rank for rank, _ in campaign.prizes}
    missing = next((rank for rank in range(1, max(ranks, default=0)) if rank not in ranks), None)
    if missing is not None:
        yield f"rank {missing} has no prize, and a rank below it has one"


def _never_pays(brand: Brand, rule: Rule) -> str:
    """Why a rule can never pay; empty when it can."""
    zero = [cap for cap, points in rule.caps if points == 0]
    if zero:
        return f"rule {rule.name}: {zero[0]} is 0, so it never pays"
    tiers = [*(name for name, _ in brand.tiers), UNKNOWN_TIER]
    multipliers = [milli for tier in tiers if (milli := rule.multiplier_milli(tier))]
    if not multipliers:
        return f"rule {rule.name}: its multiplier is 0 for every tier, so it never pays"
    limit = dict(rule.caps).get("per_event")
    least = min(entitlement(rule.basis, rule.points, rule.per, milli, max(1, rule.per)) for milli in multipliers)
    if limit is not None and least > limit:
        return f"rule {rule.name}: the least event is worth {least} points, and per_event rejects all above {limit}"
    return ""


def _idle_caps(rule: Rule) -> Iterator[str]:
    """Caps that a cap of a longer stretch keeps from ever limiting."""
    caps = dict(rule.caps)
    for cap, longer in _WITHIN:
        tighter = [(other, caps[other]) for other in longer if cap in caps and caps.get(other, caps[cap]) < caps[cap]]
        if tighter:
            name, points = tighter[0]
            yield f"rule {rule.name}: {cap} {caps[cap]} never limits, {name} allows {points}"


def _place(
    version: Brand | Campaign, before: Brand | Campaign | None, others: Sequence[Brand | Campaign]
) -> Iterator[str]:
    """Which version it supersedes, and which one supersedes it."""
    if before is not None and before.version != version.version:
        if before.effective_at == version.effective_at:
            winner = "this one counts" if version.version > before.version else "that one counts"
            yield f"version {before.version} takes effect at the same time, and {winner}"
        else:
            yield f"it supersedes version {before.version} for what occurs from {_time(version.effective_at)} on"
    later = [other for other in others if other.effective_at > version.effective_at]
    if later:
        next_one = min(later, key=lambda other: (other.effective_at, -other.version))
        yield f"version {next_one.version} supersedes it from {_time(next_one.effective_at)} on"


def _time(at: int) -> str:
    return f"{_EPOCH + timedelta(milliseconds=at):%Y-%m-%dT%H:%M:%SZ}"
