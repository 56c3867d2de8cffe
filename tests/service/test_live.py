"""Live events in process: nobody misses a change, however often they go and come back; the slow are dropped alone."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live_world import Client, World

from aggregates.database import open_database
from projections import queries
from projections.queries import standings
from service.api import live as live_module
from service.api import live_changes, live_readers, metrics
from service.api.live import LiveEvents
from service.api.live_changes import BALANCE, STANDING
from service.api.live_readers import Dropped, Ended, Interest
from service.migrate import migrate
from service.problems import Refusal
from service.settings import Settings

sys.path.insert(0, str(Path(__file__).parents[1] / "projections"))
ledger_stream: Any = importlib.import_module("ledger_stream")
BRANDS, MEMBERS, CAMPAIGNS, START = (
    ledger_stream.BRANDS, ledger_stream.MEMBERS, ledger_stream.CAMPAIGNS, ledger_stream.START
)  # fmt: skip
MOVING = {"PointsRedeemed", "RedemptionCancelled", "PointsAdjusted", "PrizeAwarded"}
NOW = START + 1_000 * 3_600_000
INTERESTS = (
    Interest(),
    Interest("acme"),
    Interest("zeta", kinds=frozenset({BALANCE})),
    Interest("acme", "ann"),
    Interest("acme", None, "spring"),
)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is so small that a few events pass every limit."""
    monkeypatch.setattr(live_module, "POLL_SECONDS", 0.002)
    monkeypatch.setattr(live_module, "RECENT", 4)
    monkeypatch.setattr(live_module, "PAGE", 5)
    monkeypatch.setattr(live_changes, "PAGE", 5)
    monkeypatch.setattr(live_changes, "SPAN", 7)
    monkeypatch.setattr(live_readers, "BATCH", 2)


@pytest.fixture
def world(empty_database: str) -> Iterator[World]:
    made = World(empty_database)
    yield made
    made.close()


def settings_of(database: str) -> Settings:
    return Settings(kafka="127.0.0.1:1", database=database, secret="s")


async def following(database: str, steps: Callable[[LiveEvents], Coroutine[Any, Any, None]]) -> None:
    live = LiveEvents(settings_of(database), lambda: NOW)
    try:
        await steps(live)
    finally:
        await live.close()


