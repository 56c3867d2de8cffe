"""A deterministic stream of everything members do, for two brands: on time, late, repeated, and poisoned if asked.

The same seed and count give the same records in the same order. They are published as bytes, batch by batch.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from schemas.codec import encode
from schemas.signing import SIGNATURE_HEADER, sign
from schemas.topics import ACTIVITY

DEFINITIONS = """
brand: acme
plan: pro
timezone: Europe/Paris
currency: EUR
points: {expire_after: 365d, negative_balance: allow}
---
brand: acme
version: 2
effective_at: 2025-10-01T02:00:00Z
plan: pro
timezone: Europe/Paris
currency: EUR
tiers: {nano: 0, micro: 4500, mid: 10000, macro: 100000}
points: {expire_after: 365d, negative_balance: allow}
---
campaign: spring
brand: acme
starts_at: 2025-09-01T00:00:00Z
ends_at: 2025-12-31T00:00:00Z
earn:
  - {rule: like, on: interaction, kind: [like], surface: [member_post], points: 2, tier_multiplier: {nano: 3, micro: 2},
     caps: {per_day: 60, per_post: 30}}
  - {rule: spend, on: purchase, per_minor: 100, points: 1, hold: 14d}
  - {rule: friend, on: referral, points: 500, hold: 14d}
---
campaign: club
brand: acme
join: opt_in
starts_at: 2025-09-01T00:00:00Z
ends_at: 2025-12-31T00:00:00Z
earn:
  - {rule: share, on: interaction, kind: [share], surface: [brand_post], points: 10, caps: {per_day: 50, total: 5000}}
---
campaign: short
brand: acme
starts_at: 2025-10-01T02:00:00Z
ends_at: 2025-10-02T12:00:00Z
earn:
  - {rule: comment, on: interaction, kind: [comment], points: 5, caps: {per_post: 20}}
  - {rule: spend, on: purchase, per_minor: 50, points: 1, hold: 0d}
prizes: {1: 5000, 2: 3000, 3: 1000}
---
brand: blue
plan: pro
timezone: America/New_York
currency: USD
points: {expire_after: none, negative_balance: forbid}
---
campaign: loyal
brand: blue
starts_at: 2025-09-01T00:00:00Z
ends_at: 2025-12-31T00:00:00Z
earn:
  - {rule: spend, on: purchase, per_minor: 100, points: 3, hold: 7d}
  - {rule: bring, on: referral, per_minor: 200, points: 1}
  - {rule: comment, on: interaction, kind: [comment, save], points: 1, tier_multiplier: {mid: 1.5, macro: 2.25}}
