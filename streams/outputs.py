"""The output topics of one source partition: writing a flush so that a stale owner cannot, and reading panes back.

On Apache Kafka each source partition has a transactional producer of its own; starting it fences the one before. On
a broker without transactions (the embedded one) acknowledgements must be contiguous: a gap is a foreign write, and
what it wrote over is written again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced

from aggregates.ledger import Fenced
from streams.connection import Brokers
from streams.fetching import as_fetched
from streams.intake import DeadLetter
from streams.panes import Record, stamp_of

POLL_MS = 60
FEW_POLLS = 10
"""Without anything: nobody needs the answer now."""
LOST_POLLS = 100
"""Empty polls (about 6 s) at a log's end that mean an offset will not come."""
STUCK_POLLS = 1_000
"""The same while the broker has more."""
ATTEMPTS = 5
"""Of one flush on one producer."""
LETTER_HEADERS = ("source_topic", "source_partition", "source_offset", "source_timestamp", "reason", "detail")
TRANSACTION_MS = 300_000
"""A transaction that is open for longer is ended by the broker, and its producer with it."""
_BATCH_BYTES = 1 << 20
_REQUEST_BYTES = 8 << 20


WHAT_TO_DO = (
    "Was the topic made anew, or cut? Bring the old log back, or run `groundswell topics accept`, which says what is "
    "lost and goes on with the log as it is."
)


class LogLost(Exception):
    """A log does not hold what was read from it before, or not what comes next."""


Records = Mapping[str, Sequence[Record]]
"""Records by topic."""


class Writer(Protocol):
    """Writes the output of one source partition."""

    ends: dict[str, int]
    """Topic → the end offset after our last write."""

    async def start(self) -> None:
        """Take over from whoever wrote before; before the outputs are read."""

    async def write(self, records: Records, stamp: int) -> None:
        """Write and wait for every acknowledgement; `stamp` is the last source offset that is included.

        Raises `Fenced` when somebody else owns the partition, aiokafka's `KafkaError` when the broker fails for long.
        """

    async def audit(self, stamp: int) -> None:
        """Look for foreign writes since our last one; `stamp` is that of our last one."""

    async def stop(self) -> None:
        """Let go."""


class TransactionalWriter:
    """One producer with a transactional id of its own: what a former owner writes is refused or aborted."""

    def __init__(self, brokers: Brokers, group: str, partition: int) -> None:
        self._partition = partition
        self._name = f"{group}-{partition}"
        self.ends: dict[str, int] = {}
        self._producer = AIOKafkaProducer(
            **brokers.options,
            transactional_id=self._name,
            transaction_timeout_ms=TRANSACTION_MS,
            max_batch_size=_BATCH_BYTES,
            max_request_size=_REQUEST_BYTES,
        )

    async def start(self) -> None:
        """Start the producer, which fences the one of the former owner and aborts what it left open."""
        await self._producer.start()

    async def write(self, records: Records, stamp: int) -> None:
        """One transaction; tried again on the same producer only, which somebody else's start makes impossible.

        Cancelled, it is left open: whoever starts the next producer of this name ends it, and to end it here could
        take as long as the broker is away.
        """
        producer = self._producer
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await producer.begin_transaction()
                for topic, rows in records.items():
                    sent = await _send(producer, topic, self._partition, rows)
                    if sent:
                        self.ends[topic] = sent[1]
                await producer.commit_transaction()
                return
            except ProducerFenced:
                raise Fenced(
                    f"the output of partition {self._partition} has another writer ({self._name} was started again "
                    "elsewhere, or a transaction of ours took too long)"
                ) from None
            except KafkaError:
                if attempt == ATTEMPTS or producer._txn_manager.is_fatal_error():
                    raise
                await producer.abort_transaction()

    async def audit(self, stamp: int) -> None:
        """Nothing to look for: a former owner cannot write."""

    async def stop(self) -> None:
        """Stop the producer."""
        await self._producer.stop()


