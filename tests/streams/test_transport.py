"""What the overrides rely on in faust-streaming, and that a chunk says where it starts."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine
from typing import Any

import faust
import pytest
from aiokafka import TopicPartition
from faust.transport.consumer import ensure_TP
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.transport.drivers.aiokafka import Consumer as FaustConsumer

from streams import transport
from streams.transport import Chunk, ChunkedApp, Consumer, ConsumerThread, Transport

TP = TopicPartition("members.activity.v1", 0)
FAUST_TP = ensure_TP(TP)


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_faust_still_has_what_is_overridden():
    assert faust.__version__.startswith("0.15.")
    assert parameters(AIOKafkaConsumerThread._fetch_records) == [
        "self", "consumer", "active_partitions", "timeout", "max_records",
    ]  # fmt: skip
    assert inspect.iscoroutinefunction(AIOKafkaConsumerThread._fetch_records)
    assert inspect.iscoroutinefunction(AIOKafkaConsumerThread.seek_to_committed)
    assert parameters(AIOKafkaConsumerThread._create_worker_consumer) == ["self", "transport"]
    assert parameters(FaustConsumer._to_message) == ["self", "tp", "record"]
    assert parameters(FaustConsumer._new_consumer_thread) == ["self"]
    assert parameters(FaustConsumer._wait_next_records) == ["self", "timeout"]
    assert Transport.Consumer is Consumer


def test_a_topic_with_acks_false_is_not_in_fausts_commit_bookkeeping():
    app = faust.App("contract", broker="kafka://localhost:1", store="memory://", web_enabled=False)
    assert app.topic("t", acks=False).acks is False
    assert "acks" in inspect.signature(faust.App.topic).parameters


class Thread(ConsumerThread):
    """A consumer thread with no Kafka behind it: what it fetched is given."""

    def __init__(self, fetched: list[dict[TopicPartition, list[Any]]], position: int | None) -> None:
        self._position: dict[TopicPartition, int | None] = {}
        self._epoch: dict[TopicPartition, int] = {}
        self._poll = 0
        self._polled: dict[TopicPartition, int] = {}
        self.given = fetched
        self.at = position
        self.sought: list[int] = []

    @property
    def _positions(self) -> Any:
        return {TP.topic: lambda _: self.at}

    def seek(self, _tp: TopicPartition, offset: int) -> None:
        self.sought.append(offset)


class Rec:
    def __init__(self, offset: int) -> None:
        self.offset = offset


def test_chunks_name_their_start_and_the_seek_they_came_after(monkeypatch):
    thread = Thread([{TP: [Rec(5), Rec(6)]}, {TP: [Rec(7)]}, {TP: [Rec(5)]}], 5)

    async def fetched(self: Thread, *_: Any, **__: Any) -> Any:
        return self.given.pop(0)

    monkeypatch.setattr(AIOKafkaConsumerThread, "_fetch_records", fetched)

    async def scenario() -> list[Chunk]:
        thread._seek_one(thread, TP)
        first = await thread._fetch_records(None, None)
        second = await thread._fetch_records(None, None)
        thread._seek_one(thread, TP)
        third = await thread._fetch_records(None, None)
        return [next(iter(got.values()))[0] for got in (first, second, third)]

    first, second, third = asyncio.run(scenario())
    assert (first.start, second.start, third.start) == (5, 7, 5)
    assert (first.epoch, second.epoch, third.epoch) == (1, 1, 2)
    assert [chunk.poll for chunk in (first, second, third)] == [1, 2, 3]
    assert thread.fetched(TP) == (6, 3)
    assert thread.sought == [5, 5]


def test_the_consumer_reads_what_is_committed_and_moves_few_partitions(tmp_path):
    async def made() -> Any:
        app = faust.App("contract", broker="groundswell://localhost:1", store="memory://", web_enabled=False)
        thread = app._new_consumer()._thread
        consumer = thread._create_worker_consumer(app.transport)
        found = (consumer._isolation_level, consumer._partition_assignment_strategy)
        await consumer.stop()
        thread.thread_loop.close()
        return found

    isolation, assignors = asyncio.run(made())
    assert isolation == "read_committed"
    assert [assignor.name for assignor in assignors] == ["sticky"]


LOST_SECONDS = transport.LOST_LOOKS * transport.ROOM_SECONDS


class Held:
    """A consumer that has nobody behind it: what it fetches is how patient it is, and at which time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.is_taking = 0, False
        app = ChunkedApp("contract", broker="groundswell://localhost:1", store="memory://", web_enabled=False)
        app.begun, app.is_taking = (lambda: self.begun), (lambda: self.is_taking)
        self.consumer: Any = app._new_consumer()
        monkeypatch.setattr(self.consumer, "assignment", lambda: {FAUST_TP})
        monkeypatch.setattr(self.consumer, "_getmany", self.fetched)
        self.consumer.resume_flow()
        self.consumer._set_active_tps({FAUST_TP})

    async def fetched(self, active_partitions: Any, timeout: float) -> Any:
        return {tp: [timeout] for tp in active_partitions}

    async def waits(self) -> asyncio.Future[Any]:
        waiting = asyncio.ensure_future(self.consumer._wait_next_records(1.0))
        done, _ = await asyncio.wait({waiting}, timeout=2 * LOST_SECONDS if self.is_taking else 0.05)
        assert not done
        return waiting

    async def ends(self, waiting: asyncio.Future[Any]) -> None:
        """Soon; Faust sleeps for a second when all partitions are held back."""
        started = time.monotonic()
        records, _ = await waiting
        assert records == {FAUST_TP: [1.0]}
        assert time.monotonic() - started < 0.7

    def close(self) -> None:
        self.consumer._thread.thread_loop.close()


