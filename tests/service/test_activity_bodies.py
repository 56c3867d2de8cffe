"""Bodies of the publishing routes: JSON, JSON Lines and CloudEvents give the same records, and bad ones say why."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from service.api.activity_bodies import EVENT, EVENTS, JSON, MAX_RECORDS, plain, records
from service.feeds.reading import Line, Refused, read
from service.problems import Refusal

NOW = 1_772_445_600_000
"""2026-03-02T10:00:00Z."""
LIKE: dict[str, Any] = {
    "event_id": "l1",
    "occurred_at": NOW - 60_000,
    "brand_id": "acme",
    "member_id": "ann",
    "surface": "member_post",
    "kind": "like",
    "quantity": 3,
    "platform": "x",
}
NDJSON = "application/x-ndjson"
BINARY = {"ce-specversion": "1.0", "ce-id": "l1", "ce-source": "/crm", "ce-type": "groundswell.Interaction"}


def parsed(body: Any, content_type: str = JSON, headers: dict[str, str] | None = None) -> list[Line | Refused]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return records(data, content_type, headers or {}, "Interaction", NOW)


def event(**changes: Any) -> dict[str, Any]:
    """A CloudEvent of `LIKE`; a change to None leaves an attribute out."""
    data = {name: value for name, value in LIKE.items() if name not in ("event_id", "occurred_at")}
    made = {"specversion": "1.0", "id": "l1", "source": "/crm", "type": "groundswell.Interaction",
            "time": "2026-03-02T09:59:00Z", "data": data}  # fmt: skip
    return {name: value for name, value in (made | changes).items() if value is not None}


def the_only(found: list[Line | Refused]) -> Line | Refused:
    (one,) = found
    assert one.number == 0
    return one


def test_every_way_to_send_a_record_gives_the_same_record(tmp_path):
    file = tmp_path / "likes.jsonl"
    file.write_text(json.dumps(LIKE) + "\n")
    (from_file,) = read(file, "Interaction", now_ms=NOW)
    assert isinstance(from_file, Line)
    data = event()["data"]
    ways = [
        parsed(LIKE),
        parsed([LIKE]),
        parsed(LIKE | {"occurred_at": "2026-03-02T10:59:00+01:00"}, "application/json; charset=utf-8"),
        parsed(b"\n" + json.dumps(LIKE).encode() + b"\r\n\n", NDJSON),
        parsed(event(), EVENT),
        parsed([event()], EVENTS),
        parsed(event(data=LIKE, time=None), EVENT),
        parsed(event(data=LIKE, datacontenttype="application/json;charset=utf-8", subject="s", mine=5), EVENT),
        parsed(event(data=LIKE, datacontenttype="Application/JSON ; charset=utf-8"), EVENT),
        parsed(data, JSON, BINARY | {"ce-time": "2026-03-02T09:59:00.000Z", "ce-mine": "5"}),
        parsed(LIKE, JSON, BINARY),
    ]
    for found in ways:
        one = the_only(found)
        assert isinstance(one, Line), one
        assert (one.record_type, one.value) == ("Interaction", from_file.value)


def test_headers_of_a_binary_event_are_percent_encoded():
    headers = BINARY | {"ce-id": quote("clé 1")}
    one = the_only(parsed(event()["data"] | {"occurred_at": NOW}, JSON, headers))
    assert isinstance(one, Line)
    assert one.value["event_id"] == "clé 1"


@pytest.mark.parametrize(
    ("headers", "says"),
    [([*BINARY.items(), ("ce-id", "l2")], "`ce-id` is there twice"),
     ([*({**BINARY, "ce-id": "l%ff"}).items()], "`ce-id` is not UTF-8")],
)  # fmt: skip
def test_headers_of_a_binary_event_that_could_be_another_one_are_refused(headers: list[tuple[str, str]], says: str):
    raw = [(name.encode(), value.encode()) for name, value in headers]
    with pytest.raises(Refusal, match=says):
        records(json.dumps(event()["data"]).encode(), JSON, Headers(raw=raw), "Interaction", NOW)


def test_each_record_of_a_batch_is_judged_by_itself():
    bad_kind = LIKE | {"kind": "lik", "event_id": "l2"}
    found = parsed(
        [LIKE, bad_kind, 5, LIKE | {"occurred_at": "yesterday"}, LIKE | {"occurred_at": NOW + 90_000_000}, {}]
    )
    assert [type(one).__name__ for one in found] == ["Line", *["Refused"] * 5]
    assert [one.number for one in found] == [0, 1, 2, 3, 4, 5]
    said = [(one.code, one.field) for one in found[1:] if isinstance(one, Refused)]
    assert said == [
        ("invalid", "kind"),
        ("invalid", ""),
        ("invalid", "occurred_at"),
        ("in_the_future", "occurred_at"),
        ("invalid", "event_id"),
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [({"kind": "lik"}, "one of like"), ({"quantity": 1.0}, "quantity"), ({"quantity": "3"}, "quantity"),
     ({"quantity": True}, "quantity"), ({"quantity": 10**400}, "quantity"), ({"brand_id": "a/b"}, "brand_id"),
     ({"member_id": " ann"}, "member_id"), ({"member_id": "\ud800"}, "member_id"), ({"platform": None}, "platform"),
     ({"more": 1}, "`more` is no field"), ({"\ud800": 1}, "is no field"), ({"event_id": "e" * 201}, "event_id"),
     ({"occurred_at": -1}, "1970"), ({"occurred_at": "2026-03-02"}, "zone"), ({"occurred_at": []}, "occurred_at"),
     ({"occurred_at": "\ud800"}, "not a time"), ({"kind": [[]] * 9}, "kind"), ({"kind": {}}, "kind")],
)  # fmt: skip
def test_a_record_that_breaks_a_rule_says_which(change: dict[str, Any], says: str):
    one = the_only(parsed(LIKE | change))
    assert isinstance(one, Refused)
    assert says in one.reason
    plain(one.reason).encode()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [(event(specversion="0.3"), "`specversion` is `0.3`"), (event(specversion=None), "`specversion` is missing"),
     (event(id=None), "`id` is missing"), (event(id=""), "`id` is missing"), (event(id=5), "`id` is missing"),
     (event(source=None), "`source` is missing"), (event(type="groundswell.Purchase"), "groundswell.Interaction"),
     (event(type="like"), "groundswell.Interaction"), (event(data=None), "`data` is null"),
     (event(data="x"), "`data` is a text"), (event(data=LIKE, data_base64="eA=="), "`data_base64`"),
     (event(datacontenttype="text/xml"), "datacontenttype"), (event(datacontenttype=5), "datacontenttype"),
     (event(data=LIKE | {"event_id": "l2"}), "`id` is not the `event_id`"),
     (event(data=LIKE | {"occurred_at": NOW}), "`time` is not the `occurred_at`"), (event(time=None), "`occurred_at`"),
     (event(time="now"), "`now` is not a time"), (5, "a number"), ([], "a list"), ("x", "a text"), (None, "null")],
)  # fmt: skip
def test_a_cloud_event_that_is_none_says_why(wrong: Any, says: str):
    one = the_only(parsed([wrong], EVENTS))
    assert isinstance(one, Refused)
    assert says in one.reason
    assert (the_only(parsed(wrong, EVENT))) == one


@pytest.mark.parametrize(
    ("body", "content_type", "code", "says"),
    [(b"", JSON, "invalid_request", "not JSON"), (b"[]", JSON, "invalid_request", "no record"),
     (b"\n\n", NDJSON, "invalid_request", "no record"), (b"{", JSON, "invalid_request", "character 2"),
     (b"\xff", JSON, "invalid_request", "byte 1"), (b"[" * 100_000, JSON, "invalid_request", "nested too deeply"),
     (b'{"a": 1, "a": 2}', JSON, "invalid_request", "`a` stands twice"),
     (b'{"\\ud800": 1, "\\ud800": 2}', JSON, "invalid_request", "stands twice"),
     (b"[NaN]", JSON, "invalid_request", "NaN"), (b"[" + b"9" * 5_000 + b"]", JSON, "invalid_request", "JSON"),
     (b"{}", EVENTS, "invalid_request", "not a list"), (b"{}", "", "unsupported_media_type", "Content-Type"),
     (b"{}", "text/plain", "unsupported_media_type", JSON), (b"x", "application/avro", "unsupported_media_type", JSON),
     (json.dumps([{}] * (MAX_RECORDS + 1)).encode(), JSON, "too_large", "several"),
     (b"{}\n" * (MAX_RECORDS + 1), NDJSON, "too_large", "several")],
)  # fmt: skip
def test_a_body_that_cannot_be_read_is_refused_as_a_whole(body: bytes, content_type: str, code: str, says: str):
    with pytest.raises(Refusal, match=says) as refused:
        parsed(body, content_type)
    assert refused.value.code == code
    refused.value.detail.encode()


def test_as_many_records_as_a_request_may_have_are_taken():
    assert len(parsed([LIKE] * MAX_RECORDS)) == MAX_RECORDS


def test_a_line_that_is_no_json_spoils_no_other():
    found = parsed(b"{}\nnot json\n\xff\n" + json.dumps(LIKE).encode(), NDJSON)
    assert [one.number for one in found] == [0, 1, 2, 3]
    assert [type(one).__name__ for one in found] == ["Refused", "Refused", "Refused", "Line"]


DEEP = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*LIKE, *event(), "x"]) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(DEEP, st.sampled_from([JSON, NDJSON, EVENT, EVENTS, "text/plain"]), st.booleans())
def test_whatever_is_sent_becomes_records_refusals_or_one_refusal(body: Any, content_type: str, binary: bool):
    try:
        found = parsed(body, content_type, BINARY if binary else None)
    except Refusal as refused:
        refused.detail.encode()
        return
    assert [one.number for one in found] == list(range(len(found)))
    assert all(plain(one.reason) and plain(one.field or "x").encode() for one in found if isinstance(one, Refused))
