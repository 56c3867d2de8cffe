"""Batches of purchases for the tests of the ledger."""

from __future__ import annotations

from typing import Any

from account_cases import NOON, brand, campaign

from aggregates.activity import Activity
from aggregates.ledger import Batch, Source

SOURCE = Source("members.activity.v1", "epoch", 0)
BRAND = brand()
SPEND = "[{rule: spend, on: purchase, per_minor: 100, points: 1}]"
SPRING = campaign(SPEND)


def limited(budget: int) -> Any:
    """A campaign with so many points to give."""
    return campaign(SPEND, f"budget: {budget}")


def partition(number: int) -> Source:
    """A partition of the same topic."""
    return Source(SOURCE.topic, SOURCE.epoch, number)


def buy(offset: int, member: str = "ann", of: Any = SPRING) -> Activity:
    """A purchase of 10.00 EUR, which earns 10 points."""
    value = {
        "event_id": f"e{offset}", "occurred_at": NOON, "brand_id": "acme", "member_id": member,
        "order_id": f"o{offset}", "kind": "completed", "amount_minor": 1000, "currency": "EUR", "campaign_id": None,
        "referrer_id": None,
    }  # fmt: skip
    return Activity("Purchase", offset, value, BRAND, (of,), False, (), "unknown", None, False)


def batch(
    start: int, end: int, *activities: Activity, writer: str = "w", source: Source = SOURCE, number: int | None = None
) -> Batch:
    """A batch from `start` to before `end`; its number is its end."""
    return Batch(source, start, end, activities, NOON + 1, writer, end if number is None else number)
