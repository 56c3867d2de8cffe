"""What is fetched: the parser's own records, whatever their headers are named, and what that relies on in aiokafka."""

from __future__ import annotations

import inspect
from typing import Any

import aiokafka
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecord, DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from streams.fetching import Batches, Records, as_fetched

TP = TopicPartition("members.activity.v1", 3)
HEADER = b"\xfe\xff"
CRC_AT, CRC_END, ATTRIBUTES_AT = 17, 21, 21

contents = st.none() | st.binary(max_size=200)
records = st.tuples(contents, contents, st.lists(st.tuples(st.text(max_size=5), contents), max_size=3))


def batch(base: int, several: list[Any], compression: int = 0) -> bytes:
    """A batch whose first offset is `base`."""
    builder = DefaultRecordBatchBuilder(2, compression, 0, -1, -1, 0, 1 << 20)
    for number, (key, value, headers) in enumerate(several):
        assert builder.append(number, 1_000 + number, key, value, headers)
    return base.to_bytes(8, "big") + bytes(builder.build())[8:]


def read(data: bytes, offset: int, key_deserializer: Any = as_fetched) -> list[Any]:
    return list(Records(TP, Batches(data), [], offset, key_deserializer, None, True, fetcher.READ_COMMITTED))


def plain(one: Any) -> Any:
    return one.offset, one.timestamp, one.key, one.value, list(one.headers)


def test_aiokafka_still_has_what_is_replaced():
    assert aiokafka.__version__.startswith("0.14.")
    assert fetcher.PartitionRecords is Records
    assert fetcher.MemoryRecords is Batches
    source = inspect.getsource(fetcher.Fetcher._proc_fetch_request)
    assert "MemoryRecords(part_data[-1])" in source
    assert "PartitionRecords(" in source
    assert "for msg in self._partition_records:" in inspect.getsource(fetcher.FetchResult.getall)


@given(st.lists(st.lists(records, min_size=1, max_size=5), max_size=4), st.integers(0, 12), st.sampled_from([0, 1]))
def test_records_are_those_of_the_clients_own_reader(batches, start, compression):
    data, base, expected = b"", 0, []
    for several in batches:
        data += batch(base, several, compression)
        expected += [(base + n, 1_000 + n, k, v, headers) for n, (k, v, headers) in enumerate(several)]
        base += len(several)
    start = min(start, len(batches[0]) - 1) if batches else start  # a broker answers from the batch on that has it
    data += data[:7]  # an answer may end within a batch
    found = read(data, start)
    assert [plain(one) for one in found] == [one for one in expected if one[0] >= start]
    assert all(type(one) is DefaultRecord for one in found)
    others = read(data, start, None)
    assert [plain(one) for one in others] == [plain(one) for one in found]
    assert all(type(one) is ConsumerRecord and (one.topic, one.partition) == TP for one in others)


def with_odd_header(several: list[Any]) -> bytes:
    """A batch in which each header named `zz` has a name that is not UTF-8."""
    data = bytearray(batch(5, several).replace(b"\x04zz", b"\x04" + HEADER))
    data[CRC_AT:CRC_END] = calc_crc32c(data[ATTRIBUTES_AT:]).to_bytes(4, "big")
    return bytes(data)


def test_a_header_name_that_is_not_utf_8_is_escaped_and_its_record_is_read():
    odd = [(b"k", b"v", [("a", b"1"), ("zz", b"2"), ("c", None)]), (None, None, []), (b"", b"w", [("zz", None)])]
    data = batch(3, [(b"before", b"1", [])] * 2) + with_odd_header(odd) + batch(8, [(b"behind", b"2", [])])
    found = read(data, 4)
    assert [plain(one) for one in found] == [
        (4, 1001, b"before", b"1", []),
        (5, 1000, b"k", b"v", [("a", b"1"), (r"\xfe\xff", b"2"), ("c", None)]),
        (6, 1001, None, None, []),
        (7, 1002, b"", b"w", [(r"\xfe\xff", None)]),
        (8, 1000, b"behind", b"2", []),
    ]
