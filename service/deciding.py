"""Waiting for what the ledger decides about commands: one look at the new events for all who wait."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import sqlalchemy as sa

from projections import queries
from projections.queries import decisions
from projections.queries.decisions import Key, Outcome

POLL_SECONDS: Final = 0.02


class Deciding:
    """Tells what the ledger decided, as soon as it is stored; reads nothing while nobody waits."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._waiting: defaultdict[Key, set[asyncio.Future[Outcome]]] = defaultdict(set)
        self._after = 0
        """The ledger position up to which those who wait have been told."""
        self._follower: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._closed = False

    async def known(self, key: Key) -> Outcome | None:
        """What the ledger has decided about a command; None when it has not."""
        return await asyncio.to_thread(self._known, key)

    def _known(self, key: Key) -> Outcome | None:
        with self._engine.connect() as connection:
            return decisions.outcome(connection, key)

    @asynccontextmanager
    async def expecting(self, key: Key) -> AsyncIterator[asyncio.Future[Outcome]]:
        """A future of the command's outcome, if that is stored after this call; raises there what keeps us from it."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        async with self._starting:
            if self._follower is None:
                self._after = await asyncio.to_thread(self._last)
                self._follower = asyncio.create_task(self._follow())
            self._waiting[key].add(future)
        try:
            yield future
        finally:
            self._waiting[key].discard(future)
            if not self._waiting[key]:
                del self._waiting[key]
            if not future.cancel() and not future.cancelled():
                future.exception()  # taken note of, even if nobody waited any more

    def _last(self) -> int:
        with self._engine.connect() as connection:
            return queries.ledger_position(connection)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if self._closed or not self._waiting:
                self._follower = None
                return
            try:
                self._after, decided = await asyncio.to_thread(self._since, self._after)
            except Exception as error:
                self._follower = None
                for future in [one for some in self._waiting.values() for one in some if not one.done()]:
                    future.set_exception(error)
                return
            for key, outcome in decided:
                for future in self._waiting.get(key, ()):
                    if not future.done():
                        future.set_result(outcome)

    def _since(self, after: int) -> tuple[int, list[tuple[Key, Outcome]]]:
        with self._engine.connect() as connection:
            return decisions.since(connection, after)

    async def close(self) -> None:
        """Look no more. A look that is under way ends first: its connection would come back to nobody."""
        self._closed = True
        if self._follower is not None:
            await self._follower
