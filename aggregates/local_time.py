"""A brand's local time: which day, week and month an instant lies in, and when a day begins there."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_MS: Final = 86_400_000
_QUARTER_MS: Final = 900_000


class LocalDay(NamedTuple):
    """A calendar day, and its name and those of its ISO week and its month."""

    date: date
    day: str
    """`2026-03-10`"""
    week: str
    """`2026-W11`"""
    month: str
    """`2026-03`"""


def local(at: int, timezone: str) -> datetime:
    """An instant as date and time in an IANA timezone, to the second."""
    return datetime.fromtimestamp(at // 1000, ZoneInfo(timezone))


def local_day(at: int, timezone: str) -> LocalDay:
    """The calendar day of an instant in an IANA timezone."""
    for until, day in _days(timezone, at // _DAY_MS):
        if at < until:
            return day
    raise AssertionError("the last stretch ends with the day")


@lru_cache(maxsize=4096)
def _days(timezone: str, utc_day: int) -> tuple[tuple[int, LocalDay], ...]:
    """The calendar days of a UTC day by the instant up to which they last.

    Kept because a datetime for each event took a sixth of the ledger's time. A day need not end at midnight, nor
    only once: where clocks go back at 00:01, its first minute comes before the last hour of the day before.
    """
    start, end = utc_day * _DAY_MS, (utc_day + 1) * _DAY_MS
    samples = [at for quarter in range(start, end, _QUARTER_MS) for at in (quarter, quarter + _QUARTER_MS - 1000)]
    stretches, today = [], local(start, timezone).date()
    for before, at in pairwise(samples):
        if (other := local(at, timezone).date()) != today:
            stretches.append((_first_after(today, before, at, timezone), _named(today)))
            today = other
    return (*stretches, (end, _named(today)))


def _first_after(day: date, low: int, high: int, timezone: str) -> int:
    """The first instant after `low`, which lies in `day`, that does not, as `high`; by halves, to the second."""
    while high - low > 1000:
        middle = (low + high) // 2000 * 1000
        if local(middle, timezone).date() == day:
            low = middle
        else:
            high = middle
    return high


def _named(day: date) -> LocalDay:
    year, week, _ = day.isocalendar()
    return LocalDay(day, f"{day:%Y-%m-%d}", f"{year}-W{week:02d}", f"{day:%Y-%m}")


def start_of_day(day: date, timezone: str) -> int:
    """The first instant of a calendar day, also where the clock skips midnight."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(timezone))
    return (midnight - _EPOCH) // timedelta(milliseconds=1)
