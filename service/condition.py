"""How the system is: what is missing until it is ready, its positions and counts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import sqlalchemy as sa

from aggregates.database import open_database, without_password
from projections import queries, registry
from projections.upkeep.runner import positions as projection_positions
from schemas.topics import ACTIVITY
from service import database_refusal, heartbeats, outbound, outbox
from service.broker import kafka
from service.settings import Settings, without_user
from streams import readstate


def readiness(settings: Settings, *, worker: bool = True) -> list[str]:
    """What is missing until every command works; nothing when all is there. `worker`: whether one is wanted."""
    engine = open_database(settings.database, read_only=True)
    try:
        with engine.connect() as connection:
            alive = heartbeats.alive(connection)
    except sa.exc.SQLAlchemyError as error:
        return [database_refusal.line(error)]
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


class Log(NamedTuple):
    """The activity log as it is found: nothing of it where it is not looked for."""

    missing: Sequence[str] = ()
    """What keeps us from it."""
    ends: Mapping[int, int] = MappingProxyType({})
    """Partition → the offset after its last record."""


def status(settings: Settings, log: Log = Log()) -> dict[str, Any]:
    """The state for people: settings (secrets hidden), roles, positions, counts of what was refused; ends of `log`."""
    engine = open_database(settings.database, read_only=True)
    try:
        with engine.connect() as connection:
            rows = list(readstate.positions(connection))
            last = queries.ledger_position(connection)
            projections = projection_positions(connection, registry.LEDGER)
            alive = heartbeats.alive(connection)
            sent = outbox.position(connection)
            topics = outbox.position(connection, outbound.NAME)
    finally:
        engine.dispose()
    counts: dict[str, int] = {}
    for row in rows:
        for name, count in json.loads(row.counts).items():
            counts[name] = counts.get(name, 0) + count
    missing = [*readiness(settings), *log.missing]
    return {
        "settings": {
            **settings.model_dump(mode="json"),
            "database": without_password(settings.database),
            "schema_registry": without_user(settings.schema_registry),
        },
        "ready": not missing,
        "missing": missing,
        "roles": alive,
        "ledger": {"position": last, "outbox": sent, "topics": topics, "projections": projections},
        "activity": {
            "positions": {str(row.partition): row.position for row in rows},
            "ends": {str(partition): end for partition, end in log.ends.items()},
            "counts": dict(sorted(counts.items())),
        },
    }


async def look_at_log(settings: Settings) -> Log:
    """Ask Kafka; of what was known once (`replay known-at`) there is no log."""
    if not settings.kafka:
        return Log()
    contact = kafka.Contact(settings)
    try:
        missing = await contact.missing()
        return Log(missing) if missing else Log(ends=await kafka.log_ends(settings.brokers, ACTIVITY))
    finally:
        await contact.close()
