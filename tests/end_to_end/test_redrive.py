"""Purchases of a brand that nobody had defined are paid after all: refused, defined, sent again, once."""

from __future__ import annotations

import json
from pathlib import Path

from running import stack

DEFINITIONS = """
brand: late
timezone: UTC
currency: EUR
---
campaign: spring
brand: late
starts_at: 2026-03-01T00:00:00Z
ends_at: 2026-04-01T00:00:00Z
earn:
  - {rule: spend, on: purchase, per_minor: 100, points: 1}
"""
BUYERS = [f"m{n}" for n in range(20)]


def purchases(directory: Path) -> str:
    file = directory / "purchases.jsonl"
    rows = [
        {
            "event_id": f"b-{member}",
            "occurred_at": "2026-03-02T08:00:00Z",
            "brand_id": "late",
            "member_id": member,
            "order_id": f"o-{member}",
            "kind": "completed",
            "amount_minor": 1_000,
            "currency": "EUR",
        }
        for member in BUYERS
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def test_purchases_before_their_brand_are_paid_when_it_is_defined_and_they_are_redriven(tmp_path):
    (tmp_path / "late.yaml").write_text(DEFINITIONS)
    with stack(tmp_path / "stack") as up:
        up.run("publish", "purchases", purchases(tmp_path))
        up.run("wait")
        count = {"reason": "unknown_brand", "brand": "late", "open": len(BUYERS), "redriven": 0}
        assert up.json("dlt", "list", "--summary")["summary"] == [count]
        nothing = up.json("dlt", "redrive", "--yes", code=1)
        assert (nothing["redriven"], nothing["refused"]) == (0, len(BUYERS))

        forced = up.json("dlt", "redrive", "--limit", "1", "--force", "--yes")
        assert forced["redriven"] == 1
        up.run("wait")
        (sent_in_vain,) = up.json("dlt", "list", "--state", "redriven")["dead_letters"]
        again = up.json("dlt", "show", sent_in_vain["refused_again"])
        place = f"{sent_in_vain['source_partition']}:{sent_in_vain['source_offset']}"
        assert (again["redrives"], again["origin"]) == (1, place), "the worker carries the header on"

        up.run("apply", str(tmp_path / "late.yaml"))
        sent = up.json("dlt", "redrive", "--reason", "unknown_brand", "--brand", "late", "--yes")
        assert (sent["redriven"], sent["refused"]) == (len(BUYERS), 0)
        up.run("wait")
        ranking = up.json("standings", "late", "spring")["entries"]
        assert {one["member_id"]: one["score"] for one in ranking} == dict.fromkeys(BUYERS, 10)
        assert up.json("balance", "late", "m1", "--as-of", "2026-03-31T00:00:00Z")["active"] == 10

        before = up.digests()
        nothing = up.json("dlt", "redrive", "--yes")
        assert (nothing["redriven"], nothing["already_redriven"]) == (0, len(BUYERS) + 1)
        up.run("wait")
        assert up.digests() == before
        assert up.json("dlt", "list", "--state", "open")["dead_letters"] == []
        up.run("replay", "verify")
