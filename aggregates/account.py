"""A member's account: what its events mean, and what an activity makes of it.

In this order: state, evolve, decisions. `evolve` never fails and decides nothing; `decide` is pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from aggregates.activity import Activity
from aggregates.events import (
    AccountEvent,
    CommandRefused,
    Grant,
    InteractionRewarded,
    InteractionTakenBack,
    Origin,
    PointsRedeemed,
    PurchaseRecorded,
    ReferralJudged,
    RefundRecorded,
    Refusal,
    Reversal,
    Take,
    UnitsUndone,
)
from aggregates.refusals import Refusal as Reason
from aggregates.rules import entitlement, entry_id, judge, matches

# State


@dataclass(slots=True)
class Lot:
    """Points of one grant that are still there."""

    id: str
    left: int
    active_at: int
    expires_at: int | None
    number: int
    """Order of arrival."""

    def is_expired(self, at: int) -> bool:
        """Whether the points are expired at that instant."""
        return self.expires_at is not None and self.expires_at <= at


@dataclass(slots=True)
class Paid:
    """A grant and what is left of its entitlement after reversals."""

    grant: Grant
    remaining: int


@dataclass(slots=True)
class Order:
    """An order, of the account itself or of a friend: its amount, its refunds and what it paid."""

    known: bool = False
    amount: int = 0
    refunded: int = 0
    refunds: int = 0
    paid: list[Paid] = field(default_factory=list)
    campaign_id: str | None = None
    campaigns: tuple[str, ...] = ()
    referrer_id: str | None = None
    """Set when the referrer's reward is due."""
    new_customer: bool = True


@dataclass(slots=True)
class Units:
    """The units of one interaction that one rule judged, and what they paid (None: refused)."""

    event_id: str
    actor_id: str | None
    campaign: str
    version: int
    rule: str
    quantity: int
    paid: Paid | None


class PostKey(NamedTuple):
    """What an unlike must share with its like."""

    kind: str
    surface: str
    platform: str
    post_id: str | None


class Balance(NamedTuple):
    """Points of an account at an instant. `active` is net of the debt and can be negative."""

    active: int
    pending: int
    spent: int
    expired: int
    reversed: int


@dataclass(slots=True)
class Account:
    """All that decisions need of an account's past."""

    lots: dict[str, Lot] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    referrals: dict[tuple[str, str], Order] = field(default_factory=dict)
    units: dict[PostKey, list[Units]] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    """Cap counter → points it has paid; a reversal gives nothing back."""
    commands: set[str] = field(default_factory=set)
    """Idempotency keys that have their outcome."""
    is_customer: bool = False
    """Has bought before."""
    earned: int = 0
    reversed: int = 0
    spent: int = 0
    debt: int = 0
    shortfall: int = 0

    def balance_at(self, at: int) -> Balance:
        """The balance at an instant (epoch milliseconds)."""
        active = pending = expired = 0
        for lot in self.lots.values():
            if lot.active_at > at:
                pending += lot.left
            elif lot.is_expired(at):
                expired += lot.left
            else:
                active += lot.left
        return Balance(active - self.debt, pending, self.spent, expired, self.reversed)


# Evolve


def evolve(account: Account, event: AccountEvent) -> None:
    """Bring the account to the state after `event`."""
    if isinstance(event, InteractionRewarded):
        _evolve_interaction(account, event)
    elif isinstance(event, InteractionTakenBack):
        _undo(account, event)
    elif isinstance(event, PurchaseRecorded):
        order = account.orders.setdefault(event.order_id, Order())
        if not order.known:
            order.known, order.amount = True, event.amount_minor
            account.is_customer = True
            order.campaign_id, order.campaigns = event.campaign_id, event.campaigns
            order.new_customer = event.new_customer
            order.referrer_id = event.referrer_id if event.referral == "due" else None
        order.paid += _grant(account, event.grants)
    elif isinstance(event, RefundRecorded):
        order = Order() if event.order_id is None else account.orders.setdefault(event.order_id, Order())
        _refund(order, event.amount_minor)
        _reverse(account, order.paid, event.reversals)
    elif isinstance(event, ReferralJudged):
        order = account.referrals.setdefault((event.buyer_id, event.order_id), Order())
        if event.kind == "refunded":
            _refund(order, event.amount_minor)
        elif not order.known:
            order.known, order.amount, order.campaigns = True, event.amount_minor, event.campaigns
        _reverse(account, order.paid, event.reversals)
        order.paid += _grant(account, event.grants)
    elif isinstance(event, PointsRedeemed):
        account.commands.add(event.origin.event_id)
        account.spent += event.points
        _take(account, event.takes)
    elif isinstance(event, CommandRefused):
        account.commands.add(event.origin.event_id)


