"""What each record makes of a member's account, to the field; the rules themselves are told in `rules_of_*`."""

from __future__ import annotations

import pytest
from account_cases import DAY, NOON, Member, brand, campaign, paid, refused, taken_back

from aggregates.events import (
    InteractionRewarded,
    InteractionTakenBack,
    PointsRedeemed,
    PurchaseRecorded,
    ReferralJudged,
    RefundRecorded,
    Take,
)

LIKES = campaign("[{rule: like, on: interaction, kind: like, points: 10}]")
SPEND = campaign("[{rule: spend, on: purchase, per_minor: 100, points: 1, hold: 14d}]")
FLAT = campaign("[{rule: order, on: purchase, points: 50}]")
FRIEND = campaign("[{rule: friend, on: referral, points: 500, hold: 14d}]")
NO_DEBT = "points: {negative_balance: forbid}"


# Interactions


def test_an_interaction_pays_every_matching_rule_per_unit():
    member = Member(
        campaign("[{rule: a, on: interaction, points: 3}, {rule: b, on: interaction, kind: like, points: 1}]")
    )
    [event] = member.interact(4)
    assert isinstance(event, InteractionRewarded)
    assert [(g.rule, g.points) for g in event.grants] == [("a", 12), ("b", 4)]


def test_an_interaction_that_no_rule_matches_leaves_no_event():
    assert Member(LIKES).interact(kind="share") == []


def test_an_interaction_of_quantity_zero_leaves_no_event():
    assert Member(LIKES).interact(0) == []


def test_a_named_campaign_that_is_not_live_is_recorded_as_such():
    [event] = Member().interact(campaign_id="spring", seen={"not_live": True})
    assert [(r.campaign, r.rule, r.reason) for r in event.refusals] == [("spring", "", "not_live")]


def test_who_did_not_join_is_refused_only_where_a_rule_would_match():
    member = Member()
    assert refused(member.interact(seen={"not_joined": (LIKES,)})) == ["not_joined"]
    assert member.interact(kind="share", seen={"not_joined": (LIKES,)}) == []


def test_a_cap_truncates_and_then_refuses():
    member = Member(campaign("[{rule: like, on: interaction, points: 10, caps: {per_post: 15}}]"))
    [event] = member.interact()
    assert event.grants[0].limited_by == ""
    [event] = member.interact()
    assert (event.grants[0].points, event.grants[0].entitled, event.grants[0].limited_by) == (5, 10, "per_post")
    assert refused(member.interact()) == ["per_post"]
    assert paid(member.interact(post_id="p2")) == [10]


def test_a_budget_is_paid_out_to_the_last_point_even_within_one_record():
    two = campaign("[{rule: a, on: interaction, points: 3}, {rule: b, on: interaction, points: 3}]", "budget: 5")
    member = Member(two, budget={"spring": 5})
    [event] = member.interact()
    assert [(g.points, g.limited_by) for g in event.grants] == [(3, ""), (2, "budget")]
    assert refused(member.interact()) == ["budget", "budget"]


def test_the_same_event_long_after_is_paid_once():
    member = Member(LIKES)
    member.interact(event_id="again")
    assert refused(member.interact(event_id="again")) == ["duplicate_event"]
    assert member.points() == (10, 0, 0)


# Unlikes


@pytest.mark.parametrize("liked", [True, False])
def test_an_unlike_that_names_a_campaign_that_is_not_live_says_so_and_takes_back_what_its_like_earned(liked):
    member = Member(LIKES)
    if liked:
        member.interact()
    [event] = member.interact(-1, campaign_id="winter", seen={"not_live": True})
    assert isinstance(event, InteractionTakenBack)
    assert [(r.campaign, r.rule, r.reason) for r in event.refusals] == [("winter", "", "not_live")]
    assert (taken_back([event]), member.points()) == ([10] if liked else [], (0, 0, 0))
    assert member.interact(-1) == []


def test_an_unlike_takes_back_what_its_like_earned():
    member = Member(LIKES)
    member.interact()
    [event] = member.interact(-1)
    assert isinstance(event, InteractionTakenBack)
    assert (taken_back([event]), member.points()) == ([10], (0, 0, 0))


