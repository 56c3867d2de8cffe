"""Archive files: records of one partition in an Avro container, each block with a checksum kept outside of it."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b, sha256
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple

import fastavro
import msgspec
from fastavro.write import Writer as AvroWriter

BLOCK_BYTES: Final = 128 << 10
"""Encoded records of one block, before compression: what a damaged byte can take with it."""
_RECORD: Final = fastavro.parse_schema(
    {
        "type": "record",
        "name": "groundswell.ArchivedRecord",
        "doc": "One record of a Kafka topic as the broker delivered it.",
        "fields": [
            {"name": "offset", "type": "long"},
            {"name": "timestamp", "type": "long", "doc": "of the record, epoch milliseconds"},
            {"name": "key", "type": ["null", "bytes"]},
            {"name": "value", "type": ["null", "bytes"]},
            {
                "name": "headers",
                "type": {
                    "type": "array",
                    "items": {
                        "type": "record",
                        "name": "Header",
                        "fields": [{"name": "name", "type": "string"}, {"name": "value", "type": ["null", "bytes"]}],
                    },
                },
            },
        ],
    }
)
_decode_one: Final = fastavro.schemaless_reader


class Damaged(Exception):
    """An archive is not as it was written: what, where, from which offset on."""


class Archived(NamedTuple):
    """One archived record, with the fields by which a fetched one is read."""

    offset: int
    timestamp: int
    """Epoch milliseconds."""
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class Run(msgspec.Struct, frozen=True, array_like=True):
    """Consecutive records of one partition, encoded: all that the broker had from `start` up to `end`."""

    partition: int
    start: int
    end: int
    """The offset after the last record."""
    first: int
    records: int
    gaps: tuple[tuple[int, int], ...]
    """Offsets that the broker did not deliver (transaction markers, aborted records), as [from, to)."""
    data: bytes


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a manifest says of one file: all records of one partition from `start` up to `end`."""

    name: str
    topic: str
    epoch: str
    partition: int
    start: int
    end: int
    first: int
    last: int
    records: int
    gaps: tuple[tuple[int, int], ...]
    bytes: int
    sha256: str
    header: int
    """CRC-32 of what stands before the first block."""
    blocks: tuple[tuple[int, int, int], ...]
    """First offset, byte at which it begins, and CRC-32 of each block."""


def encode_run(partition: int, start: int, records: Iterable[Any]) -> Run:
    """Encode at least one record, fetched or `Archived`, in offset order, read from the position `start` on.

    Written out for the one schema, since fastavro takes 13 µs for a record with six headers and this 5; the tests
    have it for an oracle.
    """
    out: list[bytes] = []
    gaps = []
    at, first, count = start, -1, 0
    for record in records:
        offset = record.offset
        if offset != at:
            gaps.append((at, offset))
        out += (_long(offset), _long(record.timestamp), _nullable(record.key), _nullable(record.value))
        if record.headers:
            out.append(_long(len(record.headers)))
            for name, value in record.headers:
                out.append(_name(name))
                out.append(_nullable(value))
        out.append(b"\0")
        first = offset if first < 0 else first
        at = offset + 1
        count += 1
    return Run(partition, start, at, first, count, tuple(gaps), b"".join(out))


def _long(number: int) -> bytes:
    left = (number << 1) ^ (number >> 63)
    out = bytearray()
    while left > 127:
        out.append(left & 127 | 128)
        left >>= 7
    out.append(left)
    return bytes(out)


def _nullable(value: bytes | None) -> bytes:
    if value is None:
        return b"\0"
    size = len(value)
    return (_SIZES[size] if size < len(_SIZES) else b"\2" + _long(size)) + value


@lru_cache(1024)
def _name(name: str) -> bytes:
    encoded = name.encode()
    return _long(len(encoded)) + encoded


_SIZES: Final = tuple(b"\2" + _long(size) for size in range(1024))


def decode_run(run: Run) -> list[Archived]:
    """The records of a run."""
    encoded = BytesIO(run.data)
    return [_archived(_decode_one(encoded, _RECORD, None)) for _ in range(run.records)]


def _archived(record: Any) -> Archived:
    headers = tuple((header["name"], header["value"]) for header in record["headers"])
    return Archived(record["offset"], record["timestamp"], record["key"], record["value"], headers)


