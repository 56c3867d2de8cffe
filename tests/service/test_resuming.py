"""What `up --resume` does not go on from: an archive that lost records, or that the database does not belong to."""

from __future__ import annotations

from pathlib import Path

import pytest

from aggregates.database import open_database
from aggregates.ledger import Source
from schemas.topics import ACTIVITY
from service.embedded import resume
from service.migrate import migrate
from service.problems import Unusable
from streams import readstate
from streams.archive import Archive, writing
from streams.archive.files import Archived
from streams.archive.live import LiveArchive, say

EPOCH = "e1"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A stack's directory with an archive of five records, all of them still in the journal, as after a kill."""
    with writing(tmp_path / "archive") as archive:
        live = LiveArchive(archive, ACTIVITY, EPOCH, {0: 0, 1: 0})
        for n in range(5):
            live.append({0: [Archived(n, n, b"k", b"v", ())]})
        live._journal.close()
    say(tmp_path / "archive" / "archived-1.json", {0: 5, 1: 0})
    return tmp_path


@pytest.fixture
def database(tmp_path: Path) -> str:
    address = f"sqlite:///{tmp_path / 'groundswell.db'}"
    migrate(address)
    return address


def folded(database: str, source: Source, position: int) -> None:
    engine = open_database(database)
    readstate.take(engine, source, "w")
    readstate.save(engine, source, readstate.Delta(0, position, 0, 0, {}, {}, {}, [], []), "w", {})
    engine.dispose()


def decided(database: str, source: Source, position: int) -> None:
    engine = open_database(database)
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO ledger_positions VALUES (?, ?, 'w', 1)", (source.name, position))
    engine.dispose()


def test_a_killed_stacks_journal_becomes_files(data_dir):
    archive = resume.settled(data_dir)
    assert archive.end(Source(ACTIVITY, EPOCH, 0)) == 5
    assert (archive.partitions, archive.epoch) == (2, EPOCH)


def test_a_torn_frame_is_dropped_but_not_an_accepted_one(data_dir):
    journal = next((data_dir / "archive").glob("journal-*"))
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole[:30])
    assert resume.settled(data_dir).end(Source(ACTIVITY, EPOCH, 0)) == 5


def test_an_archive_that_lost_accepted_records_is_refused(data_dir):
    journal = next((data_dir / "archive").glob("journal-*"))
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-1])
    with pytest.raises(Unusable, match=r"ends at offset 4 of partition 0, and 5 was accepted.*--fresh"):
        resume.settled(data_dir)
    journal.write_bytes(whole)  # from a copy: the refusal has left everything as it was
    assert resume.settled(data_dir).end(Source(ACTIVITY, EPOCH, 0)) == 5


def test_a_damaged_archive_is_refused(data_dir):
    resume.settled(data_dir)
    manifest = data_dir / "archive" / "000001.json"
    manifest.write_text(manifest.read_text().replace('"first":0', '"first":1'))
    with pytest.raises(Unusable, match=r"000001\.json was changed"):
        resume.settled(data_dir)


def test_a_directory_without_an_archive_is_refused(tmp_path):
    with pytest.raises(Unusable, match="has no archive"):
        resume.settled(tmp_path)


def test_another_process_that_writes_the_archive_is_waited_for_but_not_for_ever(data_dir, monkeypatch):
    monkeypatch.setattr(resume, "LOCK_SECONDS", 0.05)
    with writing(data_dir / "archive"), pytest.raises(Unusable, match="another process writes"):
        resume.settled(data_dir)


@pytest.mark.parametrize("store", [folded, decided])
def test_a_database_that_is_ahead_of_the_archive_is_refused(data_dir, database, store):
    archive = resume.settled(data_dir)
    store(database, Source(ACTIVITY, EPOCH, 0), 5)
    resume.check_positions(database, archive)
    store(database, Source(ACTIVITY, EPOCH, 1), 1)
    with pytest.raises(Unusable, match="ends at offset 0 of partition 1, and the database is at 1"):
        resume.check_positions(database, archive)


def test_a_database_without_its_archive_is_refused(tmp_path, database):
    decided(database, Source(ACTIVITY, EPOCH, 0), 3)
    with writing(tmp_path / "archive") as archive:
        pass
    with pytest.raises(Unusable, match="do not belong together"):
        resume.check_positions(database, Archive(archive.directory))


def test_a_database_of_another_log_is_refused(data_dir, database):
    decided(database, Source(ACTIVITY, "another", 0), 3)
    with pytest.raises(Unusable, match="do not belong together"):
        resume.check_positions(database, resume.settled(data_dir))