def test_the_latest_interaction_is_undone_first():
    member = Member(LIKES)
    [first], [second] = member.interact(2), member.interact(2)
    [event] = member.interact(-3)
    assert [(u.event_id, u.quantity) for u in event.undone] == [(second.origin.event_id, 2), (first.origin.event_id, 1)]
    assert taken_back([event]) == [20, 10]


def test_of_one_actors_likes_the_latest_is_undone_first_and_no_more_than_asked():
    member = Member(LIKES)
    events = [member.interact(actor_id="bob")[0] for _ in range(3)]
    for event in reversed(events):
        [back] = member.interact(-1, actor_id="bob")
        assert [(u.event_id, u.quantity) for u in back.undone] == [(event.origin.event_id, 1)]


def test_an_unlike_by_nobody_in_particular_undoes_the_latest_of_anybody():
    member = Member(LIKES)
    member.interact(actor_id="bob")
    [latest] = member.interact(actor_id="cleo")
    [event] = member.interact(-1)
    assert event.undone[0].event_id == latest.origin.event_id


@pytest.mark.parametrize("other", [{"post_id": "p2"}, {"platform": "y"}, {"surface": "member_post"}, {"kind": "share"}])
def test_an_unlike_of_something_else_undoes_nothing(other):
    member = Member(LIKES)
    member.interact()
    assert member.interact(-1, **other) == []


def test_one_unlike_undoes_one_like_under_all_of_its_rules():
    autumn = campaign("[{rule: like, on: interaction, points: 1}]", "campaign: autumn")
    member = Member(LIKES, autumn)
    member.interact()
    member.campaigns = (LIKES,)
    member.interact()
    assert taken_back(member.interact(-1)) == [10]
    assert sorted(taken_back(member.interact(-1))) == [1, 10]


def test_what_a_cap_kept_back_reverses_nothing_and_a_reversal_gives_no_cap_room_back():
    member = Member(campaign("[{rule: like, on: interaction, points: 10, caps: {total: 15}}]"))
    member.interact()
    member.interact()
    member.interact()
    assert taken_back(member.interact(-1)) == []
    assert taken_back(member.interact(-1)) == [5]
    assert refused(member.interact()) == ["total"]
    assert taken_back(member.interact(-2)) == [10]
    assert member.points() == (0, 0, 0)


# Purchases and refunds


def test_an_order_is_paid_once():
    member = Member(SPEND)
    member.buy("o1", 1_000)
    [again] = member.buy("o1", 5_000)
    assert (paid([again]), refused([again]), again.referral) == ([], ["duplicate_order"], "")


def test_a_purchase_without_points_is_still_recorded():
    [event] = Member().buy("o1", 1_000)
    assert isinstance(event, PurchaseRecorded)
    assert (event.grants, event.refusals) == ((), ())


def test_a_refund_sent_again_long_after_counts_once():
    member = Member(SPEND)
    member.buy("o1", 1_000)
    member.refund("o1", 500, event_id="r1")
    assert member.refund("o1", 500, event_id="r1") == []


def test_a_refund_that_comes_first_lowers_what_its_purchase_pays():
    member = Member(SPEND)
    [event] = member.refund("o1", 400)
    assert isinstance(event, RefundRecorded)
    assert not event.matched
    [event] = member.buy("o1", 1_000)
    assert (paid([event]), event.refunded_minor) == ([6], 400)
    assert taken_back(member.refund("o1", 600)) == [6]


def test_a_refund_that_names_a_campaign_that_is_not_live_says_so_and_is_taken_off_its_order():
    member = Member(SPEND)
    member.buy("o1", 1_000, referrer_id="bob")
    [event] = member.refund("o1", 1_000, campaign_id="winter", occurred_at=NOON + DAY, seen={"not_live": True})
    assert isinstance(event, RefundRecorded)
    assert [(r.campaign, r.rule, r.reason) for r in event.refusals] == [("winter", "", "not_live")]
    assert (taken_back([event]), event.ordered_at) == ([10], NOON)
    member.buy("o2", 1_000)
    [event] = member.refund("o2", 1_000)
    assert isinstance(event, RefundRecorded)
    assert event.ordered_at is None, "it is of no referred order"


