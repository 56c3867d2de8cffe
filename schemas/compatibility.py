"""FULL_TRANSITIVE compatibility: each current schema reads, and is read by, every released version of its type.

Logs are replayed for years, so old records must decode with today's schema, and consumers built on any released
schema must read what is written today. Checked by `groundswell schemas check` and in the tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fastavro.schema import SchemaParseException, UnknownType, parse_schema

from schemas.avro_read import reader
from schemas.avro_write import writer
from schemas.catalogue import Schema, crc64, current, released
from schemas.topics import TOPICS

_PROMOTES: Final[Mapping[str, frozenset[str]]] = {
    "int": frozenset({"long", "float", "double"}),
    "long": frozenset({"float", "double"}),
    "float": frozenset({"double"}),
    "string": frozenset({"bytes"}),
    "bytes": frozenset({"string"}),
}
"""What a written type may be read as, besides itself (Avro specification, Schema Resolution)."""

_NO_DEFAULT: Final = object()


def check() -> list[str]:
    """What is wrong with the contracts of this installation, a sentence each; empty when all is well."""
    found = []
    for name, schema in current().items():
        versions = released()[name]
        invalid = _invalid(name, schema)
        if invalid:
            found += invalid
            continue
        found += incompatibilities(schema, {f"{name} version {number}": old for number, old in versions.items()})
        found += _housekeeping(name, schema, versions)
    return found


def incompatibilities(schema: Schema, versions: Mapping[str, Schema]) -> list[str]:
    """Why `schema` may not stand beside the released `versions` (by the name to print), a sentence each."""
    found = []
    for label, old in versions.items():
        found += [f"{label} cannot be read with the current schema: {why}" for why in unreadable(old, schema)]
        found += [f"{label} cannot read what is written now: {why}" for why in unreadable(schema, old)]
    return found


def unreadable(written: Any, read: Any, where: str = "") -> Iterator[str]:
    """Why what the schema `written` wrote may not be readable with `read`; `where` is the path to a field."""
    if isinstance(written, list) or isinstance(read, list):
        yield from _unions(_branches(written), _branches(read), where)
        return
    kind, wanted = _kind(written), _kind(read)
    if kind != wanted:
        if wanted not in _PROMOTES.get(kind, ()):
            yield f"{where or 'the schema'} is written as {kind} and read as {wanted}; keep the type, or add a field"
        return
    if kind in ("record", "enum", "fixed") and _full_name(written) != _full_name(read):
        yield f"{where or 'the schema'} is named {_full_name(written)} there and {_full_name(read)} here; keep the name"
    match kind:
        case "record":
            yield from _records(written, read, where)
        case "enum":
            yield from _enums(written, read, where)
        case "map" | "array":
            part = "values" if kind == "map" else "items"
            yield from unreadable(written[part], read[part], f"{where}[]")
        case "fixed" if written["size"] != read["size"]:
            yield f"{where} is {written['size']} bytes there and {read['size']} here; keep the size"
    if _logical(written) != _logical(read):
        yield f"{where} means {_logical(written)} there and {_logical(read)} here; keep the meaning, or add a field"


def _records(written: Schema, read: Schema, where: str) -> Iterator[str]:
    fields = {field["name"]: field for field in written["fields"]}
    for field in read["fields"]:
        path = f"{where}.{field['name']}" if where else f"`{field['name']}`"
        old = fields.get(field["name"])
        if old is not None:
            yield from unreadable(old["type"], field["type"], path)
        elif field.get("default", _NO_DEFAULT) is _NO_DEFAULT:
            yield f"{path} is not written and has no default; only a field with a default may be added or removed"


def _enums(written: Schema, read: Schema, where: str) -> Iterator[str]:
    lost = [symbol for symbol in written["symbols"] if symbol not in read["symbols"]]
    if lost and "default" not in read:
        yield f"{where} may hold {', '.join(lost)}, which is not among the symbols read; add a new record type or field"


def _unions(written: list[Any], read: list[Any], where: str) -> Iterator[str]:
    for branch in written:
        if not any(_fits(branch, other, where) for other in read):
            if len(read) == 1 and _kind(branch) == "null":
                yield f"{where} may be null, and null is not read; keep it nullable on both sides, or add a field"
            elif len(read) == 1 or len([other for other in read if _kind(other) == _kind(branch)]) == 1:
                same = next((other for other in read if _kind(other) == _kind(branch)), read[0])
                yield from unreadable(branch, same, where)
            else:
                kinds = ", ".join(_kind(other) for other in read)
                yield f"{where} may be {_kind(branch)}, which is none of {kinds}; keep the type, or add a field"


def _fits(written: Any, read: Any, where: str) -> bool:
    return next(unreadable(written, read, where), None) is None


def _invalid(name: str, schema: Schema) -> list[str]:
    """Why this is no Avro schema, before anything is compared with it: names, defaults and types."""
    names = [field["name"] for field in schema["fields"]]
    wrong = [
        f"{name}: `{twice}` is there twice; remove or rename one of them"
        for twice in sorted({field for field in names if names.count(field) > 1})
    ]
    for field in schema["fields"]:
        if "default" in field and not _default_fits(field):
            given = f"`{field['name']}` has the default {field['default']!r}"
            wrong.append(f"{name}: {given}, which is not of its type; give one that is")
    if wrong:
        return wrong
    try:
        parse_schema(dict(schema))
    except UnknownType as error:
        return [f"{name} uses the unknown type {error}; name a type of Avro"]
    except SchemaParseException as error:
        return [f"{name} is no Avro schema: {error}"]
    return []


def _default_fits(field: Mapping[str, Any]) -> bool:
    """Whether the codec writes the default; for a nullable field it is null, the first branch of the union."""
    if isinstance(field["type"], list) and field["type"][0] == "null":
        return field["default"] is None
    try:
        write = writer({"name": "default", "fields": [field]}, b"")
    except ValueError:
        return True  # a type outside of the contracts, which the housekeeping tells
    try:
        write({})
    except (AttributeError, KeyError, TypeError, ValueError):
        return False
    return True


def _housekeeping(name: str, schema: Schema, versions: Mapping[int, Schema]) -> Iterator[str]:
    """What resolution does not tell: documentation, order of versions, and that the codec handles the schema."""
    if schema["name"] != name:
        yield f"avsc/{name}.avsc holds a schema named {schema['name']}; rename one of them"
    if list(versions) != list(range(1, len(versions) + 1)):
        yield f"{name} has released versions {list(versions)}; number them from 1 without a gap"
    if crc64(schema) not in {crc64(old) for old in versions.values()}:
        yield f"{name} is not released as it stands; copy it to released/{name}/{len(versions) + 1}.avsc"
    if not any(name in topic.record_types for topic in TOPICS):
        yield f"{name} is on no topic; name it in the table of topics"
    for field in schema["fields"]:
        if not field.get("doc"):
            yield f"{name}: `{field['name']}` has no doc; say what it means, and its unit"
    try:
        writer(schema, b"")
        for old in versions.values():
            reader(old, schema)
    except (KeyError, ValueError) as error:
        yield f"{name}: {error}"


def _branches(avro: Any) -> list[Any]:
    return avro if isinstance(avro, list) else [avro]


def _kind(avro: Any) -> str:
    kind: str = avro["type"] if isinstance(avro, Mapping) else avro
    return kind


def _logical(avro: Any) -> str:
    return str(avro.get("logicalType", "a plain value")) if isinstance(avro, Mapping) else "a plain value"


def _full_name(avro: Schema) -> str:
    return f"{avro['namespace']}.{avro['name']}" if "namespace" in avro else str(avro["name"])
