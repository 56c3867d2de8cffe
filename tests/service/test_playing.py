"""How the simulated community goes on after the days that were asked for, and at what speed it is published."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest
import yaml

from aggregates.programs import parse
from schemas.validate import problem
from service.feeds.playing import split
from service.feeds.reading import Line
from service.feeds.simulation import DAY, NEXT_DAYS, START, Broken, community, next_campaign_of, next_definitions

SEED, MEMBERS, DAYS = 3, 60, 7


@pytest.fixture(scope="module")
def coming() -> list[tuple[int, Line | Broken]]:
    return list(community(SEED, MEMBERS, DAYS).going_on())


def test_it_goes_on_the_same_way_every_time_and_in_order_of_delivery(coming: list[tuple[int, Line | Broken]]) -> None:
    assert list(community(SEED, MEMBERS, DAYS).going_on()) == coming
    times = [at for at, _ in coming]
    assert times == sorted(times)
    assert times[0] >= START + DAYS * DAY


def test_what_happens_is_in_the_days_that_follow_and_every_day_has_some(
    coming: list[tuple[int, Line | Broken]],
) -> None:
    happened = Counter((line.value["occurred_at"] - START) // DAY for _, line in coming if isinstance(line, Line))
    assert min(happened) == DAYS
    assert set(range(DAYS, DAYS + NEXT_DAYS)) <= set(happened)


def test_its_ids_are_new_and_its_records_valid(coming: list[tuple[int, Line | Broken]]) -> None:
    before = {line.value["event_id"] for line in community(SEED, MEMBERS, DAYS).records() if isinstance(line, Line)}
    lines = [line for _, line in coming if isinstance(line, Line)]
    assert not before & {line.value["event_id"] for line in lines}
    assert [problem(line.record_type, line.value) for line in lines] == [None] * len(lines)
    assert any(isinstance(record, Broken) for _, record in coming)


def test_the_records_that_name_a_campaign_name_the_next_one(coming: list[tuple[int, Line | Broken]]) -> None:
    named = {line.value.get("campaign_id") for _, line in coming if isinstance(line, Line)}
    assert named == {None, next_campaign_of(DAYS)}


def test_the_next_campaign_begins_when_the_first_ends_and_has_a_budget_and_prizes() -> None:
    (document,) = yaml.safe_load_all(next_definitions(DAYS, MEMBERS))
    campaign = parse(document, "it")
    assert (campaign.id, campaign.starts_at) == (next_campaign_of(DAYS), START + DAYS * DAY)
    assert campaign.budget == 240 * MEMBERS
    assert dict(campaign.prizes) == {1: 5000, 2: 3000, 3: 1000}


def test_what_is_due_is_split_off_and_nothing_is_lost() -> None:
    items = [(at, Line(None, "Purchase", {"at": at})) for at in range(10)]
    due, rest = split(iter(items), 4)
    assert [line.value["at"] for line in due] == [0, 1, 2, 3]
    assert list(islice(rest, 1)) == [items[4]]
    due, rest = split(rest, 100)
    assert len(due) == 5
    assert list(rest) == []
