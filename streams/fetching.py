"""How fetched bytes become records: as the client's parser makes them, and whatever their headers are named.

aiokafka makes one more object of every record (0.9 of 1.1 µs), and stops at a header name that is not UTF-8. Two
names of its fetcher are replaced, for all consumers of the process; the first concerns those alone that are marked
`as_fetched` (tests/streams/test_fetching.py holds what this relies on).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecord, DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

_LENGTH_AT: Final = 8
_LENGTH_END: Final = 12


def as_fetched(key: bytes) -> bytes:
    """As a consumer's `key_deserializer`: its records have offset, timestamp, key, value and headers alone."""
    return key


class Records(fetcher.PartitionRecords):  # type: ignore[misc]
    """The records of one answer, read as they are asked for."""

    def __init__(
        self, tp: TopicPartition, records: Any, aborted: Any, offset: int, key_deserializer: Any, *others: Any
    ) -> None:
        super().__init__(tp, records, aborted, offset, key_deserializer, *others)
        if key_deserializer is as_fetched:
            self._consumer_record = _unchanged

    def __iter__(self) -> Iterator[Any]:
        return self._records_iterator  # type: ignore[no-any-return]


def _unchanged(_tp: TopicPartition, record: Any) -> Any:
    return record


class Batches:
    """The batches of an answer: in place of the parser's own, which it asks."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._batches = MemoryRecords(data)
        self.size_in_bytes = self._batches.size_in_bytes
        self.has_next = self._batches.has_next

    def next_batch(self) -> Any:
        """The next batch; None behind the last whole one."""
        start = self._at
        self._at = start + _LENGTH_END + int.from_bytes(self._data[start + _LENGTH_AT : start + _LENGTH_END], "big")
        batch = self._batches.next_batch()
        if type(batch) is not DefaultRecordBatch or batch.is_control_batch:
            return batch
        return _Batch(batch, self._data[start : self._at])


class _Batch:
    """A batch of the parser, with its bytes for the records that it cannot read."""

    def __init__(self, batch: Any, data: bytes) -> None:
        self._batch = batch
        self._data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(list(self._batch))
        except UnicodeDecodeError:
            return iter(list(_AnyHeaders(self._data)))


class _AnyHeaders(_DefaultRecordBatchPy):  # type: ignore[misc]
    """Reads a batch byte by byte; what is not UTF-8 in a header's name is written as `\\xNN`."""

    def _read_msg(self, decode_varint: Any = decode_varint) -> Any:
        buffer = self._buffer
        pos: int = self._pos  # type: ignore[has-type]
        length, pos = decode_varint(buffer, pos)
        end = pos + length
        _attributes, pos = decode_varint(buffer, pos)
        timestamp, pos = decode_varint(buffer, pos)
        offset, pos = decode_varint(buffer, pos)
        key, pos = _bytes(buffer, pos)
        value, pos = _bytes(buffer, pos)
        count, pos = decode_varint(buffer, pos)
        headers = []
        for _ in range(count):
            name, pos = _bytes(buffer, pos)
            content, pos = _bytes(buffer, pos)
            headers.append(((name or b"").decode("utf-8", "backslashreplace"), content))
        if pos != end:
            raise fetcher.Errors.CorruptRecordException(f"a record ends at byte {end} of its batch, not {pos}")
        self._pos = pos
        timestamp = self.max_timestamp if self.timestamp_type == 1 else self.first_timestamp + timestamp
        return DefaultRecord(self.base_offset + offset, timestamp, self.timestamp_type, key, value, headers)


def _bytes(buffer: Any, pos: int) -> tuple[bytes | None, int]:
    size, pos = decode_varint(buffer, pos)
    return (None, pos) if size < 0 else (bytes(buffer[pos : pos + size]), pos + size)


fetcher.PartitionRecords = Records
fetcher.MemoryRecords = Batches
