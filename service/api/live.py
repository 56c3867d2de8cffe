"""Live balances and scores: one look at the ledger for all who follow it, each with a bounded queue.

Whoever comes back with a position gets what has changed since: what is recent from memory, what is older from the
tables. Values are absolute, so of many changes of one balance the last is enough.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Final

from aggregates.database import is_unavailable
from projections.queries.changes import Touched
from service.api import metrics
from service.api.live_changes import PAGE, Change, LiveChanges
from service.api.live_readers import AWAY_SECONDS, Batch, Ended, Interest, Subscription, batches
from service.instants import now_ms
from service.problems import Refusal
from service.settings import Settings

POLL_SECONDS: Final = 0.05
SEND_SECONDS: Final = 0.0002
"""About what it costs to send one batch to one reader. With many of them there is a look less often, so that sending
takes no more than about half of the event loop."""
RECENT: Final = 5_000
"""Changes kept in memory for those who come back."""
OLDER: Final = 2
"""So many readers at a time are told what is older; the others wait their turn."""
READERS: Final = 1_000
"""So many times an owner may follow at once: each reader has a file of the process, and a queue."""
EVERYTHING: Final = Interest()


class LiveEvents:
    """Tells all who follow what changes. One a process, used within one event loop; reads nothing while nobody does."""

    def __init__(self, settings: Settings, clock: Callable[[], int] = now_ms) -> None:
        """Over the database of `settings`, which is not reached for before somebody follows."""
        self._ledger = LiveChanges(settings.database, clock)
        self._readers: set[Subscription] = set()
        self._recent: deque[Change] = deque()
        self._since = 0
        """`_recent` has every change above this position, up to `position`."""
        self.position = 0
        """Everything up to here has been given to those who follow."""
        self._follower: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._turns = asyncio.Semaphore(OLDER)
        self._ended = False

    async def subscribe(
        self, interest: Interest = EVERYTHING, after: int | None = None, owner: str = ""
    ) -> Subscription:
        """Follow what changes from now on, or all that has changed since the ledger position `after`.

        `owner` is who follows; '' is anybody. Raises `Refusal` for a position that the ledger has not reached, for an
        owner who follows too often already, and when the server stops.
        """
        async with self._starting:
            if self._ended:
                raise Refusal("unavailable", "The server stops; follow again.", headers={"Retry-After": "1"})
            if owner and sum(one.owner == owner for one in self._readers) >= READERS:
                raise Refusal(
                    "too_many_requests",
                    f"The API key {owner} follows {READERS} times already; close some, and follow again.",
                    headers={"Retry-After": "10"},
                )
            if self._follower is None:
                await self._begin()
            if after is not None and after > self.position:
                await self._check_reached(after)
            reader = Subscription(self, interest, self.position if after is None else after, owner)
            self._readers.add(reader)
            metrics.LIVE_READERS.set(len(self._readers))
            reader.behind = not self.join(reader)
            if self._follower is None:
                self._follower = asyncio.create_task(self._follow())
            return reader

    def join(self, reader: Subscription) -> bool:
        """Give a reader what is recent, and from now on what comes; False while it is behind that."""
        if reader.position < self._since:
            return False
        reader.behind = False
        missed = [one for one in self._recent if one.seq > reader.position and reader.interest.wants(one)]
        reader.give(batches(missed, self.position))
        return True

    def leave(self, reader: Subscription) -> None:
        """Give a reader nothing more."""
        self._readers.discard(reader)
        metrics.LIVE_READERS.set(len(self._readers))

    def end(self) -> None:
        """End everybody's changes, for good: the server stops."""
        self._ended = True
        self._end_all(Ended("the server stops"))

    async def close(self) -> None:
        """The same, and give back the connections."""
        self.end()
        if self._follower is not None:  # not cancelled: its look would go on in its thread, on a connection of ours
            await asyncio.gather(self._follower, return_exceptions=True)
        self._ledger.close()

    async def touched(self, after: int, brand: str | None) -> tuple[list[Touched], int]:
        """Who has events in the next span above a position, and where the span ends."""
        async with self._turns:
            return await asyncio.to_thread(self._ledger.touched, after, brand)

    async def of_touched(self, some: Iterable[Touched]) -> list[Change]:
        """What these have now."""
        async with self._turns:
            return await asyncio.to_thread(self._ledger.of_touched, some)

    async def _begin(self) -> None:
        """Have what is recent in memory; nobody follows yet."""
        reached, _ = await asyncio.to_thread(self._ledger.positions)
        self._recent.clear()
        self._since = max(0, reached - PAGE)
        found, reached, _ = await asyncio.to_thread(self._ledger.page, self._since)
        self._remember(found, reached)

    async def _check_reached(self, after: int) -> None:
        _, last = await asyncio.to_thread(self._ledger.positions)
        if after > last:
            raise Refusal(
                "position_not_reached",
                f"last_event_id: {after} is ahead of the ledger, which is at {last}. Is it an id of another database?",
                headers={"Retry-After": "1"},
            )

    async def _follow(self) -> None:
        """Look for changes as long as anybody follows."""
        try:
            while self._readers and not self._ended:
                await asyncio.sleep(await self._look())
        except Exception as error:
            self._end_all(error)  # each reader raises it
        finally:
            self._follower = None

    async def _look(self) -> float:
        """Give everybody the next page of changes; how many seconds to wait then."""
        try:
            found, reached, is_all = await asyncio.to_thread(self._ledger.page, self.position)
        except Exception as error:
            if not is_unavailable(error):
                raise
            return AWAY_SECONDS
        self._remember(found, reached)
        return self._give(found) * SEND_SECONDS + (POLL_SECONDS if is_all else 0)

    def _remember(self, found: list[Change], reached: int) -> None:
        self.position = reached
        self._recent.extend(found)
        while len(self._recent) > RECENT:
            self._since = self._recent.popleft().seq

    def _give(self, found: list[Change]) -> int:
        """Put the changes in the queues of those who want them; how many batches that were."""
        by_brand: defaultdict[str | None, list[Change]] = defaultdict(list, {None: found})
        by_member: defaultdict[tuple[str | None, str], list[Change]] = defaultdict(list)
        for change in found:
            by_brand[change.brand].append(change)
            by_member[change.brand, change.member].append(change)
        wanted: dict[Interest, list[Batch]] = {}
        given = 0
        for reader in [one for one in self._readers if not one.behind]:
            interest = reader.interest
            if interest not in wanted:
                some = by_brand[interest.brand]
                if interest.member is not None:
                    some = by_member[interest.brand, interest.member]
                wanted[interest] = batches([one for one in some if interest.wants(one)], self.position)
            given += reader.give(wanted[interest])
        return given

    def _end_all(self, error: Exception) -> None:
        for reader in list(self._readers):
            reader.end(error)
