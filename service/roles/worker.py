"""The worker role: the Faust app of `streams/` as a process of its own; any number of them share the partitions."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
import traceback
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import faust
import structlog
from aiokafka.errors import KafkaError
from sqlalchemy import Engine

from aggregates.database import is_unavailable, open_database
from aggregates.ledger import Fenced, Ledger
from schemas.avro_read import DecodeError
from schemas.topics import ACTIVITY, TIERS, WINDOWS
from service import heartbeats, migrate, process
from service.broker import kafka, refusal, topic_admin
from service.embedded.archived import Ends
from service.problems import COULD_NOT_RUN, Unusable
from service.roles.role_port import RolePort
from service.settings import Settings
from streams import broker, epochs
from streams.app import GROUP, make_app
from streams.commits import Commits
from streams.intake import Limits, TooManyRejected
from streams.outputs import LogLost
from streams.ownership import StageConfig
from streams.recovery import ActivityFolds
from streams.stage import Stage
from streams.watch import GroupRefused

log = structlog.get_logger()
SAID = (GroupRefused, Fenced, LogLost, TooManyRejected, DecodeError, KafkaError)
"""What is said in one line; whatever else a worker ends with is a defect, and has its traceback before that."""


def _clock() -> int:
    return time.time_ns() // 1_000_000


async def _surroundings(settings: Settings) -> tuple[int, broker.Broker, dict[str, str]]:
    """Partitions of the activity log, what the broker says of it, and what it calls the output topics.

    Raises `Unusable` when a topic or a table is not there, and what the database says while it is away.
    """
    topic_admin.require(await topic_admin.missing(settings))
    await asyncio.to_thread(migrate.check, settings.database)
    async with kafka.producer(settings) as client:
        partitions = await kafka.partition_count(client)
    try:
        found = await broker.describe(settings.brokers, ACTIVITY)
        ids = {topic: (await broker.describe(settings.brokers, topic)).epoch for topic in (WINDOWS, TIERS)}
    except KafkaError as error:
        raise await refusal.unusable(settings.brokers, error) from None
    if not found.epoch:
        raise Unusable(f"Kafka at {settings.kafka} tells no topic ids: version 2.8 or later is needed")
    return partitions, found, ids


def run(settings: Settings) -> int:
    """Work until a signal; the exit code. A failure of the stage ends it with 1 or 2, said in its last line."""
    partitions, found, output_ids = asyncio.run(_surroundings(settings))
    engine = open_database(settings.database)
    ledger = Ledger(settings.database)
    name = uuid.uuid4().hex
    config = StageConfig(
        brokers=settings.brokers,
        group=GROUP,
        topic=ACTIVITY,
        outputs=(WINDOWS, TIERS),
        epoch=epochs.epoch_of(engine, ACTIVITY, found.epoch),
        topic_id=found.epoch,
        output_ids=output_ids,
        has_transactions=found.has_transactions,
        worker=name,
        flush_seconds=settings.flush_interval_ms / 1000,
        patience_seconds=settings.session_seconds / 2,
        readable=None if settings.archived is None else Ends(settings.archived).of,
    )
    folds = ActivityFolds(
        brokers=settings.brokers,
        ledger=ledger,
        commits=Commits(ledger),
        partitions=partitions,
        secret=settings.signing_key,
        clock=_clock,
        grace_ms=settings.grace_hours * 3_600_000,
        limits=Limits(run=settings.dead_letter_run, percent=settings.dead_letter_percent),
    )
    datadir = Path(settings.data_dir) / "faust" / name[:8]
    datadir.mkdir(parents=True, exist_ok=True)
    app, stage = make_app(engine, folds, config, partitions, datadir, session_seconds=settings.session_seconds)
    port = RolePort(settings.metrics_port, lambda: "" if stage.is_ready else "partitions are being recovered")
    failed: list[BaseException] = []

    async def stop(error: BaseException) -> None:
        failed.append(error)
        signal.raise_signal(signal.SIGTERM)

    stage.on_failure = stop

    async def alive() -> None:
        while not app.should_stop:
            port.turned()
            await stage.watch.look_at_group()
            if stage.is_ready:
                await _beat(stage)
            await asyncio.sleep(heartbeats.EVERY_SECONDS)

    process.set_up()
    with folds.commits:
        try:
            _Worker(app, loglevel=logging.WARNING, quiet=True, redirect_stdouts=False).work(alive)
        except Exception as error:
            failed.append(error)
        finally:
            stage.give_up()
    port.close()
    _leave(engine)
    if not failed:
        return 0
    if not isinstance(failed[0], SAID):
        traceback.print_exception(failed[0])
    print(f"worker stopped: {type(failed[0]).__name__}: {failed[0]}", flush=True)
    return COULD_NOT_RUN if isinstance(failed[0], GroupRefused) else 1


class _Worker(faust.Worker):  # type: ignore[misc]
    """Faust's, which neither draws, since this is a log, nor says itself what it ended with."""

    def _setup_logging(self) -> None:
        """The role has seen to it."""

    def work(self, beside: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Work until a signal, and do this beside it, from the start. Raises what ended it before."""
        self.spinner = None
        self.add_future(beside())
        self._starting_fut = self.loop.create_task(self.start())
        try:
            self.loop.run_until_complete(self._starting_fut)
        except asyncio.CancelledError:
            pass  # the signal
        finally:
            self.stop_and_shutdown()


async def _beat(stage: Stage) -> None:
    """Say that we are at work; a database that is away does not end the worker."""
    try:
        await asyncio.to_thread(heartbeats.beat, stage.engine, "worker", len(stage.owned))
    except Exception as error:
        if not is_unavailable(error):
            raise


def _leave(engine: Engine) -> None:
    try:
        heartbeats.leave(engine, "worker")
    except Exception as error:
        if not is_unavailable(error):
            raise
        log.warning("the database is away: the heartbeat is left to expire", error=str(error))
