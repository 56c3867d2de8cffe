"""The open panes of one source partition: counting, what is dirty, and what may leave memory.

A pane leaves memory when event time has passed it by the grace and it is flushed; a segment of late records when its
block of offsets has passed. So memory holds the panes of the grace and of one block, whatever the log brings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from aggregates.engagement import ON_TIME, SCOPES, SEGMENT_OFFSETS, TIER_SCOPES, Counters, Pane
from schemas.topics import TIERS, WINDOWS
from streams.panes import PaneWriter, Record, place_of, read_pane, stamp_of

LONGEST = (1 << 63) - 1
"""A counter stays within 64 bits: absurd quantities must not make a pane that cannot be written."""


class Open:
    """A pane in memory. Hashing its key is most of what touching it costs, so it is looked up once a record."""

    __slots__ = ("counters", "is_dirty", "pane", "skip")

    def __init__(self, pane: Pane, counters: Counters, skip: int = -1) -> None:
        self.pane = pane
        self.counters = counters
        self.is_dirty = False
        self.skip = skip
        """The last offset that the counters included when they were recovered: up to it nothing is added again."""


class PaneStore:
    """Panes by key."""

    def __init__(self, epoch: str, partition: int, grace_ms: int) -> None:
        self.panes: dict[Pane, Open] = {}
        self._dirty: list[Open] = []
        self._epoch = epoch
        self._writer = PaneWriter(epoch, partition)
        self._grace_ms = grace_ms
        self._by_end: defaultdict[int, list[Open]] = defaultdict(list)
        self._by_block: defaultdict[int, list[Open]] = defaultdict(list)

    def __len__(self) -> int:
        return len(self.panes)

    def add(self, panes: Iterable[Pane], added: Mapping[str, int], offset: int) -> bool:
        """Add to the counters of each pane what the record at `offset` brings; whether it was late."""
        late = False
        store, dirty = self.panes, self._dirty
        for pane in panes:
            if pane.segment != ON_TIME:
                late = True
            found = store.get(pane)
            if found is None:
                found = self._open(Open(pane, dict(added)))
            elif offset > found.skip:
                counters = found.counters
                for name, amount in added.items():
                    total = counters.get(name, 0) + amount
                    counters[name] = total if -LONGEST <= total <= LONGEST else LONGEST if total > 0 else -LONGEST
            else:
                continue
            if not found.is_dirty:
                found.is_dirty = True
                dirty.append(found)
        return late

    def _open(self, new: Open) -> Open:
        pane = new.pane
        self.panes[pane] = new
        if pane.segment == ON_TIME:
            self._by_end[pane.starts_at + SCOPES[pane.scope].length_ms].append(new)
        else:
            self._by_block[pane.segment].append(new)
        return new

    def take_dirty(self, stamp: int) -> dict[str, list[Record]]:
        """The records of all dirty panes by topic, as of the source offset `stamp`; nothing is dirty after it."""
        windows: list[Record] = []
        tiers: list[Record] = []
        for scope, record in self._writer.records(((one.pane, one.counters) for one in self._dirty), stamp):
            (tiers if scope in TIER_SCOPES else windows).append(record)
        for one in self._dirty:
            one.is_dirty = False
        self._dirty.clear()
        return {topic: records for topic, records in ((WINDOWS, windows), (TIERS, tiers)) if records}

    def let_go(self, greatest_event_time: int, position: int) -> None:
        """After the flush of `position`, at which event time stood there: forget the panes that it completed."""
        closed = greatest_event_time - self._grace_ms
        for end in [end for end in self._by_end if end <= closed]:
            self._forget(self._by_end, end, position)
        for block in [block for block in self._by_block if block < position // SEGMENT_OFFSETS]:
            self._forget(self._by_block, block, position)

    def _forget(self, bucket: defaultdict[int, list[Open]], name: int, position: int) -> None:
        kept = []
        for one in bucket.pop(name):
            if one.is_dirty or one.skip >= position:
                kept.append(one)
            else:
                del self.panes[one.pane]
        if kept:
            bucket[name] = kept

    def recover(self, written: Mapping[bytes, bytes], start: int, greatest_event_time: int) -> None:
        """Take over the panes of an output partition that are still open, or ahead of `start`, by key and value."""
        closed = greatest_event_time - self._grace_ms
        block = start // SEGMENT_OFFSETS
        for key, value in written.items():
            scope, starts_at, segment = place_of(key)
            if segment == ON_TIME:
                is_open = scope in SCOPES and starts_at + SCOPES[scope].length_ms > closed
            else:
                is_open = segment >= block
            if not is_open and stamp_of(value)[1] < start:
                continue
            stamped = read_pane(value)
            if stamped.epoch == self._epoch:
                self._open(Open(stamped.pane, stamped.counters, stamped.stamp))
