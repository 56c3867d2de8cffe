"""Random histories of an account, in any order of time, with ids used again: what always holds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aggregates.account import Account, decide, evolve
from aggregates.activity import Activity
from aggregates.commands import PRECEDENCE
from aggregates.definitions import Brand, Campaign
from aggregates.events import (
    AccountEvent,
    CommandRefused,
    Origin,
    PointsAdjusted,
    PointsRedeemed,
    PrizeAwarded,
    from_stored,
    to_stored,
)
from aggregates.programs import parse
from aggregates.refusals import Refusal as Reason

DAY = 86_400_000
START = 20_000 * DAY

Record = tuple[str, dict[str, Any]]
TIERS = {"nano": Fraction(5, 2), "micro": Fraction(1, 2), "macro": Fraction(1)}
CAPS = {"per_post": 40, "per_day": 60, "total": 150}


def brand(debt: bool, expiry: str) -> Brand:
    points = {"expire_after": expiry, "negative_balance": "allow" if debt else "forbid"}
    found = parse({"brand": "acme", "currency": "EUR", "points": points}, "test")
    assert isinstance(found, Brand)
    return found


def campaign(hold: str) -> Campaign:
    money: dict[str, Any] = {"per_minor": 100, "points": 3, "hold": hold}
    earn = [
        {
            "rule": "like",
            "on": "interaction",
            "points": 7,
            "tier_multiplier": {"nano": 2.5, "micro": 0.5},
            "caps": CAPS,
        },
        {"rule": "spend", "on": "purchase", **money, "caps": {"total": 90}},
        {"rule": "welcome", "on": "purchase", "points": 20},
        {"rule": "share-of", "on": "referral", **money},
        {"rule": "friend", "on": "referral", "points": 30, "hold": hold},
    ]
    found = parse({"campaign": "c", "brand": "acme", "starts_at": 0, "ends_at": 5 * 10**12, "earn": earn}, "test")
    assert isinstance(found, Campaign)
    return found


# Random records

_amounts = st.sampled_from([0, 99, 100, 250, 1000, 2599])
_orders = st.sampled_from(["o1", "o2", "o3"])
_interactions = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["like", "share"]),
        "surface": st.just("brand_post"),
        "platform": st.just("x"),
        "post_id": st.sampled_from(["p", "q", None]),
        "actor_id": st.sampled_from(["bob", "eve", "ann", None]),
        "quantity": st.integers(-4, 4),
    }
)
_purchases = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["completed", "refunded"]),
        "order_id": _orders,
        "amount_minor": _amounts,
        "referrer_id": st.sampled_from([None, "ann", "kim"]),
    }
)
_referrals = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["completed", "refunded"]),
        "order_id": _orders,
        "buyer_id": st.sampled_from(["bob", "eve"]),
        "amount_minor": _amounts,
        "new_customer": st.booleans(),
    }
)
_commands = st.fixed_dictionaries(
    {"kind": st.sampled_from(["redeem", "redeem", "cancel", "adjust", "prize"]), "points": st.integers(-40, 90)}
)
_records: st.SearchStrategy[Record] = st.one_of(
    st.tuples(st.just("Interaction"), _interactions),
    st.tuples(st.just("Purchase"), _purchases),
    st.tuples(st.just("ReferralDue"), _referrals),
    st.tuples(st.just("Command"), _commands),
)


@dataclass
class Step:
    """One record of a history and what is around it."""

    record: str
    value: dict[str, Any]
    event_id: str
    at: int
    tier: str
    takes_part: bool


@st.composite
def histories(draw: st.DrawFn) -> list[Step]:
    steps: list[Step] = []
    for number, (record, value) in enumerate(draw(st.lists(_records, max_size=25))):
        now = START + draw(st.integers(0, 20 * DAY))
        ids = [step.event_id for step in steps if step.record == record]
        event_id = draw(st.sampled_from(ids)) if ids and draw(st.integers(0, 9)) == 0 else f"e{number}"
        tier = draw(st.sampled_from(["nano", "micro", "macro"]))
        if value["kind"] == "cancel":
            value = {**value, "reference": draw(st.sampled_from(["e0", *(step.event_id for step in steps)]))}
        steps.append(Step(record, value, event_id, now, tier, draw(st.integers(0, 7)) != 0))
    return steps


class Run:
    """A history played through the real account."""

    def __init__(self, debt: bool, expiry: str, hold: str, budget: int | None = None) -> None:
        self.account, self.brand, self.campaign = Account(), brand(debt, expiry), campaign(hold)
        self.budget, self.offset = budget, 0
        self.events: list[AccountEvent] = []

    def play(self, step: Step) -> list[AccountEvent]:
        made = self.decide(step)
        for event in made:
            evolve(self.account, event)
            if self.budget is not None:
                self.budget -= sum(grant.points for grant in getattr(event, "grants", ()))
        self.events += made
        self.offset += 1
        return made

    def decide(self, step: Step) -> list[AccountEvent]:
        base = {
            "event_id": step.event_id, "occurred_at": step.at, "brand_id": "acme", "member_id": "ann",
            "currency": "EUR", "campaign_id": None, "referrer_id": None, "followers": None, "reference": None,
            "reason": None, "requested_by": "shop",
        }  # fmt: skip
        value = {**base, **step.value}
        redeemed = [e for e in self.events if isinstance(e, PointsRedeemed)]
        for event in redeemed:
            if event.origin.event_id == value["reference"]:
                value["reference"] = event.entry_id
        campaigns = (self.campaign,) if step.takes_part else ()
        is_self = step.record == "Interaction" and value["actor_id"] == "ann"
        activity = Activity(step.record, self.offset, value, self.brand, campaigns, False, (), step.tier, None, is_self)
        origin = Origin("log", 0, self.offset, step.event_id, step.at, step.at)
        return decide(self.account, activity, origin, {} if self.budget is None else {"c": self.budget})


_worlds = st.builds(
    Run,
    debt=st.booleans(),
    expiry=st.sampled_from(["none", "1d", "5d"]),
    hold=st.sampled_from(["0d", "2d"]),
    budget=st.none() | st.integers(0, 200),
)


# What always holds


@given(_worlds, histories())
def test_points_are_conserved_after_every_event(run: Run, steps: list[Step]):
    for step in steps:
        run.play(step)
        account = run.account
        left = sum(lot.left for lot in account.lots.values())
        granted = sum(g.points for e in run.events for g in getattr(e, "grants", ()))
        reversals = [r for e in run.events for r in getattr(e, "reversals", ())]
        prizes = sum(e.points for e in run.events if isinstance(e, PrizeAwarded))
        assert account.earned == granted + prizes
        assert account.adjusted == sum(e.points for e in run.events if isinstance(e, PointsAdjusted))
        gone = account.reversed + account.spent
        assert account.reversed == sum(r.points for r in reversals)
        assert left - account.debt == account.earned + account.adjusted - gone
        assert account.debt >= 0
        assert account.shortfall >= 0
        assert all(r.points == r.debt + sum(t.points for t in r.takes) for r in reversals)
        assert all(lot.left >= 0 for lot in account.lots.values())
        for at in (step.at, START, START + 30 * DAY):
            found = account.balance_at(at)
            total = found.active + found.pending + found.expired
            assert total == account.earned + account.adjusted - gone
        if not run.brand.negative_balance:
            assert account.debt == 0


@given(_worlds, histories())
def test_no_grant_is_reversed_beyond_what_it_paid_and_no_entry_has_the_id_of_another(run: Run, steps: list[Step]):
    for step in steps:
        run.play(step)
    paid, gone = Counter[str](), Counter[str]()
    ids: list[str] = []
    for event in run.events:
        for grant in getattr(event, "grants", ()):
            assert 1 <= grant.points <= grant.entitled
            paid[grant.entry_id] += grant.points
            ids.append(grant.entry_id)
        for reversal in getattr(event, "reversals", ()):
            gone[reversal.reverses] += reversal.points + reversal.shortfall
    assert len(ids) == len(set(ids))
    assert all(points <= paid[entry] for entry, points in gone.items())


@given(_worlds, histories())
def test_the_caps_and_the_budget_are_never_exceeded(run: Run, steps: list[Step]):
    budget = run.budget
    for step in steps:
        run.play(step)
    used = Counter[str]()
    for event in run.events:
        for grant in getattr(event, "grants", ()):
            used.update({counter: grant.points for counter in grant.counters})
    limits = {rule.name: dict(rule.caps) for rule in run.campaign.earn}
    kinds = {"post": "per_post", "day": "per_day", "total": "total"}
    for counter, points in used.items():
        _, rule, period = counter.split("/", 2)
        assert points <= limits[rule][kinds[period.split(":")[0]]]
    assert budget is None or sum(g.points for e in run.events for g in getattr(e, "grants", ())) <= budget


@given(_worlds, histories())
def test_a_command_or_refund_sent_again_gives_no_event(run: Run, steps: list[Step]):
    for step in steps:
        run.play(step)
    for step in steps:
        again = run.decide(step)
        if step.record == "Command" or (step.record != "Interaction" and step.value["kind"] == "refunded"):
            assert again == []
        elif step.record != "Interaction":
            assert not any(e.grants for e in again if hasattr(e, "grants"))


@given(_worlds, histories(), _commands, st.integers(0, 40 * DAY))
def test_any_command_on_any_reachable_account_gives_one_legal_event_and_none_when_sent_again(
    run: Run, steps: list[Step], value: dict[str, Any], later: int
):
    for step in steps:
        run.play(step)
    redeemed = [step.event_id for step in steps if step.value["kind"] == "redeem"]
    for reference in (None, *dict.fromkeys(redeemed)):
        command = Step("Command", {**value, "reference": reference}, f"new-{reference}", START + later, "nano", True)
        left = {lot.id: lot.left for lot in run.account.lots.values()}
        [event] = run.play(command)
        if isinstance(event, CommandRefused):
            assert Reason(event.reason) in {reason for reason, _ in PRECEDENCE}
            assert {lot.id: lot.left for lot in run.account.lots.values()} == left
        assert all(0 < take.points <= left[take.lot] for take in getattr(event, "takes", ()))
        assert all(back.points > 0 for back in getattr(event, "returns", ()))
        assert all(lot.left >= 0 for lot in run.account.lots.values())
        assert run.decide(command) == []


@given(_worlds, histories())
def test_an_account_read_back_from_its_stored_events_decides_the_same(run: Run, steps: list[Step]):
    for step in steps[:-1]:
        run.play(step)
    again = Account()
    for event in run.events:
        evolve(again, from_stored(*to_stored(event)))
    for at in (START, START + 10 * DAY):
        assert again.balance_at(at) == run.account.balance_at(at)
    if steps:
        live = run.decide(steps[-1])
        run.account = again
        assert run.decide(steps[-1]) == live
