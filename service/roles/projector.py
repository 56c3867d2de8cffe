"""The projector role: read models from ledger and pane topics, settlements, and all that follows from the ledger.

One projector of a database works; others stand by and take over. While the database is away it waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from threading import Event
from typing import Any

import sqlalchemy as sa
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from aggregates.database import Exclusive, Lock, end_former, is_unavailable, open_database
from aggregates.ledger import Ledger
from projections import engagement, registry
from projections.upkeep import snapshotting
from projections.upkeep.runner import CACHE_KIB, Runner
from schemas.codec import decode
from schemas.topics import TIERS, WINDOWS
from service import database_refusal, heartbeats, migrate, process
from service.broker import kafka, topic_admin
from service.instants import now_ms
from service.outbound import Outbound
from service.outbox import Outbox
from service.problems import COULD_NOT_RUN, Unusable
from service.roles.projector_metrics import METRICS
from service.roles.role_port import RolePort
from service.roles.settlement import HOUR_MS, Settlements
from service.settings import Settings
from streams.fetching import as_fetched

log = structlog.get_logger()
IDLE_SECONDS = 0.05
SOON_SECONDS = 0.02
"""How soon after events the ledger is asked for more, since each page costs as much as dozens of events; each time in
vain doubles it, up to `IDLE_SECONDS`."""
SETTLE_SECONDS = 1.0
"""How often campaigns are looked at that end."""
SNAPSHOT_SECONDS = 600.0
"""How often it is looked whether a snapshot of the past is due."""
SETTLED_MS = 2 * 24 * HOUR_MS
"""How long ago an instant must be before a snapshot is taken of it: most of what comes late has come by then."""
BETWEEN_SECONDS = 0.2
"""How long what has fewer than `FEW` events or panes to do waits for more of them: each round costs about as much as
dozens of them, and those who read points would wait for it."""
FEW = 1_000
POLL_MS = 200
LEASE_SECONDS = 10
"""On PostgreSQL another projector takes over from one that has been frozen for so long."""
SESSION_NAME = "groundswell projector"
PROJECTING = "projecting"
STANDING_BY = "standing by: another projector is at work"
WAITING = "waiting for the database:"
STAND_BY_SECONDS = 1.0
"""How often a projector that stands by, or waits for the database, tries again."""
Positions = dict[TopicPartition, int]
"""The next offset to read of each partition."""
Fetched = Mapping[TopicPartition, Sequence[ConsumerRecord[Any, bytes]]]
"""What came at once, of the partitions of which something came."""


class LeadLost(Exception):
    """The connection that held the projector's lock is gone: another one may be at work."""


async def _forever(step: Callable[[], Awaitable[int]], stop: asyncio.Event) -> None:
    while not stop.is_set():
        if await step() < FEW:
            await asyncio.sleep(BETWEEN_SECONDS)


async def _fold(runner: Runner, stop: asyncio.Event) -> None:
    """Keep the ledger's read models up, in a thread that does not wait for the others' turns on the loop."""
    ended = Event()

    def work() -> None:
        pause = SOON_SECONDS
        while not ended.is_set():
            pause = SOON_SECONDS if runner.step() else min(2 * pause, IDLE_SECONDS)
            ended.wait(pause)

    working = asyncio.create_task(asyncio.to_thread(work))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        ended.set()
        await working


async def _engagement(settings: Settings, engine: sa.Engine, partitions: int, stop: asyncio.Event) -> None:
    """Follow both pane topics; the rows of a fetch and the positions are written in one transaction."""
    consumer = AIOKafkaConsumer(
        **settings.brokers.options,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=4 << 20,
        key_deserializer=as_fetched,
    )
    await consumer.start()
    try:
        tps = [TopicPartition(topic, n) for topic in (WINDOWS, TIERS) for n in range(partitions)]
        consumer.assign(tps)
        at = _seek(consumer, engine, tps)
        while not stop.is_set():
            fetched = await consumer.getmany(timeout_ms=POLL_MS, max_records=20_000)
            if not fetched:
                continue
            for tp, records in fetched.items():
                if records[0].offset < at[tp]:
                    raise Unusable(
                        f"{tp.topic} partition {tp.partition}: offset {records[0].offset} came where {at[tp]} was "
                        "next. Was the topic made anew? `groundswell topics accept` says what is lost, and goes on"
                    )
            ends = {tp: records[-1].offset + 1 for tp, records in fetched.items()}
            try:
                await asyncio.to_thread(_apply, engine, at, ends, fetched)
            except engagement.PositionMoved:  # other tables serve now, of a rebuild or from before it
                at = _seek(consumer, engine, tps)
            else:
                at |= ends
                if sum(map(len, fetched.values())) < FEW:
                    await asyncio.sleep(BETWEEN_SECONDS)
    finally:
        await consumer.stop()


def _seek(consumer: AIOKafkaConsumer, engine: sa.Engine, tps: Sequence[TopicPartition]) -> Positions:
    """Have the consumer go on where the tables stand; these positions."""
    with engine.connect() as connection:
        at = {tp: engagement.position(connection, tp.topic, tp.partition) for tp in tps}
    for tp, position in at.items():
        consumer.seek(tp, position)
    return at


def _apply(engine: sa.Engine, at: Positions, ends: Positions, fetched: Fetched) -> None:
    batches = [
        engagement.Batch(tp.topic, tp.partition, at[tp], ends[tp], [decode(record.value)[1] for record in records])
        for tp, records in fetched.items()
    ]
    with engine.begin() as connection:
        engagement.apply_all(connection, batches)


