"""The wire format: what is written is read back, and nothing that is malformed is taken for a record."""

from __future__ import annotations

import copy
import json
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from record_values import ANY_RECORD

from schemas import avro_read, avro_write, codec
from schemas.catalogue import RECORD_TYPES, crc64, current
from schemas.codec import DecodeError, EncodeError, decode, encode
from schemas.dead_letters import Reason

GOLDEN = Path(codec.__file__).parent / "golden"
LIKE = json.loads((GOLDEN / "Interaction.1.json").read_text())
LIKE_BYTES = (GOLDEN / "Interaction.1.avro").read_bytes()
EVOLVING = {
    "type": "record",
    "name": "Note",
    "namespace": "groundswell",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "kind", "type": {"type": "enum", "name": "NoteKind", "symbols": ["a", "b", "gone"], "default": "a"}},
        {"name": "size", "type": "int"},
        {"name": "extra", "type": ["null", "string"], "default": None},
    ],
}


def without_logical_types(schema: Any) -> Any:
    """The same schema with times as plain longs, so that fastavro gives and takes integers."""
    if isinstance(schema, dict):
        return {key: without_logical_types(item) for key, item in schema.items() if key != "logicalType"}
    return [without_logical_types(item) for item in schema] if isinstance(schema, list) else schema


def plainly_written(record_type: str, value: dict[str, Any]) -> bytes:
    """The oracle: fastavro's own writer."""
    out = BytesIO()
    out.write(b"\xc3\x01" + crc64(current()[record_type]))
    fastavro.schemaless_writer(out, fastavro.parse_schema(without_logical_types(current()[record_type])), value)
    return out.getvalue()


def plainly_read(record_type: str, data: bytes) -> dict[str, Any]:
    """The oracle: fastavro's own reader."""
    schema = fastavro.parse_schema(without_logical_types(current()[record_type]))
    return fastavro.schemaless_reader(BytesIO(data[10:]), schema, None)


@given(ANY_RECORD)
def test_what_was_encoded_is_decoded_unchanged(record):
    assert decode(encode(*record)) == record


@given(ANY_RECORD)
def test_fastavro_writes_the_same_bytes_and_reads_the_same_values(record):
    record_type, value = record
    data = encode(record_type, value)
    assert data == plainly_written(record_type, value)
    assert plainly_read(record_type, data) == value


def decoded(data: bytes) -> tuple[str, dict[str, Any]] | None:
    try:
        return decode(data)
    except DecodeError as error:
        refused = error
    assert isinstance(refused.reason, Reason)
    assert refused.detail
    return None


@given(st.binary(max_size=200))
@example(b"")
@example(b"\xc3")
def test_random_bytes_raise_nothing_but_decode_errors(data):
    assert decoded(data) is None


@given(st.sampled_from(RECORD_TYPES), st.binary(max_size=200))
def test_random_bodies_are_refused_or_mean_what_fastavro_reads(record_type, body):
    data = codec.fingerprint_header(record_type) + body
    found = decoded(data)
    assert found is None or found == (record_type, plainly_read(record_type, data))


@given(ANY_RECORD, st.data())
def test_mutated_records_are_refused_or_are_records_again(record, data):
    mutated = bytearray(encode(*record))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutated)))
        change = data.draw(st.sampled_from(["flip", "cut", "insert"]))
        if change == "flip" and at < len(mutated):
            mutated[at] = data.draw(st.integers(0, 255))
        elif change == "cut":
            del mutated[at : at + data.draw(st.integers(1, 12))]
        else:
            mutated[at:at] = data.draw(st.binary(min_size=1, max_size=11))
    found = decoded(bytes(mutated))
    assert found is None or decode(encode(*found)) == found


@given(ANY_RECORD)
def test_every_cut_off_record_is_refused(record):
    data = encode(*record)
    assert all(decoded(data[:size]) is None for size in range(len(data)))


@pytest.mark.parametrize(
    ("data", "reason", "detail"),
    [
        (None, Reason.NO_VALUE, "no value"),
        (b"", Reason.NOT_AVRO, "begins with nothing"),
        (b'{"event_id": 1}', Reason.NOT_AVRO, "begins with 7b 22"),
        (b"\x00\x00\x00\x00\x07abc", Reason.CONFLUENT_FRAMING, "registry id 7"),
        (b"\x00abc", Reason.NOT_AVRO, "begins with 00 61"),
        (b"\xc3\x01abc", Reason.TRUNCATED, "5 bytes"),
        (b"\xc3\x01" + bytes(range(1, 9)), Reason.UNKNOWN_SCHEMA, "fingerprint 0807060504030201"),
        (LIKE_BYTES[:-1], Reason.TRUNCATED, "`followers`"),
        (LIKE_BYTES + b"\x00", Reason.TRAILING_BYTES, "1 bytes follow"),
        (LIKE_BYTES.replace(b"\x08acme", b"\x08ac\xff\xfe"), Reason.BAD_TEXT, "`brand_id`"),
        (LIKE_BYTES.replace(b"\x08acme", b"\x07acme"), Reason.TRUNCATED, "a text of -4 bytes"),
        (LIKE_BYTES[:10] + b"\xfe" * 9 + b"\x01", Reason.TRUNCATED, "`event_id`"),
        (LIKE_BYTES[:10] + b"\xff" * 12, Reason.BAD_NUMBER, "`event_id`"),
        (LIKE_BYTES.replace(b"\x0cm-1042\x00\x00", b"\x0cm-1042\x04\x00"), Reason.BAD_CHOICE, "`surface`"),
        (LIKE_BYTES.replace(b"\x0cm-1042\x00\x00", b"\x0cm-1042\x00\x01"), Reason.BAD_CHOICE, "`kind`"),
        (LIKE_BYTES.replace(b"instagram\x02", b"instagram\x01"), Reason.BAD_CHOICE, "`post_id`"),
    ],
)
def test_malformed_input_is_refused_with_its_reason_and_the_field(data, reason, detail):
    with pytest.raises(DecodeError) as refused:
        decode(data)
    assert refused.value.reason == reason
    assert detail in refused.value.detail


