"""What a member's account remembers of its past, and what each of its events means. Nothing here decides anything."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

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

# State


class _Kept(msgspec.Struct, gc=False):
    """What stays in memory by the million; the garbage collector, which has no cycle to find here, passes it over.

    With dataclasses, looking at all of it again and again took a quarter of the ledger's time.
    """


class Lot(_Kept, gc=False):
    """What is left of the points that came in by one grant, prize or adjustment."""

    id: str
    left: int
    active_at: int
    expires_at: int | None
    number: int
    """Order of arrival."""

    def is_expired(self, at: int) -> bool:
        """Whether the points are expired at that instant."""
        return self.expires_at is not None and self.expires_at <= at


class Paid(_Kept, gc=False):
    """A grant and what is left of it after its reversals; a shortfall counts as reversed."""

    grant: Grant
    remaining: int


class Order(_Kept, gc=False):
    """An order, of the account itself or of a friend: its amount, its refunds and what it paid."""

    known: bool = False
    amount: int = 0
    """Minor units, as ordered."""
    refunded: int = 0
    """Minor units of its refunds so far, also of those that came before it."""
    refunds: int = 0
    """How many they were; an amount of 0 is valid, and refunded by any refund."""
    paid: list[Paid] = msgspec.field(default_factory=list)
    campaign_id: str | None = None
    campaigns: tuple[str, ...] = ()
    referrer_id: str | None = None
    """Set when the referrer's reward is due."""
    new_customer: bool = True
    occurred_at: int = 0
    """Of the order, epoch milliseconds."""


class Units(_Kept, gc=False):
    """The units of one interaction that one rule judged, and what they paid (None: refused)."""

    event_id: str
    campaign: str
    rule: str
    quantity: int
    """Units that no unlike has undone yet."""
    paid: Paid | None
    number: int
    """Order of arrival of the interaction: the same for all of its rules."""


class PostKey(msgspec.Struct, frozen=True, gc=False):
    """What an unlike must share with its like."""

    kind: str
    surface: str
    platform: str
    post_id: str | None


def paid_off(debt: int, since: int, lots: Sequence[tuple[int, int, int | None]], at: int) -> list[int]:
    """What each lot has paid by `at` of a debt that no entry says was paid: points that were on hold and became active.

    A lot is what is left of it, when it becomes active and when it expires. They pay in that order of time, if they had
    not expired when the last of the debt arose, `since`. Times are epoch milliseconds.
    """
    paid = [0] * len(lots)
    if debt <= 0 or at < since:
        return paid
    due = [
        (active_at, expires_at is None, expires_at or 0, place)
        for place, (left, active_at, expires_at) in enumerate(lots)
        if left > 0 and active_at <= at and (expires_at is None or expires_at > max(since, active_at))
    ]
    for *_, place in sorted(due):
        paid[place] = min(debt, lots[place][0])
        debt -= paid[place]
    return paid


class Balance(NamedTuple):
    """Points of an account at an instant. active + pending = earned + adjusted − spent − expired − reversed."""

    active: int
    """Net of the debt: what can be spent; can be negative."""
    pending: int
    spent: int
    """Without what cancelled redemptions gave back."""
    expired: int
    reversed: int
    """Without the shortfall."""
    debt: int
    """What is owed, less what has been paid off by points that were on hold; it is in `active` already."""


