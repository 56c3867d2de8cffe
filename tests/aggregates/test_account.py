"""An account's rulebook: given what happened, when a record comes, then these events, points and refusals."""

from __future__ import annotations

from typing import Any

import pytest

from aggregates.account import Account, decide, evolve
from aggregates.activity import Activity
from aggregates.definitions import DAY_MS, Brand, Campaign
from aggregates.events import (
    AccountEvent,
    CommandRefused,
    InteractionRewarded,
    InteractionTakenBack,
    Origin,
    PointsRedeemed,
    PurchaseRecorded,
    ReferralJudged,
    RefundRecorded,
    from_stored,
    to_stored,
)
from aggregates.programs import parse
from aggregates.refusals import Refusal as Reason

DAY = DAY_MS
SHARE = {"rule": "share", "on": "interaction", "kind": "share", "points": 10}
SPEND = {"rule": "spend", "on": "purchase", "per_minor": 100, "points": 1}
WELCOME = {"rule": "welcome", "on": "purchase", "points": 50}
FRIEND = {"rule": "friend", "on": "referral", "points": 500}


def brand(**points: Any) -> Brand:
    found = parse({"brand": "acme", "currency": "EUR", "points": points}, "test")
    assert isinstance(found, Brand)
    return found


def campaign(*rules: dict[str, Any], name: str = "spring", **changes: Any) -> Campaign:
    document = {"campaign": name, "brand": "acme", "starts_at": 0, "ends_at": 10**12, "earn": list(rules), **changes}
    found = parse(document, "test")
    assert isinstance(found, Campaign)
    return found


class Member:
    """One account and the records that come to it, in log order; each call gives the events it made."""

    def __init__(self, *campaigns: Campaign, of: Brand | None = None) -> None:
        self.account, self.campaigns, self.brand = Account(), campaigns, of or brand()
        self.offset, self.history = 0, list[AccountEvent]()
        self.budget: dict[str, int] = {}
        self.not_live, self.not_joined, self.is_self, self.tier = False, tuple[Campaign, ...](), False, "nano"

    def sees(self, record: str, at: int, event_id: str | None = None, **value: Any) -> list[AccountEvent]:
        self.offset += 1
        event_id = event_id or f"{record}-{self.offset}"
        fields = {"event_id": event_id, "occurred_at": at, "brand_id": "acme", "member_id": "ann", **value}
        campaigns = () if self.not_live else self.campaigns
        activity = Activity(
            record, self.offset, fields, self.brand, campaigns, self.not_live, self.not_joined, self.tier, None,
            self.is_self,
        )  # fmt: skip
        origin = Origin("log", 0, self.offset, event_id, at, at + 1)
        events = decide(self.account, activity, origin, self.budget)
        for event in events:
            assert from_stored(*to_stored(event)) == event
            evolve(self.account, event)
        self.history += events
        return events

    def shared(self, quantity: int = 1, at: int = 0, post: str | None = "p", actor: str | None = "bob", **more: Any):
        value = {"kind": "share", "surface": "brand_post", "platform": "x", "campaign_id": None, "followers": None}
        return self.sees(
            "Interaction", at, **{**value, "quantity": quantity, "post_id": post, "actor_id": actor, **more}
        )

    def bought(self, amount: int, order: str = "o1", at: int = 0, **more: Any) -> PurchaseRecorded:
        value = {"kind": "completed", "currency": "EUR", "campaign_id": None, "referrer_id": None, **more}
        (event,) = self.sees("Purchase", at, order_id=order, amount_minor=amount, **value)
        assert isinstance(event, PurchaseRecorded)
        return event

    def returned(self, amount: int, order: str | None = "o1", at: int = 0, **more: Any) -> RefundRecorded:
        value = {"kind": "refunded", "currency": "EUR", "campaign_id": None, "referrer_id": None, **more}
        (event,) = self.sees("Purchase", at, order_id=order, amount_minor=amount, **value)
        assert isinstance(event, RefundRecorded)
        return event

    def referred(self, amount: int, kind: str = "completed", at: int = 0, **more: Any) -> ReferralJudged:
        value = {"buyer_id": "bob", "order_id": "o1", "currency": "EUR", "campaign_id": None, "new_customer": True}
        (event,) = self.sees("ReferralDue", at, **{**value, "kind": kind, "amount_minor": amount, **more})
        assert isinstance(event, ReferralJudged)
        return event

    def redeems(self, points: int, at: int = 0, key: str | None = None, kind: str = "redeem") -> list[AccountEvent]:
        value = {"kind": kind, "points": points, "reference": None, "reason": None, "requested_by": "shop"}
        return self.sees("Command", at, key, **value)

    def balance(self, at: int = 0) -> tuple[int, int, int]:
        found = self.account.balance_at(at)
        return found.active, found.pending, found.expired


