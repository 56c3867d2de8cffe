"""`topics accept`: what is lost is said first, and then the deployment goes on with the logs as they are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from aiokafka import AIOKafkaProducer
from own_broker import running

from aggregates.database import open_database
from aggregates.definitions import content_of
from aggregates.ledger import Ledger, Source, brand_aggregate
from aggregates.parsing import parse
from aggregates.program_events import BrandDefined
from projections import engagement
from projections.engagement import rebuild
from projections.upkeep.rebuild import Busy, NothingToGoBackTo
from schemas.topics import ACTIVITY, WINDOWS
from service import accept, outbox
from service.broker import kafka
from service.broker.topic_admin import create
from service.migrate import migrate
from service.problems import Unusable
from service.settings import Settings
from streams import broker, epochs, outputs, readstate


@pytest.fixture(scope="module")
def kafka_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A broker with topics and ten records in partition 0 of the activity log."""
    directory = tmp_path_factory.mktemp("accept")
    with running() as address:
        settings = Settings(kafka=address, database="", data_dir=directory, secret="s", partitions=1)

        async def fill() -> None:
            await create(settings)
            client = AIOKafkaProducer(bootstrap_servers=address)
            await client.start()
            for number in range(10):
                await client.send_and_wait(ACTIVITY, str(number).encode(), partition=0)
            await client.stop()

        asyncio.run(fill())
        yield settings


@pytest.fixture
def settings(kafka_settings: Settings, tmp_path: Path) -> Settings:
    database = f"sqlite:///{tmp_path / 'groundswell.db'}"
    migrate(database)
    return kafka_settings.model_copy(update={"database": database})


def read_up_to(settings: Settings, epoch: str, position: int, outputs: dict[str, int]) -> None:
    """As a worker leaves it that read so far."""
    engine = open_database(settings.database)
    source = Source(ACTIVITY, epoch, 0)
    readstate.take(engine, source, "w")
    profiles = {("acme", "ann"): ({"x": 300}, '[[1, 0, "nano", "x", 300], 1]')}
    delta = readstate.Delta(0, position, 5, 5, {"accepted": position}, profiles, {}, [], [])
    readstate.save(engine, source, delta, "w", outputs)
    engine.dispose()


def epoch_of(settings: Settings) -> str:
    return asyncio.run(broker.describe(settings.brokers, ACTIVITY)).epoch


def changes(settings: Settings) -> list[accept.Change]:
    return asyncio.run(accept.changes(settings)).of_partitions


def accepted(settings: Settings, wanted: list[accept.Change] | None = None) -> None:
    """As `topics accept --yes` does it, but for what is sent again."""
    found = asyncio.run(accept.changes(settings))
    assert found
    accept.accept(settings, found if wanted is None else replace(found, of_partitions=wanted))


def test_logs_as_they_were_read_need_nothing(settings):
    read_up_to(settings, epoch_of(settings), 10, {})
    assert changes(settings) == []


def test_a_topic_made_anew_is_refused_by_a_worker_until_it_is_accepted(settings):
    read_up_to(settings, "before", 7, {})
    engine = open_database(settings.database)
    now = Source(ACTIVITY, epoch_of(settings), 0)
    with pytest.raises(readstate.OtherLog, match=r"was read as members\.activity\.v1/before/0 up to offset 7"):
        readstate.take(engine, now, "w2")
    found = changes(settings)
    assert [(change.old, change.position, change.anew) for change in found] == [(f"{ACTIVITY}/before/0", 0, False)]
    assert "made anew" in found[0].sentence
    accepted(settings, found)
    state = readstate.take(engine, now, "w2")
    assert (state.saved, state.profiles) == (0, {("acme", "ann"): {"x": 300}})
    assert changes(settings) == []
    engine.dispose()


def test_definitions_of_the_old_log_stand_beside_those_at_the_same_offsets_of_the_new_one(settings):
    read_up_to(settings, "before", 7, {})
    engine, now = open_database(settings.database), Source(ACTIVITY, epoch_of(settings), 0)
    define(
        engine, Source(ACTIVITY, "before", 0), 7, [(0, content({"brand": "acme"})), (3, content({"brand": "other"}))]
    )
    accepted(settings)
    readstate.take(engine, now, "w")
    define(engine, now, 0, [(0, content({"brand": "third"})), (3, content({"brand": "fourth"}))])
    programs = readstate.load(engine, now).programs
    assert all(programs.brand(name, 5) for name in ("acme", "other", "third", "fourth"))
    engine.dispose()


def define(
    engine: sa.Engine,
    source: Source,
    position: int,
    definitions: list[tuple[int, str]],
    outputs: dict[str, int] | None = None,
) -> None:
    """A worker meets definitions at these offsets behind `position`, and saves the ten offsets that have them."""
    delta = readstate.Delta(position, position + 10, 5, 5, {}, {}, {}, definitions, [])
    readstate.save(engine, source, delta, "w", outputs or {})


