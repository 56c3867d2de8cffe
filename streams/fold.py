"""What the worker does with the records of one partition: intake, then rewards (the ledger), then engagement panes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from aggregates.ledger import Source
from schemas.codec import decode
from schemas.topics import DEAD_LETTERS, TIERS, WINDOWS
from streams.intake import DeadLetter, Intake
from streams.metrics import METRICS
from streams.outputs import letter_record
from streams.pane_counter import PaneCounter
from streams.pane_store import PaneStore
from streams.panes import Record, changes_text, is_pane, member_record
from streams.readstate import Delta
from streams.rewards import Rewards


class Fold(Protocol):
    """A fold of one partition, as the exact stage drives it. No await anywhere: a chunk is folded whole."""

    def apply(self, records: Sequence[Any], end: int) -> None:
        """Fold records in offset order; `end` is the offset after them."""

    async def settle(self, leave: int = 0) -> None:
        """Wait until at most `leave` chunks are still on their way into another store."""

    async def settle_before(self, end: int) -> None:
        """Wait until the other store has all that was folded of the records before `end`."""

    def take(self, previous: int, position: int) -> tuple[dict[str, list[Record]], Delta]:
        """What changed since the last flush: records by topic, stamped, and the read-state; `position` is next."""

    def flushed(self, delta: Delta) -> None:
        """The flush with this read-state is durable."""

    def recover(self, written: Mapping[str, Mapping[bytes, bytes]], start: int) -> None:
        """Take over what the output topics hold (topic → key → value), to go on at `start`."""

    def give_up(self) -> None:
        """The partition is lost: start nothing more."""


class ActivityFold:
    """The activity log's fold."""

    topics = (WINDOWS, TIERS)
    """Output topics that are read back on recovery."""

    def __init__(self, source: Source, intake: Intake, rewards: Rewards, grace_ms: int) -> None:
        self.intake = intake
        self.state = intake.state
        self.panes = PaneStore(source.epoch, source.partition, grace_ms)
        self._source = source
        self._rewards = rewards
        self._counter = PaneCounter(self.panes, grace_ms, self.state.closed)
        self._letters: list[DeadLetter] = []
        self._members: dict[tuple[str, str], int] = {}
        """Members' tiers that were written ahead of the read-state, with their stamps: nothing older follows them."""
        self._told = dict(intake.state.counts)
        """Counts that the metrics have."""

    def apply(self, records: Sequence[Any], end: int) -> None:
        """Fold a chunk. Raises `TooManyRejected`; `Fenced` comes from here or from `settle`."""
        activities, letters = self.intake.take(records)
        self._rewards.submit([activity for activity, _ in activities], end)
        count = self._counter.count
        self.state.counts["late"] += sum([count(activity, before) for activity, before in activities])
        self._letters += letters

    async def settle(self, leave: int = 0) -> None:
        """Wait for the ledger."""
        await self._rewards.settle(leave)

    async def settle_before(self, end: int) -> None:
        """The ledger is never behind the panes."""
        await self._rewards.settle_before(end)

    def take(self, previous: int, position: int) -> tuple[dict[str, list[Record]], Delta]:
        """Dirty panes, changed tiers, dead letters and the read-state, all as of `position`."""
        epoch, partition, stamp = self._source.epoch, self._source.partition, position - 1
        records = self.panes.take_dirty(stamp)
        members = [
            member_record(epoch, partition, stamp, *key, *self.state.tiers_of(key), self.state.profiles[key])
            for key in self.intake.changed_members
            if stamp >= self._members.get(key, -1)
        ]
        if members:
            records.setdefault(TIERS, []).extend(members)
        if self._letters:
            records[DEAD_LETTERS] = [letter_record(one, self._source.topic, partition) for one in self._letters]
        self.intake.changed_members = {}
        self._letters = []
        self._tell_metrics()
        return records, self.state.take(previous, position)

    def _tell_metrics(self) -> None:
        for name, count in self.state.counts.items():
            METRICS.intake.labels(name).inc(count - self._told.get(name, 0))
        self._told = dict(self.state.counts)
        METRICS.panes.labels(str(self._source.partition)).set(len(self.panes))

    def flushed(self, delta: Delta) -> None:
        """Let go of the panes that this flush completed."""
        self.panes.let_go(delta.greatest_event_time, delta.position)

    def recover(self, written: Mapping[str, Mapping[bytes, bytes]], start: int) -> None:
        """Take over the open panes, and what was written of members behind `start`."""
        panes, state = dict(written[TIERS]), self.state
        for value in [panes.pop(key) for key in written[TIERS] if not is_pane(key)]:
            fields = decode(value)[1]
            member = fields["brand_id"], fields["member_id"]
            if fields["epoch"] != self._source.epoch:
                continue
            if fields["stamp"] >= start:
                self._members[member] = fields["stamp"]
            elif state.has_other_bands(member[0]) and member in state.profiles:
                tier, changes = state.tiers_of(member)
                if (tier, changes_text(changes)) != (fields["tier"], fields["changes"]):
                    self.intake.changed_members[member] = None  # told by a release that knew one tier for ever
        for values in (written[WINDOWS], panes):
            self.panes.recover(values, start, self.state.greatest_event_time)

    def give_up(self) -> None:
        """Nothing more goes to the ledger."""
        self._rewards.give_up()
