"""Which records were seen lately: a bounded set of ids that is a function of the partition's log alone."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import Final

HORIZON_OFFSETS: Final = 500_000
HORIZON_MS: Final = 24 * 3_600_000


def identity(record_type: str, brand: str, member: str, event_id: str) -> bytes:
    """What makes two records the same: 16 bytes for record type, brand, member and event id."""
    return blake2b(f"{record_type}\0{brand}\0{member}\0{event_id}".encode(), digest_size=16).digest()


class Recent:
    """The ids of all records not rejected within the last 500,000 offsets and 24 hours of record time.

    Both limits hold, so memory is bounded by the offsets. Record time is the greatest record timestamp so far.
    """

    __slots__ = ("_seen", "greatest_time")

    def __init__(self, greatest_time: int = 0) -> None:
        self._seen: OrderedDict[bytes, tuple[int, int]] = OrderedDict()
        self.greatest_time = greatest_time

    def __len__(self) -> int:
        return len(self._seen)

    def tick(self, timestamp: int) -> None:
        """Take note of a record's timestamp (epoch milliseconds), rejected or not."""
        if timestamp > self.greatest_time:
            self.greatest_time = timestamp

    def add(self, ident: bytes, offset: int, timestamp: int) -> bool:
        """Note a record that is not rejected; True when its id was seen within the horizon. Renews the id."""
        seen = self._seen
        before = seen.pop(ident, None)
        seen[ident] = (offset, timestamp)
        while seen:
            oldest = next(iter(seen.values()))
            if oldest[0] > offset - HORIZON_OFFSETS and oldest[1] > self.greatest_time - HORIZON_MS:
                break
            seen.popitem(last=False)
        return (
            before is not None and before[0] > offset - HORIZON_OFFSETS and before[1] > self.greatest_time - HORIZON_MS
        )
