"""Checks an archive byte by byte: every manifest, every file, every block, every offset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from aggregates.ledger import Source
from streams.archive import chain, leftovers, manifest_name
from streams.archive.files import Damaged, FileEntry, read_blocks
from streams.archive.journal import Frame, journals, read_frames
from streams.archive.live import ACCEPTED, beyond, hole, lost, said


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it was written."""

    file: str
    partition: int | None
    offset: int | None
    """The first offset that it touches."""
    says: str


@dataclass(slots=True)
class Checked:
    """What was checked and what was found."""

    manifests: int = 0
    files: int = 0
    records: int = 0
    journaled: int = 0
    """Records that the live archiver has on disk and not yet in a file."""
    head: str = ""
    """SHA-256 of the latest manifest: note it elsewhere, and a chain that was rewritten as a whole is noticed too."""
    hashes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def verify(directory: Path, told: Callable[[int], None] = lambda _: None) -> Checked:
    """Check everything; `told` gets the records read so far. An OSError where a file cannot be read at all."""
    checked = Checked()
    accepted = _accepted(directory, checked)  # first: what is appended meanwhile is no loss
    journaled = _journals(directory, checked)  # next: a journal that is sealed meanwhile is in the files then
    ends: dict[Source, int] = {}
    named: set[str] = set()
    for link in chain(directory):
        if link.problem:
            checked.problems.append(Problem(link.file, None, None, link.problem))
        if link.manifest is None:
            continue
        checked.manifests += 1
        checked.head = sha256((directory / manifest_name(link.number)).read_bytes()).hexdigest()
        checked.hashes.append(checked.head)
        for file in link.manifest.files:
            named.add(file.name)
            source = Source(file.topic, file.epoch, file.partition)
            checked.problems += _continues(file, ends.get(source))
            ends[source] = file.end
            if not link.problem:  # else it is not known what the file must be
                checked.problems += _file_problems(directory, file)
            checked.files += 1
            checked.records += file.records
            told(checked.records)
    extra = {path.name for path in directory.glob("*.avro")} - named
    extra -= {path.name for path in leftovers(directory, checked.manifests)}
    checked.problems += [Problem(name, None, None, f"{name} is in no manifest") for name in sorted(extra)]
    for name, frames in journaled:
        for run, due in beyond(frames, ends):
            if wrong := hole(run, due):
                checked.problems.append(Problem(name, run.partition, due, f"{name}: {wrong}"))
            checked.journaled += run.records
    for name, end_of in accepted:
        for one in lost(end_of, ends):
            checked.problems.append(Problem(name, one.partition, one.has, f"{name}: {one}"))
    return checked


def _continues(file: FileEntry, end: int | None) -> Iterator[Problem]:
    if end is None or end == file.start:
        return
    says = f"{file.topic} partition {file.partition}: {file.name} begins at offset {file.start}, and {end} was next"
    yield Problem(file.name, file.partition, min(end, file.start), says)


def _file_problems(directory: Path, file: FileEntry) -> Iterator[Problem]:
    at = file.start
    gaps = iter(file.gaps)
    gap = next(gaps, None)
    count = 0
    try:
        for records in read_blocks(directory, file):
            for record in records:
                while gap is not None and gap[0] == at:
                    at, gap = gap[1], next(gaps, None)
                if record.offset != at:
                    yield _at(file, at, f"offset {record.offset} stands where {at} is due")
                    return
                at += 1
                count += 1
        if (at, count, gap) != (file.end, file.records, None):
            yield _at(file, at, f"{count} records up to offset {at}; the manifest has {file.records} up to {file.end}")
        content = (directory / file.name).read_bytes()
        if len(content) != file.bytes:
            yield _at(file, file.first, f"it has {len(content)} bytes instead of {file.bytes}")
        elif sha256(content).hexdigest() != file.sha256:
            yield _at(file, file.first, "its SHA-256 is not the manifest's")
    except Damaged as error:
        yield Problem(file.name, file.partition, _first_bad(directory, file), str(error))


def _at(file: FileEntry, offset: int, says: str) -> Problem:
    where = f"{file.name}: {file.topic} partition {file.partition}, offset {offset}"
    return Problem(file.name, file.partition, offset, f"{where}: {says}")


def _first_bad(directory: Path, file: FileEntry) -> int:
    """The first offset of the first block that does not read."""
    good = file.first
    try:
        for records in read_blocks(directory, file):
            good = records[-1].offset + 1
    except Damaged:
        pass
    return good


def _accepted(directory: Path, checked: Checked) -> list[tuple[str, dict[int, int]]]:
    found = []
    for path in sorted(directory.glob(ACCEPTED)):
        try:
            found.append((path.name, said(path)))
        except FileNotFoundError:
            continue
        except Damaged as error:
            checked.problems.append(Problem(path.name, None, None, str(error)))
    return found


def _journals(directory: Path, checked: Checked) -> list[tuple[str, list[Frame]]]:
    found = []
    for _, path in journals(directory):
        try:
            found.append((path.name, read_frames(path)[0]))
        except FileNotFoundError:
            continue
        except Damaged as error:
            checked.problems.append(Problem(path.name, None, None, str(error)))
    return found
