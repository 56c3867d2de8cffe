"""A partition with its three stores outside of Kafka: a log in memory, real SQLite, and flushed output records.

What the broker would do is a list; everything else (intake, folds, ledger, read-state, encodings) is the real thing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka.partitioner import murmur2

from aggregates.database import open_database
from aggregates.engagement import Counters
from aggregates.ledger import Fenced, Ledger, Source
from aggregates.parsing import parse
from aggregates.programs import content_of
from schemas.codec import decode, encode
from schemas.signing import SIGNATURE_HEADER, sign
from schemas.topics import ACTIVITY, DEAD_LETTERS, TIERS, TRUSTED, WINDOWS, activity_key
from streams import readstate
from streams.commits import Commits
from streams.fold import ActivityFold
from streams.intake import Intake, Limits, remember
from streams.panes import Record as Written
from streams.panes import is_pane, stamp_of
from streams.partition import Applied, Flush, Partition
from streams.recent import Recent, tail_start
from streams.rewards import Rewards
from streams.transport import Chunk

SECRET = b"secret"
NOW = 1_772_500_000_000
BRAND = {
    "brand": "acme",
    "plan": "pro",
    "timezone": "Europe/Paris",
    "currency": "EUR",
    "points": {"expire_after": "none"},
}
CAMPAIGN = {
    "campaign": "spring",
    "brand": "acme",
    "starts_at": 1_770_000_000_000,
    "ends_at": 1_775_000_000_000,
    "earn": [
        {"rule": "like", "on": "interaction", "kind": ["like"], "points": 2, "tier_multiplier": {"nano": 3},
         "caps": {"per_day": 60, "per_post": 30}},
        {"rule": "spend", "on": "purchase", "per_minor": 100, "points": 1, "hold": "14d"},
        {"rule": "friend", "on": "referral", "points": 500},
    ],
}  # fmt: skip


class Pane(NamedTuple):
    """The key of a pane segment. What does not apply to the scope is empty; `platform` is empty for purchases."""

    scope: str
    brand: str
    campaign: str
    tier: str
    member: str
    platform: str
    post: str
    starts_at: int
    segment: int


class Died(Exception):
    """The worker was killed here."""


class Record(NamedTuple):
    """What a consumer record has."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


def record(offset: int, kind: str, value: dict[str, Any], timestamp: int = NOW, **options: Any) -> Record:
    """A record as a publisher sends it; internal ones signed unless `signed=False`."""
    key = options.get("key", activity_key(value["brand_id"], value.get("member_id", "")))
    data = encode(kind, value)
    signed = options.get("signed", kind in TRUSTED)
    headers = ((SIGNATURE_HEADER, sign(SECRET, key, data)),) if signed else ()
    return Record(offset, timestamp, key, data, headers)


def definition(offset: int, document: dict[str, Any]) -> Record:
    """A signed definition."""
    content = content_of(parse(document, "test"))
    subject = "campaign" if "campaign" in document else "brand"
    value = {
        "event_id": f"{subject}-{document.get('version', 1)}",
        "occurred_at": NOW,
        "brand_id": document["brand"],
        "subject": subject,
        "subject_id": document[subject],
        "version": document.get("version", 1),
        "effective_at": 0,
        "content": content,
    }
    return record(offset, "Definition", value, key=document["brand"].encode())


def programs() -> list[Record]:
    """The definitions every test log begins with."""
    return [definition(0, BRAND), definition(1, CAMPAIGN)]


def closing(offset: int, campaign: str = "spring", signed: bool = True) -> Record:
    """The marker of a campaign, the same each time it is sent."""
    value = {"event_id": f"closing-{campaign}", "occurred_at": NOW, "brand_id": "acme", "campaign_id": campaign}
    return record(offset, "CampaignClosing", value, key=b"acme", signed=signed)


def interaction(**fields: Any) -> dict[str, Any]:
    """An interaction, a like of one on a member's post unless said otherwise."""
    return {
        "event_id": "e", "occurred_at": NOW, "brand_id": "acme", "member_id": "m1", "surface": "member_post",
        "kind": "like", "quantity": 1, "platform": "x", "post_id": "p", "campaign_id": None, "actor_id": None,
        "followers": None, **fields,
    }  # fmt: skip


def purchase(**fields: Any) -> dict[str, Any]:
    """A purchase of 10.00 EUR unless said otherwise."""
    return {
        "event_id": "e", "occurred_at": NOW, "brand_id": "acme", "member_id": "m1", "order_id": "o",
        "kind": "completed", "amount_minor": 1000, "currency": "EUR", "campaign_id": None, "referrer_id": None,
        **fields,
    }  # fmt: skip


