"""The set of recent ids is exactly what the log's tail says, and bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams import recent as module
from streams.recent import Recent, identity

RECORDS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 40)), max_size=60)
HORIZON_OFFSETS, HORIZON_MS = 12, 15


def slow_is_duplicate(records: list[tuple[int, int]], offset: int) -> bool:
    """By definition: an earlier record with the id, within both horizons of this one."""
    ident, _ = records[offset]
    greatest = max(time for _, time in records[: offset + 1])
    last = [o for o in range(offset) if records[o][0] == ident]
    return bool(last) and last[-1] > offset - HORIZON_OFFSETS and records[last[-1]][1] > greatest - HORIZON_MS


def run(records: list[tuple[int, int]], recent: Recent, start: int = 0) -> list[bool]:
    out = []
    for offset, (ident, time) in enumerate(records[start:], start):
        recent.tick(time)
        out.append(recent.add(bytes([ident]), offset, time))
    return out


@given(RECORDS)
def test_a_duplicate_is_an_id_seen_within_both_horizons(records):
    keep = module.HORIZON_OFFSETS, module.HORIZON_MS
    module.HORIZON_OFFSETS, module.HORIZON_MS = HORIZON_OFFSETS, HORIZON_MS
    try:
        found = run(records, Recent())
        assert found == [slow_is_duplicate(records, offset) for offset in range(len(records))]
    finally:
        module.HORIZON_OFFSETS, module.HORIZON_MS = keep


@given(RECORDS, st.integers(0, 60))
def test_rebuilt_from_the_tail_it_answers_as_before(records, cut):
    cut = min(cut, len(records))
    keep = module.HORIZON_OFFSETS, module.HORIZON_MS
    module.HORIZON_OFFSETS, module.HORIZON_MS = HORIZON_OFFSETS, HORIZON_MS
    try:
        whole = run(records, Recent())
        greatest = max((time for _, time in records[:cut]), default=0)
        rebuilt = Recent(greatest)
        for offset in range(max(0, cut - HORIZON_OFFSETS), cut):
            rebuilt.add(bytes([records[offset][0]]), offset, records[offset][1])
        assert run(records, rebuilt, cut) == whole[cut:]
        assert len(rebuilt) <= HORIZON_OFFSETS
    finally:
        module.HORIZON_OFFSETS, module.HORIZON_MS = keep


def test_the_parts_of_an_identity_do_not_run_together():
    assert identity("a", "b", "c", "d") != identity("a", "bc", "", "d")
    assert len(identity("Interaction", "acme", "m", "e")) == 16
