"""The exact stage: which partitions this worker owns, and the order in which their results become durable.

Ledger (at each chunk), then panes and dead letters (acknowledged), then read-state by compare-and-set; the group's
committed offset follows for lag monitors only. Recovery starts at the read-state's position.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from sqlalchemy import Engine

from aggregates.ledger import Ledger, Source
from schemas.topics import ACTIVITY, DEAD_LETTERS, TIERS, WINDOWS
from streams import outputs, readstate
from streams.intake import Intake, Limits, remember
from streams.metrics import METRICS
from streams.partition import Applied, Flush, Partition
from streams.recent import Recent, tail_start
from streams.transport import Chunk, ChunkedApp

log = structlog.get_logger()


@dataclass(slots=True, frozen=True)
class StageConfig:
    """What the stage needs to know of its surroundings."""

    bootstrap: str
    epoch: str
    """Names this creation of the activity log, so that offsets that start over are never taken for old ones."""
    partitions: int
    secret: bytes
    writer: str
    """Names this process; no two have the same."""
    clock: Callable[[], int]
    """Epoch milliseconds, for `recorded_at`."""
    flush_seconds: float = 1.0
    grace_ms: int = 24 * 3_600_000
    limits: Limits = field(default_factory=Limits)


class Stage:
    """All owned partitions, and their flushes."""

    def __init__(self, app: ChunkedApp, engine: Engine, ledger: Ledger, config: StageConfig) -> None:
        self.app = app
        self.engine = engine
        self.ledger = ledger
        self.config = config
        self.parts: dict[int, Partition] = {}
        self._generation = 0
        self._turn = asyncio.Lock()
        """Held by a chunk or by a flush. It is fair, so under full input a flush waits for one chunk, not for all."""
        self._producer: AIOKafkaProducer | None = None
        self._ready = False
        self.on_failure: Callable[[BaseException], None] = lambda _: None
        app.positions[ACTIVITY] = lambda p: self.parts[p].next if p in self.parts else None
        app.on_partitions_revoked.connect(self._on_revoked)
        app.on_rebalance_complete.connect(self._on_rebalanced)
        app.on_before_shutdown.connect(self._on_shutdown)
        app.task(self._flush_regularly)

    @property
    def is_ready(self) -> bool:
        """Whether the partitions of this worker are recovered and at work."""
        return self._ready

    async def _fail(self, error: BaseException) -> None:
        self._ready = False
        self.parts.clear()  # nothing more is applied or written
        self.on_failure(error)
        await self.app.crash(error)

    # Chunks

    async def take(self, partition: int, chunk: Chunk) -> None:
        """Apply a chunk, or drop it and, where there is a gap, go back to where the partition stands."""
        tp = TopicPartition(ACTIVITY, partition)
        async with self._turn:
            # Between a revocation and the seek that ends the rebalance nothing is applied: the partition may be lost.
            part = self.parts.get(partition) if self._ready else None
            try:
                outcome = Applied.STALE if part is None else part.apply(chunk, self.app.consumer_thread.epoch(tp))
            except Exception as error:
                await self._fail(error)
                return
        METRICS.chunks.labels(outcome.value).inc()
        if outcome is Applied.DONE:
            METRICS.records.inc(len(chunk.records))
        elif outcome is Applied.GAP:
            await self.app.consumer_thread.seek_again(tp)

    # Assignment

    def _is_live(self) -> bool:
        return self.app.consumer_thread.generation() != -1

    async def _on_revoked(self, _app: Any, revoked: Any = None, **_: Any) -> None:
        self._ready = False
        if not self._is_live():  # the session is over: somebody else may own the partitions
            self._drop(list(self.parts))
            return
        await self.flush()
        self._generation = self.app.consumer_thread.generation()

    async def _on_rebalanced(self, _app: Any, **_: Any) -> None:
        generation = self.app.consumer_thread.generation()
        mine = {tp.partition for tp in self.app.consumer.assignment() if tp.topic == ACTIVITY}
        missed = generation != self._generation + 1
        self._drop([p for p in self.parts if p not in mine or missed])
        new = sorted(mine - self.parts.keys())
        started = perf_counter()
        try:
            recovered = await asyncio.gather(*(self._recover(partition) for partition in new))
        except Exception as error:
            await self._fail(error)
            return
        self.parts.update(zip(new, recovered, strict=True))
        if new:
            took = perf_counter() - started
            METRICS.recovery_seconds.observe(took)
            log.info(
                "partitions ready",
                generation=generation,
                recovered=new,
                seconds=round(took, 2),
                next={p: part.next for p, part in self.parts.items()},
            )
        self._ready = True

    def _drop(self, partitions: list[int]) -> None:
        for partition in partitions:
            self.parts.pop(partition, None)
        if partitions:
            self.ledger.forget()

    async def _recover(self, partition: int) -> Partition:
        source = Source(ACTIVITY, self.config.epoch, partition)
        state = await asyncio.to_thread(readstate.load, self.engine, source)
        start = state.saved or 0
        recent = await self._recent(source, state, start)
        intake = Intake(partition, self.config.partitions, state, recent, self.config.secret, self.config.limits)
        part = Partition(
            source,
            start,
            state,
            intake,
            self.ledger,
            writer=self.config.writer,
            grace_ms=self.config.grace_ms,
            clock=self.config.clock,
        )
        panes, part.out_next = await outputs.read_panes(self.config.bootstrap, partition)
        part.recover_panes(panes)
        return part

    async def _recent(self, source: Source, state: readstate.ReadState, end: int) -> Recent:
        """The ids within the horizon, read again from the log's tail."""
        recent = Recent()
        rejected = set(state.rejected)
        if end == 0:
            return recent
        tail = outputs.read(self.config.bootstrap, source.topic, source.partition, tail_start(end), end)
        async for record in tail:
            if record.offset not in rejected:
                remember(recent, record)
        return recent

    # Flush

    async def _flush_regularly(self) -> None:
        while not self.app.should_stop:
            await asyncio.sleep(self.config.flush_seconds)
            if self._ready and self._is_live():
                await self.flush()

    async def _on_shutdown(self, _app: Any, **_: Any) -> None:
        self._ready = False
        if self._is_live():
            await self.flush()
        if self._producer is not None:
            await self._producer.stop()

    async def flush(self) -> None:
        """Make everything applied so far durable, partition by partition; a failure stops the worker."""
        async with self._turn:
            started = perf_counter()
            try:
                await self._output_producer()
                flushed = await asyncio.gather(*(self._flush_one(p, part) for p, part in list(self.parts.items())))
            except Exception as error:
                await self._fail(error)
                return
        positions = {TopicPartition(ACTIVITY, p): position for p, position in flushed if position is not None}
        if positions:
            METRICS.flush_seconds.observe(perf_counter() - started)
            await self._commit(positions)

    async def _flush_one(self, partition: int, part: Partition) -> tuple[int, int | None]:
        if part.is_flushed:
            return partition, None

        async def save(flush: Flush) -> None:
            writer, ends = self.config.writer, dict(part.out_next)
            await asyncio.to_thread(readstate.save, self.engine, part.source, flush.delta, writer, ends)

        return partition, await part.flush(partial(self._write_outputs, part), save)

    async def _write_outputs(self, part: Partition, flush: Flush) -> None:
        number = part.source.partition
        stamp = flush.position - 1
        windows: list[outputs.Record] = []
        tiers: list[outputs.Record] = []
        for pane, counters in flush.panes:
            record = outputs.pane_record(pane, counters, number, stamp)
            (tiers if outputs.pane_topic(pane) == TIERS else windows).append(record)
        for (brand, member), tier, platforms in flush.members:
            tiers.append(outputs.member_record(brand, member, tier, platforms, number, stamp))
        letters = [outputs.letter_record(letter, part.source.topic, number) for letter in flush.letters]
        producer = await self._output_producer()
        for topic, records in ((WINDOWS, windows), (TIERS, tiers), (DEAD_LETTERS, letters)):
            end = await outputs.send(producer, topic, number, records)
            if end is not None:
                part.out_next[topic] = end
            METRICS.written.labels(topic).inc(len(records))

    async def _output_producer(self) -> AIOKafkaProducer:
        if self._producer is None:
            self._producer = AIOKafkaProducer(
                bootstrap_servers=self.config.bootstrap, acks="all", max_batch_size=1 << 20, max_request_size=8 << 20
            )
            await self._producer.start()
        return self._producer

    async def _commit(self, positions: dict[TopicPartition, int]) -> None:
        """Tell the group how far we are; nothing reads it but lag monitors, so a refusal is only noted."""
        try:
            await self.app.consumer_thread.run(partial(_commit_owned, positions=positions))
        except KafkaError as error:
            log.warning("group offsets not committed", error=repr(error))


async def _commit_owned(consumer: Any, positions: dict[TopicPartition, int]) -> None:
    owned = consumer.assignment()
    offsets = {tp: OffsetAndMetadata(position, "") for tp, position in positions.items() if tp in owned}
    if offsets:
        await consumer.commit(offsets)