def partition_of(key: bytes, partitions: int) -> int:
    """Where the default partitioner puts a key."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


@dataclass
class Bench:
    """The durable side, which outlives a worker."""

    directory: Path
    log: list[Record]
    limits: Limits = field(default_factory=Limits)
    grace_ms: int = 3_600_000
    written: dict[str, dict[bytes, bytes]] = field(default_factory=lambda: {WINDOWS: {}, TIERS: {}})
    """Topic → key → value, as compaction leaves it."""
    partition: int = 0
    partitions: int = 1
    appended: dict[str, list[bytes]] = field(default_factory=lambda: {WINDOWS: [], TIERS: []})
    """Topic → every value that was written, in order."""
    letters: dict[int, str] = field(default_factory=dict)
    """Source offset → reason: a repeated dead letter is the same one."""

    def __post_init__(self) -> None:
        self.directory.mkdir(exist_ok=True)
        self.database = f"sqlite:///{self.directory / 'bench.db'}"
        self.engine = open_database(self.database)
        readstate.create_tables(self.engine)
        Ledger(self.database).migrate()
        self.source = Source(ACTIVITY, "epoch", self.partition)
        self.workers = 0
        self.tokens: dict[Partition, str] = {}

    def worker(self, commits: Commits | None = None) -> Partition:
        """A new owner, recovered from what is durable; its ledger that of `commits`, if there are."""
        self.workers += 1
        token = f"w{self.workers}"
        state = readstate.take(self.engine, self.source, token)
        start = state.saved
        recent = Recent()
        rejected = set(state.rejected)
        for one in self.log[tail_start(start) : start]:
            if one.offset not in rejected:
                remember(recent, one)
        intake = Intake(self.partition, self.partitions, state, recent, SECRET, self.limits)
        ledger = Ledger(self.database) if commits is None else commits.ledger
        recorded = NOW + self.workers
        position = ledger.take(self.source, token, start)
        rewards = Rewards(ledger, self.source, position, token, lambda: recorded, commits)
        fold = ActivityFold(self.source, intake, rewards, self.grace_ms)
        fold.recover(self.written, start)
        part = Partition(self.source, start, fold)
        self.tokens[part] = token
        self.writer = token
        return part

    def chunk(self, start: int, end: int) -> Chunk:
        """The records in [start, end) as one fetched chunk."""
        return Chunk(start, 1, self.log[start:end])

    def write(self, part: Partition, flush: Flush, share: float = 1.0) -> None:
        """Write panes and dead letters of a flush, or only a first part of them; a stale owner's are refused."""
        if self.tokens[part] != self.writer:
            raise Fenced("the output has another writer")
        for topic in (WINDOWS, TIERS):
            records = flush.records.get(topic, ())
            for key, value, _ in records[: int(len(records) * share)]:
                assert key is not None
                assert value is not None
                self.appended[topic].append(value)
                kept = self.written[topic].get(key)
                if kept is None or stamp_of(value) >= stamp_of(kept):
                    self.written[topic][key] = value
        letters: Sequence[Written] = flush.records.get(DEAD_LETTERS, ())
        for _, _, headers in letters[: int(len(letters) * share)]:
            said = dict(headers)
            self.letters[int(said["source_offset"])] = said["reason"].decode()

    def flush(self, part: Partition, dies: str = "") -> None:
        """Flush in the stage's own order; `dies` raises Died "in write" (half is written), "in save" or "after"."""
        asyncio.run(self.finish_flush(part, part.begin_flush(), dies))

    async def finish_flush(self, part: Partition, flush: Flush, dies: str = "") -> None:
        """The same for a flush that was begun."""

        async def write(flush: Flush) -> None:
            self.write(part, flush, 0.5 if dies == "in write" else 1.0)
            if dies == "in write":
                raise Died

        async def save(flush: Flush) -> None:
            if dies == "in save":
                raise Died
            ends = {topic: len(values) for topic, values in self.appended.items()}
            if self.letters:  # the writer of Apache Kafka notes where every topic ends that it wrote to
                ends[DEAD_LETTERS] = len(self.letters)
            readstate.save(self.engine, self.source, flush.delta, self.tokens[part], ends)
            if dies == "after":
                raise Died

        await part.finish_flush(flush, write, save)

    def panes(self) -> list[tuple[Pane, Counters]]:
        """Every pane segment that was written."""
        values = [decode(v)[1] for kept in self.written.values() for k, v in kept.items() if is_pane(k)]
        names = ("scope", "brand_id", "campaign_id", "tier", "member_id", "platform", "post_id", "starts_at", "segment")
        return [(Pane(*(value[name] for name in names)), value["counters"]) for value in values]

    def members(self) -> dict[str, dict[str, Any]]:
        """What was written of each member's tier, without the stamp."""
        values = [decode(value)[1] for key, value in self.written[TIERS].items() if not is_pane(key)]
        return {value["member_id"]: value | {"stamp": None} for value in values}

    def finish(self, part: Partition | None = None) -> None:
        """Apply what is left in one chunk and flush."""
        part = part or self.worker()
        if part.next < len(self.log):
            assert part.apply(self.chunk(part.next, len(self.log)), 1) is Applied.DONE
        self.flush(part)

    def result(self) -> dict[str, Any]:
        """Everything a reader can see, without what may differ between two runs of one log."""
        ledger = Ledger(self.database)
        state = readstate.load(self.engine, self.source)
        merged: dict[tuple[Any, ...], Counters] = {}
        for pane, counters in self.panes():
            counted = merged.setdefault(pane, {})
            for name, amount in counters.items():
                counted[name] = counted.get(name, 0) + amount
        return {
            "ledger": [
                (r.originator, str(r.event).replace(f"recorded_at={NOW + n}", "recorded_at"))
                for r in sorted(ledger.notifications(0, 100_000), key=lambda r: (r.originator, r.id))
                for n in [r.event.origin.recorded_at - NOW]
            ],
            "panes": merged,
            "members": self.members(),
            "letters": dict(self.letters),
            "profiles": state.profiles,
            "tiers": state.tiers,
            "memberships": state.memberships,
            "closed": state.closed,
            "counts": dict(state.counts),
            "position": state.saved,
            "event_time": state.greatest_event_time,
        }
