"""The archiver role: puts the activity log on disk as it comes, and says how far it is.

On the embedded stack it stands between the broker and everybody else: what it has not said is on disk is neither
accepted for a publisher nor read by a worker.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.topics import ACTIVITY
from service.broker import kafka
from service.problems import Unusable
from service.replay.archiving import directory_of
from service.settings import Settings
from streams import outputs
from streams.archive import Locked, writing
from streams.archive import live as live_archive
from streams.archive.files import Damaged
from streams.archive.live import LiveArchive

FETCH_WAIT_MS: Final = 40
"""How long the broker may wait for a record; the embedded one answers after half of it."""
FETCH_RECORDS: Final = 20_000


def run(settings: Settings) -> int:
    """Archive until a signal; the exit code. A failure ends it with 1, its cause said."""
    if settings.archived is None:
        raise Unusable("the archiver is a part of the embedded stack: `groundswell archive create` copies a log")
    try:
        asyncio.run(_serve(settings))
    except (Damaged, Locked, KafkaError, OSError) as error:
        print(f"archiver stopped: {type(error).__name__}: {error}", flush=True)
        return 1
    return 0


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    epoch = await kafka.epoch(settings)
    bounds = await outputs.bounds_of(settings.brokers, ACTIVITY, range(settings.partitions))
    starts = {partition: low for partition, (low, _) in bounds.items()}
    with writing(directory_of(settings, None)) as archive:
        live = LiveArchive(archive, ACTIVITY, epoch, starts)
        try:
            await _follow(settings, live, stop)
        finally:
            live.close()


async def _follow(settings: Settings, live: LiveArchive, stop: asyncio.Event) -> None:
    assert settings.archived is not None
    consumer = AIOKafkaConsumer(
        **settings.brokers.options,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        fetch_max_wait_ms=FETCH_WAIT_MS,
        max_partition_fetch_bytes=4 << 20,
    )
    await consumer.start()
    sealing: asyncio.Future[None] | None = None
    try:
        tps = {partition: TopicPartition(ACTIVITY, partition) for partition in live.ends}
        consumer.assign(list(tps.values()))
        for partition, tp in tps.items():
            consumer.seek(tp, live.ends[partition])
        live_archive.say(settings.archived, live.ends)
        while not stop.is_set():
            fetched = await consumer.getmany(timeout_ms=200, max_records=FETCH_RECORDS)
            if fetched:
                await asyncio.to_thread(live.append, {tp.partition: rows for tp, rows in fetched.items()})
                live_archive.say(settings.archived, live.ends)
            if sealing is not None and sealing.done():
                sealing.result()
                sealing = None
            if live.is_full and sealing is None:
                sealing = asyncio.ensure_future(asyncio.to_thread(live.seal, live.roll()))
    finally:
        await consumer.stop()
        if sealing is not None:
            await sealing
