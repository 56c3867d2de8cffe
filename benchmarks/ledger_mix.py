"""The ledger's input in its benchmark: a fixed mix of records over 100,000 accounts, as the intake hands them on.

70 % interactions that pay, with caps and tier multipliers; 15 % purchases with hold; 5 % refunds of earlier purchases,
whole or in part; 5 % referrals; 5 % redemptions. A few members do much and most do little (Zipf-like).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from random import Random
from typing import Any, Final

import yaml

from aggregates.activity import Activity
from aggregates.definitions import Brand, Campaign
from aggregates.parsing import parse

MEMBERS: Final = 100_000
START: Final = 1_772_409_600_000
"""2026-03-02T00:00:00Z"""
SPAN_MS: Final = 28 * 86_400_000
END: Final = START + SPAN_MS
SEED: Final = 5
DEFINITIONS: Final = """
brand: acme
plan: pro
timezone: Europe/Paris
currency: EUR
points: {expire_after: 365d, negative_balance: allow}
---
campaign: spring
brand: acme
starts_at: 2026-03-01T00:00:00Z
ends_at: 2026-04-01T00:00:00Z
earn:
  - {rule: like, on: interaction, kind: [like], points: 1, tier_multiplier: {nano: 3, micro: 2},
     caps: {per_post: 30, per_day: 50, total: 5000}}
  - {rule: comment, on: interaction, kind: [comment], points: 5, tier_multiplier: {nano: 3, micro: 1.5},
     caps: {per_day: 100, per_month: 2000}}
  - {rule: share, on: interaction, kind: [share], surface: [brand_post], points: 10, tier_multiplier: {nano: 2},
     caps: {per_post: 20, per_week: 500}}
  - {rule: spend, on: purchase, per_minor: 100, points: 1, hold: 14d}
  - {rule: bring-a-friend, on: referral, points: 500, hold: 14d}
"""
TIERS: Final = (("nano", 400), ("micro", 4_000), ("mid", 40_000), ("macro", 400_000))
KINDS: Final = ("interaction",) * 70 + ("purchase",) * 15 + ("refund",) * 5 + ("referral",) * 5 + ("redemption",) * 5
_BASE: Final = ("event_id", "occurred_at", "brand_id", "member_id")


def definitions() -> tuple[Brand, Campaign]:
    """The brand and its one campaign."""
    brand, campaign = (parse(document, "benchmark") for document in yaml.safe_load_all(DEFINITIONS))
    assert isinstance(brand, Brand)
    assert isinstance(campaign, Campaign)
    return brand, campaign


def activities(count: int) -> Iterator[Activity]:
    """The first `count` records of a month that would end with so many; always the same for the same count."""
    return _Mix(count).activities()


class _Mix:
    def __init__(self, count: int) -> None:
        self._count = count
        self._random = random = Random(SEED)
        weights = list(accumulate(1 / (rank + 10) ** 0.7 for rank in range(MEMBERS)))
        self._members = random.choices(range(MEMBERS), cum_weights=weights, k=count)
        self._kinds = random.choices(KINDS, k=count)
        self._active: list[int] = []
        """Members who have interacted, so that most redemptions find points."""
        self._orders: list[tuple[int, str, int]] = []
        """Member, id and amount of what can be refunded."""

    def activities(self) -> Iterator[Activity]:
        brand, campaign = definitions()
        campaigns = (campaign,)
        for offset, (member, kind) in enumerate(zip(self._members, self._kinds, strict=True)):
            record_type, owner, fields = getattr(self, f"_{kind}")(offset, member)
            at = START + offset * SPAN_MS // self._count
            value = {**dict(zip(_BASE, (f"e{offset:09d}", at, "acme", f"member-{owner:06d}"), strict=True)), **fields}
            tier, followers = TIERS[owner % 10 % 4]
            yield Activity(record_type, offset, value, brand, campaigns, False, (), tier, followers, False)

    def _interaction(self, offset: int, member: int) -> tuple[str, int, dict[str, Any]]:
        random = self._random
        self._active.append(member)
        return "Interaction", member, {
            "surface": "brand_post", "kind": random.choice(("like", "like", "comment", "share")), "quantity": 1,
            "platform": "instagram", "post_id": f"post-{random.randrange(2_000):04d}", "campaign_id": None,
            "actor_id": f"fan-{random.randrange(MEMBERS):06d}", "followers": None,
        }  # fmt: skip

    def _purchase(self, offset: int, member: int) -> tuple[str, int, dict[str, Any]]:
        order, amount = f"order-{offset:09d}", self._random.randrange(500, 20_000)
        self._orders.append((member, order, amount))
        return "Purchase", member, _money(order, "completed", amount)

    def _refund(self, offset: int, member: int) -> tuple[str, int, dict[str, Any]]:
        if not self._orders:
            return self._purchase(offset, member)
        owner, order, amount = self._random.choice(self._orders)
        return "Purchase", owner, _money(order, "refunded", amount if offset % 2 else amount // 3)

    def _referral(self, offset: int, member: int) -> tuple[str, int, dict[str, Any]]:
        buyer, amount = f"member-{self._random.randrange(MEMBERS):06d}", self._random.randrange(500, 20_000)
        return "ReferralDue", member, {
            "buyer_id": buyer, "order_id": f"order-{offset:09d}", "kind": "completed", "amount_minor": amount,
            "currency": "EUR", "campaign_id": None, "new_customer": True,
        }  # fmt: skip

    def _redemption(self, offset: int, member: int) -> tuple[str, int, dict[str, Any]]:
        owner = self._random.choice(self._active) if self._active else member
        return "Command", owner, {
            "kind": "redeem", "points": self._random.randrange(1, 4), "reference": None, "reason": None,
            "requested_by": "benchmark",
        }  # fmt: skip


def _money(order: str, kind: str, amount: int) -> dict[str, Any]:
    return {
        "order_id": order, "kind": kind, "amount_minor": amount, "currency": "EUR", "campaign_id": None,
        "referrer_id": None,
    }  # fmt: skip
