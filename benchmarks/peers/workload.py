"""The workload: interactions of one brand on one topic, and an independent recount of what is on it."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code
from aiokafka.partitioner import murmur2

from benchmarks.peers.subject import PARTITIONS
from schemas.codec import decode, encode
from schemas.topics import activity_key

RECORDS: Final = 500_000
MEMBERS: Final = 20_000
CAMPAIGNS: Final = 50
POSTS: Final = 2_000
BRAND: Final = "acme"
START: Final = 1_772_323_200_000
"""2026-03-01T00:00:00Z"""
PANE_MS: Final = 300_000
KINDS: Final = ("like", "like", "like", "comment", "share", "view")
SEED: Final = 1
BATCH_BYTES: Final = 1 << 18


class Workload(NamedTuple):
    """`RECORDS` interactions, evenly spread over some event time and sent in its order; fewer are the first of them."""

    name: str
    span_ms: int

    def interactions(self, records: int) -> Iterator[dict[str, Any]]:
        """The same ones every time."""
        random = Random(SEED)
        for number in range(records):
            yield {
                "event_id": str(uuid.UUID(int=random.getrandbits(128))),
                "occurred_at": START + number * self.span_ms // RECORDS,
                "brand_id": BRAND,
                "member_id": f"m{random.randrange(MEMBERS)}",
                "surface": "member_post",
                "kind": random.choice(KINDS),
                "quantity": 1,
                "platform": "instagram",
                "post_id": f"p{random.randrange(POSTS)}",
                "campaign_id": f"c{random.randrange(CAMPAIGNS)}",
                "actor_id": None,
                "followers": 1000,
            }


SPARSE: Final = Workload("sparse", 30 * 86_400_000)
"""Almost every event touches new panes."""
DENSE: Final = Workload("dense", 2 * 3_600_000)
"""Few panes of campaigns; a member has about one event in each of theirs."""
WORKLOADS: Final = {workload.name: workload for workload in (SPARSE, DENSE)}


async def publish(bootstrap: str, topic: str, workload: Workload, records: int) -> None:
    """Create the topic and send the workload's first records."""
    await _create(bootstrap, topic)
    await send(bootstrap, topic, workload, records)


async def send(bootstrap: str, topic: str, workload: Workload, records: int) -> None:
    """Send the workload's first records to a topic, partitioned as Kafka's own producer does."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_batch_size=BATCH_BYTES)
    await producer.start()
    try:
        batches = [producer.create_batch() for _ in range(PARTITIONS)]
        partitions: dict[bytes, int] = {}
        now = int(time.time() * 1000)
        for interaction in workload.interactions(records):
            key, value = activity_key(BRAND, interaction["member_id"]), encode("Interaction", interaction)
            partition = partitions.get(key)
            if partition is None:
                partition = partitions[key] = (murmur2(key) & 0x7FFFFFFF) % PARTITIONS
            if batches[partition].append(key=key, value=value, timestamp=now) is None:
                await producer.send_batch(batches[partition], topic, partition=partition)
                batches[partition] = producer.create_batch()
                batches[partition].append(key=key, value=value, timestamp=now)
        for partition, batch in enumerate(batches):
            await producer.send_batch(batch, topic, partition=partition)
        await producer.flush()
    finally:
        await producer.stop()


async def _create(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        new = NewTopic(topic, PARTITIONS, 1, topic_configs={"retention.ms": "-1"})
        answer = await admin.create_topics([new])
        for _, code, *_ in answer.topic_errors:
            if code:
                raise for_code(code)(f"topic {topic}")
    finally:
        await admin.close()


async def recount(bootstrap: str, topic: str) -> Counter[str]:
    """Every pane's count by the key that dumps use, straight from the log: no code shared with a peer."""
    counts: Counter[str] = Counter()
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        left = sum((await consumer.end_offsets(partitions)).values())
        while left:
            for batch in (await consumer.getmany(timeout_ms=1000)).values():
                left -= len(batch)
                for record in batch:
                    _, value = decode(record.value)
                    pane = value["occurred_at"] // PANE_MS * PANE_MS
                    counts[f"campaign/{value['campaign_id']}/{value['kind']}/{pane}"] += 1
                    counts[f"member/{value['member_id']}/{pane}"] += 1
    finally:
        await consumer.stop()
    return counts
