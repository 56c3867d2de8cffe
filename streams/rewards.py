"""Batches of accepted records of a partition on their way into the ledger, in order.

The ledger is at work while the next chunk is decoded; the chunks that come meanwhile are its next batch, so that under
load batches grow and no record waits behind many small commits. Whoever submits waits, so no more than a few chunks are
ever in memory.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple

from aggregates.activity import Activity
from aggregates.ledger import Batch, Ledger, Source
from streams.commits import MOST_ACTIVITIES, Commits

WAITING = 2
"""Batches of one partition that may wait for the ledger."""


class _Part(NamedTuple):
    """What one chunk brings."""

    position: int
    """The next offset before it."""
    end: int
    activities: Sequence[Activity]


class _Waiting(NamedTuple):
    """A batch that is not known to be stored."""

    position: int
    """The next offset before it."""
    stored: Future[None]


class Rewards:
    """The ledger's end of one owned partition."""

    def __init__(
        self,
        ledger: Ledger,
        source: Source,
        position: int,
        writer: str,
        clock: Callable[[], int],
        commits: Commits | None = None,
    ) -> None:
        self.position = position
        """The next offset the ledger has not been given."""
        self._ledger = ledger
        self._source = source
        self._writer = writer
        self._clock = clock
        self._commits = commits
        self._number = 0
        """Of the batch that was stored last, or is being stored."""
        self._next: list[_Part] = []
        """What the next batch takes: all that came while the ledger was at the one before."""
        self._turn = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._given_up = threading.Event()

    def submit(self, activities: Sequence[Activity], end: int) -> None:
        """Hand on what the ledger has not had yet of the records before `end`. Without `commits`: store it at once."""
        position = self.position
        if end <= position:
            return
        new = activities
        if activities and activities[0].offset < position:
            new = [activity for activity in activities if activity.offset >= position]
        self.position = end
        part = _Part(position, end, new)
        with self._turn:
            if self._next and sum(len(one.activities) for one in self._next) + len(new) <= MOST_ACTIVITIES:
                self._next.append(part)
                return
            parts = self._next = [part]
        if self._commits is None:
            self._ledger.consume(self._batch(parts))
        else:
            stored = self._commits.submit(partial(self._batch, parts), self._given_up)
            self._waiting.append(_Waiting(position, stored))

    def _batch(self, parts: list[_Part]) -> Batch:
        """What waits, as one batch; from now on nothing is added to it."""
        with self._turn:
            if self._next is parts:
                self._next = []
        self._number += 1
        activities = parts[0].activities if len(parts) == 1 else [a for part in parts for a in part.activities]
        position, end = parts[0].position, parts[-1].end
        return Batch(self._source, position, end, activities, self._clock(), self._writer, self._number)

    async def settle(self, leave: int = 0) -> None:
        """Wait until at most `leave` batches are not stored. Raises what a batch failed with, e.g. `Fenced`."""
        while self._waiting and (len(self._waiting) > leave or self._waiting[0].stored.done()):
            first = self._waiting[0]
            await asyncio.shield(asyncio.wrap_future(first.stored))
            if self._waiting and self._waiting[0] is first:
                self._waiting.popleft()

    async def settle_before(self, end: int) -> None:
        """Wait until all that was submitted of the records before `end` is stored. Raises as `settle` does."""
        for batch in list(self._waiting):
            if batch.position < end:
                await asyncio.shield(asyncio.wrap_future(batch.stored))

    def give_up(self) -> None:
        """Stop trying; the partition is somebody else's now, or nobody's."""
        self._given_up.set()
