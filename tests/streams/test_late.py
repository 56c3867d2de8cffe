"""A file of two years sorted by member instead of by time: exact, late, and in bounded memory."""

from __future__ import annotations

from random import Random
from typing import Any

from exact_bench import BRAND, CAMPAIGN, NOW, Bench, Record, definition, interaction, record
from test_panes_model import model

from aggregates.engagement import ON_TIME, SEGMENT_OFFSETS

DAY = 86_400_000
MEMBERS, EACH = 40, 60


def sorted_by_member() -> list[Record]:
    """Every member's two years, one member after the other."""
    random = Random(4)
    log = [definition(0, BRAND), definition(1, CAMPAIGN)]
    for member in range(MEMBERS):
        times = sorted(NOW - random.randrange(730 * DAY) for _ in range(EACH))
        for at in times:
            value: dict[str, Any] = interaction(
                event_id=f"e{len(log)}", occurred_at=at, member_id=f"m{member}", post_id=f"p{member}",
                kind=random.choice(["like", "share", "view", "post"]), quantity=random.choice([1, 1, 2]),
                followers=random.choice([None, 500, 5_000]),
            )  # fmt: skip
            log.append(record(len(log), "Interaction", value))
    return log


def merged(bench: Bench) -> dict[tuple[Any, ...], dict[str, int]]:
    found: dict[tuple[Any, ...], dict[str, int]] = {}
    for pane, counters in bench.panes():
        key = (pane.scope, pane.campaign, pane.tier, pane.member, pane.platform, pane.post, pane.starts_at)
        counted = found.setdefault(key, {})
        for name, amount in counters.items():
            counted[name] = counted.get(name, 0) + amount
    return found


def test_two_years_sorted_by_member_come_out_right_to_the_unit_also_after_crashes(tmp_path):
    log = sorted_by_member()
    bench = Bench(tmp_path, log)
    part, steps = bench.worker(), 0
    while part.next < len(log):
        part.apply(bench.chunk(part.next, min(part.next + 97, len(log))), 1)
        steps += 1
        if steps % 3 == 0:
            bench.flush(part)
        if steps % 5 == 0:
            part = bench.worker()  # what was applied since the last flush is lost, and folded again
    bench.finish(part)
    assert merged(bench) == model(log)
    late = bench.result()["counts"]["late"]
    assert late > MEMBERS * EACH * 0.9, "after the first member nearly everything is late"


def test_late_panes_leave_memory_when_their_block_of_offsets_has_passed(tmp_path, monkeypatch):
    monkeypatch.setattr("streams.pane_store.SEGMENT_OFFSETS", 256)
    monkeypatch.setattr("aggregates.engagement.SEGMENT_OFFSETS", 256)
    assert SEGMENT_OFFSETS == 65_536
    log = sorted_by_member()
    bench = Bench(tmp_path, log)
    part = bench.worker()
    most = 0
    for start in range(0, len(log), 64):
        part.apply(bench.chunk(start, min(start + 64, len(log))), 1)
        bench.flush(part)
        most = max(most, len(part.fold.panes))
    per_record = 7
    assert most <= 2 * 256 * per_record, "no more than the panes of the block at work and of the one before"
    segments = {pane.segment for pane, _ in bench.panes()}
    assert segments == {ON_TIME, *range(len(log) // 256 + 1)}
    assert merged(bench) == model(log)
