"""An independent model of engagement: reads the log back from Kafka and counts every pane by hand, with dictionaries.

Nothing of the worker is used but the codec that reads bytes. What the workload's poison must become is said here too.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import yaml
from aiokafka import AIOKafkaConsumer, TopicPartition
from workload import CURRENCY, DEFINITIONS, PARTITIONS

from schemas.codec import DecodeError, decode
from schemas.topics import ACTIVITY, DEAD_LETTERS, TIERS, WINDOWS

ENGAGEMENT = ("like", "comment", "share", "save", "click")
BROADCAST = ("Definition", "CampaignClosing")
"""They stand on every partition, are of no member, and make no pane. A marker parts segments, which are summed here."""
TIER_CHANGES = 64
"""So many of a member are remembered, the latest in event time; a referral counts under the tier of that time."""
PaneKey = tuple[str, str, str, str, str, str, str, int]
"""Scope, brand, campaign, tier, member, platform, post and start."""


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp()) * 1000


CAMPAIGNS = {
    (one["brand"], one["campaign"]): (
        _milliseconds(one["starts_at"]),
        _milliseconds(one["ends_at"]),
        one.get("join") == "opt_in",
    )
    for one in yaml.safe_load_all(DEFINITIONS)
    if "campaign" in one
}
"""Start, end, and whether only those who joined take part."""


async def read_all(bootstrap: str, topic: str) -> dict[int, list[Any]]:
    """Every committed record of a topic by partition, in offset order."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=8 << 20,
        fetch_max_bytes=64 << 20,
    )
    await consumer.start()
    try:
        tps = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        await consumer.seek_to_beginning(*tps)
        found: dict[int, list[Any]] = {tp.partition: [] for tp in tps}
        while any([await consumer.position(tp) < ends[tp] for tp in tps]):
            for tp, records in (await consumer.getmany(timeout_ms=100, max_records=50_000)).items():
                found[tp.partition] += records
        return found
    finally:
        await consumer.stop()


MICRO = {"acme": ((0, 1_000), (1_759_284_000_000, 4_500)), "blue": ((0, 1_000),)}
"""Where a brand's tier micro begins, and from when on (version 2 of acme: 2025-10-01T02:00:00Z)."""
ALWAYS = 1 << 60


def tier_of(brand: str, most: int | None, at: int = ALWAYS) -> str:
    """By the bands in force at an instant; `most`: the followers on the platform with the most, None without one."""
    if most is None:
        return "unknown"
    micro = [bound for since, bound in MICRO[brand] if since <= at][-1]
    return "nano" if most < micro else "micro" if most < 10_000 else "mid" if most < 100_000 else "macro"


def refusal(kind: str, value: dict[str, Any], record: Any) -> str:
    """Why a record that can be decoded is a dead letter, in the words of the header; empty for a good one."""
    if kind in ("Command", "ReferralDue", "Definition", "CampaignClosing") and not record.headers:
        return "unsigned"
    if abs(value.get("quantity", 0)) > 10**9:
        return "invalid"
    if kind in BROADCAST:
        return ""
    if record.key != f"{value['brand_id']}/{value['member_id']}".encode():
        return "wrong_key"
    if value["brand_id"] not in CURRENCY:
        return "unknown_brand"
    if value.get("currency", CURRENCY[value["brand_id"]]) != CURRENCY[value["brand_id"]]:
        return "wrong_currency"
    return ""


