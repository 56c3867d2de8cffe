"""The rulebook, first part: lots and time, what earns, first times, caps and budget, referrals."""

from __future__ import annotations

from rulebook import Story, rule

LIKE = "{rule: like, on: interaction, kind: like, points: 10}"
SPEND = "{rule: spend, on: purchase, per_minor: 100, points: 1, hold: 14d}"
FRIEND = "{rule: friend, on: referral, points: 500, hold: 14d}"


# Lots and time


@rule("Lots and time")
def on_hold(a: Story) -> None:
    """Points on hold are pending, and active from the instant at which the hold ends."""
    a.rules(SPEND)
    a.buys("o1", 2_000)
    a.pays(20)
    a.has(0, 20)
    a.has(0, 20, on="2026-03-24 11:59")
    a.has(20, on="2026-03-24 12:00")


@rule("Lots and time")
def expiry_starts_with_the_end_of_the_hold(a: Story) -> None:
    """The expiry clock starts on the day the hold ends, and points expire at midnight."""
    a.brand(expire_after="30d")
    a.rules(SPEND)
    a.buys("o1", 2_000)
    a.pays(20)
    a.has(20, on="2026-04-22 23:59")
    a.has(0, 0, 20, on="2026-04-23 00:00")


@rule("Lots and time")
def months(a: Story) -> None:
    """A month that lacks the day ends the points' life on its last day."""
    a.brand(expire_after="1mo")
    a.rules(LIKE)
    a.on("2026-03-31 09:00")
    a.gets()
    a.pays(10)
    a.has(10, on="2026-04-29 23:59")
    a.has(0, 0, 10, on="2026-04-30 00:00")


@rule("Lots and time")
def a_short_day(a: Story) -> None:
    """A day on which the clocks change is a day."""
    a.brand(expire_after="2d")
    a.rules(LIKE)
    a.on("2026-03-28 12:00")
    a.gets()
    a.pays(10)
    a.has(10, on="2026-03-29 23:59")
    a.has(0, 0, 10, on="2026-03-30 00:00")


@rule("Lots and time")
def the_brands_midnight(a: Story) -> None:
    """Midnight is the brand's."""
    a.brand(timezone="Asia/Tokyo", expire_after="1d")
    a.rules(LIKE)
    a.on("2026-03-10 23:59")
    a.gets()
    a.pays(10)
    a.on("2026-03-11 00:00")
    a.redeems(10)
    a.is_refused("insufficient_points")
    a.has(0, 0, 10)


@rule("Lots and time")
def at_midnight(a: Story) -> None:
    """At a midnight points become active, then the record is judged, and what expires then is gone for it."""
    a.brand(expire_after="1d")
    a.rules("{rule: like, on: interaction, points: 10, hold: 12h}")
    a.on("2026-03-09 12:00")
    a.gets()
    a.pays(10)
    a.on("2026-03-10 12:00")
    a.gets()
    a.pays(10)
    a.on("2026-03-11 00:00")
    a.redeems(20)
    a.is_refused("insufficient_points")
    a.redeems(10)
    a.is_done()
    a.has(0, 0, 10)


@rule("Lots and time")
def order_of_spending(a: Story) -> None:
    """Points that expire first are spent first, unlimited ones last, and of one day those that came first."""
    a.rules(LIKE)
    a.gets()
    a.pays(10)
    a.brand(expire_after="10d")
    a.gets()
    a.pays(10)
    a.brand(expire_after="5d")
    a.gets()
    a.pays(10)
    a.redeems(15)
    a.is_done()
    a.has(15)
    a.has(15, on="2026-03-19 23:59")
    a.has(10, 0, 5, on="2026-03-20 00:00")


# Earning


@rule("Earning")
def every_matching_rule(a: Story) -> None:
    """Every matching rule pays, for each unit."""
    a.rules("{rule: any, on: interaction, points: 3}", "{rule: like, on: interaction, kind: like, points: 1}")
    a.gets(n=4)
    a.pays(12, 4)
    a.gets("share")
    a.pays(3)


@rule("Earning")
def no_rule(a: Story) -> None:
    """What no rule is about leaves no trace in the ledger."""
    a.rules(LIKE)
    a.gets("share")
    a.pays_nothing()


@rule("Earning")
def whole_money_units(a: Story) -> None:
    """An order pays for whole units of money; the rest is lost."""
    a.rules(SPEND)
    a.buys("o1", 1_999)
    a.pays(19)
    a.buys("o2", 99)
    a.pays_nothing("nothing_due")


@rule("Earning")
def tier_multiplier(a: Story) -> None:
    """The tier that a member has when it happens multiplies, exactly, and only the product is floored."""
    a.rules("{rule: like, on: interaction, points: 1, tier_multiplier: {nano: 2.5, macro: 0.5}}")
    a.gets(n=3, tier="nano")
    a.pays(7)
    a.gets(n=3)
    a.pays(3)
    a.gets(tier="macro")
    a.pays_nothing("nothing_due")


@rule("Earning")
def own_posts(a: Story) -> None:
    """What members do to their own posts earns nothing, and taking it back takes nothing."""
    a.rules(LIKE)
    a.gets(by="ann")
    a.pays_nothing("self_interaction")
    a.gets(n=-1, by="ann")
    a.changes_nothing()


@rule("Earning")
def an_order_twice(a: Story) -> None:
    """An order is paid once, under whatever event id it comes."""
    a.rules(SPEND)
    a.buys("o1", 1_000)
    a.pays(10)
    a.buys("o1", 5_000, again=True)
    a.pays_nothing("duplicate_order")


# First times


