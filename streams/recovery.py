"""Makes the activity log's fold of a partition anew: the ids seen lately from the log's tail, the ledger's position."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from aggregates.ledger import Ledger, Source
from streams import outputs
from streams.commits import Commits
from streams.connection import Brokers
from streams.fold import ActivityFold
from streams.intake import Intake, Limits, remember
from streams.ownership import uninterrupted
from streams.readstate import ReadState
from streams.recent import Recent, tail_start
from streams.rewards import Rewards


@dataclass(slots=True, frozen=True)
class ActivityFolds:
    """What the folds of all partitions of a worker share."""

    brokers: Brokers
    ledger: Ledger
    commits: Commits
    """Into `ledger`."""
    partitions: int
    """Partitions of the activity log."""
    secret: bytes
    clock: Callable[[], int]
    """Epoch milliseconds, for `recorded_at`."""
    grace_ms: int = 24 * 3_600_000
    limits: Limits = field(default_factory=Limits)

    async def __call__(self, source: Source, state: ReadState, token: str) -> ActivityFold:
        """The fold of a partition at its read-state's position; the ledger is `token`'s from then on."""
        position = await uninterrupted(self.ledger.take, source, token, state.saved)
        recent = await self._recent(source, state, position)
        intake = Intake(source.partition, self.partitions, state, recent, self.secret, self.limits)
        rewards = Rewards(self.ledger, source, position, token, self.clock, self.commits)
        return ActivityFold(source, intake, rewards, self.grace_ms)

    async def _recent(self, source: Source, state: ReadState, ledger: int) -> Recent:
        """The ids within the horizon, read again from the log's tail.

        It is read up to where the ledger is: a log that lost its end must not be taken for the one that was decided.
        """
        recent = Recent()
        rejected = set(state.rejected)
        end = max(state.saved, ledger)
        if end == 0:
            return recent
        start = tail_start(state.saved)
        low, _ = (await outputs.bounds_of(self.brokers, source.topic, [source.partition]))[source.partition]
        async for batch in outputs.read_batches(self.brokers, source.topic, source.partition, max(start, low), end):
            for record in batch:
                if record.offset < state.saved and record.offset not in rejected:
                    remember(recent, record)
        return recent
