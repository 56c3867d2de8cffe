"""`digest` and `replay verify`: every read model, those of the ledger and the engagement tables of the pane topics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Connection

from aggregates.database import open_database
from aggregates.ledger import Ledger
from projections import registry
from projections.engagement import Batch, positions
from projections.engagement import digest as engagement_digest
from projections.engagement.digest import TOPIC_OF
from projections.upkeep.digest import DigestReport, DigestSource, snapshot
from projections.upkeep.digest import digest as digests
from projections.upkeep.verify import Extra, Progress, Report, Verified
from projections.upkeep.verify import verify as verify_ledger
from schemas.codec import decode
from service.settings import Settings
from streams import outputs

SOURCES: Final[tuple[DigestSource, ...]] = (*registry.DIGESTED, *engagement_digest.DIGESTED)
"""Balances, statements and standings first, the engagement tables last."""


def digest(settings: Settings) -> DigestReport:
    """The digest of every read model, all at one instant, from their rows as they are."""
    engine = open_database(settings.database, read_only=True)
    try:
        with snapshot(engine) as conn:
            return digests(conn, SOURCES)
    finally:
        engine.dispose()


async def verify(settings: Settings, told: Callable[[int], None] = lambda _: None) -> Report:
    """Rebuild every read model in the side, up to the positions of the live ones, and compare row by row.

    `told` gets the ledger position that the rebuild has reached. Nothing is written to the database.
    """
    return await asyncio.to_thread(_verify, settings, told)


def _verify(settings: Settings, told: Callable[[int], None]) -> Report:
    engine = open_database(settings.database, read_only=True)
    ledger = Ledger(settings.database)
    try:
        return verify_ledger(
            engine,
            ledger.notifications,
            lambda reached, _to_reach: told(reached),
            extra=[_engagement_verifier(settings, source) for source in engagement_digest.DIGESTED],
        )
    finally:
        ledger.close()
        engine.dispose()


def _engagement_verifier(settings: Settings, source: DigestSource) -> Extra:
    """Compares one engagement table with what its topic says, read up to the positions of the table."""

    def verified(live: Connection, _told: Progress) -> Verified:
        topic = TOPIC_OF[source.name]
        batches = asyncio.run(_read(settings, topic, positions(live, topic)))  # its own loop, in the thread
        with engagement_digest.rebuild(batches) as rebuilt:
            return engagement_digest.compare(live, rebuilt, source)

    return verified


async def _read(settings: Settings, topic: str, ends: dict[int, int]) -> list[Batch]:
    """The records of a pane topic up to `ends`, a batch a partition."""
    batches = []
    for partition, end in sorted(ends.items()):
        records: list[dict[str, Any]] = []
        if end:
            async for record in outputs.read(settings.brokers, topic, partition, 0, end):
                records.append(decode(record.value)[1])
        batches.append(Batch(topic, partition, 0, end, records))
    return batches