@rule("First times")
def first_order(a: Story) -> None:
    """A bonus for the first order is for the first one ever, and its refund does not make the next one first."""
    a.rules("{rule: welcome, on: purchase, points: 50, first_time: true}")
    a.buys("o1", 1_000)
    a.pays(50)
    a.refund("o1", 1_000)
    a.takes_back(50)
    a.buys("o2", 1_000)
    a.pays_nothing("not_the_first")


@rule("First times")
def first_share(a: Story) -> None:
    """A bonus for the first interaction is for one unit of the first that the rule pays."""
    a.rules("{rule: share, on: interaction, kind: share, points: 10, first_time: true}")
    a.gets("share", by="ann")
    a.pays_nothing("self_interaction")
    a.gets("share", 3)
    a.pays(10)
    a.gets("share", post="p2")
    a.pays_nothing("not_the_first")


@rule("First times")
def first_friend(a: Story) -> None:
    """A bonus for the first friend is for the first one that the rule pays."""
    a.rules("{rule: friend, on: referral, points: 500, first_time: true}")
    a.friend_buys("o1", 3_000, new=False)
    a.pays_nothing("existing_customer")
    a.friend_buys("o2", 3_000, "cleo")
    a.pays(500)
    a.friend_buys("o3", 3_000, "dan")
    a.pays_nothing("not_the_first")


# Caps and budget


@rule("Caps and budget")
def caps_truncate(a: Story) -> None:
    """A cap pays what still fits, and then nothing."""
    a.rules("{rule: like, on: interaction, points: 10, caps: {per_post: 15}}")
    a.gets()
    a.pays(10)
    a.gets()
    a.pays(5)
    a.gets()
    a.pays_nothing("per_post")
    a.gets(post="p2")
    a.pays(10)


@rule("Caps and budget")
def per_event(a: Story) -> None:
    """What is worth more than `per_event` is rejected whole."""
    a.rules("{rule: like, on: interaction, points: 10, caps: {per_event: 30}}")
    a.gets(n=3)
    a.pays(30)
    a.gets(n=4)
    a.pays_nothing("per_event")


@rule("Caps and budget")
def day(a: Story) -> None:
    """A day, a week and a month are the brand's, and what occurred counts in its own, however late it comes."""
    a.rules("{rule: like, on: interaction, points: 10, caps: {per_day: 10, per_week: 20, per_month: 30}}")
    a.on("2026-03-10 23:59")
    a.gets()
    a.pays(10)
    a.on("2026-03-11 00:00")
    a.gets()
    a.pays(10)
    a.on("2026-03-10 08:00")
    a.gets()
    a.pays_nothing("per_day")
    a.on("2026-03-15 23:59")
    a.gets()
    a.pays_nothing("per_week")
    a.on("2026-03-16 00:00")
    a.gets()
    a.pays(10)
    a.on("2026-03-31 23:59")
    a.gets()
    a.pays_nothing("per_month")


@rule("Caps and budget")
def total(a: Story) -> None:
    """`total` is for the whole campaign, and what is taken back gives no room back."""
    a.rules("{rule: like, on: interaction, points: 10, caps: {total: 15}}")
    a.gets(n=2)
    a.pays(15)
    a.gets(n=-2)
    a.takes_back(15)
    a.gets()
    a.pays_nothing("total")


@rule("Caps and budget")
def budget(a: Story) -> None:
    """A budget is paid out to the last point, first come, first served, and a reversal gives nothing back to it."""
    a.rules("{rule: a, on: interaction, points: 3}", "{rule: b, on: interaction, points: 3}", budget=5)
    a.gets()
    a.pays(3, 2)
    a.gets(n=-1)
    a.takes_back(2, 3)
    a.gets()
    a.pays_nothing("budget", "budget")


# Referrals


@rule("Referrals")
def a_friend(a: Story) -> None:
    """A new customer's order pays the referrer, once."""
    a.rules(FRIEND)
    a.friend_buys("o1", 3_000)
    a.pays(500)
    a.friend_buys("o1", 3_000)
    a.pays_nothing("duplicate_referral")


@rule("Referrals")
def an_existing_customer(a: Story) -> None:
    """Who had ordered before is no new customer."""
    a.rules(FRIEND)
    a.friend_buys("o1", 3_000, new=False)
    a.pays_nothing("existing_customer")


@rule("Referrals")
def oneself(a: Story) -> None:
    """Nobody refers themselves."""
    a.rules(FRIEND)
    a.buys("o1", 3_000, referrer="ann")
    a.referral(False, "self_referral")
    a.buys("o2", 3_000, referrer="bob")
    a.referral(True)


@rule("Referrals")
def the_friends_refund(a: Story) -> None:
    """The referrer's reward goes the way of the order: flat points with the last of it, others in proportion."""
    a.rules("{rule: share, on: referral, per_minor: 100, points: 1}", "{rule: friend, on: referral, points: 500}")
    a.friend_buys("o1", 3_000)
    a.pays(30, 500)
    a.friend_refund("o1", 1_000)
    a.takes_back(10)
    a.friend_refund("o1", 2_000)
    a.takes_back(20, 500)


@rule("Referrals")
def the_friends_refund_first(a: Story) -> None:
    """A refund that comes before its order lowers the referrer's reward as well."""
    a.rules("{rule: share, on: referral, per_minor: 100, points: 1}")
    a.friend_refund("o1", 1_000)
    a.takes_back()
    a.friend_buys("o1", 3_000)
    a.pays(20)
    a.has(20)


@rule("Referrals")
def an_order_that_was_refunded(a: Story) -> None:
    """An order that was refunded in full before it came makes no referral due."""
    a.refund("o1", 3_000)
    a.buys("o1", 3_000, referrer="bob")
    a.referral(False, "order_refunded")
