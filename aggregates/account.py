"""What an activity makes of a member's account: every decision about points, each a pure function.

State is in `account_state`, what events mean for it in `evolving`, what a rule pays in `rules`, which lots give in
`spending`, what people and the settlement ask for in `commands`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from typing import Final

from msgspec.structs import replace

from aggregates.account_state import Account, Balance, Order, PostKey
from aggregates.activity import Activity
from aggregates.commands import command
from aggregates.definitions import Campaign, Rule
from aggregates.events import (
    AccountEvent,
    CommandRefused,
    Grant,
    InteractionRewarded,
    InteractionTakenBack,
    Origin,
    PaidOff,
    PurchaseRecorded,
    ReferralJudged,
    RefundRecorded,
    Refusal,
    UnitsUndone,
)
from aggregates.evolving import evolve, pay_off
from aggregates.refusals import Refusal as Reason
from aggregates.rules import entry_id, judge, matching
from aggregates.spending import Reversing

__all__ = ["Account", "Balance", "decide", "evolve"]

Rewards = tuple[tuple[Grant, ...], tuple[Refusal, ...]]


def decide(account: Account, activity: Activity, origin: Origin, budget_left: Mapping[str, int]) -> list[AccountEvent]:
    """The events that an activity makes; none for a record without meaning for points, or one sent again.

    Points that were on hold have paid off what was owed before it is judged; the event says what they paid.
    `budget_left`: points left by campaign, of those with a budget.
    """
    decision = _DECISIONS.get(activity.type)
    if decision is None:
        return []
    takes = account.paid_off_by(origin.occurred_at) if account.debt else ()
    if not takes:
        return decision(account, activity, origin, budget_left)
    entry = entry_id(activity.type, origin.event_id, *(take.lot for take in takes))
    paid = PaidOff(entry, sum(take.points for take in takes), takes)
    after = replace(account, lots={name: replace(lot) for name, lot in account.lots.items()})
    pay_off(after, paid)
    return [
        event if isinstance(event, CommandRefused) else replace(event, paid_off=paid)
        for event in decision(after, activity, origin, budget_left)
    ]


# Rules


def _matching(activity: Activity) -> Iterator[tuple[Campaign, Rule]]:
    for campaign in activity.campaigns:
        for rule in matching(campaign, activity):
            yield campaign, rule


def _rewards(
    account: Account, activity: Activity, amount: int, flat_due: bool, budget_left: Mapping[str, int]
) -> Rewards:
    """What each matching rule pays for an amount; a flat one pays if `flat_due`. Points without a hold pay off debt."""
    owed = account.debt
    grants: list[Grant] = []
    refusals: list[Refusal] = []
    kind, event_id = activity.type, activity.value["event_id"]
    for campaign in activity.campaigns:
        left = budget_left.get(campaign.id)
        for rule in matching(campaign, activity):
            entry = entry_id(kind, event_id, campaign.id, rule.name)
            if entry in account.lots:
                refusals.append(_refusal(campaign, rule, Reason.DUPLICATE_EVENT))
                continue
            if rule.first_time and account.is_customer and rule.on == "purchase":
                refusals.append(_refusal(campaign, rule, Reason.NOT_THE_FIRST))
                continue
            units = int(flat_due) if rule.basis == "flat" else amount
            grant, refusal = judge(activity, campaign, rule, units, entry, account.used, left)
            if grant is not None:
                if owed and grant.active_at <= activity.value["occurred_at"]:
                    grant = replace(grant, settles=min(owed, grant.points))
                    owed -= grant.settles
                if left is not None:
                    left -= grant.points
                grants.append(grant)
            elif refusal is not None:
                refusals.append(refusal)
    if activity.not_live or activity.not_joined:
        refusals += _not_taking_part(activity)
    return tuple(grants), tuple(refusals)


def _refused(activity: Activity, reason: Reason) -> Rewards:
    """Every matching rule refuses for the same reason."""
    refusals = [_refusal(campaign, rule, reason) for campaign, rule in _matching(activity)]
    return (), (*refusals, *_not_taking_part(activity))


def _refusal(campaign: Campaign, rule: Rule, reason: Reason) -> Refusal:
    return Refusal(campaign.id, campaign.version, rule.name, reason.value)


def _not_taking_part(activity: Activity) -> Iterator[Refusal]:
    """Campaigns that refuse as a whole: not live, or not joined though a rule of theirs would match."""
    yield from _not_live(activity)
    for campaign in activity.not_joined:
        if matching(campaign, activity):
            yield Refusal(campaign.id, campaign.version, "", Reason.NOT_JOINED.value)


def _not_live(activity: Activity) -> tuple[Refusal, ...]:
    """The campaign that it names, where that is not live: it counts nowhere."""
    return (Refusal(activity.value["campaign_id"], 0, "", Reason.NOT_LIVE.value),) if activity.not_live else ()


# Interactions


def _interaction(
    account: Account, activity: Activity, origin: Origin, budget_left: Mapping[str, int]
) -> list[AccountEvent]:
    value = activity.value
    quantity: int = value["quantity"]
    if quantity < 0:
        return _unlike(account, activity, origin)
    if quantity == 0:
        return []
    if activity.is_self:
        grants, refusals = _refused(activity, Reason.SELF_INTERACTION)
    else:
        grants, refusals = _rewards(account, activity, quantity, True, budget_left)
    if not grants and not refusals:
        return []
    rewarded = InteractionRewarded(  # in their order, as a grant is made
        origin,
        value["kind"],
        value["surface"],
        value["platform"],
        quantity,
        activity.tier,
        activity.followers,
        value["post_id"],
        value["actor_id"],
        grants,
        refusals,
        activity.tier_followers,
    )
    return [rewarded]


def _unlike(account: Account, activity: Activity, origin: Origin) -> list[AccountEvent]:
    """Undo units of the same post and kind (and actor, if it is known), the latest interaction first.

    That also holds after the campaign's end, and whatever campaign the unlike names: the like's own rule decides.
    """
    value = activity.value
    key = PostKey(value["kind"], value["surface"], value["platform"], value["post_id"])
    judged = account.units_latest_first(key, value["actor_id"])
    undone: list[UnitsUndone] = []
    reversing = _reversing(account, activity, origin)
    left = -value["quantity"]
    for _, by_rule in groupby(judged, key=lambda units: units.number):
        all_units = list(by_rule)
        some = min(left, all_units[0].quantity)
        for units in all_units:
            undone.append(UnitsUndone(units.event_id, units.campaign, units.rule, some))
            if units.paid is not None:
                reversing.down_to(units.paid, units.quantity - some)
        left -= some
        if not left:
            break
    if not undone and not activity.not_live:
        return []
    taken_back = InteractionTakenBack(
        origin=origin,
        kind=value["kind"],
        surface=value["surface"],
        platform=value["platform"],
        quantity=value["quantity"],
        post_id=value["post_id"],
        actor_id=value["actor_id"],
        undone=tuple(undone),
        reversals=tuple(reversing.made),
        refusals=_not_live(activity),
    )
    return [taken_back]


def _reversing(account: Account, activity: Activity, origin: Origin) -> Reversing:
    return Reversing(account, activity.type, origin.event_id, origin.occurred_at, activity.brand.negative_balance)


# Purchases and their refunds


def _purchase(
    account: Account, activity: Activity, origin: Origin, budget_left: Mapping[str, int]
) -> list[AccountEvent]:
    value = activity.value
    if value["kind"] == "refunded":
        return _refund(account, activity, origin)
    order = account.orders.get(value["order_id"], Order())
    referral = ""
    rewards: Rewards = (), ()
    if order.known:
        rewards = (), (Refusal("", 0, "", Reason.DUPLICATE_ORDER.value),)
    else:
        net, stands = _net(order, value["amount_minor"])
        rewards = _rewards(account, activity, net, stands, budget_left)
        if value["referrer_id"] is not None:
            referral = _referral_of(value, stands)
    grants, refusals = rewards
    recorded = PurchaseRecorded(
        origin=origin,
        order_id=value["order_id"],
        amount_minor=value["amount_minor"],
        currency=value["currency"],
        tier=activity.tier,
        campaigns=tuple(campaign.id for campaign in activity.campaigns),
        campaign_id=value["campaign_id"],
        referrer_id=value["referrer_id"],
        referral=referral,
        new_customer=not account.is_customer,
        refunded_minor=0 if order.known else order.refunded,
        grants=grants,
        refusals=refusals,
        tier_followers=activity.tier_followers,
    )
    return [recorded]


def _referral_of(value: Mapping[str, object], stands: bool) -> str:
    if value["referrer_id"] == value["member_id"]:
        return Reason.SELF_REFERRAL.value
    return "due" if stands else Reason.ORDER_REFUNDED.value


def _net(order: Order, amount: int) -> tuple[int, bool]:
    """A new order's amount less the refunds that came before it, and whether any of it stands."""
    net = max(0, amount - order.refunded)
    return net, net > 0 or order.refunds == 0


