"""Panes written and read for speed are what the general codec makes of them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aggregates.engagement import ON_TIME, SCOPES, TIER_SCOPES
from schemas.codec import decode, encode
from schemas.topics import TIERS, WINDOWS
from streams.pane_store import LONGEST, PaneStore
from streams.panes import PaneCodec, Shared, is_pane, member_record, read_pane, stamp_of
from streams.tier_history import TierChange

HOUR = 3_600_000
texts = st.text(st.characters(exclude_characters="\x1f", exclude_categories=["Cs"]), max_size=90)
scopes = st.sampled_from(sorted(SCOPES))
longs = st.integers(-LONGEST - 1, LONGEST)
counters = st.dictionaries(st.text(max_size=70).filter(lambda t: t.isprintable()), longs, max_size=80)
times = st.one_of(st.integers(-(2**40), 2**45), st.integers(0, 200))


@given(scopes, st.tuples(*[texts] * 6), times, st.integers(-1, 2**40), counters, st.integers(0, 2**50), texts)
def test_a_written_pane_is_the_one_of_the_general_codec(scope, ids, starts_at, segment, counted, stamp, epoch):
    subject: Any = (scope, *ids)
    span = (starts_at, SCOPES[scope].length_ms, segment)
    codec = PaneCodec(epoch, 7)
    one, other = codec.write(span, {codec.name(subject): counted}, stamp)
    [(key, value, headers)] = one or other
    assert bool(other) == (scope in TIER_SCOPES)
    assert codec.write(span, {codec.name(subject): Shared(counted)}, stamp) == (one, other)
    names = ("brand_id", "campaign_id", "tier", "member_id", "platform", "post_id")
    fields = {
        "scope": scope, **dict(zip(names, ids, strict=True)), "starts_at": starts_at, "length_ms": span[1],
        "segment": segment, "partition": 7, "epoch": epoch, "stamp": stamp, "counters": counted,
    }  # fmt: skip
    assert value == encode("EngagementPane", fields)
    assert read_pane(value) == (subject, span, epoch, stamp, counted)
    odd = encode("EngagementPane", {**fields, "length_ms": span[1] * 300})
    for kept in (value, odd):
        again = read_pane(kept)
        read = [(codec.name(subject), again.span, stamp, counted)]
        assert list(codec.read({key: kept}, lambda s, a=again: s == a.span, stamp + 1)) == read, "it is open"
        assert list(codec.read({key: kept}, lambda _: False, stamp)) == read, "it is ahead"
        assert list(codec.read({key: kept}, lambda _: False, stamp + 1)) == []
    assert list(PaneCodec(epoch, 8).read({key: value}, lambda _: True, 0)) == []
    assert stamp_of(value) == (epoch, stamp)
    assert is_pane(key)
    assert headers == []


def test_ids_of_any_length_can_be_written():
    subject: Any = ("member", "acme", "", "", "m" * 5_000, "x", "")
    codec = PaneCodec("e", 7)
    [(key, value, _)], _ = codec.write(SPAN, {codec.name(subject): {"likes": 1}}, 3)
    assert key is not None
    assert value is not None
    assert read_pane(value) == (subject, SPAN, "e", 3, {"likes": 1})
    assert list(codec.read({key: value}, lambda _: True, 0)) == [(codec.name(subject), SPAN, 3, {"likes": 1})]


def test_a_pane_of_the_first_release_is_read_with_what_it_did_not_have_yet():
    from pathlib import Path

    golden = sorted((Path(__file__).parents[2] / "schemas" / "golden").glob("EngagementPane.1*.avro"))
    assert golden
    value = golden[0].read_bytes()
    fields = decode(value)[1]
    stamped = read_pane(value)
    assert (stamped.epoch, stamped.subject[6]) == ("", "")
    assert stamped.counters == fields["counters"]
    assert stamp_of(value) == ("", fields["stamp"])


def test_a_members_record_is_no_pane():
    changes = [TierChange(7, 0, "nano", "x", 2)]
    key, value, _ = member_record("e", 1, 5, "acme", "ann", "nano", changes, {"x": 3})
    assert key is not None
    assert value is not None
    assert not is_pane(key)
    assert stamp_of(value) == ("e", 5)
    assert json.loads(decode(value)[1]["changes"]) == [[7, 0, "nano", "x", 2]]


def store() -> PaneStore:
    return PaneStore("e", 0, 24 * HOUR)


LIKE = Shared({"likes": 1})
SPAN = (1_772_500_000_000 // HOUR * HOUR, HOUR, ON_TIME)
ANN = store().name(("member", "acme", "", "", "ann", "x", ""))


def written(panes: PaneStore, stamp: int) -> dict[bytes, bytes]:
    records = panes.take_dirty(stamp)
    return {key: value for topic in records.values() for key, value, _ in topic if key and value}


def test_a_recovered_pane_skips_what_its_stamp_includes_and_no_more():
    first = store()
    for offset in range(10):
        first.add(SPAN, [ANN], LIKE, offset)
    kept = written(first, 9)
    again = store()
    again.recover(kept, 5, SPAN[0])  # the read-state had only come to offset 5
    for offset in range(5, 13):
        again.add(SPAN, [ANN], LIKE, offset)
    assert [read_pane(v).counters for v in written(again, 12).values()] == [{"likes": 13}]


def test_panes_of_another_epoch_are_left_alone():
    old = PaneStore("old", 0, 24 * HOUR)
    old.add(SPAN, [old.name(("member", "acme", "", "", "ann", "x", ""))], Shared({"likes": 4}), 3)
    panes = store()
    panes.recover(written(old, 3), 0, SPAN[0])
    assert len(panes) == 0


def test_a_pane_leaves_memory_once_it_is_complete_and_flushed():
    panes = store()
    panes.add(SPAN, [ANN], LIKE, 0)
    late = (SPAN[0] - 100 * HOUR, HOUR, 0)
    panes.add(late, [ANN], LIKE, 1)
    panes.let_go(SPAN[0] + 25 * HOUR, 70_000)
    assert len(panes) == 2, "not flushed yet"
    panes.take_dirty(1)
    panes.let_go(SPAN[0] + 25 * HOUR - 1, 65_535)
    assert len(panes) == 2, "neither the grace nor the block of offsets has passed"
    panes.let_go(SPAN[0] + 25 * HOUR, 65_536)
    assert len(panes) == 0


def test_tiers_go_to_their_own_topic():
    panes = store()
    panes.add(SPAN, [ANN], LIKE, 0)
    panes.add(SPAN, [panes.name(("brand_tier", "acme", "", "nano", "", "x", ""))], LIKE, 0)
    assert {topic: len(records) for topic, records in panes.take_dirty(0).items()} == {WINDOWS: 1, TIERS: 1}
    assert panes.take_dirty(0) == {}, "nothing is dirty twice"
