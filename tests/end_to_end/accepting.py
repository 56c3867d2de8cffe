"""Publishes a simulated community on a stack, and prints where each accepted record stands; to be killed meanwhile."""

from __future__ import annotations

import asyncio
import sys
import zlib
from asyncio import Future
from pathlib import Path
from typing import Any

from running import DAYS, MEMBERS, SEED

from schemas.topics import ACTIVITY
from service import definitions, settings
from service.broker import kafka, publisher
from service.feeds import simulation
from service.feeds.broken import Broken


def main(directory: Path) -> None:
    where = settings.load(directory)
    programs = definitions.documents(simulation.definitions(DAYS), "simulation")
    asyncio.run(definitions.apply_documents(where, programs))
    asyncio.run(publish(where))


async def publish(where: settings.Settings) -> None:
    async with kafka.producer(where) as client:
        for line in simulation.community(SEED, MEMBERS, DAYS).records():
            if isinstance(line, Broken):
                key, value, headers = line.key, line.raw, []
            else:
                key, value, headers = publisher.record(where.signing_key, line.record_type, line.value)
            sent = await client.send(ACTIVITY, value, key=key, headers=headers)
            sent.add_done_callback(lambda future, value=value: accepted(future, value))
            await asyncio.sleep(0.001)  # so that there is something to disturb
        await client.flush()


def accepted(sent: Future[Any], value: bytes) -> None:
    if not sent.cancelled() and sent.exception() is None:
        print(sent.result().partition, sent.result().offset, zlib.crc32(value), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
