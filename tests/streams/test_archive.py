"""Archives: what goes in comes out, whatever is changed afterwards is found, and a crash at any point is made good."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregates.ledger import Source
from streams.archive import HEAD, LOCK, Archive, Locked, files, writing
from streams.archive.check import verify
from streams.archive.files import Archived, Damaged, decode_run, encode_run
from streams.archive.journal import Frame, Journal, read_frames
from streams.archive.live import say, settle

ACCEPTED = "archived-1.json"
TOPIC, EPOCH = "members.activity.v1", "e1"
maybe_bytes = st.none() | st.binary(max_size=40)
records_without_offsets = st.lists(
    st.tuples(
        st.integers(-1, 1 << 45),
        maybe_bytes,
        maybe_bytes,
        st.lists(st.tuples(st.text(max_size=70), maybe_bytes), max_size=3),
        st.sampled_from([0, 0, 0, 1, 2]),
    ),
    min_size=1,
    max_size=40,
)


def placed(rows, start: int = 0) -> list[Archived]:
    """Records at rising offsets from `start` on; the last field of a row is how many offsets before it are missing."""
    made = []
    at = start
    for timestamp, key, value, headers, missing in rows:
        at += missing
        made.append(Archived(at, timestamp, key, value, tuple(headers)))
        at += 1
    return made


def plain(count: int, start: int = 0) -> list[Archived]:
    return [Archived(n, 1_000 + n, b"acme/m-%d" % (n % 7), b"v%d" % n * 9, (("ce_id", b"%d" % n),))
            for n in range(start, start + count)]  # fmt: skip


def fill(directory: Path, increments: int = 3, partitions: int = 2) -> None:
    with writing(directory) as archive:
        for n in range(archive.number, increments):
            runs = [encode_run(p, 30 * n, plain(30, 30 * n)) for p in range(partitions)]
            archive.append(TOPIC, EPOCH, partitions, runs)


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name not in (LOCK, ACCEPTED)}


@given(records_without_offsets, st.integers(0, 5), st.integers(1, 10), st.integers(0, 50))
@settings(max_examples=60)
def test_what_is_archived_reads_back_as_it_was_from_any_offset_on(tmp_path_factory, rows, start, size, begin):
    directory = tmp_path_factory.mktemp("a")
    records = placed(rows, start)
    with writing(directory) as archive:
        for n in range(0, len(records), size):
            at = archive.end(Source(TOPIC, EPOCH, 1))
            archive.append(TOPIC, EPOCH, 4, [encode_run(1, 0 if at is None else at, records[n : n + size])])
    archive = Archive(directory)
    read = [record for block in archive.read(Source(TOPIC, EPOCH, 1), begin) for record in block]
    assert read == [record for record in records if record.offset >= begin]
    assert archive.end(Source(TOPIC, EPOCH, 1)) == records[-1].offset + 1
    checked = verify(directory)
    assert (checked.problems, checked.records) == ([], len(records))
    plainly = []
    for path in sorted(directory.glob("*.avro")):
        with path.open("rb") as file:  # any Avro reader can read it
            plainly += [record["offset"] for record in fastavro.reader(file)]
    assert plainly == [record.offset for record in records]


@given(records_without_offsets)
def test_a_run_is_what_fastavro_would_have_written(rows):
    records = placed(rows)
    run = encode_run(0, 0, records)
    assert decode_run(run) == records
    assert sum(end - start for start, end in run.gaps) + run.records == run.end


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("whole")
    fill(directory)
    journal = Journal(directory, 4)
    for n in range(3):
        journal.append(Frame(TOPIC, EPOCH, 2, tuple(encode_run(p, 90 + 5 * n, plain(5, 90 + 5 * n)) for p in (0, 1))))
    journal.close()
    say(directory / ACCEPTED, {0: 105, 1: 105})
    assert verify(directory).problems == []
    return directory


@given(st.data())
@settings(max_examples=150)
def test_any_flipped_bit_is_found_and_its_file_is_named(whole, tmp_path_factory, data):
    directory = shutil.copytree(whole, tmp_path_factory.mktemp("f") / "a")
    names = sorted(content(directory))
    name = data.draw(st.sampled_from(names))
    damaged = bytearray((directory / name).read_bytes())
    at = data.draw(st.integers(0, len(damaged) - 1))
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    (directory / name).write_bytes(damaged)
    found = verify(directory).problems
    assert found
    # A journal's last frame may be torn by a crash; only what was accepted says that it was whole.
    named = ACCEPTED if name.startswith("journal") else name
    assert {name, named} & {problem.file for problem in found} or name in " ".join(p.says for p in found)


def test_what_was_accepted_and_is_in_no_journal_is_found(whole, tmp_path_factory):
    journal = (whole / "journal-000004").read_bytes()
    for keep in (None, *range(0, len(journal), 7)):
        directory = shutil.copytree(whole, tmp_path_factory.mktemp("j") / "a")
        if keep is None:
            (directory / "journal-000004").unlink()
        else:
            os.truncate(directory / "journal-000004", keep)
        damaged = content(directory)
        first, second = verify(directory).problems
        assert (first.file, first.partition, second.partition) == (ACCEPTED, 0, 1)
        assert first.offset in (90, 95, 100)
        assert f"it ends at offset {first.offset} of partition 0, and 105 was accepted" in first.says
        with pytest.raises(Damaged, match="and 105 was accepted"), writing(directory) as archive:
            settle(archive)
        assert content(directory) == damaged, "nothing was written or removed"
        if keep is not None:
            (directory / "journal-000004").write_bytes(journal)
            with writing(directory) as archive:
                settle(archive)
            assert Archive(directory).end(Source(TOPIC, EPOCH, 0)) == 105


def test_a_journal_that_is_put_back_behind_its_increment_is_read(whole, tmp_path):
    directory = shutil.copytree(whole, tmp_path / "a")
    journal = (directory / "journal-000004").read_bytes()
    (directory / ACCEPTED).unlink()
    os.truncate(directory / "journal-000004", len(journal) - 1)
    with writing(directory) as archive:
        settle(archive)
        assert archive.end(Source(TOPIC, EPOCH, 0)) == 100
    (directory / "journal-000004").write_bytes(journal)
    assert verify(directory).journaled == 10
    with writing(directory) as archive:
        settle(archive)
    read = [record for block in Archive(directory).read(Source(TOPIC, EPOCH, 1)) for record in block]
    assert read == plain(105)
    assert not list(directory.glob("journal-*"))


@pytest.mark.parametrize("said", [b"", b"{", b"\xff", b'{"0": "x"}', b"[]"])
def test_a_word_of_what_was_accepted_that_cannot_be_read_is_named(whole, tmp_path, said):
    directory = shutil.copytree(whole, tmp_path / "a")
    (directory / ACCEPTED).write_bytes(said)
    (problem,) = verify(directory).problems
    assert problem.file == ACCEPTED
    with pytest.raises(Damaged, match="remove it to take what the archive has"), writing(directory) as archive:
        settle(archive)
    assert content(directory) == content(whole)


@pytest.mark.parametrize("name", ["20261128.json", "0000002.json", "000005.json", "000000.json"])
def test_a_file_that_is_none_of_the_chain_is_named_and_nothing_else(whole, tmp_path, name):
    directory = shutil.copytree(whole, tmp_path / "a")
    (directory / name).write_text("{}")
    (problem,) = verify(directory).problems
    assert problem.says.startswith(f"{name} stands outside of the chain, which ends with number 3: ")
    with pytest.raises(Damaged, match=f"/{name}: {name} stands outside"):
        Archive(directory)


def test_a_head_far_behind_the_last_manifest_is_one_problem(whole, tmp_path):
    directory = shutil.copytree(whole, tmp_path / "a")
    (directory / HEAD).write_text('{"number": 987654321, "sha256": ""}')
    assert [problem.says for problem in verify(directory).problems] == [
        "000004.json to 987654321.json are missing, and HEAD.json names 987654321.json"
    ]


@pytest.mark.parametrize("name", ["000002.json", "000002-1.avro"])
def test_a_directory_in_the_place_of_a_file_is_named(whole, tmp_path, name):
    directory = shutil.copytree(whole, tmp_path / "a")
    (directory / name).unlink()
    (directory / name).mkdir()
    assert any(name in problem.says for problem in verify(directory).problems)


@given(st.data())
@settings(max_examples=40)
def test_a_truncated_or_missing_file_is_found_and_named(whole, tmp_path_factory, data):
    directory = shutil.copytree(whole, tmp_path_factory.mktemp("t") / "a")
    name = data.draw(st.sampled_from(sorted(n for n in content(directory) if not n.startswith("journal"))))
    size = (directory / name).stat().st_size
    keep = data.draw(st.none() | st.integers(0, size - 1))
    if keep is None:
        (directory / name).unlink()
    else:
        os.truncate(directory / name, keep)
    found = verify(directory).problems
    assert name in " ".join(problem.says for problem in found)
    if name.endswith(".avro"):
        number, partition = int(name[:6]), int(name[7])
        assert (found[0].partition, found[0].file) == (partition, name)
        assert 30 * (number - 1) <= (found[0].offset or 0) < 30 * number


def test_a_damaged_block_is_never_read_as_records(whole, tmp_path):
    directory = shutil.copytree(whole, tmp_path / "a")
    file = directory / "000002-1.avro"
    damaged = bytearray(file.read_bytes())
    damaged[-40] ^= 4
    file.write_bytes(damaged)
    with pytest.raises(Damaged, match=r"000002-1.avro: members.activity.v1 partition 1, offsets 30 to 59"):
        list(Archive(directory).read(Source(TOPIC, EPOCH, 1)))


def test_a_manifest_that_was_rewritten_with_its_files_is_noticed(tmp_path):
    fill(tmp_path / "a")
    fill(tmp_path / "other", increments=1, partitions=1)  # a past that is whole in itself
    for name in ("000001.json", "000001-0.avro"):
        shutil.copy(tmp_path / "other" / name, tmp_path / "a" / name)
    found = verify(tmp_path / "a").problems
    assert any("000001.json was changed: 000002.json has another hash of it" in p.says for p in found)
    with pytest.raises(Damaged, match=r"000001\.json was changed"):
        Archive(tmp_path / "a")


def test_a_gap_between_files_is_named_by_its_first_offset(tmp_path):
    with writing(tmp_path) as archive:
        archive.append(TOPIC, EPOCH, 1, [encode_run(0, 0, plain(5))])
        with pytest.raises(Damaged, match="begins at offset 7, and 5 was next"):
            archive.append(TOPIC, EPOCH, 1, [encode_run(0, 7, plain(5, 7))])
    (found,) = verify(tmp_path).problems
    assert (found.partition, found.offset) == (0, 5)


def test_only_one_process_at_a_time_may_write(tmp_path):
    with writing(tmp_path), pytest.raises(Locked), writing(tmp_path):
        pass


class Killed(BaseException):
    pass


class Countdown:
    """Ends the process, so to speak, at the n-th thing that changes the disk: before it, or halfway through a write."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
        self.left = n
        monkeypatch.setattr(files.os, "fsync", self.wrap(os.fsync))
        monkeypatch.setattr(Path, "replace", self.wrap(Path.replace))
        write = Path.write_bytes

        def half(path: Path, data: bytes) -> int:
            if self.dies():
                write(path, data[: len(data) // 2])
                raise Killed
            return write(path, data)

        monkeypatch.setattr(Path, "write_bytes", half)

    def dies(self) -> bool:
        self.left -= 1
        return self.left < 0

    def wrap(self, real):
        def counted(*arguments):
            if self.dies():
                raise Killed
            return real(*arguments)

        return counted


def test_a_copy_that_is_killed_at_any_point_resumes_to_the_same_archive(tmp_path, monkeypatch):
    fill(tmp_path / "undisturbed")
    expected = content(tmp_path / "undisturbed")
    point, ended = 0, False
    while not ended:
        directory = tmp_path / str(point)
        with monkeypatch.context() as patch:
            Countdown(patch, point)
            try:
                fill(directory)
                ended = True
            except Killed:
                pass
        assert verify(directory).problems == []  # what is there is whole at every moment
        fill(directory)
        assert content(directory) == expected, point
        point += 1
    assert point > 30


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=60)
def test_a_journal_that_is_cut_anywhere_has_every_frame_before_the_cut(tmp_path_factory, cut, zeros):
    directory = tmp_path_factory.mktemp("j")
    journal = Journal(directory, 1)
    frames, ends = [], [0]
    for n in range(4):
        frames.append(Frame(TOPIC, EPOCH, 1, (encode_run(0, 3 * n, plain(3, 3 * n)),)))
        journal.append(frames[-1])
        ends.append(journal.path.stat().st_size)
    journal.close()
    written, cut = journal.path.read_bytes(), min(cut, ends[-1])
    os.truncate(journal.path, cut)
    if zeros:  # as after a power cut
        os.truncate(journal.path, cut + 100)
    read, torn = read_frames(journal.path)
    found = journal.path.read_bytes()  # a frame may end with zeros itself
    assert read == [frame for frame, end in zip(frames, ends[1:], strict=True) if found[:end] == written[:end]]
    assert torn == len(found) - ends[len(read)]


def test_a_bad_frame_with_good_ones_behind_it_is_damage_and_no_torn_end(tmp_path):
    journal = Journal(tmp_path, 1)
    for n in range(3):
        journal.append(Frame(TOPIC, EPOCH, 1, (encode_run(0, 3 * n, plain(3, 3 * n)),)))
    journal.close()
    damaged = bytearray(journal.path.read_bytes())
    damaged[20] ^= 1
    journal.path.write_bytes(damaged)
    with pytest.raises(Damaged, match="the frame at byte 0"):
        read_frames(journal.path)


def test_an_empty_archive_has_a_head_and_nothing_else(tmp_path):
    with writing(tmp_path) as archive:
        assert archive.append(TOPIC, EPOCH, 1, []) is None
    assert set(content(tmp_path)) == {HEAD}
    assert verify(tmp_path).problems == []


def test_an_archive_of_an_earlier_release_reads_as_it_was_written(tmp_path):
    """`tests/streams/archive-1` was written by the first release that had archives: plain(30) twice on two partitions.

    A copy is read: what an archive's directory holds beside its files differs from checkout to checkout.
    """
    golden = shutil.copytree(Path(__file__).parent / "archive-1", tmp_path / "a")
    assert verify(golden).head == "9070eca9734440830b870ea985d043fcc5de001d5355416112e443e68019bd0f"
    assert verify(golden).problems == []
    archive = Archive(golden)
    for partition in (0, 1):
        read = [record for block in archive.read(Source(TOPIC, EPOCH, partition)) for record in block]
        assert read == plain(60)
