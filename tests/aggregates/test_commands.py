"""What each command makes of a member's account, to the field; the rules themselves are told in `rules_of_spending`."""

from __future__ import annotations

from itertools import pairwise

import pytest
from account_cases import DAY, NOON, Member, brand, campaign, taken_back

from aggregates.commands import PRECEDENCE
from aggregates.events import CommandRefused, PointsAdjusted, PrizeAwarded, RedemptionCancelled, Reversal, Take
from aggregates.refusals import Refusal

LIKES = campaign("[{rule: like, on: interaction, kind: like, points: 10}]")
NO_DEBT = "points: {negative_balance: forbid}"


def redeemed(member: Member, points: int, **value: object) -> str:
    """The entry of a redemption that is carried out."""
    return member.command(points, **value)[0].entry_id


# Cancellations


def test_a_cancelled_redemption_gives_its_points_back_to_the_lots_they_came_from():
    member = Member(LIKES, owner=brand("points: {expire_after: 30d}"))
    [first], [second] = member.interact(), member.interact()
    entry = redeemed(member, 15)
    [event] = member.cancel(entry)
    assert isinstance(event, RedemptionCancelled)
    assert (event.cancels, event.points) == (entry, 15)
    assert event.returns == (Take(first.grants[0].entry_id, 10), Take(second.grants[0].entry_id, 5))
    assert member.points() == (20, 0, 0)
    assert member.account.spent == 0


def test_only_a_redemption_of_the_member_can_be_cancelled_and_only_once():
    member = Member(LIKES)
    [event] = member.interact()
    assert member.cancel(event.grants[0].entry_id)[0].reason == "unknown_redemption"
    assert member.cancel(None)[0].reason == "unknown_redemption"
    entry = redeemed(member, 5)
    assert member.cancel(entry, event_id="k1")[0].points == 5
    [refused] = member.cancel(entry, event_id="k2")
    assert (refused.reason, refused.reference) == ("already_cancelled", entry)
    assert member.cancel(entry, event_id="k1") == []
    assert member.points() == (10, 0, 0)


def test_a_redemption_that_was_refused_cannot_be_cancelled():
    member = Member(LIKES)
    [refused] = member.command(5)
    assert isinstance(refused, CommandRefused)
    assert member.cancel("0123456789abcdef")[0].reason == "unknown_redemption"


def test_points_given_back_pay_for_the_debt_that_their_spending_made():
    member = Member(LIKES, owner=brand("points: {expire_after: 30d, negative_balance: allow}"))
    member.interact()
    entry = redeemed(member, 10)
    member.interact(-1)
    assert member.points() == (-10, 0, 0)
    [event] = member.cancel(entry, occurred_at=NOON + 40 * DAY)
    assert (event.points, event.returns, event.settles, event.reversals) == (10, (), 10, ())
    assert member.points(NOON + 40 * DAY) == (0, 0, 0)


def test_points_given_back_make_good_what_was_given_up_of_their_own_grant():
    member = Member(LIKES, owner=brand(NO_DEBT))
    [liked] = member.interact()
    member.interact(post_id="p2")
    entry = redeemed(member, 20)
    [back] = member.interact(-1)
    assert (taken_back([back]), member.account.shortfall) == ([0], 10)
    [event] = member.cancel(entry)
    lot = liked.grants[0].entry_id
    [reversal] = event.reversals
    assert (reversal.reverses, reversal.points, reversal.takes, reversal.shortfall) == (lot, 10, (Take(lot, 10),), -10)
    assert (reversal.campaign, reversal.version, reversal.rule) == ("spring", 1, "like")
    assert member.points() == (10, 0, 0)
    assert (member.account.shortfall, member.account.reversed, member.account.spent) == (0, 10, 0)


def test_cancelling_in_parts_makes_good_no_more_than_was_given_up():
    member = Member(campaign("[{rule: spend, on: purchase, per_minor: 100, points: 1}]"), owner=brand(NO_DEBT))
    member.buy("o1", 1_000)
    one, two = redeemed(member, 6), redeemed(member, 4)
    member.refund("o1", 300)
    member.refund("o1", 400)
    assert member.account.shortfall == 7
    assert [r.points for r in member.cancel(one)[0].reversals] == [6]
    assert [r.points for r in member.cancel(two)[0].reversals] == [1]
    assert (member.points(), member.account.shortfall) == ((3, 0, 0), 0)
    assert taken_back(member.refund("o1", 300)) == [3]


