"""Reads wait on the event loop for what they ask for with `min_position`, so that no thread is held meanwhile."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Depends, Request

from service.api.params import MinPosition
from service.lookout import Watch
from service.positions import LedgerReached
from service.reads import Reads, access
from service.reads.access import includes, not_reached, too_many

WAITERS: Final = 1_000
"""Reads of the ledger that may wait at the same time."""


class Positions:
    """Tells reads when the ledger's read models are where they want them. Used within one event loop."""

    def __init__(self, reads: Reads) -> None:
        self._partitions = reads.partitions
        self._watch: Watch[LedgerReached] = Watch(reads.ledger_seen)

    async def ledger(self, min_position: str) -> None:
        """Return once the ledger's read models include a position. Raises `Refusal` when that takes too long, and for
        what is no position."""
        holds = includes(min_position, self._partitions)
        if len(self._watch) >= WAITERS:
            if holds(await self._watch.now()):
                return
            raise too_many(WAITERS)
        try:
            await self._watch.until(holds, access.WAIT_SECONDS)
        except TimeoutError:
            raise not_reached(min_position) from None

    async def close(self) -> None:
        """Nobody waits any more."""
        await self._watch.close()


async def _ledger(request: Request, min_position: MinPosition = None) -> None:
    positions: Positions = request.app.state.positions
    if min_position is not None:
        await positions.ledger(min_position)


LedgerIncludes = Annotated[None, Depends(_ledger)]
"""The parameter `min_position` of a route that reads the ledger's read models: these include it."""