def _evolve_interaction(account: Account, event: InteractionRewarded) -> None:
    key = PostKey(event.kind, event.surface, event.platform, event.post_id)
    judged = account.units.setdefault(key, []) if event.grants or event.refusals else []
    for paid in _grant(account, event.grants):
        grant = paid.grant
        judged.append(
            Units(
                event.origin.event_id, event.actor_id, grant.campaign, grant.version, grant.rule, event.quantity, paid
            )
        )
    for refusal in event.refusals:
        if refusal.rule and refusal.reason != Reason.SELF_INTERACTION:
            judged.append(
                Units(
                    event.origin.event_id,
                    event.actor_id,
                    refusal.campaign,
                    refusal.version,
                    refusal.rule,
                    event.quantity,
                    None,
                )
            )


def _grant(account: Account, grants: Iterable[Grant]) -> list[Paid]:
    paid = []
    for grant in grants:
        account.lots[grant.entry_id] = Lot(
            grant.entry_id, grant.points, grant.active_at, grant.expires_at, len(account.lots)
        )
        account.earned += grant.points
        for counter in grant.counters:
            account.used[counter] = account.used.get(counter, 0) + grant.points
        paid.append(Paid(grant, grant.points))
    return paid


def _refund(order: Order, amount: int) -> None:
    order.refunded += amount
    order.refunds += 1


def _reverse(account: Account, granted: Iterable[Paid], reversals: Iterable[Reversal]) -> None:
    taken: dict[str, int] = {}
    for reversal in reversals:
        account.reversed += reversal.points
        account.debt += reversal.debt
        account.shortfall += reversal.shortfall
        _take(account, reversal.takes)
        taken[reversal.reverses] = reversal.points + reversal.shortfall
    for paid in granted:
        paid.remaining -= taken.get(paid.grant.entry_id, 0)


def _undo(account: Account, event: InteractionTakenBack) -> None:
    key = PostKey(event.kind, event.surface, event.platform, event.post_id)
    judged = account.units.get(key, [])
    _reverse(account, [units.paid for units in judged if units.paid is not None], event.reversals)
    undone = {(u.event_id, u.campaign, u.rule): u.quantity for u in event.undone}
    for units in judged:
        units.quantity -= undone.get((units.event_id, units.campaign, units.rule), 0)
    account.units[key] = [units for units in judged if units.quantity > 0]


def _take(account: Account, takes: Iterable[Take]) -> None:
    for take in takes:
        account.lots[take.lot].left -= take.points


# Decisions


def decide(account: Account, activity: Activity, origin: Origin, budget_left: Mapping[str, int]) -> list[AccountEvent]:
    """The events that an activity makes. `budget_left`: points left by campaign, of those with a budget."""
    decision = _DECISIONS.get(activity.type)
    return decision(account, activity, origin, budget_left) if decision is not None else []


def _rewards(
    account: Account, activity: Activity, amount: int, flat_due: bool, budget_left: Mapping[str, int]
) -> tuple[tuple[Grant, ...], tuple[Refusal, ...]]:
    grants: list[Grant] = []
    refusals: list[Refusal] = []
    for campaign in activity.campaigns:
        left = budget_left.get(campaign.id)
        for rule in campaign.earn:
            if not matches(rule, activity):
                continue
            if activity.is_self:
                refusals.append(Refusal(campaign.id, campaign.version, rule.name, Reason.SELF_INTERACTION.value))
                continue
            basis = int(flat_due) if rule.basis == "flat" else amount
            grant, refusal = judge(activity, campaign, rule, basis, account.used, left)
            if grant is not None:
                grants.append(grant)
                left = None if left is None else left - grant.points
            elif refusal is not None:
                refusals.append(refusal)
    for campaign in activity.not_joined:
        if any(matches(rule, activity) for rule in campaign.earn):
            refusals.append(Refusal(campaign.id, campaign.version, "", Reason.NOT_JOINED.value))
    if activity.not_live:
        refusals.append(Refusal(activity.value["campaign_id"], 0, "", Reason.NOT_LIVE.value))
    return tuple(grants), tuple(refusals)


