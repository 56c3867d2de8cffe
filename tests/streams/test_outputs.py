"""The writer for brokers without transactions, on the embedded one: strangers are noticed, what they hid comes back."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from aggregates.engagement import HOUR, ON_TIME
from aggregates.ledger import Fenced
from streams import outputs
from streams.connection import Brokers
from streams.outputs import AuditedWriter
from streams.panes import PaneCodec, Record, Shared, read_pane, stamp_of

EPOCH = "epoch"


def pane(member: str, likes: int, stamp: int, epoch: str = EPOCH) -> Record:
    """A member's pane as of a stamp."""
    codec = PaneCodec(epoch, 0)
    name = codec.name(("member", "acme", "", "", member, "x", ""))
    [record], _ = codec.write((HOUR, HOUR, ON_TIME), {name: Shared({"likes": likes})}, stamp)
    return record


class World:
    """A topic of its own, our writer on it, and a stranger's producer."""

    def __init__(self, broker: str, topic: str, producer: Any) -> None:
        self.broker, self.topic, self.producer = broker, topic, producer
        self.writer = AuditedWriter(Brokers(broker), producer, EPOCH, 0, [topic])

    async def write(self, stamp: int, *records: Record) -> None:
        await self.writer.write({self.topic: records}, stamp)

    async def intrude(self, *records: Record) -> None:
        for key, value, _ in records:
            await self.producer.send_and_wait(self.topic, value, key, partition=0)

    async def last(self) -> dict[bytes, tuple[str, int]]:
        """Epoch and stamp of each key's last record: what compaction would leave."""
        log = [record async for record in outputs.read(Brokers(self.broker), self.topic, 0, 0)]
        assert self.writer.ends[self.topic] == log[-1].offset + 1
        return {record.key: stamp_of(record.value) for record in log}


@asynccontextmanager
async def world(broker: str) -> AsyncIterator[World]:
    topic = f"outputs-{uuid.uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    producer = await outputs.shared_producer(Brokers(broker))
    try:
        made = World(broker, topic, producer)
        await made.writer.start()
        yield made
    finally:
        await producer.stop()


def run(broker: str, scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with world(broker) as one:
            await scenario(one)

    asyncio.run(main())


ANN, BOB = pane("ann", 0, 0)[0], pane("bob", 0, 0)[0]


def test_what_a_stale_owner_wrote_over_is_written_again_with_the_next_flush(broker):
    async def scenario(one: World) -> None:
        await one.write(9, pane("ann", 3, 9), pane("bob", 1, 9))
        await one.intrude(pane("ann", 1, 4))
        assert (await read_last(one))[ANN] == (EPOCH, 4)
        await one.write(12, pane("bob", 2, 12))
        assert await one.last() == {ANN: (EPOCH, 9), BOB: (EPOCH, 12)}

    run(broker, scenario)


def test_an_idle_owner_finds_it_too(broker):
    async def scenario(one: World) -> None:
        await one.write(9, pane("ann", 3, 9), pane("bob", 1, 9))
        await one.writer.audit(9)
        before = one.writer.ends[one.topic]
        await one.intrude(pane("ann", 1, 4), pane("bob", 1, 9))
        await one.writer.audit(9)
        assert await one.last() == {ANN: (EPOCH, 9), BOB: (EPOCH, 9)}
        assert one.writer.ends[one.topic] == before + 3, "two of the stranger and the one that was older"
        await one.writer.audit(9)
        assert one.writer.ends[one.topic] == before + 3

    run(broker, scenario)


@pytest.mark.parametrize("is_idle", [False, True])
def test_whoever_finds_a_stamp_ahead_of_its_own_has_lost_the_partition(broker, is_idle):
    async def scenario(one: World) -> None:
        await one.write(9, pane("ann", 3, 9))
        await one.intrude(pane("ann", 5, 20))
        with pytest.raises(Fenced, match="has stamp 20, we are at 1"):
            await (one.writer.audit(12) if is_idle else one.write(12, pane("bob", 2, 12)))
        last = await read_last(one)
        assert last[ANN] == (EPOCH, 20), "the new owner's value is left alone"

    run(broker, scenario)


def test_stamps_of_a_log_made_anew_say_nothing_about_this_one(broker):
    async def scenario(one: World) -> None:
        await one.write(9, pane("ann", 3, 9))
        await one.intrude(pane("ann", 5, 20, "other"))
        await one.write(12, pane("bob", 2, 12))
        last = await one.last()
        assert (last[ANN], last[BOB]) == ((EPOCH, 9), (EPOCH, 12))

    run(broker, scenario)


def test_a_flush_of_several_batches_is_written_whole_and_in_order(broker):
    async def scenario(one: World) -> None:
        rows = [pane(f"member-{number:06}" * 10, number, 9) for number in range(12_000)]
        await one.write(9, *rows)
        assert one.writer.ends[one.topic] == 12_000
        values, _ = await outputs.last_values(Brokers(broker), one.topic, 0)
        assert list(values.items()) == [(key, value) for key, value, _ in rows]
        assert read_pane(values[rows[-1][0]]).counters == {"likes": 11_999}
        large = pane("m" * (2 << 20), 1, 9)
        await one.write(9, rows[0], large, rows[1])
        assert one.writer.ends[one.topic] == 12_003

    run(broker, scenario)


async def read_last(one: World) -> dict[bytes, tuple[str, int]]:
    """The same while our writer is behind."""
    log = [record async for record in outputs.read(Brokers(one.broker), one.topic, 0, 0)]
    return {record.key: stamp_of(record.value) for record in log}
