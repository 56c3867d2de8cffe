"""The archive of a log: increments of files with a manifest each, and each manifest carries the hash of the one before.

An increment is there once its manifest is: files are written under temporary names, synced and renamed, the manifest
comes last. So a crash leaves what the next increment writes over, and nothing that counts.
"""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO, Final, NamedTuple

import msgspec

from aggregates.ledger import Source
from streams.archive.files import Archived, Damaged, FileEntry, FileWriter, Run, read_blocks, sync, write_whole

FORMAT: Final = 1
HEAD: Final = "HEAD.json"
LOCK: Final = "lock"
_MANIFEST: Final = re.compile(r"(\d{6,})\.json")
_FILE: Final = re.compile(r"(\d{6,})-\d+\.avro")


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One increment."""

    format: int
    number: int
    """1 for the first."""
    previous: str
    """SHA-256 of the manifest before; empty for the first."""
    partitions: int
    """Partitions of the topic."""
    files: tuple[FileEntry, ...]


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The latest manifest, so that a missing one at the end is noticed too."""

    number: int
    sha256: str


class Link(NamedTuple):
    """One place in the chain of manifests."""

    number: int
    file: str
    manifest: Manifest | None
    problem: str
    """What is wrong with it; empty when it is as it was written."""


class Locked(Exception):
    """Another process writes this archive."""


def manifest_name(number: int) -> str:
    """The file of a manifest."""
    return f"{number:06}.json"


def chain(directory: Path) -> Iterator[Link]:
    """Every manifest that there is or must be, in order, each compared with what the next one says of it."""
    head, head_problem = _head(directory)  # first: whoever writes the archive meanwhile writes it last
    found = {path: int(match[1]) for path in directory.glob("*.json") if (match := _MANIFEST.fullmatch(path.name))}
    contents = {n: _content(path) for path, n in found.items() if n and path.name == manifest_name(n)}
    last = 0 if head is None else head.number
    while last + 1 in contents:
        last += 1
    manifests = {n: _manifest(content, n) for n, content in contents.items()}
    due = 1
    for number in (*sorted(n for n in contents if n <= last), last + 1):
        if due < number:
            yield _missing(due, number - 1, head)
        if number <= last:
            problem = _link_problem(number, contents, manifests, head) or ""
            yield Link(number, manifest_name(number), manifests[number], problem)
        due = number + 1
    for path, number in sorted(found.items()):
        if not (0 < number <= last and path.name == manifest_name(number)):
            says = f"{path.name} stands outside of the chain, which ends with number {last}: a stray? Move it away"
            yield Link(last, path.name, None, says)
    if head is None and (head_problem or last):
        yield Link(last, HEAD, None, head_problem or f"{HEAD} is missing")
    elif head is not None and head.number < last - 1:  # one behind: a crash came between the two
        yield Link(last, HEAD, None, f"{HEAD} does not name the latest manifest")


def _missing(first: int, last: int, head: Head | None) -> Link:
    name = manifest_name(first)
    says = f"{name} is missing" if first == last else f"{name} to {manifest_name(last)} are missing"
    return Link(first, name, None, says + (f", and {HEAD} names {manifest_name(head.number)}" if head else ""))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except IsADirectoryError:
        return b""


def _link_problem(
    number: int, contents: dict[int, bytes], manifests: dict[int, Manifest | None], head: Head | None
) -> str | None:
    name = manifest_name(number)
    if manifests[number] is None:
        return f"{name} is not a manifest"
    after = manifests.get(number + 1)
    witnesses = [] if after is None else [(manifest_name(number + 1), after.previous)]
    if head is not None and head.number == number:
        witnesses.append((HEAD, head.sha256))
    for witness, said in witnesses:
        if said != sha256(contents[number]).hexdigest():
            return f"{name} was changed: {witness} has another hash of it"
    manifest = manifests[number]
    if number == 1 and manifest is not None and manifest.previous:
        return f"{name} was changed: nothing can stand before it"
    return None


def _head(directory: Path) -> tuple[Head | None, str]:
    try:
        return msgspec.json.decode((directory / HEAD).read_bytes(), type=Head), ""
    except FileNotFoundError:
        return None, ""
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None, f"{HEAD} cannot be read"


def _manifest(content: bytes, number: int) -> Manifest | None:
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    usable = manifest.number == number and manifest.format == FORMAT and all(file.blocks for file in manifest.files)
    return manifest if usable else None


