"""The set of recent ids is exactly what the log's tail says, and bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import recent as module
from streams.recent import Recent, identity, tail_start

IDS = st.lists(st.integers(0, 8), max_size=60)
HORIZON = 12


def slow_is_duplicate(ids: list[int], offset: int) -> bool:
    """By definition: an earlier record with the id among the last so many offsets."""
    return ids[offset] in ids[max(0, offset - HORIZON + 1) : offset]


@given(IDS)
def test_a_duplicate_is_an_id_seen_within_the_horizon(ids):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "HORIZON_OFFSETS", HORIZON)
        recent = Recent()
        found = []
        for offset, ident in enumerate(ids):
            has = [recent.has(bytes([ident]), offset) for _ in range(2)]
            found.append(recent.add(bytes([ident]), offset))
            assert has == [found[-1]] * 2
        assert found == [slow_is_duplicate(ids, offset) for offset in range(len(ids))]
        assert len(recent) <= HORIZON


@given(IDS, st.integers(0, 60))
def test_rebuilt_from_the_tail_it_answers_as_before(ids, cut):
    cut = min(cut, len(ids))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "HORIZON_OFFSETS", HORIZON)
        rebuilt = Recent()
        for offset in range(tail_start(cut), cut):
            rebuilt.add(bytes([ids[offset]]), offset)
        again = [rebuilt.add(bytes([ids[offset]]), offset) for offset in range(cut, len(ids))]
        assert again == [slow_is_duplicate(ids, offset) for offset in range(cut, len(ids))]


def test_the_parts_of_an_identity_do_not_run_together():
    assert identity("a", "b", "c", "d") != identity("a", "bc", "", "d")
    assert len(identity("Interaction", "acme", "m", "e")) == 16
