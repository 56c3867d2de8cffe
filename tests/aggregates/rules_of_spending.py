"""The rulebook, third part: redemptions and their cancellation, adjustments, prizes, debt."""

from __future__ import annotations

from rulebook import Story, rule

LIKE = "{rule: like, on: interaction, kind: like, points: 10}"
SPEND = "{rule: spend, on: purchase, per_minor: 100, points: 1}"


# Redemptions


@rule("Redemptions")
def only_what_is_active(a: Story) -> None:
    """Only active points are spent: what is on hold or expired is not there."""
    a.brand(expire_after="1d")
    a.rules(LIKE, "{rule: spend, on: purchase, points: 50, hold: 14d}")
    a.gets()
    a.pays(10)
    a.buys("o1", 100)
    a.pays(50)
    a.redeems(11)
    a.is_refused("insufficient_points")
    a.redeems(4)
    a.is_done()
    a.has(6, 50, spent=4)
    a.on("2026-03-11 00:00")
    a.redeems(1)
    a.is_refused("insufficient_points")


@rule("Redemptions")
def at_least_one(a: Story) -> None:
    """A redemption is of at least one point."""
    a.rules(LIKE)
    a.gets()
    a.pays(10)
    a.redeems(0)
    a.is_refused("points_not_positive")


@rule("Redemptions")
def once(a: Story) -> None:
    """The first outcome of a key is its only one, a refusal too."""
    a.rules(LIKE)
    a.redeems(5, key="k1")
    a.is_refused("insufficient_points")
    a.gets()
    a.pays(10)
    a.redeems(5, key="k1")
    a.changes_nothing()
    a.redeems(5, key="k2")
    a.is_done()
    a.redeems(5, key="k2")
    a.changes_nothing()
    a.has(5)


@rule("Redemptions")
def transfers(a: Story) -> None:
    """Transfers between members are not carried out yet."""
    a.transfers(5)
    a.is_refused("not_supported_yet")


# Cancellations


@rule("Cancellations")
def into_the_same_lots(a: Story) -> None:
    """The points go back into the lots that gave them, with the dates these have."""
    a.brand(expire_after="2d")
    a.rules(LIKE)
    a.gets()
    a.pays(10)
    a.on("2026-03-11 12:00")
    a.gets()
    a.pays(10)
    entry = a.redeems(15)
    a.is_done()
    a.cancels(entry)
    a.is_done()
    a.has(20, spent=0)
    a.has(10, 0, 10, on="2026-03-12 00:00")


@rule("Cancellations")
def expired_since(a: Story) -> None:
    """What has expired since comes back as expired."""
    a.brand(expire_after="2d")
    a.rules(LIKE)
    a.gets()
    a.pays(10)
    entry = a.redeems(10)
    a.is_done()
    a.on("2026-03-12 00:00")
    a.cancels(entry)
    a.is_done()
    a.has(0, 0, 10, spent=0)


@rule("Cancellations")
def what_there_is(a: Story) -> None:
    """Only a redemption can be cancelled, and once."""
    a.rules(LIKE)
    a.gets()
    a.pays(10)
    a.cancels("0123456789abcdef", "a redemption that never was")
    a.is_refused("unknown_redemption")
    entry = a.redeems(10)
    a.is_done()
    a.cancels(entry, key="k1")
    a.is_done()
    a.cancels(entry, key="k1")
    a.changes_nothing()
    a.cancels(entry, key="k2")
    a.is_refused("already_cancelled")
    a.has(10)


@rule("Cancellations")
def after_a_reversal_that_was_owed(a: Story) -> None:
    """What was taken back meanwhile and is owed is paid by what comes back."""
    a.rules(LIKE)
    a.gets()
    a.pays(10)
    entry = a.redeems(10)
    a.is_done()
    a.gets(n=-1)
    a.takes_back(10)
    a.has(-10, debt=10)
    a.cancels(entry)
    a.is_done()
    a.has(0, debt=0, reversed=10)


