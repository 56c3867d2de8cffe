"""What is derived from the panes: roll-ups by hour and day, and when members were active."""

from __future__ import annotations

from itertools import pairwise

import engagement_model as model
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from aggregates.database import open_database
from projections import engagement
from projections.engagement import Batch, tables
from projections.engagement.digest import DIGESTED, compare, rebuild
from projections.engagement.people import active_members
from projections.engagement.sums import group_totals, panes_of, totals
from projections.engagement.tables import ACTIVE, ENGAGEMENT, ROLLUPS, TIERS, VERSIONS, create_tables
from projections.rates import DAY_MS, GROUP_PANE_MS, MEMBER_PANE_MS, Bounds, cover
from projections.upkeep.runner import NewerProjection

FIVE, HOUR, DAY = GROUP_PANE_MS, MEMBER_PANE_MS, DAY_MS
MIDNIGHT = model.BASE
TABLE = {"brand": ENGAGEMENT, "campaign": ENGAGEMENT, "brand_tier": TIERS, "campaign_tier": TIERS}

panes_of_time = st.lists(model.panes(), max_size=30).map(model.one_per_stamp)
ends = st.none() | st.integers(-9_000, 400).map(lambda number: MIDNIGHT + number * FIVE)
modest = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def engine(request, tmp_path_factory):
    on_sqlite = request.param == "sqlite"
    opened = open_database(
        f"sqlite:///{tmp_path_factory.mktemp('read')}/read.db"
        if on_sqlite
        else request.getfixturevalue("emptied_postgresql")()
    )
    with opened.begin() as conn:
        create_tables(conn)
    yield opened
    opened.dispose()


@pytest.fixture
def conn(engine):
    """A transaction that is rolled back."""
    with engine.connect() as connection:
        yield connection


def applied(conn, *records):
    start = engagement.position(conn, "t", 0)
    engagement.apply(conn, "t", 0, start, start + len(records), list(records))


def rollups(conn):
    """Every roll-up that is not all zeros, by key."""
    names = ["scope", "brand", "campaign", "length_ms", "starts_at", "tier", "platform"]
    found = {}
    for row in conn.execute(select(ROLLUPS)).mappings():
        counted = {name: row[name.replace(".", "_")] for name in model.COUNTERS}
        if any(counted.values()):
            found[tuple(row[name] for name in names)] = counted
    return found


def within(start, end):
    return lambda one: (start is None or one["starts_at"] >= start) and (end is None or one["starts_at"] < end)


@modest
@given(panes_of_time, st.data())
def test_rollups_are_the_sums_of_the_newest_panes_in_any_order_batches_and_redelivery(engine, records, data):
    again = data.draw(st.lists(st.sampled_from(records), max_size=8)) if records else []
    shuffled = data.draw(st.permutations(records + again))
    expected = {key: sums for key, sums in model.rolled_up(model.latest(records)).items() if any(sums.values())}
    with engine.connect() as conn:
        while shuffled:
            size = data.draw(st.integers(1, len(shuffled)))
            applied(conn, *shuffled[:size])
            shuffled = shuffled[size:]
        assert rollups(conn) == expected


@modest
@given(panes_of_time, st.sampled_from(list(TABLE)), ends, ends, st.sampled_from([None, "tok"]))
def test_any_window_by_rollups_is_the_sum_of_its_panes(engine, records, scope, start, end, platform):
    campaign = "spring" if scope.startswith("campaign") else None
    table = TABLE[scope]
    with engine.connect() as conn:
        applied(conn, *records)
        found = group_totals(conn, scope, "acme", campaign, platform, Bounds(start, end))
        where = panes_of(table, scope, "acme", campaign, platform, Bounds(start, end))
        plain = {keys[0]: sums for keys, sums in totals(conn, table, (table.c.tier,), *where)}
    assert {tier: sums for tier, sums in found.items() if any(sums.values())} == {
        tier: sums for tier, sums in plain.items() if any(sums.values())
    }
    chosen = [one for one in model.latest(records) if within(start, end)(one) and one["scope"] == scope]
    chosen = [one for one in chosen if one["brand_id"] == "acme" and one["campaign_id"] == (campaign or "")]
    for tier in {one["tier"] for one in chosen}:
        mine = [one for one in chosen if one["tier"] == tier and platform in (None, one["platform"])]
        assert found.get(tier, model.summed([])) == model.summed(mine)


@modest
@given(panes_of_time, ends, ends, st.sampled_from([None, "spring"]), st.sampled_from([None, "tok"]))
def test_active_members_are_those_with_a_pane_in_the_hours(engine, records, start, end, campaign, platform):
    scope = "campaign_member" if campaign else "member"
    expected = {
        one["member_id"]
        for one in records
        if (one["scope"], one["brand_id"], one["campaign_id"]) == (scope, "acme", campaign or "")
        and within(start, end)(one)
        and platform in (None, one["platform"])
    }
    with engine.connect() as conn:
        applied(conn, *records)
        assert active_members(conn, "acme", campaign, platform, Bounds(start, end)) == len(expected)


