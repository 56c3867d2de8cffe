"""One look at how far things are, for all who wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Condition
from typing import Final, Generic, TypeVar

Seen = TypeVar("Seen")

EVERY_SECONDS: Final = 0.02
"""How long those who wait leave between one look and the next."""


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