def reasons(event: AccountEvent) -> list[str]:
    return [refusal.reason for refusal in getattr(event, "refusals", ())]


def reversed_points(event: AccountEvent) -> list[int]:
    return [reversal.points for reversal in getattr(event, "reversals", ())]


# Interactions


def test_every_matching_rule_of_every_campaign_pays():
    twice = {**SHARE, "rule": "again", "points": 3}
    (event,) = Member(campaign(SHARE, twice), campaign(SHARE, name="summer")).shared(2)
    assert isinstance(event, InteractionRewarded)
    assert [(g.campaign, g.rule, g.points) for g in event.grants] == (
        [("spring", "share", 20), ("spring", "again", 6), ("summer", "share", 20)]
    )


def test_an_interaction_that_no_rule_matches_makes_no_event():
    member = Member(campaign(SHARE))
    assert member.shared(kind="like") == []
    assert member.shared(0) == []
    assert Member().shared() == []


def test_a_self_interaction_is_refused_and_paid_nothing():
    member = Member(campaign(SHARE))
    member.is_self = True
    (event,) = member.shared(actor="ann")
    assert reasons(event) == ["self_interaction"]
    assert member.shared(kind="like", actor="ann") == []
    assert member.balance() == (0, 0, 0)


def test_one_that_names_a_campaign_which_is_not_live_is_recorded_as_that():
    member = Member(campaign(SHARE))
    member.not_live = True
    (event,) = member.shared(campaign_id="winter", kind="like")
    assert isinstance(event, InteractionRewarded)
    assert [(r.campaign, r.rule, r.reason) for r in event.refusals] == [("winter", "", "not_live")]


def test_a_campaign_that_was_not_joined_is_named_only_where_it_would_have_paid():
    member = Member()
    member.not_joined = (campaign(SHARE, join="opt_in"),)
    (event,) = member.shared()
    assert reasons(event) == ["not_joined"]
    assert member.shared(kind="like") == []


def test_a_used_up_cap_refuses_with_its_name():
    member = Member(campaign({**SHARE, "caps": {"per_day": 15}}))
    member.shared(1)
    member.shared(1)
    (third,) = member.shared(1)
    assert reasons(third) == ["per_day"]
    assert member.balance() == (15, 0, 0)
    member.shared(1, at=DAY)
    assert member.balance(DAY) == (25, 0, 0)


def test_two_rules_of_one_event_share_what_is_left_of_the_budget():
    member = Member(campaign(SHARE, {**SHARE, "rule": "again"}, {**SHARE, "rule": "third"}, budget=15))
    member.budget = {"spring": 15}
    (event,) = member.shared()
    assert isinstance(event, InteractionRewarded)
    assert [(g.points, g.limited_by) for g in event.grants] == [(10, ""), (5, "budget")]
    assert reasons(event) == ["budget"]


