"""The tiers that a member had: when each began, in event time, as the log in its order tells it.

What is kept are the followers, wherever they crossed a bound of tiers that the brand has, had or will have; a tier is
theirs by the version of the brand in force at the instant that is asked about.
"""

from __future__ import annotations

import json
from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, NamedTuple, Self

from aggregates.definitions import UNKNOWN_TIER
from aggregates.engagement import TIER_CHANGES
from aggregates.programs import Bands


class TierChange(NamedTuple):
    """A change of a member's tier, or of the followers across a bound that is not in force."""

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


@dataclass(slots=True)
class TierHistory:
    """Of one member; `bands` are those of the brand, as far as the log has come."""

    changes: list[TierChange] = field(default_factory=list)
    """By when they occurred, then by number."""
    moved_at: int = 0
    """When the most followers on a platform changed last, in the order of the log (epoch milliseconds)."""

    def note(self, occurred_at: int, profile: Mapping[str, int], bands: Bands) -> bool:
        """Add a change of the most followers at `occurred_at` (epoch milliseconds), which left `profile`.

        False where they stay between the same bounds of tiers: then it is not added. So a change is one in log order,
        and it stands at its event time. Of more than are remembered one goes that made no difference by the bounds in
        force in its time, else the oldest; never the last of the log: what comes next is compared with that.
        """
        self.moved_at = occurred_at
        latest = self.latest()
        platform = min(profile, key=lambda name: (-profile[name], name))
        followers = profile[platform]
        if latest.followers is not None and bands.place(latest.followers) == bands.place(followers):
            return False
        number, tier = latest.number + 1, bands.at(occurred_at).tier_of(followers)
        insort(self.changes, TierChange(occurred_at, number, tier, platform, followers))
        if len(self.changes) > TIER_CHANGES:
            self._let_go(number, bands)
        return True

    def divide(self, profile: Mapping[str, int], bands: Bands) -> bool:
        """Add when the followers of now came, if the brand got bounds between them and those kept; whether it did."""
        return self.note(self.moved_at, profile, bands)

    def latest(self) -> TierChange:
        """The last one in the order of the log."""
        return max(self.changes, key=lambda change: change.number, default=NO_TIER)

    def at(self, at: int, bands: Bands | None) -> TierChange:
        """The tier as of an instant (epoch milliseconds), and the followers behind it; `NO_TIER` before all changes."""
        found = NO_TIER
        for change in self.changes:
            if change.occurred_at > at:
                break
            found = change
        return found if bands is None else _by(bands, found, at)

    def told(self, bands: Bands) -> list[TierChange]:
        """All changes, with those that new bands of the brand brought or, as far as is known, will bring."""
        every: list[TierChange] = []
        for change, following in pairwise([*self.changes, None]):
            assert change is not None
            every.append(_by(bands, change, change.occurred_at))
            for start in bands.starts:
                if change.occurred_at < start and (following is None or start < following.occurred_at):
                    then = _by(bands, change, start)
                    if then.tier != every[-1].tier:
                        every.append(then._replace(occurred_at=start))
        return every

    def as_json(self) -> str:
        """As it is stored: the fields of each change, then `moved_at`."""
        return json.dumps([*self.changes, self.moved_at])

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `as_json` wrote, or an older release: without `moved_at`, and with fewer fields."""
        stored: list[Any] = json.loads(text)
        moved_at = stored.pop() if stored and isinstance(stored[-1], int) else None
        found = cls([TierChange(*change) for change in stored])
        found.moved_at = found.latest().occurred_at if moved_at is None else moved_at
        return found

    def _let_go(self, last: int, bands: Bands) -> None:
        """Drop one change, which is not the log's `last`.

        One that made no difference leaves no gap in the numbers: by gaps it is seen that tiers before are not known.
        """
        changes = self.changes
        for place, (before, change, following) in enumerate(zip(changes, changes[1:], changes[2:], strict=False), 1):
            if change.number != last and _is_idle(before, change, following.occurred_at, bands):
                del changes[place]
                self.changes = [
                    one._replace(number=one.number - 1) if one.number > change.number else one for one in changes
                ]
                return
        del changes[0 if changes[0].number < last else 1]


def _is_idle(before: TierChange, change: TierChange, until: int, bands: Bands) -> bool:
    """Whether the tiers from a change up to `until` are those of the change before it."""
    instants: Sequence[int] = [change.occurred_at, *(at for at in bands.starts if change.occurred_at < at < until)]
    return all(_by(bands, before, at).tier == _by(bands, change, at).tier for at in instants)


def _by(bands: Bands, change: TierChange, at: int) -> TierChange:
    if change.followers is None:
        return change
    tier = bands.at(at).tier_of(change.followers)
    return change if tier == change.tier else change._replace(tier=tier)
