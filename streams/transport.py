"""Faust's Kafka transport, changed to hand an agent one message for each fetched chunk of one partition.

Faust creates several tasks and objects for each record; a chunk has them once. Faust still does group membership,
rebalancing, agents and lifecycle. Whatever it loses, repeats or cancels, a chunk says which position it starts from
and which seek it was fetched after, and the stage applies only the one that continues its own position.

Seven overrides of faust-streaming 0.15 (tests/streams/test_transport.py holds what they rely on).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import faust
import structlog
from aiokafka import TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.transport.drivers.aiokafka import Consumer as FaustConsumer
from faust.transport.drivers.aiokafka import Transport as FaustTransport
from faust.types.tuples import ConsumerMessage

from streams.fetching import as_fetched

log = structlog.get_logger()
SCHEME = "groundswell"
FETCH_WAIT_MS = 40
"""How long a fetch waits for records."""
FETCH_BYTES = 16_384
"""With so many bytes a fetch waits no longer. So records come by the dozen, not one by one: each fetch, chunk and batch
of the ledger costs as much as dozens of them."""
LOOK_AGAIN_SECONDS = 0.1
"""So soon it is looked for what has come for a partition that was paused when the last look began."""
ROOM_SECONDS = 0.005
"""How often it is looked whether there is room for more."""
LOST_LOOKS = 40
"""A fetch that a stage at rest has not begun with by so many looks, 0.2 s, was lost on its way, as in a rebalance. They
are counted, since whatever holds the event loop up holds up the stage, too."""

STOP_SECONDS = 5.0
"""How long the client may take to leave its group; the broker misses it all the same."""


class Chunk(NamedTuple):
    """Records of one partition as they were fetched, in offset order."""

    start: int | None
    """The position before them; None when it was not known."""
    epoch: int
    """How often the partition had been sought when they were fetched."""
    records: list[Any]
    poll: int = 0
    """Which fetch brought them; the chunks of a later one are applied later."""


class ChunkedApp(faust.App):  # type: ignore[misc]
    """A Faust app with topics that arrive in chunks; `positions[topic](partition)` is the stage's next offset."""

    positions: dict[str, Callable[[int], int | None]]
    begun: Callable[[], int]
    """Which fetch the stage has begun with; without a stage: the latest."""
    is_taking: Callable[[], bool]
    """Whether the stage is at work on a chunk."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.positions = {}
        self.begun = lambda: self.consumer_thread.latest_poll
        self.is_taking = lambda: False
        super().__init__(*args, **kwargs)

    @property
    def consumer_thread(self) -> ConsumerThread:
        """The thread that fetches, seeks and commits."""
        thread = self.consumer._thread
        assert isinstance(thread, ConsumerThread)
        return thread


class ConsumerThread(AIOKafkaConsumerThread):  # type: ignore[misc]
    """Every fetch and every seek of a chunked partition happens in this thread, so `_position` is exact."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._position: dict[TopicPartition, int | None] = {}
        self._epoch: dict[TopicPartition, int] = {}
        self._poll = 0
        self._polled: dict[TopicPartition, int] = {}

    def _create_worker_consumer(self, transport: Any) -> Any:
        """Read what is committed only, as recovery and replay do, and move as few partitions as possible.

        A fetch waits for records a short time only: the embedded broker looks for them when a fetch comes and when its
        time is over, so with Faust's 1.5 s a command on an idle log was answered after 0.75 s.
        """
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        consumer._fetch_min_bytes = FETCH_BYTES
        consumer._isolation_level = "read_committed"
        consumer._key_deserializer = as_fetched
        consumer._partition_assignment_strategy = [StickyPartitionAssignor]
        return consumer

    async def on_thread_stop(self) -> None:
        """Stop the client in its time, or without its leave.

        Where the broker is away it may wait for long, or end with a cancellation of its own requests. Faust would take
        that for one of this thread, and wait a minute for an end that nobody tells it of.
        """
        stopping = asyncio.ensure_future(super().on_thread_stop())
        done, _ = await asyncio.wait({stopping}, timeout=STOP_SECONDS)
        if not done or stopping.cancelled() or stopping.exception():
            log.warning("the client was stopped without its leave of the group")
        stopping.cancel()
        if self._consumer is not None:
            await self._consumer._client.close()

    @property
    def _positions(self) -> Mapping[str, Callable[[int], int | None]]:
        positions: Mapping[str, Callable[[int], int | None]] = self.consumer.app.positions
        return positions

    async def _fetch_records(
        self, consumer: Any, active_partitions: Any, timeout: float | None = None, max_records: int | None = None
    ) -> dict[Any, list[Any]]:
        patience = LOOK_AGAIN_SECONDS if timeout is None else min(timeout, LOOK_AGAIN_SECONDS)
        fetched = await super()._fetch_records(consumer, active_partitions, timeout=patience, max_records=max_records)
        out: dict[Any, list[Any]] = {}
        self._poll += bool(fetched)
        for tp, records in fetched.items():
            if tp.topic not in self._positions:
                out[tp] = records
            elif records:
                out[ensure_TP(tp)] = [Chunk(self._position.get(tp), self._epoch.get(tp, 0), records, self._poll)]
                self._polled[tp] = self._poll
                self._position[tp] = records[-1].offset + 1
        return out

    async def seek_to_committed(self) -> Mapping[Any, int]:
        """Seek chunked partitions to the stage's own next offset; aiokafka skips one without a commit."""
        sought: Mapping[Any, int] = await self.call_thread(self._seek_all)
        return sought

    async def _seek_all(self) -> dict[Any, int]:
        consumer = self._ensure_consumer()
        sought: dict[Any, int] = {}
        for tp in consumer.assignment():
            if tp.topic in self._positions:
                sought.update(self._seek_one(consumer, tp))
            else:
                sought.update(await consumer.seek_to_committed(tp))
        return sought

    def _seek_one(self, consumer: Any, tp: TopicPartition) -> dict[Any, int]:
        position = self._positions[tp.topic](tp.partition)
        self._epoch[tp] = self._epoch.get(tp, 0) + 1
        self._position[tp] = position
        if position is None:
            return {}
        consumer.seek(tp, position)
        return {tp: position}

    async def seek_again(self, tp: TopicPartition) -> None:
        """Seek to the stage's next offset; what was fetched before is from then on an older epoch."""

        async def seek() -> None:
            consumer = self._ensure_consumer()
            if tp in consumer.assignment():
                self._seek_one(consumer, tp)

        await self.call_thread(seek)

    @property
    def latest_poll(self) -> int:
        """Which fetch was the latest."""
        return self._poll

    def fetched(self, tp: TopicPartition) -> tuple[int | None, int]:
        """The offset after the last one that was fetched, and which fetch brought that."""
        return self._position.get(tp), self._polled.get(tp, 0)

    def epoch(self, tp: TopicPartition) -> int:
        """How often the partition was sought; a chunk of another epoch is stale."""
        return self._epoch.get(tp, 0)

    def generation(self) -> int:
        """The group generation of this member; −1 once its session is lost."""
        consumer = self._consumer
        return -1 if consumer is None or consumer._coordinator is None else consumer._coordinator.generation

    def refusal(self) -> KafkaError | None:
        """What has kept us from the group since the last time that this was asked, if anything has.

        The client waits until it is asked, which Faust never does, and then tries again.
        """
        consumer = self._consumer
        if consumer is None or consumer._coordinator is None or consumer._coordinator._pending_exception is None:
            return None
        error: KafkaError = consumer._coordinator._pending_exception

        def taken_note() -> None:
            with suppress(KafkaError):
                consumer._coordinator.check_errors()

        self.thread_loop.call_soon_threadsafe(taken_note)
        return error

    async def run(self, function: Callable[[Any], Awaitable[Any]]) -> Any:
        """Run a coroutine function of the aiokafka consumer in its own thread."""

        async def call() -> Any:
            return await function(self._ensure_consumer())

        return await self.call_thread(call)


