"""Builders for account tests: definitions from YAML, records with defaults, an account that keeps its events."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import yaml

from aggregates.account import Account, decide, evolve
from aggregates.activity import Activity
from aggregates.definitions import Brand, Campaign
from aggregates.events import AccountEvent, Origin, from_stored, to_stored
from aggregates.parsing import parse


def ms(text: str) -> int:
    """Epoch milliseconds of an ISO 8601 time; UTC unless it says otherwise."""
    return int(datetime.fromisoformat(text if "+" in text else f"{text}+00:00").timestamp() * 1000)


DAY = 86_400_000
NOON = ms("2026-03-10T12:00:00")


def brand(text: str = "") -> Brand:
    """The brand acme: Paris time, debt allowed, no expiry, unless `text` says otherwise."""
    document = yaml.safe_load("{brand: acme, currency: EUR, timezone: Europe/Paris, points: {negative_balance: allow}}")
    made = parse({**document, **(yaml.safe_load(text) or {})}, "test")
    assert isinstance(made, Brand)
    return made


def campaign(rules: str, text: str = "") -> Campaign:
    """The campaign spring, live in all of March 2026, with these rules (a YAML list)."""
    document = yaml.safe_load(
        "{campaign: spring, brand: acme, starts_at: 2026-03-01T00:00:00Z, ends_at: 2026-04-01T00:00:00Z}"
    )
    made = parse({**document, **(yaml.safe_load(text) or {}), "earn": yaml.safe_load(rules)}, "test")
    assert isinstance(made, Campaign)
    return made


class Member:
    """The account of ann at acme, with every event it ever gave. Events go through their stored form."""

    def __init__(self, *campaigns: Campaign, owner: Brand | None = None, budget: dict[str, int] | None = None) -> None:
        self.account = Account()
        self.brand = owner or brand()
        self.campaigns = campaigns
        self.budget = budget or {}
        self.events: list[AccountEvent] = []
        self.offset = 0

    def record(self, record_type: str, value: dict[str, Any], **seen: Any) -> list[AccountEvent]:
        """What the account makes of one accepted record; it is applied."""
        self.offset += 1
        base = {"event_id": f"e{self.offset}", "occurred_at": NOON, "brand_id": "acme", "member_id": "ann"}
        value = {**base, **value}
        context = {
            "campaigns": self.campaigns,
            "not_live": False,
            "not_joined": (),
            "tier": "micro",
            "followers": 2_000,
            "is_self": value.get("actor_id") == "ann",
        }
        activity = Activity(record_type, self.offset, value, self.brand, **{**context, **seen})
        origin = Origin("members.activity.v1", 0, self.offset, value["event_id"], value["occurred_at"], 0)
        events = decide(self.account, activity, origin, self.budget)
        for event in events:
            assert from_stored(*to_stored(event)) == event
            evolve(self.account, event)
            for grant in getattr(event, "grants", ()):
                if grant.campaign in self.budget:
                    self.budget[grant.campaign] -= grant.points
        self.events += events
        return events

    def interact(self, quantity: int = 1, kind: str = "like", seen: Any = None, **value: Any) -> list[AccountEvent]:
        """An interaction on a post of the brand."""
        base = {"surface": "brand_post", "platform": "x", "post_id": "p1", "campaign_id": None, "actor_id": None}
        return self.record("Interaction", {**base, "kind": kind, "quantity": quantity, **value}, **(seen or {}))

    def buy(self, order: str, amount: int, seen: Any = None, **value: Any) -> list[AccountEvent]:
        """A completed order."""
        return self._purchase("completed", order, amount, seen, value)

    def refund(self, order: str | None, amount: int, seen: Any = None, **value: Any) -> list[AccountEvent]:
        """A refund, of an order or of none that is known."""
        return self._purchase("refunded", order, amount, seen, value)

    def _purchase(self, kind: str, order: str | None, amount: int, seen: Any, value: Any) -> list[AccountEvent]:
        base = {"order_id": order, "currency": "EUR", "campaign_id": None, "referrer_id": None}
        return self.record("Purchase", {**base, "kind": kind, "amount_minor": amount, **value}, **(seen or {}))

    def friend(self, kind: str, order: str, amount: int, buyer: str = "bob", **value: Any) -> list[AccountEvent]:
        """An order of a friend, or its refund, on the account of the referrer."""
        base = {"currency": "EUR", "campaign_id": None, "new_customer": True, "buyer_id": buyer}
        return self.record("ReferralDue", {**base, "kind": kind, "order_id": order, "amount_minor": amount, **value})

    def command(self, points: int, kind: str = "redeem", **value: Any) -> list[AccountEvent]:
        """A command, a redemption by default."""
        return self.record("Command", {"kind": kind, "points": points, "requested_by": "test", **value})

    def cancel(self, redemption: str | None, **value: Any) -> list[AccountEvent]:
        """The cancellation of a redemption, by its entry."""
        return self.command(0, kind="cancel", reference=redemption, **value)

    def points(self, at: int = NOON) -> tuple[int, int, int]:
        """Active (net of debt), pending and expired points at an instant."""
        balance = self.account.balance_at(at)
        return balance.active, balance.pending, balance.expired


def paid(events: list[AccountEvent]) -> list[int]:
    """The points of every grant in the events."""
    return [grant.points for event in events for grant in getattr(event, "grants", ())]


def refused(events: list[AccountEvent]) -> list[str]:
    """The reason of every refusal in the events."""
    return [refusal.reason for event in events for refusal in getattr(event, "refusals", ())]


def taken_back(events: list[AccountEvent]) -> list[int]:
    """The points of every reversal in the events."""
    return [reversal.points for event in events for reversal in getattr(event, "reversals", ())]
