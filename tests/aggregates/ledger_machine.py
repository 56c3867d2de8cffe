"""Random lives of a member, played through the ledger and through the model; they must agree in everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from ledger_model import DAY, PAID, REFUSED, REVERSED, Model, Outcome, day_of, first_instant
from ledger_model import Lot as ModelLot

from aggregates.account import Account, decide, evolve
from aggregates.activity import Activity
from aggregates.definitions import Brand, Campaign, Period
from aggregates.events import AccountEvent, CommandRefused, Origin, PointsRedeemed, from_stored, to_stored
from aggregates.ledger import Recorded
from aggregates.programs import parse
from projections import balances, books, lots, statements

STEPS = 50
START = 1_772_800_000_000
"""2026-03-06: two days before clocks go forward in Havana, three weeks before they do in Paris."""
ZONES = ["UTC", "Europe/Paris", "America/Havana", "Australia/Lord_Howe"]
EXPIRIES: list[tuple[int, str] | None] = [None, (1, "d"), (5, "d"), (1, "mo")]
MONEY = {"per_minor": 100, "points": 3}
RULES: list[dict[str, Any]] = [
    {
        "rule": "any", "on": "interaction", "points": 7, "tier_multiplier": {"nano": 2.5, "micro": 0.5},
        "caps": {"per_post": 40, "per_day": 60, "per_week": 90, "total": 200},
    },
    {"rule": "share", "on": "interaction", "kind": ["share"], "points": 5, "first_time": True, "hold": "2d"},
    {"rule": "spend", "on": "purchase", **MONEY, "hold": "2d", "caps": {"per_month": 90}},
    {"rule": "small", "on": "purchase", "per_minor": 50, "points": 1, "caps": {"per_event": 20}},
    {"rule": "welcome", "on": "purchase", "points": 20, "first_time": True},
    {"rule": "share-of", "on": "referral", **MONEY, "hold": "36h"},
    {"rule": "friend", "on": "referral", "points": 30},
    {"rule": "first-friend", "on": "referral", "points": 11, "first_time": True},
]  # fmt: skip
HOLDS = {"2d": 2 * DAY, "36h": DAY * 3 // 2}
ON_A_POST = {"surface": "brand_post", "platform": "x"}

posts, actors = st.sampled_from(["p", "q", None]), st.sampled_from(["bob", "bob", "eve", None, None, "ann"])
orders, amounts = st.sampled_from(["o1", "o2", "o3"]), st.sampled_from([2_599, 1_000, 500, 250, 100, 99, 0])
kinds, tiers = st.sampled_from(["like", "share"]), st.sampled_from(["nano", "micro", "macro"])
mostly = st.integers(0, 9).map(bool)


def brand_of(zone: str, expiry: tuple[int, str] | None, allows_debt: bool) -> Brand:
    after = "none" if expiry is None else f"{expiry[0]}{expiry[1]}"
    points = {"expire_after": after, "negative_balance": "allow" if allows_debt else "forbid"}
    found = parse({"brand": "acme", "currency": "EUR", "timezone": zone, "points": points}, "test")
    assert isinstance(found, Brand)
    assert found.expire_after == (None if expiry is None else Period(*expiry))
    return found


def spring() -> Campaign:
    found = parse({"campaign": "c", "brand": "acme", "starts_at": 0, "ends_at": 5 * 10**12, "earn": RULES}, "test")
    assert isinstance(found, Campaign)
    return found


def outcome_of(events: Iterable[AccountEvent]) -> Outcome:
    """What the model says of events, in no order."""
    made: Outcome = []
    for event in events:
        if isinstance(event, CommandRefused):
            made.append((REFUSED, event.kind, event.reason))
        made += [(PAID, grant.rule, grant.points) for grant in getattr(event, "grants", ())]
        made += [(REFUSED, one.rule, one.reason) for one in getattr(event, "refusals", ())]
        made += [(REVERSED, one.points, one.shortfall) for one in getattr(event, "reversals", ())]
    return made


class Life(RuleBasedStateMachine):
    """The steps of a member's life."""

    lives = 0

    def __init__(self) -> None:
        super().__init__()
        Life.lives += 1
        self.account, self.campaign = Account(), spring()
        self.now, self.number = START, 0
        self.past: list[tuple[str, dict[str, Any], Brand]] = []
        self.recorded: list[Recorded] = []
        self.books: Counter[str] = Counter()
        self.entries: dict[str, str] = {}

    @initialize(
        zone=st.sampled_from(ZONES),
        expiry=st.sampled_from(EXPIRIES),
        allows_debt=st.booleans(),
        budget=st.sampled_from([None, None, None, 60, 500]),
    )
    def begins(self, zone: str, expiry: tuple[int, str] | None, allows_debt: bool, budget: int | None) -> None:
        rules = [{**one, "hold_ms": HOLDS.get(one.get("hold", ""), 0)} for one in RULES]
        self.first_budget = budget or 0
        self.model = Model(rules, zone, expiry, allows_debt, budget)
        self.brand = brand_of(zone, expiry, allows_debt)

    # Time

    @rule(hours=st.sampled_from([1, 7, 24, 36, 49, 24 * 8, 24 * 33]))
    def time_passes(self, hours: int) -> None:
        self.now += hours * DAY // 24

    @rule(around=st.sampled_from([-1, 0, 1]))
    def a_midnight_comes(self, around: int) -> None:
        day = day_of(self.now + 2 * DAY, self.model.zone)
        self.now = first_instant(day, self.model.zone) + around

    @rule(expiry=st.sampled_from(EXPIRIES), allows_debt=st.booleans())
    def the_brand_changes(self, expiry: tuple[int, str] | None, allows_debt: bool) -> None:
        self.model.expiry, self.model.allows_debt = expiry, allows_debt
        self.brand = brand_of(self.model.zone, expiry, allows_debt)

    # What happens

    @rule(
        kind=kinds, post=posts, actor=actors, n=st.integers(0, 4), tier=tiers, takes_part=mostly, late=st.integers(0, 3)
    )
    def interaction(
        self, kind: str, post: str | None, actor: str | None, n: int, tier: str, takes_part: bool, late: int
    ) -> None:
        at = self.now - late * DAY
        value = {
            "kind": kind,
            "post_id": post,
            "actor_id": actor,
            "quantity": n,
            "surface": "brand_post",
            "platform": "x",
        }
        expected = self.model.interact(value, at, tier, takes_part)
        self.happens("Interaction", value, expected, at, tier, takes_part)

    @precondition(lambda self: self.model.posts)
    @rule(data=st.data(), whose=st.sampled_from(["same", "same", "bob", None]), n=st.sampled_from([5, 2, 1]))
    def unlike(self, data: st.DataObject, whose: str | None, n: int) -> None:
        thing = data.draw(st.sampled_from(self.model.posts))
        actor = thing.actor if whose == "same" else whose
        kind, post = thing.key
        value = {**ON_A_POST, "kind": kind, "post_id": post, "actor_id": actor, "quantity": -n}
        self.happens("Interaction", value, self.model.interact(value, self.now, "nano", True))

    @rule(order=orders, amount=amounts, tier=tiers, takes_part=mostly)
    def purchase(self, order: str, amount: int, tier: str, takes_part: bool) -> None:
        value = {"kind": "completed", "order_id": order, "amount_minor": amount}
        expected = self.model.order("purchase", (order,), amount, self.now, tier, takes_part)
        self.happens("Purchase", value, expected, None, tier, takes_part)

    @rule(order=orders, amount=amounts)
    def refund(self, order: str, amount: int) -> None:
        value = {"kind": "refunded", "order_id": order, "amount_minor": amount}
        self.happens("Purchase", value, self.model.refund((order,), amount, self.now))

    @precondition(lambda self: any(lot.left < lot.came and lot.rule for lot in self.model.lots))
    @rule()
    def what_was_spent_is_refunded(self) -> None:
        """The order that paid the first points that are not there any more, all of it."""
        for order in self.model.orders:
            if any(lot.left < lot.came - lot.gone for lot in order.lots):
                record = "Purchase" if len(order.key) == 1 else "ReferralDue"
                value = {"kind": "refunded", "order_id": order.key[-1], "amount_minor": 2_599, "new_customer": True}
                value["buyer_id"] = order.key[0]
                self.happens(record, value, self.model.refund(order.key, 2_599, self.now))
                return

    @rule(order=orders, buyer=st.sampled_from(["bob", "eve"]), amount=amounts, takes_part=mostly, new=mostly)
    def friends_order(self, order: str, buyer: str, amount: int, takes_part: bool, new: bool) -> None:
        value = {
            "kind": "completed", "order_id": order, "buyer_id": buyer, "amount_minor": amount, "new_customer": new,
        }  # fmt: skip
        expected = self.model.order("referral", (buyer, order), amount, self.now, "macro", takes_part, new)
        self.happens("ReferralDue", value, expected, None, "macro", takes_part)

    @rule(order=orders, buyer=st.sampled_from(["bob", "eve"]), amount=amounts)
    def friends_refund(self, order: str, buyer: str, amount: int) -> None:
        value = {"kind": "refunded", "order_id": order, "buyer_id": buyer, "amount_minor": amount, "new_customer": True}
        self.happens("ReferralDue", value, self.model.refund((buyer, order), amount, self.now))

    @precondition(lambda self: self.model.active(self.now) > 0)
    @rule()
    def everything_is_redeemed(self) -> None:
        self.command("redeem", self.model.active(self.now))

    @precondition(lambda self: self.model.active(self.now) > 0)
    @rule(percent=st.sampled_from([70, 30, 101, 0]))
    def redemption(self, percent: int) -> None:
        self.command("redeem", self.model.active(self.now) * percent // 100 + (percent > 100))

    @precondition(lambda self: self.model.redemptions)
    @rule(data=st.data())
    def cancellation(self, data: st.DataObject) -> None:
        self.command("cancel", 0, data.draw(st.sampled_from([*self.model.redemptions, "nobody"])))

    @rule(
        points=st.sampled_from([1, -1, 0]) | st.integers(-60, 60),
        kind=st.sampled_from(["adjust", "adjust", "prize", "redeem", "transfer_in"]),
    )
    def other_command(self, points: int, kind: str) -> None:
        self.command(kind, points, "nobody")

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def sent_again(self, data: st.DataObject) -> None:
        """What was decided once is not decided again, and pays nothing: the system itself drops repetitions before."""
        record, value, brand = data.draw(st.sampled_from(self.past))
        made = self.decided(record, value, brand, "macro", True)
        grants = [grant for event in made for grant in getattr(event, "grants", ())]
        assert not any(grant.entry_id in self.account.lots for grant in grants)
        if record == "Command" or value["kind"] == "refunded":
            assert made == []
        elif record != "Interaction":
            assert grants == []

    def command(self, kind: str, points: int, reference: str = "") -> None:
        key = f"e{self.number}"
        expected = self.model.command(key, kind, points, reference, self.now)
        named = self.entries.get(reference, reference)
        self.happens("Command", {"kind": kind, "points": points, "reference": named, "reason": None}, expected)

    def happens(
        self, record: str, value: dict[str, Any], expected: Outcome, at: int | None = None, tier: str = "nano",
        takes_part: bool = True,
    ) -> None:  # fmt: skip
        base = {
            "event_id": f"e{self.number}", "occurred_at": self.now if at is None else at, "brand_id": "acme",
            "member_id": "ann", "currency": "EUR", "campaign_id": None, "referrer_id": None, "requested_by": "shop",
        }  # fmt: skip
        value = {**base, **value}
        made = self.decided(record, value, self.brand, tier, takes_part)
        assert Counter(outcome_of(made)) == Counter(expected)
        for event in made:
            evolve(self.account, from_stored(*to_stored(event)))
            self.recorded.append(Recorded(len(self.recorded) + 1, "account:acme/ann", event))
            for row in books.PROJECTION.fold(self.recorded[-1:])["books"]:
                self.books[str(row["account"])] += int(row["points"] or 0)
            assert sum(self.books.values()) == 0
            if isinstance(event, PointsRedeemed):
                self.entries[value["event_id"]] = event.entry_id
        self.past.append((record, value, self.brand))
        self.number += 1

    def decided(
        self, record: str, value: dict[str, Any], brand: Brand, tier: str, takes_part: bool
    ) -> list[AccountEvent]:
        campaigns = (self.campaign,) if takes_part else ()
        is_self = record == "Interaction" and value["actor_id"] == "ann"
        activity = Activity(record, self.number, value, brand, campaigns, False, (), tier, None, is_self)
        origin = Origin("log", 0, self.number, value["event_id"], value["occurred_at"], 0)
        left = {} if self.model.budget is None else {"c": self.budget_left()}
        return decide(self.account, activity, origin, left)

    def budget_left(self) -> int:
        """From the events alone, as the ledger's table of budgets has it."""
        granted = sum(grant.points for one in self.recorded for grant in getattr(one.event, "grants", ()))
        assert self.model.budget is not None
        return self.first_budget - granted

    # What must agree

    @invariant()
    def everything_agrees(self) -> None:
        account, model = self.account, self.model
        for name in ("earned", "adjusted", "reversed", "spent", "shortfall"):
            assert getattr(account, name) == getattr(model, name), name
        paid = {take.lot: take.points for take in account.paid_off_by(self.now)}
        held = [(lot.left - paid.get(lot.id, 0), lot.active_at, lot.expires_at) for lot in account.lots.values()]
        left, _ = model.left_at(self.now)
        assert held == [(left[lot.place], lot.active_at, lot.expires_at) for lot in model.lots]
        assert all(points >= 0 for points in left)
        assert model.debt >= 0
        assert model.shortfall >= 0
        for at in (self.now, *self.edges(self.model.lots[-2:])):
            found = account.balance_at(at)
            assert (found.active, found.pending, found.expired, found.debt) == model.points_at(at)
            gone = model.spent + found.expired + model.reversed
            assert found.active + found.pending == model.earned + model.adjusted - gone

    def edges(self, of: Iterable[ModelLot]) -> set[int]:
        """The last instant before each change to come of these lots, and the first one after it.

        What there was before is not asked: it is not kept which points paid off debt when.
        """
        edges = [edge for lot in of for edge in (lot.active_at, lot.expires_at) if edge is not None]
        return {edge + around for edge in edges for around in (-1, 0) if edge + around >= self.now}

    def teardown(self) -> None:
        """The read models fold to the same, and a statement's rows add up to them."""
        model = self.model
        owed = {"debt": self.account.debt}
        totals = balances.Totals(*(owed.get(name, getattr(model, name)) for name in balances.Totals._fields))
        folded = list(balances.PROJECTION.fold(self.recorded)["balances"]) or [dict.fromkeys(totals._fields, 0)]
        assert [tuple(row[name] for name in totals._fields) for row in folded] == [totals]
        rows = list(lots.PROJECTION.fold(self.recorded)["lots"])
        held = [balances.LotLeft(lot.left, lot.active_at, lot.expires_at) for lot in self.account.lots.values()]
        assert [(row["points_left"], row["active_at"], row["expires_at"]) for row in rows] == held
        found = statements.holding_of(list(statements.PROJECTION.fold(self.recorded)["statements"]))
        assert found == (totals, held, self.account.owed_since)
        for at in (self.now, self.now + 10 * DAY, *self.edges(model.lots)):
            assert balances.judge(found, at) == model.points_at(at)


def play(examples: int, **more: Any) -> int:
    """Plays so many lives and counts them, up to the first in which something differs."""
    before = Life.lives
    chosen = settings(max_examples=examples, stateful_step_count=STEPS, deadline=None, **more)
    try:
        run_state_machine_as_test(Life, settings=chosen)
    finally:
        print(f"{Life.lives - before} lives of up to {STEPS} steps")
    return Life.lives - before
