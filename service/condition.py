"""How the system is: what is missing until it is ready, its positions and counts."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from aggregates.database import open_database, without_password
from projections import queries, registry
from projections.runner import positions as projection_positions
from service import heartbeats, outbound, outbox
from service.settings import Settings
from streams import readstate


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
            topics = outbox.position(connection, outbound.NAME)
    finally:
        engine.dispose()
    counts: dict[str, int] = {}
    for row in rows:
        for name, count in json.loads(row.counts).items():
            counts[name] = counts.get(name, 0) + count
    return {
        "settings": {**settings.model_dump(mode="json"), "database": without_password(settings.database)},
        "ready": not readiness(settings),
        "missing": readiness(settings),
        "roles": alive,
        "ledger": {"position": last, "outbox": sent, "topics": topics, "projections": projections},
        "activity": {
            "positions": {str(row.partition): row.position for row in rows},
            "counts": dict(sorted(counts.items())),
        },
    }