class AuditedWriter:
    """A shared plain producer whose acknowledgements must continue each other."""

    def __init__(
        self, brokers: Brokers, producer: AIOKafkaProducer, epoch: str, partition: int, topics: Sequence[str]
    ) -> None:
        self._brokers = brokers
        self._producer = producer
        self._epoch = epoch
        self._partition = partition
        self._topics = topics
        self.ends: dict[str, int] = {}

    async def start(self) -> None:
        """Note where the outputs end."""
        for topic in self._topics:
            self.ends[topic] = await end_of(self._brokers, topic, self._partition)

    async def write(self, records: Records, stamp: int) -> None:
        """Write in bulk; what came in between from elsewhere is looked at and, being older, written over."""
        for topic, rows in records.items():
            sent = await _send(self._producer, topic, self._partition, rows)
            if topic in self._topics and sent:
                first, end = sent
                known, self.ends[topic] = self.ends[topic], end
                if first != known or end - first != len(rows):
                    await self._examine(topic, known, end, stamp)

    async def audit(self, stamp: int) -> None:
        """Look for foreign writes while we are idle, well before compaction could make them final."""
        for topic in self._topics:
            known = self.ends[topic]
            end = await end_of(self._brokers, topic, self._partition)
            if end > known:
                await self._examine(topic, known, end, stamp)
                self.ends[topic] = max(self.ends[topic], end)

    async def _examine(self, topic: str, start: int, end: int, stamp: int) -> None:
        if end <= start:
            return
        foreign: set[bytes] = set()
        async for batch in read_batches(self._brokers, topic, self._partition, start, end):
            for record in batch:
                epoch, other = stamp_of(record.value)
                if epoch == self._epoch and other > stamp:
                    raise Fenced(
                        f"{topic} partition {self._partition} offset {record.offset} has stamp {other}, we are at "
                        f"{stamp}. Another worker owns the partition; this one must stop writing it."
                    )
                foreign.add(record.key)
        await self.repair(topic, foreign)

    async def repair(self, topic: str, keys: set[bytes]) -> None:
        """Write the greatest value of each key again where it is not the last one of the log."""
        rows = await _overwritten(self._brokers, topic, self._partition, keys)
        if rows:
            sent = await _send(self._producer, topic, self._partition, rows)
            assert sent is not None
            self.ends[topic] = sent[1]

    async def stop(self) -> None:
        """The producer is shared; whoever made it stops it."""


async def shared_producer(brokers: Brokers) -> AIOKafkaProducer:
    """The plain producer of all audited writers of a process."""
    producer = AIOKafkaProducer(
        **brokers.options, acks="all", max_batch_size=_BATCH_BYTES, max_request_size=_REQUEST_BYTES
    )
    await producer.start()
    return producer


def letter_record(letter: DeadLetter, topic: str, partition: int) -> Record:
    """A dead letter: the original key and bytes; where and why in the headers, then the original's own headers."""
    values = (topic, partition, letter.offset, letter.timestamp, letter.reason, letter.detail)
    headers = [(name, str(value).encode()) for name, value in zip(LETTER_HEADERS, values, strict=True)]
    return letter.key, letter.value, headers + [(n, v) for n, v in letter.headers if n not in LETTER_HEADERS]


async def _send(
    producer: AIOKafkaProducer, topic: str, partition: int, records: Sequence[Record]
) -> tuple[int, int] | None:
    """Write records in bulk and wait for all acknowledgements: the first offset and the end; None for no record."""
    batches = []
    written = 0
    while written < len(records):
        batch = producer.create_batch()
        written += _fill(batch, records, written)
        batches.append(batch)
    if not batches:
        return None
    futures = [await producer.send_batch(b, topic, partition=partition) for b in batches]
    told = await asyncio.gather(*futures)
    ends = (int(meta.offset) + int(b.record_count()) for meta, b in zip(told, batches, strict=True))
    return min(int(meta.offset) for meta in told), max(ends)


def _fill(batch: Any, records: Sequence[Record], start: int) -> int:
    """Append records from `start` on until the batch is full, and close it; how many it took, at least one.

    Straight to the client's builder: `BatchBuilder.append` around it makes it 0.50 µs a record for 0.34.
    """
    append, number = batch._builder.append, 0
    for number, (key, value, headers) in enumerate(islice(records, start, None)):
        if append(number, None, key, value, headers) is None:
            break
    else:
        number = len(records) - start
    batch._relative_offset = number
    batch.close()
    return number


@asynccontextmanager
async def _reader(
    brokers: Brokers, topic: str, partition: int
) -> AsyncIterator[tuple[AIOKafkaConsumer, TopicPartition]]:
    consumer = AIOKafkaConsumer(
        **brokers.options,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=8 << 20,
        fetch_max_bytes=64 << 20,
        isolation_level="read_committed",
        key_deserializer=as_fetched,
    )
    try:
        await consumer.start()
        tp = TopicPartition(topic, partition)
        consumer.assign([tp])
        await asyncio.sleep(0)  # the client cannot be stopped before its tasks have begun
        yield consumer, tp
    finally:
        await consumer.stop()  # also where it was cancelled while it started


