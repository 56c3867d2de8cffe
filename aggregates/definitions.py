"""What a brand and a campaign are once read: immutable values, with every default filled in and every unit exact."""

from __future__ import annotations

import json
from calendar import monthrange
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final, NamedTuple

DEFAULT_TIERS: Final = (("nano", 0), ("micro", 1_000), ("mid", 10_000), ("macro", 100_000))
"""Lower bounds in followers, of the brands that define none."""
UNKNOWN_TIER: Final = "unknown"
"""The tier of a member without a profile."""
ENGAGEMENTS: Final = ("like", "comment", "share", "save", "click")
KINDS: Final = (*ENGAGEMENTS, "view", "reach", "post", "mention", "follow")
SURFACES: Final = ("member_post", "brand_post")
TRIGGERS: Final = ("interaction", "purchase", "referral")
PLANS: Final = ("free", "pro")
JOINS: Final = ("open", "opt_in")
METRICS: Final = ("points", "interactions", "engagement_rate", "referred_revenue")
CAPS: Final = ("per_event", "per_post", "per_day", "per_week", "per_month", "total")
"""In the order they apply: `per_event` rejects, the others truncate."""

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60 * SECOND_MS
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS


class DefinitionError(ValueError):
    """A definition that cannot be used: one sentence with the document, the key and what to do."""


class Period(NamedTuple):
    """A number of calendar days (`d`) or months (`mo`)."""

    number: int
    unit: str

    def after(self, day: date) -> date:
        """The day that comes so much later; a day that its month does not have is the month's last."""
        if self.unit == "d":
            return day + timedelta(days=self.number)
        years, month = divmod(day.month - 1 + self.number, 12)
        year = day.year + years
        return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


@dataclass(frozen=True, slots=True)
class Brand:
    """One version of a brand: its plan, its time and money, its tier bands and what its points do."""

    id: str
    version: int
    effective_at: int
    """Epoch milliseconds from which this version applies."""
    plan: str
    timezone: str
    """IANA name; its days, weeks and months are the caps', expiry's and the plan's."""
    currency: str
    tiers: tuple[tuple[str, int], ...]
    """Name and lower bound in followers, ascending from 0."""
    expire_after: Period | None
    """From the day the hold ends to expiry, at local midnight; None: never."""
    negative_balance: bool
    """Whether what a reversal finds no points for becomes debt; else it is given up as shortfall."""
    value_per_1000: int | None = None
    """What 1,000 points are worth, in minor units of the currency; None: nobody said."""

    expiries: dict[date, int] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Answers kept by `rules.expires_at`, by the day on which points become active."""

    def tier_of(self, followers: int) -> str:
        """The influence tier of that many followers."""
        name = self.tiers[0][0]
        for tier, bound in self.tiers:
            if followers < bound:
                break
            name = tier
        return name


@dataclass(frozen=True, slots=True)
class Rule:
    """One earning rule of a campaign version. Empty filters match anything."""

    name: str
    on: str
    """`interaction`, `purchase` or `referral`."""
    points: int
    """Points per unit: of quantity, of money (`per` minor units), or flat."""
    per: int
    """Minor units of one money unit; 0 when the rule is not about money."""
    kinds: tuple[str, ...]
    surfaces: tuple[str, ...]
    platforms: tuple[str, ...]
    multipliers: tuple[tuple[str, int], ...]
    """Tier and multiplier in thousandths; a tier that is not listed has 1000."""
    caps: tuple[tuple[str, int], ...]
    """Cap name and points, in the order of `CAPS`."""
    hold_ms: int
    """From earning to active."""
    first_time: bool = False
    """Whether it pays a member once: for the first order ever, or the first interaction or referral that it pays."""

    @property
    def basis(self) -> str:
        """`unit`, `money` or `flat`, as in `events.Grant`."""
        if self.on == "interaction":
            return "unit"
        return "money" if self.per else "flat"

    def multiplier_milli(self, tier: str) -> int:
        """The tier's multiplier in thousandths."""
        for name, milli in self.multipliers:
            if name == tier:
                return milli
        return 1000