def _refund(account: Account, activity: Activity, origin: Origin) -> list[AccountEvent]:
    """A refund that comes before its purchase is recorded, and lowers what the purchase will pay."""
    value = activity.value
    if (activity.type, origin.event_id) in account.settled:
        return []
    order = account.orders.get(value["order_id"], Order()) if value["order_id"] is not None else Order()
    reversing = _reversing(account, activity, origin)
    _judge_anew(order, value["amount_minor"], reversing)
    recorded = RefundRecorded(
        origin=origin,
        amount_minor=value["amount_minor"],
        currency=value["currency"],
        order_id=value["order_id"],
        matched=order.known,
        campaigns=order.campaigns,
        campaign_id=order.campaign_id,
        referrer_id=order.referrer_id,
        new_customer=order.new_customer,
        reversals=tuple(reversing.made),
        ordered_at=None if order.referrer_id is None else order.occurred_at,
        refusals=_not_live(activity),
    )
    return [recorded]


def _judge_anew(order: Order, refund: int, reversing: Reversing) -> None:
    """Take back what an order's grants have paid above their entitlement after one more refund."""
    net = max(0, order.amount - order.refunded - refund)
    for paid in order.paid:
        reversing.down_to(paid, net)


# A friend's purchases and refunds, on the referrer's account


