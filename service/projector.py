"""The projector role: read models from the ledger, engagement tables from the pane topics, and the outbox."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

import sqlalchemy as sa
from aiokafka import AIOKafkaConsumer, TopicPartition

from aggregates.database import open_database
from aggregates.ledger import Ledger
from projections import engagement, registry
from projections.runner import Runner
from schemas.codec import decode
from schemas.topics import TIERS, WINDOWS
from service import heartbeats, kafka
from service.outbox import Outbox
from service.settings import Settings

IDLE_SECONDS = 0.05
POLL_MS = 200


async def _forever(step: Callable[[], Awaitable[int]], stop: asyncio.Event) -> None:
    while not stop.is_set():
        if not await step():
            await asyncio.sleep(IDLE_SECONDS)


async def _engagement(settings: Settings, engine: sa.Engine, partitions: int, stop: asyncio.Event) -> None:
    """Follow both pane topics; rows and position are written in one transaction a partition."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=4 << 20,
    )
    await consumer.start()
    try:
        tps = [TopicPartition(topic, n) for topic in (WINDOWS, TIERS) for n in range(partitions)]
        consumer.assign(tps)
        with engine.connect() as connection:
            at = {tp: engagement.position(connection, tp.topic, tp.partition) for tp in tps}
        for tp, position in at.items():
            consumer.seek(tp, position)
        while not stop.is_set():
            fetched = await consumer.getmany(timeout_ms=POLL_MS, max_records=20_000)
            for tp, records in fetched.items():
                end = records[-1].offset + 1
                values = [decode(record.value)[1] for record in records]
                await asyncio.to_thread(_apply, engine, tp, at[tp], end, values)
                at[tp] = end
    finally:
        await consumer.stop()


def _apply(engine: sa.Engine, tp: TopicPartition, start: int, end: int, values: list[dict[str, object]]) -> None:
    with engine.begin() as connection:
        engagement.apply(connection, tp.topic, tp.partition, start, end, values)


async def _serve(settings: Settings) -> None:
    engine = open_database(settings.database)
    ledger = Ledger(settings.database)
    runner = Runner(engine, ledger.notifications, registry.LEDGER)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with kafka.producer(settings.kafka) as client:
        partitions = await kafka.partition_count(client)
        outbox = Outbox(engine, ledger, client, settings.signing_key, partitions)

        async def project() -> int:
            return await asyncio.to_thread(runner.step)

        async with heartbeats.beating(settings.database, "projector"), asyncio.TaskGroup() as group:
            group.create_task(_forever(project, stop))
            group.create_task(_forever(outbox.step, stop))
            group.create_task(_engagement(settings, engine, partitions, stop))


def run(settings: Settings) -> int:
    """Project until a signal; the exit code. A failure ends it with 1, its cause said in its log."""
    try:
        asyncio.run(_serve(settings))
    except BaseExceptionGroup as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        if not isinstance(first, Exception):
            raise
        print(f"projector stopped: {type(first).__name__}: {first}", flush=True)
        return 1
    return 0