def test_the_same_event_id_beyond_the_horizon_of_duplicates_is_not_paid_again():
    member = Member(campaign(SHARE))
    member.shared(event_id="like-1")
    (again,) = member.shared(event_id="like-1", at=DAY)
    assert reasons(again) == ["duplicate_event"]
    assert member.balance(DAY) == (10, 0, 0)
    assert member.shared(-1)
    assert member.shared(-1) == []
    assert member.balance(DAY) == (0, 0, 0)


# Unlikes


def test_an_unlike_takes_back_what_its_like_earned():
    member = Member(campaign(SHARE))
    member.shared(3)
    (event,) = member.shared(-1)
    assert isinstance(event, InteractionTakenBack)
    assert (reversed_points(event), [u.quantity for u in event.undone]) == ([10], [1])
    assert member.balance() == (20, 0, 0)


def test_an_unlike_of_a_known_actor_undoes_only_that_actors():
    member = Member(campaign(SHARE))
    member.shared(1, actor="bob")
    member.shared(2, actor="eve")
    assert member.shared(-1, actor="kim") == []
    member.shared(-5, actor="bob")
    assert member.balance() == (20, 0, 0)


def test_an_unlike_of_an_unknown_actor_undoes_the_latest_first():
    member = Member(campaign(SHARE))
    member.shared(1, actor="bob", event_id="a")
    member.shared(2, actor=None, event_id="b")
    (event,) = member.shared(-3, actor=None)
    assert isinstance(event, InteractionTakenBack)
    assert [(u.event_id, u.quantity) for u in event.undone] == [("b", 2), ("a", 1)]


@pytest.mark.parametrize("other", [{"post": "q"}, {"kind": "like"}, {"surface": "member_post"}, {"platform": "y"}])
def test_an_unlike_of_another_post_or_kind_undoes_nothing(other: dict[str, str]):
    member = Member(campaign(SHARE))
    member.shared(1)
    assert member.shared(-1, **other) == []


def test_more_unlikes_than_likes_undo_no_more_than_there_was():
    member = Member(campaign(SHARE))
    member.shared(2)
    member.shared(-9)
    assert member.shared(-1) == []
    assert member.balance() == (0, 0, 0)


def test_what_a_cap_kept_back_reverses_nothing_and_a_reversal_gives_no_room_back():
    member = Member(campaign({**SHARE, "caps": {"total": 15}}))
    member.shared(3)
    (first,) = member.shared(-1)
    (second,) = member.shared(-1)
    assert (reversed_points(first), reversed_points(second)) == ([], [5])
    member.shared(-1)
    assert member.balance() == (0, 0, 0)
    (refused,) = member.shared(1)
    assert reasons(refused) == ["total"]
    (undone,) = member.shared(-1)
    assert (reversed_points(undone), len(undone.undone)) == ([], 1)  # type: ignore[union-attr]


def test_a_self_interaction_has_no_units_that_an_unlike_could_undo():
    member = Member(campaign(SHARE))
    member.shared(1, actor="bob")
    member.is_self = True
    member.shared(1, actor="ann")
    member.is_self = False
    (event,) = member.shared(-1, actor=None)
    assert reversed_points(event) == [10]


def test_rounding_is_that_of_the_remaining_quantity():
    member = Member(campaign({**SHARE, "points": 1, "tier_multiplier": {"nano": 0.5}}))
    member.shared(3)  # 1.5 → 1
    (first,) = member.shared(-1)  # 2 × 0.5 = 1 is still due
    (second,) = member.shared(-1)
    assert (reversed_points(first), reversed_points(second)) == ([], [1])


# Orders


def test_a_purchase_pays_whole_money_units_and_flat_points():
    event = Member(campaign(SPEND, WELCOME)).bought(1299)
    assert [(g.rule, g.points, g.basis) for g in event.grants] == [("spend", 12, "money"), ("welcome", 50, "flat")]
    assert (event.campaigns, event.new_customer, event.referral) == (("spring",), True, "")


