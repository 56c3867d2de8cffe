"""The rulebook, second part: refunds, unlikes, and where a reversal takes from."""

from __future__ import annotations

from rulebook import Story, rule

LIKE = "{rule: like, on: interaction, kind: like, points: 10}"
SPEND = "{rule: spend, on: purchase, per_minor: 100, points: 1}"
FLAT = "{rule: order, on: purchase, points: 50}"


# Refunds


@rule("Refunds")
def in_parts(a: Story) -> None:
    """Refunds in parts end as one refund of their sum: what counts is the net amount."""
    a.rules(SPEND)
    a.buys("o1", 1_000)
    a.pays(10)
    a.refund("o1", 150)
    a.takes_back(2)
    a.refund("o1", 40)
    a.takes_back()
    a.refund("o1", 20)
    a.takes_back(1)
    a.has(7)


@rule("Refunds")
def more_than_bought(a: Story) -> None:
    """More refunded than bought takes back what the order paid, and no more."""
    a.rules(SPEND)
    a.buys("o1", 1_000)
    a.pays(10)
    a.refund("o1", 99_900)
    a.takes_back(10)
    a.refund("o1", 100)
    a.takes_back()
    a.has(0)


@rule("Refunds")
def refund_first(a: Story) -> None:
    """A refund that comes before its order is kept, and the order pays for the rest."""
    a.rules(SPEND)
    a.refund("o1", 400)
    a.takes_back()
    a.buys("o1", 1_000)
    a.pays(6)
    a.refund("o1", 600)
    a.takes_back(6)
    a.has(0)


@rule("Refunds")
def refunded_before_it_came(a: Story) -> None:
    """An order that was refunded in full before it came pays nothing."""
    a.rules(SPEND, FLAT)
    a.refund("o1", 1_000)
    a.takes_back()
    a.buys("o1", 1_000)
    a.pays_nothing("nothing_due", "nothing_due")


@rule("Refunds")
def flat(a: Story) -> None:
    """Flat points stay until the last of the order is refunded."""
    a.rules(FLAT)
    a.buys("o1", 1_000)
    a.pays(50)
    a.refund("o1", 999)
    a.takes_back()
    a.refund("o1", 1)
    a.takes_back(50)


@rule("Refunds")
def the_tier_of_the_order(a: Story) -> None:
    """The tier that counted for the order counts for its refund."""
    a.rules("{rule: spend, on: purchase, per_minor: 100, points: 1, tier_multiplier: {micro: 2.5}}")
    a.buys("o1", 1_000)
    a.pays(25)
    a.refund("o1", 300, tier="macro")
    a.takes_back(8)
    a.has(17)


@rule("Refunds")
def what_a_cap_kept(a: Story) -> None:
    """What a cap kept back is given up first."""
    a.rules("{rule: spend, on: purchase, per_minor: 100, points: 1, caps: {total: 6}}")
    a.buys("o1", 1_000)
    a.pays(6)
    a.refund("o1", 400)
    a.takes_back()
    a.refund("o1", 100)
    a.takes_back(1)


@rule("Refunds")
def on_hold(a: Story) -> None:
    """Within the hold a refund takes the points before they could be spent."""
    a.rules("{rule: spend, on: purchase, per_minor: 100, points: 1, hold: 14d}")
    a.buys("o1", 1_000)
    a.pays(10)
    a.refund("o1", 1_000)
    a.takes_back(10)
    a.has(0, on="2026-03-24 12:00")


@rule("Refunds")
def buying_and_refunding(a: Story) -> None:
    """Buying and refunding again and again earns nothing, also where the points are spent in between."""
    a.rules(SPEND)
    a.buys("o1", 1_000)
    a.pays(10)
    a.redeems(10)
    a.is_done()
    a.refund("o1", 1_000)
    a.takes_back(10)
    a.has(-10, debt=10)
    a.buys("o2", 1_000)
    a.pays(10)
    a.redeems(1)
    a.is_refused("insufficient_points")
    a.refund("o2", 1_000)
    a.takes_back(10)
    a.has(-10, debt=10)


@rule("Refunds")
def no_order_named(a: Story) -> None:
    """A refund that names no order takes nothing back."""
    a.rules(SPEND)
    a.buys("o1", 1_000)
    a.pays(10)
    a.refund(None, 1_000)
    a.takes_back()


# Unlikes


@rule("Unlikes")
def an_unlike(a: Story) -> None:
    """Liking, unliking and liking again pays one like."""
    a.rules(LIKE)
    a.gets()
    a.pays(10)
    a.gets(n=-1)
    a.takes_back(10)
    a.gets()
    a.pays(10)
    a.has(10)


