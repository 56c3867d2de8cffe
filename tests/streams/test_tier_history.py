"""A member's tiers as of any time, from the log to the read, beside a plain walk over the log."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from exact_bench import BRAND, NOW, Bench, Died, Record, definition, interaction, programs, record
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from projections.answers import iso
from projections.engagement import apply
from projections.engagement.tables import create_tables
from projections.engagement.tier_queries import member_tier, member_tiers
from projections.queries import NotFound
from schemas.codec import decode, encode
from schemas.topics import TIERS
from streams import readstate
from streams.panes import is_pane

HOUR = 3_600_000
START = NOW - 30 * HOUR
"""Hour 0 of the stories."""
KEPT = 64
FOLLOWERS = [0, 999, 1_000, 1_500, 5_000, 20_000, 200_000]
TIERS_OF = [
    {"nano": 0, "micro": 1_000, "mid": 10_000, "macro": 100_000},
    {"nano": 0, "micro": 2_000, "mid": 10_000, "macro": 100_000},
    {"small": 0, "large": 1_000},
    {"all": 0},
    {"nano": 0, "micro": 400, "mid": 3_000, "macro": 100_000},
]


class Said(NamedTuple):
    """A member's followers on a platform."""

    member: str
    platform: str
    followers: int
    hour: int


class Bands(NamedTuple):
    """The next version of the brand, in force from an hour on."""

    tiers: int
    hour: int


Story = list[Said | Bands]
said = st.builds(
    Said, st.sampled_from(["m1", "m2"]), st.sampled_from(["x", "tok"]), st.sampled_from(FOLLOWERS), st.integers(0, 20)
)
bands = st.builds(Bands, st.integers(0, len(TIERS_OF) - 1), st.integers(0, 35))
stories = st.lists(st.one_of(said, said, said, bands), max_size=20)


def log_of(story: Story) -> list[Record]:
    """Every second of the followers as an event's, the others as profiles; a record comes an hour after the last."""
    log = programs()
    versions = 1
    for n, one in enumerate(story):
        came = START + n * HOUR
        if isinstance(one, Bands):
            versions += 1
            at = START + one.hour * HOUR
            document = {**BRAND, "version": versions, "effective_at": at, "tiers": TIERS_OF[one.tiers]}
            log.append(definition(len(log), document)._replace(timestamp=came))
            continue
        value: dict[str, Any] = {
            "event_id": f"e{n}", "occurred_at": START + one.hour * HOUR, "brand_id": "acme", "member_id": one.member,
            "platform": one.platform, "followers": one.followers,
        }  # fmt: skip
        if n % 2:
            log.append(record(len(log), "Interaction", interaction(**value), came))
        else:
            log.append(record(len(log), "ProfileSnapshot", value, came))
    return [one._replace(timestamp=START) for one in log[:2]] + log[2:]