def content(document: dict[str, str]) -> str:
    return content_of(parse({"currency": "EUR", **document}, "test"))


def test_what_was_read_of_a_log_that_is_gone_is_kept_also_when_the_panes_are_gone(settings):
    """As when a whole cluster is lost: nothing could be folded again, and definitions are not sent twice."""
    read_up_to(settings, "before", 7, {WINDOWS: 4})
    engine, now = open_database(settings.database), Source(ACTIVITY, epoch_of(settings), 0)
    define(engine, Source(ACTIVITY, "before", 0), 7, [(0, content({"brand": "acme"}))], {WINDOWS: 4})
    with engine.begin() as conn:
        engagement.apply(conn, WINDOWS, 0, 0, 4, [])
    found = changes(settings)
    assert f"{WINDOWS} lost what was written" in found[0].sentence
    accepted(settings, found)
    state = readstate.load(engine, now)
    assert (state.saved, state.profiles, state.outputs) == (0, {("acme", "ann"): {"x": 300}}, {})
    assert state.programs.brand("acme", 5)
    with engine.connect() as conn:
        assert engagement.position(conn, WINDOWS, 0) == 0, "the tables read the new topic from its start"
    assert changes(settings) == []
    engine.dispose()


def test_a_log_that_was_cut_at_its_end_cannot_be_accepted(settings):
    read_up_to(settings, epoch_of(settings), 11, {})
    with pytest.raises(Unusable, match="ends at offset 10 and was read up to 11"):
        changes(settings)


def test_outputs_that_are_lost_are_folded_again_from_the_logs_start(settings):
    read_up_to(settings, epoch_of(settings), 10, {WINDOWS: 4})
    found = changes(settings)
    assert [(change.position, change.anew) for change in found] == [(0, True)]
    assert f"{WINDOWS} lost what was written" in found[0].sentence
    assert "log before" not in found[0].sentence
    engine = open_database(settings.database)
    reading = open_database(settings.database, read_only=True)
    build = rebuild.Build(settings.database, engine, reading)
    build.start({})
    build.swap()
    reading.dispose()
    accepted(settings, found)
    with pytest.raises(NothingToGoBackTo):
        rebuild.go_back(engine)
    state = readstate.load(engine, Source(ACTIVITY, epoch_of(settings), 0))
    assert (state.saved, state.profiles) == (0, {})
    engine.dispose()


@pytest.mark.parametrize("at", ["accept", "accept_outputs"])
def test_one_that_is_interrupted_is_found_again_whole(settings, monkeypatch, at):
    read_up_to(settings, epoch_of(settings), 10, {WINDOWS: 4})
    engine = open_database(settings.database)
    with engine.begin() as connection:
        epochs.accept_outputs(connection, {WINDOWS: "before"})
    before = changes(settings)
    assert [change.lost for change in before] == [True]

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(readstate if at == "accept" else epochs, at, interrupted)
        with pytest.raises(KeyboardInterrupt):
            accepted(settings, before)
    assert changes(settings) == before
    accepted(settings)
    assert not asyncio.run(accept.changes(settings))
    engine.dispose()


def test_outputs_made_anew_before_anything_was_written_to_them_are_accepted(settings):
    engine = open_database(settings.database)
    with engine.begin() as connection:
        epochs.accept_outputs(connection, {WINDOWS: "before"})
    found = asyncio.run(accept.changes(settings))
    assert found
    assert found.sentences() == [f"{WINDOWS} made anew; no partition has been read that would be in them"]
    accepted(settings)
    assert not asyncio.run(accept.changes(settings))
    assert epochs.other_outputs(engine, found.outputs) == []
    engine.dispose()


def test_a_partition_that_was_not_read_again_yet_reads_outputs_made_anew_once_more(settings):
    """Its read-state was forgotten by one `accept`, and no worker came before the next."""
    read_up_to(settings, epoch_of(settings), 10, {WINDOWS: 4})
    accepted(settings)
    engine = open_database(settings.database)
    with engine.begin() as connection:
        engagement.apply(connection, WINDOWS, 0, 0, 4, [])
        engagement.apply(connection, WINDOWS, 3, 0, 5, [])
        epochs.accept_outputs(connection, {WINDOWS: "before"})
    accepted(settings)
    with engine.connect() as connection:
        assert engagement.positions(connection, WINDOWS) == {}
    engine.dispose()


def test_a_log_made_anew_before_anything_of_it_was_read_keeps_what_the_logs_before_it_held(settings):
    read_up_to(settings, "before", 7, {})
    engine, now = open_database(settings.database), Source(ACTIVITY, epoch_of(settings), 0)
    define(engine, Source(ACTIVITY, "before", 0), 7, [(0, content({"brand": "acme"}))])
    between = Source(ACTIVITY, "between", 0)
    with engine.begin() as connection:
        readstate.accept(connection, f"{ACTIVITY}/before/0", between, 0)
    with pytest.raises(readstate.OtherLog, match=r"was read as members\.activity\.v1/between/0 up to offset 0"):
        readstate.take(engine, now, "w")
    accepted(settings)
    state = readstate.take(engine, now, "w")
    assert state.programs.brand("acme", 5)
    assert state.profiles == {("acme", "ann"): {"x": 300}}
    engine.dispose()