@given(ends, ends)
def test_a_window_is_covered_by_parts_that_meet_with_whole_days_inside(start, end):
    if start is not None and end is not None and start > end:
        start, end = end, start
    parts = cover(Bounds(start, end))
    assert (parts[0].start, parts[-1].end) == (start, end)
    assert all(one.end == other.start for one, other in pairwise(parts))
    for part in parts:
        assert all(edge is None or edge % part.length_ms == 0 for edge in part[1:])
    panes = sum((part.end - part.start) // FIVE for part in parts if part.length_ms == FIVE and len(parts) > 1)
    hours = sum((part.end - part.start) // HOUR for part in parts if part.length_ms == HOUR)
    assert panes <= 2 * 11 + 11
    assert hours <= 2 * 23
    assert len([part for part in parts if part.length_ms == DAY]) <= 1


def test_thirty_days_at_five_past_nine_are_days_hours_and_panes():
    at = MIDNIGHT + 9 * HOUR + FIVE
    first = at - 30 * DAY
    assert [(part.length_ms, part.start, part.end) for part in cover(Bounds(first, at))] == [
        (FIVE, first, first + 11 * FIVE),
        (HOUR, first + 11 * FIVE, MIDNIGHT - 29 * DAY),
        (DAY, MIDNIGHT - 29 * DAY, MIDNIGHT),
        (HOUR, MIDNIGHT, MIDNIGHT + 9 * HOUR),
        (FIVE, MIDNIGHT + 9 * HOUR, at),
    ]


def test_everything_is_covered_by_days_alone():
    assert cover(Bounds(None, None)) == [(DAY, None, None)]


def test_an_absurd_counter_is_summed_beside_the_rollups_and_comes_back_to_them(conn):
    most = 2**63 - 1
    parts = [model.pane(stamp=1, counters={"rate_ppb": most}, segment=n) for n in range(3)]
    applied(conn, *parts, model.pane(stamp=1, counters={"rate_ppb": 5}, segment=9))
    everything = ("brand", "acme", None, None, Bounds(None, None))
    assert {sums["rate_ppb"] for sums in rollups(conn).values()} == {5}
    assert group_totals(conn, *everything)[""]["rate_ppb"] == 3 * most + 5
    applied(conn, *(model.pane(stamp=2, counters={"rate_ppb": 1}, segment=n) for n in range(3)))
    assert {sums["rate_ppb"] for sums in rollups(conn).values()} == {8}
    assert group_totals(conn, *everything)[""]["rate_ppb"] == 8


@pytest.mark.parametrize(
    ("source", "scope", "change", "table", "column"),
    [
        ("engagement", "brand", "UPDATE engagement_rollups SET purchases = 9", "engagement_rollups", "purchases"),
        ("tiers", "brand_tier", "UPDATE engagement_rollups SET purchases = 9", "engagement_rollups", "purchases"),
        ("engagement", "member", "UPDATE engagement_active SET last_at = 9", "engagement_active", "last_at"),
        ("engagement", "brand", "UPDATE engagement SET purchases = 9", "engagement", "purchases"),
    ],
)
def test_verification_finds_a_derived_row_that_is_not_what_its_panes_say(conn, source, scope, change, table, column):
    (digested,) = [one for one in DIGESTED if one.name == source]
    record = model.pane(scope, counters={"purchases": 2})
    applied(conn, record)
    with rebuild([Batch("t", 0, 0, 1, [record])]) as rebuilt:
        assert compare(conn, rebuilt, digested).same
        conn.exec_driver_sql(change)
        found = compare(conn, rebuilt, digested)
    assert not found.same
    assert found.first is not None
    assert (found.first.table, found.first.column, found.first.what) == (table, column, "changed")


def test_tables_of_an_older_release_are_made_anew_and_begin_at_zero(tmp_path):
    opened = open_database(f"sqlite:///{tmp_path}/old.db")
    with opened.begin() as conn:
        conn.exec_driver_sql("CREATE TABLE engagement (scope TEXT, stamp BIGINT)")
        conn.exec_driver_sql("CREATE INDEX engagement_active ON engagement (scope)")
        conn.exec_driver_sql("CREATE TABLE engagement_positions (topic TEXT, partition BIGINT, position BIGINT)")
        conn.exec_driver_sql("INSERT INTO engagement_positions VALUES ('t', 0, 40)")
        create_tables(conn)
        assert engagement.position(conn, "t", 0) == 0
        applied(conn, model.pane("member"))
        create_tables(conn)
        assert conn.execute(select(ACTIVE.c.member)).scalar_one() == "m1"
    opened.dispose()


def test_tables_of_a_newer_release_are_left_alone(tmp_path):
    opened = open_database(f"sqlite:///{tmp_path}/new.db")
    with opened.begin() as conn:
        create_tables(conn)
        conn.execute(VERSIONS.update().values(version=tables.VERSION + 1))
    with opened.begin() as conn, pytest.raises(NewerProjection, match="Run the newer release"):
        create_tables(conn)
    opened.dispose()
