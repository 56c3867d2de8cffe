"""Decoding and checking an Interaction: the reader generated from its schema beside fastavro's.

Both start from the bytes on the log, find the schema by fingerprint, answer plain values (times stay integers, which
fastavro does for a schema without logical types, its faster way) and check every rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import Any, Final

import fastavro

from benchmarks.contest import Contest, rate
from benchmarks.feed import Feed
from schemas.catalogue import current
from schemas.codec import decode, fingerprint_header
from schemas.validate import problem

RECORDS: Final = 20_000


def contest(feed: Feed) -> Contest:
    """20,000 interactions a run."""
    values = feed.interactions[:RECORDS]
    fingerprints = {fingerprint_header(name): (name, _plain_schema(name)) for name in current()}

    def ours(data: bytes) -> bool:
        record_type, value = decode(data)
        return problem(record_type, value) is None

    def fastavros(data: bytes) -> bool:
        record_type, schema = fingerprints[data[:10]]
        stream = BytesIO(data)
        stream.seek(10)
        return problem(record_type, fastavro.schemaless_reader(stream, schema, None)) is None

    return Contest(
        "decode and validate an Interaction",
        "schemas.codec: a reader generated from the schema",
        "fastavro.schemaless_reader",
        "records/s",
        lambda: rate(len(values), lambda: _all_good(ours, values)),
        lambda: rate(len(values), lambda: _all_good(fastavros, values)),
    )


def _all_good(read: Callable[[bytes], bool], values: Sequence[bytes]) -> None:
    for data in values:
        if not read(data):
            raise AssertionError(f"a good interaction was refused: {data!r}")


def _plain_schema(record_type: str) -> Any:
    return fastavro.parse_schema(_without_logical_types(current()[record_type]))


def _without_logical_types(avro: Any) -> Any:
    if isinstance(avro, list):
        return [_without_logical_types(item) for item in avro]
    if isinstance(avro, Mapping):
        return {key: _without_logical_types(item) for key, item in avro.items() if key != "logicalType"}
    return avro