def sync(path: Path) -> None:
    """Have a file, or the names in a directory, on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class _Block(NamedTuple):
    num_records: int
    bytes_: BytesIO


def write_whole(path: Path, content: bytes) -> None:
    """All of it under its name and on disk, or nothing; the name is the caller's to sync, with its directory."""
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content)
    sync(part)
    part.replace(path)


class FileWriter:
    """Makes one file in memory; `finish` writes it. Same runs, same bytes."""

    def __init__(self, path: Path, topic: str, epoch: str, partition: int) -> None:
        self._path = path
        self._file = BytesIO()
        self._where = (topic, epoch, partition)
        marker = blake2b(f"{path.name}/{topic}/{epoch}/{partition}".encode(), digest_size=16).digest()
        self._writer = AvroWriter(self._file, _RECORD, codec="deflate", sync_marker=marker)
        self._writer.flush()
        self._blocks: list[tuple[int, int]] = []
        self._open: list[Run] = []
        self._size = 0
        self._gaps: list[tuple[int, int]] = []
        self._start, self._first, self.end, self.records = -1, -1, -1, 0

    def add(self, run: Run) -> None:
        """Write a run, which continues the one before it."""
        if self._start < 0:
            self._start, self._first = run.start, run.first
        self._gaps += run.gaps
        self.end = run.end
        self.records += run.records
        self._open.append(run)
        self._size += len(run.data)
        if self._size >= BLOCK_BYTES:
            self._write_block()

    def _write_block(self) -> None:
        runs, self._open, self._size = self._open, [], 0
        self._blocks.append((runs[0].first, self._file.tell()))
        data = BytesIO(b"".join(run.data for run in runs))
        self._writer.write_block(_Block(sum(run.records for run in runs), data))
        self._writer.flush()

    def finish(self) -> FileEntry:
        """Have it on disk under its own name; the directory is the caller's to sync."""
        if self._open:
            self._write_block()
        whole = self._file.getvalue()
        ends = [at for _, at in self._blocks[1:]] + [len(whole)]
        blocks = tuple(
            (first, at, zlib.crc32(whole[at:end])) for (first, at), end in zip(self._blocks, ends, strict=True)
        )
        write_whole(self._path, whole)
        topic, epoch, partition = self._where
        return FileEntry(
            name=self._path.name,
            topic=topic,
            epoch=epoch,
            partition=partition,
            start=self._start,
            end=self.end,
            first=self._first,
            last=self.end - 1,
            records=self.records,
            gaps=tuple(self._gaps),
            bytes=len(whole),
            sha256=sha256(whole).hexdigest(),
            header=zlib.crc32(whole[: self._blocks[0][1]]),
            blocks=blocks,
        )


def read_blocks(directory: Path, entry: FileEntry, start: int = 0) -> Iterator[list[Archived]]:
    """The records of a file from offset `start` on, a block at a time, each checked before it is read.

    Raises `Damaged` with the offset from which on it cannot be read.
    """
    path = directory / entry.name
    try:
        file = path.open("rb")
    except (FileNotFoundError, IsADirectoryError):
        raise Damaged(f"{_place(entry, entry.first)}: the file is missing") from None
    with file:
        header = file.read(entry.blocks[0][1])
        if zlib.crc32(header) != entry.header:
            raise Damaged(f"{_place(entry, entry.first)}: the header is not what was written")
        ends = [(first, at) for first, at, _ in entry.blocks[1:]] + [(entry.end, entry.bytes)]
        for (first, at, crc), (after, end) in zip(entry.blocks, ends, strict=True):
            if after <= start:
                continue
            file.seek(at)
            block = file.read(end - at)
            if len(block) < end - at:
                raise Damaged(f"{_place(entry, first)}: the file ends at byte {at + len(block)} of {entry.bytes}")
            if zlib.crc32(block) != crc:
                raise Damaged(f"{_place(entry, first, after)}: bytes {at} to {end} are not what was written")
            records = [_archived(record) for record in fastavro.reader(BytesIO(header + block))]
            if records[0].offset < start:
                records = [record for record in records if record.offset >= start]
            if records:
                yield records


def _place(entry: FileEntry, first: int, after: int | None = None) -> str:
    until = "on" if after is None else f"to {after - 1}"
    return f"{entry.name}: {entry.topic} partition {entry.partition}, offsets {first} {until}"