class Walk:
    """A plain walk over a story, which keeps all of it."""

    def __init__(self, story: Story) -> None:
        self.versions = [(0, 1, TIERS_OF[0])]
        self.profiles: dict[str, dict[str, int]] = {}
        self.moved: dict[str, int] = {}
        self.lost = False
        """Whether a change was let go that made a difference."""
        self.kept: dict[str, list[list[Any]]] = {}
        """Each member's crossings of a bound, by when they occurred: hour, number, platform, followers."""
        for one in story:
            if isinstance(one, Bands):
                self.versions.append((one.hour, len(self.versions) + 1, TIERS_OF[one.tiers]))
                for member in self.kept:
                    self.keep(member)
                continue
            profile = self.profiles.setdefault(one.member, {})
            before = max(profile.values(), default=None)
            profile[one.platform] = one.followers
            if max(profile.values()) != before:
                self.moved[one.member] = one.hour
                self.keep(one.member)

    def keep(self, member: str) -> None:
        """Keep the followers of now, as of when they came, if a bound is between them and those kept last."""
        kept = self.kept.setdefault(member, [])
        platform, followers = self.most(member)
        last = max(kept, key=lambda one: one[1], default=None)
        if last is not None and not self.is_apart(last[3], followers):
            return
        number = 0 if last is None else last[1] + 1
        kept.append([self.moved[member], number, platform, followers])
        kept.sort()
        if len(kept) > KEPT:
            idle = [at for at in range(1, KEPT) if kept[at][1] != number and self.is_idle(*kept[at - 1 : at + 2])]
            if idle:
                gone = kept.pop(idle[0])
                for one in kept:
                    one[1] -= one[1] > gone[1]
            else:
                self.lost = True
                kept.pop(0 if kept[0][1] < number else 1)

    def is_idle(self, before: list[Any], one: list[Any], after: list[Any]) -> bool:
        """Whether the tier stays the same in each hour up to the change behind it."""
        return all(self.tier(before[3], h) == self.tier(one[3], h) for h in range(one[0], max(after[0], one[0] + 1)))

    def most(self, member: str) -> tuple[str, int]:
        """Where the member has the most followers, and how many."""
        return max(sorted(self.profiles[member].items()), key=lambda item: item[1])

    def is_apart(self, one: int, other: int) -> bool:
        """Whether some version so far has a bound between them."""
        return any((one >= bound) != (other >= bound) for _, _, tiers in self.versions for bound in tiers.values())

    def tier(self, followers: int, hour: int) -> str:
        """By the version in force at that hour."""
        then = max((v for v in self.versions if v[0] <= max(hour, 0)), key=lambda v: v[:2])[2]
        return [name for name, bound in then.items() if followers >= bound][-1]

    def then(self, member: str, hour: int) -> tuple[str, int | None]:
        """The tier at the end of that hour, and the followers behind it; of the changes that are remembered."""
        before = [one for one in self.kept[member] if one[0] <= hour]
        return (self.tier(before[-1][3], hour), before[-1][3]) if before else ("unknown", None)

    def now(self, member: str, hour: int) -> str:
        """The tier by the followers of now, as of an hour of the log."""
        return self.tier(self.most(member)[1], max(hour, max(self.kept[member], key=lambda one: one[1])[0]))


IDLE = [Said("m1", "x", 1_500 + 3_500 * (n % 2), 2) for n in range(KEPT + 9)]
"""Moves over a bound that is not in force yet."""


@settings(max_examples=60)
@example([Said("m1", "x", 500 + 1_000 * (n % 2), n % 20) for n in range(KEPT + 9)], [3, 50], "")
@example([Said("m1", "x", 1_000, 0), Said("m1", "x", 5_000, 1), Bands(1, 9), Said("m1", "x", 1_500, 8)], [], "")
@example([Said("m1", "x", 1_500, 0), Bands(1, 3), *[Said("m2", "x", 9, n) for n in range(4)]], [4], "save")
@example([Said("m1", "x", 500, 0), Said("m1", "x", 1_500, 1), Bands(1, 35), *IDLE], [40], "write")
@given(stories, st.lists(st.integers(0, 22), max_size=3), st.sampled_from(["", "write", "save"]))
def test_a_tier_as_of_any_time_is_that_of_a_plain_walk_over_the_log(
    story: Story, flushes: list[int], dies: str
) -> None:
    walk = Walk(story)
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory), log_of(story))
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
        state = readstate.load(bench.engine, bench.source)
        bench.engine.dispose()
    last = len(story) - 1
    assert {one["member_id"]: one["tier"] for one in values} == {m: walk.now(m, last) for m in walk.kept}
    for member, kept in walk.kept.items():
        stored = [[(one[0] - START) // HOUR, one[1], *one[3:]] for one in state.tiers["acme", member].changes]
        assert stored == kept
    engine = create_engine("sqlite://")
    with engine.begin() as conn:
        create_tables(conn)
        apply(conn, TIERS, 0, 0, len(values), values)
        for member, kept in walk.kept.items():
            for hour in range(-1, 40):
                at = START + hour * HOUR
                expected = walk.then(member, hour)
                change = state.tier_at(("acme", member), at)
                assert (change.tier, change.followers) == expected
                if walk.lost and len(kept) == KEPT and hour < kept[0][0]:
                    try:
                        member_tier(conn, "acme", member, at)
                    except NotFound:
                        continue
                    raise AssertionError("a tier that is not kept was made up")
                found = member_tier(conn, "acme", member, at)
                assert (found.tier, found.followers) == expected
                assert member_tiers(conn, "acme", [member], at) == {member: expected[0]}
    engine.dispose()


def test_a_version_tells_its_tiers_once_the_log_has_come_to_it_and_again_only_if_they_are_others():
    log = log_of([Said("m1", "x", 1_500, 0), Bands(1, 5), Said("m2", "x", 10, 1)])
    log.append(definition(5, {**BRAND, "version": 3, "effective_at": START + 6 * HOUR, "tiers": TIERS_OF[1]}))
    log[-1] = log[-1]._replace(timestamp=START + 4 * HOUR)
    log.append(record(6, "Interaction", interaction(member_id="m3", surface="brand_post"), START + 5 * HOUR))
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory), log)
        part = bench.worker()
        said: list[tuple[str, str]] = []
        for end in range(3, len(log) + 1):
            part.apply(bench.chunk(part.next, end), 1)
            values = [decode(value) for _, value, _ in part.begin_flush().records.get(TIERS, ()) if value]
            said += [(value["member_id"], value["tier"]) for kind, value in values if kind == "MemberTier"]
        bench.engine.dispose()
    assert said[:2] == [("m1", "micro"), ("m1", "micro")], "the change, and the version that lies ahead"
    assert said[2:] == [("m2", "nano"), ("m1", "nano"), ("m2", "nano")], "the version is in force"


