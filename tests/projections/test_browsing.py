"""Finding one's way: engagement over time, how far the data goes, members by the beginning of their id, lots."""

from __future__ import annotations

from collections import defaultdict

import engagement_model as model
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregates.database import open_database
from projections import engagement, registry
from projections.balances import BALANCES
from projections.engagement.sums import series_totals
from projections.engagement.tables import create_tables
from projections.lots import LOTS
from projections.programs import PROGRAMS
from projections.queries import browsing
from projections.rates import DAY_MS, MEMBER_PANE_MS
from projections.upkeep.runner import prepare

HOUR, DAY = MEMBER_PANE_MS, DAY_MS
modest = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
panes_of_time = st.lists(model.panes(scopes=("brand", "campaign")), max_size=30).map(model.one_per_stamp)


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
    prepare(opened, registry.LEDGER)
    yield opened
    opened.dispose()


def applied(conn, *records):
    start = engagement.position(conn, "t", 0)
    engagement.apply(conn, "t", 0, start, start + len(records), list(records))


@modest
@given(panes_of_time, st.sampled_from([HOUR, DAY]), st.none() | st.integers(-40, 3), st.sampled_from([None, "spring"]))
def test_a_series_is_the_sum_of_the_panes_of_each_hour_or_day_and_platform(engine, records, length, start, campaign):
    begin = None if start is None else model.BASE + start * length
    scope = "campaign" if campaign else "brand"
    expected = defaultdict(list)
    for one in model.latest(records):
        mine = (one["scope"], one["brand_id"], one["campaign_id"]) == (scope, "acme", campaign or "")
        if mine and (begin is None or one["starts_at"] >= begin):
            expected[one["starts_at"] // length * length, one["platform"]].append(one)
    with engine.connect() as conn:
        applied(conn, *records)
        found = series_totals(conn, "acme", campaign, length, begin)
    filled = {key: sums for key, sums in found.items() if any(sums.values())}
    wanted = {key: model.summed(panes) for key, panes in expected.items()}
    assert filled == {key: sums for key, sums in wanted.items() if any(sums.values())}


def test_a_series_tells_engagements_posts_and_reach_of_platforms_in_order_of_time(engine):
    counters = {"member_post.like": 3, "member_post.share": 1, "member_post.post": 2, "member_post.reach": 50}
    with engine.connect() as conn:
        later = model.pane(starts_at=model.BASE + HOUR, counters={"member_post.like": 1}, stamp=1)
        sold = model.pane(platform="", counters={"purchases": 1}, stamp=1)
        applied(conn, later, model.pane(counters=counters, stamp=1), sold)
        assert browsing.series(conn, "acme", None, HOUR, None) == [
            browsing.Bucket(model.BASE, "tok", 4, 2, 50),
            browsing.Bucket(model.BASE + HOUR, "tok", 1, 0, 0),
        ]


def test_the_data_goes_to_the_end_of_the_brands_last_pane(engine):
    with engine.connect() as conn:
        assert browsing.last_activity(conn, "acme") is None
        others = model.pane(brand="other", starts_at=model.BASE + DAY, counters={"purchases": 1}, stamp=1)
        applied(conn, others, model.pane(starts_at=model.BASE, counters={"purchases": 1}, stamp=1))
        assert browsing.last_activity(conn, "acme") == model.BASE + 300_000


def test_what_is_reached_moves_with_every_record_of_panes(engine):
    with engine.connect() as conn:
        before = browsing.reached(conn)
        applied(conn, model.pane(stamp=1, counters={"purchases": 1}))
        assert browsing.reached(conn) == (before[0], before[1] + 1)


def balance(member, brand="acme"):
    zeros = dict.fromkeys(("earned", "adjusted", "reversed", "spent", "debt", "shortfall"), 0)
    return {"brand": brand, "member": member, **zeros}


def test_members_are_found_by_the_beginning_of_their_id_with_a_profile_or_with_points(engine):
    with engine.connect() as conn:
        conn.execute(
            BALANCES.table.insert(), [balance("anna"), balance("bob"), balance("ann%"), balance("anx", "other")]
        )
        applied(conn, model.profile("ann", stamp=1, tok=5), model.profile("anna", stamp=1, tok=5))
        assert browsing.find_members(conn, "acme", "an", 9) == ["ann", "ann%", "anna"]
        assert browsing.find_members(conn, "acme", "ann%", 9) == ["ann%"]
        assert browsing.find_members(conn, "acme", "", 2) == ["ann", "ann%"]
        assert browsing.find_members(conn, "acme", "c", 9) == []


def test_brands_are_those_with_a_definition_each_once(engine):
    row = {"subject_id": "x", "seq": 1, "effective_at": 0, "recorded_at": 0, "content": "{}"}
    rows = [("b", "brand", 1), ("b", "brand", 2), ("a", "brand", 1), ("c", "campaign", 1)]
    with engine.connect() as conn:
        conn.execute(PROGRAMS.table.insert(), [{"brand": b, "subject": s, "version": v, **row} for b, s, v in rows])
        assert browsing.brands(conn) == ["a", "b"]


def test_lots_with_anything_in_them_come_by_expiry_and_those_that_never_expire_last(engine):
    def lot(name, left, expires_at):
        ids = {"brand": "acme", "member": "ann", "lot": name, "campaign": "spring" if name != "c" else ""}
        return {**ids, "granted": 10, "points_left": left, "active_at": 1, "expires_at": expires_at}

    with engine.connect() as conn:
        conn.execute(LOTS.table.insert(), [lot("c", 3, None), lot("b", 4, 20), lot("a", 5, 10), lot("d", 0, 5)])
        found = browsing.lots(conn, "acme", "ann", 1)
    assert [(one.lot, one.left, one.expires_at, one.campaign) for one in found] == [
        ("a", 5, 10, "spring"), ("b", 4, 20, "spring"), ("c", 3, None, None)
    ]  # fmt: skip