def test_a_refund_without_an_order_changes_nothing():
    member = Member(SPEND)
    member.buy("o1", 1_000)
    [event] = member.refund(None, 1_000)
    assert (event.matched, event.reversals) == (False, ())


def test_an_order_of_nothing_pays_flat_points_unless_it_was_refunded():
    member = Member(FLAT)
    assert paid(member.buy("o1", 0)) == [50]
    member.refund("o2", 0)
    assert refused(member.buy("o2", 0)) == ["nothing_due"]


# First times

FIRST_ORDER = campaign("[{rule: welcome, on: purchase, points: 50, first_time: true}]")
FIRST_SHARE = campaign("[{rule: share, on: interaction, points: 10, first_time: true, caps: {per_event: 10}}]")


def test_a_first_order_bonus_is_for_the_first_order_ever_even_one_before_the_campaign():
    member = Member(FIRST_ORDER)
    assert paid(member.buy("o1", 100)) == [50]
    assert refused(member.buy("o2", 100)) == ["not_the_first"]
    late = Member()
    late.buy("o1", 100)
    late.campaigns = (FIRST_ORDER,)
    assert refused(late.buy("o2", 100)) == ["not_the_first"]


def test_an_order_refunded_before_it_came_was_the_first_all_the_same():
    member = Member(FIRST_ORDER)
    member.refund("o1", 100)
    assert refused(member.buy("o1", 100)) == ["nothing_due"]
    assert refused(member.buy("o2", 100)) == ["not_the_first"]


def test_an_unlike_gives_the_first_time_not_back_so_liking_again_earns_nothing():
    member = Member(FIRST_SHARE)
    member.interact()
    assert taken_back(member.interact(-1)) == [10]
    assert refused(member.interact()) == ["not_the_first"]


# Where a reversal takes from


def test_a_reversal_takes_from_its_own_lot_then_pending_then_active():
    own = campaign("[{rule: like, on: interaction, points: 10}, {rule: spend, on: purchase, points: 5, hold: 9d}]")
    member = Member(own)
    [like] = member.interact()
    member.command(8)
    [order] = member.buy("o1", 100)
    [other] = member.interact(post_id="p2")
    [event] = member.interact(-1)
    assert event.reversals[0].takes == (
        Take(like.grants[0].entry_id, 2),
        Take(order.grants[0].entry_id, 5),
        Take(other.grants[0].entry_id, 3),
    )


def test_two_reversals_of_one_record_never_take_the_same_points():
    two = campaign("[{rule: a, on: purchase, points: 5}, {rule: b, on: purchase, points: 5}]")
    member = Member(two)
    member.buy("o1", 100)
    member.command(7)
    [event] = member.refund("o1", 100)
    assert [(r.points, r.debt) for r in event.reversals] == [(5, 2), (5, 5)]
    assert member.points() == (-7, 0, 0)


def test_what_is_missing_becomes_debt_and_lowers_what_can_be_spent():
    member = Member(LIKES)
    member.interact()
    member.command(10)
    [event] = member.interact(-1)
    assert [(r.points, r.takes, r.debt, r.shortfall) for r in event.reversals] == [(10, (), 10, 0)]
    member.interact(3)
    assert member.points() == (20, 0, 0)
    assert member.command(21)[0].reason == "insufficient_points"
    assert isinstance(member.command(20)[0], PointsRedeemed)


def test_without_negative_balance_what_is_missing_is_given_up_as_shortfall():
    member = Member(LIKES, owner=brand(NO_DEBT))
    member.interact()
    member.command(4)
    [event] = member.interact(-1)
    assert [(r.points, r.debt, r.shortfall) for r in event.reversals] == [(6, 0, 4)]
    assert member.points() == (0, 0, 0)
    assert member.account.shortfall == 4


# Referrals


