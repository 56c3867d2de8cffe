"""Local days: the kept answers are those of the time-zone library, wherever and whenever clocks change."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aggregates.local_time import local, local_day

ODD = (
    "UTC", "Europe/Paris", "America/Sao_Paulo", "America/St_Johns", "America/Havana", "Africa/Monrovia", "Asia/Tehran",
    "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia", "Pacific/Chatham", "America/Anchorage", "Africa/Cairo",
)  # fmt: skip


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def plain(at: int, timezone: str) -> tuple[str, str, str]:
    there = local(at, timezone)
    year, week, _ = there.isocalendar()
    return f"{there:%Y-%m-%d}", f"{year}-W{week:02d}", f"{there:%Y-%m}"


def assert_as_plain(at: int, timezone: str) -> None:
    found = local_day(at, timezone)
    assert (found.day, found.week, found.month) == plain(at, timezone)
    assert found.date == local(at, timezone).date()


@given(st.integers(0, ms("2100-01-01")), st.sampled_from(ODD))
@example(ms("2026-01-01"), "UTC")
@example(ms("2025-12-29") - 1, "UTC")
def test_a_local_day_is_that_of_the_time_zone_library(at, timezone):
    assert_as_plain(at, timezone)


@pytest.mark.parametrize(
    ("timezone", "day"),
    [
        ("America/St_Johns", "2006-10-29"),  # back at 00:01: the 29th has a minute, then the 28th an hour
        ("Africa/Monrovia", "1971-06-01"),  # 44 minutes and 30 seconds behind
        ("Pacific/Apia", "2011-12-30"),  # a day that never was
        ("America/Sao_Paulo", "2018-11-04"),  # no midnight
        ("America/Sao_Paulo", "2018-02-18"),  # midnight is back to 23:00
        ("America/Havana", "2026-11-01"),  # midnight twice
    ],
)
def test_each_second_around_an_odd_change_of_clocks_is_in_its_day(timezone, day):
    start = ms(day)
    for at in (*range(start, start + 86_400_000, 61_000), *range(start, start + 86_400_000, 900_000)):
        for around in (at - 1, at, at + 1):
            assert_as_plain(around, timezone)
