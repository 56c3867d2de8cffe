"""Waiting until all that was published, and all that is derived from it, is in every table."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Final

import sqlalchemy as sa

from aggregates.database import open_database
from projections import engagement, queries, registry
from projections.runner import positions as projection_positions
from schemas.topics import ACTIVITY, TIERS, WINDOWS
from service import kafka, outbound, outbox
from service.problems import Unusable
from service.settings import Settings
from streams import outputs, readstate

POLL_SECONDS: Final = 0.05
STILL_SECONDS: Final = 2.0
"""Where nothing has moved for so long it is looked whether there are records that could."""


async def wait(settings: Settings, timeout: float, on_progress: Callable[[str], None] = lambda _: None) -> None:
    """Return when everything published so far, and all that is derived from it, is in every table.

    Raises `Unusable` with what is behind when that takes longer than `timeout` seconds.
    """
    engine = open_database(settings.database, read_only=True)
    deadline = time.monotonic() + timeout
    seen, since = "", time.monotonic()
    try:
        there = await kafka.log_ends(settings.brokers, ACTIVITY)
        ends = there
        while True:
            behind, now = await asyncio.to_thread(behind_of, engine, ends), time.monotonic()
            if not behind:
                again = await kafka.log_ends(settings.brokers, ACTIVITY)
                if again == there:
                    return
                ends = there = again  # what was derived meanwhile counts too
                continue
            on_progress(behind)
            if now >= deadline:
                raise Unusable(f"not done after {timeout:g} s: {behind}")
            if behind != seen:
                seen, since = behind, now
            elif now - since > STILL_SECONDS:
                ends = await _ends_of_records(settings, engine, ends)
                since = time.monotonic()
            await asyncio.sleep(POLL_SECONDS)
    finally:
        engine.dispose()


async def _ends_of_records(settings: Settings, engine: sa.Engine, ends: dict[int, int]) -> dict[int, int]:
    """The log's ends without what transactions of publishers have left there, which no worker ever gets."""
    with engine.connect() as connection:
        at = {row.partition: int(row.position) for row in readstate.positions(connection)}
    found = {}
    for partition, end in ends.items():
        there = at.get(partition, 0)
        left = there < end and await outputs.is_empty(settings.brokers, ACTIVITY, partition, there, end)
        found[partition] = there if left else end
    return found


def behind_of(engine: sa.Engine, ends: dict[int, int]) -> str:
    """What has not caught up with the log's `ends`, for a person; empty when all has."""
    with engine.connect() as connection:
        rows = {row.partition: row for row in readstate.positions(connection)}
        consumed = {
            (topic, partition): engagement.position(connection, topic, partition)
            for topic in (WINDOWS, TIERS)
            for partition in ends
        }
        for partition, end in ends.items():
            row = rows.get(partition)
            at = 0 if row is None else row.position
            if at < end:
                return f"the worker is at offset {at} of {end} in partition {partition}"
            written = {} if row is None else json.loads(row.outputs)
            for topic, output_end in written.items():
                if consumed.get((topic, partition), output_end) < output_end:
                    return f"the engagement tables have not read all of {topic} partition {partition}"
        last = queries.ledger_position(connection)
        if outbox.position(connection) < last:
            return "the outbox has not sent everything"
        for name, position in projection_positions(connection, registry.LEDGER).items():
            if position < last:
                return f"the read model {name} is at {position} of {last}"
        if outbox.position(connection, outbound.NAME) < last:
            return "the ledger's topics have not been sent everything"
    return ""
