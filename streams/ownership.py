"""Taking over a partition: fence whoever had it before, then read what is durable, then go on from there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog
from aiokafka.errors import KafkaError
from sqlalchemy import Engine

from aggregates.database import is_unavailable
from aggregates.ledger import Source
from streams import epochs, outputs, readstate
from streams.connection import Brokers
from streams.fold import Fold
from streams.outputs import WHAT_TO_DO, AuditedWriter, LogLost, TransactionalWriter, Writer
from streams.partition import Partition
from streams.readstate import ReadState

log = structlog.get_logger()
T = TypeVar("T")


@dataclass(slots=True, frozen=True)
class StageConfig:
    """What the stage needs to know of its surroundings."""

    brokers: Brokers
    group: str
    """Consumer group, and the start of the output producers' transactional ids."""
    topic: str
    """The input."""
    outputs: Sequence[str]
    """Topics that hold the folds' state, read back on recovery."""
    epoch: str
    """Names the log in the input topic, so that offsets that start over are never taken for old ones."""
    has_transactions: bool
    worker: str
    """Names this process; no two have the same."""
    flush_seconds: float = 1.0
    watch_seconds: float = 5.0
    patience_seconds: float = 4.0
    """How long a revocation may wait for a last flush before the partition's unsaved state is dropped."""
    topic_id: str = ""
    """What the broker calls the topic, where it is not the epoch: it continues an older log."""
    output_ids: Mapping[str, str] = field(default_factory=dict)
    """What the broker calls the output topics."""
    readable: Callable[[int], int] | None = None
    """Partition → the offset before which records may be folded; None where the broker itself keeps what it has."""


FoldMaker = Callable[[Source, ReadState, str], Awaitable[Fold]]
"""Makes the fold of a source from its read-state; the last argument names this ownership of it."""


@dataclass(slots=True, eq=False)
class Owned:
    """A partition that is ours now."""

    part: Partition
    writer: Writer
    token: str
    """Names this ownership; what an earlier one still tries to write is refused."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a chunk is folded, and while a flush takes what changed."""
    flushing: asyncio.Lock = field(default_factory=asyncio.Lock)
    flusher: asyncio.Task[None] | None = None
    """Flushes it at every interval."""

    async def let_go(self, patience_seconds: float) -> None:
        """Stop everything that is under way for it, however the broker is; nothing is flushed."""
        self.part.fold.give_up()
        if self.flusher is not None and self.flusher is not asyncio.current_task():
            self.flusher.cancel()
            await asyncio.wait({self.flusher}, timeout=patience_seconds)
        stopping = asyncio.ensure_future(self.writer.stop())
        done, _ = await asyncio.wait({stopping}, timeout=patience_seconds)
        if not done or stopping.cancelled() or stopping.exception():
            log.warning("output producer not stopped", partition=self.part.source.partition)


async def uninterrupted(function: Callable[..., T], *arguments: Any) -> T:
    """Run a function in a thread; when cancelled, end only after it: it may take what is somebody else's next."""
    running = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise


def made_anew(topic: str) -> str:
    """What to say of an output topic that is not the one that was written to."""
    return f"{topic} was made anew: what was written to it is not there any more. {WHAT_TO_DO}"


def check_watermark(source: Source, position: int, low: int) -> None:
    """Raise `LogLost` when the log begins (at `low`) behind the position that is next."""
    if low > position:
        raise LogLost(
            f"{source.topic} partition {source.partition}: the log begins at offset {low}, and offset {position} "
            f"was next: {low - position} records are gone. {WHAT_TO_DO}"
        )


class Recovery:
    """Makes this worker the owner of partitions."""

    def __init__(self, engine: Engine, make_fold: FoldMaker, config: StageConfig) -> None:
        self._engine = engine
        self._make_fold = make_fold
        self._config = config
        self._tokens = 0
        self._producer: Any = None
        """Shared by all writers on a broker without transactions."""

    async def take(self, partition: int, is_ours: Callable[[], bool]) -> Owned | None:
        """Own a partition; None when `is_ours` says that it is not to be any more.

        Raises `LogLost`; aiokafka's KafkaError or a database's error when these are away.
        """
        config = self._config
        source = Source(config.topic, config.epoch, partition)
        self._tokens += 1
        token = f"{config.worker}/{self._tokens}"
        writer = await self._writer(partition)
        owned = None
        try:
            low, _ = (await outputs.bounds_of(config.brokers, config.topic, [partition]))[partition]
            if is_ours():
                await writer.start()
            if is_ours():
                state = await uninterrupted(readstate.take, self._engine, source, token)
                await self._check_outputs()
                check_watermark(source, state.saved, low)
            if is_ours():
                part, ends = await self._read(source, state, token)
                owned = Owned(part, writer, token)
                writer.ends = {**state.outputs, **ends, **writer.ends}
        except readstate.OtherLog as error:
            raise LogLost(f"{error}. {WHAT_TO_DO}") from None
        finally:
            if owned is None:
                stopping = asyncio.ensure_future(writer.stop())
                await asyncio.wait({stopping}, timeout=config.patience_seconds)
        return owned

    async def _read(self, source: Source, state: ReadState, token: str) -> tuple[Partition, dict[str, int]]:
        """The partition as it goes on, and where its outputs end.

        They may end behind what the read-state says, if the last owner wrote and died: what it wrote is not written
        again, and whoever waits for the tables to have all must wait for that too.
        """
        config = self._config
        fold = await self._make_fold(source, state, token)
        written, ends = {}, {}
        for topic in config.outputs:
            end = state.outputs.get(topic, 0)
            written[topic], ends[topic] = await outputs.last_values(config.brokers, topic, source.partition, end)
        fold.recover(written, state.saved)
        return Partition(source, state.saved, fold), ends

    async def _check_outputs(self) -> None:
        for topic in await uninterrupted(epochs.other_outputs, self._engine, self._config.output_ids):
            raise LogLost(made_anew(topic))

    async def _writer(self, partition: int) -> Writer:
        config = self._config
        if config.has_transactions:
            return TransactionalWriter(config.brokers, config.group, partition)
        if self._producer is None:
            self._producer = await outputs.shared_producer(config.brokers)
        return AuditedWriter(config.brokers, self._producer, config.epoch, partition, config.outputs)

    async def stop(self) -> None:
        """Stop what the partitions share."""
        if self._producer is not None:
            await self._producer.stop()


def is_away(error: BaseException) -> bool:
    """Whether broker or database do not answer, so that trying again may help."""
    return isinstance(error, KafkaError | OSError) or is_unavailable(error)