class Play:
    """Random steps of a ledger and of clients that go and come back, and what these must know in the end."""

    def __init__(self, world: World, live: LiveEvents) -> None:
        self.world = world
        self.stream = ledger_stream.Stream()
        self.stored = 0
        self.clients = [Client(live, interest) for interest in INTERESTS]
        self.begun: dict[int, int] = {}
        """Client → number of events that there were when it first followed."""

    def store(self) -> None:
        new = self.stream.events[self.stored :]
        self.world.append((one.originator, one.event) for one in new)
        self.stored += len(new)

    async def step(self, name: str, *args: Any) -> None:
        if name == "project":
            await asyncio.to_thread(self.world.project)
        elif name == "connect":
            client = self.clients[args[0]]
            client.cut()
            await client.connect()
            self.begun.setdefault(args[0], client.last or 0)
        elif name == "cut":
            self.clients[args[0]].cut()
        elif name == "hear":
            client = self.clients[args[0]]
            if client.reader is not None:
                await client.some(args[1])
                client.cut()
        else:
            getattr(self.stream, name)(*args)
            self.store()

    async def finish(self, database: str) -> None:
        end = await asyncio.to_thread(self.world.project)
        for number, client in enumerate(self.clients):
            client.cut()
            await client.connect()
            self.begun.setdefault(number, client.last or 0)
            await client.all(end)
        engine = open_database(database, read_only=True)
        with engine.connect() as conn:
            for number, client in enumerate(self.clients):
                self.check(conn, client, self.begun[number])
        engine.dispose()

    def check(self, conn: Any, client: Client, begun: int) -> None:
        """The client knows what the reads answer, of everything that changed since it first followed."""
        moved, scored, ended = self.changed_since(begun)
        told, wants = dict(client.values), client.interest
        for brand, member in ((b, m) for b in BRANDS for m in MEMBERS):
            is_wanted = wants.brand in (None, brand) and wants.member in (None, member)
            value = told.pop((BALANCE, brand, "", member), None)
            if is_wanted and BALANCE in wants.kinds and wants.campaign is None:
                assert value is not None or (brand, member) not in moved, f"{wants} misses {brand}/{member}"
                now = queries.balance(conn, brand, member, NOW).model_dump(exclude={"position"})
                assert value is None or {name: value[name] for name in now} == now
            else:
                assert value is None
            for campaign in CAMPAIGNS:
                score = told.pop((STANDING, brand, campaign, member), None)
                is_scored = is_wanted and STANDING in wants.kinds and wants.campaign in (None, campaign)
                assert is_scored or score is None
                if is_scored:
                    of = (brand, campaign, member)
                    self.check_score(conn, score, *of, of in scored, (brand, campaign) in ended)
        assert not told, f"nobody asked for {told}"

    def check_score(
        self, conn: Any, score: Any, brand: str, campaign: str, member: str, has_changed: bool, has_ended: bool
    ) -> None:
        places = {place.member: place for place in self.stream.settled.get((brand, campaign), ())}
        if places or (brand, campaign) in self.stream.settled:
            place = places.get(member)
            if has_ended and place is not None:
                assert score is not None
                assert (score["score"], score["rank"], score["final"]) == (place.score, place.rank, True)
        elif score is None:
            assert not has_changed, f"nobody was told of {brand}/{campaign}/{member}"
        else:
            points = dict(standings.points_scores(conn, brand, campaign))
            assert (score["score"], score["rank"], score["final"]) == (points[member], None, False)

    def changed_since(self, begun: int) -> tuple[set[Any], set[Any], set[Any]]:
        """Whose balance, whose scores and which campaigns' ends are in the events from then on."""
        moved, scored, ended = set(), set(), set()
        for one in self.stream.events[begun:]:
            kind, _, rest = one.originator.partition(":")
            brand, _, name = rest.partition("/")
            parts = (*getattr(one.event, "grants", ()), *getattr(one.event, "reversals", ()))
            if kind == "account":
                scored |= {(brand, part.campaign, name) for part in parts}
                if parts or type(one.event).__name__ in MOVING:
                    moved.add((brand, name))
            elif type(one.event).__name__ == "StandingsKept":
                ended.add((brand, name))
        return moved, scored, ended


TIMES = st.integers(0, 30).map(lambda hours: START + hours * 3_600_000)
WHO = (st.sampled_from(BRANDS), st.sampled_from(MEMBERS))
REWARDS = st.tuples(
    st.just("reward"), *WHO, st.integers(1, 60), st.sampled_from(CAMPAIGNS), TIMES, st.integers(0, 6), st.none()
)
STEPS = st.one_of(
    REWARDS,
    REWARDS,
    st.tuples(st.just("take_back"), st.integers(0, 9), st.integers(1, 60), TIMES, st.booleans()),
    st.tuples(st.just("redeem"), *WHO, st.integers(1, 60), TIMES),
    st.tuples(st.just("settle"), st.sampled_from(BRANDS), st.sampled_from(CAMPAIGNS)),
    st.tuples(st.just("project")),
    st.tuples(st.just("connect"), st.integers(0, len(INTERESTS) - 1)),
    st.tuples(st.just("cut"), st.integers(0, len(INTERESTS) - 1)),
    st.tuples(st.just("hear"), st.integers(0, len(INTERESTS) - 1), st.integers(0, 2)),
)


@pytest.mark.usefixtures("small")
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=st.lists(STEPS, max_size=60))
def test_who_comes_back_with_the_last_id_misses_nothing(tmp_path_factory: Any, steps: list[tuple[Any, ...]]) -> None:
    database = f"sqlite:///{tmp_path_factory.mktemp('live') / 'live.db'}"
    migrate(database)
    world = World(database)

    async def play(live: LiveEvents) -> None:
        one = Play(world, live)
        one.stream.define()
        one.store()
        world.project()
        for name, *args in steps:
            await one.step(name, *args)
        await one.finish(database)

    try:
        asyncio.run(following(database, play))
    finally:
        world.close()


