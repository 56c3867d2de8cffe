"""The exact stage: which partitions this worker owns, and when what they have folded becomes durable.

Ledger (at each chunk), then panes and dead letters (acknowledged), then read-state by compare-and-set; the group's
committed offset follows for lag monitors only. Recovery starts at the read-state's position. Whatever happens to a
worker, it may lose its partitions at any instant and the next owner ends where a clean run ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from sqlalchemy import Engine

from aggregates.database import is_unavailable
from aggregates.ledger import Source
from streams import broker, outputs, readstate
from streams.fold import Fold
from streams.metrics import METRICS
from streams.outputs import WHAT_TO_DO, AuditedWriter, LogLost, TransactionalWriter, Writer
from streams.partition import Applied, Flush, Partition
from streams.readstate import ReadState
from streams.rewards import WAITING, GivenUp
from streams.transport import Chunk, ChunkedApp

log = structlog.get_logger()
RETRY_SECONDS = 0.5
PAUSE_SECONDS = 1.0
"""A chunk that waits for another store this long pauses its partition."""


@dataclass(slots=True, frozen=True)
class StageConfig:
    """What the stage needs to know of its surroundings."""

    bootstrap: str
    group: str
    """Consumer group, and the start of the output producers' transactional ids."""
    topic: str
    """The input."""
    outputs: Sequence[str]
    """Topics that hold the folds' state, read back on recovery."""
    epoch: str
    """Names this creation of the input topic, so that offsets that start over are never taken for old ones."""
    has_transactions: bool
    worker: str
    """Names this process; no two have the same."""
    flush_seconds: float = 1.0
    watch_seconds: float = 5.0
    patience_seconds: float = 4.0
    """How long a revocation may wait for a last flush before the partition's unsaved state is dropped."""


FoldMaker = Callable[[Source, ReadState, str], Awaitable[Fold]]
"""Makes the fold of a source from its read-state; the last argument names this ownership of it."""


@dataclass(slots=True)
class Owned:
    """A partition that is ours now."""

    part: Partition
    writer: Writer
    token: str
    """Names this ownership; what an earlier one still tries to write is refused."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a chunk is folded, and while a flush takes what changed."""
    flushing: asyncio.Lock = field(default_factory=asyncio.Lock)
    suspect: tuple[int, int] | None = None
    """Fetch position and next offset when they last differed."""
    waiting: bool = False
    """A chunk waits for another store: what was fetched is not lost, only late."""


