"""What the ledger stores: the events of accounts, and the stable stored names of all events.

Points are integers ≥ 0 unless a field says otherwise, money is in minor units of the brand's currency, times are epoch
milliseconds UTC. An event says what was decided; applying one never decides anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import msgspec

from aggregates.program_events import (
    BrandDefined,
    CampaignClosed,
    CampaignDefined,
    CampaignLaunched,
    CampaignSettled,
    MarkerPassed,
    ProgramEvent,
    StandingsKept,
)
from aggregates.stored import Origin as Origin
from aggregates.stored import Stored
from aggregates.upcasters import UPCASTERS, Upcaster


class Grant(Stored, frozen=True):
    """Points that one rule paid; they form one lot, whose id is `entry_id`.

    The entitlement of an amount or quantity `n` under this grant is
    `floor((n // per if per else 1 if flat, n if unit) × rate × multiplier_milli / 1000)`, see `rules.entitlement`.
    """

    entry_id: str
    campaign: str
    version: int
    rule: str
    points: int
    """What was paid, after caps and budget; ≥ 1."""
    entitled: int
    """What the rule said before caps and budget."""
    basis: str
    """`flat`, `unit` (per unit of quantity) or `money` (per `per` minor units)."""
    rate: int
    """Points per unit."""
    per: int
    """Minor units a money unit has; 0 for the other bases."""
    multiplier_milli: int
    """The tier's multiplier in thousandths."""
    active_at: int
    """When the hold ends and the points can be spent."""
    expires_at: int | None = None
    """First instant at which the points are expired; None: never."""
    limited_by: str = ""
    """The cap (or `budget`) that kept something back; empty when nothing did."""
    counters: tuple[str, ...] = ()
    """Cap counters that this grant uses up, as `<campaign>/<rule>/<period>`."""
    settles: int = 0
    """The part of the points that paid off debt at once; the lot has the rest."""


def counter_of(campaign: str, rule: str, period: str) -> str:
    """The counter of the points that a rule has paid a member in a period, under any version of the campaign."""
    return f"{campaign}/{rule}/{period}"


@lru_cache(maxsize=65_536)
def total_counter(campaign: str, rule: str) -> str:
    """The counter of all the points that a rule has paid a member in a campaign: one string, since all accounts ask."""
    return counter_of(campaign, rule, "total")


class Refusal(Stored, frozen=True):
    """A rule, or a whole campaign (`rule` empty), that matched and paid nothing, and why (see `refusals`)."""

    campaign: str
    version: int
    rule: str
    reason: str


class Take(Stored, frozen=True):
    """Points taken out of one lot."""

    lot: str
    points: int


class Reversal(Stored, frozen=True):
    """Points of one grant taken back: from lots, then as debt, then given up as shortfall."""

    entry_id: str
    reverses: str
    campaign: str
    version: int
    rule: str
    points: int
    """What the member lost: the takes and the debt. The shortfall is not in it."""
    takes: tuple[Take, ...] = ()
    debt: int = 0
    shortfall: int = 0
    """Below zero where a cancelled redemption gave back what had been given up before."""


class PaidOff(Stored, frozen=True):
    """Points that were on hold, became active while the member owed some, and so paid them off.

    Dates decide that; it is written down with the member's next event, which is decided on what is left.
    """

    entry_id: str
    points: int
    """≥ 1."""
    takes: tuple[Take, ...]


