"""The archive's journal: what the live archiver has on disk and not yet in archive files, in small checked frames.

One frame is one write and one sync, so only the last one can be torn; a bad frame with good ones behind it is damage.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from pathlib import Path
from typing import Final

import msgspec

from streams.archive.files import Damaged, Run, sync

_MAGIC: Final = b"GSJ1"
_HEAD: Final = struct.Struct(">4sII")
"""Magic, length of the payload, its CRC-32."""
_NAME: Final = re.compile(r"journal-(\d{6,})")


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """What came in one fetch."""

    topic: str
    epoch: str
    partitions: int
    """Partitions of the topic."""
    runs: tuple[Run, ...]


class Journal:
    """The journal that becomes the increment of the same number."""

    def __init__(self, directory: Path, number: int) -> None:
        self.path = directory / journal_name(number)
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        sync(directory)
        self.number = number
        self.records = 0
        self.bytes = 0

    def append(self, frame: Frame) -> None:
        """Write a frame and wait until it is on disk."""
        payload = msgspec.msgpack.encode(frame)
        content = memoryview(_HEAD.pack(_MAGIC, len(payload), zlib.crc32(payload)) + payload)
        while content:
            content = content[os.write(self._file, content) :]
        os.fdatasync(self._file)
        self.records += sum(run.records for run in frame.runs)
        self.bytes += len(payload)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def journal_name(number: int) -> str:
    """The file of a journal."""
    return f"journal-{number:06}"


def journals(directory: Path) -> list[tuple[int, Path]]:
    """The journals of an archive, by number."""
    found = ((_NAME.fullmatch(path.name), path) for path in directory.glob("journal-*"))
    numbered = ((int(match[1]), path) for match, path in found if match)
    return sorted((number, path) for number, path in numbered if path.name == journal_name(number))


def read_frames(path: Path) -> tuple[list[Frame], int]:
    """The frames of a journal, and how many bytes at its end are a frame that was never finished.

    Raises `Damaged` when a frame that was finished is not what was written.
    """
    content = path.read_bytes()
    frames: list[Frame] = []
    at = 0
    while at < len(content):
        frame = _frame(content, at)
        if frame is None:
            if _any_frame_after(content, at):
                raise Damaged(f"{path}: the frame at byte {at} is not what was written, and others follow it")
            return frames, len(content) - at
        frames.append(frame[0])
        at = frame[1]
    return frames, 0


def _frame(content: bytes, at: int) -> tuple[Frame, int] | None:
    if at + _HEAD.size > len(content):
        return None
    magic, length, crc = _HEAD.unpack_from(content, at)
    begin, end = at + _HEAD.size, at + _HEAD.size + length
    if magic != _MAGIC or end > len(content) or zlib.crc32(content[begin:end]) != crc:
        return None
    try:
        return msgspec.msgpack.decode(content[begin:end], type=Frame), end
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _any_frame_after(content: bytes, at: int) -> bool:
    while (at := content.find(_MAGIC, at + 1)) >= 0:
        if _frame(content, at) is not None:
            return True
    return False
