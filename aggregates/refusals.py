"""Why something paid nothing or was not done: one table of reasons, in the order in which they are checked.

The stored and published form of a reason is its value; the sentence is what a person reads. Where several apply,
the one that stands first here is given.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """A named refusal. Values are stored for ever: add new ones, never rename."""

    sentence: str

    def __new__(cls, value: str, sentence: str) -> Reason:
        member = str.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        return member

    # An interaction, a purchase or a referral under a campaign's rules.
    DUPLICATE_ORDER = "duplicate_order", "This order was recorded before; it is paid once."
    NOT_LIVE = "not_live", "The campaign it names was not live when it occurred; it counts nowhere."
    NOT_JOINED = "not_joined", "The campaign is for members who joined it, and this member had not."
    SELF_INTERACTION = "self_interaction", "Members earn nothing by what they do to their own posts."
    SELF_REFERRAL = "self_referral", "Members earn nothing by referring themselves."
    EXISTING_CUSTOMER = "existing_customer", "The buyer had ordered before; only a new customer's order earns."
    ORDER_REFUNDED = "order_refunded", "The order was refunded in full before it was recorded."
    DUPLICATE_EVENT = "duplicate_event", "This rule has paid for this event id before; it pays once."
    NOTHING_DUE = "nothing_due", "Under this rule it comes to less than one point."
    PER_EVENT = "per_event", "It is worth more than the rule allows for one event, and such an event is rejected."
    CAP_POST = "cap_post", "The rule has paid the member all that it allows for one post."
    CAP_DAY = "cap_day", "The rule has paid the member all that it allows in one day."
    CAP_WEEK = "cap_week", "The rule has paid the member all that it allows in one week."
    CAP_MONTH = "cap_month", "The rule has paid the member all that it allows in one month."
    CAP_TOTAL = "cap_total", "The rule has paid the member all that it allows in the whole campaign."
    BUDGET = "budget", "The campaign's budget is used up."

    # A command on an account.
    NOT_SUPPORTED_YET = "not_supported_yet", "This release does not carry out this kind of command."
    POINTS_NOT_POSITIVE = "points_not_positive", "The number of points must be at least 1."
    INSUFFICIENT_POINTS = "insufficient_points", "The member has fewer active points than that."

    # A brand's or campaign's definition.
    VERSION_NOT_POSITIVE = "version_not_positive", "A version is a whole number from 1."
    UNKNOWN_BRAND = "unknown_brand", "The campaign's brand is not defined; define the brand first."
    CONTENT_CHANGED = "content_changed", "This version is defined with other content; raise the version to change it."
    UNKNOWN_TIER = "unknown_tier", "A tier multiplier names a tier that the brand does not have."
    LAUNCH_LIMIT = "launch_limit", "The free plan launches one campaign in a calendar month."


EARNED_NOTHING = frozenset(
    reason.value
    for reason in (
        *(Reason.ORDER_REFUNDED, Reason.NOTHING_DUE, Reason.PER_EVENT, Reason.BUDGET),
        *(Reason.CAP_POST, Reason.CAP_DAY, Reason.CAP_WEEK, Reason.CAP_MONTH, Reason.CAP_TOTAL),
    )
)
"""Reasons of a rule that judged the record on its merits: its units count as judged, and an unlike undoes them."""


def sentence_of(reason: str) -> str:
    """What a person reads for a stored reason; the reason itself where this release does not know it."""
    return Reason(reason).sentence if reason in Reason else reason
