"""Publishers that use transactions: what they commit counts, and for what they abort nobody waits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice

from aiokafka import AIOKafkaProducer
from comparison import assert_exact
from deployment import Deployment, drawn
from workload import Event

from schemas.topics import ACTIVITY


def test_what_a_transaction_leaves_at_the_logs_end_is_waited_for_only_while_it_is_open(deployment, report):
    seed, _ = drawn()
    report.append(f"seed {seed}")
    events = deployment.workload(seed, 900)
    deployment.workers.scale(1)
    asyncio.run(_story(deployment, events))
    assert deployment.ends() != deployment.positions(), "nothing is left at the log's end"
    deployment.publish(events)
    assert_exact(deployment, report)


async def _story(deployment: Deployment, events: Iterator[Event]) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=deployment.kafka.bootstrap, transactional_id="upstream", transaction_timeout_ms=600_000
    )
    await producer.start()
    try:
        for wanted in (250, 250):
            async with producer.transaction():
                await _send(producer, events, wanted)
            await producer.begin_transaction()
            await _send(producer, iter(list(islice(events, 50))), 50)
            said = await asyncio.to_thread(deployment.run, "wait", "--timeout", "5", code=2)
            assert "not done after 5 s: the worker is at offset" in said
            await producer.abort_transaction()
            await asyncio.to_thread(deployment.run, "wait", "--timeout", "60")
    finally:
        await producer.stop()


async def _send(producer: AIOKafkaProducer, events: Iterator[Event], count: int) -> None:
    sent = [
        await producer.send(ACTIVITY, one.value, one.key, one.partition, headers=one.headers)
        for one in islice(events, count)
    ]
    await asyncio.gather(*sent)
