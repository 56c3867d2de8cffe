"""The open panes of one source partition: counting, what is dirty, and what may leave memory.

A pane leaves memory when event time has passed it by the grace and it is flushed; a segment of late records when its
block of offsets has passed. So memory holds the panes of the grace and of one block, whatever the log brings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aggregates.engagement import ON_TIME, SCOPES, SEGMENT_OFFSETS, TIER_SCOPES, Counters, Span, Subject, block_of
from schemas.topics import TIERS, WINDOWS
from streams.panes import PaneCodec, Record, place_of, stamp_of

LONGEST = (1 << 63) - 1
"""A counter stays within 64 bits: absurd quantities must not make a pane that cannot be written."""


class Open:
    """A pane in memory."""

    __slots__ = ("counters", "is_dirty", "skip")

    def __init__(self, counters: Counters, skip: int = -1) -> None:
        self.counters = counters
        self.is_dirty = False
        self.skip = skip
        """The last offset that the counters included when they were recovered: up to it nothing is added again."""


class _Bucket:
    """The panes of one span, which leave memory together."""

    __slots__ = ("dirty", "dirty_tiers", "panes", "skip")

    def __init__(self) -> None:
        self.panes: dict[Subject, Open] = {}
        self.dirty: list[tuple[Subject, Open]] = []
        self.dirty_tiers: list[tuple[Subject, Open]] = []
        """Those that go to the topic of tiers."""
        self.skip = -1


class PaneStore:
    """Panes by span and subject: hashing keys is most of what counting costs, and a record's panes share two spans."""

    def __init__(self, epoch: str, partition: int, grace_ms: int) -> None:
        self._buckets: dict[Span, _Bucket] = {}
        self._dirty: dict[Span, _Bucket] = {}
        self._epoch = epoch
        self._codec = PaneCodec(epoch, partition)
        self._grace_ms = grace_ms

    def __len__(self) -> int:
        return sum(len(bucket.panes) for bucket in self._buckets.values())

    @property
    def spans(self) -> list[Span]:
        """Of the panes in memory."""
        return list(self._buckets)

    def add(self, span: Span, subjects: Iterable[Subject], added: Mapping[str, int], offset: int) -> None:
        """Add to the counters of each subject's pane what the record at `offset` brings."""
        bucket = self._buckets.get(span)
        if bucket is None:
            bucket = self._buckets[span] = _Bucket()
        panes = bucket.panes
        self._dirty[span] = bucket
        for subject in subjects:
            one = panes.get(subject)
            if one is None:
                one = panes[subject] = Open({**added})
            elif offset > one.skip:
                counters = one.counters
                for name, amount in added.items():
                    total = counters.get(name, 0) + amount
                    counters[name] = total if -LONGEST <= total <= LONGEST else LONGEST if total > 0 else -LONGEST
            else:
                continue
            if not one.is_dirty:
                one.is_dirty = True
                (bucket.dirty_tiers if subject[0] in TIER_SCOPES else bucket.dirty).append((subject, one))

    def take_dirty(self, stamp: int) -> dict[str, list[Record]]:
        """The records of all dirty panes by topic, as of the source offset `stamp`; nothing is dirty after it."""
        windows: list[Record] = []
        tiers: list[Record] = []
        for span, bucket in self._dirty.items():
            for topic, dirty in ((windows, bucket.dirty), (tiers, bucket.dirty_tiers)):
                topic += self._codec.write(span, [(subject, one.counters) for subject, one in dirty], stamp)
                for _, one in dirty:
                    one.is_dirty = False
                dirty.clear()
        self._dirty = {}
        return {topic: records for topic, records in ((WINDOWS, windows), (TIERS, tiers)) if records}

    def let_go(self, greatest_event_time: int, position: int) -> None:
        """After the flush of `position`, at which event time stood there: forget the panes that it completed."""
        passed = greatest_event_time - self._grace_ms
        block = position // SEGMENT_OFFSETS
        for span, bucket in list(self._buckets.items()):
            starts_at, length_ms, segment = span
            is_complete = starts_at + length_ms <= passed if segment == ON_TIME else block_of(segment) < block
            if is_complete and span not in self._dirty and bucket.skip < position:
                del self._buckets[span]

    def recover(self, written: Mapping[bytes, bytes], start: int, greatest_event_time: int) -> None:
        """Take over the panes of an output partition that are still open, or ahead of `start`, by key and value."""
        passed = greatest_event_time - self._grace_ms
        block = start // SEGMENT_OFFSETS
        for key, value in written.items():
            scope, starts_at, segment = place_of(key)
            if segment == ON_TIME:
                is_open = scope in SCOPES and starts_at + SCOPES[scope].length_ms > passed
            else:
                is_open = block_of(segment) >= block
            if not is_open and stamp_of(value)[1] < start:
                continue
            stamped = self._codec.read(key, value)
            if stamped.epoch == self._epoch:
                bucket = self._buckets.get(stamped.span)
                if bucket is None:
                    bucket = self._buckets[stamped.span] = _Bucket()
                bucket.panes[stamped.subject] = Open(stamped.counters, stamped.stamp)
                bucket.skip = max(bucket.skip, stamped.stamp)