@pytest.mark.parametrize(("fields", "now", "tier"), [(3, 1_500, "nano"), (5, 5_000, "micro"), (3, 5_000, "micro")])
def test_what_an_older_release_has_stored_and_told_is_brought_up_to_all_bounds(
    tmp_path: Path, fields: int, now: int, tier: str
) -> None:
    """It kept a change of tier only, and told nothing when the brand got other tiers."""
    story: Story = [Said("m1", "x", 1_000, 0), Said("m1", "x", now, 1), Bands(1, 2), Said("m2", "x", 10, 3)]
    bench = Bench(tmp_path, log_of(story))
    bench.finish()
    ((name, told),) = [(key, value) for key, value in bench.written[TIERS].items() if not is_pane(key) and b"m1" in key]
    before = [[START, 0, "micro", "x", 1_000][:fields]]
    old = {**decode(told)[1], "tier": "old", "changes": json.dumps(before, separators=(",", ":"))}
    bench.written[TIERS][name] = encode("MemberTier", old)
    with bench.engine.begin() as conn:
        conn.execute(text("UPDATE stream_profiles SET tiers = :old WHERE member = 'm1'"), {"old": json.dumps(before)})
    part = bench.worker()
    state = part.fold.state
    assert state.tier_at(("acme", "m1"), START + HOUR).tier == "micro"
    assert state.tier_at(("acme", "m1"), START + 2 * HOUR)[2:] == (tier, "x", now)
    bench.log.append(record(len(bench.log), "Interaction", interaction(member_id="m3"), NOW))
    bench.finish(part)
    again = decode(bench.written[TIERS][name])[1]
    assert (again["tier"], json.loads(again["changes"])[-1][2:]) == (tier, [tier, "x", now])
    assert readstate.load(bench.engine, bench.source).tiers == state.tiers
    bench.engine.dispose()


def test_a_member_is_in_a_tier_since_it_was_in_another_and_not_since_followers_moved(tmp_path: Path) -> None:
    story: Story = [Said("m1", "x", 500, 0), Said("m1", "x", 1_500, 1), Bands(1, 30), Said("m1", "x", 5_000, 3)]
    bench = Bench(tmp_path, log_of(story))
    bench.finish()
    values = [decode(value)[1] for key, value in bench.written[TIERS].items() if not is_pane(key)]
    bench.engine.dispose()
    engine = create_engine("sqlite://")
    with engine.begin() as conn:
        create_tables(conn)
        apply(conn, TIERS, 0, 0, len(values), values)
        for at in (None, START + 3 * HOUR, START + HOUR):
            found = member_tier(conn, "acme", "m1", at)
            assert (found.tier, found.since) == ("micro", iso(START + HOUR))
        assert found.followers == 1_500
    engine.dispose()
