"""What a fold reads of the past: the tiers of a member as of an instant."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from streams.readstate import TIER_CHANGES, ReadState

BANDS = ["nano", "micro", "mid", "macro"]


@example([(n, BANDS[n % 4]) for n in range(50)])
@example([(n, BANDS[n % 4]) for n in range(150)])
@given(st.lists(st.tuples(st.integers(0, 500), st.sampled_from(BANDS)), max_size=3 * TIER_CHANGES))
def test_a_members_tier_is_that_of_the_latest_change_before_among_those_remembered(changes):
    state = ReadState()
    kept: list[tuple[int, int, str]] = []
    for at, tier in changes:
        state.set_tier("acme", "ann", at, tier)
        number, latest = max(((n, t) for _, n, t in kept), default=(-1, ""))
        if latest != tier:
            kept = sorted([*kept, (at, number + 1, tier)])[-TIER_CHANGES:]
    for at in range(0, 501, 20):
        assert state.tier_at("acme", "ann", at) == next((t for since, _, t in reversed(kept) if since <= at), "unknown")
