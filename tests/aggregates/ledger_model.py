"""The ledger of one member a second time: plain lists, everything looked for from the start, nothing of the real one.

Slow and obvious on purpose; it shares no function with what it checks, not even how a month is added to a day.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from fractions import Fraction
from functools import lru_cache
from math import floor
from typing import Any
from zoneinfo import ZoneInfo

DAY = 86_400_000
QUARTER = 900_000
CAPS = ("per_post", "per_day", "per_week", "per_month", "total")
REVERSED, PAID, REFUSED = "reversed", "paid", "refused"
Outcome = list[tuple[str, Any, Any]]
"""`(paid, rule, points)`, `(refused, rule or command, reason)`, `(reversed, points taken, points given up)`."""


def day_of(at: int, zone: str) -> date:
    return datetime.fromtimestamp(at // 1000, ZoneInfo(zone)).date()


@lru_cache(maxsize=100_000)
def first_instant(day: date, zone: str) -> int:
    """Looked for in steps of a quarter of an hour: no clock of today changes at another minute."""
    at = (day - date(1970, 1, 1)).days * DAY - 2 * DAY
    while day_of(at, zone) < day:
        at += QUARTER
    return at


def months_later(day: date, months: int) -> date:
    year, month = day.year, day.month
    for _ in range(months):
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)
    number = day.day
    while True:
        try:
            return date(year, month, number)
        except ValueError:
            number -= 1


@dataclass
class Lot:
    """Points that came in, and what is left of them."""

    came: int
    left: int
    active_at: int
    expires_at: int | None
    place: int
    rule: dict[str, Any] = field(default_factory=dict)
    multiplier: Fraction = Fraction(1)
    gone: int = 0
    """Of what the rule paid: taken back or given up."""
    given_up: int = 0

    def is_pending(self, at: int) -> bool:
        return at < self.active_at

    def is_expired(self, at: int) -> bool:
        return not self.is_pending(at) and self.expires_at is not None and at >= self.expires_at


@dataclass
class Thing:
    """What a post got at once, or an order: what it paid, and what of it was undone."""

    key: tuple[Any, ...]
    actor: str | None = None
    units: int = 0
    amount: int | None = None
    refunds: list[int] = field(default_factory=list)
    lots: list[Lot] = field(default_factory=list)


def worth(rule: dict[str, Any], multiplier: Fraction, n: int) -> int:
    if n <= 0:
        return 0
    units = n if rule["on"] == "interaction" else n // rule["per_minor"] if "per_minor" in rule else 1
    return floor(units * rule["points"] * multiplier)


@dataclass
class Model:
    """One member's points. `expiry` is a number and `d` or `mo`, or None."""

    rules: list[dict[str, Any]]
    zone: str
    expiry: tuple[int, str] | None
    allows_debt: bool
    budget: int | None = None
    lots: list[Lot] = field(default_factory=list)
    posts: list[Thing] = field(default_factory=list)
    orders: list[Thing] = field(default_factory=list)
    log: list[tuple[str, str, Any, int]] = field(default_factory=list)
    """Rule, cap, its period and points: what was paid, for ever."""
    redemptions: dict[str, list[tuple[Lot, int]]] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    customer: bool = False
    earned: int = 0
    adjusted: int = 0
    reversed: int = 0
    spent: int = 0
    debt: int = 0
    in_debt_at: int = 0
    """When debt arose last."""
    shortfall: int = 0

    # What there is

    def left_at(self, at: int) -> tuple[list[int], int]:
        """What every lot holds then, in the order they came, and what is owed: each hold that ended has paid."""
        left, debt = [lot.left for lot in self.lots], self.debt
        ends = sorted({lot.active_at for lot in self.lots if lot.active_at <= at}) if at >= self.in_debt_at else []
        for end in ends:
            for lot in self.in_order([one for one in self.lots if one.active_at == end]):
                if not lot.is_expired(self.in_debt_at):
                    pays = min(left[lot.place], debt)
                    left[lot.place] -= pays
                    debt -= pays
        return left, debt

    def time_comes(self, at: int) -> None:
        """What holds that have ended paid is paid for good."""
        left, self.debt = self.left_at(at)
        for lot in self.lots:
            lot.left = left[lot.place]

    def owes(self, points: int, at: int) -> None:
        self.debt += points
        if points:
            self.in_debt_at = max(at, self.in_debt_at)

    def points_at(self, at: int) -> tuple[int, int, int, int]:
        """Active (net of the debt), pending and expired, and the debt."""
        left, debt = self.left_at(at)
        active, pending, expired = -debt, 0, 0
        for lot in self.lots:
            if lot.is_pending(at):
                pending += left[lot.place]
            elif lot.is_expired(at):
                expired += left[lot.place]
            else:
                active += left[lot.place]
        return active, pending, expired, debt

    def active(self, at: int) -> int:
        return self.points_at(at)[0]

    def in_order(self, lots: Iterable[Lot]) -> list[Lot]:
        limited = [lot for lot in lots if lot.expires_at is not None]
        unlimited = [lot for lot in lots if lot.expires_at is None]
        limited.sort(key=lambda lot: lot.place)
        limited.sort(key=lambda lot: lot.expires_at or 0)
        return limited + sorted(unlimited, key=lambda lot: lot.place)

    def active_lots(self, at: int) -> list[Lot]:
        return self.in_order([lot for lot in self.lots if not lot.is_pending(at) and not lot.is_expired(at)])

    # Points come in and go out

    def comes_in(self, points: int, at: int, hold: int = 0, **more: Any) -> Lot:
        active_at = at + hold
        expires_at = None
        if self.expiry is not None:
            number, unit = self.expiry
            day = day_of(active_at, self.zone)
            due = day + timedelta(days=number) if unit == "d" else months_later(day, number)
            expires_at = first_instant(due, self.zone)
        paid_off = 0 if hold else min(points, self.debt)
        self.debt -= paid_off
        lot = Lot(points, points - paid_off, active_at, expires_at, len(self.lots), **more)
        self.lots.append(lot)
        return lot

    def takes(self, lots: list[Lot], points: int) -> tuple[list[tuple[Lot, int]], int]:
        taken = []
        for lot in lots:
            some = min(lot.left, points)
            if some:
                lot.left -= some
                points -= some
                taken.append((lot, some))
        return taken, points

    def period(self, cap: str, at: int, post: str | None) -> Any:
        day = day_of(at, self.zone)
        monday = day - timedelta(days=day.weekday())
        periods = {"per_post": post, "per_day": day, "per_week": monday, "per_month": (day.year, day.month)}
        return periods.get(cap)

    def pay(self, rule: dict[str, Any], n: int, at: int, tier: str, post: str | None = None) -> tuple[Lot | None, str]:
        first = rule.get("first_time", False)
        paid_before = self.customer if rule["on"] == "purchase" else any(one[0] == rule["rule"] for one in self.log)
        if first and paid_before:
            return None, "not_the_first"
        multiplier = Fraction(str(rule.get("tier_multiplier", {}).get(tier, 1)))
        points = worth(rule, multiplier, 1 if first and rule["on"] == "interaction" else n)
        caps = rule.get("caps", {})
        if points > caps.get("per_event", points):
            return None, "per_event"
        reason = "nothing_due"
        for cap in CAPS:
            if cap in caps:
                used = sum(one[3] for one in self.log if one[:3] == (rule["rule"], cap, self.period(cap, at, post)))
                if caps[cap] - used < points:
                    points, reason = caps[cap] - used, cap
        if self.budget is not None and self.budget < points:
            points, reason = self.budget, "budget"
        if points < 1:
            return None, reason
        for cap in (*CAPS, "ever"):
            self.log.append((rule["rule"], cap, self.period(cap, at, post), points))
        if self.budget is not None:
            self.budget -= points
        self.earned += points
        return self.comes_in(points, at, rule.get("hold_ms", 0), rule=rule, multiplier=multiplier), ""

    def reverse(self, lot: Lot, n: int, at: int) -> Outcome:
        points = lot.came - lot.gone - worth(lot.rule, lot.multiplier, n)
        if points <= 0:
            return []
        lot.gone += points
        others = self.in_order([one for one in self.lots if one.is_pending(at)]) + self.active_lots(at)
        _, missing = self.takes([lot, *others], points)
        if self.allows_debt:
            self.owes(missing, at)
            self.reversed += points
            return [(REVERSED, points, 0)]
        self.shortfall += missing
        lot.given_up += missing
        self.reversed += points - missing
        return [(REVERSED, points - missing, missing)]

    # Interactions

    def matching(self, on: str, kind: str = "") -> list[dict[str, Any]]:
        return [rule for rule in self.rules if rule["on"] == on and kind in rule.get("kind", [kind])]

    def interact(self, value: dict[str, Any], at: int, tier: str, takes_part: bool) -> Outcome:
        self.time_comes(at)
        kind, post, actor, n = value["kind"], value["post_id"], value["actor_id"], value["quantity"]
        if n < 0:
            return self.unlike((kind, post), actor, -n, at)
        if n == 0 or not takes_part:
            return []
        if actor == "ann":
            return [(REFUSED, rule["rule"], "self_interaction") for rule in self.matching("interaction", kind)]
        thing, made = Thing((kind, post), actor, n), []
        for rule in self.matching("interaction", kind):
            lot, reason = self.pay(rule, n, at, tier, post)
            if lot is not None:
                thing.lots.append(lot)
            made.append((PAID, rule["rule"], lot.came) if lot is not None else (REFUSED, rule["rule"], reason))
        self.posts.append(thing)
        return made

    def unlike(self, key: tuple[Any, ...], actor: str | None, n: int, at: int) -> Outcome:
        made: Outcome = []
        for thing in reversed(self.posts):
            if thing.key == key and (actor is None or actor == thing.actor):
                some = min(n, thing.units)
                n -= some
                thing.units -= some
                for lot in reversed(thing.lots):
                    made += self.reverse(lot, thing.units, at) if some else []
        return made

    # Orders

    def order_of(self, key: tuple[Any, ...]) -> Thing:
        for order in self.orders:
            if order.key == key:
                return order
        self.orders.append(Thing(key))
        return self.orders[-1]

    def refund(self, key: tuple[Any, ...], amount: int, at: int) -> Outcome:
        self.time_comes(at)
        order = self.order_of(key)
        order.refunds.append(amount)
        net = max(0, (order.amount or 0) - sum(order.refunds))
        return [one for lot in order.lots for one in self.reverse(lot, net, at)]

    def order(
        self, on: str, key: tuple[Any, ...], amount: int, at: int, tier: str, takes_part: bool, new: bool = True
    ) -> Outcome:
        self.time_comes(at)
        order = self.order_of(key)
        if order.amount is not None:
            self.customer = self.customer or on == "purchase"
            return [(REFUSED, "", "duplicate_order" if on == "purchase" else "duplicate_referral")]
        order.amount = amount
        made: Outcome = []
        net = max(0, amount - sum(order.refunds))
        for rule in self.matching(on) if takes_part else []:
            if not new:
                made.append((REFUSED, rule["rule"], "existing_customer"))
                continue
            n = net if "per_minor" in rule else int(net > 0 or not order.refunds)
            lot, reason = self.pay(rule, n, at, tier)
            if lot is not None:
                order.lots.append(lot)
            made.append((PAID, rule["rule"], lot.came) if lot is not None else (REFUSED, rule["rule"], reason))
        self.customer = self.customer or on == "purchase"
        return made

    # Commands

    def command(self, key: str, kind: str, points: int, reference: str, at: int) -> Outcome:
        self.time_comes(at)
        if kind in ("transfer_in", "transfer_out"):
            return [(REFUSED, kind, "not_supported_yet")]
        if kind in ("redeem", "prize") and points <= 0:
            return [(REFUSED, kind, "points_not_positive")]
        if kind == "adjust" and points == 0:
            return [(REFUSED, kind, "points_zero")]
        if kind == "cancel":
            return self.cancel(reference)
        takes = points if kind == "redeem" else -points if kind == "adjust" and not self.allows_debt else 0
        if takes > 0 and takes > self.active(at):
            return [(REFUSED, kind, "insufficient_points")]
        if kind == "redeem":
            self.redemptions[key], _ = self.takes(self.active_lots(at), points)
            self.spent += points
        elif kind == "prize":
            self.comes_in(points, at)
            self.earned += points
        elif points > 0:
            self.comes_in(points, at)
            self.adjusted += points
        else:
            self.owes(self.takes(self.active_lots(at), -points)[1], at)
            self.adjusted += points
        return []

    def cancel(self, redemption: str) -> Outcome:
        if redemption not in self.redemptions:
            return [(REFUSED, "cancel", "unknown_redemption")]
        if redemption in self.cancelled:
            return [(REFUSED, "cancel", "already_cancelled")]
        self.cancelled.append(redemption)
        made: Outcome = []
        for lot, points in self.redemptions[redemption]:
            self.spent -= points
            made_good = min(points, lot.given_up)
            if made_good:
                lot.given_up -= made_good
                self.shortfall -= made_good
                self.reversed += made_good
                made.append((REVERSED, made_good, -made_good))
            paid_off = min(points - made_good, self.debt)
            self.debt -= paid_off
            lot.left += points - made_good - paid_off
        return made
