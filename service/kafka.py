"""Small things every part asks of the broker: partition counts, the end of a log, a producer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.topics import ACTIVITY
from service.problems import Unusable
from streams.outputs import POLL_MS, STUCK_POLLS, has_all


def new_producer(bootstrap: str, linger_ms: int = 5) -> AIOKafkaProducer:
    """A producer that waits for every replica, to be started; `linger_ms`: how long a record waits for others."""
    return AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=linger_ms, max_batch_size=1 << 18)


@asynccontextmanager
async def producer(bootstrap: str) -> AsyncIterator[AIOKafkaProducer]:
    """A started producer that waits for every replica. Raises `Unusable` when the broker does not answer."""
    client = new_producer(bootstrap)
    try:
        await client.start()
    except KafkaError as error:
        await client.stop()
        raise Unusable(f"Kafka at {bootstrap} does not answer: {error}") from None
    try:
        yield client
    finally:
        await client.stop()


async def partition_count(client: AIOKafkaProducer) -> int:
    """How many partitions the activity log has. Raises `Unusable` when there is no such topic."""
    try:
        partitions = await client.partitions_for(ACTIVITY)
    except KafkaError as error:
        raise Unusable(f"the topic {ACTIVITY} cannot be read ({error}): run `groundswell topics create`") from None
    if not partitions:
        raise Unusable(f"the topic {ACTIVITY} does not exist: run `groundswell topics create`")
    return len(partitions)


async def log_ends(bootstrap: str, topic: str) -> dict[int, int]:
    """The end offset of every partition, read until nothing more comes: a latest offset may be behind."""
    async with producer(bootstrap) as client:
        try:
            partitions = await client.partitions_for(topic)
        except KafkaError:
            partitions = set()
    if not partitions:
        raise Unusable(f"the topic {topic} does not exist: run `groundswell topics create`")
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    try:
        await consumer.start()
    except KafkaError as error:
        await consumer.stop()
        raise Unusable(f"Kafka at {bootstrap} does not answer: {error}") from None
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
