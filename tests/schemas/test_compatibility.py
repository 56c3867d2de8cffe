"""FULL_TRANSITIVE compatibility, tried on changes that break it and on such that do not."""

from __future__ import annotations

import copy
import json
import shutil
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import catalogue
from schemas.catalogue import current
from schemas.compatibility import check, incompatibilities, unreadable

OLD = dict(current()["Interaction"])


def changed(**fields: Any) -> dict[str, Any]:
    """The Interaction schema with other types of fields; None removes one."""
    schema = copy.deepcopy(OLD)
    schema["fields"] = [
        {**field, **({"type": fields[field["name"]]} if field["name"] in fields else {})}
        for field in schema["fields"]
        if fields.get(field["name"], ...) is not None
    ]
    return schema


def added(**field: Any) -> dict[str, Any]:
    schema = copy.deepcopy(OLD)
    schema["fields"].append(field)
    return schema


def enum(*symbols: str, **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": "InteractionSurface", "symbols": list(symbols), **more}


def found(schema: dict[str, Any]) -> list[str]:
    return incompatibilities(schema, {"Interaction version 1": OLD})


@pytest.mark.parametrize(
    "schema",
    [
        OLD,
        {**OLD, "doc": "Other words."},
        added(name="note", type=["null", "string"], default=None),
        added(name="weight", type="long", default=1),
        changed(post_id=None),
    ],
)
def test_a_change_that_keeps_both_directions_readable_is_allowed(schema):
    assert found(schema) == []


BREAKING = [
    (added(name="note", type="string"), "version 1 cannot be read with the current schema: `note` is not written"),
    (changed(platform=None), "version 1 cannot read what is written now: `platform` is not written and has no default"),
    (changed(quantity="string"), "`quantity` is written as long and read as string; keep the type"),
    (changed(quantity="int"), "cannot be read with the current schema: `quantity` is written as long and read as int"),
    (changed(quantity="double"), "cannot read what is written now: `quantity` is written as double and read as long"),
    (changed(post_id=["null", "long"]), "`post_id` may be string, which is none of null, long; keep the type"),
    (changed(post_id="string"), "`post_id` may be null, and null is not read"),
    (changed(platform=["null", "string"]), "version 1 cannot read what is written now: `platform` may be null"),
    (
        changed(surface=enum("member_post", "brand_post", "story")),
        "cannot read what is written now: `surface` may hold story",
    ),
    (changed(surface=enum("member_post")), "cannot be read with the current schema: `surface` may hold brand_post"),
    (changed(surface="string"), "`surface` is written as enum and read as string"),
    (changed(occurred_at="long"), "`occurred_at` means timestamp-millis there and a plain value here"),
    (
        changed(occurred_at={"type": "long", "logicalType": "timestamp-micros"}),
        "`occurred_at` means timestamp-millis there and timestamp-micros here",
    ),
    (
        {**OLD, "name": "Activity"},
        "is named groundswell.Interaction there and groundswell.Activity here; keep the name",
    ),
    ({**OLD, "namespace": "other"}, "is named groundswell.Interaction there and other.Interaction here"),
    (changed(kind={**OLD["fields"][5]["type"], "name": "Kind"}), "`kind` is named"),
]


@pytest.mark.parametrize(("schema", "sentence"), BREAKING)
def test_a_breaking_change_is_told_in_a_sentence(schema, sentence):
    assert any(sentence in line for line in found(schema)), found(schema)


def test_an_enum_with_a_default_reads_symbols_that_it_does_not_know():
    wide, narrow = enum("a", "b", "c"), enum("a", "b", default="a")
    assert list(unreadable(wide, narrow, "`surface`")) == []


def test_every_released_version_counts_and_not_the_newest_alone():
    versions = {"version 1": OLD, "version 2": changed(post_id=None)}
    schema = added(name="note", type="string")
    assert {line.split(" cannot")[0] for line in incompatibilities(schema, versions)} == {"version 1", "version 2"}


PLAIN = ["int", "long", "string", "boolean", ["null", "long"], ["null", "string"], {"type": "map", "values": "long"}]
FIELD = st.fixed_dictionaries(
    {"name": st.sampled_from("abc"), "type": st.sampled_from(PLAIN)}, optional={"default": st.just("given")}
)
SCHEMA = st.lists(FIELD, min_size=1, max_size=3, unique_by=lambda field: field["name"])
DEFAULTS = {"int": 1, "long": 2, "string": "s", "boolean": True}


def record(fields: list[dict[str, Any]]) -> dict[str, Any]:
    def whole(field: dict[str, Any]) -> dict[str, Any]:
        avro = field["type"]
        default = {} if isinstance(avro, dict) else None if isinstance(avro, list) else DEFAULTS[avro]
        return {**field, "default": default} if "default" in field else field

    return {"type": "record", "name": "R", "fields": [whole(field) for field in fields]}


def samples(avro: Any) -> list[Any]:
    if isinstance(avro, list):
        return [None, *samples(avro[1])]
    return [{"k": 1}] if isinstance(avro, dict) else [DEFAULTS[avro]]


@given(SCHEMA, SCHEMA)
def test_the_check_agrees_with_what_fastavro_can_resolve(old, new):
    """The oracle writes each kind of value with one schema and reads it with the other."""
    written, read = record(old), record(new)
    readable = True
    for turn in range(2):
        value = {field["name"]: samples(field["type"])[turn % len(samples(field["type"]))] for field in old}
        try:
            fastavro.schemaless_reader(_written(written, value), fastavro.parse_schema(written), _parsed(read))
        except Exception:
            readable = False
    assert (next(unreadable(written, read), None) is None) == readable


def _parsed(schema: dict[str, Any]) -> Any:
    return fastavro.parse_schema(copy.deepcopy(schema))


def _written(schema: dict[str, Any], value: dict[str, Any]) -> Any:
    from io import BytesIO

    out = BytesIO()
    fastavro.schemaless_writer(out, _parsed(schema), value)
    out.seek(0)
    return out


def tampered(folder, monkeypatch, change) -> list[str]:
    """What `check` says of a copy of the contracts after `change(folder)`."""
    shutil.copytree(catalogue.HERE / "avsc", folder / "avsc")
    shutil.copytree(catalogue.HERE / "released", folder / "released")
    change(folder)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(catalogue, "HERE", folder)
            catalogue.current.cache_clear()
            catalogue.released.cache_clear()
            return check()
    finally:
        catalogue.current.cache_clear()
        catalogue.released.cache_clear()


def test_the_check_finds_what_was_changed_and_not_released(tmp_path, monkeypatch):
    def change(folder):
        path = folder / "avsc" / "Purchase.avsc"
        schema = json.loads(path.read_text())
        schema["fields"].append({"name": "note", "type": ["null", "string"], "default": None})
        path.write_text(json.dumps(schema))

    assert tampered(tmp_path / "c", monkeypatch, change) == [
        "Purchase is not released as it stands; copy it to released/Purchase/2.avsc",
        "Purchase: `note` has no doc; say what it means, and its unit",
    ]


def test_the_check_finds_a_gap_in_the_versions(tmp_path, monkeypatch):
    def change(folder):
        shutil.copy(folder / "avsc" / "Purchase.avsc", folder / "released" / "Purchase" / "3.avsc")

    expected = ["Purchase has released versions [1, 3]; number them from 1 without a gap"]
    assert tampered(tmp_path / "c", monkeypatch, change) == expected


def test_the_check_finds_a_type_that_the_codec_does_not_handle(tmp_path, monkeypatch):
    def change(folder):
        for path in (folder / "avsc" / "Purchase.avsc", folder / "released" / "Purchase" / "1.avsc"):
            schema = json.loads(path.read_text())
            schema["fields"].append({"name": "rate", "type": "double", "doc": "A rate."})
            path.write_text(json.dumps(schema))

    assert tampered(tmp_path / "c", monkeypatch, change) == ["Purchase: the contracts do not use the Avro type double"]


LONG_DEFAULT = "which is not of its type; give one that is"


@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        ({"name": "weight", "type": "long", "default": "1"}, f"Purchase: `weight` has the default '1', {LONG_DEFAULT}"),
        (
            {"name": "weight", "type": "long", "default": True},
            f"Purchase: `weight` has the default True, {LONG_DEFAULT}",
        ),
        (
            {"name": "weight", "type": "long", "default": None},
            f"Purchase: `weight` has the default None, {LONG_DEFAULT}",
        ),
        ({"name": "weight", "type": "int", "default": 2**31}, f"`weight` has the default {2**31}, {LONG_DEFAULT}"),
        ({"name": "tags", "type": {"type": "map", "values": "long"}, "default": 5}, "`tags` has the default 5"),
        ({"name": "note", "type": ["null", "long"], "default": 5}, f"`note` has the default 5, {LONG_DEFAULT}"),
        ({"name": "weight", "type": "lnog", "default": 1}, "Purchase uses the unknown type groundswell.lnog"),
        ({"name": "kind", "type": "long", "default": 1}, "Purchase: `kind` is there twice; remove or rename"),
    ],
)
def test_the_check_tells_a_schema_that_is_no_avro_in_a_sentence(tmp_path, monkeypatch, field, sentence):
    def change(folder):
        path = folder / "avsc" / "Purchase.avsc"
        schema = json.loads(path.read_text())
        schema["fields"].append({"doc": "Something.", **field})
        path.write_text(json.dumps(schema))

    (found,) = tampered(tmp_path / "c", monkeypatch, change)
    assert sentence in found
