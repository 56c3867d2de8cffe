"""The open panes of one source partition: counting, what is dirty, and what may leave memory.

A pane leaves memory when event time has passed it by the grace and it is flushed; a segment of late records when its
block of offsets has passed. So memory holds the panes of the grace and of one block, whatever the log brings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from aggregates.engagement import ON_TIME, SEGMENT_OFFSETS, Counters, Span, Subject, block_of
from schemas.topics import TIERS, WINDOWS
from streams.panes import Name, PaneCodec, Record, Shared

LONGEST = (1 << 63) - 1
"""A counter stays within 64 bits: absurd quantities must not make a pane that cannot be written."""


class _Bucket:
    """The panes of one span, which leave memory together."""

    __slots__ = ("dirty", "panes", "skip", "stamps")

    def __init__(self) -> None:
        self.panes: dict[Name, Counters] = {}
        self.dirty: dict[Name, Counters] = {}
        """Those that changed since the last flush; they join `panes`, or take their place there, with the next."""
        self.stamps: dict[Name, int] = {}
        """The last offset that recovered counters include: up to it nothing is added to them again."""
        self.skip = -1
        """The greatest of these."""


class PaneStore:
    """Panes by span and name: hashing keys is most of what counting costs, and a record's panes share two spans."""

    def __init__(self, epoch: str, partition: int, grace_ms: int) -> None:
        self._buckets: dict[Span, _Bucket] = {}
        self._dirty: dict[Span, _Bucket] = {}
        self._codec = PaneCodec(epoch, partition)
        self.name: Final[Callable[[Subject], Name]] = self._codec.name
        """What `add` wants a subject to be called."""
        self._grace_ms = grace_ms

    def __len__(self) -> int:
        new = sum(name not in bucket.panes for bucket in self._dirty.values() for name in bucket.dirty)
        return new + sum(len(bucket.panes) for bucket in self._buckets.values())

    @property
    def spans(self) -> list[Span]:
        """Of the panes in memory."""
        return list(self._buckets)

    def add(self, span: Span, names: Iterable[Name], added: Shared, offset: int) -> None:
        """Add to the counters of each named pane what the record at `offset` brings."""
        bucket = self._buckets.get(span)
        if bucket is None:
            bucket = self._buckets[span] = _Bucket()
        self._dirty[span] = bucket
        panes, dirty, stamps = bucket.panes, bucket.dirty, bucket.stamps
        for name in names:
            counters = dirty.get(name)
            if counters is None:
                counters = panes.get(name)
                if counters is None:
                    dirty[name] = added
                    continue
            if stamps and offset <= stamps.get(name, -1):
                continue
            if counters.__class__ is Shared:
                counters = counters.copy()
            for counter, amount in added.items():
                total = counters.get(counter, 0) + amount
                counters[counter] = total if -LONGEST <= total <= LONGEST else LONGEST if total > 0 else -LONGEST
            dirty[name] = counters

    def take_dirty(self, stamp: int) -> dict[str, list[Record]]:
        """The records of all dirty panes by topic, as of the source offset `stamp`; nothing is dirty after it."""
        windows: list[Record] = []
        tiers: list[Record] = []
        for span, bucket in self._dirty.items():
            of_windows, of_tiers = self._codec.write(span, bucket.dirty, stamp)
            windows += of_windows
            tiers += of_tiers
            bucket.panes.update(bucket.dirty)
            bucket.dirty = {}
        self._dirty = {}
        return {topic: records for topic, records in ((WINDOWS, windows), (TIERS, tiers)) if records}

    def let_go(self, greatest_event_time: int, position: int) -> None:
        """After the flush of `position`, at which event time stood there: forget the panes that it completed."""
        is_open = self._is_open(greatest_event_time, position)
        for span, bucket in list(self._buckets.items()):
            if span not in self._dirty and bucket.skip < position and not is_open(span):
                del self._buckets[span]

    def recover(self, written: Mapping[bytes, bytes], start: int, greatest_event_time: int) -> None:
        """Take over the panes of an output partition that are still open, or ahead of `start`, by key and value."""
        is_open = self._is_open(greatest_event_time, start)
        for name, span, stamp, counters in self._codec.read(written, is_open, start):
            bucket = self._buckets.get(span)
            if bucket is None:
                bucket = self._buckets[span] = _Bucket()
            bucket.panes[name] = counters
            if stamp >= start:
                bucket.stamps[name] = stamp
                bucket.skip = max(bucket.skip, stamp)

    def _is_open(self, greatest_event_time: int, position: int) -> Callable[[Span], bool]:
        """Whether a pane may still change by records from `position` on, before which event time stood there."""
        passed, block = greatest_event_time - self._grace_ms, position // SEGMENT_OFFSETS

        def is_open(span: Span) -> bool:
            starts_at, length_ms, segment = span
            return starts_at + length_ms > passed if segment == ON_TIME else block_of(segment) >= block

        return is_open
