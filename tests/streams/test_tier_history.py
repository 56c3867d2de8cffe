"""A member's tiers as of any time, from the log to the read, beside a plain walk over the log."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from exact_bench import NOW, Bench, Died, Record, interaction, programs, record
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from projections.engagement import apply
from projections.engagement_tables import create_tables
from projections.queries import NotFound
from projections.tier_queries import member_tier
from schemas.codec import decode
from schemas.topics import TIERS
from streams.panes import is_pane
from streams.readstate import of_member

HOUR = 3_600_000
BANDS = [(100_000, "macro"), (10_000, "mid"), (1_000, "micro"), (0, "nano")]
KEPT = 64

Said = tuple[str, str, int, int]
"""Member, platform, followers, and the hour."""
said = st.tuples(
    st.sampled_from(["m1", "m2"]),
    st.sampled_from(["x", "tok"]),
    st.sampled_from([0, 999, 1_000, 5_000, 20_000, 200_000]),
    st.integers(0, 20),
)


def log_of(told: list[Said]) -> list[Record]:
    """Every second of them as an event's followers, the others as profiles."""
    log = programs()
    for n, (member, platform, followers, hour) in enumerate(told):
        seen = {"member_id": member, "platform": platform, "followers": followers, "event_id": f"e{n}"}
        value: dict[str, Any] = {**seen, "brand_id": "acme", "occurred_at": NOW - 30 * HOUR + hour * HOUR}
        if n % 2:
            log.append(record(len(log), "Interaction", interaction(**value)))
        else:
            log.append(record(len(log), "ProfileSnapshot", value))
    return log


def walk(told: list[Said]) -> dict[str, list[list[Any]]]:
    """Each member's changes, by when they occurred: a change is where the tier is another than the last in the log.

    Only the last are remembered."""
    profiles: dict[str, dict[str, int]] = {}
    changes: dict[str, list[list[Any]]] = {}
    for member, platform, followers, hour in told:
        profile = profiles.setdefault(member, {})
        profile[platform] = followers
        most = max(profile.values())
        tier = next(name for least, name in BANDS if most >= least)
        own = changes.get(member, [])
        number, last = max(((change[1], change[2]) for change in own), default=(-1, ""))
        if last != tier:
            where = sorted(name for name in profile if profile[name] == most)[0]
            changed = [NOW - 30 * HOUR + hour * HOUR, number + 1, tier, where, most]
            changes[member] = sorted([*own, changed])[-KEPT:]
    return changes


@settings(max_examples=40)
@example([("m1", "x", 500 + 1_000 * (n % 2), n % 20) for n in range(KEPT + 9)], [3, 50], "")
@given(st.lists(said, max_size=20), st.lists(st.integers(0, 22), max_size=3), st.sampled_from(["", "write", "save"]))
def test_a_tier_as_of_any_time_is_that_of_a_plain_walk_over_the_log(
    told: list[Said], flushes: list[int], dies: str
) -> None:
    expected = walk(told)
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory), log_of(told))
        part = bench.worker()
        for end in sorted(flushes):
            if part.next < end <= len(bench.log):
                part.apply(bench.chunk(part.next, end), 1)
                try:
                    bench.flush(part, dies=f"in {dies}" if dies else "")
                except Died:
                    part = bench.worker()
        bench.finish(part)
        values = [decode(value)[1] for key, value in bench.written[TIERS].items() if not is_pane(key)]
        with bench.engine.connect() as conn:
            saved = {member: of_member(conn, "acme", member).tiers.get(("acme", member), []) for member in expected}
        bench.engine.dispose()
    assert {one["member_id"]: json.loads(one["changes"]) for one in values} == expected
    assert {member: [list(change) for change in kept] for member, kept in saved.items()} == expected
    engine = create_engine("sqlite://")
    with engine.begin() as conn:
        create_tables(conn)
        apply(conn, TIERS, 0, 0, len(values), values)
        for member, changes in expected.items():
            for at in range(NOW - 31 * HOUR, NOW, HOUR):
                before = [change for change in changes if change[0] <= at]
                if len(changes) == KEPT and at < changes[0][0]:
                    try:
                        member_tier(conn, "acme", member, at)
                    except NotFound:
                        continue
                    raise AssertionError("a tier that is not kept was made up")
                found = member_tier(conn, "acme", member, at)
                assert (found.tier, found.followers) == (
                    (before[-1][2], before[-1][4]) if before else ("unknown", None)
                )
    engine.dispose()
