"""What each event of a member's account means for its state. Nothing here decides anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from msgspec.structs import replace

from aggregates.account_state import Account, Lot, Order, Paid, PostKey, Units
from aggregates.events import (
    AccountEvent,
    CommandRefused,
    Grant,
    Happened,
    InteractionRewarded,
    InteractionTakenBack,
    PaidOff,
    PointsAdjusted,
    PointsRedeemed,
    PrizeAwarded,
    PurchaseRecorded,
    RedemptionCancelled,
    ReferralJudged,
    RefundRecorded,
    Reversal,
    Take,
    total_counter,
)
from aggregates.refusals import NOT_JUDGED


def evolve(account: Account, event: AccountEvent) -> None:
    """Bring the account to the state after `event`."""
    if isinstance(event, CommandRefused):
        _settle(account, "Command", event.origin.event_id)
        return
    if event.paid_off is not None:
        pay_off(account, event.paid_off)
    owed = account.debt
    _happened(account, event)
    if account.debt > owed:
        account.owed_since = max(account.owed_since, event.origin.occurred_at)


def pay_off(account: Account, entry: PaidOff) -> None:
    """Bring the account to the state after these points have paid off debt."""
    account.debt -= entry.points
    _take(account, entry.takes)


def _happened(account: Account, event: Happened) -> None:
    if isinstance(event, InteractionRewarded):
        _rewarded(account, event)
    elif isinstance(event, InteractionTakenBack):
        _taken_back(account, event)
    elif isinstance(event, PurchaseRecorded):
        _purchase(account, event)
    elif isinstance(event, RefundRecorded):
        _settle(account, "Purchase", event.origin.event_id)
        order = Order() if event.order_id is None else _order(account, event.order_id)
        _refund(order, event.amount_minor)
        _reverse(account, order.paid, event.reversals)
    elif isinstance(event, ReferralJudged):
        _referral(account, event)
    else:
        _settle(account, "Command", event.origin.event_id)
        _carried_out(account, event)


def _settle(account: Account, kind: str, event_id: str) -> None:
    account.settled = account.settled or set()
    account.settled.add((kind, event_id))


def _order(account: Account, order_id: str) -> Order:
    account.orders = account.orders or {}
    return account.orders.setdefault(order_id, Order())


def _rewarded(account: Account, event: InteractionRewarded) -> None:
    account.interactions += 1
    number, event_id, quantity = account.interactions, event.origin.event_id, event.quantity
    judged = [
        Units(event_id, paid.grant.campaign, paid.grant.rule, quantity, paid, number)
        for paid in _grant(account, event.grants)
    ]
    for refusal in event.refusals:
        if refusal.rule and refusal.reason not in NOT_JUDGED:
            judged.append(Units(event_id, refusal.campaign, refusal.rule, quantity, None, number))
    if judged:
        key = PostKey(event.kind, event.surface, event.platform, event.post_id)
        actors = account.units.get(key)
        if actors is None:
            account.units[key] = {event.actor_id: judged}
        else:
            actors.setdefault(event.actor_id, []).extend(judged)


def _taken_back(account: Account, event: InteractionTakenBack) -> None:
    key = PostKey(event.kind, event.surface, event.platform, event.post_id)
    left: Counter[tuple[str, str, str]] = Counter()
    for undone in event.undone:
        left[undone.event_id, undone.campaign, undone.rule] += undone.quantity
    touched: list[Paid] = []
    for units in account.units_latest_first(key, event.actor_id):
        if not left:
            break
        rule = (units.event_id, units.campaign, units.rule)
        some = min(units.quantity, left[rule])
        units.quantity -= some
        left -= Counter({rule: some})
        if units.paid is not None:
            touched.append(units.paid)
    _reverse(account, touched, event.reversals)
    actors = account.units.get(key, {})
    for actor in list(actors) if event.actor_id is None else [event.actor_id]:
        judged = actors.get(actor, [])
        while judged and judged[-1].quantity == 0:
            judged.pop()
        if not judged:
            actors.pop(actor, None)


def _purchase(account: Account, event: PurchaseRecorded) -> None:
    account.is_customer = True
    order = _order(account, event.order_id)
    if not order.known:
        order.known, order.amount, order.occurred_at = True, event.amount_minor, event.origin.occurred_at
        order.campaign_id, order.campaigns = event.campaign_id, event.campaigns
        order.new_customer = event.new_customer
        order.referrer_id = event.referrer_id if event.referral == "due" else None
    order.paid += _grant(account, event.grants)


def _referral(account: Account, event: ReferralJudged) -> None:
    account.referrals = account.referrals or {}
    order = account.referrals.setdefault((event.buyer_id, event.order_id), Order())
    if event.kind == "refunded":
        _settle(account, "ReferralDue", event.origin.event_id)
        _refund(order, event.amount_minor)
    elif not order.known:
        order.known, order.amount, order.campaigns = True, event.amount_minor, event.campaigns
    _reverse(account, order.paid, event.reversals)
    order.paid += _grant(account, event.grants)


def _refund(order: Order, amount: int) -> None:
    order.refunded += amount
    order.refunds += 1


def _carried_out(account: Account, event: PointsRedeemed | RedemptionCancelled | PointsAdjusted | PrizeAwarded) -> None:
    if isinstance(event, PointsRedeemed):
        account.spent += event.points
        account.redemptions = account.redemptions or {}
        account.redemptions[event.entry_id] = event.takes
        _take(account, event.takes)
    elif isinstance(event, RedemptionCancelled):
        account.spent -= event.points
        account.redemptions[event.cancels] = None
        account.debt -= event.settles
        for back in event.returns:
            account.lots[back.lot].left += back.points
        _reverse(account, (), event.reversals)
    elif isinstance(event, PrizeAwarded):
        account.earned += event.points
        _come_in(account, event)
    else:
        account.adjusted += event.points
        account.debt += event.debt
        if event.points > 0:
            _come_in(account, event)
        _take(account, event.takes)


def _come_in(account: Account, entry: Grant | PointsAdjusted | PrizeAwarded) -> None:
    settles, lots, name = entry.settles, account.lots, entry.entry_id
    if settles:
        account.debt -= settles
    lots[name] = Lot(name, entry.points - settles, entry.active_at, entry.expires_at, len(lots))


def _grant(account: Account, grants: Iterable[Grant]) -> list[Paid]:
    paid = []
    for grant in grants:
        _come_in(account, grant)
        points, used = grant.points, account.used
        account.earned += points
        counters = grant.counters
        for counter in counters:
            used[counter] = used.get(counter, 0) + points
        total = total_counter(grant.campaign, grant.rule)
        if total not in counters:  # a version to come may ask
            used[total] = used.get(total, 0) + points
        paid.append(Paid(grant, points))
    return paid


def _reverse(account: Account, granted: Iterable[Paid], reversals: Iterable[Reversal]) -> None:
    taken: dict[str, int] = {}
    for reversal in reversals:
        account.reversed += reversal.points
        account.debt += reversal.debt
        account.shortfall += reversal.shortfall
        if reversal.shortfall:
            _give_up(account, reversal)
        _take(account, reversal.takes)
        taken[reversal.reverses] = reversal.points + reversal.shortfall
    for paid in granted:
        paid.remaining -= taken.get(paid.grant.entry_id, 0)


def _give_up(account: Account, reversal: Reversal) -> None:
    account.given_up = account.given_up or {}
    before = account.given_up.pop(reversal.reverses, None)
    shortfall = reversal.shortfall + (before.shortfall if before is not None else 0)
    if shortfall > 0:
        account.given_up[reversal.reverses] = replace(reversal, shortfall=shortfall)


def _take(account: Account, takes: Iterable[Take]) -> None:
    for take in takes:
        account.lots[take.lot].left -= take.points