@pytest.mark.usefixtures("small")
def test_a_long_absence_on_either_database_is_made_up_for(empty_database: str, world: World) -> None:
    async def play(live: LiveEvents) -> None:
        one = Play(world, live)
        one.stream.define()
        one.store()
        world.project()
        for client in one.clients:
            await client.connect()
            one.begun[one.clients.index(client)] = client.last or 0
            client.cut()
        one.stream = ledger_stream.long_stream(120)
        one.store()
        await one.finish(empty_database)
        everything = one.clients[0].values
        assert {key[0] for key in everything} == {BALANCE, STANDING}
        assert any(value.get("final") for value in everything.values())

    asyncio.run(following(empty_database, play))


def grown(world: World, count: int, brand: str = "acme") -> int:
    """So many rewards for members of their own, which read models have; the position then."""
    stream = ledger_stream.Stream()
    if not world.ledger.last_notification():
        stream.define()
    for number in range(count):
        stream.reward(brand, f"member-{world.ledger.last_notification()}-{number}", 5, "spring", START, 0, None)
    world.append((one.originator, one.event) for one in stream.events)
    return world.project()


@pytest.mark.usefixtures("small")
def test_a_reader_that_takes_nothing_is_dropped_and_the_others_are_not(
    empty_database: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_readers, "LIMIT", 6)
    before = metrics.LIVE_DROPPED._value.get()

    async def play(live: LiveEvents) -> None:
        grown(world, 1)
        slow, quick = Client(live, Interest("acme")), Client(live, Interest())
        await slow.connect()
        await quick.connect()
        for _ in range(6):
            await quick.all(await asyncio.to_thread(grown, world, 3))
        assert slow.reader is not None
        assert slow.reader.position == slow.last, "what waited is let go, and it knows where to come back to"
        with pytest.raises(Dropped):
            await slow.reader.take(1)
        slow.cut()
        await slow.connect()
        await slow.all(world.ledger.last_notification())
        assert slow.known() == quick.known()
        assert len(slow.values) == 2 * 18

    asyncio.run(following(empty_database, play))
    assert metrics.LIVE_DROPPED._value.get() == before + 1


def test_changes_are_an_async_iterator_that_ends_with_the_server(empty_database: str, world: World) -> None:
    async def play(live: LiveEvents) -> None:
        grown(world, 1)
        reader = await live.subscribe(Interest("acme", kinds=frozenset({BALANCE})))
        grown(world, 2)
        seen = []
        async for change in reader:
            seen.append(change.body.model_dump()["active"])
            if len(seen) == 2:
                live.end()
        assert seen == [5, 5]
        with pytest.raises(Ended):
            await reader.take(1)
        with pytest.raises(Refusal, match="stops"):
            await live.subscribe()

    asyncio.run(following(empty_database, play))


def test_nothing_is_read_while_nobody_follows(empty_database: str, world: World) -> None:
    async def play(live: LiveEvents) -> None:
        end = grown(world, 2)
        first = await live.subscribe()
        assert (first.position, live._follower is None) == (end, False)
        first.close()
        deadline = asyncio.get_running_loop().time() + 10
        while live._follower is not None:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.01)
        end = grown(world, 2)
        again = await live.subscribe(after=first.position)
        batch = await again.take(5)
        assert batch is not None
        assert (len(batch.changes), batch.position) == (4, end)

    asyncio.run(following(empty_database, play))


def test_an_id_ahead_of_the_ledger_is_refused(empty_database: str, world: World) -> None:
    async def play(live: LiveEvents) -> None:
        end = grown(world, 1)
        with pytest.raises(Refusal, match=f"the ledger, which is at {end}") as refused:
            await live.subscribe(after=end + 1)
        assert refused.value.code == "position_not_reached"

    asyncio.run(following(empty_database, play))