@dataclass(frozen=True, slots=True)
class Campaign:
    """One version of a campaign: when it is live, who takes part, what it pays."""

    id: str
    brand: str
    version: int
    effective_at: int
    """Epoch milliseconds from which this version applies."""
    starts_at: int
    ends_at: int
    """First instant at which it is over."""
    budget: int | None
    """Points it may pay in all; None: no limit."""
    join: str
    """`open`: every member takes part; `opt_in`: those who joined."""
    earn: tuple[Rule, ...]
    standings: str
    """The metric of its standings."""
    prizes: tuple[tuple[int, int], ...]
    """Rank and points."""
    draft: bool = False
    """Only kept: it is never in force, and no launch."""
    matching: dict[Hashable, tuple[Rule, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Answers kept by `rules.matching`."""
    caps: dict[tuple[str, date], tuple[tuple[str, int, str], ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """What `rules` keeps of each rule's caps on a local day."""

    def live_at(self, occurred_at: int) -> bool:
        """Whether this version's window covers that instant."""
        return self.starts_at <= occurred_at < self.ends_at


def content_of(definition: Brand | Campaign) -> str:
    """The definition as canonical JSON: equal definitions give equal text, and `parsing.from_content` reads it back."""
    document = _brand_document(definition) if isinstance(definition, Brand) else _campaign_document(definition)
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _brand_document(brand: Brand) -> Mapping[str, Any]:
    after = brand.expire_after
    points: dict[str, Any] = {"expire_after": "none" if after is None else f"{after.number}{after.unit}"}
    points["negative_balance"] = "allow" if brand.negative_balance else "forbid"
    if brand.value_per_1000 is not None:
        points["value_per_1000"] = brand.value_per_1000
    return {
        "brand": brand.id,
        "version": brand.version,
        "effective_at": brand.effective_at,
        "plan": brand.plan,
        "timezone": brand.timezone,
        "currency": brand.currency,
        "tiers": dict(brand.tiers),
        "points": points,
    }


def _campaign_document(campaign: Campaign) -> Mapping[str, Any]:
    document: dict[str, Any] = {
        "campaign": campaign.id,
        "brand": campaign.brand,
        "version": campaign.version,
        "effective_at": campaign.effective_at,
        "starts_at": campaign.starts_at,
        "ends_at": campaign.ends_at,
    }
    if campaign.budget is not None:
        document["budget"] = campaign.budget
    document["join"] = campaign.join
    document["earn"] = [_rule_document(rule) for rule in campaign.earn]
    document["standings"] = campaign.standings
    document["prizes"] = {str(rank): points for rank, points in campaign.prizes}
    if campaign.draft:
        document["draft"] = True
    return document


def _rule_document(rule: Rule) -> Mapping[str, Any]:
    document: dict[str, Any] = {"rule": rule.name, "on": rule.on}
    for key, names in (("kind", rule.kinds), ("surface", rule.surfaces), ("platform", rule.platforms)):
        if names:
            document[key] = list(names)
    if rule.per:
        document["per_minor"] = rule.per
    document["points"] = rule.points
    if rule.multipliers:
        document["tier_multiplier"] = {tier: _milli_text(milli) for tier, milli in rule.multipliers}
    if rule.caps:
        document["caps"] = dict(rule.caps)
    document["hold"] = _duration_text(rule.hold_ms)
    if rule.first_time:
        document["first_time"] = True
    return document


def _milli_text(milli: int) -> str:
    return f"{milli // 1000}.{milli % 1000:03d}".rstrip("0").rstrip(".")


def _duration_text(ms: int) -> str:
    for unit, length in (("d", DAY_MS), ("h", HOUR_MS), ("m", MINUTE_MS)):
        if ms % length == 0:
            return f"{ms // length}{unit}"
    return f"{ms // SECOND_MS}s"
