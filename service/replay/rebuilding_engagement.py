"""`replay rebuild` of the engagement tables: from the pane topics, compared with what serves, swapped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine

from projections import engagement
from projections.engagement import digest as engagement_digest
from projections.engagement.rebuild import Build, Positions, positions_of
from projections.upkeep.digest import DigestSource, digest_of, snapshot
from projections.upkeep.verify import Progress, Verified
from schemas.codec import decode
from service.settings import Settings
from streams import outputs


class Built(NamedTuple):
    """One engagement table as it serves now."""

    name: str
    version: int
    position: int | str
    rows: int
    digest: str
    compared: Verified | None


def rebuild(
    settings: Settings,
    engine: Engine,
    reading: Engine,
    told: Progress,
    patiently: Callable[[Callable[[], None]], None],
) -> list[Built]:
    """Build the engagement tables anew from their topics, compare them with those that serve, and swap.

    `told` gets how many offsets have been read, and of how many. `patiently` runs a swap again that raises `Busy`.
    """
    build = Build(settings.database, engine, reading)
    try:
        _catch_up(settings, build, _live(reading), told)
        with snapshot(reading) as live:
            _catch_up(settings, build, positions_of(live), told)
            with snapshot(build.engine) as built:
                compared = {
                    source.name: engagement_digest.compare(live, built, source) for source in engagement_digest.DIGESTED
                }

        def swap() -> None:
            _catch_up(settings, build, _live(reading), told)
            build.swap(lambda now: _catch_up(settings, build, now, told))

        patiently(swap)
    finally:
        build.close()
    return built_now(reading, compared)


def built_now(reading: Engine, compared: Mapping[str, Verified]) -> list[Built]:
    """The tables that serve."""
    with snapshot(reading) as conn:
        return [_built(conn, source, compared.get(source.name)) for source in engagement_digest.DIGESTED]


def _built(conn: Connection, source: DigestSource, compared: Verified | None) -> Built:
    found = digest_of(conn, source)
    return Built(found.name, found.version, found.position, found.rows, found.digest, compared)


def _live(reading: Engine) -> Positions:
    with snapshot(reading) as conn:
        return positions_of(conn)


def _catch_up(settings: Settings, build: Build, ends: Positions, told: Progress) -> None:
    """Bring the build up to these positions."""
    asyncio.run(_read(settings, build, ends, told))


async def _read(settings: Settings, build: Build, ends: Positions, told: Progress) -> None:
    at = build.start(ends)
    total = sum(ends.values())
    for (topic, partition), end in ends.items():
        start = at.get((topic, partition), 0)
        async for batch in outputs.read_batches(settings.brokers, topic, partition, start, end):
            if not batch:
                continue
            start = await asyncio.to_thread(_apply, build.engine, topic, partition, start, batch)
            at[topic, partition] = start
            told(sum(at.values()), total)
        if start < end:  # compaction left nothing more
            with build.engine.begin() as conn:
                engagement.apply(conn, topic, partition, start, end, [])
            at[topic, partition] = end


def _apply(engine: Engine, topic: str, partition: int, start: int, batch: list[Any]) -> int:
    """Write a batch; the position after it."""
    end = int(batch[-1].offset) + 1
    values = [decode(record.value)[1] for record in batch]
    with engine.begin() as conn:
        engagement.apply(conn, topic, partition, start, end, values)
    return end
