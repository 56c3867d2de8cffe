"""Whatever Faust does with chunks and wherever a worker dies, the end is the one of a clean run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from exact_bench import BRAND, NOW, Bench, Died, Record, closing, definition, interaction, programs, purchase, record
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregates.ledger import Fenced, Ledger
from schemas.codec import decode
from schemas.topics import TIERS
from streams import readstate, recent
from streams.intake import Limits, TooManyRejected
from streams.outputs import LogLost
from streams.panes import stamp_of
from streams.partition import Applied, Partition
from streams.transport import Chunk

HOUR = 3_600_000
MEMBERS = ["m1", "m2"]
KINDS = ["like", "like", "unlike", "post", "buy", "refund", "profile", "redeem", "close", "junk"]


@st.composite
def logs(draw: st.DrawFn) -> list[Record]:
    """Definitions, then a mixture of everything members do, repeated, late and broken records among it."""
    log = programs()
    count = draw(st.integers(1, 40))
    for n in range(count):
        offset = len(log)
        member = draw(st.sampled_from(MEMBERS))
        at = NOW + draw(st.integers(-2, 0) | st.integers(-60, 6)) * HOUR  # often in panes that are there already
        base: dict[str, Any] = {"event_id": f"e{draw(st.integers(0, count))}", "occurred_at": at, "member_id": member}
        kind = draw(st.sampled_from(KINDS))
        if kind in ("like", "unlike", "post"):
            quantity = -draw(st.integers(1, 3)) if kind == "unlike" else draw(st.integers(1, 5))
            value = interaction(
                **base, quantity=quantity, kind="post" if kind == "post" else "like",
                post_id=draw(st.sampled_from(["p", "q", None])),
                followers=draw(st.sampled_from([None, 0, 300, 20_000])),
                actor_id=draw(st.sampled_from([None, "m1", "z"])),
            )  # fmt: skip
            log.append(record(offset, "Interaction", value))
        elif kind in ("buy", "refund"):
            value = purchase(
                **base, order_id=draw(st.sampled_from(["o1", "o2"])), amount_minor=draw(st.integers(0, 5000)),
                kind="completed" if kind == "buy" else "refunded", referrer_id=draw(st.sampled_from([None, "m2"])),
            )  # fmt: skip
            log.append(record(offset, "Purchase", value))
        elif kind == "profile":
            value = {**base, "brand_id": "acme", "platform": "x", "followers": draw(st.integers(0, 200_000))}
            log.append(record(offset, "ProfileSnapshot", value))
        elif kind == "redeem":
            value = {**base, "brand_id": "acme", "kind": "redeem", "points": draw(st.integers(0, 20)),
                     "reference": None, "reason": None, "requested_by": "test"}  # fmt: skip
            log.append(record(offset, "Command", value, signed=draw(st.booleans())))
        elif kind == "close":  # said again, as the outbox may, or by somebody who may not
            log.append(closing(offset, signed=draw(st.integers(0, 3)) > 0))
        else:
            log.append(Record(offset, NOW + n, b"acme/m1", draw(st.binary(max_size=12))))
    return log


def run_clean(log: list[Record]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory), log)
        bench.finish()
        return bench.result()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["chunk", "chunk", "lost", "twice", "stale", "flush", "crash", "die in write", "die in save", "die after"]
        ),
        st.integers(1, 8),
    ),
    max_size=25,
)


def step(bench: Bench, part: Partition, action: str, size: int) -> Partition:
    """One thing that can happen to a worker; returns the worker that goes on."""
    start, end = part.next, min(part.next + size, len(bench.log))
    if action == "flush":
        bench.flush(part)
    elif action == "crash":
        return bench.worker()
    elif action.startswith("die"):
        with pytest.raises(Died):
            bench.flush(part, dies=action.removeprefix("die "))
        return bench.worker()
    elif start == end:
        return part
    elif action == "lost":  # a chunk vanishes: the next one does not continue the position
        if end < len(bench.log):
            assert part.apply(bench.chunk(end, min(end + size, len(bench.log))), 1) is Applied.GAP
    elif action == "stale":
        assert part.apply(Chunk(start, 0, bench.log[start:end]), 1) is Applied.STALE
    else:
        assert part.apply(bench.chunk(start, end), 1) is Applied.DONE
        if action == "twice":
            assert part.apply(bench.chunk(start, end), 1) is Applied.GAP
    return part


@settings(max_examples=120)
@given(logs(), STEPS)
def test_any_chunking_any_loss_and_any_crash_end_as_a_clean_run(log, steps):
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory), log)
        part = bench.worker()
        for action, size in steps:
            part = step(bench, part, action, size)
        bench.finish(part)
        assert bench.result() == run_clean(log)


OWNER_STEPS = st.lists(
    st.tuples(st.sampled_from(["take over", "chunk", "chunk", "flush", "die in write", "die in save"]),
              st.integers(0, 3), st.integers(1, 12)),
    max_size=30,
)  # fmt: skip


@settings(max_examples=100)
@given(logs(), OWNER_STEPS)
def test_any_interleaving_of_owners_ends_as_a_clean_run(log, steps):
    """Every owner goes on after it was replaced, as one does that was suspended; only the last may write."""
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory), log)
        owners = [bench.worker()]
        for action, who, size in steps:
            if action == "take over":
                owners.append(bench.worker())
                continue
            owner = owners[who % len(owners)]
            try:
                if action == "chunk" and owner.next < len(log):
                    owner.apply(bench.chunk(owner.next, min(owner.next + size, len(log))), 1)
                elif action != "chunk":
                    bench.flush(owner, dies=action.removeprefix("die ") if action != "flush" else "")
            except Died:
                heir = bench.worker() if owner is owners[-1] else owners[-1]
                owners = [heir if one is owner else one for one in owners]
            except Fenced:
                if owner is owners[-1]:
                    pytest.fail("the rightful owner was refused")
                owners = [owners[-1] if one is owner else one for one in owners]
        bench.finish(bench.worker())
        assert bench.result() == run_clean(log)


@settings(max_examples=60)
@given(logs(), st.integers(1, 10), st.integers(1, 10))
def test_a_zombie_cannot_write_behind_a_new_owner(log, before, after):
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory), log)
        zombie = bench.worker()
        zombie.apply(bench.chunk(0, min(before, len(log))), 1)
        owner = bench.worker()
        if zombie.next < len(log):
            with pytest.raises(Fenced):
                zombie.apply(bench.chunk(zombie.next, len(log)), 1)
        with pytest.raises(Fenced):
            bench.flush(zombie)
        owner.apply(bench.chunk(0, min(before + after, len(log))), 1)
        bench.flush(owner)
        bench.finish(bench.worker())
        assert bench.result() == run_clean(log)


def test_a_zombie_that_had_saved_before_cannot_move_the_read_state_back(tmp_path):
    log = [*programs(), *(record(n, "ProfileSnapshot", {
        "event_id": f"e{n}", "occurred_at": NOW, "brand_id": "acme", "member_id": "m1", "platform": "x", "followers": n,
    }) for n in range(2, 12))]  # fmt: skip
    bench = Bench(tmp_path, log)
    zombie = bench.worker()
    zombie.apply(bench.chunk(0, 4), 1)
    bench.flush(zombie)
    owner = bench.worker()
    zombie.fold._rewards.position = len(log)  # as if the ledger's own fence were not there
    zombie.apply(bench.chunk(4, 6), 1)
    owner.apply(bench.chunk(4, 12), 1)
    bench.flush(owner)
    bench.writer = bench.tokens[zombie]  # nor the output's
    with pytest.raises(Fenced, match="no longer ours at 4"):
        bench.flush(zombie)
    assert bench.result()["profiles"] == {("acme", "m1"): {"x": 11}}


def test_nothing_is_committed_before_it_is_durable(tmp_path):
    log = [*programs(), *(record(n, "Interaction", interaction(event_id=f"e{n}")) for n in range(2, 30))]
    bench = Bench(tmp_path, log)
    part = bench.worker()
    ledger = Ledger(bench.database)
    for start in range(0, 30, 3):
        part.apply(bench.chunk(start, start + 3), 1)
        with pytest.raises(Died):
            bench.flush(part, dies="in write" if start % 2 else "in save")
        part = bench.worker()
        assert part.next == start, "the read-state moved before the panes of its position were written"
        assert (ledger.position(bench.source) or 0) == start + 3, "the ledger commits a chunk at once"
        part.apply(bench.chunk(start, start + 3), 1)
        bench.flush(part)
        assert max(stamp_of(v)[1] for kept in bench.written.values() for v in kept.values()) + 1 == start + 3
        assert readstate.load(bench.engine, bench.source).saved == start + 3


def test_recovery_at_the_edge_of_the_horizon_does_not_meet_a_rejected_record(tmp_path, monkeypatch):
    monkeypatch.setattr(recent, "HORIZON_OFFSETS", 10)
    log = [*programs(), Record(2, NOW, b"acme/m1", b"junk")]
    log += [record(n, "Interaction", interaction(event_id=f"e{n}")) for n in range(3, 30)]
    bench = Bench(tmp_path, log)
    part = bench.worker()
    for start in range(0, 30):
        part.apply(bench.chunk(start, start + 1), 1)
        bench.flush(part)
        part = bench.worker()
    assert part.next == 30


def test_offsets_that_start_over_are_never_taken_for_new_ones(tmp_path):
    log = [*programs(), *(record(n, "Interaction", interaction(event_id=f"e{n}")) for n in range(2, 12))]
    bench = Bench(tmp_path, log)
    part = bench.worker()
    part.apply(bench.chunk(0, 10), 1)
    with pytest.raises(LogLost, match="offset 0 came where 10 was next"):
        part.apply(Chunk(10, 1, log[0:6]), 1)
    assert part.next == 10


def test_absurd_quantities_fill_a_counter_to_the_brim_and_the_pane_can_still_be_written(tmp_path):
    log = programs()
    for n in range(2, 15):
        log.append(record(n, "Interaction", interaction(event_id=f"e{n}", quantity=10**9, followers=1)))
    bench = Bench(tmp_path, log)
    bench.finish()
    brand = next(c for pane, c in bench.panes() if pane.scope == "brand")
    assert (brand["rate_ppb"], brand["member_post.like"]) == ((1 << 63) - 1, 13 * 10**9)


@pytest.mark.parametrize(("came_at", "tier"), [(NOW + HOUR - 1, "nano"), (NOW + HOUR, "big")])
def test_a_members_published_tier_is_by_the_bands_in_force_wherever_the_flushes_are(tmp_path, came_at, tier):
    """By the times of the records, not by those of the events in them."""
    bands = {**BRAND, "version": 2, "effective_at": NOW + HOUR, "tiers": {"small": 0, "big": 100}}
    profile = {
        "event_id": "f",
        "occurred_at": NOW,
        "brand_id": "acme",
        "member_id": "m1",
        "platform": "x",
        "followers": 500,
    }
    log = [*programs(), record(2, "ProfileSnapshot", profile), definition(3, bands)]
    log.append(record(4, "Interaction", interaction(occurred_at=NOW + 2 * HOUR), came_at))
    for ends in ([3, 5], [3, 4, 5], [5]):
        bench = Bench(tmp_path / str(len(ends)), log)
        part, told = bench.worker(), []
        for end in ends:
            part.apply(bench.chunk(part.next, end), 1)
            tiers = [decode(value) for _, value, _ in part.begin_flush().records.get(TIERS, ())]
            told += [(value["member_id"], value["tier"]) for kind, value in tiers if kind == "MemberTier"]
        assert told[-1] == ("m1", tier)
        assert set(told[:-1]) <= {("m1", "nano")}


def test_a_restart_does_not_end_a_run_of_bad_records(tmp_path):
    log = [*programs(), *(Record(n, NOW, b"acme/m1", b"junk") for n in range(2, 20))]
    bench = Bench(tmp_path, log, limits=Limits(run=10))
    part = bench.worker()
    part.apply(bench.chunk(0, 8), 1)
    bench.flush(part)
    part = bench.worker()
    part.apply(bench.chunk(8, 11), 1)
    bench.flush(part)
    part = bench.worker()
    with pytest.raises(TooManyRejected, match="10 records in a row"):
        part.apply(bench.chunk(11, 12), 1)


def test_a_members_tier_that_was_written_ahead_of_the_read_state_does_not_go_back(tmp_path):
    log = [*programs(), *(record(n, "ProfileSnapshot", {
        "event_id": f"e{n}", "occurred_at": NOW, "brand_id": "acme", "member_id": "m1", "platform": "x",
        "followers": 500 * n,
    }) for n in range(2, 12))]  # fmt: skip
    bench = Bench(tmp_path, log)
    part = bench.worker()
    part.apply(bench.chunk(0, 10), 1)
    with pytest.raises(Died):
        bench.flush(part, dies="in save")
    part = bench.worker()
    told = []
    for start in range(0, 12, 3):
        part.apply(bench.chunk(start, start + 3), 1)
        flush = part.begin_flush()
        told += [decode(value)[1] for _, value, _ in flush.records.get(TIERS, ())]
        part.saved = flush.position
    assert [(value["stamp"], value["followers"]) for value in told] == [(11, 5_500)]
