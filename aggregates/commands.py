"""What a command makes of a member's account: it is carried out, or refused for the first reason that holds.

Either outcome is the only one that its idempotency key ever has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from aggregates.account_state import Account
from aggregates.activity import Activity
from aggregates.events import (
    AccountEvent,
    CommandRefused,
    Origin,
    PointsAdjusted,
    PointsRedeemed,
    PrizeAwarded,
    RedemptionCancelled,
)
from aggregates.refusals import Refusal as Reason
from aggregates.rules import entry_id, expires_at
from aggregates.spending import Taking, give_back


class Asked(NamedTuple):
    """What a refusal can depend on."""

    account: Account
    kind: str
    points: int
    reference: str
    at: int
    negative_balance: bool

    def lacks_points(self) -> bool:
        """Whether it takes more than is active, and may not go below zero."""
        if self.kind == "redeem":
            return self.account.balance_at(self.at).active < self.points
        if self.kind == "adjust" and self.points < 0 and not self.negative_balance:
            return self.account.balance_at(self.at).active < -self.points
        return False


PRECEDENCE: Final[tuple[tuple[Reason, Callable[[Asked], bool]], ...]] = (
    (Reason.NOT_SUPPORTED, lambda asked: asked.kind not in _CARRIED_OUT),
    (Reason.NOT_POSITIVE, lambda asked: asked.kind in ("redeem", "prize") and asked.points < 1),
    (Reason.POINTS_ZERO, lambda asked: asked.kind == "adjust" and asked.points == 0),
    (
        Reason.UNKNOWN_REDEMPTION,
        lambda asked: asked.kind == "cancel" and asked.reference not in asked.account.redemptions,
    ),
    (
        Reason.ALREADY_CANCELLED,
        lambda asked: asked.kind == "cancel" and asked.account.redemptions[asked.reference] is None,
    ),
    (Reason.INSUFFICIENT_POINTS, Asked.lacks_points),
)
"""Every refusal of a command with what makes it hold, in the order in which they are checked: the first one counts."""


def command(
    account: Account, activity: Activity, origin: Origin, _budget_left: Mapping[str, int]
) -> list[AccountEvent]:
    """The one event of a command, a refusal included; none when its key was decided before."""
    value = activity.value
    if (activity.type, origin.event_id) in account.settled:
        return []
    kind, points, reference = value["kind"], value["points"], value.get("reference") or ""
    asked = Asked(account, kind, points, reference, origin.occurred_at, activity.brand.negative_balance)
    for reason, holds in PRECEDENCE:
        if holds(asked):
            return [CommandRefused(origin, kind, points, reason.value, value["requested_by"], reference)]
    return [_CARRIED_OUT[kind](account, activity, origin, entry_id(activity.type, origin.event_id))]


def _redeem(account: Account, activity: Activity, origin: Origin, entry: str) -> AccountEvent:
    points = activity.value["points"]
    takes, _ = Taking(account, origin.occurred_at).spend(points)
    return PointsRedeemed(origin, entry, points, takes, activity.value["requested_by"])


def _cancel(account: Account, activity: Activity, origin: Origin, entry: str) -> AccountEvent:
    """Into the same lots, however much has happened since; their dates say whether the points can be spent."""
    value = activity.value
    takes = account.redemptions[value["reference"]] or ()
    returns, settles, reversals = give_back(account, takes, (activity.type, origin.event_id))
    return RedemptionCancelled(
        origin=origin,
        entry_id=entry,
        cancels=value["reference"],
        points=sum(take.points for take in takes),
        returns=returns,
        settles=settles,
        reversals=reversals,
        requested_by=value["requested_by"],
    )


def _adjust(account: Account, activity: Activity, origin: Origin, entry: str) -> AccountEvent:
    value, at = activity.value, origin.occurred_at
    points: int = value["points"]
    words, by = value.get("reason") or "", value["requested_by"]
    if points > 0:
        dates = at, expires_at(at, activity.brand)
        settles = min(points, account.debt)
        return PointsAdjusted(origin, entry, points, *dates, settles=settles, reason=words, requested_by=by)
    takes, missing = Taking(account, at).spend(-points)
    return PointsAdjusted(origin, entry, points, at, takes=takes, debt=missing, reason=words, requested_by=by)


def _prize(account: Account, activity: Activity, origin: Origin, entry: str) -> AccountEvent:
    value, at = activity.value, origin.occurred_at
    points: int = value["points"]
    return PrizeAwarded(
        origin=origin,
        entry_id=entry,
        campaign=value.get("reference") or "",
        version=value.get("campaign_version") or 0,
        rank=value.get("rank") or 0,
        points=points,
        active_at=at,
        expires_at=expires_at(at, activity.brand),
        settles=min(points, account.debt),
        requested_by=value["requested_by"],
    )


_CARRIED_OUT: Final[Mapping[str, Callable[[Account, Activity, Origin, str], AccountEvent]]] = {
    "redeem": _redeem,
    "cancel": _cancel,
    "adjust": _adjust,
    "prize": _prize,
}
"""Transfers wait for a later release."""