class InteractionRewarded(Stored, frozen=True):
    """An interaction that at least one rule matched."""

    origin: Origin
    kind: str
    surface: str
    platform: str
    quantity: int
    tier: str
    followers: int | None = None
    post_id: str | None = None
    actor_id: str | None = None
    grants: tuple[Grant, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    tier_followers: int | None = None
    """The followers behind the tier, on the platform where the member has the most; None without a profile."""
    paid_off: PaidOff | None = None
    """What points that were on hold had paid off before it."""


class UnitsUndone(Stored, frozen=True):
    """`quantity` units of the interaction `event_id` that later unlikes undid, under one rule."""

    event_id: str
    campaign: str
    rule: str
    quantity: int


class InteractionTakenBack(Stored, frozen=True):
    """A negative interaction (an unlike, a falling counter) that undid units some rule had judged, or that names a
    campaign that was not live."""

    origin: Origin
    kind: str
    surface: str
    platform: str
    quantity: int
    """Signed as on the log: negative."""
    post_id: str | None = None
    actor_id: str | None = None
    undone: tuple[UnitsUndone, ...] = ()
    reversals: tuple[Reversal, ...] = ()
    paid_off: PaidOff | None = None
    """As in `InteractionRewarded`."""
    refusals: tuple[Refusal, ...] = ()
    """As in `RefundRecorded`."""


class PurchaseRecorded(Stored, frozen=True):
    """A completed order, judged on its amount net of the refunds that came before it."""

    origin: Origin
    order_id: str
    amount_minor: int
    currency: str
    tier: str
    campaigns: tuple[str, ...] = ()
    """The campaigns it counted for."""
    campaign_id: str | None = None
    """The campaign it named."""
    referrer_id: str | None = None
    referral: str = ""
    """`due`: the referrer's reward is put on the referrer's key; else the reason why not; empty without a referrer."""
    new_customer: bool = True
    """False when the buyer had an order before: its referral then earns nothing."""
    refunded_minor: int = 0
    """Refunds of this order that came before it: the referrer's reward is judged on the amount less these."""
    grants: tuple[Grant, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    tier_followers: int | None = None
    """As in `InteractionRewarded`."""
    paid_off: PaidOff | None = None
    """As in `InteractionRewarded`."""


class RefundRecorded(Stored, frozen=True):
    """A refund; `referrer_id` is set when its order was a referred one, whose reward is judged anew."""

    origin: Origin
    amount_minor: int
    currency: str
    order_id: str | None = None
    matched: bool = False
    """False when its purchase is not known (yet)."""
    campaigns: tuple[str, ...] = ()
    campaign_id: str | None = None
    referrer_id: str | None = None
    new_customer: bool = True
    reversals: tuple[Reversal, ...] = ()
    paid_off: PaidOff | None = None
    """As in `InteractionRewarded`."""
    ordered_at: int | None = None
    """When its order occurred, where that was a referred one; None too in events of before this was kept."""
    refusals: tuple[Refusal, ...] = ()
    """The campaign that it names, where that was not live: the windows leave it out."""


class ReferralJudged(Stored, frozen=True):
    """A friend's order, or its refund, on the referrer's account."""

    origin: Origin
    kind: str
    """`completed` or `refunded`."""
    order_id: str
    buyer_id: str
    amount_minor: int
    tier: str
    campaigns: tuple[str, ...] = ()
    grants: tuple[Grant, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    reversals: tuple[Reversal, ...] = ()
    tier_followers: int | None = None
    """As in `InteractionRewarded`."""
    paid_off: PaidOff | None = None
    """As in `InteractionRewarded`."""


class PointsRedeemed(Stored, frozen=True):
    """Active points spent; the idempotency key is the record's event id."""

    origin: Origin
    entry_id: str
    points: int
    takes: tuple[Take, ...]
    requested_by: str = ""
    paid_off: PaidOff | None = None
    """As in `InteractionRewarded`."""


class RedemptionCancelled(Stored, frozen=True):
    """A redemption undone: its points come back into the lots that gave them, with the dates these have.

    What of it pays off debt at once comes into no lot: points = returns + settles. Where the grant of such a lot had
    been taken back meanwhile and the brand had given up what was spent of it, `reversals` take that now, out of the
    returns: a negative shortfall.
    """

    origin: Origin
    entry_id: str
    cancels: str
    """The entry of the redemption."""
    points: int
    """What was given back; ≥ 1."""
    returns: tuple[Take, ...] = ()
    """The points that came back into each lot."""
    settles: int = 0
    reversals: tuple[Reversal, ...] = ()
    requested_by: str = ""
    paid_off: PaidOff | None = None
    """As in `InteractionRewarded`."""


class PointsAdjusted(Stored, frozen=True):
    """Points that a person added or took: those added form a lot, whose id is `entry_id`."""

    origin: Origin
    entry_id: str
    points: int
    """Signed, never 0."""
    active_at: int
    """Of the lot; when points were taken: when it was done."""
    expires_at: int | None = None
    takes: tuple[Take, ...] = ()
    """Which lots gave the points that were taken."""
    debt: int = 0
    """The part of the points taken that no lot could give."""
    settles: int = 0
    """The part of the points added that paid off debt at once."""
    reason: str = ""
    """Why, in words."""
    requested_by: str = ""
    paid_off: PaidOff | None = None
    """As in `InteractionRewarded`."""


class PrizeAwarded(Stored, frozen=True):
    """A prize of a campaign's settlement; it forms a lot, whose id is `entry_id`."""

    origin: Origin
    entry_id: str
    campaign: str
    version: int
    rank: int
    points: int
    """≥ 1."""
    active_at: int
    expires_at: int | None = None
    settles: int = 0
    """The part of the points that paid off debt at once."""
    requested_by: str = ""
    paid_off: PaidOff | None = None
    """As in `InteractionRewarded`."""


class CommandRefused(Stored, frozen=True):
    """A command that changed nothing, kept so that a retry gets the same answer."""

    origin: Origin
    kind: str
    points: int
    reason: str
    requested_by: str = ""
    reference: str = ""
    """What the command referred to; empty when nothing."""


Happened = (
    InteractionRewarded
    | InteractionTakenBack
    | PurchaseRecorded
    | RefundRecorded
    | ReferralJudged
    | PointsRedeemed
    | RedemptionCancelled
    | PointsAdjusted
    | PrizeAwarded
)
AccountEvent = Happened | CommandRefused
StoredEvent = AccountEvent | ProgramEvent | MarkerPassed

STORED_NAMES: Final[Mapping[str, type[StoredEvent]]] = {
    "account.interaction-rewarded.1": InteractionRewarded,
    "account.interaction-taken-back.1": InteractionTakenBack,
    "account.purchase-recorded.1": PurchaseRecorded,
    "account.refund-recorded.1": RefundRecorded,
    "account.referral-judged.1": ReferralJudged,
    "account.points-redeemed.1": PointsRedeemed,
    "account.redemption-cancelled.1": RedemptionCancelled,
    "account.points-adjusted.1": PointsAdjusted,
    "account.prize-awarded.1": PrizeAwarded,
    "account.command-refused.1": CommandRefused,
    "brand.defined.1": BrandDefined,
    "brand.campaign-launched.1": CampaignLaunched,
    "campaign.defined.1": CampaignDefined,
    "campaign.closed.1": CampaignClosed,
    "campaign.marker-passed.1": MarkerPassed,
    "campaign.standings-kept.1": StandingsKept,
    "campaign.settled.1": CampaignSettled,
}
"""Stored name → type. A name is never reused for another meaning; a changed shape gets the next number."""

_NAME_OF: Final = {kind: name for name, kind in STORED_NAMES.items()}
_ENCODE: Final = msgspec.json.Encoder().encode
_DECODERS: Final = {name: msgspec.json.Decoder(kind).decode for name, kind in STORED_NAMES.items()}


def to_stored(event: StoredEvent) -> tuple[str, bytes]:
    """The stored name and bytes of an event."""
    return _NAME_OF[type(event)], _ENCODE(event)


class UnknownEvent(LookupError):
    """The ledger has an event that this release cannot read; the message says which release can."""


def from_stored(name: str, state: bytes) -> StoredEvent:
    """The event that `to_stored` wrote, in this release or an older one. Raises UnknownEvent for a newer one's."""
    try:
        decode = _DECODERS[name]
    except KeyError:
        return from_older(name, state, STORED_NAMES, UPCASTERS)
    return decode(state)


def from_older(
    name: str, state: bytes, names: Mapping[str, type[StoredEvent]], upcasters: Mapping[str, Upcaster]
) -> StoredEvent:
    """The event stored under a name that is written no more, brought up step by step. Raises UnknownEvent."""
    known, value = name, msgspec.json.decode(state)
    while known in upcasters:
        step = upcasters[known]
        known, value = step.name, step.change(value)
    if known not in names:
        raise UnknownEvent(
            f"the ledger has an event `{name}`, which this release does not know: a newer release wrote it. "
            "Run that release, or one after it, on this database."
        )
    return msgspec.convert(value, names[known])