# Adjustments


def test_points_added_are_active_at_once_and_expire_by_the_brands_rule():
    member = Member(owner=brand("points: {expire_after: 2d}"))
    [event] = member.command(30, kind="adjust", reason="sorry")
    assert isinstance(event, PointsAdjusted)
    assert (event.points, event.active_at, event.reason) == (30, NOON, "sorry")
    assert [member.points(NOON + days * DAY) for days in (0, 2)] == [(30, 0, 0), (0, 0, 30)]
    assert (member.account.adjusted, member.account.earned) == (30, 0)


def test_points_taken_come_from_active_lots_in_the_order_of_spending():
    member = Member(LIKES)
    [unlimited] = member.interact()
    member.brand = brand("points: {expire_after: 30d}")
    [limited] = member.interact()
    [event] = member.command(-15, kind="adjust")
    assert event.takes == (Take(limited.grants[0].entry_id, 10), Take(unlimited.grants[0].entry_id, 5))
    assert (member.points(), member.account.adjusted) == ((5, 0, 0), -15)


# Prizes


def test_a_prize_is_a_lot_of_its_own_and_counts_as_earned():
    member = Member(owner=brand("points: {expire_after: 2d}"))
    [event] = member.command(500, kind="prize", reference="spring", campaign_version=3, rank=2)
    assert isinstance(event, PrizeAwarded)
    assert (event.campaign, event.version, event.rank, event.points) == ("spring", 3, 2, 500)
    assert [member.points(NOON + days * DAY) for days in (0, 2)] == [(500, 0, 0), (0, 0, 500)]
    assert member.account.earned == 500


# Debt


@pytest.mark.parametrize("kind", ["adjust", "prize"])
def test_debt_is_paid_off_first_by_points_that_come_in_by_command(kind):
    member = Member(owner=brand("points: {expire_after: 2d, negative_balance: allow}"))
    member.command(-10, kind="adjust")
    [event] = member.command(25, kind=kind, reference="spring")
    assert event.settles == 10
    assert [member.points(NOON + days * DAY) for days in (0, 2)] == [(15, 0, 0), (0, 0, 15)]


def test_debt_is_paid_off_first_by_what_is_earned_so_that_no_points_expire_beside_it():
    member = Member(LIKES, owner=brand("points: {expire_after: 2d, negative_balance: allow}"))
    member.command(-25, kind="adjust")
    [event] = member.interact(2)
    assert [(grant.points, grant.settles) for grant in event.grants] == [(20, 20)]
    [event] = member.interact(2)
    assert [(grant.points, grant.settles) for grant in event.grants] == [(20, 5)]
    assert [member.points(NOON + days * DAY) for days in (0, 2)] == [(15, 0, 0), (0, 0, 15)]


def test_points_on_hold_pay_off_no_debt_because_their_order_may_still_be_refunded():
    member = Member(campaign("[{rule: a, on: purchase, points: 6, hold: 9d}, {rule: b, on: purchase, points: 6}]"))
    member.command(-10, kind="adjust")
    [event] = member.buy("o1", 100)
    assert [(grant.points, grant.settles) for grant in event.grants] == [(6, 0), (6, 6)]
    assert [member.points(NOON + days * DAY) for days in (0, 9)] == [(-4, 6, 0), (2, 0, 0)]
    member.refund("o1", 100)
    assert member.points() == (-10, 0, 0)


# Refusals


def test_commands_are_refused_in_the_order_of_the_table_of_refusals():
    order = list(Refusal)
    assert all(order.index(one) < order.index(other) for (one, _), (other, _) in pairwise(PRECEDENCE))


def test_every_reversal_of_a_cancellation_has_an_entry_id_of_its_own():
    two = "[{rule: a, on: purchase, points: 5}, {rule: b, on: purchase, points: 5}]"
    member = Member(campaign(two), owner=brand(NO_DEBT))
    member.buy("o1", 100)
    entry = redeemed(member, 10)
    [refund] = member.refund("o1", 100)
    [event] = member.cancel(entry)
    reversals: tuple[Reversal, ...] = (*refund.reversals, *event.reversals)
    assert len({reversal.entry_id for reversal in reversals}) == 4