def _interaction(
    account: Account, activity: Activity, origin: Origin, budget_left: Mapping[str, int]
) -> list[AccountEvent]:
    value = activity.value
    quantity: int = value["quantity"]
    if quantity < 0:
        return _unlike(account, activity, origin)
    if quantity == 0:
        return []
    grants, refusals = _rewards(account, activity, quantity, True, budget_left)
    if not grants and not refusals:
        return []
    return [
        InteractionRewarded(
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
        )
    ]


def _unlike(account: Account, activity: Activity, origin: Origin) -> list[AccountEvent]:
    """Undo units of the same post and kind (and actor, if it is known), latest first, rule by rule."""
    value = activity.value
    key = PostKey(value["kind"], value["surface"], value["platform"], value["post_id"])
    actor = value["actor_id"]
    candidates = [u for u in account.units.get(key, ()) if actor is None or u.actor_id == actor]
    if activity.is_self or not candidates:
        return []
    undone: list[UnitsUndone] = []
    reverse = _Reversing(account, activity, origin)
    wanted: dict[tuple[str, str], int] = {}
    for units in reversed(candidates):
        rule = (units.campaign, units.rule)
        left = wanted.setdefault(rule, -value["quantity"])
        quantity = min(left, units.quantity)
        if quantity == 0:
            continue
        wanted[rule] = left - quantity
        undone.append(UnitsUndone(units.event_id, units.campaign, units.rule, quantity))
        if units.paid is not None:
            grant = units.paid.grant
            due = entitlement(grant.basis, grant.rate, grant.per, grant.multiplier_milli, units.quantity - quantity)
            reverse(units.paid, due)
    return [
        InteractionTakenBack(
            origin,
            value["kind"],
            value["surface"],
            value["platform"],
            value["quantity"],
            value["post_id"],
            actor,
            tuple(undone),
            tuple(reverse.made),
        )
    ]


def _purchase(
    account: Account, activity: Activity, origin: Origin, budget_left: Mapping[str, int]
) -> list[AccountEvent]:
    value = activity.value
    if value["kind"] == "refunded":
        return [_refunded(account, activity, origin)]
    order = account.orders.get(value["order_id"], Order())
    referral = ""
    if order.known:
        grants: tuple[Grant, ...] = ()
        refusals: tuple[Refusal, ...] = (Refusal("", 0, "", Reason.DUPLICATE_ORDER.value),)
    else:
        net = max(0, value["amount_minor"] - order.refunded)
        flat_due = net > 0 or order.refunds == 0
        grants, refusals = _rewards(account, activity, net, flat_due, budget_left)
        if value["referrer_id"] is not None:
            referral = Reason.SELF_REFERRAL.value if value["referrer_id"] == value["member_id"] else "due"
    return [
        PurchaseRecorded(
            origin,
            value["order_id"],
            value["amount_minor"],
            value["currency"],
            activity.tier,
            tuple(campaign.id for campaign in activity.campaigns),
            value["campaign_id"],
            value["referrer_id"],
            referral,
            not account.is_customer,
            grants,
            refusals,
        )
    ]


def _refunded(account: Account, activity: Activity, origin: Origin) -> RefundRecorded:
    value = activity.value
    order = account.orders.get(value["order_id"]) if value["order_id"] is not None else None
    known = order is not None and order.known
    reverse = _Reversing(account, activity, origin)
    if order is not None and known:
        reverse.order(order, value["amount_minor"])
    return RefundRecorded(
        origin,
        value["amount_minor"],
        value["currency"],
        value["order_id"],
        known,
        order.campaigns if order is not None else (),
        order.campaign_id if order is not None else None,
        order.referrer_id if order is not None else None,
        order.new_customer if order is not None else True,
        tuple(reverse.made),
    )


