"""Why something paid nothing or was not done: one table of reasons, in the order in which they are checked.

The stored and published form of a reason is its value; the sentence is what a person reads.
"""

from __future__ import annotations

from enum import StrEnum


class Refusal(StrEnum):
    """A named refusal. Values are stored for ever: add new ones, never rename or reuse one."""

    sentence: str

    def __new__(cls, value: str, sentence: str = "") -> Refusal:
        member = str.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        return member

    # An interaction, a purchase or a referral under a campaign's rules.
    DUPLICATE_ORDER = "duplicate_order", "This order was recorded before; it is paid once."
    DUPLICATE_REFERRAL = "duplicate_referral", "This referred order was judged before; it is paid once."
    NOT_LIVE = "not_live", "The campaign it names was not live when it occurred; it counts nowhere."
    NOT_JOINED = "not_joined", "The campaign is for members who joined it, and this member had not."
    SELF_INTERACTION = "self_interaction", "Its actor is the member, who earns by posting and not by acting on posts."
    SELF_REFERRAL = "self_referral", "Members earn nothing by referring themselves."
    EXISTING_CUSTOMER = "existing_customer", "The buyer had ordered before; only a new customer's order earns."
    ORDER_REFUNDED = "order_refunded", "The order was refunded in full before it came, so no referrer is due."
    DUPLICATE_EVENT = "duplicate_event", "This rule has paid for this event id before; it pays once."
    NOT_THE_FIRST = "not_the_first", "The rule pays a member for the first time only, and this was not the first."
    NOTHING_DUE = "nothing_due", "It comes to less than one point under this rule, or its order was refunded in full."
    PER_EVENT = "per_event", "It is worth more than the rule allows for one event, and such an event is rejected."
    PER_POST = "per_post", "The rule has paid the member all that it allows for one post."
    PER_DAY = "per_day", "The rule has paid the member all that it allows in one day."
    PER_WEEK = "per_week", "The rule has paid the member all that it allows in one week."
    PER_MONTH = "per_month", "The rule has paid the member all that it allows in one month."
    TOTAL = "total", "The rule has paid the member all that it allows in the whole campaign."
    BUDGET = "budget", "The campaign's budget is used up."

    # A command on an account.
    NOT_SUPPORTED = "not_supported_yet", "This release does not carry out this kind of command."
    NOT_POSITIVE = "points_not_positive", "The number of points must be at least 1."
    POINTS_ZERO = "points_zero", "An adjustment of 0 points changes nothing; it must be above or below 0."
    UNKNOWN_REDEMPTION = "unknown_redemption", "The member has no redemption with that entry id."
    ALREADY_CANCELLED = "already_cancelled", "The redemption was cancelled before; it is given back once."
    INSUFFICIENT_POINTS = "insufficient_points", "The member has fewer active points than that."


NOT_JUDGED = frozenset(
    reason.value for reason in (Refusal.NOT_LIVE, Refusal.NOT_JOINED, Refusal.SELF_INTERACTION, Refusal.DUPLICATE_EVENT)
)
"""Reasons that say nothing of an interaction's worth: no unlike ever undoes what was refused for one of them."""