async def bounds_of(brokers: Brokers, topic: str, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
    """The low watermark and the latest offset of partitions."""
    async with _reader(brokers, topic, partitions[0]) as (consumer, _):
        tps = [TopicPartition(topic, partition) for partition in partitions]
        low, high = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
        return {tp.partition: (low[tp], high[tp]) for tp in tps}


async def end_of(brokers: Brokers, topic: str, partition: int) -> int:
    """The end of a partition. The broker's own word for it may be behind, so what comes after it is read."""
    async with _reader(brokers, topic, partition) as (consumer, tp):
        consumer.seek(tp, (await consumer.end_offsets([tp]))[tp])
        for _ in range(STUCK_POLLS):
            await consumer.getmany(tp, timeout_ms=POLL_MS, max_records=20_000)
            if await has_all(consumer, tp):
                break
        return int(await consumer.position(tp))


async def has_all(consumer: AIOKafkaConsumer, tp: TopicPartition) -> bool:
    """Whether a consumer has fetched everything there is, by what the latest answer to a fetch said."""
    high = consumer.highwater(tp)
    return high is not None and await consumer.position(tp) >= high


async def is_empty(brokers: Brokers, topic: str, partition: int, start: int, end: int) -> bool:
    """Whether no record is ever to come from `start` up to `end`: only ends of transactions and what was aborted stand
    there. False while a transaction is open, or nothing is said soon. Raises aiokafka's KafkaError."""
    async with _reader(brokers, topic, partition) as (consumer, tp):
        consumer.seek(tp, start)
        for _ in range(FEW_POLLS):
            batch = (await consumer.getmany(tp, timeout_ms=POLL_MS, max_records=1)).get(tp, [])
            if batch:
                return bool(batch[0].offset >= end)
            if await consumer.position(tp) >= end:
                return True
        return False


async def read_batches(
    brokers: Brokers, topic: str, partition: int, start: int, end: int | None = None
) -> AsyncIterator[list[Any]]:
    """Records of one partition from `start` up to `end`, or to the end of the log, as they are fetched; never none.

    Raises `LogLost` when `end` is not reached.
    """
    if end is not None and end <= start:
        return
    async with _reader(brokers, topic, partition) as (consumer, tp):
        consumer.seek(tp, start)
        quiet = 0
        while end is None or await consumer.position(tp) < end:
            batch = (await consumer.getmany(tp, timeout_ms=POLL_MS, max_records=20_000)).get(tp, [])
            if batch:
                quiet = 0
                wanted = batch if end is None or batch[-1].offset < end else [r for r in batch if r.offset < end]
                if wanted:  # none, where `end` lies in a hole: what comes behind it is another's
                    yield wanted
                continue
            quiet += 1
            complete = await has_all(consumer, tp)
            if complete and end is None:
                return
            if quiet >= (LOST_POLLS if complete else STUCK_POLLS):
                raise LogLost(
                    f"{topic} partition {partition} ends at offset {await consumer.position(tp)}, and {end or 'more'} "
                    f"was there before. {WHAT_TO_DO}"
                )


async def read(brokers: Brokers, topic: str, partition: int, start: int, end: int | None = None) -> AsyncIterator[Any]:
    """The same, record by record."""
    async for batch in read_batches(brokers, topic, partition, start, end):
        for record in batch:
            yield record


async def last_values(brokers: Brokers, topic: str, partition: int, written: int = 0) -> tuple[dict[bytes, bytes], int]:
    """Every key of an output partition with its greatest value, which is the last one unless a stale owner wrote that.

    And the offset after the last record.

    Raises `LogLost` when it ends before `written`.
    """
    end = await end_of(brokers, topic, partition)
    if end < written:
        raise LogLost(f"{topic} partition {partition} ends at offset {end}, and {written} was written. {WHAT_TO_DO}")
    values, _, reached = await _fold_log(brokers, topic, partition, None)
    return values, reached


async def _overwritten(brokers: Brokers, topic: str, partition: int, keys: set[bytes]) -> list[Record]:
    values, behind, _ = await _fold_log(brokers, topic, partition, keys)
    return [(key, values[key], []) for key in behind]


async def _fold_log(
    brokers: Brokers, topic: str, partition: int, keys: set[bytes] | None
) -> tuple[dict[bytes, bytes], set[bytes], int]:
    """Greatest value by key, the keys whose last value is not the greatest, and the offset after the last record."""
    values: dict[bytes, bytes] = {}
    behind: set[bytes] = set()
    reached = 0
    async for batch in read_batches(brokers, topic, partition, 0):
        reached = batch[-1].offset + 1
        for record in batch:
            key, value = record.key, record.value
            if keys is not None and key not in keys:
                continue
            before = values.get(key)
            if before is not None and stamp_of(value)[1] < stamp_of(before)[1]:
                behind.add(key)
                continue
            values[key] = value
            behind.discard(key)
    return values, behind, reached