@rule("Unlikes")
def farming(a: Story) -> None:
    """Under a cap even that earns no second time: what was taken back keeps its room."""
    a.rules("{rule: like, on: interaction, points: 10, caps: {per_post: 10}}")
    a.gets()
    a.pays(10)
    a.gets(n=-1)
    a.takes_back(10)
    a.gets()
    a.pays_nothing("per_post")
    a.has(0)


@rule("Unlikes")
def by_whom(a: Story) -> None:
    """An unlike by somebody undoes only what they liked; one by nobody in particular, the latest of anybody."""
    a.rules(LIKE)
    a.gets(by="bob")
    a.pays(10)
    a.gets(by="cleo")
    a.pays(10)
    a.gets(n=-1, by="dan")
    a.changes_nothing()
    a.gets(n=-1, by="bob")
    a.takes_back(10)
    a.gets(n=-1, by="bob")
    a.changes_nothing()
    a.gets(n=-1)
    a.takes_back(10)
    a.has(0)


@rule("Unlikes")
def of_what(a: Story) -> None:
    """An unlike of another post or kind undoes nothing."""
    a.rules(LIKE)
    a.gets()
    a.pays(10)
    a.gets(n=-1, post="p2")
    a.changes_nothing()
    a.gets("share", -1)
    a.changes_nothing()


@rule("Unlikes")
def of_what_a_cap_kept(a: Story) -> None:
    """What a cap kept from paying is undone first and takes nothing."""
    a.rules("{rule: like, on: interaction, points: 10, caps: {total: 25}}")
    a.gets(n=4)
    a.pays(25)
    a.gets(n=-1)
    a.takes_back()
    a.gets(n=-1)
    a.takes_back(5)
    a.gets(n=-2)
    a.takes_back(20)


@rule("Unlikes")
def after_the_campaign(a: Story) -> None:
    """An unlike takes back after the campaign's end too."""
    a.rules(LIKE)
    a.gets()
    a.pays(10)
    a.campaigns_end()
    a.gets(n=-1)
    a.takes_back(10)


# Where a reversal takes from


@rule("Where a reversal takes from")
def own_pending_active(a: Story) -> None:
    """Its own lot first, then lots on hold, then active ones in the order of spending."""
    a.rules(LIKE, "{rule: spend, on: purchase, points: 5, hold: 9d}")
    a.gets()
    a.pays(10)
    a.redeems(8)
    a.is_done()
    a.buys("o1", 100)
    a.pays(5)
    a.gets(post="p2")
    a.pays(10)
    a.gets(n=-1)
    a.takes_back(10)
    a.has(7)


@rule("Where a reversal takes from")
def own_expired(a: Story) -> None:
    """Its own lot gives even when it has expired: its points count as reversed then, and the member loses them once."""
    a.brand(expire_after="1d")
    a.rules(LIKE)
    a.gets()
    a.pays(10)
    a.on("2026-03-20 12:00")
    a.gets(post="p2")
    a.pays(10)
    a.has(10, 0, 10)
    a.gets(n=-1)
    a.takes_back(10)
    a.has(10, reversed=10)


@rule("Where a reversal takes from")
def others_expired(a: Story) -> None:
    """Other expired lots give nothing."""
    a.brand(expire_after="1d", negative_balance="forbid")
    a.rules(LIKE)
    a.gets()
    a.pays(10)
    a.redeems(10)
    a.is_done()
    a.gets(post="p2")
    a.pays(10)
    a.on("2026-03-20 12:00")
    a.gets(n=-1)
    a.takes_back(0)
    a.has(0, 0, 10, shortfall=10)


@rule("Where a reversal takes from")
def owed(a: Story) -> None:
    """Where the brand allows a negative balance, what was spent already is owed."""
    a.rules(SPEND)
    a.buys("o1", 1_000)
    a.pays(10)
    a.redeems(10)
    a.is_done()
    a.refund("o1", 400)
    a.takes_back(4)
    a.has(-4, debt=4)
    a.redeems(1)
    a.is_refused("insufficient_points")


@rule("Where a reversal takes from")
def given_up(a: Story) -> None:
    """Where it forbids one, what was spent already is given up as shortfall, and not taken later."""
    a.brand(negative_balance="forbid")
    a.rules(SPEND)
    a.buys("o1", 1_000)
    a.pays(10)
    a.redeems(10)
    a.is_done()
    a.refund("o1", 400)
    a.takes_back(0)
    a.has(0, shortfall=4)
    a.buys("o2", 1_000)
    a.pays(10)
    a.refund("o1", 600)
    a.takes_back(6)
    a.has(4, shortfall=4)