@pytest.mark.parametrize("position", [3, 10])
def test_outputs_that_are_lost_with_the_begin_of_the_log_cannot_be_folded_again(settings, monkeypatch, position):
    read_up_to(settings, epoch_of(settings), position, {WINDOWS: 4})

    async def bounds_of(*_: object) -> dict[int, tuple[int, int]]:
        return {0: (5, 10)}  # as retention leaves it, which the embedded broker has not

    monkeypatch.setattr(outputs, "bounds_of", bounds_of)
    with pytest.raises(Unusable, match="the activity log begins at offset 5: the windows cannot be folded again"):
        changes(settings)


def test_readers_in_the_way_are_named_and_nothing_is_accepted(settings, monkeypatch):
    read_up_to(settings, epoch_of(settings), 10, {WINDOWS: 4})
    before = changes(settings)

    def busy(*_: object) -> None:
        raise Busy("transactions that read the tables are still open")

    with monkeypatch.context() as patch:
        patch.setattr(rebuild, "forget", busy)
        with pytest.raises(Unusable, match=r"still open; nothing was accepted\. Run it again"):
            accepted(settings)
    assert changes(settings) == before


def test_outputs_made_anew_are_lost_however_long_they_are_now(settings):
    """Their ids tell: that they end behind what was written says nothing."""
    read_up_to(settings, epoch_of(settings), 10, {})
    engine = open_database(settings.database)
    now = {WINDOWS: asyncio.run(broker.describe(settings.brokers, WINDOWS)).epoch}
    assert epochs.other_outputs(engine, now) == []
    assert changes(settings) == []
    with engine.begin() as connection:
        epochs.accept_outputs(connection, {WINDOWS: "before"})
    assert epochs.other_outputs(engine, {WINDOWS: "before"}) == []
    assert epochs.other_outputs(engine, now) == [WINDOWS], "a worker refuses them until they are accepted"
    found = changes(settings)
    assert [(change.position, change.anew, change.lost) for change in found] == [(0, True, True)]
    assert f"{WINDOWS} lost what was written" in found[0].sentence
    accepted(settings, found)
    assert changes(settings) == []
    assert epochs.other_outputs(engine, {WINDOWS: "before"}) == [WINDOWS], "a worker of before, which is still up"
    assert epochs.other_outputs(engine, now) == []
    engine.dispose()


def test_definitions_of_a_log_before_stay_when_the_log_is_folded_again(settings):
    read_up_to(settings, "before", 7, {})
    engine, now = open_database(settings.database), Source(ACTIVITY, epoch_of(settings), 0)
    define(engine, Source(ACTIVITY, "before", 0), 7, [(0, content({"brand": "acme"}))])
    accepted(settings)
    readstate.take(engine, now, "w")
    define(engine, now, 0, [(0, content({"brand": "third"}))], {WINDOWS: 4})
    found = changes(settings)
    assert [change.anew for change in found] == [True]
    assert "profiles and memberships from it are unknown" in found[0].sentence
    accepted(settings, found)
    programs = readstate.take(engine, now, "w").programs
    assert programs.brand("acme", 5)
    assert not programs.brand("third", 5), "it is on the log"
    engine.dispose()


def test_a_definition_that_was_not_read_before_its_log_was_made_anew_is_sent_again_first(tmp_path):
    acme, other = (content({"brand": name}) for name in ("acme", "other"))
    with running() as address:
        settings = Settings(
            kafka=address,
            database=f"sqlite:///{tmp_path / 'groundswell.db'}",
            data_dir=tmp_path,
            secret="s",
            partitions=1,
        )
        migrate(settings.database)
        asyncio.run(create(settings))
        engine, ledger = open_database(settings.database), Ledger(settings.database)
        for name, said in (("acme", acme), ("other", other)):
            aggregate = brand_aggregate(name)
            ledger.append({aggregate: [BrandDefined(name, 1, 0, said, 5)]}, {aggregate: 0})
        read_up_to(settings, "before", 7, {})
        define(engine, Source(ACTIVITY, "before", 0), 7, [(3, acme)])
        outbox.SentPosition(engine, outbox.NAME).move(0, ledger.last_notification())
        found = asyncio.run(accept.changes(settings))
        assert "is sent again" in found.of_partitions[0].sentence
        assert asyncio.run(accept.go_on(settings, found)) == {"Definition": 1, "ProgramDefinition": 2}
        assert changes(settings) == []
        assert asyncio.run(kafka.log_ends(settings.brokers, ACTIVITY)) == {0: 1}
        ledger.close()
        engine.dispose()
