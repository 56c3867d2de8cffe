"""CloudEvents headers."""

from __future__ import annotations

from schemas.cloudevents import headers


def test_the_headers_name_the_event_its_type_source_and_time():
    value = {"event_id": "e-1", "occurred_at": 1772359200007, "brand_id": "acme", "member_id": "m-1"}
    assert headers("Interaction", value) == [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"e-1"),
        ("ce_type", b"groundswell.Interaction"),
        ("ce_source", b"/groundswell/acme"),
        ("ce_time", b"2026-03-01T10:00:00.007Z"),
    ]


def test_the_source_is_a_uri_reference_whatever_the_brands_id():
    value = {"event_id": "e-1", "occurred_at": 0, "brand_id": "Acme & Cö?", "member_id": "m-1"}
    assert dict(headers("Interaction", value))["ce_source"] == b"/groundswell/Acme%20%26%20C%C3%B6%3F"