@rule("Cancellations")
def more_is_owed(a: Story) -> None:
    """Where more is owed than comes back, the rest is owed still."""
    a.rules(SPEND)
    a.buys("o1", 1_000)
    a.pays(10)
    entry = a.redeems(4)
    a.is_done()
    a.redeems(6)
    a.is_done()
    a.refund("o1", 1_000)
    a.takes_back(10)
    a.cancels(entry, "the first redemption")
    a.is_done()
    a.has(-6, debt=6, spent=6)


@rule("Cancellations")
def after_a_reversal_that_was_given_up(a: Story) -> None:
    """What was taken back meanwhile and was given up is taken from what comes back to the same lot."""
    a.brand(negative_balance="forbid")
    a.rules(SPEND)
    a.buys("o1", 1_000)
    a.pays(10)
    entry = a.redeems(10)
    a.is_done()
    a.refund("o1", 400)
    a.takes_back(0)
    a.has(0, shortfall=4)
    a.cancels(entry)
    a.takes_back(4)
    a.has(6, shortfall=0, reversed=4)


@rule("Cancellations")
def farming(a: Story) -> None:
    """Spending before an unlike and cancelling after it gains nothing."""
    a.brand(negative_balance="forbid")
    a.rules(LIKE)
    for _ in range(2):
        a.gets()
        a.pays(10)
        entry = a.redeems(10)
        a.is_done()
        a.gets(n=-1)
        a.takes_back(0)
        a.cancels(entry)
        a.takes_back(10)
        a.has(0)


# Adjustments


@rule("Adjustments")
def added(a: Story) -> None:
    """Points added are active at once and expire as if they had been earned."""
    a.brand(expire_after="12mo")
    a.adjusts(30)
    a.is_done()
    a.has(30, adjusted=30)
    a.has(0, 0, 30, on="2027-03-10 00:00")


@rule("Adjustments")
def taken(a: Story) -> None:
    """Points taken are active ones, in the order of spending; what they lack is owed where the brand allows it."""
    a.rules(LIKE)
    a.gets()
    a.pays(10)
    a.adjusts(-4)
    a.is_done()
    a.has(6, adjusted=-4)
    a.adjusts(-10)
    a.is_done()
    a.has(-4, adjusted=-14, debt=4)


@rule("Adjustments")
def taken_without_debt(a: Story) -> None:
    """Where it does not, more than is active cannot be taken."""
    a.brand(negative_balance="forbid")
    a.rules(LIKE)
    a.gets()
    a.pays(10)
    a.adjusts(-11)
    a.is_refused("insufficient_points")
    a.adjusts(-10)
    a.is_done()
    a.has(0)


@rule("Adjustments")
def nothing(a: Story) -> None:
    """An adjustment changes something, and once."""
    a.adjusts(0)
    a.is_refused("points_zero")
    a.adjusts(5, key="k1")
    a.is_done()
    a.adjusts(5, key="k1")
    a.changes_nothing()
    a.has(5)


# Prizes


@rule("Prizes")
def a_prize(a: Story) -> None:
    """A prize is active at once, expires as if it had been earned, and is paid once for ever."""
    a.brand(expire_after="12mo")
    a.wins(5_000, key="spring/ann")
    a.is_done()
    a.has(5_000, earned=5_000)
    a.wins(5_000, key="spring/ann")
    a.changes_nothing()
    a.has(0, 0, 5_000, on="2027-03-10 00:00")


@rule("Prizes")
def no_prize(a: Story) -> None:
    """A prize is of at least one point."""
    a.wins(0)
    a.is_refused("points_not_positive")


# Debt