def test_an_amount_of_zero_is_a_valid_order():
    event = Member(campaign(SPEND, WELCOME)).bought(0)
    assert [g.points for g in event.grants] == [50]
    assert reasons(event) == ["nothing_due"]


def test_an_order_is_paid_once():
    member = Member(campaign(SPEND))
    member.bought(1000)
    again = member.bought(9000)
    assert (again.grants, reasons(again)) == ((), ["duplicate_order"])
    member.returned(1000)
    assert member.balance() == (0, 0, 0)


def test_an_order_without_campaigns_is_still_known():
    member = Member()
    member.bought(1000)
    assert member.returned(400).matched


def test_a_refund_reverses_down_to_the_net_entitlement():
    member = Member(campaign(SPEND, WELCOME))
    member.bought(1050)
    assert reversed_points(member.returned(40)) == []  # 1010 is still 10 units
    assert reversed_points(member.returned(20)) == [1]
    assert reversed_points(member.returned(990)) == [9, 50]
    assert reversed_points(member.returned(500)) == []
    assert member.balance() == (0, 0, 0)


def test_a_refund_is_judged_under_the_purchases_own_rule_and_tier():
    member = Member(campaign({**SPEND, "tier_multiplier": {"nano": 3}}))
    member.bought(1000)
    member.tier, member.campaigns = "macro", ()
    assert reversed_points(member.returned(500)) == [15]


def test_what_a_cap_kept_back_of_an_order_is_not_reversed():
    member = Member(campaign({**SPEND, "caps": {"total": 6}}))
    member.bought(1000)
    assert reversed_points(member.returned(300)) == []
    assert reversed_points(member.returned(200)) == [1]


@pytest.mark.parametrize("order", [None, "other"])
def test_a_refund_of_an_unknown_order_is_recorded_and_reverses_nothing(order: str | None):
    member = Member(campaign(SPEND))
    member.bought(1000)
    event = member.returned(1000, order=order)
    assert (event.matched, event.reversals) == (False, ())


def test_a_purchase_that_comes_after_its_refund_pays_the_net():
    member = Member(campaign(SPEND, WELCOME))
    member.returned(300)
    member.returned(200)
    event = member.bought(1000)
    assert [g.points for g in event.grants] == [5, 50]
    assert reversed_points(member.returned(500)) == [5, 50]


def test_a_purchase_that_was_refunded_in_full_before_pays_nothing():
    member = Member(campaign(SPEND, WELCOME))
    member.returned(2000)
    event = member.bought(1000)
    assert (event.grants, reasons(event)) == ((), ["nothing_due", "nothing_due"])


# What a reversal takes


def test_a_reversal_takes_pending_points_first():
    member = Member(campaign(SHARE, {**SPEND, "hold": "14d"}))
    member.shared(5)
    member.bought(1000)
    assert member.balance() == (50, 10, 0)
    (reversal,) = member.returned(1000).reversals
    assert (reversal.points, reversal.debt, reversal.shortfall) == (10, 0, 0)
    assert member.balance() == (50, 0, 0)


def test_spent_points_are_taken_from_pending_lots_then_active_ones_then_given_up():
    member = Member(campaign({**SHARE, "hold": "1d"}, SPEND))
    bought = member.bought(4000)
    (active,) = member.shared(1, at=-DAY)
    (pending,) = member.shared(1, at=0)
    member.redeems(40)
    (reversal,) = member.returned(4000).reversals
    lots = [event.grants[0].entry_id for event in (pending, active)]  # type: ignore[union-attr]
    assert [(take.lot, take.points) for take in reversal.takes] == [(lots[0], 10), (lots[1], 10)]
    assert (reversal.points, reversal.debt, reversal.shortfall) == (20, 0, 20)
    assert bought.grants[0].entry_id == reversal.reverses
    assert member.account.shortfall == 20


