"""The tiers that a member had: when each began, in event time, as the log in its order tells it."""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from aggregates.definitions import UNKNOWN_TIER
from aggregates.engagement import TIER_CHANGES


class TierChange(NamedTuple):
    """A change of a member's tier."""

    occurred_at: int
    number: int
    """Among the member's changes, in log order, from 0."""
    tier: str
    """From then on."""
    platform: str = ""
    """Where the member had the most followers then; empty for a change that an older release saved."""
    followers: int | None = None
    """There."""


NO_TIER: Final = TierChange(0, -1, UNKNOWN_TIER)


def note(changes: list[TierChange], occurred_at: int, tier: str, profile: Mapping[str, int]) -> bool:
    """Add a member's tier after a change of followers, which left `profile`; False where it is what the log had last.

    So a change is one in log order, and it stands at its event time. Of more than are remembered the oldest goes, but
    never the last of the log: what comes next is compared with that.
    """
    latest = max(changes, key=lambda change: change.number, default=None)
    if latest is not None and latest.tier == tier:
        return False
    most = min(profile, key=lambda platform: (-profile[platform], platform), default="")
    number = 0 if latest is None else latest.number + 1
    insort(changes, TierChange(occurred_at, number, tier, most, profile.get(most)))
    while len(changes) > TIER_CHANGES:
        del changes[0 if changes[0].number < number else 1]
    return True


def change_at(changes: Sequence[TierChange], at: int) -> TierChange:
    """The change that the tier of an instant (epoch milliseconds) comes from; `NO_TIER` before the first of them."""
    found = NO_TIER
    for change in changes:
        if change.occurred_at > at:
            break
        found = change
    return found
