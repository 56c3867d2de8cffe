"""`up --resume`: a new broker in memory gets the log back from the archive, and the worker folds it again.

The log is restored to the same offsets, so it is the same log and keeps its epoch: the ledger goes on at its position
and decides nothing twice. The broker took the pane topics with it, so the log is folded again from its start: panes
come out with the values they had, and the read tables take only what is newer than what they hold.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from aiokafka import AIOKafkaProducer

from aggregates.database import Exclusive, Lock, open_database
from aggregates.ledger import Ledger, Source
from schemas.topics import ACTIVITY
from service import accept, heartbeats, outbound, outbox
from service.problems import Unusable
from service.settings import Settings
from streams import broker, epochs, readstate
from streams.archive import Archive, Locked, writing
from streams.archive.files import Archived, Damaged
from streams.archive.live import settle

LOCK_SECONDS: Final = 25.0
"""So long may the parts of a stack whose `up` was killed take to end."""
FLYING: Final = 8
"""Batches of a partition that are sent and not acknowledged."""
WHAT_TO_DO: Final = "Put back what is missing, or `--fresh` sets the directory aside and starts anew"


def settled(data_dir: Path) -> Archive:
    """The archive of a stack that has ended, all of it in files; nothing that was said to be archived is missing.

    Raises `Unusable`, with the archive as it was.
    """
    directory = data_dir / "archive"
    if not directory.is_dir():
        raise Unusable(f"{data_dir} has no archive, it is of an earlier release. {WHAT_TO_DO}")
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            with writing(directory) as archive:
                settle(archive)
        except Locked as error:
            if time.monotonic() > deadline:
                raise Unusable(f"{error}: end it first") from None
            time.sleep(0.1)
        except Damaged as error:
            raise Unusable(f"the archive is damaged: {error}. {WHAT_TO_DO}") from None
        else:
            break
    return archive


def check_positions(database: str, archive: Archive) -> None:
    """Nothing was decided or folded that the archive does not have. Raises `Unusable`."""
    engine = open_database(database, read_only=True)
    try:
        with engine.connect() as connection:
            read = [(row.source, row.position) for row in readstate.positions(connection)]
            decided = connection.execute(sa.text("SELECT source, position FROM ledger_positions")).all()
    finally:
        engine.dispose()
    found = [(*source.rsplit("/", 2), at) for source, at in (*read, *((r.source, r.position) for r in decided)) if at]
    ours = [one for one in found if one[1] == archive.epoch]
    for topic, epoch, partition, position in ours or found:
        has = archive.end(Source(topic, epoch, int(partition))) or 0
        if position > has:
            raise Unusable(
                f"the archive ends at offset {has} of partition {partition}, and the database is at {position}: they "
                f"do not belong together, or records were lost. {WHAT_TO_DO}"
            )


async def restore(settings: Settings, archive: Archive, told: Callable[[str], None]) -> dict[int, int]:
    """Fill the new broker, and have everything that is not in the ledger made again; the end of each partition.

    Raises `Unusable` when the archive cannot be read.
    """
    ends = {source.partition: archive.end(source) or 0 for source in archive.sources(archive.epoch)}
    total = sum(ends.values())
    done = 0
    async with _bulk_producer(settings) as client:
        try:
            for partition in sorted(ends):
                source = Source(ACTIVITY, archive.epoch, partition)
                async for offset in _restore(client, archive, source):
                    told(f"{done + offset:,} of {total:,} records are back from the archive")
                done += ends[partition]
        except Damaged as error:
            raise Unusable(f"the archive is damaged: {error}. {WHAT_TO_DO}") from None
        engine = open_database(settings.database)
        try:
            with closing(Ledger(settings.database)) as ledger:
                await outbox.send_outputs_again(engine, ledger, client, settings.signing_key)
            outbound.republish(engine)
            found, outputs = await broker.describe(settings.brokers, ACTIVITY), await accept.output_ids(settings)
            if archive.epoch:
                epochs.continue_log(engine, ACTIVITY, found.epoch, archive.epoch)
            with engine.begin() as connection:
                connection.execute(sa.delete(heartbeats.HEARTBEATS))  # of roles that are gone
            with engine.connect() as connection:
                rows = list(readstate.positions(connection))
        finally:
            engine.dispose()
    with Exclusive(settings.database, Lock.PROJECT):  # until a projector that outlived its stack is gone
        _fold_again(settings, archive.epoch or found.epoch, rows, outputs)
    return ends


def _fold_again(settings: Settings, epoch: str, rows: list[Any], outputs: dict[str, str]) -> None:
    again = [
        accept.Change(r.partition, r.source, Source(ACTIVITY, epoch, r.partition), 0, True, True, "") for r in rows
    ]
    accept.accept(settings, accept.Changes(again, outputs, frozenset()))


async def _restore(client: AIOKafkaProducer, archive: Archive, source: Source) -> AsyncIterator[int]:
    """Send a partition's records in their order; each batch must come to stand where its records stood."""
    flying: list[tuple[int, asyncio.Future[Any]]] = []
    batch, first = client.create_batch(), 0

    async def send() -> None:
        batch.close()
        flying.append((first, await client.send_batch(batch, source.topic, partition=source.partition)))
        if len(flying) >= FLYING:
            await _landed(source, *flying.pop(0))

    for records in archive.read(source):
        for record in records:
            if not _add(batch, record):
                await send()
                batch, first = client.create_batch(), record.offset
                if not _add(batch, record):
                    raise Unusable(f"offset {record.offset} of {source.name} does not fit into a batch")
        yield records[-1].offset + 1
    if batch.record_count():
        await send()
    for one in flying:
        await _landed(source, *one)


def _add(batch: Any, record: Archived) -> bool:
    added = batch.append(key=record.key, value=record.value, timestamp=record.timestamp, headers=list(record.headers))
    return added is not None


async def _landed(source: Source, expected: int, sent: asyncio.Future[Any]) -> None:
    written = await sent
    if written.offset != expected:
        raise Unusable(
            f"{source.topic} partition {source.partition}: what stood at offset {expected} came to stand at "
            f"{written.offset}; the archive is not of an embedded stack, or something else wrote to the new broker"
        )


@asynccontextmanager
async def _bulk_producer(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    client = AIOKafkaProducer(**settings.brokers.options, acks="all", max_batch_size=1 << 20, max_request_size=8 << 20)
    await client.start()
    try:
        yield client
    finally:
        await client.stop()
