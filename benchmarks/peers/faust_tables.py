"""Faust as its manual shows it: one agent, an event at a time, two tables with changelogs; settings by default."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.peers.subject import PANE_MS, PARTITIONS, Interval, arguments, decode, dump

POLL_SECONDS = 0.01
LONGEST_SECONDS = 60
"""A table write that is not in a changelog by then never will be: Faust logs the error of a send and goes on."""


class Counting(NamedTuple):
    """The app and its two tables."""

    app: Any
    campaigns: Any
    """By partition, campaign, kind and pane: a changelog's partition has only what its source partition counted."""
    members: Any

    def dump(self, options: Namespace) -> None:
        """Write the counts where the command line says."""
        campaigns = ((key.partition("/")[2], count) for key, count in self.campaigns.items())
        dump(options.dump, campaigns, self.members.items())


def make(options: Namespace, before: Callable[[], None], after: Callable[[], None]) -> Counting:
    """The app; its agent calls `before` at every event and `after` when it counted it."""
    app = faust.App(
        options.group,
        broker=f"kafka://{options.bootstrap}",
        store="memory://",
        datadir="faust",
        topic_partitions=PARTITIONS,
        topic_disable_leader=True,
        web_enabled=False,
    )
    table = {"default": int, "key_type": str, "value_type": int, "partitions": PARTITIONS}
    counting = Counting(app, app.Table("campaigns", **table), app.Table("members", **table))
    topic = app.topic(options.topic, key_serializer="raw", value_serializer="raw")

    @app.agent(topic)  # type: ignore[untyped-decorator]
    async def count(stream: Any) -> None:
        async for event in stream.events():
            before()
            interaction = decode(event.value)
            pane = interaction["occurred_at"] // PANE_MS * PANE_MS
            campaign, kind = interaction["campaign_id"], interaction["kind"]
            counting.campaigns[f"{event.message.partition}/{campaign}/{kind}/{pane}"] += 1
            counting.members[f"{interaction['member_id']}/{pane}"] += 1
            after()

    return counting


async def run(options: Namespace) -> str:
    """Count all records; the measured line."""
    logging.getLogger("faust.transport.producer").setLevel(logging.ERROR)  # a warning an event, that its buffer is full
    interval, counted, left = Interval(), asyncio.Event(), options.records

    def one() -> None:
        nonlocal left
        left -= 1
        if not left:
            counted.set()

    counting = make(options, interval.begin, one)
    async with AIOKafkaConsumer(bootstrap_servers=options.bootstrap) as outside:
        await counting.app.start()
        await counted.wait()
        await _acknowledged(counting, outside, 2 * options.records)
        line = interval.end("Faust, two tables", options.records)
    counting.dump(options)
    await _committed(counting, options)
    await counting.app.stop()
    return line


async def _acknowledged(counting: Counting, outside: AIOKafkaConsumer, writes: int) -> None:
    """Wait until the changelogs have every table write; `outside`, as Faust's consumer is slow to answer at the end."""
    changelogs = [
        TopicPartition(table.changelog_topic.get_topic_name(), number)
        for table in (counting.campaigns, counting.members)
        for number in range(PARTITIONS)
    ]
    deadline = time.monotonic() + LONGEST_SECONDS
    while (missing := writes - sum((await outside.end_offsets(changelogs)).values())) > 0:
        if time.monotonic() > deadline:
            give_up(f"{missing} of {writes} table writes are in no changelog after {LONGEST_SECONDS} s")
        await asyncio.sleep(POLL_SECONDS)


async def _committed(counting: Counting, options: Namespace) -> None:
    """Wait until the position of every record is committed, which Faust does by a timer, whatever the tables do."""
    committed = counting.app.monitor.tp_committed_offsets
    deadline = time.monotonic() + LONGEST_SECONDS
    while sum(offset for tp, offset in committed.items() if tp.topic == options.topic) < options.records:
        if time.monotonic() > deadline:
            give_up(f"positions are not committed after {LONGEST_SECONDS} s: {committed}")
        await asyncio.sleep(POLL_SECONDS)


def give_up(why: str) -> NoReturn:
    """End at once, whatever Faust's threads still do."""
    print(why, file=sys.stderr, flush=True)
    os._exit(1)


if __name__ == "__main__":
    print(asyncio.run(run(arguments(__doc__))))
