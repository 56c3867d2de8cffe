"""Pane records to read tables: stamps, positions, digests."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import engagement_model as model
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from aggregates.database import open_database
from projections import engagement
from projections.engagement import Applied, Batch, PositionMoved, UnknownRecord, digest
from projections.engagement.digest import digest_rows
from projections.engagement.kept import kept
from projections.engagement.tables import ENGAGEMENT, MEMBERS, POSITIONS, TIERS, create_tables
from projections.upkeep.digest import of_canonical
from schemas import codec
from schemas.codec import decode, encode

TOPIC = "engagement.windows.v1"


modest = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


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
    start = engagement.position(conn, TOPIC, 0)
    return engagement.apply(conn, TOPIC, 0, start, start + len(records), list(records))


def likes(conn):
    return [row.member_post_like for row in conn.execute(select(ENGAGEMENT))]


def bag(conn):
    return {table: Counter(tuple(sorted(row.items())) for row in digest_rows(conn, table)) for table in digest.TOPIC_OF}


def test_a_pane_becomes_a_row_with_a_column_for_each_counter(conn):
    counters = {name: number for number, name in enumerate(model.COUNTERS, start=1)}
    applied(conn, model.pane("campaign_member", stamp=7, counters=counters, segment=3, partition=2))
    (row,) = conn.execute(select(ENGAGEMENT)).mappings()
    assert {name.replace(".", "_"): value for name, value in counters.items()}.items() <= row.items()
    assert (row["brand"], row["campaign"], row["member"], row["platform"]) == ("acme", "spring", "m1", "tok")
    assert (row["post"], row["epoch"]) == ("", "e1")
    assert (row["segment"], row["partition"], row["stamp"], row["length_ms"]) == (3, 2, 7, 3_600_000)


def test_panes_of_tiers_stand_in_a_table_of_their_own(conn):
    assert applied(conn, model.pane("brand_tier"), model.pane("campaign_tier"), model.pane("brand")) == Applied(3, 0)
    assert len(conn.execute(select(TIERS)).all()) == 2
    assert len(conn.execute(select(ENGAGEMENT)).all()) == 1


def test_a_newer_value_replaces_all_of_an_older_one(conn):
    applied(conn, model.pane(stamp=1, counters={"member_post.like": 5, "purchases": 1}))
    applied(conn, model.pane(stamp=2, counters={"member_post.like": 4}))
    (row,) = conn.execute(select(ENGAGEMENT)).mappings()
    assert (row["member_post_like"], row["purchases"], row["stamp"]) == (4, 0, 2)


def test_an_older_value_that_comes_late_changes_nothing(conn):
    applied(conn, model.pane(stamp=2, counters={"member_post.like": 4}))
    applied(conn, model.pane(stamp=1, counters={"member_post.like": 5}))
    assert likes(conn) == [4]


def test_within_a_batch_only_the_newest_value_of_a_key_is_written(conn):
    old, new = (model.pane(stamp=stamp, counters={"member_post.like": stamp}) for stamp in (1, 2))
    assert applied(conn, old, new, old) == Applied(1, 0)
    assert likes(conn) == [2]


def test_a_pane_of_another_creation_of_the_log_is_another_row_whatever_its_stamp(conn):
    applied(conn, model.pane(stamp=9, counters={"member_post.like": 4}, epoch="e1"))
    applied(conn, model.pane(stamp=2, counters={"member_post.like": 1}, epoch="e2"))
    assert sorted(likes(conn)) == [1, 4]


def test_posts_on_two_platforms_are_two_panes(conn):
    applied(conn, *(model.pane("post", platform=name, counters={"member_post.like": 1}) for name in ("tok", "gram")))
    rows = {(row["platform"], row["post"]) for row in conn.execute(select(ENGAGEMENT)).mappings()}
    assert rows == {("tok", "p1"), ("gram", "p1")}


def test_a_value_written_by_the_release_before_is_a_row_without_post_and_epoch(conn):
    golden = Path(codec.__file__).parent / "golden"
    applied(conn, decode((golden / "EngagementPane.1.avro").read_bytes())[1])
    applied(conn, decode((golden / "MemberTier.1.avro").read_bytes())[1])
    (row,) = conn.execute(select(TIERS)).mappings()
    assert (row["post"], row["epoch"], row["member_post_like"]) == ("", "", 12)
    (row,) = conn.execute(select(MEMBERS)).mappings()
    assert (row["tier"], row["epoch"]) == ("micro", "")


def test_a_log_made_anew_replaces_a_members_tier_whatever_its_stamp(conn):
    applied(conn, model.profile("m1", "macro", 900, tok=200_000, epoch="e1"))
    applied(conn, model.profile("m1", "nano", 3, tok=10, epoch="e2"))
    (row,) = conn.execute(select(MEMBERS)).mappings()
    assert (row["tier"], row["epoch"], row["stamp"]) == ("nano", "e2", 3)


@modest
@given(st.lists(st.tuples(st.sampled_from(["e1", "e2"]), st.integers(0, 4)), min_size=1, max_size=8), st.data())
def test_a_members_tier_is_the_same_in_any_batches_of_the_topic(engine, written, data):
    records = [model.profile("m1", f"tier-{n}", stamp, epoch=epoch) for n, (epoch, stamp) in enumerate(written)]
    rest = list(records)
    with engine.connect() as conn:
        while rest:
            size = data.draw(st.integers(1, len(rest)))
            applied(conn, *rest[:size])
            rest = rest[size:]
        (row,) = conn.execute(select(MEMBERS)).mappings()
    assert row["tier"] == model.newest_member(records)["tier"]


def test_a_member_has_one_row_with_the_newest_tier(conn):
    applied(conn, model.profile("m1", "micro", 5, tok=2000, gram=10), model.profile("m1", "nano", 3, tok=900))
    applied(conn, model.profile("m1", "nano", 4, tok=900))
    (row,) = conn.execute(select(MEMBERS)).mappings()
    assert (row["tier"], row["followers"], row["platforms"]) == ("micro", 2000, '{"gram":10,"tok":2000}')


def test_what_the_codec_decodes_is_what_is_applied(conn):
    sent = [
        ("EngagementPane", model.pane(stamp=3, counters={"member_post.like": 2})),
        ("MemberTier", model.profile("m1", "nano", 3, tok=10)),
    ]
    assert applied(conn, *(decode(encode(kind, value))[1] for kind, value in sent)) == Applied(2, 0)
    assert likes(conn) == [2]


def test_the_position_is_written_with_the_rows(conn):
    engagement.apply(conn, TOPIC, 3, 0, 40, [model.pane()])
    engagement.apply(conn, TOPIC, 3, 40, 90, [])
    assert engagement.position(conn, TOPIC, 3) == 90
    assert engagement.position(conn, TOPIC, 0) == 0
    assert engagement.positions(conn, TOPIC) == {3: 90}


@pytest.mark.parametrize("start", [0, 5, 11])
def test_a_batch_that_starts_elsewhere_is_refused(conn, start):
    engagement.apply(conn, TOPIC, 0, 0, 10, [])
    with pytest.raises(PositionMoved, match=rf"engagement.windows.v1\[0\].*stand at offset 10.*starts at {start}"):
        engagement.apply(conn, TOPIC, 0, start, 20, [model.pane()])
    assert likes(conn) == []


def test_a_first_batch_that_does_not_start_at_zero_is_refused(conn):
    with pytest.raises(PositionMoved):
        engagement.apply(conn, TOPIC, 0, 5, 20, [])


def test_a_batch_that_ends_before_its_start_is_refused(conn):
    with pytest.raises(ValueError, match="cannot end at 3"):
        engagement.apply(conn, TOPIC, 0, 4, 3, [])


def test_after_a_rollback_neither_rows_nor_position_are_there(engine):
    def broken():
        with engine.begin() as conn:
            applied(conn, model.pane(counters={"member_post.like": 1}))
            raise RuntimeError("crash before the commit")

    with pytest.raises(RuntimeError):
        broken()
    with engine.connect() as conn:
        assert likes(conn) == []
        assert engagement.position(conn, TOPIC, 0) == 0


def test_of_two_consumers_of_one_partition_the_later_one_fails(engine):
    def rival():
        with engine.begin() as conn:
            engagement.apply(conn, "race", 0, 0, 20, [])

    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as conn:
            engagement.apply(conn, "race", 0, 0, 10, [])
            attempt = pool.submit(rival)  # waits for the row, or on SQLite for the database
        with pytest.raises(PositionMoved):
            attempt.result(timeout=30)
    with engine.connect() as conn:
        assert engagement.position(conn, "race", 0) == 10


def test_a_scope_that_this_release_does_not_know_is_skipped_and_counted(conn):
    assert applied(conn, model.pane("galaxy"), model.pane("brand")) == Applied(1, 1)


def test_a_counter_without_a_column_stops_the_batch(conn):
    with pytest.raises(UnknownRecord, match=r"unknown counter `member_post\.wave`"):
        applied(conn, model.pane(counters={"member_post.wave": 1}))


def test_a_record_of_another_type_stops_the_batch(conn):
    with pytest.raises(UnknownRecord, match="neither a pane nor a member's tier"):
        applied(conn, {"brand_id": "acme"})


def test_a_digest_row_merges_segments_partitions_and_epochs_and_leaves_zeros_out(conn):
    applied(
        conn,
        model.pane(stamp=1, counters={"member_post.like": 5, "member_post.save": 1}),
        model.pane(stamp=2, counters={"member_post.like": 2, "member_post.save": -1}, segment=4, partition=1),
        model.pane(stamp=1, counters={"member_post.like": 1}, epoch="e2"),
        model.pane(stamp=3, counters={"purchases": 0}, platform=""),
    )
    (row,) = digest_rows(conn, "engagement")
    assert row["member_post_like"] == 8
    assert "member_post_save" not in row
    assert not {"segment", "partition", "epoch", "stamp", "apart", "post"} & row.keys()


def test_digests_name_the_tables_and_how_far_their_topic_is(conn):
    engagement.apply(conn, TOPIC, 1, 0, 40, [model.pane(counters={"purchases": 1})])
    engagement.apply(conn, "tiers.aggregates.v1", 0, 0, 7, [model.profile(tok=1)])
    found = [digest.DIGESTED[number].position(conn) for number in range(3)]
    assert found == ["1:40", "0:7", "0:7"]
    assert [source.name for source in digest.DIGESTED] == ["engagement", "tiers", "members"]


@modest
@given(st.lists(model.panes() | model.profiles(), max_size=25), st.data())
def test_partitions_that_are_written_together_give_what_they_give_one_after_the_other(engine, records, data):
    records = model.one_per_stamp(records)
    of = [data.draw(st.sampled_from([("a", 0), ("a", 1), ("b", 0)])) for _ in records]
    batches = [
        Batch(*tp, 0, 50, [one for one, there in zip(records, of, strict=True) if there == tp])
        for tp in sorted(set(of))
    ]
    found = []
    for steps in ([[batch] for batch in batches], [data.draw(st.permutations(batches))]):
        with engine.connect() as conn:
            for step in steps:
                engagement.apply_all(conn, step)
            kept = [source.content(conn) for source in digest.DIGESTED]
            tables = (ENGAGEMENT, TIERS, MEMBERS, POSITIONS)
            found.append((kept, [sorted(map(tuple, conn.execute(select(table)))) for table in tables]))
    assert found[0] == found[1]


@modest
@given(st.lists(model.panes() | model.profiles(), max_size=25), st.data())
def test_any_order_any_batches_and_any_redelivery_give_the_same_rows(engine, records, data):
    records = model.one_per_stamp(records)
    again = data.draw(st.lists(st.sampled_from(records), max_size=6)) if records else []
    shuffled = data.draw(st.permutations(records + again))
    with engine.connect() as conn:
        while shuffled:
            size = data.draw(st.integers(1, len(shuffled)))
            applied(conn, *shuffled[:size])
            shuffled = shuffled[size:]
        with digest.rebuild([Batch(TOPIC, 0, 0, len(records), records)]) as scratch:
            assert bag(conn) == bag(scratch)
        for table in digest.TOPIC_OF:
            assert kept(conn, table) == of_canonical(digest_rows(conn, table))


@modest
@given(st.lists(model.panes(), max_size=25))
def test_digest_rows_are_the_plain_sums_of_the_newest_panes(engine, records):
    records = model.one_per_stamp(records)
    groups = {}
    for one in model.latest(records):
        key = (*(one[name] for name in model.MERGED), one["length_ms"])
        groups.setdefault(key, []).append(one)
    expected = Counter()
    for key, panes in groups.items():
        filled = {name.replace(".", "_"): value for name, value in model.summed(panes).items() if value}
        if filled:
            names = ["scope", "brand", "campaign", "tier", "member", "platform", "post", "starts_at", "length_ms"]
            row = {**dict(zip(names, key, strict=True)), **filled}
            if row["post"] == "":
                row.pop("post")
            expected[tuple(sorted(row.items()))] += 1
    with engine.connect() as conn:
        applied(conn, *records)
        found = bag(conn)
    assert found["engagement"] + found["tiers"] == expected