class Account(_Kept, gc=False):
    """All that decisions need of an account's past."""

    lots: dict[str, Lot] = msgspec.field(default_factory=dict)
    orders: dict[str, Order] = msgspec.field(default_factory=dict)
    referrals: dict[tuple[str, str], Order] = msgspec.field(default_factory=dict)
    """Friends' orders by buyer and order id."""
    units: dict[PostKey, dict[str | None, list[Units]]] = msgspec.field(default_factory=dict)
    """Judged units by post, then by actor, in the order they came."""
    used: dict[str, int] = msgspec.field(default_factory=dict)
    """Cap counter → points it has paid; a reversal gives nothing back."""
    settled: set[tuple[str, str]] = msgspec.field(default_factory=set)
    """Record type and event id of what happens once for ever and leaves no other trace: commands and refunds."""
    is_customer: bool = False
    """Has ordered before."""
    redemptions: dict[str, tuple[Take, ...] | None] = msgspec.field(default_factory=dict)
    """What each redemption took, by its entry; None once it is cancelled."""
    given_up: dict[str, Reversal] = msgspec.field(default_factory=dict)
    """The last reversal of a lot's grant, with all that was given up of it as shortfall."""
    interactions: int = 0
    earned: int = 0
    """Under rules, and by prizes."""
    adjusted: int = 0
    """By people; below zero when they took more than they added."""
    reversed: int = 0
    spent: int = 0
    debt: int = 0
    """What reversals and adjustments took that no lot could give, and that no event has paid off; see `paid_off_by`."""
    owed_since: int = 0
    """The latest time at which debt arose; epoch milliseconds."""
    shortfall: int = 0

    def paid_off_by(self, at: int) -> tuple[Take, ...]:
        """What of the debt lots have paid by an instant (epoch milliseconds), by dates alone."""
        if not self.debt:
            return ()
        lots = [(lot.left, lot.active_at, lot.expires_at) for lot in self.lots.values()]
        paid = paid_off(self.debt, self.owed_since, lots, at)
        return tuple(Take(lot, points) for lot, points in zip(self.lots, paid, strict=True) if points)

    def balance_at(self, at: int) -> Balance:
        """The balance at an instant (epoch milliseconds), of all events so far."""
        active = pending = expired = 0
        for lot in self.lots.values():
            if lot.active_at > at:
                pending += lot.left
            elif lot.is_expired(at):
                expired += lot.left
            else:
                active += lot.left
        debt = self.debt
        for take in self.paid_off_by(at):
            debt -= take.points
            if self.lots[take.lot].is_expired(at):
                expired -= take.points
            else:
                active -= take.points
        return Balance(active - debt, pending, self.spent, expired, self.reversed, debt)

    def units_latest_first(self, key: PostKey, actor: str | None) -> Iterator[Units]:
        """The judged units of a post, of one actor where it is known, the latest interaction first."""
        actors = self.units.get(key, {})
        if actor is not None:
            return reversed(actors.get(actor, []))
        return heapq.merge(*map(reversed, actors.values()), key=lambda units: -units.number)


# Evolve


def evolve(account: Account, event: AccountEvent) -> None:
    """Bring the account to the state after `event`."""
    if isinstance(event, CommandRefused):
        account.settled.add(("Command", event.origin.event_id))
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
        account.settled.add(("Purchase", event.origin.event_id))
        order = Order() if event.order_id is None else account.orders.setdefault(event.order_id, Order())
        _refund(order, event.amount_minor)
        _reverse(account, order.paid, event.reversals)
    elif isinstance(event, ReferralJudged):
        _referral(account, event)
    else:
        account.settled.add(("Command", event.origin.event_id))
        _carried_out(account, event)


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
    order = account.orders.setdefault(event.order_id, Order())
    if not order.known:
        order.known, order.amount, order.occurred_at = True, event.amount_minor, event.origin.occurred_at
        order.campaign_id, order.campaigns = event.campaign_id, event.campaigns
        order.new_customer = event.new_customer
        order.referrer_id = event.referrer_id if event.referral == "due" else None
    order.paid += _grant(account, event.grants)


def _referral(account: Account, event: ReferralJudged) -> None:
    order = account.referrals.setdefault((event.buyer_id, event.order_id), Order())
    if event.kind == "refunded":
        account.settled.add(("ReferralDue", event.origin.event_id))
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
    before = account.given_up.pop(reversal.reverses, None)
    shortfall = reversal.shortfall + (before.shortfall if before is not None else 0)
    if shortfall > 0:
        account.given_up[reversal.reverses] = replace(reversal, shortfall=shortfall)


def _take(account: Account, takes: Iterable[Take]) -> None:
    for take in takes:
        account.lots[take.lot].left -= take.points
