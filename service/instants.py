"""What time it is, and how times and positions are written by those who ask, and refused when they are not."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from schemas.validate import END_OF_TIME
from service.problems import Refusal

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LOST_PLUS: Final = re.compile(r"(\d) (\d\d:?\d\d)$")
_NUMBER: Final = re.compile(r"\d{1,18}", re.ASCII)
_OFFSETS: Final = re.compile(r"\d{1,9}:\d{1,18}(,\d{1,9}:\d{1,18}){0,1023}", re.ASCII)


def now_ms() -> int:
    """The wall clock in epoch milliseconds."""
    return time.time_ns() // 1_000_000


class Wanted(NamedTuple):
    """A position to wait for: a ledger notification id, or the last offset by partition of the activity log."""

    notification: int
    offsets: dict[int, int]


def instant(text: str, name: str) -> int:
    """The epoch milliseconds of an ISO 8601 time with zone, within those that a record can have.

    Raises `Refusal` naming the parameter `name`.
    """
    clean = text.strip()
    try:  # a URL's unescaped + arrives as a space
        parsed = datetime.fromisoformat(_LOST_PLUS.sub(r"\1+\2", clean))
    except ValueError:
        raise _not_a_time(text, name) from None
    if len(clean) <= 10:
        raise _not_a_time(text, name)
    if parsed.tzinfo is None:
        raise Refusal("invalid_time", f"{name}: `{text}` has no zone; write it with one, such as {clean}Z", field=name)
    return min(max((parsed - _EPOCH) // timedelta(milliseconds=1), 0), END_OF_TIME - 1)


def _not_a_time(text: str, name: str) -> Refusal:
    return Refusal(
        "invalid_time", f"{name}: `{text}` is not a time; write it as 2026-03-01T00:00:00Z, with a zone", field=name
    )


def wanted(text: str) -> Wanted:
    """A position: the number or the `partition:offset,…` of an answer, or `partition:offset` of a published record.

    An offset is always the last one included, so a record's own offset asks for a state with that record in it.
    Raises `Refusal` for anything else.
    """
    clean = text.strip()
    if _NUMBER.fullmatch(clean):
        return Wanted(int(clean), {})
    if _OFFSETS.fullmatch(clean):
        pairs = (pair.split(":") for pair in clean.split(","))
        return Wanted(0, {int(partition): int(offset) for partition, offset in pairs})
    raise Refusal(
        "invalid_position",
        f"min_position: `{text}` is not a position; give the `position` of an answer, or partition:offset of a record",
        field="min_position",
    )