def _referral(
    account: Account, activity: Activity, origin: Origin, budget_left: Mapping[str, int]
) -> list[AccountEvent]:
    value = activity.value
    order = account.referrals.get((value["buyer_id"], value["order_id"]), Order())
    grants: tuple[Grant, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    reverse = _Reversing(account, activity, origin)
    if value["kind"] == "refunded":
        if order.known:
            reverse.order(order, value["amount_minor"])
    elif order.known:
        refusals = (Refusal("", 0, "", Reason.DUPLICATE_REFERRAL.value),)
    elif not value["new_customer"]:
        refusals = tuple(
            Refusal(campaign.id, campaign.version, rule.name, Reason.EXISTING_CUSTOMER.value)
            for campaign in activity.campaigns
            for rule in campaign.earn
            if matches(rule, activity)
        )
    else:
        net = max(0, value["amount_minor"] - order.refunded)
        grants, refusals = _rewards(account, activity, net, net > 0 or order.refunds == 0, budget_left)
    return [
        ReferralJudged(
            origin,
            value["kind"],
            value["order_id"],
            value["buyer_id"],
            value["amount_minor"],
            activity.tier,
            tuple(campaign.id for campaign in activity.campaigns),
            grants,
            refusals,
            tuple(reverse.made),
        )
    ]


def _command(
    account: Account, activity: Activity, origin: Origin, budget_left: Mapping[str, int]
) -> list[AccountEvent]:
    value = activity.value
    points: int = value["points"]
    if origin.event_id in account.commands:
        return []
    reason = None
    if value["kind"] != "redeem":
        reason = Reason.NOT_SUPPORTED
    elif points <= 0:
        reason = Reason.NOT_POSITIVE
    elif account.balance_at(origin.occurred_at).active < points:
        reason = Reason.INSUFFICIENT_POINTS
    if reason is not None:
        return [CommandRefused(origin, value["kind"], points, reason.value, value["requested_by"])]
    takes, _ = _takes(_spendable(account, origin.occurred_at, {}), points, {})
    return [PointsRedeemed(origin, entry_id("Command", origin.event_id), points, tuple(takes), value["requested_by"])]


def _spendable(account: Account, at: int, planned: Mapping[str, int]) -> list[Lot]:
    """Active lots in the order they are spent: earliest expiry, unlimited last, then first in, then lot id."""
    lots = [
        lot
        for lot in account.lots.values()
        if lot.left > planned.get(lot.id, 0) and lot.active_at <= at and not lot.is_expired(at)
    ]
    return sorted(lots, key=lambda lot: (lot.expires_at is None, lot.expires_at or 0, lot.number, lot.id))


def _takes(lots: Iterable[Lot], points: int, planned: dict[str, int]) -> tuple[list[Take], int]:
    """Takes from the lots in turn, and what they did not have. `planned`: what is taken already, by lot; grows."""
    takes = []
    for lot in lots:
        some = min(points, lot.left - planned.get(lot.id, 0))
        if some > 0:
            takes.append(Take(lot.id, some))
            planned[lot.id] = planned.get(lot.id, 0) + some
            points -= some
    return takes, points


class _Reversing:
    """Collects the reversals of one activity, so that the second does not take what the first took."""

    def __init__(self, account: Account, activity: Activity, origin: Origin) -> None:
        self.made: list[Reversal] = []
        self._account = account
        self._allow_debt = activity.brand.negative_balance
        self._at = origin.occurred_at
        self._id = (activity.type, origin.event_id)
        self._planned: dict[str, int] = {}

    def order(self, order: Order, refund: int) -> None:
        """Judge an order's grants anew on its net after one more refund."""
        net = max(0, order.amount - order.refunded - refund)
        for paid in order.paid:
            grant = paid.grant
            amount = int(net > 0) if grant.basis == "flat" else net
            self(paid, entitlement(grant.basis, grant.rate, grant.per, grant.multiplier_milli, amount))

    def __call__(self, paid: Paid, due: int) -> None:
        """Take back what a grant has paid above what is due now: pending first, then active, then debt or shortfall."""
        points = paid.remaining - min(due, paid.remaining)
        if points == 0:
            return
        grant, at = paid.grant, self._at
        own = self._account.lots[grant.entry_id]
        pending = [lot for lot in self._account.lots.values() if lot.active_at > at and lot is not own]
        pending.sort(key=lambda lot: (lot.number, lot.id))
        first = [] if own.is_expired(at) else [own]
        active = _spendable(self._account, at, self._planned)
        takes, missing = _takes([*first, *pending, *active], points, self._planned)
        self.made.append(
            Reversal(
                entry_id=entry_id(*self._id, grant.campaign, grant.rule, grant.entry_id),
                reverses=grant.entry_id,
                campaign=grant.campaign,
                version=grant.version,
                rule=grant.rule,
                points=points if self._allow_debt else points - missing,
                takes=tuple(takes),
                debt=missing if self._allow_debt else 0,
                shortfall=0 if self._allow_debt else missing,
            )
        )


_DECISIONS: Final[Mapping[str, Callable[[Account, Activity, Origin, Mapping[str, int]], list[AccountEvent]]]] = {
    "Interaction": _interaction,
    "Purchase": _purchase,
    "ReferralDue": _referral,
    "Command": _command,
}
