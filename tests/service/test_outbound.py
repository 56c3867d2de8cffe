"""What downstream services get on topics: every entry, and balances and scores that end as the read models are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from own_broker import running

from aggregates.database import open_database
from aggregates.events import InteractionTakenBack, Origin, PointsRedeemed, Reversal, Take
from aggregates.ledger import Ledger, account_id, campaign_aggregate
from aggregates.ledger_store import Encoded, encoded
from aggregates.program_events import CampaignClosed, CampaignSettled, Place, StandingsKept
from projections import queries, registry
from projections.statements import STATEMENTS
from projections.upkeep.runner import Runner
from schemas.codec import decode
from schemas.topics import ACTIVITY, BALANCES, LEDGER, STANDINGS
from service import outbound, outbox
from service.broker import kafka
from service.broker.topic_admin import create
from service.outbound import Outbound, republish, whole
from service.settings import Settings
from streams import outputs

HOUR = 3_600_000
MARCH = 1_772_323_200_000
"""2026-03-01T00:00:00Z, when the campaign that is there begins."""
NOW = MARCH + 48 * HOUR


def origin(event_id: str, offset: int, at: int) -> Origin:
    return Origin(ACTIVITY, 0, offset, event_id, at, at + 1_000)


BACK = Reversal("back-1", "lot-e1", "spring", 1, "share", 30, (Take("lot-e1", 30),))
UNLIKED = InteractionTakenBack(
    origin("e9", 5, MARCH + 5 * HOUR), "share", "brand_post", "x", -1, "p1", None, (), (BACK,)
)
SPENT = PointsRedeemed(origin("k1", 6, MARCH + 6 * HOUR), "redeemed-1", 20, (Take("lot-e3", 20),), "tests")
PLACES = (Place("bob", 1, 50, 500), Place("ann", 2, 20, 300), Place("cat", 3, None))


@pytest.fixture(scope="module")
def broker_of_its_own() -> Iterator[str]:
    with running() as address:
        yield address


@pytest.fixture
def world(settings: Settings, broker_of_its_own: str) -> Iterator[World]:
    one = World(settings.model_copy(update={"kafka": broker_of_its_own}))
    asyncio.run(one.forget_topics())
    yield one
    one.close()


class World:
    """A database with a ledger that read models include, and its topics."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.ledger = Ledger(settings.database)
        self.engine = open_database(settings.database)
        self.read_only = open_database(settings.database, read_only=True)
        self.starts: dict[str, int] = {}

    async def forget_topics(self) -> None:
        """What stands there now is of another test."""
        await create(self.settings)
        for topic in (LEDGER, BALANCES, STANDINGS):
            self.starts[topic] = await outputs.end_of(self.settings.brokers, topic, 0)

    def close(self) -> None:
        self.ledger.close()
        self.engine.dispose()
        self.read_only.dispose()

    def append(self, *events: Encoded) -> None:
        self.ledger.store.write(list(events))

    def project(self) -> None:
        Runner(self.engine, self.ledger.notifications, registry.LEDGER).catch_up()

    def publish(self, dies: bool = False) -> int:
        """Send until there is nothing left; how many ledger events were read. Or die before the position is stored."""

        async def all_of_it() -> int:
            async with kafka.producer(self.settings) as client:
                sender = Outbound(self.engine, self.read_only, self.ledger, client, lambda: NOW)
                if dies:
                    sender._sent.move = _dies  # type: ignore[method-assign]
                count = 0
                while read := await sender.step():
                    count += read
                return count

        return asyncio.run(all_of_it())

    def records(self, topic: str) -> list[tuple[bytes, dict[str, Any]]]:
        """Key and value of everything on a topic since the test began."""

        async def read() -> list[tuple[bytes, dict[str, Any]]]:
            found = outputs.read(self.settings.brokers, topic, 0, self.starts[topic])
            return [(record.key, decode(record.value)[1]) async for record in found]

        return asyncio.run(read())

    def latest(self, topic: str) -> dict[bytes, dict[str, Any]]:
        """What a consumer has that drops what is older than what it has."""
        kept: dict[bytes, dict[str, Any]] = {}
        for key, value in self.records(topic):
            if key not in kept or value["position"] >= kept[key]["position"]:
                kept[key] = value
        return kept


