"""The archive of a log on a real Apache Kafka: transactions leave holes in its offsets, and old records are deleted."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from aggregates.ledger import Source
from schemas.topics import ACTIVITY
from service.migrate import migrate
from service.problems import Unusable
from service.replay import archiving
from service.settings import Settings
from streams import broker, outputs
from streams.archive import Archive
from streams.archive.check import verify
from streams.connection import Brokers

PARTITIONS = 3


async def fill(bootstrap: str, rnd: random.Random) -> None:
    """Committed and aborted transactions, and a plain producer in between."""
    plain = AIOKafkaProducer(bootstrap_servers=bootstrap)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id="upstream")
    await plain.start()
    await producer.start()
    for n in range(40):
        partition = rnd.randrange(PARTITIONS)
        await plain.send_and_wait(ACTIVITY, b"plain %d" % n, key=b"k", partition=partition, timestamp_ms=n)
        await producer.begin_transaction()
        for m in range(rnd.randrange(1, 6)):
            await producer.send_and_wait(ACTIVITY, b"in %d/%d" % (n, m), partition=rnd.randrange(PARTITIONS))
        if rnd.random() < 0.5:
            await producer.commit_transaction()
        else:
            await producer.abort_transaction()
    await producer.stop()
    await plain.stop()


async def log(bootstrap: str) -> dict[int, list[Any]]:
    bounds = await outputs.bounds_of(Brokers(bootstrap), ACTIVITY, range(PARTITIONS))
    return {
        p: [
            (r.offset, r.timestamp, r.key, r.value, tuple(r.headers))
            async for r in outputs.read(Brokers(bootstrap), ACTIVITY, p, low, high)
        ]
        for p, (low, high) in bounds.items()
    }


def archived(directory: Path, epoch: str) -> dict[int, list[Any]]:
    archive = Archive(directory)
    return {
        p: [tuple(r) for block in archive.read(Source(ACTIVITY, epoch, p)) for r in block] for p in range(PARTITIONS)
    }


def test_holes_open_transactions_and_deleted_records(kafka, tmp_path):
    settings = Settings(kafka=kafka.bootstrap, database=f"sqlite:///{tmp_path / 'x.db'}", secret="s")
    migrate(settings.database)
    seed = random.randrange(1 << 32)

    async def story() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic(ACTIVITY, PARTITIONS, 1)])
        try:
            await fill(kafka.bootstrap, random.Random(seed))
            await _grows_past_an_open_transaction(settings, tmp_path / "a")
            await _deleted(settings, admin, tmp_path / "a")
        finally:
            await admin.delete_topics([ACTIVITY])
            await admin.close()

    asyncio.run(story())


async def _grows_past_an_open_transaction(settings: Settings, directory: Path) -> None:
    epoch = (await broker.describe(settings.brokers, ACTIVITY)).epoch
    opened = AIOKafkaProducer(**settings.brokers.options, transactional_id="slow")
    await opened.start()
    await opened.begin_transaction()
    await opened.send_and_wait(ACTIVITY, b"not yet", partition=0)
    made = await archiving.create(settings, directory, increment=30)  # what is open is not archived, and not waited for
    expected = await log(settings.kafka)
    assert (made.increments > 1, archived(directory, epoch)) == (True, expected)
    assert not any(value == b"not yet" for _, _, _, value, _ in expected[0])
    assert any(file.gaps for files in Archive(directory).files.values() for file in files)
    await opened.commit_transaction()
    await opened.stop()
    more = await archiving.create(settings, directory, increment=30)
    assert (more.records, archived(directory, epoch)) == (1, await log(settings.kafka))
    assert verify(directory).problems == []
    again = await archiving.create(settings, directory, increment=30)
    assert (again.records, again.head) == (0, more.head)
    each = directory.with_name("each")  # increments that end in every hole there is
    await archiving.create(settings, each, increment=PARTITIONS)
    assert archived(each, epoch) == await log(settings.kafka)


async def _deleted(settings: Settings, admin: AIOKafkaAdminClient, directory: Path) -> None:
    """Records that were deleted before they were archived are no hole that may be passed over."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka)
    await producer.start()
    last = await producer.send_and_wait(ACTIVITY, b"lost", partition=1)
    await admin.delete_records({TopicPartition(ACTIVITY, 1): RecordsToDelete(last.offset + 1)})
    await producer.send_and_wait(ACTIVITY, b"after", partition=1)
    await producer.stop()
    with pytest.raises(Unusable, match="records were deleted before they were archived"):
        await archiving.create(settings, directory)
    made = await archiving.create(settings, directory.with_name("another"))
    assert made.ends[1] == last.offset + 2
    assert verify(directory.with_name("another")).problems == []
