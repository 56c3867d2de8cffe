"""The open panes of one source partition: counting, what is dirty, and what may leave memory.

A pane leaves memory when event time has passed it by the grace and it is flushed; a segment of late records when its
block of offsets has passed. So memory holds the panes of the grace and of one block, whatever the log brings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from aggregates.engagement import ON_TIME, SCOPES, SEGMENT_OFFSETS, Counters, Pane
from streams.panes import PaneWriter, Record, pane_topic, place_of, read_pane, stamp_of

LONGEST = (1 << 63) - 1
"""A counter stays within 64 bits: absurd quantities must not make a pane that cannot be written."""


class PaneStore:
    """Panes by key."""

    def __init__(self, grace_ms: int) -> None:
        self.panes: dict[Pane, Counters] = {}
        self.dirty: set[Pane] = set()
        self.skip: dict[Pane, int] = {}
        """Recovered panes with a stamp at or above the next offset: what the stamp includes is not added again."""
        self._skip_until = -1
        self._grace_ms = grace_ms
        self._by_end: defaultdict[int, list[Pane]] = defaultdict(list)
        self._by_block: defaultdict[int, list[Pane]] = defaultdict(list)

    def __len__(self) -> int:
        return len(self.panes)

    def add(self, panes: Iterable[Pane], added: Mapping[str, int], offset: int) -> bool:
        """Add to the counters of each pane what the record at `offset` brings; whether it was late."""
        late = False
        store, dirty = self.panes, self.dirty
        for pane in panes:
            if pane.segment != ON_TIME:
                late = True
            if self.skip and offset <= self.skip.get(pane, -1):
                continue
            counters = store.get(pane)
            if counters is None:
                self._open(pane, dict(added))
            else:
                for name, amount in added.items():
                    total = counters.get(name, 0) + amount
                    counters[name] = total if -LONGEST <= total <= LONGEST else LONGEST if total > 0 else -LONGEST
            dirty.add(pane)
        return late

    def _open(self, pane: Pane, counters: Counters) -> None:
        self.panes[pane] = counters
        if pane.segment == ON_TIME:
            self._by_end[pane.starts_at + SCOPES[pane.scope].length_ms].append(pane)
        else:
            self._by_block[pane.segment].append(pane)

    def passed(self, offset: int) -> None:
        """Note that everything before `offset` is applied."""
        if self.skip and self._skip_until < offset:
            self.skip.clear()

    def take_dirty(self, epoch: str, partition: int, stamp: int) -> dict[str, list[Record]]:
        """The records of all dirty panes by topic, as of the source offset `stamp`; nothing is dirty after it."""
        writer = PaneWriter(epoch, partition, stamp)
        records: dict[str, list[Record]] = {}
        for pane in self.dirty:
            records.setdefault(pane_topic(pane), []).append(writer.record(pane, self.panes[pane]))
        self.dirty = set()
        return records

    def let_go(self, greatest_event_time: int, position: int) -> None:
        """After the flush of `position`, at which event time stood there: forget the panes that it completed."""
        closed = greatest_event_time - self._grace_ms
        for end in [end for end in self._by_end if end <= closed]:
            self._forget(self._by_end, end)
        for block in [block for block in self._by_block if block < position // SEGMENT_OFFSETS]:
            self._forget(self._by_block, block)

    def _forget(self, bucket: defaultdict[int, list[Pane]], name: int) -> None:
        kept = []
        for pane in bucket.pop(name):
            if pane in self.dirty or pane in self.skip:
                kept.append(pane)
            else:
                del self.panes[pane]
        if kept:
            bucket[name] = kept

    def recover(self, written: Mapping[bytes, bytes], epoch: str, start: int, greatest_event_time: int) -> None:
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
            if stamped.epoch != epoch:
                continue
            self._open(stamped.pane, stamped.counters)
            if stamped.stamp >= start:
                self.skip[stamped.pane] = stamped.stamp
                self._skip_until = max(self._skip_until, stamped.stamp)
