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