def _referral(
    account: Account, activity: Activity, origin: Origin, budget_left: Mapping[str, int]
) -> list[AccountEvent]:
    value = activity.value
    if (activity.type, origin.event_id) in account.settled:
        return []
    order = account.referrals.get((value["buyer_id"], value["order_id"]), Order())
    rewards: Rewards = (), ()
    reversing = _reversing(account, activity, origin)
    campaigns = tuple(campaign.id for campaign in activity.campaigns)
    if value["kind"] == "refunded":
        rewards = (), _not_live(activity)
        _judge_anew(order, value["amount_minor"], reversing)
        if order.known:
            campaigns = order.campaigns
    elif order.known:
        rewards = (), (Refusal("", 0, "", Reason.DUPLICATE_REFERRAL.value),)
    elif value["buyer_id"] == value["member_id"]:
        rewards = _refused(activity, Reason.SELF_REFERRAL)
    elif not value["new_customer"]:
        rewards = _refused(activity, Reason.EXISTING_CUSTOMER)
    else:
        net, stands = _net(order, value["amount_minor"])
        rewards = _rewards(account, activity, net, stands, budget_left)
    grants, refusals = rewards
    judged = ReferralJudged(
        origin=origin,
        kind=value["kind"],
        order_id=value["order_id"],
        buyer_id=value["buyer_id"],
        amount_minor=value["amount_minor"],
        tier=activity.tier,
        campaigns=campaigns,
        grants=grants,
        refusals=refusals,
        reversals=tuple(reversing.made),
        tier_followers=activity.tier_followers,
    )
    return [judged]


_Decision = Callable[[Account, Activity, Origin, Mapping[str, int]], list[AccountEvent]]
_DECISIONS: Final[Mapping[str, _Decision]] = {
    "Interaction": _interaction,
    "Purchase": _purchase,
    "ReferralDue": _referral,
    "Command": command,
}
