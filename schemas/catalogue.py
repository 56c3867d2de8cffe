"""The Avro schemas on disk: the current one of each record type, and every released one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from fastavro.schema import fingerprint, to_parsing_canonical_form

from schemas.topics import TOPICS, TRUSTED

Schema = Mapping[str, Any]
"""An Avro record schema as its JSON says it."""

HERE: Final = Path(__file__).parent
RECORD_TYPES: Final = tuple(dict.fromkeys(name for topic in TOPICS for name in topic.record_types))
"""Every record type, in the order of the topic table."""


class Entry(NamedTuple):
    """One record type as `schemas list` and `schemas show` print it."""

    record_type: str
    version: int
    """The number of the newest released version, counted from 1; 0 before the first release."""
    fingerprint: str
    """CRC-64-AVRO of the current schema, 16 hexadecimal digits, most significant first."""
    topics: tuple[str, ...]
    trusted: bool
    """Internal: it must carry a signature."""
    doc: str
    fields: int
    schema: Schema


def crc64(schema: Schema | str) -> bytes:
    """CRC-64-AVRO of the schema's parsing canonical form: the 8 bytes of a single-object header, little-endian."""
    digest: str = fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
    return bytes.fromhex(digest)


@cache
def current() -> Mapping[str, Schema]:
    """The schema in force of every record type. Raises OSError or ValueError when the installation is damaged."""
    return MappingProxyType({name: _read(HERE / "avsc" / f"{name}.avsc") for name in RECORD_TYPES})


@cache
def released() -> Mapping[str, Mapping[int, Schema]]:
    """Every released schema, by record type and version, versions ascending."""
    found = {name: dict(_versions(HERE / "released" / name)) for name in RECORD_TYPES}
    return MappingProxyType(found)


def catalogue() -> list[Entry]:
    """Every record type with its version, fingerprint, topics and schema, in the order of the topic table."""
    return [
        Entry(
            record_type=name,
            version=max(released()[name], default=0),
            fingerprint=crc64(schema)[::-1].hex(),
            topics=tuple(topic.name for topic in TOPICS if name in topic.record_types),
            trusted=name in TRUSTED,
            doc=schema["doc"],
            fields=len(schema["fields"]),
            schema=schema,
        )
        for name, schema in current().items()
    ]


def _versions(folder: Path) -> Iterator[tuple[int, Schema]]:
    for number in sorted(int(path.stem) for path in folder.glob("*.avsc")):
        yield number, _read(folder / f"{number}.avsc")


def _read(path: Path) -> Schema:
    schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return schema