def test_an_order_with_a_referrer_makes_the_referral_due_once():
    member = Member()
    [event] = member.buy("o1", 100, referrer_id="bob", campaign_id="spring")
    assert (event.referral, event.new_customer, event.campaign_id) == ("due", True, "spring")
    assert member.buy("o1", 100, referrer_id="bob")[0].referral == ""


def test_nobody_refers_themselves():
    member = Member()
    assert member.buy("o1", 100, referrer_id="ann")[0].referral == "self_referral"
    assert member.refund("o1", 100)[0].referrer_id is None


def test_a_later_order_is_not_a_new_customers():
    member = Member()
    member.buy("o1", 100)
    assert not member.buy("o2", 100, referrer_id="bob")[0].new_customer


def test_a_refund_of_a_referred_order_names_what_the_referrers_side_needs():
    member = Member()
    member.buy("o1", 100, referrer_id="bob", campaign_id="spring")
    [event] = member.refund("o1", 30)
    assert (event.referrer_id, event.campaign_id, event.new_customer, event.matched) == ("bob", "spring", True, True)


def test_an_order_refunded_before_it_came_makes_no_referral_due():
    member = Member()
    member.refund("o1", 100)
    assert member.buy("o1", 100, referrer_id="bob")[0].referral == "order_refunded"
    assert member.refund("o1", 5)[0].referrer_id is None


def test_a_friends_first_order_pays_the_referrer_once():
    member = Member(FRIEND)
    [event] = member.friend("completed", "o1", 3_000)
    assert isinstance(event, ReferralJudged)
    assert paid([event]) == [500]
    assert refused(member.friend("completed", "o1", 3_000)) == ["duplicate_referral"]
    assert paid(member.friend("completed", "o1", 3_000, buyer="cleo")) == [500]


def test_an_existing_customers_order_pays_the_referrer_nothing():
    assert refused(Member(FRIEND).friend("completed", "o1", 3_000, new_customer=False)) == ["existing_customer"]


def test_a_friends_refund_is_judged_on_the_net_whichever_comes_first():
    money = campaign("[{rule: share, on: referral, per_minor: 100, points: 1}]")
    in_order, reverse = Member(money), Member(money)
    in_order.friend("completed", "o1", 1_000)
    in_order.friend("refunded", "o1", 250, event_id="r1")
    assert in_order.friend("refunded", "o1", 250, event_id="r1") == []
    reverse.friend("refunded", "o1", 250)
    reverse.friend("completed", "o1", 1_000)
    assert in_order.points() == reverse.points() == (7, 0, 0)


def test_a_friends_refund_counts_for_the_campaigns_of_its_order_whatever_is_live_then():
    during, before = Member(FRIEND), Member()
    for member, order_of in ((during, ("spring",)), (before, ())):
        assert member.friend("completed", "o1", 3_000)[0].campaigns == order_of
        member.campaigns = () if order_of else (FRIEND,)
        assert member.friend("refunded", "o1", 1_000)[0].campaigns == order_of


# Commands


def test_redeeming_spends_the_earliest_expiry_first_and_unlimited_last():
    member = Member(LIKES)
    [unlimited] = member.interact()
    member.brand = brand("points: {expire_after: 30d}")
    [late] = member.interact(occurred_at=NOON + DAY)
    [early] = member.interact()
    [event] = member.command(25, occurred_at=NOON + 2 * DAY)
    assert event.takes == tuple(Take(e.grants[0].entry_id, n) for e, n in ((early, 10), (late, 10), (unlimited, 5)))


@pytest.mark.parametrize("points", [0, -5])
def test_only_a_positive_number_of_points_is_redeemed(points):
    assert Member().command(points)[0].reason == "points_not_positive"


@pytest.mark.parametrize("kind", ["transfer_out", "transfer_in"])
def test_a_command_that_is_not_supported_says_so(kind):
    assert Member().command(5, kind=kind)[0].reason == "not_supported_yet"


def test_other_records_mean_nothing_for_points():
    assert Member(LIKES).record("ProfileSnapshot", {"platform": "x", "followers": 5}) == []
