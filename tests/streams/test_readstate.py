"""What a fold reads of the past: the tiers of a member as of an instant, and which campaigns are closed."""

from __future__ import annotations

from exact_bench import BRAND
from hypothesis import example, given
from hypothesis import strategies as st

from aggregates.database import open_database
from aggregates.engagement import TIER_CHANGES
from aggregates.ledger import Source
from aggregates.parsing import parse
from aggregates.programs import content_of
from streams import readstate
from streams.readstate import ReadState

BANDS = {"nano": 500, "micro": 5_000, "mid": 50_000, "macro": 500_000}


@example([(n, [*BANDS][n % 4]) for n in range(50)])
@example([(n, [*BANDS][n % 4]) for n in range(150)])
@example([*((n + 1, [*BANDS][n % 2]) for n in range(65)), (0, "micro"), (400, "micro")])
@given(st.lists(st.tuples(st.integers(0, 500), st.sampled_from([*BANDS])), max_size=3 * TIER_CHANGES))
def test_a_members_tier_is_that_of_the_latest_change_before_as_if_all_were_remembered(changes):
    """Of the time since the 64th of all changes, but for one that is kept though it is older, being the log's last."""
    state = ReadState()
    assert state.define(0, "acme", content_of(parse(BRAND, "test")))
    every: list[tuple[int, int, str]] = []
    for at, tier in changes:
        state.set_followers(("acme", "ann"), at, "x", BANDS[tier])
        if not every or max((n, t) for _, n, t in every)[1] != tier:
            every.append((at, len(every), tier))
    remembered = sorted(every)[-(TIER_CHANGES - 1) :]
    assert len(state.tiers[("acme", "ann")].changes if changes else ()) == min(len(every), TIER_CHANGES)
    for at in range(0, 501, 20):
        if len(every) <= TIER_CHANGES or at >= remembered[0][0]:
            known = [t for since, _, t in sorted(every) if since <= at]
            assert state.tier_at(("acme", "ann"), at).tier == (known[-1] if known else "unknown")


def test_a_closed_campaign_stays_closed_in_a_log_made_anew_where_every_offset_is_behind_its_marker(tmp_path):
    engine = open_database(f"sqlite:///{tmp_path / 'state.db'}")
    readstate.create_tables(engine)
    old, new = Source("activity", "1", 0), Source("activity", "2", 0)
    state = readstate.take(engine, old, "w")
    assert state.close("acme", "spring", 700)
    assert not state.close("acme", "spring", 900), "the first marker counts"
    readstate.save(engine, old, state.take(0, 901), "w", {})
    assert readstate.load(engine, old).closed == {("acme", "spring"): 700}
    with engine.begin() as connection:
        readstate.accept(connection, old.name, new, 0)
    assert readstate.load(engine, new).closed == {("acme", "spring"): -1}
    with engine.begin() as connection:
        readstate.accept(connection, new.name, new, 0, anew=True)
    assert readstate.load(engine, new).closed == {("acme", "spring"): -1}, "the log before it is not folded again"
    assert readstate.take(engine, new, "w2").counts == {}
    engine.dispose()
