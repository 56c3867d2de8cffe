"""Input files: every line comes out once, as a record or as a refusal that says what to do."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path

import pytest
from fastavro import parse_schema, writer
from hypothesis import given
from hypothesis import strategies as st

from schemas.catalogue import current
from service.feeds.reading import InputError, Line, Refused, instant, load_mapping, read, rows

NOW = 1_772_366_400_000  # 2026-03-01T12:00:00Z
PURCHASE = {
    "event_id": "e1",
    "occurred_at": "2026-03-01T12:00:00Z",
    "brand_id": "acme",
    "member_id": "m1",
    "order_id": "o1",
    "kind": "completed",
    "amount_minor": 1250,
    "currency": "EUR",
}
RECORD = {**PURCHASE, "occurred_at": NOW, "campaign_id": None, "referrer_id": None}


def written(folder: Path, name: str, *lines: object) -> Path:
    path = folder / name
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines), "utf-8")
    return path


def purchases(path: Path | str, mapping: dict | None = None) -> list[Line | Refused]:
    return list(read(path, "Purchase", mapping, now_ms=NOW))


def only_refusal(path: Path, mapping: dict | None = None) -> Refused:
    (found,) = purchases(path, mapping)
    assert isinstance(found, Refused), found
    return found


def test_a_json_line_becomes_a_record_with_every_field(tmp_path):
    assert purchases(written(tmp_path, "p.jsonl", PURCHASE)) == [Line(1, "Purchase", RECORD)]


def test_lines_keep_their_numbers_across_empty_and_refused_ones(tmp_path):
    found = purchases(written(tmp_path, "p.jsonl", PURCHASE, "", "{", PURCHASE))
    assert [(type(item), item.number) for item in found] == [(Line, 1), (Refused, 3), (Line, 4)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{not json}", "not JSON"),
        (b"[1, 2]", "a list, not a JSON object"),
        (b"12", "a number, not a JSON object"),
        (b"null", "null, not a JSON object"),
        (b'{"a": "\xff"}', "byte 8 of the line is not UTF-8"),
        (b'{"a": 1, "a": 2}', "`a` stands twice"),
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"1" * 5_000 + b"}", "not JSON that can be read"),
    ],
)
def test_what_is_no_json_object_is_refused_as_it_stood(tmp_path, line, reason):
    path = tmp_path / "p.jsonl"
    path.write_bytes(line + b"\n")
    refused = only_refusal(path)
    assert (refused.number, refused.raw) == (1, line)
    assert reason in refused.reason
    assert "\n" not in refused.reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"member_id": None}, "`member_id` is missing"),
        ({"amount_minor": -1}, "`amount_minor` is -1"),
        ({"amount_minor": 12.5}, "`amount_minor` is 12.5"),
        ({"amount_minor": "1250"}, "`amount_minor` is '1250'"),
        ({"amount_minor": True}, "`amount_minor` is True"),
        ({"colour": "red"}, "`colour` is no field"),
        ({"kind": "bought"}, "one of completed, refunded"),
        ({"occurred_at": "2026-03-01T12:00:00"}, "has no zone"),
        ({"occurred_at": "2026-03-01"}, "has no zone"),
        ({"occurred_at": "yesterday"}, "is not a time"),
        ({"occurred_at": 1772366400.5}, "`occurred_at` is 1772366400.5"),
        ({"occurred_at": "9" * 30}, "out of range"),
        ({"occurred_at": NOW + 86_400_001}, "more than a day in the future"),
    ],
)
def test_a_record_that_breaks_a_rule_is_refused_with_the_field(tmp_path, change, reason):
    assert reason in only_refusal(written(tmp_path, "p.jsonl", {**PURCHASE, **change})).reason


@pytest.mark.parametrize(
    "time", [NOW, str(NOW), "2026-03-01T12:00:00Z", "2026-03-01T13:00:00+01:00", "2026-03-01 12:00:00.000999Z"]
)
def test_times_are_iso_8601_with_zone_or_epoch_milliseconds(tmp_path, time):
    assert purchases(written(tmp_path, "p.jsonl", {**PURCHASE, "occurred_at": time})) == [Line(1, "Purchase", RECORD)]


def test_a_day_ahead_of_now_is_still_taken(tmp_path):
    assert isinstance(purchases(written(tmp_path, "p.jsonl", {**PURCHASE, "occurred_at": NOW + 86_400_000}))[0], Line)


def test_csv_numbers_are_read_strictly_and_empty_cells_are_absent(tmp_path):
    header = "event_id,occurred_at,brand_id,member_id,order_id,kind,amount_minor,currency,referrer_id"
    good = "e1,2026-03-01T12:00:00Z,acme,m1,o1,completed,1250,EUR,"
    bad = [good.replace("1250", amount) for amount in ("12.5", "1_250", " 1250", "+1250", "")]
    found = purchases(written(tmp_path, "p.csv", header, good, *bad))
    assert found[0] == Line(2, "Purchase", RECORD)
    assert [item.raw.decode() for item in found[1:]] == bad
    assert all("amount_minor" in item.reason for item in found[1:])


def test_csv_refusals_keep_the_bytes_and_the_line_they_begin_on(tmp_path):
    path = tmp_path / "p.csv"
    header = b"event_id,occurred_at,brand_id,member_id,kind,amount_minor,currency\r\n"
    refund = b"e%d,1772366400000,acme,m1,refunded,5,EUR\r\n"
    broken = [b'"e\n2",x\r\n', b"e3,\xff,acme,m1,refunded,5,EUR\r\n", b'"e"4,1,a,m,refunded,5,EUR\r\n']
    path.write_bytes(b"\xef\xbb\xbf" + header + refund % 1 + b"".join(broken) + b"\r\n" + refund % 5)
    found = purchases(path)
    assert [(type(item), item.number) for item in found] == [
        (Line, 2), (Refused, 3), (Refused, 5), (Refused, 6), (Line, 8)
    ]  # fmt: skip
    assert [item.raw for item in found[1:4]] == [line.removesuffix(b"\r\n") for line in broken]
    assert ["2 cells under 7 columns" in found[1].reason, "UTF-8" in found[2].reason, "CSV" in found[3].reason] == [
        True
    ] * 3


@given(
    st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"\n", b"")), max_size=8), st.sampled_from(["csv", "jsonl"])
)
def test_no_line_of_a_file_is_lost_whatever_stands_in_it(tmp_path_factory, lines, ending):
    path = tmp_path_factory.mktemp("any") / f"p.{ending}"
    path.write_bytes(b"member_id,kind\n" + b"\n".join(lines))
    found = purchases(path)
    assert all(isinstance(item, Refused) and item.reason for item in found)
    kept = b"".join(item.raw for item in found)
    wanted = (
        b"".join(lines) if ending == "csv" else b"member_id,kind" + b"".join(line for line in lines if line.strip())
    )
    strip = bytes.maketrans(b"", b"")
    assert kept.translate(strip, b"\r\n") == wanted.translate(strip, b"\r\n")


def test_a_mapping_renames_columns_adds_constants_and_leaves_the_rest_out(tmp_path):
    path = written(tmp_path, "p.csv", "id,when,who,cents,shop", "e1,1772366400000,m1,1250,berlin")
    columns = {"event_id": "id", "order_id": "id", "occurred_at": "when", "member_id": "who", "amount_minor": "cents"}
    mapping = {**columns, "constants": {"brand_id": "acme", "kind": "completed", "currency": "EUR"}}
    assert purchases(path, mapping) == [Line(2, "Purchase", {**RECORD, "order_id": "e1"})]


def test_without_a_mapping_a_column_that_is_no_field_is_refused(tmp_path):
    path = written(tmp_path, "p.csv", "event_id,shop", "e1,berlin")
    assert "`shop` is no field" in only_refusal(path).reason


def test_a_refusal_names_the_column_that_the_mapping_took_the_field_from(tmp_path):
    path = written(tmp_path, "p.jsonl", {**PURCHASE, "amount_minor": None, "cents": -3}, PURCHASE)
    negative, absent = purchases(path, {"amount_minor": "cents"})
    assert "(from `cents`)" in negative.reason
    assert "which this line does not have" in absent.reason


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"amount": "cents"}, "`amount` is no field of Purchase"),
        ({"amount_minor": 3}, "must name a column"),
        ({"constants": ["EUR"]}, "`constants` must be"),
        ({"currency": "c", "constants": {"currency": "EUR"}}, "both a column and a constant"),
        ({"currency": "nowhere"}, "column `nowhere`, which is not there"),
    ],
)
def test_a_mapping_that_cannot_work_ends_the_reading_before_it_begins(tmp_path, mapping, message):
    with pytest.raises(InputError, match=message):
        read(written(tmp_path, "p.csv", "event_id,cents", "e1,5"), "Purchase", mapping, now_ms=NOW)


def test_a_mapping_is_loaded_from_yaml(tmp_path):
    assert load_mapping(written(tmp_path, "m.yaml", "member_id: who", "constants: {brand_id: acme}")) == {
        "member_id": "who",
        "constants": {"brand_id": "acme"},
    }
    for bad in ("[1", "just text"):
        with pytest.raises(InputError, match=r"bad\.yaml"):
            load_mapping(written(tmp_path, "bad.yaml", bad))
    with pytest.raises(InputError, match="No such file"):
        load_mapping(tmp_path / "none.yaml")


def test_gzip_is_unpacked_whatever_the_name(tmp_path):
    for name in ("p.jsonl.gz", "p.jsonl"):
        (tmp_path / name).write_bytes(gzip.compress(json.dumps(PURCHASE).encode()))
        assert purchases(tmp_path / name) == [Line(1, "Purchase", RECORD)]


def test_standard_input_is_json_lines(tmp_path, monkeypatch):
    with written(tmp_path, "in", PURCHASE).open("rb") as stream:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(stream)))
        assert purchases("-") == [Line(1, "Purchase", RECORD)]


@pytest.mark.parametrize("name", ["p.avro", "p.avro.gz", "p"])
def test_an_avro_container_is_read_with_its_datetimes(tmp_path, name):
    out = io.BytesIO()
    bad = {**RECORD, "amount_minor": -5}
    writer(out, parse_schema(json.loads(json.dumps(current()["Purchase"]))), [RECORD, bad], codec="deflate")
    data = out.getvalue()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    good, refused = purchases(tmp_path / name)
    assert good == Line(1, "Purchase", RECORD)
    assert (refused.number, json.loads(refused.raw)["amount_minor"]) == (2, -5)


def test_a_cut_file_gives_its_good_lines_and_then_one_clear_error(tmp_path):
    lines = "".join(json.dumps({**PURCHASE, "event_id": str(n)}) + "\n" for n in range(20_000)).encode()
    path = tmp_path / "p.jsonl.gz"
    path.write_bytes(gzip.compress(lines)[:-1000])
    found, source = [], read(path, "Purchase", now_ms=NOW)
    with pytest.raises(InputError, match=r"p\.jsonl\.gz: the data ends too early; it was read up to \d+") as error:
        found.extend(source)
    assert "\n" not in str(error.value)


def test_a_cut_avro_container_is_one_clear_error(tmp_path):
    out = io.BytesIO()
    schema = parse_schema(json.loads(json.dumps(current()["Purchase"])))
    writer(out, schema, [RECORD] * 5_000, sync_interval=1_000)
    path = tmp_path / "p.avro"
    path.write_bytes(out.getvalue()[:-500])
    with pytest.raises(InputError, match="the Avro container is damaged"):
        purchases(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.avro", b"{}", "not an Avro container"),
        ("p.csv", b"", "the file is empty"),
        ("p.csv", b"a,a\n1,2\n", "column `a` stands twice"),
        ("p.csv", b"a,\xff\n1,2\n", "the first line is not UTF-8"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_cannot_be_read(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / name, "Purchase", now_ms=NOW)


def test_a_missing_file_and_a_directory_are_one_line(tmp_path):
    with pytest.raises(InputError, match=r"none\.jsonl: No such file"):
        read(tmp_path / "none.jsonl", "Purchase", now_ms=NOW)
    with pytest.raises(InputError, match="directory"):
        read(tmp_path, "Purchase", now_ms=NOW)
    with pytest.raises(InputError, match="no column `x`"):
        rows(written(tmp_path, "p.csv", "a,b"), ("a", "x"))


def test_an_empty_json_lines_file_has_no_records(tmp_path):
    assert purchases(written(tmp_path, "p.jsonl")) == []


def test_an_instant_before_1970_is_negative_and_left_to_validation():
    assert instant("1969-12-31T23:59:59.999Z") == -1