class Stage:
    """All owned partitions, their flushes, and what watches over them."""

    def __init__(self, app: ChunkedApp, engine: Engine, make_fold: FoldMaker, config: StageConfig) -> None:
        self.app = app
        self.engine = engine
        self.config = config
        self.owned: dict[int, Owned] = {}
        self.on_failure: Callable[[BaseException], None] = lambda _: None
        self._make_fold = make_fold
        self._generation = 0
        self._round = 0
        """Counts rebalances; a recovery that ends in a later round is thrown away."""
        self._tokens = 0
        self._ready = False
        self._producer: Any = None
        app.positions[config.topic] = lambda p: self.owned[p].part.next if p in self.owned else None
        app.on_partitions_revoked.connect(self._on_revoked)
        app.on_rebalance_complete.connect(self._on_rebalanced)
        app.on_before_shutdown.connect(self._on_shutdown)
        app.task(self._flush_regularly)
        app.task(self._watch_regularly)

    @property
    def is_ready(self) -> bool:
        """Whether the partitions of this worker are recovered and at work."""
        return self._ready

    def _tp(self, partition: int) -> TopicPartition:
        return TopicPartition(self.config.topic, partition)

    async def _fail(self, error: BaseException) -> None:
        self._ready = False
        for owned in self.owned.values():
            owned.part.fold.give_up()
        self.owned.clear()  # nothing more is applied or written
        self.on_failure(error)
        await self.app.crash(error)

    # Chunks

    async def take(self, partition: int, chunk: Chunk) -> None:
        """Apply a chunk, or drop it and, where there is a gap, go back to where the partition stands."""
        owned = self.owned.get(partition) if self._ready else None
        outcome = Applied.STALE
        try:
            if owned is not None:
                await self._make_room(partition, owned)
                await self._check_start(owned, chunk)
                async with owned.lock:
                    # A revocation may have come meanwhile: then the partition may be somebody else's already.
                    if self._ready and self.owned.get(partition) is owned:
                        started = perf_counter()
                        outcome = owned.part.apply(chunk, self.app.consumer_thread.epoch(self._tp(partition)))
                        METRICS.fold_seconds.observe(perf_counter() - started)
        except GivenUp:
            pass
        except Exception as error:
            await self._fail(error)
            return
        METRICS.chunks.labels(outcome.value).inc()
        if outcome is Applied.DONE:
            METRICS.records.labels(str(partition)).inc(len(chunk.records))
        elif outcome is Applied.GAP:
            await self.app.consumer_thread.seek_again(self._tp(partition))

    async def _make_room(self, partition: int, owned: Owned) -> None:
        """Wait until the ledger has all but the last chunks; a partition that waits long is paused meanwhile."""
        settled = asyncio.ensure_future(owned.part.fold.settle(WAITING))
        try:
            await asyncio.wait_for(asyncio.shield(settled), PAUSE_SECONDS)
            return
        except TimeoutError:
            pass
        owned.waiting = True
        self.app.consumer.pause_partitions({self._tp(partition)})
        METRICS.paused.labels(str(partition)).set(1)
        log.warning("partition paused: the ledger does not take its chunks", partition=partition)
        try:
            await settled
        finally:
            owned.waiting = False
            METRICS.paused.labels(str(partition)).set(0)
            if self._ready and self.owned.get(partition) is owned:
                self.app.consumer.resume_partitions({self._tp(partition)})
                log.warning("partition resumed", partition=partition)

    async def _check_start(self, owned: Owned, chunk: Chunk) -> None:
        """Offsets may be missing (a transaction's marker), but not because the log was cut."""
        part = owned.part
        if chunk.start == part.next and chunk.records[0].offset > part.next:
            partition = part.source.partition
            bounds = await outputs.bounds_of(self.config.bootstrap, self.config.topic, [partition])
            self._check_watermark(partition, part.next, bounds[partition][0])

    def _check_watermark(self, partition: int, position: int, low: int) -> None:
        if low > position:
            raise LogLost(
                f"{self.config.topic} partition {partition}: the log begins at offset {low}, and offset {position} "
                f"was next: {low - position} records are gone. {WHAT_TO_DO}"
            )

    # Assignment

    def _is_live(self) -> bool:
        return self.app.consumer_thread.generation() != -1

    async def _on_revoked(self, _app: Any, revoked: Any = None, **_: Any) -> None:
        self._ready = False
        self._round += 1
        generation = self.app.consumer_thread.generation()
        if generation != -1:
            await self._last_flush()
        if generation == -1 or self.app.consumer_thread.generation() != generation:
            # The session is over, before the flush or during it: somebody else may own the partitions.
            await self._drop(list(self.owned))
        self._generation = generation

    async def _last_flush(self) -> None:
        """Flush what can be flushed in time; a partition that cannot is dropped, its next owner folds it again."""
        try:
            owned = dict(self.owned)
            wait = self.config.patience_seconds
            flushes = [asyncio.wait_for(self._flush_one(one, patient=False), wait) for one in owned.values()]
            outcomes = await asyncio.gather(*flushes, return_exceptions=True)
            for partition, outcome in zip(owned, outcomes, strict=True):
                if isinstance(outcome, BaseException):
                    log.warning("partition given up unflushed", partition=partition, error=repr(outcome))
                    await self._drop([partition])
        except Exception as error:
            await self._fail(error)

    async def _on_rebalanced(self, _app: Any, **_: Any) -> None:
        generation = self.app.consumer_thread.generation()
        this_round = self._round
        mine = {tp.partition for tp in self.app.consumer.assignment() if tp.topic == self.config.topic}
        missed = generation != self._generation + 1
        await self._drop([p for p in self.owned if p not in mine or missed])
        new = sorted(mine - self.owned.keys())
        started = perf_counter()
        try:
            recovered = await asyncio.gather(*(self._recover_patiently(partition, this_round) for partition in new))
        except Exception as error:
            await self._fail(error)
            return
        if self._round != this_round:
            for one in recovered:
                if one is not None:
                    await self._let_go(one)
            return
        self.owned.update((p, one) for p, one in zip(new, recovered, strict=True) if one is not None)
        METRICS.partitions.set(len(self.owned))
        if new:
            took = perf_counter() - started
            METRICS.recovery_seconds.observe(took)
            positions = {p: one.part.next for p, one in self.owned.items()}
            log.info("partitions ready", generation=generation, recovered=new, seconds=round(took, 2), next=positions)
        self._ready = True

    async def _drop(self, partitions: list[int]) -> None:
        for partition in partitions:
            owned = self.owned.pop(partition, None)
            if owned is not None:
                await self._let_go(owned)
        METRICS.partitions.set(len(self.owned))

    async def _let_go(self, owned: Owned) -> None:
        owned.part.fold.give_up()
        try:
            await asyncio.wait_for(owned.writer.stop(), self.config.patience_seconds)
        except (KafkaError, TimeoutError) as error:
            log.warning("output producer not stopped", partition=owned.part.source.partition, error=repr(error))

    async def _recover_patiently(self, partition: int, this_round: int) -> Owned | None:
        """Recover, however long broker or database are away, unless another rebalance comes first."""
        said = False
        while self._round == this_round and not self.app.should_stop:
            try:
                return await self._recover(partition)
            except Exception as error:
                if not (isinstance(error, KafkaError | OSError) or is_unavailable(error)):
                    raise
                if not said:
                    log.warning("recovery waits", partition=partition, error=repr(error))
                    said = True
                await asyncio.sleep(RETRY_SECONDS)
        return None

    async def _recover(self, partition: int) -> Owned:
        """Fence whoever had it before, then read what is durable."""
        config = self.config
        source = Source(config.topic, config.epoch, partition)
        self._tokens += 1
        token = f"{config.worker}/{self._tokens}"
        writer = await self._writer(partition)
        try:
            await writer.start()
            state = await asyncio.to_thread(readstate.take, self.engine, source, token)
            start = state.saved
            low, _ = (await outputs.bounds_of(config.bootstrap, config.topic, [partition]))[partition]
            self._check_watermark(partition, start, low)
            fold = await self._make_fold(source, state, token)
            written = {}
            for topic in config.outputs:
                end = state.outputs.get(topic, 0)
                written[topic] = await outputs.last_values(config.bootstrap, topic, partition, end)
            fold.recover(written, start)
        except readstate.OtherLog as error:
            await writer.stop()
            raise LogLost(f"{error}. {WHAT_TO_DO}") from None
        except BaseException:
            await writer.stop()
            raise
        writer.ends = {**state.outputs, **writer.ends}
        return Owned(Partition(source, start, fold), writer, token)

    async def _writer(self, partition: int) -> Writer:
        config = self.config
        if config.has_transactions:
            return TransactionalWriter(config.bootstrap, config.group, partition)
        if self._producer is None:
            self._producer = await outputs.shared_producer(config.bootstrap)
        return AuditedWriter(config.bootstrap, self._producer, config.epoch, partition, config.outputs)

    # Flush

    async def _flush_regularly(self) -> None:
        while not self.app.should_stop:
            await asyncio.sleep(self.config.flush_seconds)
            if self._ready and self._is_live():
                await self.flush()

    async def _on_shutdown(self, _app: Any, **_: Any) -> None:
        self._ready = False
        self._round += 1
        if self._is_live():
            await self._last_flush()
        await self._drop(list(self.owned))
        if self._producer is not None:
            await self._producer.stop()

    async def flush(self) -> None:
        """Make everything applied so far durable, the partitions at once; a failure stops the worker."""
        started = perf_counter()
        owned = dict(self.owned)
        outcomes = await asyncio.gather(*(self._flush_one(one) for one in owned.values()), return_exceptions=True)
        positions = {}
        for (partition, one), outcome in zip(owned.items(), outcomes, strict=True):
            if isinstance(outcome, GivenUp) or self.owned.get(partition) is not one:
                continue
            if isinstance(outcome, BaseException):
                await self._fail(outcome)
                return
            if outcome is not None:
                positions[self._tp(partition)] = outcome
        if positions:
            METRICS.flush_seconds.observe(perf_counter() - started)
            await self._commit(positions)

    async def _flush_one(self, owned: Owned, *, patient: bool = True) -> int | None:
        """Flush a partition; the position it reached, None when there was nothing. Impatient: without a retry."""
        part = owned.part
        async with owned.flushing:
            async with owned.lock:
                await part.fold.settle()
                if part.is_flushed:
                    return None
                flush = part.begin_flush()
            await part.finish_flush(flush, partial(self._write, owned), partial(self._save, owned, patient))
            return flush.position

    async def _write(self, owned: Owned, flush: Flush) -> None:
        await owned.writer.write(flush.records, flush.position - 1)
        for topic, records in flush.records.items():
            METRICS.written.labels(topic).inc(len(records))

    async def _save(self, owned: Owned, patient: bool, flush: Flush) -> None:
        """Save the read-state; when the database is away, until it is back or the partition is lost."""
        source, ends = owned.part.source, dict(owned.writer.ends)
        while True:
            try:
                await asyncio.to_thread(readstate.save, self.engine, source, flush.delta, owned.token, ends)
                return
            except Exception as error:
                if not is_unavailable(error) or not patient:
                    raise
                if self.owned.get(source.partition) is not owned:
                    raise GivenUp from None
                await asyncio.sleep(RETRY_SECONDS)

    async def _commit(self, positions: dict[TopicPartition, int]) -> None:
        """Tell the group how far we are; nothing reads it but lag monitors, so a refusal is only noted."""
        try:
            await self.app.consumer_thread.run(partial(_commit_owned, positions=positions))
        except KafkaError as error:
            log.warning("group offsets not committed", error=repr(error))

    # Watch

    async def _watch_regularly(self) -> None:
        while not self.app.should_stop:
            await asyncio.sleep(self.config.watch_seconds)
            if self._ready and self._is_live():
                try:
                    await self._watch()
                except (KafkaError, OSError) as error:
                    log.warning("the broker does not answer the watch", error=repr(error))
                except Exception as error:
                    await self._fail(error)

    async def _watch(self) -> None:
        """The topic is still the same one and not cut; no chunk got lost; nobody else writes our output."""
        config = self.config
        found = await broker.describe(config.bootstrap, config.topic)
        if found.epoch and found.epoch != config.epoch:
            raise LogLost(f"{config.topic} was made anew: its id was {config.epoch} and is {found.epoch}. {WHAT_TO_DO}")
        if not self.owned:
            return
        bounds = await outputs.bounds_of(config.bootstrap, config.topic, sorted(self.owned))
        for partition, owned in list(self.owned.items()):
            low, high = bounds[partition]
            self._check_watermark(partition, owned.part.next, low)
            METRICS.lag.labels(str(partition)).set(max(0, high - owned.part.next))
            await self._seek_lost_chunk(partition, owned)
            if owned.part.is_flushed:
                async with owned.flushing:
                    await owned.writer.audit(owned.part.saved - 1)

    async def _seek_lost_chunk(self, partition: int, owned: Owned) -> None:
        """Seek a partition that has stood still behind what was fetched: its last chunk was lost on the way."""
        fetched = self.app.consumer_thread.position(self._tp(partition))
        pair = (fetched, owned.part.next) if fetched is not None and fetched != owned.part.next else None
        if pair is not None and pair == owned.suspect and not owned.waiting:
            log.warning("a fetched chunk was lost, seeking again", partition=partition, fetched=fetched, next=pair[1])
            METRICS.sought.inc()
            await self.app.consumer_thread.seek_again(self._tp(partition))
            pair = None
        owned.suspect = pair


async def _commit_owned(consumer: Any, positions: dict[TopicPartition, int]) -> None:
    owned = consumer.assignment()
    offsets = {tp: OffsetAndMetadata(position, "") for tp, position in positions.items() if tp in owned}
    if offsets:
        await consumer.commit(offsets)
