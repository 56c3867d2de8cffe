"""One look at how far things are, for all who wait for it, in threads or on an event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from threading import Condition
from typing import Final, Generic, TypeVar

Seen = TypeVar("Seen")

EVERY_SECONDS: Final = 0.02
"""How long those who wait leave between one look and the next."""
STUCK_SECONDS: Final = 5.0
"""How long an event loop's look waits for that of a thread before it takes one of its own."""


class Lookout(Generic[Seen]):
    """Shares what one of them sees between all threads that wait for something to be so.

    A look that began before the question is no answer to it: what its asker has done may be missing there. Whoever
    finds nobody looking looks, for itself and for all others. Safe to share between threads.
    """

    def __init__(self, look: Callable[[], Seen]) -> None:
        """`look` reads how far things are; what it raises reaches the thread that looked."""
        self._look = look
        self._changed = Condition()
        self._begun = 0
        self._last: tuple[int, Seen] | None = None
        self._is_looking = False

    def first(self, deadline: float) -> tuple[int, Seen]:
        """What a look that begins from now on sees, and its number. Waits until `deadline` (`time.monotonic`) for the
        look of another thread; past it, looks itself."""
        with self._changed:
            return self._after(self._begun, deadline)

    def next(self, number: int, deadline: float) -> tuple[int, Seen]:
        """As `first`, but a later look than `number`, and not before it is due."""
        with self._changed:
            due = min(time.monotonic() + EVERY_SECONDS, deadline)
            self._changed.wait_for(lambda: self._number() > number, due - time.monotonic())
            return self._after(number, deadline)

    def _number(self) -> int:
        return 0 if self._last is None else self._last[0]

    def _after(self, number: int, deadline: float) -> tuple[int, Seen]:
        """The last look if it is later than `number`, else one of this thread. The lock is held."""
        while self._last is None or self._last[0] <= number:
            left = deadline - time.monotonic()
            if not self._is_looking or left <= 0:
                return self._look_now()
            self._changed.wait(left)
        return self._last

    def _look_now(self) -> tuple[int, Seen]:
        self._begun += 1
        number, self._is_looking = self._begun, True
        self._changed.release()
        try:
            seen = self._look()
        finally:
            self._changed.acquire()
            self._is_looking = False
            self._changed.notify_all()
        if self._last is None or number > self._last[0]:
            self._last = (number, seen)
        return number, seen


class Watch(Generic[Seen]):
    """Has one thread look for all who wait on an event loop; looks at nothing while nobody does."""

    def __init__(self, lookout: Lookout[Seen]) -> None:
        self._lookout = lookout
        self._waiting: dict[asyncio.Future[Seen], Callable[[Seen], bool]] = {}
        self._watcher: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    async def until(self, holds: Callable[[Seen], bool], seconds: float) -> Seen:
        """What was seen when it held. `holds` is called with each look in turn. Raises TimeoutError, what `holds`
        raises, and what keeps the look from being taken."""
        future: asyncio.Future[Seen] = asyncio.get_running_loop().create_future()
        self._waiting[future] = holds
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch())
        try:
            async with asyncio.timeout(seconds):
                return await future
        finally:
            self._waiting.pop(future, None)

    async def now(self) -> Seen:
        """What a look that begins now sees."""
        return (await asyncio.to_thread(self._lookout.first, time.monotonic() + STUCK_SECONDS))[1]

    async def _watch(self) -> None:
        try:
            while self._waiting:
                await self._look(dict(self._waiting))  # whoever comes meanwhile is told by the next look
                await asyncio.sleep(0)  # those who were told go
                if self._waiting:
                    await asyncio.sleep(EVERY_SECONDS)
        finally:
            self._watcher = None

    async def _look(self, asked: Mapping[asyncio.Future[Seen], Callable[[Seen], bool]]) -> None:
        try:
            seen = await self.now()
        except Exception as error:
            for future in asked:
                if not future.done():  # nobody who was given up meanwhile
                    future.set_exception(error)
            return
        for future, holds in asked.items():
            try:
                if holds(seen) and not future.done():
                    future.set_result(seen)
            except Exception as error:
                if not future.done():
                    future.set_exception(error)

    async def close(self) -> None:
        """Nobody waits any more; a look that is under way ends first: its connection would come back to nobody."""
        for future in self._waiting:
            future.cancel()
        self._waiting.clear()
        if self._watcher is not None:
            await self._watcher
