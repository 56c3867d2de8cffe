"""`archive create`: copies the activity log, from where the archive ends to where the log ends now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiokafka.errors import KafkaError

from aggregates.ledger import Source
from schemas.topics import ACTIVITY
from service.broker import kafka
from service.embedded.archived import PATIENCE_SECONDS, POLL_SECONDS, Ends
from service.problems import Unusable
from service.settings import Settings
from streams import broker, outputs
from streams.archive import Archive, Locked, writing
from streams.archive.files import Damaged, Run, encode_run

INCREMENT_OFFSETS: Final = 100_000
"""Offsets of one increment, over all partitions: what is in memory, and what a crash makes one read again."""


@dataclass(frozen=True, slots=True)
class Created:
    """What an archive has after a copy."""

    directory: Path
    increments: int
    """How many were added."""
    records: int
    """How many records were added."""
    manifests: int
    head: str
    """SHA-256 of the latest manifest: note it elsewhere, and a chain that was rewritten as a whole is noticed too."""
    ends: dict[int, int]
    """Partition → the offset after the last one archived."""


def directory_of(settings: Settings, directory: Path | None) -> Path:
    """Where the archive is: as said, else in the data directory."""
    return (directory or settings.data_dir / "archive").absolute()


async def create(
    settings: Settings,
    directory: Path,
    told: Callable[[int, int], None] = lambda *_: None,
    increment: int = INCREMENT_OFFSETS,
) -> Created:
    """Add what the log has and the archive has not; `told` gets how many offsets are done, and of how many.

    Raises `Unusable` when another process writes the archive, its directory is a file, the log does not hold what comes
    next, or the archive is damaged.
    """
    try:
        if settings.archived is not None and directory == directory_of(settings, None):
            return await _kept(settings, directory, settings.archived)
        with writing(directory) as archive:
            return await _copy(settings, archive, told, increment)
    except FileExistsError:
        raise Unusable(f"{directory} is a file: name the directory of the archive") from None
    except Locked as error:
        raise Unusable(f"{error}: let it end, or name another directory") from None
    except Damaged as error:
        raise Unusable(
            f"{error}. `groundswell archive verify` says all that is wrong; name another directory"
        ) from None
    except KafkaError as error:
        raise Unusable(f"{ACTIVITY} cannot be read: {error}") from None


async def _copy(settings: Settings, archive: Archive, told: Callable[[int, int], None], increment: int) -> Created:
    epoch, bounds = await log_of(settings)
    starts = _starts(archive, epoch, bounds)
    at = dict(starts)
    total = sum(high - at[p] for p, (_, high) in bounds.items())
    done = increments = added = 0
    size = max(1, increment // len(bounds))
    while any(at[p] < high for p, (_, high) in bounds.items()):
        runs: list[Run] = []
        for partition, (_, high) in sorted(bounds.items()):
            end = min(at[partition] + size, high)
            async for batch in outputs.read_batches(settings.brokers, ACTIVITY, partition, at[partition], end):
                runs.append(encode_run(partition, starts[partition], batch))
                starts[partition] = runs[-1].end
                told(done + batch[-1].offset + 1 - at[partition], total)
            done += end - at[partition]
            at[partition] = end
        increments += archive.append(ACTIVITY, epoch, len(bounds), runs) is not None
        added += sum(run.records for run in runs)
    ends = {p: archive.end(Source(ACTIVITY, epoch, p)) for p in sorted(bounds)}
    known = {p: end for p, end in ends.items() if end is not None}
    return Created(archive.directory, increments, added, archive.number, archive.head, known)


async def _kept(settings: Settings, directory: Path, says: Path) -> Created:
    """What the embedded stack's own archive has, once it has what is on the log now: its archiver copies."""
    ends = await kafka.log_ends(settings.brokers, ACTIVITY)
    archived = Ends(says)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(archived.of(partition) < end for partition, end in ends.items()):
        if time.monotonic() > deadline:
            raise Unusable(f"the stack's archiver did not take everything within {PATIENCE_SECONDS:g} s")
        await asyncio.sleep(POLL_SECONDS)
    archive = Archive(directory)
    return Created(directory, 0, 0, archive.number, archive.head, ends)


async def log_of(settings: Settings) -> tuple[str, dict[int, tuple[int, int]]]:
    """The log's epoch, and by partition where it begins and where what is committed ends."""
    async with kafka.producer(settings) as client:
        partitions = range(await kafka.partition_count(client))
    found = await broker.describe(settings.brokers, ACTIVITY)
    bounds = await outputs.bounds_of(settings.brokers, ACTIVITY, partitions)
    if not found.has_transactions:  # then the end that the broker says may be behind
        ends = await kafka.log_ends(settings.brokers, ACTIVITY)
        bounds = {p: (low, ends[p]) for p, (low, _) in bounds.items()}
    return await kafka.epoch(settings), bounds


def _starts(archive: Archive, epoch: str, bounds: dict[int, tuple[int, int]]) -> dict[int, int]:
    starts = {}
    if archive.partitions not in (0, len(bounds)):
        raise Unusable(
            f"{archive.directory} is of a log with {archive.partitions} partitions, and {ACTIVITY} has {len(bounds)}: "
            "name another directory"
        )
    for partition, (low, high) in bounds.items():
        end = archive.end(Source(ACTIVITY, epoch, partition))
        where = f"{ACTIVITY} partition {partition}"
        if end is not None and low > end:
            raise Unusable(
                f"{where} begins at offset {low}, and {end} comes next in {archive.directory}: {low - end} records "
                "were deleted before they were archived. Name another directory, and keep this one for what came before"
            )
        if end is not None and high < end:
            raise Unusable(
                f"{where} ends at offset {high}, and {archive.directory} has it up to {end}: the log was cut, and what "
                "is published next would stand at offsets that are archived. Name another directory"
            )
        starts[partition] = low if end is None else end
    return starts
