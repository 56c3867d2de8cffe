"""Waiting until all that was published, and all that is derived from it, is in every table."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from aggregates.database import open_database
from projections import engagement, queries, registry
from projections.upkeep.runner import positions as projection_positions
from schemas.topics import ACTIVITY, TIERS, WINDOWS
from service import outbound, outbox
from service.broker import kafka
from service.problems import Unusable
from service.settings import Settings
from streams import outputs, readstate

POLL_SECONDS: Final = 0.05
STILL_SECONDS: Final = 2.0
"""Where nothing has moved for so long it is looked whether there are records that could."""
ROUNDS: Final = 4
"""The longest way of what is derived: a closing puts markers on the log, these settle, which puts prizes there."""


@dataclass(slots=True)
class Target:
    """What is waited for: where all stood when the worker had come to `ends`, however much has come since."""

    ends: dict[int, int]
    """Partition → the offset after the last record of the log that is waited for."""
    outputs: dict[tuple[str, int], int] | None = None
    """Pane topic and partition → its end then; None before that."""
    ledger: int = 0
    """The last notification then."""


async def wait(settings: Settings, timeout: float, on_progress: Callable[[str], None] = lambda _: None) -> None:
    """Return when everything published so far, and all that is derived from it, is in every table.

    What others publish meanwhile is not waited for. Raises `Unusable` with what is behind when that takes longer than
    `timeout` seconds.
    """
    engine = open_database(settings.database, read_only=True)
    deadline = time.monotonic() + timeout
    seen, since = "", time.monotonic()
    try:
        there = await kafka.log_ends(settings.brokers, ACTIVITY)
        target, rounds = Target(there), 1
        while True:
            behind, now = await asyncio.to_thread(behind_of, engine, target), time.monotonic()
            if not behind:
                again = await kafka.log_ends(settings.brokers, ACTIVITY)
                if again == there or rounds == ROUNDS:
                    return
                there = again
                target, rounds = Target(there), rounds + 1  # what was derived meanwhile counts too
                continue
            on_progress(behind)
            if now >= deadline:
                raise Unusable(f"not done after {timeout:g} s: {behind}")
            if behind != seen:
                seen, since = behind, now
            elif now - since > STILL_SECONDS and target.outputs is None:
                target = Target(await _ends_of_records(settings, engine, target.ends))
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


def behind_of(engine: sa.Engine, target: Target) -> str:
    """What has not come to the target, for a person; empty when all has."""
    with engine.connect() as connection:
        if target.outputs is None:
            rows = {row.partition: row for row in readstate.positions(connection)}
            for partition, end in target.ends.items():
                at = rows[partition].position if partition in rows else 0
                if at < end:
                    return f"the worker is at offset {at} of {end} in partition {partition}"
            target.ledger = queries.ledger_position(connection)
            target.outputs = {
                (topic, partition): end
                for partition, row in rows.items()
                if partition in target.ends
                for topic, end in json.loads(row.outputs).items()
            }
        for (topic, partition), end in target.outputs.items():
            if topic in (WINDOWS, TIERS) and engagement.position(connection, topic, partition) < end:
                return f"the engagement tables have not read all of {topic} partition {partition}"
        if outbox.position(connection) < target.ledger:
            return "the outbox has not sent everything"
        for name, position in projection_positions(connection, registry.LEDGER).items():
            if position < target.ledger:
                return f"the read model {name} is at {position} of {target.ledger}"
        if outbox.position(connection, outbound.NAME) < target.ledger:
            return "the ledger's topics have not been sent everything"
    return ""
