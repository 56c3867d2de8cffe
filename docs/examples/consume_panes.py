"""Sums engagement panes in memory and prints one window of a brand: `consume_panes.py BRAND FROM TO`.

FROM and TO are ISO 8601 with a zone, at whole hours; the window is half-open. GROUNDSWELL_KAFKA is the broker's
address. It needs aiokafka, fastavro and the folder schemas/, nothing else.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter, defaultdict
from datetime import datetime
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
from aiokafka import AIOKafkaConsumer
from fastavro.schema import fingerprint, to_parsing_canonical_form

SCHEMAS = Path(__file__).parents[2] / "schemas"
TOPICS = ("engagement.windows.v1", "tiers.aggregates.v1")
PANE = ("scope", "brand_id", "campaign_id", "tier", "member_id", "platform", "post_id", "starts_at")
KEY = (*PANE, "segment", "partition", "epoch")


def schema(path: Path) -> Any:
    """A schema, its times as the milliseconds that are on the wire."""
    fields = json.loads(path.read_text())
    for field in fields["fields"]:
        field["type"] = "long" if field["name"] == "starts_at" else field["type"]
    return fastavro.parse_schema(fields)


def header(path: Path) -> bytes:
    """How the records begin that were written with a schema: C3 01 and its fingerprint, little-endian."""
    canonical = to_parsing_canonical_form(json.loads(path.read_text()))
    return b"\xc3\x01" + bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO"))


PANE_NOW = schema(SCHEMAS / "avsc" / "EngagementPane.avsc")
PANES = {header(path): schema(path) for path in (SCHEMAS / "released" / "EngagementPane").glob("*.avsc")}
OTHERS = {header(path) for path in (SCHEMAS / "released" / "MemberTier").glob("*.avsc")}


class Sums:
    """The newest value of each key, and their sums over segments, source partitions and epochs."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.newest: dict[tuple[Any, ...], tuple[int, dict[str, int]]] = {}
        self.panes: defaultdict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)

    def add(self, value: bytes) -> None:
        """Take the value of a record in; one that is older than what we have changes nothing."""
        begin = value[:10]
        if begin in OTHERS:
            return
        pane: Any = fastavro.schemaless_reader(BytesIO(value[10:]), PANES[begin], PANE_NOW)
        key = tuple(pane[name] for name in KEY)
        stamp, before = self.newest.get(key, (-1, {}))
        if pane["stamp"] > stamp:
            self.newest[key] = (pane["stamp"], pane["counters"])
            self.panes[key[: len(PANE)]].update(pane["counters"])
            self.panes[key[: len(PANE)]].subtract(before)

    def window(self, scope: str, brand: str, start: int, end: int) -> dict[str, Counter[str]]:
        """What was counted from `start` up to `end`, by tier or member; by '' for what has neither."""
        found: dict[str, Counter[str]] = {}
        for (of, its_brand, _, tier, member, *_, starts_at), counters in self.panes.items():
            if (of, its_brand) == (scope, brand) and start <= starts_at < end:
                found.setdefault(tier or member, Counter()).update(counters)
        return found


async def read(sums: Sums) -> None:
    """Read both topics from the beginning to where they end now. A service goes on from there."""
    address = os.environ.get("GROUNDSWELL_KAFKA", "127.0.0.1:9092")
    consumer = AIOKafkaConsumer(
        *TOPICS, bootstrap_servers=address, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    await consumer.start()
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    sums.add(record.value)
    finally:
        await consumer.stop()


def line(name: str, counters: Counter[str]) -> str:
    """Counts and the rate by followers: the sum of engagements ÷ followers, by posts; none without posts."""
    engagements = sum(counters[f"member_post.{kind}"] for kind in ("like", "comment", "share", "save", "click"))
    posts = counters["member_post.post"]
    rate = f"{float(Fraction(counters['rate_ppb'], 10**9 * posts)):.9f}" if posts > 0 else "none"
    return f"{name:10} posts {posts}  engagements {engagements}  rate by followers {rate}"


def main(brand: str, first: str, last: str) -> None:
    """Print the window of a brand, of its tiers, and how many members were active."""
    start, end = (int(datetime.fromisoformat(time).timestamp()) * 1000 for time in (first, last))
    sums = Sums()
    asyncio.run(read(sums))
    print(line(brand, sums.window("brand", brand, start, end).get("", Counter())))
    for tier, counters in sorted(sums.window("brand_tier", brand, start, end).items()):
        print(line(tier, counters))
    print("active members", len(sums.window("member", brand, start, end)))


if __name__ == "__main__":
    main(*sys.argv[1:])
