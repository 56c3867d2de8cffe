"""Replay verification: whatever is not what the ledger says is found, and named down to its events."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_stream import Stream, long_stream
from sqlalchemy import Engine

from aggregates.events import CommandRefused, InteractionRewarded
from projections.balances import BALANCES
from projections.registry import LEDGER
from projections.standings import STANDINGS
from projections.statements import STATEMENTS
from projections.upkeep.runner import Runner, prepare
from projections.upkeep.verify import NAMED, Behind, Report, Verified, differences, verify

Fresh = Callable[[], Engine]


def filled(engine: Engine, stream: Stream, stop: int | None = None) -> Engine:
    prepare(engine, LEDGER)
    Runner(engine, stream.source, LEDGER, page=25).catch_up(stop)
    return engine


def of(report: Report, name: str) -> Verified:
    return next(one for one in report.projections if one.name == name)


def test_untouched_read_models_are_what_the_ledger_says(fresh: Fresh) -> None:
    stream = long_stream(150)
    told: list[tuple[int, int]] = []
    report = verify(filled(fresh(), stream), stream.source, lambda *reached: told.append(reached))
    assert report.same
    assert [one.name for one in report.projections] == [projection.name for projection in LEDGER]
    assert told[-1] == (report.position, report.position)
    assert report.position == stream.events[-1].id


def test_read_models_behind_the_ledger_are_compared_at_their_own_positions(sqlite_engine: Fresh) -> None:
    stream = long_stream(80)
    engine = filled(sqlite_engine(), stream, stream.events[30].id)
    Runner(engine, stream.source, LEDGER[2:4]).catch_up(stream.events[60].id)
    report = verify(engine, stream.source)
    assert report.same
    assert report.position == stream.events[30].id
    assert of(report, "standings").position == stream.events[60].id


def test_a_changed_row_is_named_with_its_column_values_and_events(fresh: Fresh) -> None:
    stream = long_stream(100)
    engine = filled(fresh(), stream)
    granted = next(recorded for recorded in stream.events if isinstance(recorded.event, InteractionRewarded))
    assert isinstance(granted.event, InteractionRewarded)
    (grant,) = granted.event.grants
    table = STATEMENTS.table
    with engine.begin() as conn:
        changed = table.update().where(table.c.entry_id == grant.entry_id).values(points=table.c.points + 1000)
        assert conn.execute(changed).rowcount == 1
    report = verify(engine, stream.source)
    assert [one.name for one in report.projections if not one.same] == ["statements"]
    found = of(report, "statements")
    assert found.digest != found.rebuilt
    assert found.differing == 1
    assert found.first is not None
    assert found.first.key["entry_id"] == grant.entry_id
    assert (found.first.what, found.first.column) == ("changed", "points")
    assert (found.first.stored, found.first.rebuilt) == (grant.points + 1000, grant.points)
    origin = granted.event.origin
    source = f"{origin.topic}:{origin.partition}:{origin.offset}"
    assert found.first.events == [Behind(notification=granted.id, event_id=origin.event_id, source=source)]
    assert found.first.events_total == 1


def test_a_changed_balance_is_named_with_every_event_of_the_member(sqlite_engine: Fresh) -> None:
    stream = long_stream(100)
    engine = filled(sqlite_engine(), stream)
    with engine.begin() as conn:
        conn.execute(BALANCES.table.update().where(BALANCES.table.c.member == "bob").values(debt=-5))
    found = of(verify(engine, stream.source), "balances").first
    assert found is not None
    assert found.column == "debt"
    of_bob = [r for r in stream.events if r.originator == f"account:{found.key['brand']}/bob"]
    moved = [r.id for r in of_bob if not isinstance(r.event, CommandRefused)]
    assert found.events_total == len(moved)
    assert [event.notification for event in found.events] == moved[:NAMED]


def test_a_missing_and_an_extra_row_are_named(fresh: Fresh) -> None:
    stream = long_stream(60)
    engine = filled(fresh(), stream)
    ghost = {"brand": "acme", "campaign": "aaa", "member": "ghost", "points": 9}
    with engine.begin() as conn:
        conn.execute(STANDINGS.table.insert(), ghost)
        conn.execute(BALANCES.table.delete().where(BALANCES.table.c.member == "ann", BALANCES.table.c.brand == "acme"))
    report = verify(engine, stream.source)
    extra, missing = of(report, "standings").first, of(report, "balances").first
    assert extra is not None
    assert missing is not None
    assert (extra.what, extra.key["member"], extra.events_total) == ("extra", "ghost", 0)
    assert (missing.what, missing.key) == ("missing", {"brand": "acme", "member": "ann"})
    assert missing.events_total > 0


def test_a_change_in_what_no_digest_includes_is_found_too(sqlite_engine: Fresh) -> None:
    stream = long_stream(40)
    engine = filled(sqlite_engine(), stream)
    table = STATEMENTS.table
    with engine.begin() as conn:
        first = stream.grants[0][2].entry_id
        changed = conn.execute(table.update().where(table.c.entry_id == first).values(source_offset=-1))
        assert changed.rowcount == 1
    found = of(verify(engine, stream.source), "statements")
    assert found.digest == found.rebuilt
    assert not found.same
    assert found.first is not None
    assert found.first.column == "source_offset"


def test_two_columns_swapped_between_rows_are_found(sqlite_engine: Fresh) -> None:
    stream = long_stream(40)
    engine = filled(sqlite_engine(), stream)
    table = BALANCES.table
    with engine.begin() as conn:
        conn.execute(table.update().values(earned=table.c.spent, spent=table.c.earned))
    assert not of(verify(engine, stream.source), "balances").same


_rows = st.dictionaries(st.tuples(st.text("abZé", max_size=2), st.text("ab", max_size=1)), st.integers(0, 2))


@settings(max_examples=200)
@given(_rows, _rows)
def test_the_comparison_finds_exactly_the_keys_that_differ(
    left: dict[tuple[str, str], int], right: dict[tuple[str, str], int]
) -> None:
    sides = [[(*key, points, 0, 0, 0, 0) for key, points in sorted(side.items())] for side in (left, right)]
    found = {one.key: one.what for one in differences(BALANCES, *sides)}
    expected = {key: "extra" for key in left.keys() - right.keys()}
    expected |= {key: "missing" for key in right.keys() - left.keys()}
    expected |= {key: "changed" for key in left.keys() & right.keys() if left[key] != right[key]}
    assert found == expected


@pytest.mark.parametrize("steps", [0, 1])
def test_nearly_nothing_verifies(steps: int, sqlite_engine: Fresh) -> None:
    stream = long_stream(steps)
    assert verify(filled(sqlite_engine(), stream), stream.source).same
