"""The watch over owned partitions: what no chunk and no flush would notice, looked at every few seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import structlog
from aiokafka.errors import GroupAuthorizationFailedError, InvalidSessionTimeoutError, KafkaError

from streams import broker, outputs
from streams.metrics import METRICS
from streams.outputs import WHAT_TO_DO, LogLost
from streams.ownership import Owned, check_watermark, made_anew
from streams.transport import Chunk

if TYPE_CHECKING:
    from streams.stage import Stage

log = structlog.get_logger()


REFUSALS: Mapping[type[KafkaError], str] = {
    InvalidSessionTimeoutError: "the brokers do not take GROUNDSWELL_SESSION_SECONDS: it must be between their "
    "group.min.session.timeout.ms (6 s unless changed) and group.max.session.timeout.ms",
    GroupAuthorizationFailedError: "the brokers do not let our user read the group: see ACLs in docs/deployment.md",
}
"""What the brokers may have against a member, and what to do."""


class GroupRefused(Exception):
    """The brokers do not take us into the group, and no waiting helps."""


class Watch:
    """The topic is still the same one and not cut; no chunk got lost on its way; nobody else writes our output."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._poll = 0
        self._taken = 0
        self._taken_before = 0
        self._asker = broker.Asker(stage.config.brokers, stage.config.topic)
        self._output_askers = [broker.Asker(stage.config.brokers, topic) for topic in stage.config.output_ids]
        self._verified = -1
        """The latest fetch that is surely of our log."""
        self._was_in_group = False

    @property
    def begun(self) -> int:
        """The latest fetch of which a chunk arrived."""
        return self._poll

    def taken(self, chunk: Chunk) -> None:
        """Note that a chunk arrived."""
        self._poll = max(self._poll, chunk.poll)
        self._taken += 1

    async def look_at_group(self) -> None:
        """Stop the stage when the brokers do not take us into the group; once they have, the client tries again."""
        self._was_in_group = self._was_in_group or self._stage.is_live
        error = self._stage.app.consumer_thread.refusal()
        if error is None:
            return
        says = None if self._was_in_group else REFUSALS.get(type(error))
        if says is None:
            log.warning("not in the group", error=repr(error))
        else:
            await self._stage.fail(GroupRefused(says))

    async def look(self) -> None:
        """One look. Raises `LogLost`, and `Fenced` from the audit of an output."""
        stage, config = self._stage, self._stage.config
        idle = self._taken == self._taken_before
        self._taken_before = self._taken
        await self._check_epoch(None)
        await self._check_outputs()
        owned = dict(stage.owned)
        if not owned:
            return
        bounds = await outputs.bounds_of(config.brokers, config.topic, sorted(owned))
        for partition, one in owned.items():
            low, high = bounds[partition]
            METRICS.lag.labels(str(partition)).set(max(0, high - one.part.next))
            if stage.is_ours(one):
                check_watermark(one.part.source, one.part.next, low)
                await self._seek_lost_chunk(one, idle)
            if stage.is_ours(one):
                await self._audit(one)

    async def check_chunk(self, one: Owned, chunk: Chunk) -> None:
        """A chunk is of our log, and nothing before it is missing. Raises `LogLost`.

        The client fetches by name, so it reads on when a topic is made anew. An id never comes back: if the topic
        has ours after a chunk was fetched, the chunk is of ours.
        """
        partition = one.part.source.partition
        if chunk.poll > self._verified:
            latest = self._stage.app.consumer_thread.latest_poll
            await self._check_epoch(partition)
            self._verified = latest
        if chunk.start == one.part.next and chunk.records[0].offset > one.part.next:
            # Offsets may be missing (a transaction's marker), but not because the log was cut.
            bounds = await outputs.bounds_of(self._stage.config.brokers, self._stage.config.topic, [partition])
            check_watermark(one.part.source, one.part.next, bounds[partition][0])

    async def _check_epoch(self, partition: int | None) -> None:
        config = self._stage.config
        found = await self._asker.describe(partition)
        if found.epoch != (config.topic_id or config.epoch):
            now = f"is {found.epoch}" if found.epoch else "is gone"
            raise LogLost(
                f"{config.topic} was made anew: its id was {config.topic_id or config.epoch} and {now}. {WHAT_TO_DO}"
            )

    async def _check_outputs(self) -> None:
        ids = self._stage.config.output_ids
        for topic, asker in zip(ids, self._output_askers, strict=True):
            if (await asker.describe()).epoch != ids[topic]:
                raise LogLost(made_anew(topic))

    async def stop(self) -> None:
        """Give back the connections."""
        for asker in (self._asker, *self._output_askers):
            await asker.close()

    async def _audit(self, one: Owned) -> None:
        if not one.part.is_flushed:
            return
        async with one.flushing:
            try:
                await one.writer.audit(one.part.saved - 1)
            except Exception:
                if self._stage.is_ours(one):
                    raise

    async def _seek_lost_chunk(self, one: Owned, idle: bool) -> None:
        """Seek a partition whose last chunk did not arrive.

        Chunks arrive in the order of their fetches, so it is lost when one of a later fetch has come, or when none
        has come since the last look and none is being applied.
        """
        partition = one.part.source.partition
        fetched, poll = self._stage.app.consumer_thread.fetched(self._stage.tp(partition))
        behind = fetched is not None and fetched != one.part.next
        if behind and not one.lock.locked() and (self._poll > poll or (idle and not self._stage.is_taking)):
            log.warning("a fetched chunk was lost, seeking again", partition=partition, next=one.part.next)
            METRICS.sought.inc()
            await self._stage.app.consumer_thread.seek_again(self._stage.tp(partition))
