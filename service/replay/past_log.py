"""The activity log as a replay reads it: from its topic, or from an archive, without anything that could write."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aiokafka.errors import KafkaError

from aggregates.ledger import Source
from schemas.topics import ACTIVITY
from service.problems import Unusable
from service.replay import archiving
from service.settings import Settings
from streams import outputs
from streams.archive import Archive
from streams.archive.files import Damaged, Run, decode_run
from streams.archive.journal import journals, read_frames

TOPICS: Final = "topics"


@dataclass(frozen=True)
class TopicLog:
    """The log in its topic, as it is when the replay begins."""

    settings: Settings
    epoch: str
    starts: Mapping[int, int]
    ends: Mapping[int, int]
    topic: str = ACTIVITY

    @property
    def partitions(self) -> int:
        """How many the log has."""
        return len(self.ends)

    def read(self, partition: int, start: int, end: int) -> Iterator[Sequence[Any]]:
        """The records in [start, end), as they are fetched. Raises `LogLost` and `Unusable`."""
        batches = outputs.read_batches(self.settings.brokers, self.topic, partition, start, end)

        async def fetched() -> Sequence[Any] | None:
            return await anext(batches, None)

        with asyncio.Runner() as runner:
            try:
                while (batch := runner.run(fetched())) is not None:
                    yield batch
            except KafkaError as error:
                raise Unusable(f"{self.topic} cannot be read: {error}") from None
            finally:
                runner.run(batches.aclose())  # type: ignore[attr-defined]


@dataclass(frozen=True)
class ArchiveLog:
    """The log in an archive, and in the journal of a stack that keeps one."""

    archive: Archive
    epoch: str
    starts: Mapping[int, int]
    ends: Mapping[int, int]
    journal: Sequence[Run] = field(default_factory=tuple)
    """What is not in archive files yet, each partition's in order."""
    topic: str = ACTIVITY

    @property
    def partitions(self) -> int:
        """How many the log has."""
        return self.archive.partitions

    def read(self, partition: int, start: int, end: int) -> Iterator[Sequence[Any]]:
        """The records in [start, end), in blocks. Raises `Unusable` where the archive is damaged."""
        try:
            for records in self.archive.read(Source(self.topic, self.epoch, partition), start):
                if records[-1].offset < end:
                    yield records
                    continue
                if records[0].offset < end:
                    yield [record for record in records if record.offset < end]
                return
        except Damaged as error:
            raise Unusable(f"{error}. `groundswell archive verify` says all that is wrong") from None
        for run in self.journal:
            if run.partition == partition and run.end > start and run.start < end:
                yield [record for record in decode_run(run) if start <= record.offset < end]


def open_log(settings: Settings, source: str) -> TopicLog | ArchiveLog:
    """The log in the topics, or in an archive's directory. Raises `Unusable`."""
    if source != TOPICS:
        return _archived(Path(source))
    try:
        epoch, bounds = asyncio.run(archiving.log_of(settings))
    except KafkaError as error:
        raise Unusable(f"{ACTIVITY} cannot be read: {error}") from None
    starts, ends = ({partition: one[n] for partition, one in bounds.items()} for n in (0, 1))
    return TopicLog(settings, epoch, starts, ends)


def _archived(directory: Path) -> ArchiveLog:
    if not directory.is_dir():
        raise Unusable(
            f"there is no directory {directory}: name an archive that `groundswell archive create` made, or topics"
        )
    try:
        frames = [(number, read_frames(path)[0]) for number, path in journals(directory) if path.exists()]
        archive = Archive(directory)  # last: a journal that is sealed meanwhile is in the files then
    except Damaged as error:
        raise Unusable(f"{error}. `groundswell archive verify` says all that is wrong") from None
    later = [frame for number, some in frames if number > archive.number for frame in some]
    if not archive.files and not later:
        raise Unusable(f"{directory} is no archive, or nothing is in it: `groundswell archive create` makes one")
    epoch = later[-1].epoch if later else archive.epoch
    runs = [run for frame in later for run in frame.runs if frame.epoch == epoch]
    if not archive.partitions:
        archive.partitions = later[0].partitions
    sources = archive.sources(epoch)
    starts = {source.partition: archive.files[source][0].start for source in sources}
    ends = {source.partition: archive.end(source) or 0 for source in sources}
    for run in runs:
        starts.setdefault(run.partition, run.start)
        ends[run.partition] = run.end
    return ArchiveLog(archive, epoch, starts, ends, runs)
