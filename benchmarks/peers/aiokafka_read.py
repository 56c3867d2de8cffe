"""aiokafka alone: read and decode, count nothing. What is left for a Python stream processor to spend."""

from __future__ import annotations

import asyncio
from argparse import Namespace

from aiokafka import AIOKafkaConsumer

from benchmarks.peers.subject import Interval, arguments, decode

MAX_RECORDS = 20_000


async def read(options: Namespace) -> str:
    """Decode all records; the measured line."""
    interval, left = Interval(), options.records
    consumer = AIOKafkaConsumer(
        options.topic,
        bootstrap_servers=options.bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        while left > 0:
            fetched = await consumer.getmany(timeout_ms=1000, max_records=MAX_RECORDS)
            if fetched:
                interval.begin()
            for records in fetched.values():
                for record in records:
                    decode(record.value)
                left -= len(records)
        return interval.end("aiokafka, decode only", options.records)
    finally:
        await consumer.stop()


if __name__ == "__main__":
    print(asyncio.run(read(arguments(__doc__))))