async def _settle(settings: Settings, ledger: Ledger, partitions: int, stop: asyncio.Event) -> None:
    """Close campaigns and settle them as they are due."""
    engine = open_database(settings.database, read_only=True)
    grace_ms = settings.grace_hours * HOUR_MS
    settlements = Settlements(engine, ledger, partitions, grace_ms, settings.min_posts)
    try:
        while not stop.is_set():
            await asyncio.to_thread(settlements.step)
            await _pause(stop, SETTLE_SECONDS)
    finally:
        engine.dispose()


async def _look_back(settings: Settings, engine: sa.Engine, stop: asyncio.Event) -> None:
    """Take the snapshots of the past that are due."""
    reading = open_database(settings.database, read_only=True)
    try:
        while not stop.is_set():
            taken = await asyncio.to_thread(snapshotting.step, engine, reading, now_ms() - SETTLED_MS)
            await _pause(stop, SETTLE_SECONDS if taken else SNAPSHOT_SECONDS)
    finally:
        reading.dispose()


async def _publish(
    settings: Settings, engine: sa.Engine, ledger: Ledger, client: AIOKafkaProducer, stop: asyncio.Event
) -> None:
    """Keep the ledger's topics up."""
    read_only = open_database(settings.database, read_only=True)
    try:
        await _forever(Outbound(engine, read_only, ledger, client, now_ms).step, stop)
    finally:
        read_only.dispose()


async def _keep_lead(lock: Exclusive, engine: sa.Engine, stop: asyncio.Event) -> None:
    """Say every second that we are at work, for as long as we are the one who may."""
    while not stop.is_set():
        if not await asyncio.to_thread(lock.is_held):
            raise LeadLost("the connection that held the projector's lock is gone")
        await asyncio.to_thread(heartbeats.beat, engine, "projector")
        await _pause(stop, heartbeats.EVERY_SECONDS)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


async def _project(settings: Settings, lock: Exclusive, stop: asyncio.Event) -> None:
    """Work until the signal. Raises what ended it before, in a group."""
    engine = open_database(settings.database, cache_kib=CACHE_KIB, name=SESSION_NAME)
    ledger = Ledger(settings.database)
    runner = Runner(engine, ledger.notifications, registry.LEDGER)

    try:
        await asyncio.to_thread(end_former, engine)
        async with kafka.producer(settings) as client:
            partitions = await kafka.partition_count(client)
            outbox = await asyncio.to_thread(Outbox, engine, ledger, client, settings.signing_key, partitions)
            async with asyncio.TaskGroup() as group:
                group.create_task(_keep_lead(lock, engine, stop))
                group.create_task(_fold(runner, stop))
                group.create_task(_forever(outbox.step, stop))
                group.create_task(_publish(settings, engine, ledger, client, stop))
                group.create_task(_settle(settings, ledger, partitions, stop))
                group.create_task(_look_back(settings, engine, stop))
                group.create_task(_engagement(settings, engine, partitions, stop))
        await asyncio.to_thread(heartbeats.leave, engine, "projector")
    finally:
        await asyncio.to_thread(ledger.close)
        engine.dispose()


def _causes(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _causes(one)
    else:
        yield error


async def _turn(settings: Settings, lock: Exclusive, stop: asyncio.Event, say: Callable[[str], None]) -> str:
    """Project if no other one does; why not any more. Raises what no waiting mends."""
    leads = False
    try:
        leads = await asyncio.to_thread(lock.acquire)
        if not leads:
            return STANDING_BY
        await asyncio.to_thread(migrate.check, settings.database)
        topic_admin.require(await topic_admin.missing(settings))
        say(PROJECTING)
        await _project(settings, lock, stop)
    except Exception as error:
        for cause in _causes(error):
            if database_refusal.reason(cause) is not None:
                raise Unusable(database_refusal.line(cause)) from None
            if isinstance(cause, LeadLost) or is_unavailable(cause):
                continue
            if not leads or await asyncio.to_thread(lock.is_held):  # else it may come of another one at work
                raise cause from None
        return f"{WAITING} {' '.join(str(next(_causes(error))).split())}"
    finally:
        lock.release()
    return "stopped"


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    lock = Exclusive(settings.database, Lock.PROJECT, LEASE_SECONDS)
    said = ["starting"]

    def say(what: str) -> None:
        if what != said[0]:
            log.info(what)
        said[0] = what

    reading = open_database(settings.database, read_only=True)
    port = RolePort(
        settings.metrics_port,
        lambda: "" if said[0] in (PROJECTING, STANDING_BY) else said[0],
        ready=lambda: "ready" if said[0] == PROJECTING else said[0],
        refresh=lambda: METRICS.read(reading, leads=said[0] == PROJECTING),
    )
    turning = asyncio.create_task(_say_turning(port))
    try:
        while not stop.is_set():
            say(await _turn(settings, lock, stop, say))
            await _pause(stop, STAND_BY_SECONDS)
    finally:
        turning.cancel()
        port.close()
        reading.dispose()


async def _say_turning(port: RolePort) -> None:
    while True:
        port.turned()
        await asyncio.sleep(heartbeats.EVERY_SECONDS)


def run(settings: Settings) -> int:
    """Project until a signal; the exit code. A failure ends it with 1 or 2, its cause said; a database away is none."""
    process.set_up()
    try:
        asyncio.run(_serve(settings))
    except Exception as error:
        why = database_refusal.line(error) if isinstance(error, sa.exc.SQLAlchemyError) else str(error)
        print(f"projector stopped: {type(error).__name__}: {why}", flush=True)
        return COULD_NOT_RUN if isinstance(error, Unusable) else 1
    return 0