def test_a_brand_that_allows_it_lets_the_rest_become_debt():
    member = Member(campaign(SPEND), of=brand(negative_balance="allow"))
    member.bought(4000)
    member.redeems(30)
    (reversal,) = member.returned(4000).reversals
    assert (reversal.points, reversal.debt, reversal.shortfall) == (40, 30, 0)
    assert member.balance() == (-30, 0, 0)
    member.bought(2000, "o2")
    assert member.balance() == (-10, 0, 0)
    (refused,) = member.redeems(1)
    assert isinstance(refused, CommandRefused)


def test_a_shortfall_is_given_up_once():
    member = Member(campaign(SPEND))
    member.bought(1000)
    member.redeems(10)
    assert member.returned(500).reversals[0].shortfall == 5
    assert member.returned(500).reversals[0].shortfall == 5
    assert member.returned(500).reversals == ()


def test_two_reversals_of_one_refund_do_not_take_the_same_points():
    member = Member(campaign(SPEND, WELCOME), of=brand(negative_balance="allow"))
    member.bought(1000)
    member.redeems(55)
    first, second = member.returned(1000).reversals
    assert first.points + second.points == 60
    assert sum(take.points for r in (first, second) for take in r.takes) == 5
    assert member.balance() == (-55, 0, 0)


def test_expired_points_are_never_taken():
    member = Member(campaign(SPEND, SHARE), of=brand(expire_after="1d"))
    member.bought(1000, at=0)
    member.shared(1, at=5 * DAY)
    assert member.balance(5 * DAY) == (10, 0, 10)
    (reversal,) = member.returned(600, at=5 * DAY).reversals
    assert reversal.points == 6
    assert member.balance(5 * DAY) == (4, 0, 10)


# Referrals


def test_a_purchase_says_whether_its_referrer_is_due():
    member = Member(campaign(SPEND))
    assert member.bought(100, "a").referral == ""
    assert member.bought(100, "b", referrer_id="ann").referral == "self_referral"
    due = member.bought(100, "c", referrer_id="kim")
    assert (due.referral, due.new_customer) == ("due", False)
    assert Member().bought(100, referrer_id="kim").new_customer


def test_a_refund_of_a_referred_order_carries_what_the_referrers_part_needs():
    member = Member(campaign(SPEND))
    member.bought(1000, referrer_id="kim", campaign_id="spring")
    event = member.returned(400)
    assert (event.referrer_id, event.new_customer, event.campaign_id) == ("kim", True, "spring")
    assert event.campaigns == ("spring",)
    member.bought(1000, "o2", referrer_id="ann")
    assert member.returned(400, "o2").referrer_id is None


def test_a_referred_order_says_what_was_refunded_of_it_before():
    member = Member(campaign(SPEND))
    member.returned(400)
    event = member.bought(1000, referrer_id="kim")
    assert (event.referral, event.amount_minor, event.refunded_minor) == ("due", 1000, 400)


def test_no_referrer_is_due_for_an_order_that_was_refunded_in_full_before():
    member = Member(campaign(SPEND))
    member.returned(1000)
    assert member.bought(1000, referrer_id="kim").referral == "order_refunded"


def test_the_referrer_is_paid_once_for_an_order():
    member = Member(campaign(FRIEND))
    assert [g.points for g in member.referred(1000).grants] == [500]
    assert reasons(member.referred(1000)) == ["duplicate_referral"]
    assert member.balance() == (500, 0, 0)
    member.referred(1000, buyer_id="eve")
    assert member.balance() == (1000, 0, 0)


def test_an_existing_customer_earns_the_referrer_nothing():
    event = Member(campaign(FRIEND)).referred(1000, new_customer=False)
    assert (event.grants, reasons(event)) == ((), ["existing_customer"])


