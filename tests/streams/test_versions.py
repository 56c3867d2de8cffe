"""Versions of a campaign share what their rules have paid: a cap, a first time or a budget holds whichever has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from exact_bench import BRAND, NOW, Bench, Record, definition, interaction, record

from aggregates.ledger import Ledger, account_id

HOUR = 3_600_000
RULES = {
    "like": {"rule": "like", "on": "interaction", "kind": ["like"], "points": 10},
    "share": {"rule": "share", "on": "interaction", "kind": ["share"], "points": 10},
}


def version(number: int, budget: int | None = None, **more: dict[str, Any]) -> dict[str, Any]:
    """The campaign from `number` hours on, rules with `more` of them."""
    earn = [{**rule, **more.get(name, {})} for name, rule in RULES.items()]
    campaign = {"campaign": "spring", "brand": "acme", "starts_at": NOW, "ends_at": NOW + 99 * HOUR, "earn": earn}
    if budget is not None:
        campaign["budget"] = budget
    return {**campaign, "version": number, "effective_at": NOW + (number - 1) * HOUR}


def paid(directory: Path, *story: dict[str, Any] | tuple[float, str, int]) -> list[int]:
    """What each record pays, of a log with definitions and with interactions: hour, kind and quantity."""
    log: list[Record] = [definition(0, BRAND)]
    for n, one in enumerate(story, 1):
        if isinstance(one, dict):
            log.append(definition(n, one))
            continue
        hour, kind, quantity = one
        at = NOW + int(hour * HOUR)
        fields = {"event_id": f"e{n}", "occurred_at": at, "kind": kind, "quantity": quantity, "post_id": "p"}
        log.append(record(n, "Interaction", interaction(**fields), at))
    bench = Bench(directory, log)
    bench.finish()
    bench.engine.dispose()
    events = list(Ledger(bench.database).history(account_id("acme", "m1")))
    return [sum(grant.points for grant in getattr(event, "grants", ())) for event in events]


@pytest.mark.parametrize("cap", ["per_post", "per_day", "per_week", "per_month", "total"])
@pytest.mark.parametrize("ahead", [True, False])
def test_a_cap_that_a_later_version_brings_counts_what_the_earlier_one_has_paid(
    tmp_path: Path, cap: str, ahead: bool
) -> None:
    """All of it if it was accepted before; else only in all of the campaign."""
    first, second = version(1), version(2, like={"caps": {cap: 50}})
    before, after = (0.5, "like", 3), (1.5, "like", 9)
    story = (first, second, before, after) if ahead else (first, before, second, after)
    assert paid(tmp_path, *story) == [30, 20 if ahead or cap == "total" else 50]


def test_a_version_without_a_cap_is_not_limited_and_counts_for_the_one_after_it(tmp_path: Path) -> None:
    capped = {"caps": {"per_day": 50, "per_event": 60}}
    story = [version(1, like=capped), (0.5, "like", 4), version(2), (1.5, "like", 7), version(3, like=capped)]
    assert paid(tmp_path, *story, (2.5, "like", 1)) == [40, 70, 0]
    assert paid(tmp_path / "more", *story, version(4, like={"caps": {"per_day": 130}}), (3.5, "like", 6)) == [
        40,
        70,
        20,
    ]


@pytest.mark.parametrize("ahead", [True, False])
def test_the_first_time_is_one_for_all_versions(tmp_path: Path, ahead: bool) -> None:
    second, before = version(2, share={"first_time": True}), (0.5, "share", 1)
    story = (second, before) if ahead else (before, second)
    assert paid(tmp_path, version(1), *story, (1.5, "share", 1)) == [10, 0]


@pytest.mark.parametrize("ahead", [True, False])
def test_a_budget_that_a_later_version_brings_counts_all_that_was_paid(tmp_path: Path, ahead: bool) -> None:
    def after(directory: str, *before: tuple[float, str, int]) -> list[int]:
        first, second = version(1), version(2, budget=100)
        story = (first, second, *before) if ahead else (first, *before, second)
        return paid(tmp_path / directory, *story, (1.5, "like", 8), (1.6, "like", 1))

    assert after("spent", (0.5, "like", 7), (0.6, "like", 8)) == [70, 80, 0, 0]
    assert after("left", (0.5, "like", 7)) == [70, 30, 0]


def test_a_budget_counts_on_while_a_version_has_none(tmp_path: Path) -> None:
    story = (version(1, budget=50), (0.5, "like", 3), version(2), (1.5, "like", 9), version(3, budget=130))
    assert paid(tmp_path, *story, (2.5, "like", 5), (2.6, "like", 1)) == [30, 90, 10, 0]


def test_posts_of_two_platforms_are_two_however_their_names_are_written(tmp_path: Path) -> None:
    log = [definition(0, BRAND), definition(1, version(1, like={"caps": {"per_post": 10}}))]
    for n, (platform, post) in enumerate([("ig/p", "q"), ("ig", "p/q"), ("ig%2Fp", "q"), ("ig/p", "q")], 2):
        fields = {"event_id": f"e{n}", "occurred_at": NOW, "platform": platform, "post_id": post}
        log.append(record(n, "Interaction", interaction(**fields)))
    bench = Bench(tmp_path, log)
    bench.finish()
    bench.engine.dispose()
    events: list[Any] = list(Ledger(bench.database).history(account_id("acme", "m1")))
    assert [sum(grant.points for grant in event.grants) for event in events] == [10, 10, 10, 0]