class Archive:
    """What an archive holds, as its manifests say."""

    def __init__(self, directory: Path) -> None:
        """Read the manifests. Raises `Damaged` when one is missing or is not what the next says, or offsets are."""
        self.directory = directory
        self.number = 0
        self.head = ""
        """SHA-256 of the latest manifest."""
        self.partitions = 0
        """Partitions of the topic; 0 in an empty archive."""
        self.files: dict[Source, list[FileEntry]] = {}
        for link in chain(directory):
            if link.problem or link.manifest is None:
                raise Damaged(f"{directory / link.file}: {link.problem}")
            self._take(link.manifest)
        if self.number:
            self.head = sha256((directory / manifest_name(self.number)).read_bytes()).hexdigest()

    def _take(self, manifest: Manifest) -> None:
        for file in manifest.files:
            source = Source(file.topic, file.epoch, file.partition)
            end = self.end(source)
            if end is not None and end != file.start:
                raise Damaged(
                    f"{file.name}: {file.topic} partition {file.partition}: it begins at offset {file.start}, and "
                    f"{end} was next"
                )
            self.files.setdefault(source, []).append(file)
        self.number = manifest.number
        self.partitions = manifest.partitions

    @property
    def ends(self) -> dict[Source, int]:
        """Where each source ends, the ones that were archived last at the end."""
        return {source: files[-1].end for source, files in self.files.items()}

    def end(self, source: Source) -> int | None:
        """The offset after the last one of a source; None when nothing of it is archived."""
        files = self.files.get(source)
        return files[-1].end if files else None

    @property
    def epoch(self) -> str:
        """The epoch of what was archived last; empty in an empty archive."""
        return next(reversed(self.files)).epoch if self.files else ""

    def sources(self, epoch: str | None = None) -> list[Source]:
        """The sources, those of one epoch, in the order of their partitions."""
        return sorted(source for source in self.files if epoch is None or source.epoch == epoch)

    def read(self, source: Source, start: int = 0) -> Iterator[list[Archived]]:
        """The records of a source from an offset on, in blocks. Raises `Damaged`."""
        for file in self.files.get(source, ()):
            if file.end > start:
                yield from read_blocks(self.directory, file, start)

    def append(self, topic: str, epoch: str, partitions: int, runs: Iterable[Run]) -> Manifest | None:
        """Write one increment of runs, each partition's in order; None when there were none. Needs the lock."""
        number = self.number + 1
        writers: dict[int, FileWriter] = {}
        for run in runs:
            if run.partition not in writers:
                path = self.directory / f"{number:06}-{run.partition}.avro"
                writers[run.partition] = FileWriter(path, topic, epoch, run.partition)
            writers[run.partition].add(run)
        if not writers:
            return None
        files = tuple(writers[partition].finish() for partition in sorted(writers))
        sync(self.directory)
        manifest = Manifest(FORMAT, number, self.head, partitions, files)
        content = msgspec.json.encode(manifest) + b"\n"
        write_whole(self.directory / manifest_name(number), content)
        sync(self.directory)
        self.head = sha256(content).hexdigest()
        self._take(manifest)
        self.write_head()
        return manifest

    def write_head(self) -> None:
        """Note which manifest is the latest."""
        content = msgspec.json.encode(Head(self.number, self.head)) + b"\n"
        path = self.directory / HEAD
        if not path.exists() or path.read_bytes() != content:
            write_whole(path, content)
            sync(self.directory)


def leftovers(directory: Path, number: int) -> list[Path]:
    """Files of increments up to `number` and after it that no manifest can name: an interrupted increment's."""
    later = [path for path in directory.glob("*.avro") if (m := _FILE.fullmatch(path.name)) and int(m[1]) > number]
    return sorted([*directory.glob("*.part"), *later])


@contextmanager
def writing(directory: Path) -> Iterator[Archive]:
    """The archive, for the one process that may write it; what an interrupted one left is removed.

    Raises `Locked`, `Damaged`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with _lock(directory):
        archive = Archive(directory)
        for path in leftovers(directory, archive.number):
            path.unlink()
        archive.write_head()
        yield archive


@contextmanager
def _lock(directory: Path) -> Iterator[IO[bytes]]:
    with (directory / LOCK).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(f"another process writes the archive {directory}") from None
        yield file
