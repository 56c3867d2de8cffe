"""The tiers that a member had: when each began, in event time, as the log in its order tells it.

What is kept are the followers, wherever they crossed a bound of tiers that the brand has, had or will have; a tier is
theirs by the version of the brand in force at the instant that is asked about.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from aggregates.definitions import UNKNOWN_TIER
from aggregates.engagement import TIER_CHANGES
from aggregates.programs import Bands


class TierChange(NamedTuple):
    """A change of a member's tier."""

    occurred_at: int
    number: int
    """Among the member's changes, in log order, from 0; a change by new bands has that of the followers before it."""
    tier: str
    """From then on."""
    platform: str = ""
    """Where the member had the most followers then; empty for a change that an older release saved."""
    followers: int | None = None
    """There."""


NO_TIER: Final = TierChange(0, -1, UNKNOWN_TIER)


def note(changes: list[TierChange], occurred_at: int, profile: Mapping[str, int], bands: Bands) -> bool:
    """Add a change of followers, which left `profile`; False where they stay between the same bounds of tiers.

    So a change is one in log order, and it stands at its event time. Of more than are remembered the oldest goes, but
    never the last of the log: what comes next is compared with that.
    """
    platform, followers = _most(profile)
    tier = bands.at(occurred_at).tier_of(followers)
    latest = max(changes, key=lambda change: change.number, default=None)
    if latest is not None and _is_same(latest, tier, followers, bands):
        return False
    number = 0 if latest is None else latest.number + 1
    insort(changes, TierChange(occurred_at, number, tier, platform, followers))
    while len(changes) > TIER_CHANGES:
        del changes[0 if changes[0].number < number else 1]
    return True


def divide(changes: list[TierChange], profile: Mapping[str, int], bands: Bands) -> bool:
    """Keep the followers of now where the brand got bounds between them and those kept; whether anything changed.

    By the bounds of before they made no difference, so the tiers until then stay as they are.
    """
    if not changes:
        return False
    latest = max(changes, key=lambda change: change.number)
    platform, followers = _most(profile)
    if latest.followers is not None and bands.place(latest.followers) == bands.place(followers):
        return False
    changes[changes.index(latest)] = latest._replace(platform=platform, followers=followers)
    return True


def change_at(changes: Sequence[TierChange], at: int, bands: Bands | None) -> TierChange:
    """The tier as of an instant (epoch milliseconds), and the followers it comes from; `NO_TIER` before all changes."""
    found = NO_TIER
    for change in changes:
        if change.occurred_at > at:
            break
        found = change
    return _by(bands, found, at)


def told(changes: Sequence[TierChange], bands: Bands, until: int) -> list[TierChange]:
    """All changes of tier, with those that new bands of the brand brought up to `until` (epoch milliseconds)."""
    every: list[TierChange] = []
    for change, following in pairwise([*changes, None]):
        assert change is not None
        every.append(_by(bands, change, change.occurred_at))
        end = until if following is None else min(until, following.occurred_at - 1)
        for start in bands.starts:
            if change.occurred_at < start <= end:
                then = _by(bands, change, start)
                if then.tier != every[-1].tier:
                    every.append(then._replace(occurred_at=start))
    return every


def _by(bands: Bands | None, change: TierChange, at: int) -> TierChange:
    if bands is None or change.followers is None:
        return change
    return change._replace(tier=bands.at(at).tier_of(change.followers))


def _most(profile: Mapping[str, int]) -> tuple[str, int]:
    platform = min(profile, key=lambda name: (-profile[name], name))
    return platform, profile[platform]


def _is_same(latest: TierChange, tier: str, followers: int, bands: Bands) -> bool:
    if latest.followers is None:
        return latest.tier == tier
    return bands.place(latest.followers) == bands.place(followers)
