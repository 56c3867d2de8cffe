"""The worker role: the Faust app of `streams/` as a process of its own."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from pathlib import Path

import faust

from aggregates.database import open_database
from aggregates.ledger import Ledger
from service import heartbeats, kafka
from service.settings import Settings
from streams.app import make_app
from streams.intake import Limits
from streams.stage import StageConfig


def _clock() -> int:
    return time.time_ns() // 1_000_000


async def _partitions(bootstrap: str) -> int:
    async with kafka.producer(bootstrap) as client:
        return await kafka.partition_count(client)


def run(settings: Settings) -> int:
    """Work until a signal; the exit code. A failure of the stage ends it with 1, said in its log."""
    partitions = asyncio.run(_partitions(settings.kafka))
    engine = open_database(settings.database)
    ledger = Ledger(settings.database)
    writer = uuid.uuid4().hex
    config = StageConfig(
        bootstrap=settings.kafka,
        epoch=settings.epoch,
        partitions=partitions,
        secret=settings.signing_key,
        writer=writer,
        clock=_clock,
        flush_seconds=settings.flush_interval_ms / 1000,
        grace_ms=settings.grace_hours * 3_600_000,
        limits=Limits(run=settings.dead_letter_run, percent=settings.dead_letter_percent),
    )
    datadir = Path(settings.data_dir) / "faust" / writer[:8]
    datadir.mkdir(parents=True, exist_ok=True)
    app, stage = make_app(engine, ledger, config, datadir, session_seconds=settings.session_seconds)
    failed: list[BaseException] = []

    @app.task  # type: ignore[untyped-decorator]
    async def alive() -> None:
        while not app.should_stop:
            if stage.is_ready:
                await asyncio.to_thread(heartbeats.beat, engine, "worker", len(stage.parts))
            await asyncio.sleep(heartbeats.EVERY_SECONDS)

    stage.on_failure = failed.append
    worker = faust.Worker(app, loglevel=logging.WARNING, quiet=True, redirect_stdouts=False)
    worker.spinner = None  # it draws to a terminal, and this is a log
    try:
        worker.execute_from_commandline()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    else:
        code = 0
    heartbeats.leave(engine, "worker")
    for error in failed:
        print(f"worker stopped: {type(error).__name__}: {error}", flush=True)
    return 1 if failed else code