@dataclass
class Model:
    """What one log must come to."""

    panes: dict[PaneKey, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    profiles: dict[tuple[str, str], dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    letters: dict[tuple[int, int], str] = field(default_factory=dict)
    """Partition and offset of each record that must be refused, and why; `undecodable` for any unreadable one."""
    duplicates: int = 0
    referrals: Counter[str] = field(default_factory=Counter)
    """Event ids of the `ReferralDue` records."""
    _most: dict[tuple[str, str], list[tuple[int, int, int]]] = field(default_factory=lambda: defaultdict(list))
    _joined: dict[tuple[str, str, str], list[tuple[int, int, bool]]] = field(default_factory=lambda: defaultdict(list))
    _seen: set[tuple[str | None, ...]] = field(default_factory=set)

    def fold(self, partition: int, records: Iterable[Any]) -> None:
        """Take one partition's records in order; each partition has its own members."""
        for record in records:
            try:
                kind, value = decode(record.value)
            except DecodeError:
                self.letters[partition, record.offset] = "undecodable"
                continue
            ident = (kind, value["brand_id"], value.get("member_id"), value.get("event_id"))
            why = refusal(kind, value, record)
            if why == "wrong_currency" and ident in self._seen:
                self.duplicates += 1
                continue
            if why:
                self.letters[partition, record.offset] = why
                continue
            if kind in BROADCAST:
                continue
            if kind == "ReferralDue":
                self.referrals[value["event_id"]] += 1
            if ident in self._seen:
                self.duplicates += 1
                continue
            self._seen.add(ident)
            self._take(kind, value, record.offset)

    def _take(self, kind: str, value: dict[str, Any], offset: int) -> None:
        brand, member, at = value["brand_id"], value["member_id"], value["occurred_at"]
        if kind == "ProfileSnapshot":
            self._follow(brand, member, value["platform"], value["followers"], at)
        elif kind == "Enrolment":
            changes = self._joined[brand, member, value["campaign_id"]]
            insort(changes, (at, offset, value["kind"] == "joined"))
        elif kind == "Interaction":
            if value["surface"] == "member_post" and value["followers"] is not None:
                self._follow(brand, member, value["platform"], value["followers"], at)
            self._count(value, self._interaction(value), tier_of(brand, self._most_now(brand, member), at))
        elif kind == "Purchase":
            name, money = ("purchases", "revenue") if value["kind"] == "completed" else ("refunds", "refunds")
            adds = {name: 1, f"{money}_minor": value["amount_minor"]}
            self._count(value, adds, tier_of(brand, self._most_now(brand, member), at))
        elif kind == "ReferralDue":
            amount = value["amount_minor"] if value["kind"] == "completed" else -value["amount_minor"]
            crossed = [most for since, _, most in self._most.get((brand, member), ()) if since <= at]
            self._count(value, {"referred_revenue_minor": amount}, tier_of(brand, crossed[-1] if crossed else None, at))

    def _most_now(self, brand: str, member: str) -> int | None:
        return max(self.profiles.get((brand, member), {}).values(), default=None)

    def _follow(self, brand: str, member: str, platform: str, followers: int, at: int) -> None:
        platforms = self.profiles[brand, member]
        if platforms.get(platform) == followers:
            return
        platforms[platform] = followers
        changes, most = self._most[brand, member], max(platforms.values())
        latest = max(changes, key=lambda change: change[1], default=(0, -1, None))
        if any(tier_of(brand, latest[2], since) != tier_of(brand, most, since) for since, _ in MICRO[brand]):
            insort(changes, (at, latest[1] + 1, most))
            if len(changes) > TIER_CHANGES:
                idle = [
                    n for n in range(1, TIER_CHANGES) if changes[n][1] <= latest[1] and self._is_idle(brand, n, changes)
                ]
                if idle:
                    del changes[idle[0]]
                else:
                    changes.remove(min(change for change in changes if change[1] <= latest[1]))

    def _is_idle(self, brand: str, n: int, changes: list[tuple[int, int, int]]) -> bool:
        """Whether the member was in the same tier before, all the time until the next change."""
        (_, _, before), (start, _, most), (end, _, _) = changes[n - 1 : n + 2]
        instants = [start, *(since for since, _ in MICRO[brand] if start < since < end)]
        return all(tier_of(brand, before, at) == tier_of(brand, most, at) for at in instants)

    def _interaction(self, value: dict[str, Any]) -> dict[str, int]:
        own = value["actor_id"] == value["member_id"] and value["kind"] != "post"
        adds = {("self." if own else value["surface"] + ".") + value["kind"]: value["quantity"]}
        if not own and value["surface"] == "member_post" and value["kind"] in ENGAGEMENT:
            latest = self.profiles.get((value["brand_id"], value["member_id"]), {}).get(value["platform"])
            followers = latest if value["followers"] is None else value["followers"]
            if followers:
                adds["rate_ppb"] = value["quantity"] * (10**9 // followers)
            else:
                adds["unrated"] = value["quantity"]
        return adds

    def _takes_part(self, brand: str, campaign: str, member: str, at: int) -> bool:
        changes = [joined for since, _, joined in self._joined.get((brand, member, campaign), ()) if since <= at]
        return not CAMPAIGNS[brand, campaign][2] or (bool(changes) and changes[-1])

    def _count(self, value: dict[str, Any], adds: dict[str, int], tier: str) -> None:
        brand, member, at = value["brand_id"], value["member_id"], value["occurred_at"]
        named, platform = value["campaign_id"], value.get("platform") or ""
        counted = value.get("ordered_at") or at
        live = [c for (b, c), (start, end, _) in CAMPAIGNS.items() if b == brand and start <= counted < end]
        if named is not None and named not in live:
            return
        minutes, hour = at // 300_000 * 300_000, at // 3_600_000 * 3_600_000
        keys: list[PaneKey] = [
            ("brand", brand, "", "", "", platform, "", minutes),
            ("brand_tier", brand, "", tier, "", platform, "", minutes),
            ("member", brand, "", "", member, platform, "", hour),
        ]
        if value.get("surface") == "member_post" and value["post_id"]:
            keys.append(("post", brand, "", "", member, platform, value["post_id"], hour))
        taking_part = [c for c in (live if named is None else [named]) if self._takes_part(brand, c, member, counted)]
        if value.get("counted_for") is not None:  # the order was judged by what was known then
            taking_part = value["counted_for"].split("/") if value["counted_for"] else []
        for campaign in taking_part:
            keys += [
                ("campaign", brand, campaign, "", "", platform, "", minutes),
                ("campaign_tier", brand, campaign, tier, "", platform, "", minutes),
                ("campaign_member", brand, campaign, "", member, platform, "", hour),
            ]
        for key in keys:
            counters = self.panes[key]
            for name, amount in adds.items():
                counters[name] += amount


@dataclass
class Written:
    """What the output topics say."""

    panes: dict[PaneKey, Counter[str]]
    members: dict[tuple[str, str], tuple[str, dict[str, int]]]
    """Tier, and followers by platform."""
    letters: dict[tuple[int, int], str]
    repeated_letters: int
    gone_back: Counter[str]
    """Records of `panes` and `members` whose key had a greater stamp before."""
    records: int


async def written(bootstrap: str) -> Written:
    """The last value of each key of the pane topics, summed over partitions and segments; and the dead letters."""
    panes: dict[PaneKey, Counter[str]] = defaultdict(Counter)
    members: dict[tuple[str, str], tuple[str, dict[str, int]]] = {}
    gone_back, count = Counter[str](), 0
    for topic in (WINDOWS, TIERS):
        for records in (await read_all(bootstrap, topic)).values():
            last: dict[bytes, dict[str, Any]] = {}
            for record in records:
                _, value = decode(record.value)
                before = last.get(record.key)
                if before is not None and before["stamp"] > value["stamp"]:
                    gone_back["panes" if "counters" in value else "members"] += 1
                last[record.key] = value
                count += 1
            for value in last.values():
                if "counters" in value:
                    panes[_place(value)].update(value["counters"])
                else:
                    members[value["brand_id"], value["member_id"]] = (value["tier"], dict(value["platforms"]))
    letters: dict[tuple[int, int], str] = {}
    repeated = 0
    for records in (await read_all(bootstrap, DEAD_LETTERS)).values():
        for record in records:
            said = {name: body.decode() for name, body in record.headers if name.startswith(("source", "reason"))}
            place = (int(said["source_partition"]), int(said["source_offset"]))
            repeated += place in letters
            letters[place] = said["reason"]
    return Written(panes, members, letters, repeated, gone_back, count)


def _place(value: dict[str, Any]) -> PaneKey:
    names = ("scope", "brand_id", "campaign_id", "tier", "member_id", "platform", "post_id", "starts_at")
    key: Any = tuple(value[name] for name in names)
    return key


async def modelled(bootstrap: str) -> tuple[Model, dict[int, list[Any]]]:
    """The model of the log that Kafka holds, and that log."""
    log = await read_all(bootstrap, ACTIVITY)
    model = Model()
    for partition, records in log.items():
        model.fold(partition, records)
    return model, log
