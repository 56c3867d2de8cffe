"""An archive that is kept while records come: first in a journal, synced at each fetch, then in archive files.

A record counts as archived once its frame is on disk. A journal that has grown is closed and becomes the increment of
its number; it is removed after that, so at every moment each record stands in a file, in a journal, or in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from aggregates.ledger import Source
from streams.archive import Archive
from streams.archive_files import Damaged, encode_run
from streams.journal import Frame, Journal, journals, read_frames

FULL_RECORDS: Final = 20_000
FULL_BYTES: Final = 8 << 20
"""A journal with so much in it becomes an increment."""


def settle(archive: Archive) -> int:
    """Make increments of what the journals hold, such as after a crash; how many bytes at their end were unfinished.

    Needs the archive's lock. Raises `Damaged` when a journal is not what was written.
    """
    torn = 0
    for number, path in journals(archive.directory):
        if number > archive.number:
            torn += _seal(archive, number)
        path.unlink(missing_ok=True)
    return torn


def _seal(archive: Archive, number: int) -> int:
    path = dict(journals(archive.directory))[number]
    frames, torn = read_frames(path)
    if frames:
        if number != archive.number + 1:
            raise Damaged(f"{path}: it goes on behind increment {number - 1}, and the latest is {archive.number}")
        first = frames[0]
        archive.append(first.topic, first.epoch, first.partitions, (run for frame in frames for run in frame.runs))
    return torn


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
        _seal(self._archive, number)
        dict(journals(self._archive.directory))[number].unlink()

    def close(self) -> None:
        """Close the journal, and make an increment of it."""
        self._journal.close()
        settle(self._archive)