def _dies(_old: int, _new: int) -> bool:
    raise SystemError("killed before the position was stored")


def test_every_entry_is_sent_and_balances_and_scores_end_as_the_read_models_are(world):
    world.append(encoded(account_id("acme", "ann"), 3, UNLIKED), encoded(account_id("acme", "bob"), 3, SPENT))
    assert world.publish() == 6, "no more than the read models include"
    world.project()
    assert world.publish() == 2
    with world.read_only.connect() as conn:
        stated = {row.entry_id: (row.member, row.kind, row.points, row.seq) for row in conn.execute(_STATEMENTS)}
        balances = {member: queries.balance(conn, "acme", member, NOW) for member in ("ann", "bob")}
    entries = [value for _, value in world.records(LEDGER)]
    assert {e["entry_id"]: (e["member_id"], e["kind"], e["points"], e["position"]) for e in entries} == stated
    assert len(entries) == len(stated) == 5
    first = entries[0]
    assert (first["campaign_id"], first["rule"], first["source_offset"], first["limited_by"]) == (
        "spring",
        "share",
        0,
        None,
    )
    for member, balance in balances.items():
        sent = world.latest(BALANCES)[f"acme/{member}".encode()]
        assert {name: sent[name] for name in ("active", "pending", "spent", "expired", "reversed")} == {
            name: getattr(balance, name) for name in ("active", "pending", "spent", "expired", "reversed")
        }
        assert (sent["as_of"], sent["position"]) == (NOW, 8)
    scores = {value["member_id"]: (value["score"], value["tier"]) for value in world.latest(STANDINGS).values()}
    assert scores == {"ann": (20, "nano"), "bob": (50, None)}
    assert not any(value["final"] for _, value in world.records(STANDINGS))


def test_what_was_sent_and_not_noted_is_sent_again_and_changes_nothing_for_a_consumer_that_goes_by_position(world):
    with pytest.raises(SystemError):
        world.publish(dies=True)
    once = [world.latest(topic) for topic in (BALANCES, STANDINGS)]
    assert world.publish() == 6
    assert len(world.records(LEDGER)) == 2 * 3
    assert [world.latest(topic) for topic in (BALANCES, STANDINGS)] == once


def test_settled_places_are_final_and_nothing_follows_them(world):
    spring = campaign_aggregate("acme", "spring")
    closed = CampaignClosed("acme", "spring", 1, NOW, NOW + HOUR)
    settled = CampaignSettled("acme", "spring", 1, "points", 3, 2, 800, NOW + HOUR, NOW + 2 * HOUR)
    world.append(
        encoded(spring, 2, closed),
        encoded(spring, 3, StandingsKept("acme", "spring", 1, NOW + HOUR, 0, PLACES)),
        encoded(spring, 4, settled),
        encoded(account_id("acme", "ann"), 3, UNLIKED),
    )
    world.project()
    world.publish()
    places = {value["member_id"]: value for value in world.latest(STANDINGS).values()}
    assert all(place["final"] for place in places.values())
    assert {member: (place["rank"], place["score"]) for member, place in places.items()} == {
        "bob": (1, 50), "ann": (2, 20), "cat": (None, None)
    }  # fmt: skip


def test_a_rate_is_in_parts_per_billion():
    assert [whole(score) for score in ("0.0415", "1.0000000005", "1.0000000015", 7, None)] == [
        41_500_000, 1_000_000_000, 1_000_000_002, 7, None
    ]  # fmt: skip


def test_everything_is_sent_again_when_somebody_asks_for_it(world):
    assert world.publish() == 6
    assert republish(world.engine, 5) == 6
    assert world.publish() == 2
    assert republish(world.engine, 9) == 6, "nothing has been sent there yet"
    assert world.publish() == 0
    with world.read_only.connect() as conn:
        assert outbox.position(conn, outbound.NAME) == 6


_STATEMENTS = sa.select(STATEMENTS.table)