def test_a_map_that_claims_more_entries_than_bytes_is_refused_at_once():
    pane = json.loads((GOLDEN / "EngagementPane.1.json").read_text())
    data = encode("EngagementPane", {**pane, "counters": {}})[:-1]
    with pytest.raises(DecodeError, match="truncated"):
        decode(data + avro_write._varint(2 * 2**60))


def test_a_map_in_several_blocks_with_their_sizes_is_read():
    pane = json.loads((GOLDEN / "EngagementPane.1.json").read_text())
    data = encode("EngagementPane", {**pane, "counters": {}})[:-1]
    assert decode(data + b"\x01\x06\x02a\x04\x02\x02b\x06\x00")[1]["counters"] == {"a": 2, "b": 3}


@pytest.mark.parametrize("wrong", [1.5, True, "3", None, 2**63, -(2**63) - 1])
def test_a_number_that_is_not_a_whole_one_is_not_encoded(wrong):
    with pytest.raises(EncodeError, match="`quantity`"):
        encode("Interaction", {**LIKE, "quantity": wrong})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({**LIKE, "kind": "lik"}, "`kind`: one of like, comment"),
        ({**LIKE, "brand_id": None}, "`brand_id`"),
        ({**LIKE, "brand_id": "\ud800"}, "`brand_id`"),
        ({**LIKE, "brnd_id": "acme"}, "`brnd_id` is no field"),
        ({name: item for name, item in LIKE.items() if name != "surface"}, "`surface` is missing"),
        ([], "a mapping of fields was expected"),
        (None, "a mapping of fields was expected"),
    ],
)
def test_a_value_that_does_not_fit_is_not_encoded_and_its_field_is_named(value, message):
    with pytest.raises(EncodeError, match=message):
        encode("Interaction", value)


def test_an_unknown_record_type_is_not_encoded():
    with pytest.raises(EncodeError, match="unknown record type 'Like': one of Interaction"):
        encode("Like", LIKE)


def test_optional_fields_may_be_left_out():
    short = {name: item for name, item in LIKE.items() if item is not None}
    assert decode(encode("Interaction", short)) == ("Interaction", {**LIKE})


def test_the_fingerprint_is_that_of_the_avro_specification():
    assert crc64("int").hex() == (0x7275D51A3F395C8F).to_bytes(8, "little").hex()


def test_an_older_schemas_record_is_read_into_todays_fields():
    now = copy.deepcopy(EVOLVING)
    now["fields"][1]["type"]["symbols"] = ["b", "a"]
    now["fields"][2]["type"] = "long"
    now["fields"][3] = {"name": "tags", "type": {"type": "map", "values": "long"}, "default": {}}
    data = avro_write.writer(EVOLVING, b"")({"id": "x", "kind": "gone", "size": -70, "extra": "dropped"})
    read = avro_read.reader(EVOLVING, now)
    assert read(data, 0) == {"id": "x", "kind": "a", "size": -70, "tags": {}}
    assert read(data, 0)["tags"] is not read(data, 0)["tags"]


def test_a_symbol_that_is_no_more_and_has_no_default_is_refused():
    now = copy.deepcopy(EVOLVING)
    now["fields"][1]["type"] = {"type": "enum", "name": "NoteKind", "symbols": ["a", "b"]}
    data = avro_write.writer(EVOLVING, b"")({"id": "x", "kind": "gone", "size": 1})
    with pytest.raises(KeyError):
        avro_read.reader(EVOLVING, now)(data, 0)
    assert avro_read.explain(EVOLVING, data, 0).reason == Reason.BAD_CHOICE


def test_every_released_version_is_decoded_with_the_installed_catalogue(tmp_path, monkeypatch):
    """A released version 1 beside a newer current schema, through the public functions."""
    from schemas import catalogue

    folder = tmp_path / "schemas"
    shutil.copytree(catalogue.HERE / "avsc", folder / "avsc")
    shutil.copytree(catalogue.HERE / "released", folder / "released")
    newer = json.loads((folder / "avsc" / "Enrolment.avsc").read_text())
    newer["fields"].append({"name": "note", "type": ["null", "string"], "default": None, "doc": "A note."})
    (folder / "avsc" / "Enrolment.avsc").write_text(json.dumps(newer))
    old = (GOLDEN / "Enrolment.1.avro").read_bytes()
    caches = [catalogue.current, catalogue.released, codec._readers, codec._writers]
    try:
        with monkeypatch.context() as patch:
            patch.setattr(catalogue, "HERE", folder)
            [cached.cache_clear() for cached in caches]
            record_type, value = decode(old)
            assert value == {**json.loads((GOLDEN / "Enrolment.1.json").read_text()), "note": None}
            assert encode(record_type, value)[:10] != old[:10]
            assert decode(encode(record_type, {**value, "note": "n"}))[1]["note"] == "n"
    finally:
        [cached.cache_clear() for cached in caches]


@pytest.mark.parametrize("golden", sorted(GOLDEN.glob("*.avro")), ids=lambda path: path.stem)
def test_a_picker_reads_the_same_fields_as_the_whole_reader(golden):
    data = golden.read_bytes()
    kind, value = codec.decode(data)
    written = list(value)
    for wanted in ((), tuple(written), (written[-1], written[0]), tuple(written[1::2]), ("no_such_field", written[0])):
        assert codec.picker(*wanted)(data) == (kind, tuple(value.get(name) for name in wanted))