def test_the_referrers_reward_goes_the_way_of_the_order():
    member = Member(campaign(FRIEND, {**SPEND, "rule": "part", "on": "referral"}))
    member.referred(1000)
    assert reversed_points(member.referred(300, "refunded")) == [3]
    assert sorted(reversed_points(member.referred(700, "refunded"))) == [7, 500]
    assert member.balance() == (0, 0, 0)


def test_a_referral_refunded_before_it_came_pays_the_net():
    member = Member(campaign(FRIEND, {**SPEND, "rule": "part", "on": "referral"}))
    assert member.referred(300, "refunded").reversals == ()
    assert [g.points for g in member.referred(1000).grants] == [500, 7]


# Commands


def test_redeeming_spends_the_points_that_expire_first():
    member = Member(campaign(SHARE))
    member.shared(1, post="never")
    member.brand = brand(expire_after="30d")
    member.shared(1, post="late", at=2 * DAY)
    member.shared(1, post="soon", at=1 * DAY)
    lots = {event.post_id: event.grants[0].entry_id for event in member.history}  # type: ignore[union-attr]
    (event,) = member.redeems(25, at=3 * DAY)
    assert isinstance(event, PointsRedeemed)
    assert [(take.lot, take.points) for take in event.takes] == (
        [(lots["soon"], 10), (lots["late"], 10), (lots["never"], 5)]
    )


def test_pending_and_expired_points_cannot_be_spent():
    member = Member(campaign({**SHARE, "hold": "2d"}), of=brand(expire_after="1d"))
    member.shared()
    outcomes = [type(member.redeems(10, at=at)[0]) for at in (DAY, 2 * DAY - 1)]
    assert outcomes == [CommandRefused, CommandRefused]
    assert isinstance(member.redeems(10, at=10 * DAY)[0], CommandRefused)
    assert isinstance(member.redeems(10, at=2 * DAY)[0], PointsRedeemed)


@pytest.mark.parametrize(
    ("points", "kind", "reason"),
    [
        (11, "redeem", "insufficient_points"),
        (0, "redeem", "points_not_positive"),
        (-5, "redeem", "points_not_positive"),
        (5, "adjust", "not_supported_yet"),
    ],
)
def test_a_command_that_cannot_be_done_is_refused_with_its_reason(points: int, kind: str, reason: str):
    member = Member(campaign(SHARE))
    member.shared()
    (event,) = member.redeems(points, kind=kind)
    assert isinstance(event, CommandRefused)
    assert (event.reason, event.points, event.kind) == (reason, points, kind)
    assert member.balance() == (10, 0, 0)


def test_a_retry_gets_no_second_outcome_even_when_it_would_now_go_another_way():
    member = Member(campaign(SHARE))
    assert isinstance(member.redeems(10, key="k")[0], CommandRefused)
    member.shared()
    assert member.redeems(10, key="k") == []
    assert isinstance(member.redeems(10, key="k2")[0], PointsRedeemed)
    assert member.redeems(10, key="k2") == []


@pytest.mark.parametrize("record", ["ProfileSnapshot", "Enrolment", "Definition", "CampaignClosing"])
def test_other_records_change_no_account(record: str):
    assert Member(campaign(SHARE)).sees(record, 0) == []


def test_deciding_changes_nothing():
    member = Member(campaign(SHARE, SPEND))
    member.shared()
    before = member.account.balance_at(0)
    value = {"event_id": "e", "occurred_at": 0, "kind": "redeem", "points": 5, "requested_by": "", "member_id": "ann"}
    activity = Activity("Command", 9, value, member.brand, (), False, (), "nano", None, False)
    origin = Origin("log", 0, 9, "e", 0, 0)
    assert decide(member.account, activity, origin, {}) == decide(member.account, activity, origin, {})
    assert member.account.balance_at(0) == before


def test_every_reason_has_a_sentence_of_its_own():
    sentences = [reason.sentence for reason in Reason]
    assert all(sentence.endswith(".") for sentence in sentences)
    assert len(set(sentences)) == len(sentences)
