"""One source partition's state in memory: the next offset, open panes, what is dirty, and the rule for chunks.

No await anywhere: a chunk is applied whole or not at all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from aggregates.activity import Activity
from aggregates.engagement import ON_TIME, SCOPES, SEGMENT_OFFSETS, Counters, Pane, increments, is_closed, panes_of
from aggregates.ledger import Batch, Ledger, Source
from streams.intake import DeadLetter, Intake
from streams.readstate import Delta, ReadState
from streams.transport import Chunk

LONGEST = (1 << 63) - 1
"""A counter stays within 64 bits: absurd quantities must not make a pane that cannot be written."""


class LogLost(Exception):
    """A log does not hold what was read from it before."""


class Applied(Enum):
    """What became of a chunk."""

    DONE = "done"
    STALE = "stale"
    """Fetched before the last seek, or by a former owner: dropped."""
    GAP = "gap"
    """It does not continue the position: the partition must be sought again."""


@dataclass(slots=True)
class Flush:
    """Everything that must be durable before the read-state may say `position`."""

    position: int
    panes: list[tuple[Pane, Counters]]
    members: list[tuple[tuple[str, str], str, dict[str, int]]]
    """Brand and member, tier, followers by platform."""
    letters: list[DeadLetter]
    delta: Delta


class Partition:
    """State and folds of one owned partition."""

    def __init__(
        self,
        source: Source,
        start: int,
        state: ReadState,
        intake: Intake,
        ledger: Ledger,
        *,
        writer: str,
        grace_ms: int,
        clock: Callable[[], int],
    ) -> None:
        self.source = source
        self.next = start
        """The next offset to apply."""
        self.state = state
        self.intake = intake
        self.panes: dict[Pane, Counters] = {}
        self.skip: dict[Pane, int] = {}
        """Panes recovered with a stamp at or above the next offset: what the stamp includes is not added again."""
        self.out_next: dict[str, int] = {}
        """End offset of each output partition after our last acknowledged write."""
        self.dirty: set[Pane] = set()
        self._letters: list[DeadLetter] = []
        self._ledger = ledger
        self._ledger_position = ledger.position(source)
        self._writer = writer
        self._grace_ms = grace_ms
        self._clock = clock
        self._batches = 0

    def apply(self, chunk: Chunk, epoch: int) -> Applied:
        """Fold a chunk if it is the partition's next one. Raises `Fenced`, `TooManyRejected`."""
        if chunk.epoch != epoch:
            return Applied.STALE
        if chunk.start != self.next:
            return Applied.GAP
        if chunk.records[0].offset < self.next:
            raise LogLost(
                f"{self.source.topic} partition {self.source.partition}: offset {chunk.records[0].offset} came where "
                f"{self.next} was next. Was the topic made anew? Then start on a fresh database."
            )
        activities, letters = self.intake.take(chunk.records)
        end = chunk.records[-1].offset + 1
        self._reward([activity for activity, _ in activities], end)
        for activity, greatest_event_time in activities:
            self._engage(activity, greatest_event_time)
        self._letters += letters
        self.next = end
        if self.skip and max(self.skip.values()) < end:
            self.skip.clear()
        return Applied.DONE

    def _reward(self, activities: list[Activity], end: int) -> None:
        """The ledger commits first: it is never behind the panes."""
        position = self._ledger_position
        if position is not None and end <= position:
            return
        new = [a for a in activities if position is None or a.offset >= position]
        self._batches += 1
        self._ledger.consume(Batch(self.source, position, end, new, self._clock(), self._writer, self._batches))
        self._ledger_position = end

    def _engage(self, activity: Activity, greatest_event_time: int) -> None:
        added = increments(activity)
        if not added:
            return
        late = False
        for pane in panes_of(activity, greatest_event_time, self._grace_ms):
            late = late or pane.segment != ON_TIME
            if self.skip and activity.offset <= self.skip.get(pane, -1):
                continue
            counters = self.panes.get(pane)
            if counters is None:
                counters = self.panes[pane] = {}
            for name, amount in added.items():
                counters[name] = max(-LONGEST, min(LONGEST, counters.get(name, 0) + amount))
            self.dirty.add(pane)
        if late:
            self.state.counts["late"] += 1

    @property
    def is_flushed(self) -> bool:
        """Whether nothing is left to write."""
        return self.next == self.state.saved and not self._letters

    async def flush(self, write: Callable[[Flush], Awaitable[None]], save: Callable[[Flush], Awaitable[None]]) -> int:
        """Make everything applied so far durable, in the one order that is safe; the position that was reached.

        `write` returns once the output topics have acknowledged panes and dead letters; only then `save` writes the
        read-state. Were it the other way round, a crash in between would resume behind panes that nobody has.
        """
        flush = self._begin_flush()
        await write(flush)
        await save(flush)
        self._end_flush(flush)
        return flush.position

    def _begin_flush(self) -> Flush:
        """Take what is dirty, as of the position reached now."""
        panes = [(pane, dict(self.panes[pane])) for pane in self.dirty]
        changed = self.intake.changed_profiles.items()
        members = [(key, tier, dict(self.state.profiles[key])) for key, tier in changed]
        flush = Flush(self.next, panes, members, self._letters, self.state.take(self.next))
        self.dirty = set()
        self.intake.changed_profiles = {}
        self._letters = []
        return flush

    def _end_flush(self, flush: Flush) -> None:
        """After everything of `flush` is durable: let go of the panes that event time has passed."""
        self.state.saved = flush.position
        block = self.next // SEGMENT_OFFSETS
        gone = [
            pane
            for pane in self.panes
            if pane not in self.dirty and pane not in self.skip and self._is_complete(pane, block)
        ]
        for pane in gone:
            del self.panes[pane]

    def _is_complete(self, pane: Pane, block: int) -> bool:
        if pane.segment != ON_TIME:
            return pane.segment < block
        return is_closed(pane.starts_at, SCOPES[pane.scope].length_ms, self.state.greatest_event_time, self._grace_ms)

    def recover_panes(self, stamped: dict[Pane, tuple[int, Counters]]) -> None:
        """Take over flushed panes (each with its stamp, the last source offset it includes)."""
        for pane, (stamp, counters) in stamped.items():
            if stamp >= self.next:
                self.skip[pane] = stamp
            elif self._is_complete(pane, self.next // SEGMENT_OFFSETS):
                continue
            self.panes[pane] = counters
