"""An archive that is kept as records come: what was appended is there after a crash at any point, once and in order."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregates.ledger import Source
from streams.archive import Archive, writing
from streams.archive import live as live_archive
from streams.archive.check import verify
from streams.archive.files import Archived, Damaged
from streams.archive.live import LiveArchive, settle

TOPIC, EPOCH = "members.activity.v1", "e1"
STARTS = {0: 0, 1: 0}


def record(offset: int, partition: int = 0) -> Archived:
    return Archived(offset, 1_000 + offset, b"k%d" % partition, b"v%d" % offset * 3, ())


def read(directory: Path) -> dict[int, list[Archived]]:
    archive = Archive(directory)
    return {p: [r for block in archive.read(Source(TOPIC, EPOCH, p)) for r in block] for p in STARTS}


class Killed(BaseException):
    pass


class Disk:
    """Ends the process, so to speak, at the n-th change of the disk; a write may come half through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
        self.left = n
        for owner, name in ((os, "fsync"), (os, "fdatasync"), (Path, "replace"), (Path, "unlink")):
            monkeypatch.setattr(owner, name, self.wrap(getattr(owner, name)))
        write = os.write
        monkeypatch.setattr(os, "write", lambda file, data: self.half(lambda part: write(file, part), data))
        whole = Path.write_bytes
        monkeypatch.setattr(
            Path, "write_bytes", lambda path, data: self.half(lambda part: whole(path, bytes(part)), data)
        )

    def dies(self) -> bool:
        self.left -= 1
        return self.left < 0

    def wrap(self, real: Any) -> Any:
        def counted(*arguments: Any, **options: Any) -> Any:
            if self.dies():
                raise Killed
            return real(*arguments, **options)

        return counted

    def half(self, write: Any, data: Any) -> Any:
        if self.dies():
            write(data[: len(data) // 2])
            raise Killed
        return write(data)


def work(directory: Path, kept: dict[int, int], batches: int) -> None:
    """Append batches on both partitions, rolling every third; `kept` gets what is known to be on disk."""
    with writing(directory) as archive:
        live = LiveArchive(archive, TOPIC, EPOCH, STARTS)
        try:
            kept.update(live.ends)
            for n in range(batches):
                at = dict(live.ends)
                live.append({p: [record(o, p) for o in range(at[p], at[p] + 2 + p)] for p in STARTS if n % 2 or not p})
                kept.update(live.ends)
                if n % 3 == 2:
                    live.seal(live.roll())
        finally:
            live._journal.close()  # as the end of a process does


def test_what_was_appended_is_there_after_a_crash_at_any_point(tmp_path, monkeypatch):
    point, ended = 0, False
    while not ended:
        directory = tmp_path / str(point)
        kept = dict(STARTS)
        with monkeypatch.context() as patch:
            Disk(patch, point)
            try:
                work(directory, kept, 7)
                ended = True
            except Killed:
                pass
        assert verify(directory).problems == [], point
        with monkeypatch.context() as patch:  # and killed again while it recovers
            Disk(patch, point % 7)
            try:
                with writing(directory) as archive:
                    settle(archive)
            except Killed:
                pass
        with writing(directory) as archive:
            settle(archive)
        assert verify(directory).problems == [], point
        for partition, records in read(directory).items():
            assert len(records) >= kept[partition], point
            assert records == [record(o, partition) for o in range(len(records))], point
        kept_on = dict(STARTS)
        work(directory, kept_on, 2)  # and it goes on from there
        point += 1
    assert point > 40


@given(st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=12))
@settings(max_examples=25)
def test_a_live_archive_ends_as_the_log_whatever_the_fetches_and_rolls(tmp_path_factory, steps):
    directory = tmp_path_factory.mktemp("live")
    with writing(directory) as archive:
        live = LiveArchive(archive, TOPIC, EPOCH, STARTS)
        closed = None
        for size, roll in steps:
            live.append({0: [record(o) for o in range(live.ends[0], live.ends[0] + size)]})
            if closed is not None:
                live.seal(closed)  # records were appended meanwhile
            closed = live.roll() if roll else None
        if closed is not None:
            live.seal(closed)
        live.close()
        total = live.ends[0]
    assert read(directory)[0] == [record(o) for o in range(total)]
    checked = verify(directory)
    assert (checked.problems, checked.records, checked.journaled) == ([], total, 0)


def test_a_journal_is_full_after_so_many_records(tmp_path, monkeypatch):
    monkeypatch.setattr(live_archive, "FULL_RECORDS", 5)
    with writing(tmp_path) as archive:
        live = LiveArchive(archive, TOPIC, EPOCH, {0: 0})
        live.append({0: [record(o) for o in range(4)]})
        assert not live.is_full
        live.append({0: [record(4)]})
        assert live.is_full
        live.close()


def test_a_journal_that_is_missing_is_noticed(tmp_path):
    with writing(tmp_path) as archive:
        live = LiveArchive(archive, TOPIC, EPOCH, {0: 0})
        live.append({0: [record(0)]})
        (tmp_path / f"journal-{live.roll():06}").unlink()
        live.append({0: [record(1)]})
        live._journal.close()
        with pytest.raises(Damaged, match="the latest is 0"):
            settle(archive)
