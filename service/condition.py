"""How the system is: what is missing until it is ready, its positions and counts, and the dead letters."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field

from aggregates.database import open_database
from projections import queries, registry
from projections.runner import positions as projection_positions
from schemas.codec import DecodeError, decode
from schemas.topics import DEAD_LETTERS
from service import heartbeats, kafka, outbox
from service.settings import Settings
from streams import outputs, readstate


def readiness(settings: Settings, *, worker: bool = True) -> list[str]:
    """What is missing until every command works; nothing when all is there. `worker`: whether one is wanted."""
    engine = open_database(settings.database, read_only=True)
    try:
        with engine.connect() as connection:
            alive = heartbeats.alive(connection)
    except sa.exc.SQLAlchemyError as error:
        return [f"the database does not answer: {str(error).splitlines()[0]}"]
    finally:
        engine.dispose()
    missing = []
    if "projector" not in alive:
        missing.append("no projector is running")
    if "api" not in alive:
        missing.append("no API is running")
    if not worker:
        return missing
    if "worker" not in alive:
        missing.append("no worker is running")
    elif alive["worker"] < settings.partitions:
        missing.append(f"the workers have {alive['worker']} of {settings.partitions} partitions")
    return missing


def status(settings: Settings) -> dict[str, Any]:
    """The state for people: settings (secrets hidden), roles, positions, counts of what was refused."""
    engine = open_database(settings.database, read_only=True)
    try:
        with engine.connect() as connection:
            rows = list(readstate.positions(connection))
            last = queries.ledger_position(connection)
            projections = projection_positions(connection, registry.LEDGER)
            alive = heartbeats.alive(connection)
            sent = outbox.position(connection)
    finally:
        engine.dispose()
    counts: dict[str, int] = {}
    for row in rows:
        for name, count in json.loads(row.counts).items():
            counts[name] = counts.get(name, 0) + count
    return {
        "settings": settings.model_dump(mode="json"),
        "ready": not readiness(settings),
        "missing": readiness(settings),
        "roles": alive,
        "ledger": {"position": last, "outbox": sent, "projections": projections},
        "activity": {
            "positions": {str(row.partition): row.position for row in rows if f"/{settings.epoch}/" in row.source},
            "counts": dict(sorted(counts.items())),
        },
    }


class DeadLetter(BaseModel):
    """A record that was refused, where it stood and why."""

    model_config = ConfigDict(frozen=True)

    partition: int = Field(description="Partition of the dead-letter topic")
    offset: int = Field(description="Offset in the dead-letter topic")
    source_partition: int = Field(description="Partition of the activity log")
    source_offset: int = Field(description="Offset in the activity log")
    key: str = Field(description="The record's key; bytes that are not UTF-8 are escaped")
    reason: str = Field(description="Stable reason code")
    detail: str = Field(description="What is wrong, for a person")
    event: dict[str, Any] | None = Field(description="The decoded record; null when it cannot be decoded")
    hex: str = Field(description="The original bytes in hexadecimal")


async def dead_letters(settings: Settings, limit: int = 100) -> list[DeadLetter]:
    """The oldest dead letters first; one that was written twice (after a crash) is listed once."""
    found: dict[tuple[int, int], DeadLetter] = {}
    for partition in sorted(await kafka.log_ends(settings.kafka, DEAD_LETTERS)):
        async for record in outputs.read(settings.kafka, DEAD_LETTERS, partition, 0):
            letter = _letter(record)
            found.setdefault((letter.source_partition, letter.source_offset), letter)
    return [found[where] for where in sorted(found)][:limit]


def _letter(record: Any) -> DeadLetter:
    headers = {name: value.decode("utf-8", "replace") for name, value in record.headers}
    try:
        kind, value = decode(record.value)
        event: dict[str, Any] | None = {"type": kind, **value}
    except DecodeError:
        event = None
    return DeadLetter(
        partition=record.partition,
        offset=record.offset,
        source_partition=int(headers["source_partition"]),
        source_offset=int(headers["source_offset"]),
        key=(record.key or b"").decode("utf-8", "backslashreplace"),
        reason=headers["reason"],
        detail=headers["detail"],
        event=event,
        hex=(record.value or b"").hex(),
    )