class Consumer(FaustConsumer):  # type: ignore[misc]
    """Wraps a chunk as one Faust message; its offset is that of its last record."""

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _wait_next_records(self, timeout: float) -> Any:
        """Fetch once the stage has begun with what was fetched last: what comes until then makes larger chunks.

        So at most two fetches wait for the stage. Faust would hold partitions back by the number of chunks, small as
        they may be, and with all of them held back it sleeps for a second, long after the stage has nothing to do.
        """
        app, at_rest = self.app, 0
        while self.flow_active and not self.should_stop:
            at_rest = 0 if app.is_taking() else at_rest + 1
            is_behind = app.begun() < self._thread.latest_poll and at_rest <= LOST_LOOKS
            if not is_behind and (self._get_active_partitions() or not self.assignment()):
                break
            await self.sleep(ROOM_SECONDS)
        return await super()._wait_next_records(timeout)

    def _to_message(self, tp: Any, record: Any) -> ConsumerMessage:
        if type(record) is not Chunk:
            return super()._to_message(tp, record)
        self._read_offset[tp] = None  # Faust's own drop and gap logic does not apply: `Chunk.start` is exact
        last = record.records[-1]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            last.offset,
            last.timestamp / 1000,
            last.timestamp_type,
            (),
            b"",
            record,
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )


class Transport(FaustTransport):  # type: ignore[misc]
    """Registered for `groundswell://host:port` broker addresses."""

    Consumer = Consumer


TRANSPORTS.update({SCHEME: "streams.transport:Transport"})
