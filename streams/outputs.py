"""The compacted output topics: encoding dirty panes in bulk, and reading them back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from aggregates.engagement import SCOPES, TIER_SCOPES, Counters, Pane
from schemas.codec import decode, encode
from schemas.topics import DEAD_LETTERS, TIERS, WINDOWS
from streams.intake import DeadLetter
from streams.partition import LogLost

SEPARATOR = "\x1f"
"""Between the parts of a compaction key; no id has a control character in it."""
QUIET_POLLS = 4
"""Empty polls that mean the end: the embedded broker's latest offset may be behind."""

LOST_POLLS = 100
"""Empty polls (about 6 s) that mean an offset will not come."""


Record = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]
"""Key, value and headers."""


def pane_topic(pane: Pane) -> str:
    """The output topic of a pane."""
    return TIERS if pane.scope in TIER_SCOPES else WINDOWS


def pane_key(pane: Pane, partition: int) -> bytes:
    """Compaction key: the pane and the source partition, since a campaign's pane has a partial in each."""
    return SEPARATOR.join((pane.scope, str(partition), *pane[1:6], str(pane.starts_at), str(pane.segment))).encode()


def pane_record(pane: Pane, counters: Counters, partition: int, stamp: int) -> Record:
    """An absolute value: the pane's counters including the source offset `stamp` and all before it."""
    value = {
        "scope": pane.scope,
        "brand_id": pane.brand,
        "campaign_id": pane.campaign,
        "tier": pane.tier,
        "member_id": pane.member,
        "platform": pane.platform,
        "starts_at": pane.starts_at,
        "length_ms": SCOPES[pane.scope].length_ms,
        "segment": pane.segment,
        "partition": partition,
        "stamp": stamp,
        "counters": counters,
    }
    return pane_key(pane, partition), encode("EngagementPane", value), []


def pane_of(value: dict[str, Any]) -> tuple[Pane, int, Counters]:
    """The pane, stamp and counters of a decoded output record."""
    pane = Pane(
        value["scope"],
        value["brand_id"],
        value["campaign_id"],
        value["tier"],
        value["member_id"],
        value["platform"],
        value["starts_at"],
        value["segment"],
    )
    return pane, value["stamp"], value["counters"]


def member_record(brand: str, member: str, tier: str, platforms: dict[str, int], partition: int, stamp: int) -> Record:
    """A member's tier with the followers behind it."""
    value = {
        "brand_id": brand,
        "member_id": member,
        "tier": tier,
        "followers": max(platforms.values()),
        "platforms": platforms,
        "partition": partition,
        "stamp": stamp,
    }
    return SEPARATOR.join(("member_tier", str(partition), brand, member)).encode(), encode("MemberTier", value), []


def letter_record(letter: DeadLetter, topic: str, partition: int) -> Record:
    """A dead letter: the original key and bytes, and where and why in the headers."""
    headers = {
        "source_topic": topic,
        "source_partition": partition,
        "source_offset": letter.offset,
        "source_timestamp": letter.timestamp,
        "reason": letter.reason,
        "detail": letter.detail,
    }
    return letter.key, letter.value, [(name, str(value).encode()) for name, value in headers.items()]


async def send(producer: AIOKafkaProducer, topic: str, partition: int, records: Iterable[Record]) -> int | None:
    """Write records in bulk and wait for all acknowledgements. The end offset after them; None for no record."""
    batches = []
    batch = None
    for key, value, headers in records:
        if batch is None or batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
            if batch is not None:
                batch.close()
            batch = producer.create_batch()
            batches.append(batch)
            if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
                raise ValueError(f"a record of {len(value or b'')} bytes does not fit into a batch for {topic}")
    if batch is None:
        return None
    batch.close()
    futures = [await producer.send_batch(b, topic, partition=partition) for b in batches]
    written = await asyncio.gather(*futures)
    return max(int(meta.offset) + int(b.record_count()) for meta, b in zip(written, batches, strict=True))


async def read(bootstrap: str, topic: str, partition: int, start: int, end: int | None = None) -> AsyncIterator[Any]:
    """Records of one partition from `start` up to `end`, or to the end of the log as found by quiet polls."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=8 << 20,
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        tp = TopicPartition(topic, partition)
        consumer.assign([tp])
        known = (await consumer.end_offsets([tp]))[tp]
        consumer.seek(tp, start)
        quiet = 0
        while end is None or await consumer.position(tp) < end:
            records = (await consumer.getmany(tp, timeout_ms=60, max_records=20_000)).get(tp, ())
            for record in records:
                if end is not None and record.offset >= end:
                    return
                yield record
            quiet = 0 if records or await consumer.position(tp) < known else quiet + 1
            if end is None and quiet >= QUIET_POLLS:
                return
            if quiet >= LOST_POLLS:
                raise LogLost(
                    f"{topic} partition {partition} ends at offset {await consumer.position(tp)}, before {end}, which "
                    "this deployment has already read. Was the topic made anew? Then start on a fresh database, or "
                    "bring the old topic back."
                )
    finally:
        await consumer.stop()


async def read_panes(bootstrap: str, partition: int) -> tuple[dict[Pane, tuple[int, Counters]], dict[str, int]]:
    """Every pane of an output partition with its greatest stamp, and the end offsets of both topics."""
    found: dict[Pane, tuple[int, Counters]] = {}
    ends: dict[str, int] = {}
    for topic in (WINDOWS, TIERS):
        ends[topic] = 0
        async for record in read(bootstrap, topic, partition, 0):
            ends[topic] = record.offset + 1
            kind, value = decode(record.value)
            if kind == "EngagementPane":
                pane, stamp, counters = pane_of(value)
                if pane not in found or stamp >= found[pane][0]:
                    found[pane] = (stamp, counters)
    return found, ends


__all__ = ["DEAD_LETTERS", "letter_record", "member_record", "pane_of", "pane_record", "read", "read_panes", "send"]
