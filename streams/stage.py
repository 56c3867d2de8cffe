"""The exact stage: which partitions this worker owns, and when what they have folded becomes durable.

Ledger (at each chunk), then panes and dead letters (acknowledged), then read-state by compare-and-set; the group's
committed offset follows for lag monitors only. Recovery starts at the read-state's position. Whatever happens to a
worker, it may lose its partitions at any instant and the next owner ends where a clean run ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.types import TP
from sqlalchemy import Engine

from aggregates.database import is_unavailable
from streams import readstate
from streams.commits import GivenUp
from streams.metrics import METRICS
from streams.ownership import FoldMaker, Owned, Recovery, StageConfig, is_away
from streams.partition import Applied, Flush
from streams.rewards import WAITING
from streams.transport import Chunk, ChunkedApp
from streams.watch import Watch

log = structlog.get_logger()
RETRY_SECONDS = 0.5
TURNS = 0.618
"""A partition flushes this fraction of an interval after the one before it: so spread, whatever their number."""
KEPT_POLL_SECONDS = 0.005
PAUSE_SECONDS = 1.0
"""A chunk that waits for another store this long pauses its partition."""
LEAVE_SECONDS = 12.0
"""How long a worker that stops may flush and let go. What it has not flushed by then, the next owner folds again."""


class Stage:
    """All owned partitions and their flushes."""

    def __init__(self, app: ChunkedApp, engine: Engine, make_fold: FoldMaker, config: StageConfig) -> None:
        self.app = app
        self.engine = engine
        self.config = config
        self.owned: dict[int, Owned] = {}
        self._given_up: list[Owned] = []
        self.on_failure: Callable[[BaseException], Awaitable[None]] = app.crash
        """Has the app stop, which lets go of what is left."""
        self._recovery = Recovery(engine, make_fold, config)
        self.watch = Watch(self)
        self._generation = -1
        """The last one whose assignment was taken up."""
        self._revoked_generation = -1
        self._round = 0
        """Counts revocations: what a recovery brings for an earlier round is thrown away."""
        self._recoveries: set[asyncio.Task[Owned | None]] = set()
        self._ready = False
        self.is_taking = False
        """Whether a chunk is being applied, or waits for that."""
        app.positions[config.topic] = lambda p: self.owned[p].part.next if p in self.owned else None
        app.begun = lambda: self.watch.begun
        app.is_taking = lambda: self.is_taking
        app.on_partitions_revoked.connect(self._on_revoked)
        app.on_rebalance_complete.connect(self._on_rebalanced)
        app.on_before_shutdown.connect(self._on_shutdown)
        app.task(self._watch_regularly)

    @property
    def is_ready(self) -> bool:
        """Whether the partitions of this worker are recovered and at work."""
        return self._ready

    @property
    def is_live(self) -> bool:
        """Whether this worker has a session with its group."""
        return self.app.consumer_thread.generation() != -1

    def tp(self, partition: int) -> TopicPartition:
        """A partition of the input."""
        return TopicPartition(self.config.topic, partition)

    def is_ours(self, owned: Owned) -> bool:
        """Whether an ownership still holds, as far as we know."""
        return self.owned.get(owned.part.source.partition) is owned

    async def fail(self, error: BaseException) -> None:
        """Stop loudly: nothing more is applied or written."""
        self._ready = False
        self.give_up()
        await self.on_failure(error)

    def give_up(self) -> None:
        """Own nothing any more; nothing more is stored of what was owned."""
        for owned in self.owned.values():
            owned.part.fold.give_up()
        self._given_up += self.owned.values()
        self.owned.clear()

    # Chunks

    async def take(self, partition: int, chunk: Chunk) -> None:
        """Apply a chunk, or drop it and, where there is a gap, go back to where the partition stands."""
        self.watch.taken(chunk)
        owned = self.owned.get(partition) if self._ready else None
        outcome = Applied.STALE
        self.is_taking = True
        try:
            if owned is not None:
                outcome = await self._apply(owned, chunk)
        except GivenUp:
            pass
        except Exception as error:
            if owned is not None and self.is_ours(owned):
                await self.fail(error)
            return
        finally:
            self.is_taking = False
        METRICS.chunks.labels(outcome.value).inc()
        if outcome is Applied.DONE:
            METRICS.records.labels(str(partition)).inc(len(chunk.records))
        elif outcome is Applied.GAP:
            await self.app.consumer_thread.seek_again(self.tp(partition))

    async def _apply(self, owned: Owned, chunk: Chunk) -> Applied:
        await self._make_room(owned)
        try:
            await self.watch.check_chunk(owned, chunk)
        except (KafkaError, OSError) as error:
            log.warning("the broker does not say what log it is, fetching again", error=repr(error))
            await asyncio.sleep(RETRY_SECONDS)
            return Applied.GAP
        await self._until_kept(owned, chunk)
        async with owned.lock:
            # A revocation may have come meanwhile: then the partition may be somebody else's already.
            if not self._ready or not self.is_ours(owned):
                return Applied.STALE
            started = perf_counter()
            outcome = owned.part.apply(chunk, self.app.consumer_thread.epoch(self.tp(owned.part.source.partition)))
            METRICS.fold_seconds.observe(perf_counter() - started)
            return outcome

    async def _until_kept(self, owned: Owned, chunk: Chunk) -> None:
        """Wait until a chunk is where a crash leaves it, on a broker that has its records in memory only."""
        readable = self.config.readable
        while readable is not None and readable(owned.part.source.partition) <= chunk.records[-1].offset:
            if not self._ready or not self.is_ours(owned):
                return
            await asyncio.sleep(KEPT_POLL_SECONDS)

    async def _make_room(self, owned: Owned) -> None:
        """Wait until the ledger has all but the last chunks; a partition that waits long is paused meanwhile."""
        settled = asyncio.ensure_future(owned.part.fold.settle(WAITING))
        done, _ = await asyncio.wait({settled}, timeout=PAUSE_SECONDS)
        if done:
            return settled.result()
        partition = owned.part.source.partition
        tp = TP(self.config.topic, partition)
        self.app.consumer.pause_partitions({tp})
        METRICS.paused.labels(str(partition)).set(1)
        log.warning("partition paused: the ledger does not take its chunks", partition=partition)
        try:
            await settled
        finally:
            METRICS.paused.labels(str(partition)).set(0)
            if self._ready and self.is_ours(owned):
                self.app.consumer.resume_partitions({tp})
                log.warning("partition resumed", partition=partition)

    # Assignment

    async def _on_revoked(self, _app: Any, revoked: Any = None, **_: Any) -> None:
        self._ready = False
        self._round += 1
        await self._stop_recoveries()
        generation = self.app.consumer_thread.generation()
        self._revoked_generation = generation
        if generation != -1:
            await self._last_flush()
        if generation == -1 or self.app.consumer_thread.generation() != generation:
            # The session is over, before the flush or during it: somebody else may own the partitions.
            await self._drop(list(self.owned))

    async def _last_flush(self) -> None:
        """Flush what can be flushed in time; a partition that cannot is dropped, its next owner folds it again."""
        tasks = {asyncio.ensure_future(self._flush_one(one, patient=False)): p for p, one in self.owned.items()}
        if not tasks:
            return
        done, late = await asyncio.wait(tasks, timeout=self.config.patience_seconds)
        for task in late:
            task.cancel()
        failed = {tasks[task]: task.exception() for task in done if task.exception() is not None}
        for partition, error in {**failed, **{tasks[task]: TimeoutError() for task in late}}.items():
            log.warning("partition given up unflushed", partition=partition, error=repr(error))
        await self._drop([*failed, *(tasks[task] for task in late)])

    async def _on_rebalanced(self, _app: Any, **_: Any) -> None:
        generation = self.app.consumer_thread.generation()
        if generation in (-1, self._revoked_generation):
            return  # another rebalance has begun already: its own call comes
        this_round = self._round
        missed = generation != self._generation + 1
        mine = {tp.partition for tp in self.app.consumer.assignment() if tp.topic == self.config.topic}
        await self._drop([p for p in self.owned if p not in mine or missed])
        new = sorted(mine - self.owned.keys())
        started = perf_counter()
        try:
            await asyncio.gather(*(self._own(partition, this_round) for partition in new))
        except asyncio.CancelledError:
            if self._round == this_round:
                raise
        except Exception as error:
            await self.fail(error)
        if self._round != this_round:
            return
        self._generation = generation
        if new:
            took = perf_counter() - started
            METRICS.recovery_seconds.observe(took)
            positions = {p: one.part.next for p, one in self.owned.items()}
            log.info("partitions ready", generation=generation, recovered=new, seconds=round(took, 2), next=positions)
        self._ready = True

    async def _own(self, partition: int, this_round: int) -> None:
        """Recover a partition, however long broker or database are away, unless another rebalance comes first."""
        task = asyncio.ensure_future(self._recover(partition, this_round))
        self._recoveries.add(task)
        try:
            owned = await task
        finally:
            self._recoveries.discard(task)
        if owned is None:
            return
        if self._round != this_round:
            await owned.let_go(self.config.patience_seconds)
            return
        self.owned[partition] = owned
        owned.flusher = asyncio.ensure_future(self._flush_regularly(owned))
        METRICS.partitions.set(len(self.owned))

    async def _recover(self, partition: int, this_round: int) -> Owned | None:
        def is_ours() -> bool:
            return self._round == this_round and self.is_live

        said = False
        while is_ours() and not self.app.should_stop:
            try:
                return await self._recovery.take(partition, is_ours)
            except Exception as error:
                if not is_away(error):
                    raise
                if not said:
                    log.warning("recovery waits", partition=partition, error=repr(error))
                    said = True
                await asyncio.sleep(RETRY_SECONDS)
        return None

    async def _stop_recoveries(self) -> None:
        """No recovery of ours may take a partition once it can be somebody else's."""
        for task in self._recoveries:
            task.cancel()
        if self._recoveries:
            await asyncio.wait(set(self._recoveries), timeout=self.config.patience_seconds)

    async def _drop(self, partitions: list[int]) -> None:
        dropped = [owned for p in partitions if (owned := self.owned.pop(p, None)) is not None]
        for owned in dropped:  # before anything is awaited: nobody else knows of them any more
            owned.part.fold.give_up()
        await asyncio.gather(*(owned.let_go(self.config.patience_seconds) for owned in dropped))
        METRICS.partitions.set(len(self.owned))

    async def _on_shutdown(self, _app: Any, **_: Any) -> None:
        self._ready = False
        self._round += 1
        leaving = asyncio.ensure_future(self._leave())
        done, _late = await asyncio.wait({leaving}, timeout=LEAVE_SECONDS)
        if not done or leaving.cancelled() or leaving.exception() is not None:
            why = repr(leaving.exception()) if done and not leaving.cancelled() else "no answer in time"
            log.warning("not everything was let go", error=why)
            leaving.cancel()
            self.give_up()

    async def _leave(self) -> None:
        await self._stop_recoveries()
        if self.is_live:
            await self._last_flush()
        await self._drop(list(self.owned))
        await asyncio.gather(*(owned.let_go(self.config.patience_seconds) for owned in self._given_up))
        await self._recovery.stop()
        await self.watch.stop()

    # Flush

    async def _flush_regularly(self, owned: Owned) -> None:
        """Flush a partition at every interval, until it is let go; the partitions of a worker not all at once."""
        turn = owned.part.source.partition * TURNS % 1
        await asyncio.sleep(self.config.flush_seconds * turn)
        while self.is_ours(owned):
            await asyncio.sleep(self.config.flush_seconds)
            if not self._ready or not self.is_live:
                continue
            try:
                await self._flush_one(owned)
            except GivenUp:
                return
            except KafkaError as error:
                await self._start_over(owned, error)
                return
            except Exception as error:
                if self.is_ours(owned):
                    await self.fail(error)
                return

    async def _start_over(self, owned: Owned, error: BaseException) -> None:
        """An output producer that cannot go on is made anew by recovering the partition, which is still ours."""
        partition = owned.part.source.partition
        if not self.is_ours(owned):
            return
        this_round = self._round
        log.warning("the output failed, recovering the partition", partition=partition, error=repr(error))
        await self._drop([partition])
        if not self._ready or self._round != this_round:
            return  # a rebalance came meanwhile: it recovers what is ours then
        try:
            await self._own(partition, this_round)
        except Exception as worse:
            await self.fail(worse)
            return
        await self.app.consumer_thread.seek_again(self.tp(partition))

    async def flush(self) -> None:
        """Make everything applied so far durable, the partitions at once. Raises what keeps one from it."""
        await asyncio.gather(*(self._flush_one(one) for one in self.owned.values()))

    async def _flush_one(self, owned: Owned, *, patient: bool = True) -> None:
        """Flush a partition. Impatient: without trying again when the database is away."""
        part = owned.part
        started = perf_counter()
        async with owned.flushing:
            async with owned.lock:
                if not self.is_ours(owned):
                    raise GivenUp  # a chunk may have failed halfway: what is in memory is of no position
                if part.is_flushed:
                    return
                flush = part.begin_flush()
            await part.finish_flush(flush, partial(self._write, owned), partial(self._save, owned, patient))
        METRICS.flush_seconds.observe(perf_counter() - started)
        if patient:
            await self._commit({self.tp(part.source.partition): flush.position})

    async def _write(self, owned: Owned, flush: Flush) -> None:
        if not self.is_ours(owned):
            raise GivenUp  # lost while the ledger was waited for
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
                if not self.is_ours(owned):
                    raise GivenUp from None
                await asyncio.sleep(RETRY_SECONDS)

    async def _commit(self, positions: dict[TopicPartition, int]) -> None:
        """Tell the group how far we are; nothing reads it but lag monitors, so a refusal is only noted."""
        try:
            await self.app.consumer_thread.run(partial(_commit_owned, positions=positions))
        except KafkaError as error:
            log.warning("group offsets not committed", error=repr(error))

    async def _watch_regularly(self) -> None:
        while not self.app.should_stop:
            await asyncio.sleep(self.config.watch_seconds)
            if self._ready and self.is_live:
                try:
                    await self.watch.look()
                except (KafkaError, OSError) as error:
                    log.warning("the broker does not answer the watch", error=repr(error))
                except Exception as error:
                    await self.fail(error)


async def _commit_owned(consumer: Any, positions: dict[TopicPartition, int]) -> None:
    owned = consumer.assignment()
    offsets = {tp: OffsetAndMetadata(position, "") for tp, position in positions.items() if tp in owned}
    if offsets:
        await consumer.commit(offsets)
