"""Which records were seen lately: a bounded set of ids that is a function of the partition's log alone."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import Final

HORIZON_OFFSETS: Final = 500_000


def identity(record_type: str, brand: str, member: str, event_id: str) -> bytes:
    """What makes two records the same: 16 bytes for record type, brand, member and event id."""
    return blake2b(f"{record_type}\0{brand}\0{member}\0{event_id}".encode(), digest_size=16).digest()


def tail_start(position: int) -> int:
    """The first offset that still matters to a record at `position` or later."""
    return max(0, position - HORIZON_OFFSETS + 1)


class Recent:
    """The ids of all records not rejected within the last 500,000 offsets of a partition.

    Timestamps play no part: they are the publishers' to set, and one wrong clock must not switch this off.
    """

    __slots__ = ("_oldest", "_seen")

    def __init__(self) -> None:
        self._oldest = -1
        """No offset here is smaller."""
        self._seen: OrderedDict[bytes, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def has(self, ident: bytes, offset: int) -> bool:
        """Whether `add` would be True; notes nothing."""
        before = self._seen.get(ident)
        return before is not None and before > offset - HORIZON_OFFSETS

    def add(self, ident: bytes, offset: int) -> bool:
        """Note a record that is not rejected; True when its id was seen within the horizon. Renews the id."""
        seen = self._seen
        before = seen.pop(ident, None)
        seen[ident] = offset
        start = offset - HORIZON_OFFSETS + 1
        if self._oldest < start:
            while (oldest := next(iter(seen.values()))) < start:
                seen.popitem(last=False)
            self._oldest = oldest
        return before is not None and before >= start
