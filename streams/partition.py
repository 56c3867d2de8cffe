"""One source partition: the rule for which chunk may be applied, and the one order in which results become durable."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from aggregates.ledger import Source
from streams.fold import Fold
from streams.outputs import WHAT_TO_DO, LogLost, Records
from streams.readstate import Delta
from streams.transport import Chunk


class Applied(Enum):
    """What became of a chunk."""

    DONE = "done"
    STALE = "stale"
    """Fetched before the last seek, or by a former owner: dropped."""
    GAP = "gap"
    """It does not continue the position: the partition must be sought again."""


@dataclass(slots=True, frozen=True)
class Flush:
    """Everything that must be durable before the read-state may say `position`."""

    position: int
    records: Records
    """Panes, tiers and dead letters by topic, stamped with the offset before `position`."""
    delta: Delta


class Partition:
    """Position and fold of one owned partition."""

    def __init__(self, source: Source, start: int, fold: Fold) -> None:
        self.source = source
        self.next = start
        """The next offset to apply."""
        self.saved = start
        """The position of the last durable flush."""
        self.fold = fold

    def apply(self, chunk: Chunk, epoch: int) -> Applied:
        """Fold a chunk if it is the partition's next one. Raises `LogLost` and what the fold raises."""
        if chunk.epoch != epoch:
            return Applied.STALE
        if chunk.start != self.next:
            return Applied.GAP
        first = chunk.records[0].offset
        if first < self.next:
            raise LogLost(
                f"{self.source.topic} partition {self.source.partition}: offset {first} came where {self.next} was "
                f"next. {WHAT_TO_DO}"
            )
        end = chunk.records[-1].offset + 1
        self.fold.apply(chunk.records, end)
        self.next = end
        return Applied.DONE

    @property
    def is_flushed(self) -> bool:
        """Whether nothing is left to write."""
        return self.next == self.saved

    def begin_flush(self) -> Flush:
        """Take what changed since the last flush, as of the position reached now."""
        records, delta = self.fold.take(self.saved, self.next)
        return Flush(self.next, records, delta)

    async def finish_flush(
        self, flush: Flush, write: Callable[[Flush], Awaitable[None]], save: Callable[[Flush], Awaitable[None]]
    ) -> None:
        """Make it durable, after the ledger. Chunks may be applied meanwhile, but no other flush may begin.

        `write` returns once the output topics have acknowledged panes and dead letters; only then `save` writes the
        read-state. Were it the other way round, a crash in between would resume behind panes that nobody has.
        """
        await self.fold.settle_before(flush.position)
        await write(flush)
        await save(flush)
        self.saved = flush.position
        self.fold.flushed(flush.delta)
