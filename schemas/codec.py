"""Records to bytes and back: Avro single-object encoding (C3 01, the schema's CRC-64-AVRO, the body).

Times are integers (epoch milliseconds) on both sides. Whatever released schema wrote a record, it is decoded into
the fields of the current one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from schemas.avro_read import DecodeError, Reader, explain, reader
from schemas.avro_read import picker as pick_fields
from schemas.avro_write import Writer, writer
from schemas.catalogue import Schema, crc64, current, released
from schemas.dead_letters import Reason

__all__ = ["DecodeError", "EncodeError", "decode", "encode", "fingerprint_header", "picker"]

SINGLE_OBJECT: Final = b"\xc3\x01"
CONFLUENT: Final = b"\x00"
_HEADER: Final = 10
"""Bytes before the body: the marker and the fingerprint."""


class EncodeError(ValueError):
    """A value that does not fit its schema; `validate.problem` says the same before, with the field."""


def encode(record_type: str, value: Mapping[str, Any]) -> bytes:
    """The bytes of a record; a missing optional field is null.

    Raises EncodeError for an unknown record type and for a value that does not fit (a wrong type, a missing or
    unknown field). Semantic rules are `validate.problem`'s.
    """
    write = _writers().get(record_type)
    if write is None:
        raise EncodeError(f"unknown record type {record_type!r}: one of {', '.join(_writers())}")
    try:
        return write(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EncodeError(f"{record_type} cannot be encoded: {_why(current()[record_type], value, error)}") from error


def decode(data: bytes | None) -> tuple[str, dict[str, Any]]:
    """The record type and the fields, every field of the current schema present.

    Raises DecodeError, and nothing else, for whatever is not exactly one record.
    """
    if data is None:
        raise DecodeError(Reason.NO_VALUE, "the record has no value: send the encoded event")
    found = _readers().get(data[:_HEADER])
    if found is None:
        raise _unknown(data)
    record_type, read, written = found
    try:
        return record_type, read(data, _HEADER)
    except (IndexError, KeyError, ValueError):
        raise explain(written, data, _HEADER) from None


@cache
def picker(*fields: str) -> Callable[[bytes], tuple[str, tuple[Any, ...]]]:
    """A function from a record to its type and these fields alone, much faster than `decode`.

    For records that were decoded in full before: it checks nothing of what it skips. A field that a type does not have
    is None. The function raises KeyError for an unknown schema.
    """
    picks = {
        header: (name, pick_fields(written, current()[name], fields))
        for header, (name, _, written) in _readers().items()
    }

    def pick(data: bytes) -> tuple[str, tuple[Any, ...]]:
        name, read = picks[data[:_HEADER]]
        return name, read(data, _HEADER)

    return pick


def fingerprint_header(record_type: str) -> bytes:
    """The first 10 bytes of every record that this release writes of a type. Raises KeyError for an unknown type."""
    return SINGLE_OBJECT + crc64(current()[record_type])


def _unknown(data: bytes) -> DecodeError:
    if data[:1] == CONFLUENT and len(data) >= 5:
        return _confluent(data)
    if data[:2] != SINGLE_OBJECT:
        return DecodeError(
            Reason.NOT_AVRO,
            f"the value begins with {data[:2].hex(' ') or 'nothing'}, not c3 01: use single-object encoding",
        )
    if len(data) < _HEADER:
        return DecodeError(Reason.TRUNCATED, f"{len(data)} bytes are shorter than the header of {_HEADER}")
    return DecodeError(
        Reason.UNKNOWN_SCHEMA,
        f"fingerprint {data[2:_HEADER][::-1].hex()} is of no released schema: write with a released .avsc file",
    )


def _confluent(data: bytes) -> DecodeError:
    """Where records framed with a schema registry's id would be read: 00, 4 bytes of id, the same body."""
    number = int.from_bytes(data[1:5], "big")
    return DecodeError(
        Reason.CONFLUENT_FRAMING,
        f"framed with registry id {number}, and no registry is read: use single-object encoding",
    )


@cache
def _readers() -> Mapping[bytes, tuple[str, Reader, Schema]]:
    """The reader of every schema that may have written a record, by the record's first 10 bytes."""
    table: dict[bytes, tuple[str, Reader, Schema]] = {}
    for record_type, now in current().items():
        for written in (*released()[record_type].values(), now):
            table[SINGLE_OBJECT + crc64(written)] = (record_type, reader(written, now), written)
    return table


@cache
def _writers() -> Mapping[str, Writer]:
    return {record_type: writer(schema, fingerprint_header(record_type)) for record_type, schema in current().items()}


def _why(schema: Schema, value: Any, error: Exception) -> str:
    """The field that does not fit; slow, for the refused only."""
    if not isinstance(value, Mapping):
        return f"a mapping of fields was expected, not {value!r}"
    fields = {field["name"]: field for field in schema["fields"]}
    for name in value:
        if name not in fields:
            return f"`{name}` is no field of it"
    for name, field in fields.items():
        if name not in value and "default" not in field:
            return f"`{name}` is missing"
        try:
            writer({"name": name, "fields": [field]}, b"")({name: value[name]} if name in value else {})
        except (KeyError, TypeError, ValueError) as reason:
            return f"`{name}`: {reason}"
    return str(error)
