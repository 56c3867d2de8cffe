"""So many requests a second for each API key, and no more than a second's worth at once."""

from __future__ import annotations

from typing import Final

SECOND_NS: Final = 1_000_000_000


class RateLimit:
    """A token bucket for each name, kept as the one instant at which it will be full again."""

    def __init__(self, per_second: int) -> None:
        """0: no limit."""
        self._each_ns = SECOND_NS // per_second if per_second else 0
        self._full_at: dict[str, int] = {}

    def wait_ns(self, name: str, now_ns: int) -> int:
        """Take one request out of the bucket: 0; or, when it is empty, the nanoseconds until one is in it.

        `now_ns` is of a clock that never goes back. Names are few: those of keys that are good.
        """
        full_at = max(self._full_at.get(name, 0), now_ns)
        wait = full_at + self._each_ns - SECOND_NS - now_ns
        if wait > 0:
            return wait
        self._full_at[name] = full_at + self._each_ns
        return 0
