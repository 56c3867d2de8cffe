"""Which roles are alive and ready: each says so in the database every second."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

import sqlalchemy as sa

from aggregates.database import insert_into, is_unavailable, open_database

METADATA = sa.MetaData()
HEARTBEATS = sa.Table(
    "heartbeats",
    METADATA,
    sa.Column("role", sa.Text, primary_key=True),
    sa.Column("instance", sa.Text, primary_key=True, comment="host:pid"),
    sa.Column("at", sa.BigInteger, nullable=False, comment="epoch milliseconds"),
    sa.Column("partitions", sa.BigInteger, nullable=False, comment="owned and ready; 0 for roles without"),
)
_FORGOTTEN: Final = sa.delete(HEARTBEATS).where(HEARTBEATS.c.at < sa.bindparam("before"))
EVERY_SECONDS = 1.0
ALIVE_MS = 5_000


def instance() -> str:
    """This process, as `host:pid`."""
    return f"{socket.gethostname()}:{os.getpid()}"


def beat(engine: sa.Engine, role: str, partitions: int = 0) -> None:
    """Say that this process works as `role` and is ready."""
    now = time.time_ns() // 1_000_000
    with engine.begin() as connection:
        row = {"role": role, "instance": instance(), "at": now, "partitions": partitions}
        connection.execute(_beat(connection.dialect.name), row)
        connection.execute(_FORGOTTEN, {"before": now - 60 * ALIVE_MS})


@functools.cache
def _beat(dialect: str) -> sa.Insert:
    statement = insert_into(dialect, HEARTBEATS)
    now = {name: statement.excluded[name] for name in ("at", "partitions")}
    return statement.on_conflict_do_update(index_elements=["role", "instance"], set_=now)


def leave(engine: sa.Engine, role: str) -> None:
    """Say that this process stops."""
    with engine.begin() as connection:
        mine = (HEARTBEATS.c.role == role) & (HEARTBEATS.c.instance == instance())
        connection.execute(sa.delete(HEARTBEATS).where(mine))


def alive(connection: sa.Connection) -> dict[str, int]:
    """Role → partitions that its living processes own together (0 for roles without partitions)."""
    since = time.time_ns() // 1_000_000 - ALIVE_MS
    rows = connection.execute(
        sa.select(HEARTBEATS.c.role, sa.func.sum(HEARTBEATS.c.partitions))
        .where(HEARTBEATS.c.at >= since)
        .group_by(HEARTBEATS.c.role)
    )
    return {role: int(partitions) for role, partitions in rows}


@contextlib.asynccontextmanager
async def beating(database: str, role: str) -> AsyncIterator[None]:
    """Says every second in the database at this address that a role works, and at the end that it has stopped."""
    engine = open_database(database)

    async def repeat() -> None:
        while True:
            await asyncio.to_thread(_try, lambda: beat(engine, role))
            await asyncio.sleep(EVERY_SECONDS)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await asyncio.to_thread(_try, lambda: leave(engine, role))
        engine.dispose()


def _try(act: Callable[[], None]) -> None:
    """A heartbeat that a database which is away does not get is missed, and no more."""
    try:
        act()
    except Exception as error:
        if not is_unavailable(error):
            raise