def held(monkeypatch: pytest.MonkeyPatch, story: Callable[[Held], Coroutine[Any, Any, None]]) -> None:
    async def told() -> None:
        one = Held(monkeypatch)
        try:
            await story(one)
        finally:
            one.close()

    asyncio.run(told())


def test_partitions_that_were_all_paused_are_fetched_as_soon_as_one_goes_on(monkeypatch):
    async def story(one: Held) -> None:
        one.consumer.pause_partitions({FAUST_TP})
        waiting = await one.waits()
        one.consumer.resume_partitions({FAUST_TP})
        await one.ends(waiting)

    held(monkeypatch, story)


def test_no_more_is_fetched_until_the_stage_has_begun_with_what_was_fetched_last(monkeypatch):
    async def story(one: Held) -> None:
        one.consumer._thread._poll, one.begun, one.is_taking = 7, 6, True
        waiting = await one.waits()
        one.begun = 7
        await one.ends(waiting)

    held(monkeypatch, story)


def test_what_was_lost_on_its_way_to_the_stage_is_not_waited_for(monkeypatch):
    async def story(one: Held) -> None:
        one.consumer._thread._poll, one.begun = 7, 6
        await one.ends(await one.waits())

    held(monkeypatch, story)


def test_what_holds_the_event_loop_up_makes_nothing_lost(monkeypatch):
    async def story(one: Held) -> None:
        one.consumer._thread._poll, one.begun = 7, 6
        waiting = asyncio.ensure_future(one.consumer._wait_next_records(1.0))
        await asyncio.sleep(transport.ROOM_SECONDS)
        time.sleep(1.5 * LOST_SECONDS)
        await asyncio.sleep(2 * transport.ROOM_SECONDS)
        assert not waiting.done()
        await one.ends(waiting)

    held(monkeypatch, story)


@pytest.mark.parametrize("says", [asyncio.CancelledError, TimeoutError, None])
def test_a_client_that_does_not_end_or_cancels_itself_is_left(monkeypatch, says):
    monkeypatch.setattr(transport, "STOP_SECONDS", 0.05)
    closed = []

    class Client:
        async def close(self) -> None:
            closed.append(True)

        async def stop(self) -> None:
            if says is None:
                await asyncio.sleep(600)
            raise says

    client = Client()
    client._client = client  # type: ignore[attr-defined]
    thread = Thread([], 0)
    thread._consumer, thread._method_queue = client, None
    asyncio.run(thread.on_thread_stop())
    assert closed == [True]
