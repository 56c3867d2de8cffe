"""One reader of live events: what it wants, its bounded queue, and what it missed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import islice, zip_longest
from typing import Final, NamedTuple, Protocol

from aggregates.database import is_unavailable
from projections.queries.changes import Touched
from service.api import metrics
from service.api.live_changes import BALANCE, STANDING, Change

BATCH: Final = 100
"""Changes that are handed on at once: some 40 kB."""
LIMIT: Final = 10_000
"""With more changes than these in its queue a reader is dropped when the next come."""
AWAY_SECONDS: Final = 1.0
"""How long a database that is away is left alone."""
KINDS: Final = frozenset({BALANCE, STANDING})


class Interest(NamedTuple):
    """Which changes a reader wants; None is all."""

    brand: str | None = None
    member: str | None = None
    """Of the brand, which must be named with it."""
    campaign: str | None = None
    """Scores in this campaign of the brand, and nothing else: balances belong to no campaign."""
    kinds: frozenset[str] = KINDS

    def wants(self, change: Change) -> bool:
        """Whether a change is one of these."""
        return (
            change.kind in self.kinds
            and self.brand in (None, change.brand)
            and self.member in (None, change.member)
            and self.campaign in (None, change.campaign)
        )


class Batch:
    """Some changes in the order of their positions, shared by all readers who want the same."""

    def __init__(self, some: Sequence[Change], position: int, before: int | None = None) -> None:
        """`position`: whoever has the batch has all up to there; whoever has a part of it has all up to `before`.

        Without `before`, that is told by the positions of the changes themselves.
        """
        self.changes = some
        self.position = position
        self._before = before

    @cached_property
    def frames(self) -> bytes:
        """As server-sent events. The id of each is a position that it is safe to come back with."""
        if not self.changes:
            return f": nothing new\nid: {self.position}\n\n".encode()
        parts = []
        for change, following in zip_longest(self.changes, self.changes[1:]):
            at = self.position if following is None else self._before
            if at is None:
                at = min(change.seq, following.seq - 1)
            parts.append(f"event: {change.kind}\nid: {at}\ndata: {change.json}\n\n")
        return "".join(parts).encode()


def batches(found: Sequence[Change], position: int, before: int | None = None) -> list[Batch]:
    """The changes in batches; `position` and `before` as of a `Batch` of all."""
    made = []
    for start in range(0, len(found), BATCH):
        end = start + BATCH
        reached = position
        if end < len(found):
            reached = min(found[end - 1].seq, found[end].seq - 1) if before is None else before
        made.append(Batch(found[start:end], reached, before))
    return made


class Dropped(Exception):
    """The reader was slower than what happened; it can come back with the position it has."""


class Ended(Exception):
    """The server stops."""


class Source(Protocol):
    """What a reader needs of `LiveEvents`."""

    position: int
    """Everything up to here has been given to those who follow."""

    def join(self, reader: Subscription) -> bool:
        """Give a reader what is recent, and from now on what comes; False while it is behind that."""

    def leave(self, reader: Subscription) -> None:
        """Give a reader nothing more."""

    async def touched(self, after: int, brand: str | None) -> tuple[list[Touched], int]:
        """Who has events in the next span above a position, and where the span ends."""

    async def of_touched(self, some: Iterable[Touched]) -> list[Change]:
        """What these have now."""


class Subscription:
    """One reader's changes, as an async iterator or by `take`. Used by one task, which closes it at the end."""

    def __init__(self, source: Source, interest: Interest, after: int, owner: str = "") -> None:
        """Made by `LiveEvents.subscribe`."""
        self.interest = interest
        self.owner = owner
        self.position = after
        """The reader has been given all up to here."""
        self.behind = False
        """Whether what it is given comes from the tables still."""
        self._source = source
        self._queue: deque[Batch] = deque()
        self._changes = 0
        """In the queue."""
        self._came = asyncio.Event()
        self._end: Exception | None = None
        self._older: deque[Touched] = deque()
        self._span_end = after
        self._single: deque[Change] = deque()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Change:
        """The next change. Raises like `take`, but for `Ended`, which ends the iteration."""
        while not self._single:
            try:
                batch = await self.take()
            except Ended:
                raise StopAsyncIteration from None
            self._single.extend(batch.changes if batch is not None else ())
        return self._single.popleft()

    async def take(self, seconds: float | None = None) -> Batch | None:
        """The next changes; None when none came for so long. A batch without changes only moves the position.

        Raises `Dropped` or `Ended`, or what keeps the changes from being read.
        """
        while not self._queue and self._end is None and self.behind:
            await self._fetch_older()
        if not self._queue and self._end is None and not await self._wait(seconds):
            self.position = max(self.position, self._source.position)  # nothing waits, so it has all
            return None
        if not self._queue:
            assert self._end is not None
            raise self._end
        batch = self._queue.popleft()
        self._changes -= len(batch.changes)
        self.position = batch.position
        return batch

    async def _wait(self, seconds: float | None) -> bool:
        """Whether anything came."""
        self._came.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._came.wait()
        except TimeoutError:
            return False
        return True

    def give(self, some: Sequence[Batch]) -> int:
        """Put batches in the queue, or drop the reader when that is full. How many were put there."""
        if not some:
            return 0
        if self._changes > LIMIT:
            metrics.LIVE_DROPPED.inc()
            self.end(Dropped(f"more than {LIMIT} changes wait"))
            return 0
        self._queue.extend(some)
        self._changes += sum(len(batch.changes) for batch in some)
        self._came.set()
        return len(some)

    def end(self, error: Exception) -> None:
        """Raise this at the next `take`; what waits is let go, so that a reader who stands still costs nothing."""
        self._end = self._end or error
        self._queue.clear()
        self._changes = 0
        self._source.leave(self)
        self._came.set()

    def close(self) -> None:
        """Follow no more."""
        self._source.leave(self)

    async def _fetch_older(self) -> None:
        """Join those who are up to date, or put what was missed next in the queue. Outwaits an absent database."""
        try:
            if not self._older:
                if self._source.join(self):
                    return
                touched, self._span_end = await self._source.touched(self.position, self.interest.brand)
                self._older.extend(touched)
            some = list(islice(self._older, BATCH))
            found = [one for one in await self._source.of_touched(some) if self.interest.wants(one)] if some else []
        except Exception as error:
            if not is_unavailable(error):
                raise
            await asyncio.sleep(AWAY_SECONDS)
            return
        for _ in some:
            self._older.popleft()
        before = self.position
        position = before if self._older else self._span_end  # in between, who is still to come may have changed before
        self._queue.extend(batches(found, position, before) if found else (Batch((), position),))
        self._changes += len(found)
