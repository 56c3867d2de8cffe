"""An archive that is kept while records come: first in a journal, synced at each fetch, then in archive files.

A record counts as archived once its frame is on disk. A journal that has grown is closed and becomes the increment of
its number; it is removed after that, so at every moment each record stands in a file, in a journal, or in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from aggregates.ledger import Source
from schemas.topics import ACTIVITY
from streams.archive import Archive
from streams.archive.files import Damaged, Run, encode_run
from streams.archive.journal import Frame, Journal, journals, read_frames

FULL_RECORDS: Final = 20_000
FULL_BYTES: Final = 8 << 20
"""A journal with so much in it becomes an increment."""
ACCEPTED: Final = "archived-*.json"
"""The files in which archivers said what is on disk, one of each start."""


def say(path: Path, ends: Mapping[int, int]) -> None:
    """Say that everything before these offsets is on disk. It need not be on disk itself: the archive knows."""
    part = path.with_name(f"{path.name}.new")
    part.write_bytes(msgspec.json.encode(ends))
    part.replace(path)


def said(path: Path) -> dict[int, int]:
    """Partition → the offset before which everything is on disk. Raises FileNotFoundError, `Damaged`."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[int, int])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Damaged(
            f"{path.name} is not what was written, so it cannot be said whether all that was accepted is there: "
            "remove it to take what the archive has for all"
        ) from None


class Lost(NamedTuple):
    """Records that were accepted and are not in the archive."""

    partition: int
    has: int
    """The offset at which the archive ends."""
    accepted: int
    """The offset at which what was accepted ends."""

    def __str__(self) -> str:
        return (
            f"it ends at offset {self.has} of partition {self.partition}, and {self.accepted} was accepted: it lost "
            f"{self.accepted - self.has} records"
        )


def lost(accepted: Mapping[int, int], ends: dict[Source, int]) -> Iterator[Lost]:
    """What was said to be on disk and is not; `ends`: where the archive ends, its journals included."""
    epoch = next(reversed(ends)).epoch if ends else ""  # an archive with such files is of one log
    for partition, end in accepted.items():
        has = ends.get(Source(ACTIVITY, epoch, partition), 0)
        if has < end:
            yield Lost(partition, has, end)


def beyond(frames: Iterable[Frame], ends: dict[Source, int]) -> Iterator[tuple[Run, int]]:
    """The runs that are in no file yet, each with the offset that was due; `ends` moves on with them."""
    for frame in frames:
        for run in frame.runs:
            source = Source(frame.topic, frame.epoch, run.partition)
            due = ends.get(source, run.start)
            if run.end > due:
                ends[source] = run.end
                yield run, due


def hole(run: Run, due: int) -> str:
    """What is wrong with a run that does not begin at the offset that was due; empty when it does."""
    return "" if run.start == due else f"partition {run.partition} goes on at offset {run.start}, and {due} was next"


class _Unfiled(NamedTuple):
    """A journal, and what of it is in no archive file."""

    path: Path
    first: Frame | None
    """For what all frames have in common; None when there is none."""
    runs: list[Run]
    torn: int


def _unfiled(path: Path, ends: dict[Source, int]) -> _Unfiled:
    frames, torn = read_frames(path)
    runs = []
    for run, due in beyond(frames, ends):
        if wrong := hole(run, due):
            raise Damaged(f"{path}: {wrong}")
        runs.append(run)
    return _Unfiled(path, frames[0] if frames else None, runs, torn)


def _file(archive: Archive, journal: _Unfiled) -> None:
    """Make an increment of what a journal has left, and remove it."""
    if journal.first is not None:
        archive.append(journal.first.topic, journal.first.epoch, journal.first.partitions, journal.runs)
    journal.path.unlink()


def settle(archive: Archive) -> int:
    """Make increments of what the journals hold, such as after a crash; how many bytes at their end were unfinished.

    Needs the archive's lock. Raises `Damaged`, with nothing changed, when a journal is not what was written or when
    something that was accepted is missing.
    """
    ends = archive.ends
    found: list[_Unfiled] = []
    due = archive.number + 1
    for number, path in journals(archive.directory):
        journal = _unfiled(path, ends)
        if journal.runs:
            if number > due:
                raise Damaged(f"{path}: it goes on behind increment {number - 1}, and the latest is {due - 1}")
            due += 1
        found.append(journal)
    for path in archive.directory.glob(ACCEPTED):
        for one in lost(said(path), ends):
            raise Damaged(f"{archive.directory}: {one}")
    for journal in found:
        _file(archive, journal)
    return sum(journal.torn for journal in found)


class LiveArchive:
    """The archive of one log, by the process that has its lock and keeps it."""

    def __init__(self, archive: Archive, topic: str, epoch: str, starts: Mapping[int, int]) -> None:
        """`starts`: partition → the offset at which the log begins."""
        settle(archive)
        self._archive = archive
        self._topic = topic
        self._epoch = epoch
        self.ends = dict(starts)
        """Partition → the offset after the last record on disk."""
        for partition in starts:
            self.ends[partition] = archive.end(Source(topic, epoch, partition)) or starts[partition]
        self._journal = Journal(archive.directory, archive.number + 1)

    def append(self, fetched: Mapping[int, Sequence[Any]]) -> None:
        """Put the next records of partitions on disk; when this returns, they are archived."""
        runs = tuple(encode_run(p, self.ends[p], records) for p, records in sorted(fetched.items()) if records)
        self._journal.append(Frame(self._topic, self._epoch, len(self.ends), runs))
        for run in runs:
            self.ends[run.partition] = run.end

    @property
    def is_full(self) -> bool:
        """Whether the journal is to become an increment."""
        return self._journal.records >= FULL_RECORDS or self._journal.bytes >= FULL_BYTES

    def roll(self) -> int:
        """Begin the next journal; the number of the one that is closed, which is to be sealed before the next roll."""
        closed = self._journal
        self._journal = Journal(self._archive.directory, closed.number + 1)
        closed.close()
        return closed.number

    def seal(self, number: int) -> None:
        """Make an increment of a closed journal. Records may be appended meanwhile."""
        _file(self._archive, _unfiled(dict(journals(self._archive.directory))[number], self._archive.ends))

    def close(self) -> None:
        """Close the journal, and make an increment of it."""
        self._journal.close()
        settle(self._archive)
