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
from streams import readstate

POLL_SECONDS: Final = 0.05


async def wait(settings: Settings, timeout: float, on_progress: Callable[[str], None] = lambda _: None) -> None:
    """Return when everything published so far, and all that is derived from it, is in every table.

    Raises `Unusable` with what is behind when that takes longer than `timeout` seconds.
    """
    engine = open_database(settings.database, read_only=True)
    deadline = time.monotonic() + timeout
    ends: dict[int, int] | None = None
    try:
        while True:
            if ends is None:
                ends = await kafka.log_ends(settings.brokers, ACTIVITY)
            behind = await asyncio.to_thread(behind_of, engine, ends)
            if not behind:
                again = await kafka.log_ends(settings.brokers, ACTIVITY)
                if again == ends:
                    return
                ends = again  # what was derived meanwhile counts too
                continue
            on_progress(behind)
            if time.monotonic() >= deadline:
                raise Unusable(f"not done after {timeout:g} s: {behind}")
            await asyncio.sleep(POLL_SECONDS)
    finally:
        engine.dispose()


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