@rule("Debt")
def paid_off(a: Story) -> None:
    """Whatever comes in without a hold pays off debt first, and only the rest can expire."""
    a.brand(expire_after="2d")
    a.rules(LIKE)
    a.adjusts(-25)
    a.is_done()
    a.gets()
    a.pays(10)
    a.has(-15, debt=15)
    a.wins(10)
    a.is_done()
    a.has(-5, debt=5)
    a.adjusts(20)
    a.is_done()
    a.has(15, debt=0)
    a.has(0, 0, 15, on="2026-03-12 00:00")


@rule("Debt")
def on_hold(a: Story) -> None:
    """Points on hold pay nothing off before they are active, so a refund within the hold changes nothing owed."""
    a.rules("{rule: spend, on: purchase, per_minor: 100, points: 1, hold: 14d}")
    a.adjusts(-6)
    a.is_done()
    a.buys("o1", 1_000)
    a.pays(10)
    a.has(-6, 10, debt=6)
    a.has(4, on="2026-03-24 12:00", debt=0)
    a.refund("o1", 1_000)
    a.takes_back(10)
    a.has(-6, debt=6)


HELD = "{rule: spend, on: purchase, per_minor: 100, points: 1, hold: 1d}"


@rule("Debt")
def held_points_pay(a: Story) -> None:
    """What was on hold pays off debt from the instant at which it is active, and only the rest can expire."""
    a.brand(expire_after="2d")
    a.rules(HELD)
    a.adjusts(-6)
    a.is_done()
    a.buys("o1", 1_000)
    a.pays(10)
    a.has(-6, 10, debt=6)
    a.has(-6, 10, on="2026-03-11 11:59", debt=6)
    a.has(4, on="2026-03-11 12:00", debt=0)
    a.has(0, 0, 4, on="2026-03-13 00:00", debt=0)


@rule("Debt")
def in_order_of_dates(a: Story) -> None:
    """Of several holds the one that ends first pays first, whichever points expire first."""
    a.brand(expire_after="9d")
    a.rules(HELD)
    a.adjusts(-12)
    a.is_done()
    a.buys("o1", 1_000)
    a.pays(10)
    a.brand(expire_after="2d")
    a.on("2026-03-11 10:00")
    a.buys("o2", 500)
    a.pays(5)
    a.has(-2, 5, on="2026-03-11 12:00", debt=2)
    a.has(3, on="2026-03-12 10:00", debt=0)
    a.has(0, 0, 3, on="2026-03-14 00:00", debt=0)


@rule("Debt")
def expired_before(a: Story) -> None:
    """What had expired when the debt arose pays nothing off."""
    a.brand(expire_after="2d")
    a.rules(HELD)
    a.adjusts(8)
    a.is_done()
    a.on("2026-03-12 12:00")
    a.adjusts(-6)
    a.is_done()
    a.has(-6, 0, 8, debt=6)
    a.buys("o1", 1_000)
    a.pays(10)
    a.on("2026-03-20 12:00")
    a.adjusts(-3)
    a.is_done()
    a.has(-3, 0, 12, debt=3)


@rule("Debt")
def refunded_after(a: Story) -> None:
    """What paid off debt and is refunded then is owed again, less what is left of its own lot, expired or not."""
    a.brand(expire_after="2d")
    a.rules(HELD)
    a.adjusts(-6)
    a.is_done()
    a.buys("o1", 1_000)
    a.pays(10)
    a.on("2026-03-14 12:00")
    a.refund("o1", 1_000)
    a.takes_back(10)
    a.has(-6, debt=6)


@rule("Debt")
def then_spent(a: Story) -> None:
    """What is left after that is spent as any points are."""
    a.brand(expire_after="2d")
    a.rules(HELD)
    a.adjusts(-6)
    a.is_done()
    a.buys("o1", 1_000)
    a.pays(10)
    a.on("2026-03-11 12:00")
    a.redeems(5)
    a.is_refused("insufficient_points")
    a.redeems(3)
    a.is_done()
    a.has(1, debt=0, spent=3)
    a.has(0, 0, 1, on="2026-03-13 00:00", debt=0)
