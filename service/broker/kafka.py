"""Small things every part asks of the broker: partition counts, the end of a log, a producer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from aggregates.database import open_database
from schemas.topics import ACTIVITY
from service.broker import refusal
from service.embedded.archived import ArchivedProducer
from service.problems import Unusable
from service.settings import Settings
from streams import broker, epochs
from streams.connection import Brokers
from streams.outputs import POLL_MS, STUCK_POLLS, has_all

CONTACT_SECONDS: Final = 5.0
"""How long Kafka may take to say that it is there."""


def new_producer(settings: Settings, linger_ms: int = 5, give_up_ms: int = 40_000) -> AIOKafkaProducer:
    """A producer, to be started; what it acknowledges is kept: by every replica, or by the embedded stack's archive.

    `linger_ms`: how long a record waits for others. `give_up_ms`: how long it waits for the broker.
    """
    options: dict[str, Any] = {"acks": "all", "linger_ms": linger_ms, "max_batch_size": 1 << 18}
    options["request_timeout_ms"] = give_up_ms
    if settings.archived is None:
        return AIOKafkaProducer(**settings.brokers.options, **options)
    return ArchivedProducer(settings.archived, **settings.brokers.options, **options)


@asynccontextmanager
async def producer(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    """The same, started. Raises `Unusable` when the broker does not answer."""
    client = new_producer(settings)
    async with _started(client, settings.brokers):
        yield client


@asynccontextmanager
async def _started(client: AIOKafkaProducer, brokers: Brokers) -> AsyncIterator[None]:
    try:
        await client.start()
    except KafkaError as error:
        await client.stop()
        raise await refusal.unusable(brokers, error) from None
    try:
        yield
    finally:
        await client.stop()


async def epoch(settings: Settings) -> str:
    """The epoch of the log in the activity log's topic. Raises `Unusable` when there is no such topic."""
    try:
        found = await broker.describe(settings.brokers, ACTIVITY)
    except KafkaError as error:
        raise await refusal.unusable(settings.brokers, error) from None
    if not found.epoch:
        raise Unusable(f"the topic {ACTIVITY} does not exist: run `groundswell topics create`")
    engine = open_database(settings.database, read_only=True)
    try:
        return epochs.epoch_of(engine, ACTIVITY, found.epoch)
    finally:
        engine.dispose()


async def partition_count(client: AIOKafkaProducer) -> int:
    """How many partitions the activity log has. Raises `Unusable` when there is no such topic."""
    try:
        partitions = await client.partitions_for(ACTIVITY)
    except KafkaError as error:
        raise Unusable(f"the topic {ACTIVITY} cannot be read ({error}): run `groundswell topics create`") from None
    if not partitions:
        raise Unusable(f"the topic {ACTIVITY} does not exist: run `groundswell topics create`")
    return len(partitions)


async def log_ends(brokers: Brokers, topic: str) -> dict[int, int]:
    """The end offset of every partition, read until nothing more comes: a latest offset may be behind."""
    client = AIOKafkaProducer(**brokers.options)
    async with _started(client, brokers):
        try:
            partitions = await client.partitions_for(topic)
        except KafkaError:
            partitions = set()
    if not partitions:
        raise Unusable(f"the topic {topic} does not exist: run `groundswell topics create`")
    consumer = AIOKafkaConsumer(**brokers.options, enable_auto_commit=False, auto_offset_reset="earliest")
    try:
        await consumer.start()
    except KafkaError as error:
        await consumer.stop()
        raise await refusal.unusable(brokers, error) from None
    try:
        tps = [TopicPartition(topic, partition) for partition in sorted(partitions)]
        consumer.assign(tps)
        for tp, end in (await consumer.end_offsets(tps)).items():
            consumer.seek(tp, end)
        for _ in range(STUCK_POLLS):
            await consumer.getmany(timeout_ms=POLL_MS, max_records=20_000)
            if all([await has_all(consumer, tp) for tp in tps]):
                break
        return {tp.partition: await consumer.position(tp) for tp in tps}
    finally:
        await consumer.stop()


class Contact:
    """Whether Kafka lets us in, asked over one connection for the length of a process, within one event loop."""

    def __init__(self, settings: Settings) -> None:
        """Asks nothing yet."""
        self._brokers = settings.brokers
        self._asker = broker.Asker(self._brokers, ACTIVITY)

    async def missing(self) -> list[str]:
        """What is missing until records can be put on the log; nothing when they can."""
        try:
            async with asyncio.timeout(CONTACT_SECONDS):
                found = await self._asker.describe()
        except (KafkaError, OSError, TimeoutError) as error:
            return [str(await refusal.unusable(self._brokers, error))]
        return [] if found.epoch else [f"the topic {ACTIVITY} does not exist: run `groundswell topics create`"]

    async def close(self) -> None:
        """Give back the connection."""
        await self._asker.close()