"""
"""No campaign has a budget: who gets what of a tight one depends on which partition commits first."""
CAMPAIGNS = {"acme": ["spring", "club", "short"], "blue": ["loyal"]}
CURRENCY = {"acme": "EUR", "blue": "USD"}
START = 1_759_276_800_000
"""2025-10-01T00:00:00Z: always in the past, and in the campaigns."""
EVERY_MS = 1_000
"""Event time between one event and the next that is not late."""
HOUR = 3_600_000
MINUTE = 60_000
PARTITIONS = 4
MEMBERS = 40
"""Of each brand."""
PLATFORMS = ("instagram", "tiktok", "x")
FOLLOWERS = (0, 40, 700, 999, 1_000, 4_200, 15_000, 99_999, 250_000)
BATCH_BYTES = 512 << 10


class Event(NamedTuple):
    """One record as it is published."""

    partition: int
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


@dataclass
class Workload:
    """`count` events of the seed; `poison` of a hundred are such as the intake must refuse."""

    seed: int
    count: int
    secret: bytes
    poison: float = 0.0
    made: Counter[str] = field(default_factory=Counter)
    """What was made so far, by kind."""
    poisoned: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._rnd = random.Random(self.seed)
        self._followers: dict[tuple[str, str, str], int] = {}
        self._likes: list[dict[str, Any]] = []
        self._orders: list[dict[str, Any]] = []
        self._last: list[Event] = []
        self._number = 0

    def events(self) -> Iterator[Event]:
        """All of them, in the order in which they are to be published."""
        while self._number < self.count:
            self._number += 1
            yield self._next()

    def _next(self) -> Event:
        rnd = self._rnd
        if self.poison and rnd.random() * 100 < self.poison:
            return self._poison()
        if self._last and rnd.random() < 0.03:
            self.made["duplicate"] += 1
            return rnd.choice(self._last)
        brand = "acme" if rnd.random() < 0.7 else "blue"
        late = rnd.random() < 0.04
        at = START + EVERY_MS * self._number // MINUTE * MINUTE
        if late:
            at -= rnd.randrange(HOUR, 60 * HOUR)
            self.made["late"] += 1
        base = {
            "event_id": f"e{self._number}",
            "occurred_at": at,
            "brand_id": brand,
            "member_id": f"m{int(MEMBERS * rnd.random() ** 1.5)}",
        }
        draw = rnd.random()
        if draw < 0.86:
            event = self._signed("Interaction", self._interaction(base))
        elif draw < 0.95:
            event = self._signed("Purchase", self._purchase(base))
        elif draw < 0.975:
            event = self._signed("ProfileSnapshot", self._profile(base))
        elif draw < 0.985:
            campaign = rnd.choice(CAMPAIGNS[brand])
            kind = "joined" if rnd.random() < 0.7 else "left"
            event = self._signed("Enrolment", {**base, "campaign_id": campaign, "kind": kind})
        else:
            event = self._signed("Command", {**base, **self._redemption()})
        self._remember(event)
        return event

    def _remember(self, event: Event) -> None:
        if len(self._last) < 2_000:
            self._last.append(event)
        else:
            self._last[self._rnd.randrange(2_000)] = event

    def _campaign(self, brand: str) -> str | None:
        return self._rnd.choice(CAMPAIGNS[brand]) if self._rnd.random() < 0.25 else None

    def _interaction(self, base: dict[str, Any]) -> dict[str, Any]:
        rnd = self._rnd
        brand, member = base["brand_id"], base["member_id"]
        platform = rnd.choice(PLATFORMS)
        value = {
            **base, "surface": "member_post", "kind": "like", "quantity": 1, "platform": platform,
            "post_id": f"{member}-p{rnd.randrange(2)}", "campaign_id": self._campaign(brand),
            "actor_id": f"m{rnd.randrange(MEMBERS)}", "followers": None,
        }  # fmt: skip
        draw = rnd.random()
        if draw < 0.06 and self._likes:
            liked = rnd.choice(self._likes)
            same = ("brand_id", "member_id", "platform", "post_id", "actor_id", "campaign_id", "surface", "kind")
            value.update({name: liked[name] for name in same}, quantity=-1)
        elif draw < 0.12:
            value.update(kind="post", actor_id=member, quantity=1)
        elif draw < 0.26:
            value.update(kind=rnd.choice(("view", "reach")), quantity=rnd.randrange(1, 900), actor_id=None)
        elif draw < 0.38:
            value.update(kind="share", surface=rnd.choice(("brand_post", "member_post")))
        elif draw < 0.46:
            value.update(kind=rnd.choice(("comment", "save", "click", "follow", "mention")))
        elif draw < 0.50:
            value.update(actor_id=member, kind=rnd.choice(("like", "comment", "share")))
        elif draw < 0.54:
            value.update(surface="brand_post", post_id=f"brand-p{rnd.randrange(20)}")
        if value["surface"] == "member_post" and rnd.random() < 0.25:
            value["followers"] = self._followers.get((value["brand_id"], value["member_id"], value["platform"]))
        if value["kind"] == "like" and value["quantity"] == 1 and len(self._likes) < 5_000:
            self._likes.append(value)
        return value

    def _purchase(self, base: dict[str, Any]) -> dict[str, Any]:
        rnd = self._rnd
        brand = base["brand_id"]
        if self._orders and rnd.random() < 0.2:
            order = rnd.choice(self._orders)
            part = rnd.randrange(1, order["amount_minor"] + 2)
            at = max(base["occurred_at"], order["occurred_at"])
            refund = {"event_id": base["event_id"], "occurred_at": at, "kind": "refunded", "amount_minor": part}
            return {**order, **refund, "referrer_id": None}
        value = {
            **base, "order_id": f"o{self._number}", "kind": "completed", "amount_minor": rnd.randrange(0, 30_000),
            "currency": CURRENCY[brand], "campaign_id": self._campaign(brand),
            "referrer_id": f"m{rnd.randrange(MEMBERS)}" if rnd.random() < 0.4 else None,
        }  # fmt: skip
        if len(self._orders) < 3_000:
            self._orders.append(value)
        return value

    def _profile(self, base: dict[str, Any]) -> dict[str, Any]:
        platform, followers = self._rnd.choice(PLATFORMS), self._rnd.choice(FOLLOWERS)
        self._followers[base["brand_id"], base["member_id"], platform] = followers
        return {**base, "platform": platform, "followers": followers}

    def _redemption(self) -> dict[str, Any]:
        points = self._rnd.choice((0, 5, 20, 100, 1_000))
        return {"kind": "redeem", "points": points, "reference": None, "reason": None, "requested_by": "tests"}

    def _signed(self, kind: str, value: dict[str, Any]) -> Event:
        self.made[kind] += 1
        key, data = f"{value['brand_id']}/{value['member_id']}".encode(), encode(kind, value)
        headers = [(SIGNATURE_HEADER, sign(self.secret, key, data))] if kind == "Command" else []
        return Event(self._partition(key), key, data, headers)

    def _partition(self, key: bytes) -> int:
        partition: int = (murmur2(key) & 0x7FFFFFFF) % PARTITIONS
        return partition

    def _poison(self) -> Event:
        """A record that must become a dead letter, and nothing else."""
        rnd = self._rnd
        way = rnd.choice(("garbage", "truncated", "wrong_key", "invalid", "unsigned", "unknown_brand", "currency"))
        self.poisoned[way] += 1
        brand = "nobody" if way == "unknown_brand" else "acme"
        number = rnd.randrange(MEMBERS)
        base = {"event_id": f"x{self._number}", "occurred_at": START, "brand_id": brand, "member_id": f"m{number}"}
        key = f"{brand}/m{number}".encode()
        if way == "garbage":
            return Event(rnd.randrange(PARTITIONS), key, rnd.randbytes(30), [])
        if way == "unsigned":
            data = encode("Command", {**base, **self._redemption()})
        elif way in ("currency", "unknown_brand", "wrong_key"):
            data = encode("Purchase", {**base, "order_id": f"x{self._number}", "kind": "completed", "amount_minor": 1,
                                       "currency": "JPY" if way == "currency" else "EUR", "campaign_id": None,
                                       "referrer_id": None})  # fmt: skip
        else:
            data = encode("Interaction", {**self._interaction(base), **base, "quantity": 2 * 10**9})
        if way == "truncated":
            data = data[:-3]
        if way == "wrong_key":
            key = f"acme/m{number + 1}".encode()
        return Event(self._partition(key), key, data, [])


async def publish(bootstrap: str, events: Iterator[Event], count: int | None = None) -> dict[int, int]:
    """Publish the next `count` events (all without it) in bulk, in order; the end offset by partition that resulted."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, enable_idempotence=True, max_batch_size=BATCH_BYTES, max_request_size=8 << 20
    )
    await producer.start()
    try:
        ends: dict[int, int] = {}
        while some := list(islice(events, 20_000 if count is None else min(count, 20_000))):
            by_partition: dict[int, list[Event]] = {}
            for event in some:
                by_partition.setdefault(event.partition, []).append(event)
            sent = await asyncio.gather(*(_publish_one(producer, p, rows) for p, rows in by_partition.items()))
            ends.update(zip(by_partition, sent, strict=True))
            if count is not None:
                count -= len(some)
                if not count:
                    break
        return ends
    finally:
        await producer.stop()


async def _publish_one(producer: AIOKafkaProducer, partition: int, events: list[Event]) -> int:
    futures, batch = [], producer.create_batch()
    for event in events:
        row = {"key": event.key, "value": event.value, "timestamp": None, "headers": event.headers}
        if batch.append(**row) is None:
            batch.close()
            futures.append((await producer.send_batch(batch, ACTIVITY, partition=partition), batch.record_count()))
            batch = producer.create_batch()
            assert batch.append(**row) is not None
    batch.close()
    futures.append((await producer.send_batch(batch, ACTIVITY, partition=partition), batch.record_count()))
    return max([(await future).offset + count for future, count in futures])
